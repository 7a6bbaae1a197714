"""A stack of gated convolutions with skips, as WaveNet has them (arXiv:1609.03499)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from alm_cli.nn.conv import Conv
from alm_cli.nn.pointwise import Pointwise


class WaveNet(nn.Module):
    """x [B, C, F] -> [B, C, F], which looks as far ahead as back.

    Each layer's dilation is `growth` times that of the one before. `condition` is the size of a
    vector that all layers hear, such as a voice; 0 where there is none.
    """

    def __init__(
        self, width: int, layers: int, kernel: int, *, growth: int = 1, condition: int = 0
    ) -> None:
        super().__init__()
        self.width = width
        self.gates = nn.ModuleList(
            Conv(width, 2 * width, kernel, dilation=growth**layer, causal=False)
            for layer in range(layers)
        )
        self.outs = nn.ModuleList(
            Pointwise(width, width if layer == layers - 1 else 2 * width) for layer in range(layers)
        )
        self.condition = Pointwise(condition, 2 * width * layers) if condition else None

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """x [B, C, F], condition [B, E, 1] -> [B, C, F]."""
        heard: tuple[Tensor, ...] = ()
        if self.condition is not None and condition is not None:
            heard = self.condition(condition).split(2 * self.width, 1)
        total = torch.zeros_like(x)
        last = len(self.gates) - 1
        for layer, (gate, out) in enumerate(zip(self.gates, self.outs, strict=True)):
            y = gate(x)
            if heard:
                y = y + heard[layer]
            signal, opened = y.split(self.width, 1)
            y = out(torch.tanh(signal) * torch.sigmoid(opened))
            if layer == last:
                return total + y
            further, skip = y.split(self.width, 1)
            x, total = x + further, total + skip
        return total
