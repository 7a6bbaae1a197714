"""Activations that bend a signal at twice its rate, so that no overtone folds back.

arXiv:2206.04658 (BigVGAN), after arXiv:2106.12423.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from math import pi

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.conv import Conv
from alm_cli.nn.snake import DILATIONS
from alm_cli.nn.stack import Chain, ResidualUnit
from alm_cli.nn.state import State

_TAPS = 12
# Of the signal at its own rate, an output depends on so many samples on either side of it.
_REACH = 5
_TINY = 1e-9


class SnakeBeta(nn.Module):
    """x + sin(a x)^2 / b, with the logarithms of a and b for every feature (arXiv:2006.08195)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(width))
        self.beta = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, T] -> [B, C, T]."""
        slope = 1 / (self.beta.exp()[:, None] + _TINY)
        ripple = x * self.alpha.exp()[:, None]
        # In place where it may be: each new piece of memory costs more than the arithmetic in it.
        ripple = ripple.sin().square() if ripple.requires_grad else ripple.sin_().square_()
        return torch.addcmul(x, ripple, slope)


class AliasFree(nn.Module):
    """Twice the rate, `activation`, half the rate; the ends of the signal are repeated.

    A stream owes its last few samples until its last call.
    """

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, C, T] -> [B, C, T]; with `state`, the next T samples of a stream."""
        if state is None:
            return self._bent(x)
        past = state.get(self, lambda: _Past(x[..., :0]))
        x = torch.cat((past.samples, x), -1)
        known = x.shape[-1] if state.last else max(0, x.shape[-1] - _REACH)
        kept = max(0, known - _REACH)
        state.put(self, _Past(x[..., kept:].clone(), known - kept))
        if known == past.spare:
            return x[..., :0]
        return self._bent(x)[..., past.spare : known]

    def _bent(self, x: Tensor) -> Tensor:
        """x [B, C, T], T > 0 -> [B, C, T]."""
        width, cut = x.shape[1], _TAPS + _REACH - 2
        taps = _low_pass(x.dtype, x.device).expand(width, 1, -1)
        x = F.pad(x, (_REACH, _REACH), "replicate")
        x = 2 * F.conv_transpose1d(x, taps, stride=2, groups=width)[..., cut:-cut]
        x = F.pad(self.activation(x), (_REACH, _REACH + 1), "replicate")
        return F.conv1d(x, taps, stride=2, groups=width)


def bent_down(width: int, stride: int) -> Chain:
    """DAC's stage with alias-free activations: [B, C, T] -> [B, 2 C, T / stride]."""
    conv = partial(Conv, causal=False)

    def bend() -> nn.Module:
        return AliasFree(SnakeBeta(width))

    units = (
        ResidualUnit(
            bend(), conv(width, width, 7, dilation=dilation), bend(), conv(width, width, 1)
        )
        for dilation in DILATIONS
    )
    return Chain(*units, bend(), conv(width, 2 * width, 2 * stride, stride=stride))


@dataclass(frozen=True)
class _Past:
    """The samples that outputs still depend on; the outputs of the first `spare` have been made."""

    samples: Tensor
    spare: int = 0


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _low_pass(dtype: torch.dtype, device: torch.device) -> Tensor:
    """[1, 1, _TAPS]: a sinc in a Kaiser window that passes the lower half of the frequencies."""
    cutoff, transition = 0.25, 1.2
    attenuation = 2.285 * (_TAPS // 2 - 1) * pi * transition + 7.95
    shape = 0.1102 * (attenuation - 8.7)  # Kaiser's rule for more than 50 dB
    window = torch.kaiser_window(_TAPS, periodic=False, beta=shape, dtype=torch.float32)
    places = torch.arange(-_TAPS // 2, _TAPS // 2) + 0.5
    taps = 2 * cutoff * window * torch.sinc(2 * cutoff * places)
    return (taps / taps.sum()).view(1, 1, -1).to(device, dtype)
