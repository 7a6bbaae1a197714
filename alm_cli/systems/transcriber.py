"""Recordings -> what is said in them and when, whatever kind of model writes it down.

This file is light: it tells what can be asked for, and loads torch only to load a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import ModelError, UsageError
from alm_cli.values import Audio, Segment, Transcript

if TYPE_CHECKING:
    from alm_cli.checkpoints.load import Loaded

# Mono samples [n] at 16 kHz, nominally -1..1, in blocks of any size.
Blocks = Iterable[NDArray[np.float32]]
Recording = Callable[[], Blocks]

RATE = 16_000
_BLOCK = 10 * RATE


@dataclass(frozen=True, kw_only=True)
class TranscribeAsk:
    """What to write down and how: names and defaults of `openai-whisper`'s command where shared.

    `temperature` are tried in turn until an attempt passes the thresholds; `beam_size` and
    `patience` count at temperature 0, `best_of` above it. `languages` restricts detection, which
    is then done for each window. `stream` reads once and knows nothing of what follows the
    window; `batched` decodes windows of one recording independently of one another, so without
    the text before them; `vad` leaves out what is not speech. `audio_ctx` "auto" hides the
    silence after short recordings from Whisper, and falls back to "full" where an attempt fails.
    UsageError: the options contradict each other.
    """

    language: str | None = None
    languages: tuple[str, ...] = ()
    task: Literal["transcribe", "translate"] = "transcribe"
    temperature: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    best_of: int | None = 5
    beam_size: int | None = 5
    patience: float | None = None
    length_penalty: float | None = None
    suppress_tokens: str = "-1"
    initial_prompt: str | None = None
    prefix: str | None = None
    carry_initial_prompt: bool = False
    condition_on_previous_text: bool = True
    compression_ratio_threshold: float | None = 2.4
    logprob_threshold: float | None = -1.0
    no_speech_threshold: float | None = 0.6
    word_timestamps: bool = False
    prepend_punctuations: str = "\"'“¿([{-"
    append_punctuations: str = "\"'.。,，!！?？:：”)]}、"
    hallucination_silence_threshold: float | None = None
    clip_timestamps: tuple[float, ...] = (0.0,)
    without_timestamps: bool = False
    hotwords: str | None = None
    seed: int = 0
    stream: bool = False
    vad: bool = False
    batched: bool = False
    audio_ctx: Literal["full", "auto"] = "full"

    def __post_init__(self) -> None:
        for wrong, message in self._mistakes():
            if wrong:
                raise UsageError(message)

    def _mistakes(self) -> Iterator[tuple[bool, str]]:
        temperatures = self.temperature
        yield not temperatures, "at least one temperature is needed"
        yield not all(0 <= t < inf for t in temperatures), "temperatures are from 0"
        for name, count in (("beam_size", self.beam_size), ("best_of", self.best_of)):
            yield count is not None and count < 1, f"{name} is {count}, not a number from 1"
        patience, beams = self.patience, self.beam_size
        yield patience is not None and beams is None, "patience is for beam_size"
        wanted = 1.0 if beams is None or patience is None else beams * patience
        yield not (wanted < inf and round(wanted) >= 1), f"patience is {patience}: nobody waits"
        penalty = self.length_penalty
        yield penalty is not None and not 0 <= penalty <= 1, "length_penalty is between 0 and 1"
        yield bool(self.language and self.languages), "language and languages exclude each other"
        clips = self.clip_timestamps
        yield not all(isfinite(s) and s >= 0 for s in clips), "clip_timestamps are seconds from 0"
        silence = self.hallucination_silence_threshold
        yield (
            silence is not None and not self.word_timestamps,
            ("hallucination_silence_threshold needs word_timestamps"),
        )
        yield self.task not in ("transcribe", "translate"), f"there is no task {self.task!r}"
        yield self.audio_ctx not in ("full", "auto"), "audio_ctx is full or auto"
        yield self.batched and self.stream, "batched reads ahead, stream does not"


class Transcriber(Protocol):
    """A loaded recogniser; `segments` may be called by several threads at once, one a file."""

    name: str
    weights_sha256: str

    def segments(self, recording: Recording, ask: TranscribeAsk) -> Iterator[Segment]:
        """Each segment as soon as it is final.

        `recording()` may be called twice (a first pass finds the loudest), once when `ask.stream`;
        more often only where clips do not ascend.
        """

    def transcribe(self, audio: Audio, ask: TranscribeAsk = TranscribeAsk()) -> Transcript:
        """All of a recording."""


def load_transcriber(
    source: str | Path,
    *,
    device: str = "auto",
    dtype: str = "float32",
    threads: int | None = None,
    batch: int = 1,
    draft: str | Path | None = None,
) -> Transcriber:
    """Load a recogniser by catalogue name or from a local folder or file.

    With `batch` > 1, that many windows are decoded together: of one recording where it is
    `batched`, and of all those that other threads transcribe at the same time. `dtype` may also be
    "int8", for the linear maps of a Whisper on a processor. `draft` is a smaller Whisper that
    guesses what a Whisper will write without beams, at temperature 0: the text stays the same and
    comes sooner. ModelError: the model is unknown,
    damaged, not to be had without a network, or no recogniser.
    """
    from alm_cli.checkpoints.load import load
    from alm_cli.runtime import device_of, dtype_of, set_threads

    if batch < 1:
        raise UsageError(f"batches of {batch}", hint="the batch size is a number from 1")
    rounded = dtype == "int8"
    place, number = device_of(device), dtype_of("float32" if rounded else dtype)
    set_threads(threads)
    # Weights that are rounded one by one need not be in memory as they were.
    loaded = load(source, mapped=rounded)
    # By what they offer: the one kind need not load what the other is made of.
    if hasattr(loaded.model, "alignment_heads"):
        from alm_cli.systems.whisper_transcriber import Placement, whisper_transcriber

        where = Placement(device=place, dtype=number, int8=rounded, batch=batch)
        small = None if draft is None else load(draft, mapped=rounded)
        return whisper_transcriber(loaded, _files(loaded, source), where, small)
    if draft is not None:
        raise UsageError(f"{loaded.name} needs no draft", hint="a Whisper can take one")
    if rounded:
        raise UsageError(f"{loaded.name} is not made to compute in int8", hint="--dtype float32")
    if hasattr(loaded.model, "letters") or hasattr(loaded.model, "vocabulary"):
        from alm_cli.systems.ctc_transcriber import ctc_transcriber

        return ctc_transcriber(loaded, device=place, dtype=number, batch=batch)
    raise ModelError(
        f"{loaded.name} does not write down speech", hint="`alm models` names the recognisers"
    )


def mono(audio: Audio) -> Recording:
    """A recording as transcribers want it: the mean of its channels, at 16 kHz."""
    # The sum in double precision: the mean of equal channels is the channel itself.
    samples = audio.samples.mean(0, dtype=np.float64).astype(np.float32)
    if audio.rate != RATE:
        import torch

        from alm_cli.nn.resample import resampled

        samples = resampled(torch.from_numpy(samples)[None], audio.rate, RATE)[0].numpy()
    edges = range(0, len(samples), _BLOCK)
    return lambda: (samples[edge : edge + _BLOCK] for edge in edges)


def whole(
    transcriber: Transcriber, audio: Audio, ask: TranscribeAsk, language: str | None
) -> Transcript:
    """The transcript of all segments; `language` is told where no segment knows."""
    segments = tuple(transcriber.segments(mono(audio), ask))
    known = next(filter(None, chain((s.language for s in segments), [language])), None)
    return Transcript(
        segments=segments,
        language=known,
        model=transcriber.name,
        weights_sha256=transcriber.weights_sha256,
    )


def _files(loaded: Loaded, source: str | Path) -> Path:
    """Where the files of a model lie, the tokenizer among them."""
    from alm_cli.checkpoints.fetch import fetch

    return fetch(loaded.card) if loaded.card else Path(source).expanduser()
