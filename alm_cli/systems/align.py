"""When each word of a known text is said: forced alignment of recordings of any length."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, inf, log
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alm_cli.checkpoints.load import load
from alm_cli.decoding.hmm import Path as StatePath
from alm_cli.decoding.hmm import Viterbi, chain
from alm_cli.errors import InputError
from alm_cli.runtime import device_of, dtype_of, set_threads
from alm_cli.systems.emissions import Emissions, emissions, times
from alm_cli.systems.transcriber import RATE, Blocks, Recording
from alm_cli.text.spoken import spoken
from alm_cli.values import Segment, Transcript, Word

# How far a way may fall behind the best one, tried in turn, and how many states are kept at most:
# some four minutes of text.
_BEAMS = (1000.0, inf)
_MOST_STATES = 8192
# How much less probable than what is heard a text that belongs to its recording is at most, for
# each of its letters, in logarithms.
_MOST_LOST = 2.8
# The least that a word without letters lasts.
_LEAST_S = 0.02

_NOTHING = np.zeros(0, np.float32)
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]]*$")
_ENGLISH = frozenset("abcdefghijklmnopqrstuvwxyz")


class Aligner:
    """A model for CTC that finds a text in a recording; nothing about it changes after loading."""

    def __init__(self, heard: Emissions) -> None:
        self._heard = heard
        self.name, self.weights_sha256 = heard.name, heard.weights_sha256
        self._letters = _Letters(heard.vocabulary)
        self.language = "en" if self._letters.english else None

    def align(self, recording: Recording, text: str) -> Transcript:
        """The text as it is written, a segment for each sentence or line, and when it is said.

        Numbers are aligned as they are read in English; words that the model has no letters for
        get times between their neighbours'. `recording()` may be called twice. InputError: there
        is nothing to align, the recording is too short for the text, or they do not go together.
        """
        sentences = _sentences(text)
        words = [word for sentence in sentences for word in sentence]
        spelt = [self._letters.spell(word) for word in words]
        if not any(spelt):
            raise InputError(
                "the text has nothing that can be heard" if words else "the text is empty",
                hint=f"{self.name} knows the letters {self._letters.known}",
            )
        path, seconds = self._path(recording, self._letters.joined(spelt))
        timed = iter(self._timed(words, spelt, path, seconds))
        segments = tuple(_segment([next(timed) for _ in part], self.language) for part in sentences)
        return Transcript(
            segments=segments,
            language=self.language,
            model=self.name,
            weights_sha256=self.weights_sha256,
        )

    def _path(self, recording: Recording, symbols: Sequence[int]) -> tuple[StatePath, float]:
        """The best way through the text, and the seconds of the recording."""
        states = chain(symbols, self._heard.blank)
        for beam in _BEAMS:
            search, length = Viterbi(states, beam=beam, most=_MOST_STATES), _Length()
            loudest: list[NDArray[np.float32]] = []
            for logprobs in self._heard.logprobs(length.of(recording())):
                search.push(logprobs)
                loudest.append(logprobs.max(1))
            path, seconds = search.finish(), length.samples / RATE
            if path is not None and _fits(path, np.concatenate((*loudest, _NOTHING))):
                return path, seconds
            if sum(map(len, loudest)) < len(symbols):
                raise InputError(
                    f"a text of {len(symbols)} letters in a recording of {seconds:.1f} s",
                    hint="nobody speaks so fast: is it the text of a longer recording?",
                )
        raise InputError(
            "the text does not go with the recording: other words are heard",
            hint=f"is it what is said, in the language that {self.name} knows?",
        )

    def _timed(
        self,
        words: Sequence[str],
        spelt: Sequence[Sequence[int]],
        path: StatePath,
        seconds: float,
    ) -> list[Word]:
        """When each word is said, and how probable its letters are there."""
        begins, ends = path.spans()
        peaks = _peaks(path)
        spans: list[tuple[int, int]] = []
        probabilities: list[float] = []
        place = 0
        for letters in spelt:
            if not letters:
                continue
            # Between words stands a space where the alphabet has one.
            place += self._letters.spaced and bool(spans)
            last = place + len(letters) - 1
            spans.append((int(begins[place]), int(ends[last])))
            probabilities.append(exp(float(peaks[place : last + 1].mean())))
            place = last + 1
        timed = times(spans, self._heard.frame_s, len(path.states))
        sure = iter(
            Word(start_s=start, end_s=min(end, seconds), text="", probability=probability)
            for (start, end), probability in zip(timed, probabilities, strict=True)
        )
        found = [next(sure) if letters else None for letters in spelt]
        return [
            Word(start_s=w.start_s, end_s=w.end_s, text=f" {text}", probability=w.probability)
            for text, w in zip(words, _filled(found, seconds), strict=True)
        ]


class _Letters:
    """Words of a text -> symbols of a model."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        # The first of several symbols that write the same.
        self._symbols = {text: i for i, text in reversed([*enumerate(vocabulary)]) if text.strip()}
        self._longest = max(map(len, self._symbols), default=0)
        self._space = vocabulary.index(" ") if " " in vocabulary else None
        letters = {text.lower() for text in self._symbols if text.isalpha()}
        self.spaced = self._space is not None
        self.english = letters == _ENGLISH
        self.known = "".join(sorted(text for text in self._symbols if len(text) == 1))

    def spell(self, word: str) -> list[int]:
        """The symbols of a word; what the model cannot write is left out.

        Letters that it has only large, or small, or without accents, are taken so.
        """
        said = spoken(word) if self.english else word
        said = unicodedata.normalize("NFC", said.replace("’", "'"))
        # Signs that are not written part words, as in "well-known"; apostrophes are in words.
        apart = (
            letter if letter == "'" or letter in self._symbols or letter.isalnum() else " "
            for letter in said
        )
        parts = [self._part(part.strip("'")) for part in "".join(apart).split()]
        return self.joined(parts)

    def joined(self, words: Sequence[Sequence[int]]) -> list[int]:
        """Words with spaces between them, where the model has one."""
        joined: list[int] = []
        for word in filter(None, words):
            if joined and self._space is not None:
                joined.append(self._space)
            joined += word
        return joined

    def _part(self, text: str) -> list[int]:
        found: list[int] = []
        while text:
            sizes = range(min(self._longest, len(text)), 0, -1)
            tried = ((size, self._symbol(text[:size])) for size in sizes)
            size, symbol = next((pair for pair in tried if pair[1] is not None), (1, None))
            found += [] if symbol is None else [symbol]
            text = text[size:]
        return found

    def _symbol(self, text: str) -> int | None:
        bare = "".join(
            letter
            for letter in unicodedata.normalize("NFD", text)
            if not unicodedata.combining(letter)
        )
        forms = (form for one in (text, bare) for form in (one, one.lower(), one.upper()))
        return next((self._symbols[form] for form in forms if form in self._symbols), None)


