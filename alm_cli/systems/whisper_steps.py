"""Whisper's steps on a GPU: one token for each row, recorded once as a graph and replayed.

A step of a small model is hundreds of tiny kernels, which take longer to start than to run. What is
recorded reads and writes the same memory every time, so caches are static (`alm_cli.nn.static`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from alm_cli.lm.whisper import Heard, Whisper
from alm_cli.nn.attention import KVCache
from alm_cli.nn.state import State
from alm_cli.nn.static import Place, StaticCache
from alm_cli.systems.recorded import recorded


class Steps:
    """Rows of text in the middle: tokens [R] -> logits [R, V] float32 of what follows them.

    It takes over the `state` after the prompt, with `memory` [B, P, D], and keeps it in caches that
    do not move. `capture`: record the step as a CUDA graph; without, the same step is computed.
    """

    def __init__(self, model: Whisper, memory: Tensor, state: State, *, capture: bool) -> None:
        self._model, self._memory, self._capture = model, memory, capture
        known = dict(state.memories())
        heard = known[model.decoder]
        positions = model.text_positions
        self._place = Place(heard.length, positions, memory)
        self._state = State()
        self._heard = _Placed(heard, self._place)
        self._state.put(model.decoder, self._heard)
        for part, value in known.items():
            if isinstance(value, KVCache):
                self._state.put(part, StaticCache(value, self._place, positions))
        self._tokens = torch.zeros(heard.rows, 1, dtype=torch.long, device=memory.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._logits = memory.new_zeros(0)

    def __call__(self, tokens: Tensor) -> Tensor:
        """tokens [R] -> logits [R, V], overwritten by the next call."""
        self._tokens.copy_(tokens[:, None])
        self._place.advance()
        if not self._capture:
            return self._step()
        if self._graph is None:
            self._graph, self._logits = recorded(self._step)
        self._graph.replay()
        return self._logits

    def reorder(self, rows: Tensor) -> None:
        """Let row i go on as row rows[i] was."""
        layers = self._heard.layers
        self._state.reorder(rows)
        if len(rows) != len(self._tokens) or self._heard.layers is not layers:
            # Other memory, so what was recorded is of no use.
            self._tokens, self._graph = self._tokens.new_zeros(len(rows), 1), None

    def _step(self) -> Tensor:
        return self._model.decode(self._tokens, self._memory, self._state)[:, -1]


class _Placed(Heard):
    """What was heard, for tokens at a place that a tensor tells."""

    def __init__(self, heard: Heard, place: Place) -> None:
        super().__init__(heard.layers, heard.length)
        self.rows, self._place = heard.rows, place

    def places(self, table: Tensor, count: int) -> Tensor:
        """table [N, D] -> [1, D], the row of the next token."""
        assert count == 1, "one token at a time"
        return table.index_select(0, self._place.at)
