"""Words of Whisper's segments: when each is said, and which segments nobody said.

The network looks at roughly the right place; the rest are rules of thumb of `openai-whisper`, all
of them relative to the median length of a word in the window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from alm_cli.decoding.alignment import TimedWord, merge_punctuation

_SENTENCE_ENDS = ".。!！?？"
# Words are seldom longer than this, whatever the median of a window.
_LONGEST_MEDIAN_S = 0.7
# By so much the first or last word may reach out of its segment.
_TOLERANCE_S = 0.5
_SIGNS = "\"'“¿([{-\"'.。,，!！?？:：”)]}、"


@dataclass
class Draft:
    """A segment in the making, in seconds of the recording."""

    start_s: float
    end_s: float
    tokens: tuple[int, ...]
    text: str
    words: list[TimedWord] = field(default_factory=list)


@dataclass(frozen=True)
class Pace:
    """How long words of a window are: the median, and twice that."""

    median_s: float
    longest_s: float

    @classmethod
    def of(cls, words: Iterable[TimedWord]) -> Pace:
        """That of words which take any time; of none, 0."""
        seconds = [word.seconds for word in words if word.seconds]
        median = min(_LONGEST_MEDIAN_S, float(np.median(seconds)) if seconds else 0.0)
        return cls(median, median * 2)


@dataclass(frozen=True, kw_only=True)
class WordRules:
    """Where a window begins in the recording, which signs join to words, and where text ends."""

    begin_s: float
    prepended: str
    appended: str
    end: int


def set_words(
    drafts: Sequence[Draft], words: list[TimedWord], rules: WordRules, last_end_s: float
) -> None:
    """Give the segments of a window their words, whose times are those within the window.

    `last_end_s` is when speech ended before it. Segments that have words take their times.
    """
    pace = Pace.of(words)
    if pace.median_s:
        _shorten_at_sentences(words, pace.longest_s)
    merge_punctuation(words, rules.prepended, rules.appended)
    rest = iter(words)
    for draft in drafts:
        length = sum(token < rules.end for token in draft.tokens)
        draft.words = [_placed(word, rules.begin_s) for word in _next_words(rest, length)]
        if draft.words:
            _shorten_after_pause(draft.words, pace, last_end_s)
            _agree_on_start(draft, pace)
            _agree_on_end(draft, pace)
            last_end_s = draft.end_s


def end_of(drafts: Sequence[Draft]) -> float | None:
    """When the last word ends; without words, the last segment."""
    ends = (word.end_s for draft in reversed(drafts) for word in reversed(draft.words))
    return next(ends, drafts[-1].end_s if drafts else None)


def _shorten_at_sentences(words: Sequence[TimedWord], longest_s: float) -> None:
    """Signs that end sentences, and the words after them, are not longer than twice the median."""
    for before, word in zip(words, words[1:], strict=False):
        if word.seconds > longest_s:
            if word.text in _SENTENCE_ENDS:
                word.end_s = word.start_s + longest_s
            elif before.text in _SENTENCE_ENDS:
                word.start_s = word.end_s - longest_s


def _next_words(rest: Iterator[TimedWord], tokens: int) -> Iterator[TimedWord]:
    """The words of the next so many tokens, without those that merged into others."""
    while tokens > 0:
        word = next(rest, None)
        if word is None:
            return
        tokens -= len(word.tokens)
        if word.text:
            yield word


def _placed(word: TimedWord, begin_s: float) -> TimedWord:
    """A word of a window in the recording, in hundredths of a second."""
    start, end = round(begin_s + word.start_s, 2), round(begin_s + word.end_s, 2)
    return TimedWord(word.text, start, end, word.probability, word.tokens)


def _shorten_after_pause(words: list[TimedWord], pace: Pace, last_end_s: float) -> None:
    """The first words after a pause are not longer than twice the median."""
    first, longest = words[0], pace.longest_s
    second = words[1] if len(words) > 1 else None
    if first.end_s - last_end_s <= pace.median_s * 4:
        return
    both_long = second is not None and second.end_s - first.start_s > longest * 2
    if first.seconds <= longest and not both_long:
        return
    if second is not None and second.seconds > longest:
        # _compat_half: half the time since the beginning of the recording, as there.
        boundary = max(second.end_s / 2, second.end_s - longest)
        first.end_s = second.start_s = boundary
    first.start_s = max(0.0, first.end_s - longest)


def _agree_on_start(draft: Draft, pace: Pace) -> None:
    """The segment begins with its first word, unless that is far too long."""
    first = draft.words[0]
    if draft.start_s < first.end_s and draft.start_s - _TOLERANCE_S > first.start_s:
        first.start_s = max(0.0, min(first.end_s - pace.median_s, draft.start_s))
    else:
        draft.start_s = first.start_s


def _agree_on_end(draft: Draft, pace: Pace) -> None:
    """The segment ends with its last word, unless that is far too long."""
    last = draft.words[-1]
    if draft.end_s > last.start_s and draft.end_s + _TOLERANCE_S < last.end_s:
        last.end_s = max(last.start_s + pace.median_s, draft.end_s)
    else:
        draft.end_s = last.end_s


@dataclass(frozen=True, kw_only=True)
class Silences:
    """What is known around the segments of a window, in seconds of the recording.

    `threshold_s` of silence are suspicious; `content_s` is how much of the window is recording.
    """

    threshold_s: float
    begin_s: float
    content_s: float
    window_end_s: float
    last_end_s: float


def leading_silence(drafts: Sequence[Draft], around: Silences) -> float | None:
    """The silence before the first segment, if nobody seems to have said that segment."""
    first = next((draft for draft in drafts if draft.words), None)
    if first is None or not _is_odd(first):
        return None
    gap = first.start_s - around.begin_s
    return gap if gap > around.threshold_s else None


def imagined(drafts: Sequence[Draft], around: Silences) -> int | None:
    """The first segment that nobody seems to have said: odd, between silences or odd ones."""
    before_s, threshold = around.last_end_s, around.threshold_s
    for place, draft in enumerate(drafts):
        if not draft.words:
            continue
        if _is_odd(draft):
            following = next((later for later in drafts[place + 1 :] if later.words), None)
            next_s = around.begin_s + around.content_s
            if following is not None:
                next_s = following.words[0].start_s
            silence_before = (
                draft.start_s - before_s > threshold
                or draft.start_s < threshold
                or draft.start_s - around.begin_s < 2.0
            )
            silence_after = (
                next_s - draft.end_s > threshold
                or _is_odd(following)
                or around.window_end_s - draft.end_s < 2.0
            )
            if silence_before and silence_after:
                return place
        before_s = draft.end_s
    return None


def _is_odd(draft: Draft | None) -> bool:
    """Whether its first words are improbable, or of improbable lengths."""
    if draft is None or not draft.words:
        return False
    words = [word for word in draft.words if word.text not in _SIGNS][:8]
    score = sum(_oddness(word) for word in words)
    return score >= 3 or score + 0.01 >= len(words)


def _oddness(word: TimedWord) -> float:
    seconds = word.seconds
    odd = 1.0 if word.probability < 0.15 else 0.0
    return odd + max(0.0, 0.133 - seconds) * 15 + max(0.0, seconds - 2.0)
