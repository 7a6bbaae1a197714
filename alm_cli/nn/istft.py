"""Waves by an inverse short-time Fourier transform at the end of a network (arXiv:2306.00814)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from alm_cli.nn.state import State

_LOUDEST = 100.0


class ISTFTHead(nn.Module):
    """x [B, F, D] -> wave [B, 1, F * hop].

    A linear layer gives the logarithm of the magnitude and the phase of every bin. Frame i is
    centred on the samples from i * hop to (i + 1) * hop ("same" padding), so in a stream the last
    (size - hop) / 2 samples are owed until the last call.
    """

    window: Tensor

    def __init__(self, dimension: int, size: int, hop: int) -> None:
        super().__init__()
        if size % hop or size < 2 * hop or (size - hop) % 2:
            raise ValueError("the window must be two or more hops, and its overhang even")
        self.size, self.hop = size, hop
        self.out = nn.Linear(dimension, size + 2)
        # On the CPU in any case: a window is no reason to build a whole model twice in loading.
        self.register_buffer("window", torch.hann_window(size, device="cpu"), persistent=False)

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, F, D] -> wave [B, 1, F * hop] float32."""
        if x.shape[1]:
            logs, phases = self.out(x).float().chunk(2, -1)
            magnitudes = logs.exp().clamp(max=_LOUDEST)
            spectra = torch.complex(magnitudes * phases.cos(), magnitudes * phases.sin())
            frames = torch.fft.irfft(spectra, self.size) * self.window
        else:  # which some transforms do not take
            frames = self.window.new_zeros(x.shape[0], 0, self.size)
        return self._overlapped(frames, state)[:, None]

    def _overlapped(self, frames: Tensor, state: State | None) -> Tensor:
        """Windowed frames [B, F, size] -> wave [B, F * hop]."""
        overhang, overlaps = (self.size - self.hop) // 2, self.size // self.hop
        rows, count, _ = frames.shape
        # One row more: the squared windows, whose sum is the envelope to divide by.
        pieces = torch.cat((frames, self.window.square().expand(1, count, -1)))
        pieces = pieces.view(rows + 1, count, overlaps, self.hop)
        nothing = pieces.new_zeros(rows + 1, overlaps - 1, overlaps, self.hop)
        first = _Past(nothing, overhang)
        past = first if state is None else state.get(self, lambda: first)
        last = state is None or state.last
        pieces = torch.cat((past.pieces, pieces, nothing) if last else (past.pieces, pieces), 1)
        count = pieces.shape[1] - overlaps + 1
        total = torch.zeros_like(pieces[:, :count, 0])
        # Every sample is the sum of the same frames in the same order, however they arrive.
        for i in range(overlaps):
            begin = overlaps - 1 - i
            total += pieces[:, begin : begin + count, i]
        total = total.flatten(1)
        total = total[:, : total.shape[1] - overhang] if last else total
        skipped = min(past.overhang, total.shape[1])
        if state is not None:
            state.put(self, _Past(pieces[:, count:].clone(), past.overhang - skipped))
        # Cut before dividing: the envelope is zero where the first window begins.
        total = total[:, skipped:]
        return total[:-1] / total[-1:]


@dataclass(frozen=True)
class _Past:
    """The frames that still reach into what comes, and how much of the beginning is to be cut."""

    pieces: Tensor
    overhang: int
