"""What a CTC model hears in a recording of any length, in windows with context on both sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alm_cli.checkpoints.load import Loaded
from alm_cli.errors import InputError, ModelError
from alm_cli.runtime import inference
from alm_cli.systems.shared_batches import SharedBatches, Ticket
from alm_cli.systems.transcriber import RATE, Blocks

Logprobs = NDArray[np.float32]

# Letters are heard at their most telling moment: a word begins before its first one and lasts
# longer than its last one.
_LEAD_S, _TAIL_S = 0.055, 0.005


class CtcModel(Protocol):
    """What a family with a head for CTC offers.

    Of each symbol `vocabulary` has what it writes; a space ends a word. The blank is the first
    symbol unless an attribute `blank` tells another one. A model that tells of sounds too has
    their names in `sounds`, a blank first, and `both(wave)`, log-probabilities [B, F, V + S].
    """

    rate: int
    hop: int
    vocabulary: tuple[str, ...]

    def forward(self, wave: Tensor) -> Tensor:
        """wave [B, 1, T] -> log-probabilities [B, F, V]."""

    def frames(self, samples: int) -> int:
        """F of so many samples; the frame i begins at the sample `hop` * i."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """What is heard at a time, in seconds: `core` is written down, the rest is context.

    Even numbers: every family's frames, and groups of frames, begin anew with them.
    """

    core: int
    before: int
    after: int


# The frames of alm-asr depend on some four seconds on either side.
FILE = Windows(core=32, before=4, after=4)
# What is final a few seconds after it was said; three times the work.
LIVE = Windows(core=4, before=6, after=2)


@dataclass(frozen=True, kw_only=True)
class Emissions:
    """A CTC model ready to listen; `batch` windows at a time where that is faster than one.

    They may be of several recordings, which threads of their own listen to. Rows tell of the
    symbols of `vocabulary`, V of them, and then of `sounds`, if any were asked for.
    """

    model: CtcModel
    name: str
    weights_sha256: str
    device: torch.device
    dtype: torch.dtype = torch.float32
    batch: int = 1
    sounds: tuple[str, ...] = ()
    _shared: SharedBatches[_Window] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_shared", SharedBatches(self._heard, self.batch))

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return self.model.vocabulary

    @property
    def blank(self) -> int:
        return int(getattr(self.model, "blank", 0))

    @property
    def frame_s(self) -> float:
        """Seconds from one frame to the next."""
        return self.model.hop / self.model.rate

    def logprobs(
        self, blocks: Blocks, windows: Windows = FILE, *, begin: int = 0
    ) -> Iterator[Logprobs]:
        """Blocks of samples at 16 kHz -> log-probabilities [n, V + S] of frames from `begin` on.

        Windows lie where they lie, however the samples arrive and wherever one begins; only the
        last one ends with the recording, so that a short recording is heard as a whole.
        """
        hop = self.model.hop
        # The last window may be longer than others by its context: it is met before that.
        first = max(0, begin * hop - RATE * windows.after) // (RATE * windows.core)
        unwanted = begin - first * RATE * windows.core // hop
        for rows in self._cores(_cut(blocks, windows, first)):
            yield rows[unwanted:]
            unwanted = max(0, unwanted - len(rows))

    def _cores(self, windows: Iterator[_Window]) -> Iterator[Logprobs]:
        """The log-probabilities of the cores of windows."""
        if self.batch == 1:
            for window in windows:
                yield from self._heard([window])
            return
        shared = self._shared
        tickets: list[Ticket[_Window]] = []
        with shared.joined():
            try:
                while tickets := shared.submit(list(islice(windows, self.batch))):
                    for ticket in tickets:
                        shared.wait([ticket])
                        yield ticket.answer()
            finally:
                shared.withdraw(tickets)

    def _heard(self, windows: Sequence[_Window]) -> list[Logprobs]:
        """The log-probabilities of the cores of windows, which are equally long."""
        waves = torch.from_numpy(np.stack([window.samples for window in windows]))[:, None]
        reduced = self.dtype is not torch.float32
        with inference(), torch.autocast(self.device.type, self.dtype, enabled=reduced):
            hear = cast(Any, self.model).both if self.sounds else cast(nn.Module, self.model)
            found = hear(waves.to(self.device)).float().cpu().numpy()
        firsts = [window.core // self.model.hop for window in windows]
        return [
            logprobs[first : None if window.last else first + window.size // self.model.hop]
            for window, logprobs, first in zip(windows, found, firsts, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class _Window:
    """Samples, of which `size` from `core` on are to be written down."""

    samples: NDArray[np.float32]
    core: int
    size: int
    last: bool

    @property
    def kind(self) -> int:
        """Equally long ones are heard together."""
        return len(self.samples)


def _cut(blocks: Blocks, windows: Windows, first: int) -> Iterator[_Window]:
    """Windows of a recording from the `first` on, one for every `core` seconds of it."""
    core, before, after = (RATE * s for s in (windows.core, windows.before, windows.after))
    pieces: list[NDArray[np.float32]] = []
    skipped = max(0, first * core - before)
    held, lead = 0, first * core - skipped  # samples that wait; those of them before the core
    for block in _after(blocks, skipped):
        if block.ndim != 1:
            raise InputError(f"samples of shape {list(block.shape)}", hint="pass mono samples [n]")
        # A copy: the caller may use its buffer again.
        pieces.append(np.array(block, dtype=np.float32))
        held += len(block)
        while held >= lead + core + after:
            whole = np.concatenate(pieces)
            yield _Window(whole[: lead + core + after], lead, core, last=False)
            kept = max(0, lead + core - before)
            pieces, held, lead = [whole[kept:]], held - kept, lead + core - kept
    if held > lead:
        yield _Window(np.concatenate(pieces), lead, held - lead, last=True)


def _after(blocks: Blocks, samples: int) -> Blocks:
    """Blocks without the first samples."""
    for block in blocks:
        yield block[samples:]
        samples = max(0, samples - len(block))


def emissions(
    loaded: Loaded,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    batch: int = 1,
    sounds: bool = False,
) -> Emissions:
    """A loaded model as one that listens, with `sounds` also to those, if it knows any.

    ModelError: it has no letters, or another rate.
    """
    model = loaded.model
    if not isinstance(getattr(model, "vocabulary", None), tuple) or not hasattr(model, "frames"):
        raise ModelError(
            f"{loaded.name} writes no letters",
            hint="a model for CTC needs its head and, beside config.json, its vocab.json",
        )
    ctc = cast(CtcModel, model.to(device).eval())
    if ctc.rate != RATE:
        raise ModelError(f"{loaded.name} listens at {ctc.rate} Hz, where {RATE} Hz are at hand")
    return Emissions(
        model=ctc,
        name=loaded.name,
        weights_sha256=loaded.weights_sha256,
        device=device,
        dtype=dtype,
        # On a processor windows are as fast alone, and then cannot depend on one another.
        batch=1 if device.type == "cpu" else batch,
        sounds=getattr(model, "sounds", ()) if sounds else (),
    )


def times(
    spans: Sequence[tuple[int, int]], frame_s: float, until: int, *, after: int = 0
) -> list[tuple[float, float]]:
    """Frames of words, from the first letter to before the end of the last one -> seconds.

    Words do not overlap, and none is without length; nothing else is said before the last one's
    `until`, nor since the first one's `after`.
    """
    edges = np.array(spans, dtype=np.float64).reshape(-1, 2) * frame_s
    begins, ends = edges[:, 0], edges[:, 1]
    # Between two words that follow closely the border is in the middle.
    free = np.append(after * frame_s, ends), np.append(begins, until * frame_s)
    middles = (free[0] + free[1]) / 2
    starts = np.maximum(begins - _LEAD_S, middles[:-1])
    stops = np.minimum(ends + _TAIL_S, middles[1:])
    return list(zip(starts.tolist(), stops.tolist(), strict=True))
