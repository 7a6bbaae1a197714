"""MusicGen's steps on a GPU: a code of each book for each row, recorded as a graph and replayed.

A step of a small model is hundreds of tiny kernels, which take longer to start than to run. What is
recorded reads and writes the same memory every time, so caches are static (`alm_cli.nn.static`),
and it draws the codes as well: nothing waits for the processor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from alm_cli.decoding.sampling import Sampling, filtered
from alm_cli.lm.musicgen import CodeDecoder, Reached, Told, guided, positions
from alm_cli.nn.attention import KVCache
from alm_cli.nn.state import State
from alm_cli.nn.static import Place, StaticCache
from alm_cli.systems.recorded import recorded

# Steps whose noise is drawn at a time.
_AHEAD = 64


class Steps:
    """Rows in the middle of a window, of which `state` knows the beginning.

    `grid` [B, K, steps] has what is known of the codes, and -1. Noise is drawn for `ahead` steps at
    a time, by a generator for each row. `capture`: record the step as a CUDA graph; without, the
    same step is computed.
    """

    def __init__(
        self,
        decoder: CodeDecoder,
        told: Told,
        state: State,
        grid: Tensor,
        rules: tuple[Sampling, float, Sequence[torch.Generator]],
        *,
        capture: bool = True,
        ahead: int = _AHEAD,
    ) -> None:
        self._decoder, self._told, self._grid, self._capture = decoder, told, grid, capture
        self._how, self._guidance, self._sources = rules
        known = dict(state.memories())
        at = known[decoder].length
        read = 0 if told.read is None else told.read.shape[1]
        room = read + 1 + grid.shape[2]
        like = decoder.norm.weight
        self._place = Place(at, room, like)
        self._state = State()
        self._state.put(decoder, _Placed(at, room, like, self._place))
        for part, value in known.items():
            if isinstance(value, KVCache):
                self._state.put(part, StaticCache(value, self._place, room))
        books, codes = len(decoder.outputs), decoder.codes
        self._noise = like.new_zeros(len(grid), ahead, books, codes, dtype=torch.float32)
        self._column, self._turn = grid.new_zeros(1), grid.new_zeros(1)
        self._heard, self._made = grid.new_zeros(len(grid), books), grid.new_zeros(len(grid), books)
        self._graph: torch.cuda.CUDAGraph | None = None

    def run(self, logits: Tensor, first: int) -> Iterator[Tensor]:
        """logits [R, K, V] of step `first` of the grid -> codes [B, K] of it and of all later."""
        ahead = self._noise.shape[1]
        for count, column in enumerate(range(first, self._grid.shape[2])):
            if self._how.temperature and count % ahead == 0:
                for row, source in enumerate(self._sources):
                    self._noise[row].exponential_(generator=source)
            self._column.fill_(column)
            self._turn.fill_(count % ahead)
            if count == 0:
                self._draw(logits)
            else:
                self._heard.copy_(self._made)
                self._place.advance()
                self._replay()
            yield self._made.clone()

    def _replay(self) -> None:
        if not self._capture:
            self._step()
            return
        if self._graph is None:
            self._graph, _ = recorded(self._step)
        self._graph.replay()

    def _step(self) -> None:
        codes = self._heard[:, :, None]
        codes = codes if self._guidance == 1 else codes.repeat(2, 1, 1)
        self._draw(self._decoder(codes, self._told, self._state))

    def _draw(self, logits: Tensor) -> None:
        """logits [R, K, V] -> `_made`."""
        logits = logits if self._guidance == 1 else guided(logits, self._guidance)
        if self._how.temperature:
            # As `torch.multinomial` draws one of each row.
            noise = self._noise.index_select(1, self._turn)[:, 0]
            logits = filtered(logits, self._how).softmax(-1) / noise
        now = self._grid.index_select(2, self._column)[:, :, 0]
        self._made.copy_(torch.where(now < 0, logits.argmax(-1), now))


class _Placed(Reached):
    """The vectors of a position that a tensor tells."""

    def __init__(self, length: int, room: int, like: Tensor, place: Place) -> None:
        super().__init__(length)
        self._table = positions(room, len(like), like.dtype, like.device)
        self._place = place

    def vectors(self, x: Tensor) -> Tensor:
        """x [R, 1, D] -> [1, D]."""
        assert x.shape[1] == 1, "one step at a time"
        return self._table.index_select(0, self._place.at)
