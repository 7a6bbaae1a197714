"""Where a vector stands, told by a convolution over its wide neighbourhood (arXiv:2006.11477)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvPosition(nn.Module):
    """A centred convolution over a sequence, as products of spectra, and its activation.

    With a kernel of 128 that takes an eighth of the time of the sum itself, and rounds less.
    `spectrum` is that of the weight (`weight_spectrum`); an even kernel looks back one more than
    ahead. `norm` is what comes before, a part for [B, D, S].
    """

    spectrum: Tensor

    def __init__(
        self, dimension: int, kernel: int, groups: int, norm: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.kernel, self.groups = kernel, groups
        self.norm = norm or nn.Identity()
        group = dimension // groups
        spectrum = torch.zeros(spectrum_size(kernel) // 2 + 1, groups, group, group, 2)
        self.register_buffer("spectrum", spectrum)
        self.bias = nn.Parameter(torch.zeros(dimension))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, S, D] -> [B, S, D]."""
        length, kernel, size = x.shape[1], self.kernel, spectrum_size(self.kernel)
        step = size - kernel + 1
        count = -(-length // step)
        y = self.norm(x.mT).float()
        y = F.pad(y, (kernel // 2, count * step + kernel - 1 - kernel // 2 - length))
        # Overlapping pieces, each of which makes `step` sums: [B, D, N, bins].
        pieces = torch.fft.rfft(y.unfold(2, size, step))
        sums = self._mixed(pieces)
        y = torch.fft.irfft(sums, size)[..., kernel - 1 :].flatten(2)[..., :length]
        return F.gelu(y.mT + self.bias)

    def _mixed(self, pieces: Tensor) -> Tensor:
        """Spectra [B, D, N, bins] -> [B, D, N, bins], features mixed within their groups."""
        batch, wide, count, bins = pieces.shape
        grouped = pieces.view(batch, self.groups, -1, count, bins).permute(4, 1, 2, 0, 3)
        weight = torch.view_as_complex(self.spectrum).flatten(0, 1)
        mixed = torch.bmm(weight, grouped.reshape(len(weight), -1, batch * count))
        mixed = mixed.view(bins, self.groups, -1, batch, count).permute(3, 1, 2, 4, 0)
        return mixed.reshape(batch, wide, count, bins)


def spectrum_size(kernel: int) -> int:
    """The size of a Fourier transform for pieces about as long as the kernel."""
    return 2 << (kernel - 1).bit_length()


def weight_spectrum(weight: Tensor) -> Tensor:
    """weight [D, C, k] of a convolution in D / C groups -> [bins, D / C, C, C, 2] float32."""
    wide, group, kernel = weight.shape
    # A convolution, as networks have it, is a product with the reversed kernel's spectrum.
    reverse = weight.float().view(-1, group, group, kernel).flip(-1)
    spectrum = torch.fft.rfft(reverse, spectrum_size(kernel)).permute(3, 0, 1, 2)
    return torch.view_as_real(spectrum.contiguous())
