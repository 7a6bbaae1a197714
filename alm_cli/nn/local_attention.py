"""Attention within windows that do not overlap (arXiv:2410.14411)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.position import Rotary
from alm_cli.nn.state import State


class LocalAttention(nn.Module):
    """Each of `window` steps collects from all of its window and is added to what it was.

    In a stream a window is owed until it is full, or the stream ends.
    """

    def __init__(self, width: int, window: int, head: int = 64) -> None:
        super().__init__()
        self.window, self.head = window, head
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.rotary = Rotary("halves")

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, C, T] -> [B, C, T]."""
        if state is not None:
            x = torch.cat((state.get(self, lambda: x[..., :0]), x), -1)
            ready = x.shape[-1] if state.last else x.shape[-1] // self.window * self.window
            state.put(self, x[..., ready:].clone())
            x = x[..., :ready]
        windows = x.shape[-1] // self.window
        full = windows * self.window
        whole = x[..., :full].reshape(*x.shape[:2], windows, self.window)
        parts = [whole, x[..., None, full:]]
        return torch.cat([self._collected(part).flatten(2) for part in parts], -1)

    def _collected(self, x: Tensor) -> Tensor:
        """x [B, C, W, S], of W windows of S steps -> [B, C, W, S]."""
        batch, width, windows, steps = x.shape
        if not windows or not steps:
            return x
        y = self.qkv(self.norm(x.permute(0, 2, 3, 1).flatten(0, 1)))
        q, k, v = y.view(batch * windows, steps, 3, -1, self.head).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(self.rotary(q), self.rotary(k), v)
        y = self.out(y.transpose(1, 2).flatten(2))
        return x + y.view(batch, windows, steps, width).permute(0, 3, 1, 2)