@dataclass
class _Length:
    """Counts the samples of a recording while it is read."""

    samples: int = 0

    def of(self, blocks: Blocks) -> Iterator[NDArray[np.float32]]:
        """The blocks as they are."""
        for block in blocks:
            self.samples += len(block)
            yield block


def _sentences(text: str) -> list[list[str]]:
    """The words of each line and, within it, of each sentence."""
    sentences: list[list[str]] = []
    for line in text.lstrip("\ufeff").splitlines():
        ended = True
        for word in line.split():
            if ended:
                sentences.append([])
            sentences[-1].append(word)
            ended = bool(_SENTENCE_END.search(word))
    return sentences


def _peaks(path: StatePath) -> NDArray[np.float32]:
    """How probable each symbol is where it is most probable [N], in logarithms."""
    begins, _ = path.spans()
    said = np.where(path.states % 2 == 1, path.logprobs, -np.inf).astype(np.float32)
    found: NDArray[np.float32] = np.maximum.reduceat(said, begins)
    return found


def _fits(path: StatePath, loudest: NDArray[np.float32]) -> bool:
    """Whether the text is what is said, where it is said; `loudest` [F] are what is heard best."""
    begins, ends = path.spans()
    said = slice(int(begins[0]), int(ends[-1]))
    lost = float((loudest[said] - path.logprobs[said]).sum(dtype=np.float64))
    return lost <= _MOST_LOST * len(begins)


def _filled(words: Sequence[Word | None], seconds: float) -> list[Word]:
    """Words that have no times get what lies between their neighbours, in equal parts."""
    found = list(words)
    place = 0
    while place < len(found):
        if found[place] is not None:
            place += 1
            continue
        end = next((i for i in range(place, len(found)) if found[i] is not None), len(found))
        before = found[place - 1] if place else None
        after = found[end] if end < len(found) else None
        start_s = before.end_s if before else 0.0
        end_s = after.start_s if after else seconds
        if before and end_s - start_s < (end - place) * _LEAST_S:
            # No room: the word before gives half of its own.
            start_s = (before.start_s + before.end_s) / 2
            found[place - 1] = _between(before.start_s, start_s, before.probability)
        elif after and end_s - start_s < (end - place) * _LEAST_S:
            end_s = (after.start_s + after.end_s) / 2
            found[end] = _between(end_s, after.end_s, after.probability)
        edges = np.linspace(start_s, end_s, end - place + 1).tolist()
        for i, (left, right) in enumerate(zip(edges, edges[1:], strict=False), place):
            found[i] = _between(left, right)
        place = end
    return [word for word in found if word is not None]


def _between(start_s: float, end_s: float, probability: float = float("nan")) -> Word:
    return Word(start_s=start_s, end_s=end_s, text="", probability=probability)


def _segment(words: Sequence[Word], language: str | None) -> Segment:
    known = [log(max(word.probability, 1e-9)) for word in words if word.probability >= 0]
    return Segment(
        start_s=words[0].start_s,
        end_s=words[-1].end_s,
        text="".join(word.text for word in words),
        words=tuple(words),
        avg_logprob=sum(known) / len(known) if known else float("nan"),
        language=language,
    )


def load_aligner(
    source: str | Path = "alm-asr",
    *,
    device: str = "auto",
    dtype: str = "float32",
    threads: int | None = None,
) -> Aligner:
    """Load a model for CTC, by catalogue name or from a local folder or file, as an aligner.

    ModelError: it is unknown, damaged, not to be had without a network, or writes no letters.
    """
    place, number = device_of(device), dtype_of(dtype)
    set_threads(threads)
    return Aligner(emissions(load(source), device=place, dtype=number))
