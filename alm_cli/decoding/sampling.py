"""How a token is drawn: temperature, the k likeliest, the nucleus, and a generator for each row.

The order of the filters, and how a token is drawn from what they leave, are those of
`transformers`: a single row with the same seed draws the same tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from alm_cli.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Temperature 0 takes the likeliest; `top_k` 0 and `top_p` 1 keep every token.

    UsageError: a number out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < inf:
            raise UsageError(f"temperature is {self.temperature}, not a number from 0")
        if self.top_k < 0:
            raise UsageError(f"top_k is {self.top_k}, not a number from 0")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p is {self.top_p}, not above 0 and at most 1")


def filtered(logits: Tensor, how: Sampling) -> Tensor:
    """logits [..., V] -> [..., V], minus infinity where a token may not be drawn.

    The nucleus (arXiv:1904.09751) holds the fewest likeliest tokens of probability `top_p`.
    """
    if how.temperature not in (0.0, 1.0):
        logits = logits / how.temperature
    if 0 < how.top_k < logits.shape[-1]:
        least = logits.topk(how.top_k).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if how.top_p < 1:
        ascending, order = logits.sort(descending=False)
        unlikely = ascending.softmax(-1).cumsum(-1) <= 1 - how.top_p
        unlikely[..., -1] = False  # the likeliest stays
        logits = logits.masked_fill(unlikely.scatter(-1, order, unlikely), -torch.inf)
    return logits


def sample(logits: Tensor, how: Sampling, noise: Sequence[torch.Generator]) -> Tensor:
    """logits [B, ..., V] -> tokens [B, ...]; row b draws from `noise[b]`, its neighbours do not."""
    if how.temperature == 0:
        return logits.argmax(-1)
    chances = filtered(logits, how).softmax(-1)
    rows = zip(chances.flatten(1, -2) if chances.ndim > 2 else chances[:, None], noise, strict=True)
    drawn = [torch.multinomial(row, 1, generator=generator) for row, generator in rows]
    return torch.stack(drawn).view(logits.shape[:-1])


def noise_of(seed: int, *place: object, device: torch.device | None = None) -> torch.Generator:
    """The generator of one place: what it gives follows from seed and place alone."""
    said = " ".join(map(str, (seed, *place))).encode()
    key = int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big") >> 1
    return torch.Generator(device or torch.device("cpu")).manual_seed(key)
