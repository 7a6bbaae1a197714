"""Whisper as a transcriber: recordings of any length, one after another or many at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from alm_cli.checkpoints.load import Loaded
from alm_cli.errors import UsageError
from alm_cli.lm.whisper import Whisper
from alm_cli.nn.packed import SteadyHalfLinear, SteadyInt8Linear, pack_exactly
from alm_cli.runtime import place
from alm_cli.systems.placing import rounded_in_place
from alm_cli.systems.shared_batches import SharedBatches, Ticket
from alm_cli.systems.transcriber import Recording, TranscribeAsk, whole
from alm_cli.systems.whisper_engine import Asked, Engine
from alm_cli.systems.whisper_prompts import Phrasebook
from alm_cli.systems.whisper_reading import Reading, Said, Talk
from alm_cli.systems.whisper_windows import FRAMES_PER_S, WINDOW_FRAMES, Windows
from alm_cli.text.tokenizer import WhisperTokenizer, load_tokenizer
from alm_cli.values import Audio, Segment, Transcript

if TYPE_CHECKING:
    from alm_cli.systems.activity import Activity

# Speech after shorter pauses is heard together.
_PAUSE_S = 2.0
# Long stretches are cut in a pause in the last part of the window.
_PAUSE_FROM = 24 * FRAMES_PER_S

Clip = tuple[int, float]


class WhisperTranscriber:
    """A loaded Whisper; nothing about it changes after loading."""

    def __init__(
        self,
        model: Whisper,
        tokenizer: WhisperTokenizer,
        name: str,
        weights_sha256: str,
        *,
        device: torch.device,
        batch: int = 1,
        draft: Whisper | None = None,
    ) -> None:
        self.name, self.weights_sha256 = name, weights_sha256
        self._model, self._tokenizer, self._device = model, tokenizer, device
        self._drafts = draft is not None
        self._engine = Engine(model, tokenizer, device, draft)
        self._batches: SharedBatches[Asked] = SharedBatches(self._engine.run, batch)
        self._lock = threading.Lock()
        self._heard: Activity | None = None

    @property
    def acceptance(self) -> float | None:
        """Which share of all drafted tokens was right so far; None where none were drafted."""
        return self._engine.tally.acceptance

    def segments(self, recording: Recording, ask: TranscribeAsk) -> Iterator[Segment]:
        """Each segment as soon as it is final; see `Transcriber`.

        As in `openai-whisper`, segments without text or length stay, but say nothing.
        """
        return self.resume(recording, ask, (), 0)

    def resume(
        self, recording: Recording, ask: TranscribeAsk, before: Iterable[Segment], seek: int
    ) -> Iterator[Segment]:
        """What follows the segments `before`, of all windows that begin before frame `seek`.

        As if they had just been found; for clips that ascend, without leaving out what was
        imagined, which does not show in segments.
        """
        if self._drafts and ask.beam_size is not None:
            raise UsageError("a draft model drafts no beams", hint="--beam-size None")
        book = Phrasebook(self._tokenizer, ask, self._model.text_positions // 2 - 1)
        known = list(before)
        language = book.language
        if known and not ask.languages:
            language = known[-1].language
        with self._batches.joined():
            windows = Windows(
                recording,
                self._model.bands,
                device=self._device,
                once=ask.stream,
                activity=self._activity() if ask.vad else None,
            )
            if ask.batched:
                yield from self._batched(windows, book, language, (known, seek))
            else:
                reading = Reading(windows, book, language, alone=True)
                reading.recall(known)
                yield from self._said([(0, _one_by_one(reading, windows, ask, seek))], windows)

    def _activity(self) -> Activity:
        """What finds speech, loaded when it is first asked for."""
        from alm_cli.systems.activity import load_activity

        with self._lock:
            if self._heard is None:
                self._heard = load_activity(device=self._device.type)
        return self._heard

    def transcribe(self, audio: Audio, ask: TranscribeAsk = TranscribeAsk()) -> Transcript:
        """All of a recording."""
        return whole(self, audio, ask, None if self._tokenizer.multilingual else "en")

    def _batched(
        self,
        windows: Windows,
        book: Phrasebook,
        language: str | None,
        past: tuple[list[Segment], int],
    ) -> Iterator[Segment]:
        """Windows that are read by themselves, many at a time; their segments in order."""
        first = next(_clips(windows, book.ask), None)
        if first is None:
            return
        reading = Reading(windows, book, language, alone=False)
        yield from self._said([(0, reading.detect(*first))], windows)
        talks = (
            (begin, self._clip(windows, book, reading.language, (begin, end), past))
            for begin, end in _short_clips(windows, book.ask)
            if end > past[1]
        )
        yield from self._said(talks, windows)

    def _clip(
        self,
        windows: Windows,
        book: Phrasebook,
        language: str | None,
        clip: Clip,
        past: tuple[list[Segment], int],
    ) -> Talk:
        """A clip by itself, or the rest of it."""
        (begin, end), (known, seek) = clip, past
        reading = Reading(windows, book, language, alone=False)
        reading.recall([segment for segment in known if segment.seek >= begin])
        return reading.clip(max(begin, seek), end)

    def _said(self, talks: Iterable[tuple[int, Talk]], windows: Windows) -> Iterator[Segment]:
        """What talks yield, in order, while as many go on as there is room for in a batch.

        With each comes the frame before which it will not look.
        """
        batches, rest = self._batches, iter(talks)
        active: deque[_Conversation] = deque()
        try:
            while True:
                while active and (active[0].said or active[0].ended):
                    yield from active[0].said
                    active[0].said = ()
                    if active[0].ended:
                        active.popleft()
                    else:
                        # Only now it goes on to what has not even been read.
                        active[0].go_on()
                for talk in active:
                    talk.go_on()
                going = sum(not talk.ended for talk in active)
                while going < batches.size and (new := next(rest, None)) is not None:
                    active.append(_Conversation(*new, batches))
                    going += not active[-1].ended
                if not active:
                    return
                windows.forget(active[0].begin)
                tickets = [talk.ticket for talk in active if talk.ticket is not None]
                if tickets and not active[0].said:
                    batches.wait(tickets)
        finally:
            batches.withdraw([talk.ticket for talk in active if talk.ticket is not None])


class _Conversation:
    """A talk, the request that it waits for, and what it has said meanwhile."""

    def __init__(self, begin: int, talk: Talk, batches: SharedBatches[Asked]) -> None:
        self.begin, self._talk, self._batches = begin, talk, batches
        self.said: Said = ()
        self.ended = False
        self.ticket: Ticket[Asked] | None = None
        self._send(None)

    def go_on(self) -> None:
        """Let it have the answer, if there is one, or go on after what it said."""
        if self.ended or (self.ticket is not None and not self.ticket.done):
            return
        answer = None if self.ticket is None else self.ticket.answer()
        self.ticket = None
        self._send(answer)

    def _send(self, answer: object) -> None:
        try:
            told = self._talk.send(answer)
        except StopIteration:
            self.ended = True
            return
        if isinstance(told, tuple):
            self.said += told
        else:
            (self.ticket,) = self._batches.submit([told])


def _one_by_one(reading: Reading, windows: Windows, ask: TranscribeAsk, seek: int) -> Talk:
    """Clip after clip from a frame on, each in the light of what was said before."""
    if not (ask.vad or ask.stream or ask.audio_ctx == "auto"):
        yield from reading.detect(0, inf)
    for begin, end in _clips(windows, ask):
        if end > seek:
            yield from reading.clip(max(begin, seek), end)


def _clips(windows: Windows, ask: TranscribeAsk) -> Iterator[Clip]:
    """From which frame to which to listen."""
    edges: list[float] = [round(second * FRAMES_PER_S) for second in ask.clip_timestamps] or [0]
    if len(edges) % 2:
        edges.append(inf)
    clips = [(int(begin), end) for begin, end in zip(edges[::2], edges[1::2], strict=True)]
    if windows.speech is None:
        yield from clips
    elif ask.stream:
        spans = _joined(windows.speech, WINDOW_FRAMES)
        yield from (part for span in spans for clip in clips for part in _shared(clip, span))
    else:
        spoken = list(_joined(windows.speech, WINDOW_FRAMES if ask.batched else inf))
        yield from (part for clip in clips for span in spoken for part in _shared(clip, span))


def _joined(speech: Iterable[tuple[float, float]], longest: float) -> Iterator[Clip]:
    """Speech from frame to frame; over short pauses as one stretch, if that is not too long."""
    held: tuple[int, int] | None = None
    for begin_s, end_s in speech:
        begin, end = int(begin_s * FRAMES_PER_S), -int(-end_s * FRAMES_PER_S // 1)
        near = held is not None and begin - held[1] <= _PAUSE_S * FRAMES_PER_S
        if held is not None and near and end - held[0] <= longest:
            held = held[0], end
            continue
        if held is not None:
            yield held
        held = begin, end
    if held is not None:
        yield held


def _shared(one: Clip, other: Clip) -> Iterator[Clip]:
    """What two clips have in common, if there is anything."""
    begin, end = max(one[0], other[0]), min(one[1], other[1])
    if begin < end:
        yield begin, end


def _short_clips(windows: Windows, ask: TranscribeAsk) -> Iterator[Clip]:
    """The same clips in pieces of at most 30 s, cut where it is quietest."""
    for begin, end in _clips(windows, ask):
        end = min(end, windows.length())
        while end - begin > WINDOW_FRAMES:
            cut = windows.quietest(begin + _PAUSE_FROM, begin + WINDOW_FRAMES)
            yield begin, cut
            begin = cut
        if begin < end:
            yield begin, end


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where and how a model computes; `int8`: its linear maps in 8 bits, on a processor."""

    device: torch.device
    dtype: torch.dtype = torch.float32
    int8: bool = False
    batch: int = 1


