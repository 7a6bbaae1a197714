"""Noise that a decoder adds: the same for the same seed, whatever the pieces it comes in."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.state import State

_BLOCK = 1024


class Noise(nn.Module):
    """x + n * W x with normal noise n, one sequence for all features (arXiv:2410.14411).

    The noise is that of the `noise_seed` of the stream; without a stream or a seed there is none.
    `stream` tells the parts of one decoder apart. Rows of a batch get the same noise.
    """

    def __init__(self, width: int, stream: int) -> None:
        super().__init__()
        self.stream = stream
        self.weight = nn.Parameter(torch.zeros(width, width, 1))

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, C, T] -> [B, C, T]."""
        if state is None or state.noise_seed is None or not x.shape[-1]:
            return x
        begin, length = state.get(self, lambda: 0), x.shape[-1]
        state.put(self, begin + length)
        noise = normal_noise(state.noise_seed, self.stream, begin, length)
        return x + noise.to(x) * F.conv1d(x, self.weight)


def normal_noise(seed: int, stream: int, begin: int, length: int) -> Tensor:
    """[length] float32: numbers `begin` and following of an endless normal sequence."""
    end = begin + length
    blocks = [_block(seed, stream, block) for block in range(begin // _BLOCK, -(-end // _BLOCK))]
    first = begin // _BLOCK * _BLOCK
    return torch.cat([torch.zeros(0), *blocks])[begin - first : end - first]


def _block(seed: int, stream: int, block: int) -> Tensor:
    """The numbers of one block, which depend on nothing but what is given here."""
    digest = hashlib.blake2b(f"{seed} {stream} {block}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
    return torch.randn(_BLOCK, generator=generator)
