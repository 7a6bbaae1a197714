"""How long each part of a text is said: drawn from a flow, or predicted (arXiv:2106.06103)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.conv import Conv
from alm_cli.nn.pointwise import Pointwise
from alm_cli.nn.spline import unbent


class FlowDurations(nn.Module):
    """x [B, C, S] and noise [B, 2, S] -> logarithms of frames [B, S].

    The flow turns durations, and a number beside each, into noise; here it is run backwards.
    """

    def __init__(
        self, width: int, flows: int, pieces: int, kernel: int, depth: int, *, condition: int = 0
    ) -> None:
        super().__init__()
        self.enter, self.leave = Pointwise(width, width), Pointwise(width, width)
        self.mix = SeparableConvs(width, kernel, depth)
        self.condition = Pointwise(condition, width) if condition else None
        self.shift = nn.Parameter(torch.zeros(2, 1))
        self.log_scale = nn.Parameter(torch.zeros(2, 1))
        # The first one only turns the number beside the duration, which nobody reads.
        self.flows = nn.ModuleDict(
            {str(i): SplineFlow(width, pieces, kernel, depth) for i in range(2, flows + 1)}
        )

    def forward(self, x: Tensor, noise: Tensor, condition: Tensor | None = None) -> Tensor:
        """x [B, C, S], noise [B, 2, S], condition [B, E, 1] -> [B, S]."""
        x = self.enter(x)
        if self.condition is not None and condition is not None:
            x = x + self.condition(condition)
        x = self.leave(self.mix(x))
        for flow in reversed(list(self.flows.values())):
            noise = flow(noise.flip(1), x)
        noise = (noise.flip(1) - self.shift) * torch.exp(-self.log_scale)
        return noise[:, 0]


class SplineFlow(nn.Module):
    """A pair of numbers, of which the first and the text decide how the second is bent."""

    def __init__(
        self, width: int, pieces: int, kernel: int, depth: int, bound: float = 5.0
    ) -> None:
        super().__init__()
        self.width, self.pieces, self.bound = width, pieces, bound
        self.enter = Pointwise(1, width)
        self.mix = SeparableConvs(width, kernel, depth)
        self.leave = Pointwise(width, 3 * pieces - 1)

    def forward(self, pair: Tensor, x: Tensor) -> Tensor:
        """pair [B, 2, S], x [B, C, S] -> [B, 2, S]."""
        first, second = pair.chunk(2, 1)
        curve = self.leave(self.mix(self.enter(first) + x)).mT
        widths, heights, slopes = curve.split((self.pieces, self.pieces, self.pieces - 1), -1)
        scale = self.width**0.5
        bent = unbent(second[:, 0], widths / scale, heights / scale, slopes, self.bound)
        return torch.cat((first, bent[:, None]), 1)


class SeparableConvs(nn.Module):
    """Convolutions of single features, then of single steps; each adds to what it was given."""

    def __init__(self, width: int, kernel: int, depth: int) -> None:
        super().__init__()
        self.across, self.between = nn.ModuleList(), nn.ModuleList()
        self.across_norms, self.between_norms = nn.ModuleList(), nn.ModuleList()
        for layer in range(depth):
            dilation = kernel**layer
            self.across.append(
                Conv(width, width, kernel, dilation=dilation, groups=width, causal=False)
            )
            self.between.append(Pointwise(width, width))
            self.across_norms.append(nn.LayerNorm(width))
            self.between_norms.append(nn.LayerNorm(width))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, S] -> [B, C, S]."""
        parts = (self.across, self.across_norms, self.between, self.between_norms)
        for across, across_norm, between, between_norm in zip(*parts, strict=True):
            y = F.gelu(across_norm(across(x).mT))
            x = x + F.gelu(between_norm(between(y.mT).mT)).mT
        return x


class PlainDurations(nn.Module):
    """x [B, C, S] -> logarithms of frames [B, S], by two convolutions (arXiv:1905.09263)."""

    def __init__(self, width: int, hidden: int, kernel: int, *, condition: int = 0) -> None:
        super().__init__()
        self.condition = Pointwise(condition, width) if condition else None
        self.first = Conv(width, hidden, kernel, causal=False)
        self.second = Conv(hidden, hidden, kernel, causal=False)
        self.first_norm, self.second_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.leave = Pointwise(hidden, 1)

    def forward(
        self,
        x: Tensor,
        noise: Tensor,  # noqa: ARG002
        condition: Tensor | None = None,
    ) -> Tensor:
        """x [B, C, S], condition [B, E, 1] -> [B, S]; there is nothing to draw."""
        if self.condition is not None and condition is not None:
            x = x + self.condition(condition)
        x = self.first_norm(F.relu(self.first(x)).mT).mT
        x = self.second_norm(F.relu(self.second(x)).mT).mT
        return self.leave(x)[:, 0]
