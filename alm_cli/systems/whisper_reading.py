"""How Whisper reads a recording: window after window, each begun where the last one was sure.

This is `openai-whisper`'s way through long recordings (arXiv:2212.04356, section 3.8), as talks: a
talk yields requests to the network, which it is sent the answers to, and segments that are final.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf
from typing import Any

from alm_cli.decoding.repeats import repeats
from alm_cli.nn.log_mel import HOP
from alm_cli.systems.transcriber import RATE
from alm_cli.systems.whisper_engine import Align, Asked, Decoded, Hear, Heard, Tell, Try
from alm_cli.systems.whisper_prompts import Context, Phrasebook
from alm_cli.systems.whisper_windows import FRAMES_PER_S, WINDOW_FRAMES, Windows
from alm_cli.systems.word_times import (
    Draft,
    Silences,
    WordRules,
    end_of,
    imagined,
    leading_silence,
    set_words,
)
from alm_cli.text.tokenizer import TIMESTAMP_S
from alm_cli.values import Segment, Word

Said = tuple[Segment, ...]
Talk = Generator[Asked | Said, Any, None]

_FRAMES_PER_TIMESTAMP = 2
# What was found at higher temperatures is no context for what follows.
_SURE = 0.5
# Of shorter memories the decoder makes loops; a second after the recording tells that it ended.
_LEAST_FRAMES, _FRAMES_AFTER, _FRAMES_STEP = 1000, 100, 250


@dataclass
class _Found:
    """What came of a window: segments, and where the next window begins."""

    drafts: list[Draft]
    seek: int
    closed: bool  # all was said, so nothing is left for the next window


class Reading:
    """The way through a recording, or through one clip of it that is read by itself.

    `alone`: no other reading will go back to windows before this one's.
    """

    def __init__(
        self, windows: Windows, book: Phrasebook, language: str | None, *, alone: bool
    ) -> None:
        self.language = language
        self._windows, self._book, self._ask, self._alone = windows, book, book.ask, alone
        self._context = Context(book)
        self._last_speech_s = 0.0
        self._opening: tuple[int, int, Heard] | None = None

    def detect(self, begin: int, end: float) -> Talk:
        """Find the language of the recording, from its first 30 s, or from those of a clip."""
        if self.language or self._book.allowed or not self._windows.length(1):
            return
        size = self._size(begin, end)
        if self._ask.vad:
            mel = self._windows.window(begin, size)
        else:
            mel, begin, size = self._windows.opening(), 0, self._size(0, inf)
        heard = yield Hear(mel)
        # A window with padding is heard in another way.
        if self._ask.vad or size == WINDOW_FRAMES:
            self._opening = begin, size, heard
        self.language = yield from self._told(heard, self._book.tokenizer.languages)

    def recall(self, segments: Iterable[Segment]) -> None:
        """Go on as if these segments, of whole windows, had just been found."""
        for _, window in groupby(segments, lambda segment: segment.seek):
            found = list(window)
            self._remember(found, found[-1].temperature)
            if self._ask.word_timestamps:
                words = (word for segment in reversed(found) for word in reversed(segment.words))
                last = next(words, None)
                self._last_speech_s = found[-1].end_s if last is None else last.end_s

    def clip(self, begin: int, end: float) -> Talk:
        """What is said from frame to frame."""
        seek = begin
        while (size := self._size(seek, end)) > 0:
            if self._alone:
                self._windows.forget(seek)
            found = yield from self._window(seek, size)
            seek = found if found > seek else seek + size

    def _size(self, seek: int, end: float) -> int:
        """Frames of the window that begins at a frame."""
        content = self._windows.length(seek + WINDOW_FRAMES)
        return int(min(WINDOW_FRAMES, content - seek, end - seek))

    def _window(self, seek: int, size: int) -> Generator[Asked | Said, Any, int]:
        """What is said in a window; the frame where the next one begins."""
        heard, language, decoded = yield from self._decoded(seek, size)
        if self._is_silent(decoded):
            return seek + size
        found = self._cut(decoded, seek, size)
        if self._ask.word_timestamps:
            heard_right = yield from self._set_words(found, heard, language, seek, size)
            if not heard_right:
                return found.seek
        segments = [self._segment(draft, decoded, language, seek) for draft in found.drafts]
        self._remember(segments, decoded.temperature)
        yield tuple(segments)
        return found.seek

    def _remember(self, window: Sequence[Segment], temperature: float) -> None:
        """Let what was said in a window be the context of the next one, if that is to have any."""
        self._context.add([token for segment in window for token in segment.tokens])
        if not self._ask.condition_on_previous_text or temperature > _SURE:
            self._context.forget()

    def _decoded(
        self, seek: int, size: int
    ) -> Generator[Asked, Any, tuple[Heard, str | None, Decoded]]:
        """The window as heard, its language, and its text: of the first temperature that passes."""
        mel = self._windows.window(seek, size)
        shorter = _shortened(size) if self._ask.audio_ctx == "auto" else WINDOW_FRAMES
        if shorter < WINDOW_FRAMES:
            heard = yield Hear(mel[:, :shorter].contiguous())
            language = yield from self._language(heard)
            decoded = yield self._try(heard, language, self._ask.temperature[0], seek)
            if not self._fails(decoded) and not self._is_silent(decoded):
                return heard, language, decoded
        opening, self._opening = self._opening, None
        if opening is not None and opening[:2] == (seek, size):
            heard = opening[2]
        else:
            heard = yield Hear(mel)
        language = yield from self._language(heard)
        for temperature in self._ask.temperature:
            decoded = yield self._try(heard, language, temperature, seek)
            if not self._fails(decoded):
                break
        # _compat_last: where all fail, the last is kept.
        return heard, language, decoded

    def _try(self, heard: Heard, language: str | None, temperature: float, seek: int) -> Try:
        prompt, start = self._book.prompt(language, self._context.tokens())
        return Try(heard, prompt, start, self._book.manner(temperature), seek)

    def _language(self, heard: Heard) -> Generator[Asked, Any, str | None]:
        """The language of a window: that of the recording, or one of those allowed."""
        if self._book.allowed:
            return (yield from self._told(heard, self._book.allowed))
        if self.language is None:
            self.language = yield from self._told(heard, self._book.tokenizer.languages)
        return self.language

    def _told(self, heard: Heard, allowed: Sequence[str]) -> Generator[Asked, Any, str]:
        if len(allowed) == 1:
            return allowed[0]
        chances = yield Tell(heard)
        return max(allowed, key=lambda language: float(chances[language]))

    def _fails(self, decoded: Decoded) -> bool:
        """Whether a higher temperature should be tried."""
        ask = self._ask
        unlikely = ask.logprob_threshold is not None and decoded.avg_logprob < ask.logprob_threshold
        if (
            unlikely
            and ask.no_speech_threshold is not None
            and decoded.no_speech_prob > ask.no_speech_threshold
        ):
            return False
        ratio = ask.compression_ratio_threshold
        if unlikely or (ratio is not None and decoded.compression_ratio > ratio):
            return True
        text = [token for token in decoded.tokens if token < self._book.tokenizer.eot]
        return ask.batched and ratio is not None and repeats(text)

    def _is_silent(self, decoded: Decoded) -> bool:
        """Whether nobody speaks, by the probability of that and of the text."""
        ask = self._ask
        if ask.no_speech_threshold is None:
            return False
        likely = ask.logprob_threshold is not None and decoded.avg_logprob > ask.logprob_threshold
        return decoded.no_speech_prob > ask.no_speech_threshold and not likely

    def _cut(self, decoded: Decoded, seek: int, size: int) -> _Found:
        """Cut a text where two timestamps meet; what is left after them is for the next window.

        In batched mode it is kept instead, unless the text was broken off.
        """
        tokens, first = decoded.tokens, self._book.tokenizer.timestamp_begin
        begin_s = seek * HOP / RATE
        stamps = [token >= first for token in tokens]
        closed = stamps[-2:] == [False, True]
        edges = [n for n in range(1, len(tokens)) if stamps[n - 1] and stamps[n]]
        if not edges:
            last = next((token for token in reversed(tokens) if token >= first), first) - first
            seconds = last * TIMESTAMP_S if last else size * HOP / RATE
            return _Found([self._draft(begin_s, begin_s + seconds, tokens)], seek + size, closed)
        if closed:
            edges.append(len(tokens))
        drafts = []
        for start, end in zip([0, *edges], edges, strict=False):
            times = ((tokens[n] - first) * TIMESTAMP_S for n in (start, end - 1))
            starts, ends = (begin_s + seconds for seconds in times)
            drafts.append(self._draft(starts, ends, tokens[start:end]))
        if closed:
            return _Found(drafts, seek + size, closed)
        last = tokens[edges[-1] - 1] - first
        tail = tokens[edges[-1] :]
        if self._ask.batched and not decoded.limited:
            end_s = begin_s + size * HOP / RATE
            if any(token < first for token in tail):
                # What is said after the end of the window, is said at its end.
                starts = min(begin_s + last * TIMESTAMP_S, end_s - TIMESTAMP_S)
                drafts.append(self._draft(starts, end_s, tail))
            return _Found(drafts, seek + size, closed=True)
        return _Found(drafts, seek + last * _FRAMES_PER_TIMESTAMP, closed)

    def _draft(self, start_s: float, end_s: float, tokens: tuple[int, ...]) -> Draft:
        tokenizer = self._book.tokenizer
        text = tokenizer.decode(token for token in tokens if token < tokenizer.eot)
        return Draft(start_s, end_s, tokens, text)

    def _set_words(
        self, found: _Found, heard: Heard, language: str | None, seek: int, size: int
    ) -> Generator[Asked, Any, bool]:
        """Find when words are said; the next window then begins after the last one.

        False: the window begins with silence, so its text is doubtful, and it is left to the next.
        """
        begin_s, ask, end = seek * HOP / RATE, self._ask, self._book.tokenizer.eot
        text = tuple(t for draft in found.drafts for t in draft.tokens if t < end)
        spoken = language if self._book.tokenizer.multilingual else None
        words = yield Align(heard, self._book.start(language), text, spoken, size)
        rules = WordRules(
            begin_s=begin_s,
            prepended=ask.prepend_punctuations,
            appended=ask.append_punctuations,
            end=end,
        )
        set_words(found.drafts, words, rules, self._last_speech_s)
        last_s = end_of(found.drafts)
        if not found.closed and last_s is not None and last_s > begin_s:
            found.seek = round(last_s * FRAMES_PER_S)
        if ask.hallucination_silence_threshold is not None and not self._without_imagined(
            found, ask.hallucination_silence_threshold, seek, size
        ):
            return False
        last_s = end_of(found.drafts)
        self._last_speech_s = self._last_speech_s if last_s is None else last_s
        return True

    def _without_imagined(self, found: _Found, threshold_s: float, seek: int, size: int) -> bool:
        """Leave out what nobody seems to have said; False: all of it, after a silence."""
        around = Silences(
            threshold_s=threshold_s,
            begin_s=seek * HOP / RATE,
            content_s=size * HOP / RATE,
            window_end_s=(seek + WINDOW_FRAMES) * HOP / RATE,
            last_end_s=self._last_speech_s,
        )
        last_s = end_of(found.drafts)
        if not found.closed and last_s is not None and last_s > around.begin_s:
            # What is left of the window may be silence, and then holds nothing more.
            rests = around.window_end_s - last_s > threshold_s
            found.seek = round(last_s * FRAMES_PER_S) if rests else seek + size
        gap = leading_silence(found.drafts, around)
        if gap is not None:
            found.seek = seek + round(gap * FRAMES_PER_S)
            return False
        place = imagined(found.drafts, around)
        if place is not None:
            draft = found.drafts[place]
            found.seek = round(max(around.begin_s + 1, draft.start_s) * FRAMES_PER_S)
            length = self._windows.length(round((draft.end_s + threshold_s) * FRAMES_PER_S) + 1)
            if length * HOP / RATE - draft.end_s < threshold_s:
                found.seek = length
            del found.drafts[place:]
        return True

    def _segment(self, draft: Draft, decoded: Decoded, language: str | None, seek: int) -> Segment:
        """The segment, final; _compat_empty: without text or length it stays, but says nothing."""
        said = draft.start_s != draft.end_s and bool(draft.text.strip())
        words = (
            Word(start_s=w.start_s, end_s=w.end_s, text=w.text, probability=w.probability)
            for w in draft.words
        )
        return Segment(
            start_s=draft.start_s,
            end_s=draft.end_s,
            text=draft.text if said else "",
            words=tuple(words) if said else (),
            tokens=draft.tokens if said else (),
            seek=seek,
            temperature=decoded.temperature,
            avg_logprob=decoded.avg_logprob,
            compression_ratio=decoded.compression_ratio,
            no_speech_prob=decoded.no_speech_prob,
            language=language,
        )


def _shortened(frames: int) -> int:
    """Frames for the encoder that are enough for so many of content."""
    wanted = max(_LEAST_FRAMES, frames + _FRAMES_AFTER)
    return min(WINDOW_FRAMES, -(-wanted // _FRAMES_STEP) * _FRAMES_STEP)
