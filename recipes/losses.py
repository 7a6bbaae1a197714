"""The spectral loss for training codecs on log-magnitudes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from alm_cli.nn.spectral import LOG_SCALE


def mel_filters(bands: int, size: int, rate: int) -> Tensor:
    """Triangular HTK-scale filters [size // 2 + 1, bands] with unit peak."""
    top = 2595 * math.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, bands + 2) / 2595) - 1)
    hertz = torch.linspace(0, rate / 2, size // 2 + 1)[:, None]
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0)


class SpectralLoss(nn.Module):
    """Distances of two spectrograms in scaled log-energies [B, F, bins]."""

    filters: Tensor
    weights: Tensor

    def __init__(self, size: int, rate: int, bands: int = 80) -> None:
        super().__init__()
        self.register_buffer("filters", mel_filters(bands, size, rate))
        hertz = torch.linspace(0, rate / 2, size // 2 + 1)
        weights = 1 / (1 + hertz / 1500)  # roughly the bins of an auditory band
        self.register_buffer("weights", weights / weights.mean())

    def forward(self, made: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """Means over bins of logarithms and of |X|^0.3, and over mel bands of logarithms."""
        made = made.clamp(max=3.0)
        logs = ((made - wanted).abs() * self.weights).mean()
        compressed = ((made.exp() - wanted.exp()).abs() * self.weights).mean()
        mel = (self._mel(made) - self._mel(wanted)).abs().mean()
        return {"logs": 2 * logs, "compressed": 3 * compressed, "mel": 4 * mel}

    def _mel(self, logs: Tensor) -> Tensor:
        magnitudes = (logs / (2 * LOG_SCALE)).exp()
        return torch.log10((magnitudes @ self.filters).clamp(min=1e-3))
