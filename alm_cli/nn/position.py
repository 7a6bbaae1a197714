"""How attention learns where a vector stands in its sequence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

Style = Literal["halves", "pairs"]

# Positions whose sines are computed at a time: a stream asks for one or two a call.
_TABLE = 1024


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """How Llama 3.1 sees farther than it was first trained to, by slower turns (arXiv:2407.21783).

    Turns of more than `length / low` positions are `factor` times slower, those of fewer than
    `length / high` stay, and between them it fades.
    """

    factor: float
    low: float
    high: float
    length: float

    def __call__(self, frequencies: Tensor) -> Tensor:
        """frequencies [N] in radians a position -> [N]."""
        turns = self.length / (2 * math.pi / frequencies)
        kept = ((turns - self.low) / (self.high - self.low)).clamp(0, 1)
        return (1 - kept) * frequencies / self.factor + kept * frequencies


class Rotary(nn.Module):
    """Rotary position: queries and keys are turned by angles that grow with their position.

    arXiv:2104.09864. A head's features are turned two by two: neighbours (`pairs`), or each of the
    first half with one of the second (`halves`). Which of them a checkpoint means is not visible in
    its names or shapes.
    """

    def __init__(
        self, style: Style, base: float = 10_000.0, stretch: Stretch | None = None
    ) -> None:
        super().__init__()
        self.style: Style = style
        self.base, self.stretch = base, stretch

    def forward(self, x: Tensor, begin: int | tuple[int, ...] = 0) -> Tensor:
        """x [B, H, S, D] at positions from `begin` on, or from one a row, -> [B, H, S, D]."""
        length, dimension = x.shape[-2:]
        manner = self.style, self.base, self.stretch
        if isinstance(begin, int):
            cosine, sine = _turns(manner, begin, length, dimension, x.dtype, x.device)
        else:
            cosine, sine = _turns_of_rows(manner, begin, length, dimension, x.dtype, x.device)
        shape, axis = ((-1, 2), -1) if self.style == "pairs" else ((2, -1), -2)
        swapped = x.reshape(*x.shape[:-1], *shape).flip(axis).view(x.shape)
        return torch.addcmul(x * cosine, swapped, sine)


_Manner = tuple[Style, float, "Stretch | None"]


# All layers of a stack ask for the same positions in turn.
@lru_cache(maxsize=8)
def _turns_of_rows(
    manner: _Manner,
    begins: tuple[int, ...],
    length: int,
    dimension: int,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Cosines and sines [B, 1, S, D] of the positions from `begins` on, one for each row."""
    rows = [_turns(manner, begin, length, dimension, dtype, device) for begin in begins]
    cosines, sines = zip(*rows, strict=True)
    return torch.stack(cosines)[:, None], torch.stack(sines)[:, None]


@lru_cache(maxsize=8)
def _turns(
    manner: _Manner,
    begin: int,
    length: int,
    dimension: int,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Cosines and sines [S, D] of the positions from `begin` on."""
    first = begin // _TABLE * _TABLE
    count = -(-(begin + length - first) // _TABLE) * _TABLE
    rows = slice(begin - first, begin - first + length)
    cosine, sine = _table(manner, first, count, dimension, dtype, device)
    return cosine[rows], sine[rows]


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _table(
    manner: _Manner,
    first: int,
    count: int,
    dimension: int,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Cosines and sines [S, D]; the first of two features takes the sine of the second away."""
    # In float32 throughout, as models were trained: far positions feel the rounding of angles.
    style, base, stretch = manner
    frequencies = 1 / base ** (torch.arange(0, dimension, 2, device=device).float() / dimension)
    if stretch is not None:
        frequencies = stretch(frequencies)
    angles = torch.arange(first, first + count, device=device).float()[:, None] * frequencies
    cosine, sine = angles.cos(), angles.sin()
    axis = 2 if style == "pairs" else 1
    cosines, sines = torch.stack((cosine, cosine), axis), torch.stack((-sine, sine), axis)
    return cosines.flatten(1).to(dtype), sines.flatten(1).to(dtype)
