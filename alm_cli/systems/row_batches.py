"""Blocks of several recordings as the rows of one batch, which change nothing for one another.

A GPU is as fast with sixteen rows as with one. Recordings go on side by side while their next
blocks are as long as one another and what their streams remember has the same shape, so nothing is
ever filled up within a batch and no row can see that there are others:

- convolutions and a memory that runs forwards (EnCodec, DAC, SNAC, SoundStream, alm-codec) after
  the first block at any place of the recordings;
- attention to the past (Mimi), and segments that overlap (EnCodec 48 kHz), at the same place only;
- what hears a recording whole (SpeechTokenizer, HuBERT and its kin, X-Codec 2), and DAC in windows,
  not at all: there is no block to share, and hardly two recordings are equally long.

The last block, shorter than the others, is coded alone unless another is just as short; where the
codec itself fills it up with silence (Mimi, alm-codec), it is made as long as the others.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from alm_cli.nn.rows import apart, kind_of, together
from alm_cli.nn.state import State
from alm_cli.systems.shared_batches import SharedBatches

if TYPE_CHECKING:
    from alm_cli.systems.codec import CodecModel

# Blocks come from readers that are ahead: who is not there at once is not waited for.
_PATIENCE_S = 0.005


@dataclass(frozen=True, eq=False)
class _Block:
    """The next samples [1, C, n] of a recording, and its stream."""

    model: CodecModel
    codebooks: int | None
    wave: Tensor
    state: State

    @property
    def kind(self) -> Hashable:
        return self.model, self.codebooks, tuple(self.wave.shape), kind_of(self.state)


class RowBatches:
    """Encodes blocks that several threads bring, up to `rows` at a time."""

    def __init__(
        self, computing: Callable[[], AbstractContextManager[None]], device: torch.device, rows: int
    ) -> None:
        self._computing, self._device, self.rows = computing, device, rows
        self._shared: SharedBatches[_Block] = SharedBatches(self._run, rows, _PATIENCE_S)
        # For a thread that is going to bring blocks.
        self.joined = self._shared.joined

    def encode(
        self, model: CodecModel, waves: Tensor, codebooks: int | None, states: Sequence[State]
    ) -> list[Tensor]:
        """waves [S, 1, C, n], the next of as many streams -> codes [K, F] of each."""
        length = waves.shape[-1]
        missing = model.block_frames * model.hop - length
        if states[0].last and missing > 0 and getattr(model, "fills_up", False):
            for state in states:
                state.last = False
            waves = F.pad(waves, (0, missing))
        pairs = zip(waves, states, strict=True)
        tickets = self._shared.submit([_Block(model, codebooks, *pair) for pair in pairs])
        try:
            while waiting := [ticket for ticket in tickets if not ticket.done]:
                self._shared.wait(waiting)
        finally:
            self._shared.withdraw(tickets)
        codes: list[Tensor] = [ticket.answer() for ticket in tickets]
        whole = waves.shape[-1] == length
        return codes if whole else [row[:, : -(-length // model.hop)] for row in codes]

    def _run(self, blocks: Sequence[_Block]) -> list[Tensor]:
        """Codes [K, F] of each block."""
        first, states = blocks[0], [block.state for block in blocks]
        wave = torch.cat([block.wave for block in blocks]).to(self._device)
        with self._computing():
            joined = together(states) if len(states) > 1 else states[0]
            codes = first.model.encode(wave, first.codebooks, joined).cpu()
            if len(states) > 1:
                apart(joined, states)
        return list(codes)