def whisper_transcriber(
    loaded: Loaded, path: Path, where: Placement, draft: Loaded | None = None
) -> WhisperTranscriber:
    """A transcriber of a loaded Whisper, whose tokenizer lies at `path`.

    `draft` is a smaller one that hears the same and writes the same tokens. ModelError: there is no
    tokenizer. UsageError: there is no int8 here, or the draft is another kind of model.
    """
    model = loaded.model
    assert isinstance(model, Whisper)
    tokenizer = load_tokenizer(path, model.vocabulary)
    if draft is not None:
        _check_draft(draft, loaded)
    small = None if draft is None else _placed(cast(Whisper, draft.model), where)
    return WhisperTranscriber(
        _placed(model, where),
        tokenizer,
        loaded.name,
        loaded.weights_sha256,
        device=where.device,
        batch=where.batch,
        draft=small,
    )


def _check_draft(draft: Loaded, loaded: Loaded) -> None:
    """UsageError: it hears or writes other things."""
    sizes = [
        (m.vocabulary, m.bands, m.audio_positions, m.text_positions)
        if isinstance(m := one.model, Whisper)
        else None
        for one in (draft, loaded)
    ]
    if sizes[0] != sizes[1]:
        raise UsageError(
            f"{draft.name} cannot draft for {loaded.name}",
            hint="a smaller Whisper with the same tokens and bands can: whisper-tiny for"
            " whisper-small, whisper-tiny.en for whisper-small.en, whisper-large-v3-turbo for"
            " whisper-large-v3",
        )


def _placed(model: Whisper, where: Placement) -> Whisper:
    """The model where it computes, and as."""
    if where.int8:
        return rounded_in_place(model, where.device, SteadyInt8Linear)
    # Again for inference: that is when matrices that are used together are laid side by side.
    model = place(model, where.device, where.dtype).eval()
    pack_exactly(model.decoder, SteadyHalfLinear)
    return model
