"""A small network that makes a continuous vector of noise, given a condition (arXiv:2509.06926).

Its blocks are those of "Autoregressive image generation without vector quantization"
(arXiv:2406.11838): the condition shifts, scales and gates what each of them sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.linear import Linear, Make

# How noise becomes a vector: by steps along a flow that know where they begin and end (Lagrangian
# self-distillation, arXiv:2505.18825), as what the network makes of it, or with that added to it.
FlowKind = Literal["lsd", "drifting", "pointwise"]


@dataclass(frozen=True, kw_only=True)
class FlowSpec:
    """The sizes of a flow head."""

    kind: FlowKind
    latent: int
    condition: int
    width: int
    depth: int
    frequencies: int = 128  # of each time, as cosines and sines


class FlowHead(nn.Module):
    """condition [B, C], noise [B, L] -> latent [B, L]."""

    def __init__(self, spec: FlowSpec) -> None:
        super().__init__()
        self.kind: FlowKind = spec.kind
        count = 2 if spec.kind == "lsd" else 0
        self.clocks = nn.ModuleList(TimeEmbedding(spec) for _ in range(count))
        self.condition = Linear(spec.condition, spec.width)
        self.input = Linear(spec.latent, spec.width)
        self.blocks = nn.ModuleList(FlowBlock(spec.width) for _ in range(spec.depth))
        self.modulation = Linear(spec.width, 2 * spec.width)
        self.output = Linear(spec.width, spec.latent)
        self.together: nn.Module | None = None

    def pack(self, make: Make) -> None:
        """Let one part that `make` makes take the place of all that modulates: it sees the same."""
        parts = [cast(Linear, part.modulation) for part in (*self.blocks, self)]
        weights = torch.cat([part.weight.data for part in parts])
        self.together = make(weights, torch.cat([cast(Tensor, part.bias) for part in parts]))
        for part in (*self.blocks, self):
            del part.modulation

    def times(self, steps: int) -> list[Tensor]:
        """What the network is told of each of `steps` steps [1, W]: the same for all vectors."""
        if self.kind != "lsd":
            return []
        scale = cast(TimeEmbedding, self.clocks[0]).scale
        edges = scale.new_tensor([[step / steps] for step in range(steps + 1)])
        begins, ends = (clock(edges) for clock in self.clocks)
        return list(((begins[:-1] + ends[1:]) / 2).split(1))

    def forward(self, condition: Tensor, noise: Tensor, times: Sequence[Tensor]) -> Tensor:
        """condition [B, C], noise [B, L] -> latent [B, L]; `times` as `times` told them."""
        y = self.condition(condition)
        if self.kind == "drifting":
            return self._made(noise, y)
        if self.kind == "pointwise":
            return noise + self._made(noise, y)
        for time in times:
            noise = noise + self._made(noise, y + time) / len(times)
        return noise

    def _made(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [B, L], condition [B, W] -> [B, L]."""
        *modulations, last = self._modulations(F.silu(condition))
        x = self.input(x)
        for block, modulation in zip(self.blocks, modulations, strict=True):
            x = block(x, modulation)
        shift, scale = last.chunk(2, -1)
        y: Tensor = self.output(torch.addcmul(shift, _normed(x), 1 + scale))
        return y

    def _modulations(self, y: Tensor) -> Sequence[Tensor]:
        """y [B, W] -> for every block [B, 3 * W], and for what follows them [B, 2 * W]."""
        if self.together is None:
            return [cast(Linear, part.modulation)(y) for part in (*self.blocks, self)]
        wide, whole = y.shape[-1], cast(Tensor, self.together(y))
        return torch.split(whole, [3 * wide] * len(self.blocks) + [2 * wide], -1)


class FlowBlock(nn.Module):
    """Two linear maps, each vector by itself, shifted, scaled and gated."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.up = Linear(width, width)
        self.down = Linear(width, width)
        self.modulation = Linear(width, 3 * width)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """x [B, W], modulation [B, 3 * W] -> [B, W]."""
        shift, scale, gate = modulation.chunk(3, -1)
        y = torch.addcmul(shift, self.norm(x), 1 + scale)
        return torch.addcmul(x, gate, self.down(F.silu(self.up(y))))


class TimeEmbedding(nn.Module):
    """times [N, 1] -> [N, W]."""

    frequencies: Tensor

    def __init__(self, spec: FlowSpec) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.zeros(spec.frequencies))
        self.up = nn.Linear(2 * spec.frequencies, spec.width)
        self.down = nn.Linear(spec.width, spec.width)
        self.scale = nn.Parameter(torch.ones(spec.width))

    def forward(self, times: Tensor) -> Tensor:
        """times [N, 1] -> [N, W]."""
        angles = times * self.frequencies.to(times.dtype)
        x: Tensor = self.down(F.silu(self.up(torch.cat((angles.cos(), angles.sin()), -1))))
        # _compat_uncentred_norm: divided by the deviation from the mean, which itself stays in.
        return x * (self.scale * torch.rsqrt(x.var(-1, keepdim=True) + 1e-5))


def _normed(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)
