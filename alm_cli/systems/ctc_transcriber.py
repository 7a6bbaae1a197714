"""Recordings -> segments of words with their times, by any model for CTC, however long they are.

The model hears windows with context on both sides; what it writes is cut at pauses, so that a
segment is final as soon as its pause has been heard.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from math import exp, log
from statistics import fmean

import numpy as np
import torch

from alm_cli.checkpoints.fetch import ASSETS
from alm_cli.checkpoints.load import Loaded
from alm_cli.decoding.ctc import Hotwords, Spike, greedy, prefix_beam
from alm_cli.decoding.hmm import chain, viterbi
from alm_cli.decoding.lexicon_search import Words, search
from alm_cli.errors import UsageError
from alm_cli.systems.emissions import FILE, LIVE, Emissions, Logprobs, emissions, times
from alm_cli.systems.transcriber import RATE, Recording, TranscribeAsk, whole
from alm_cli.text.phonemes import PHONEMES, english
from alm_cli.values import Audio, Segment, Transcript, Word

# Seconds without a letter that end a segment, and the longest that a segment may be.
_PAUSE_S = 0.7
_LONGEST_S = 30.0
# Sounds may be heard so long before the first letter.
_LEAD_S = 0.3
# A segment that is cut for its length is not cut before.
_EARLIEST_S = 10.0
# How probable it is that a letter is heard, whichever: less sure words, and segments on the mean of
# their letters, are noise.
_LEAST_WORD = 0.5
_LEAST_SEGMENT = 0.75
# A letter alone is a knock or a note.
_LEAST_LETTERS = 2
# Music sounds like letters, though not like certain ones: the mean probability of a segment's
# letters, counted as if one more had not been heard, so that few letters must be surer.
_LEAST_CERTAIN = 0.38
# Samples in the unit of Segment.seek.
_SEEK = RATE // 100
# Symbols that are less probable are not tried by the beam; and how many texts that holds.
_LEAST_TRIED = -6.0
_BEAM = 12
# What each letter of a hotword gains, and what one costs at most, where words have a cost.
_WANTED, _COST = 1.5, 2.0

# A word as it is written, its tokens, and what is heard of it.
_Read = tuple[str, tuple[int, ...], Sequence[Spike]]

_ENGLISH = frozenset("abcdefghijklmnopqrstuvwxyz'")


class CtcTranscriber:
    """A model for CTC as a recogniser; nothing about it changes after loading.

    Where it tells of the sounds of English, it looks for the words that they make; else it writes
    the letters that are most probable in each frame, or, given `hotwords`, those that a beam finds.
    Whisper's prompts, temperatures and thresholds mean nothing to it.
    """

    def __init__(self, heard: Emissions) -> None:
        self._heard = heard
        self.name, self.weights_sha256 = heard.name, heard.weights_sha256
        letters = {letter for text in heard.vocabulary for letter in text} - {" "}
        # Models that know small letters alone leave it to us where sentences begin.
        self._restores = letters == _ENGLISH
        self.language = "en" if self._restores else None
        self._looks_up = heard.sounds == ("", *PHONEMES)

    def segments(self, recording: Recording, ask: TranscribeAsk) -> Iterator[Segment]:
        """Each segment as soon as its pause has been heard; words always have times.

        UsageError: the model cannot do what is asked.
        """
        return self._from(recording, ask, self._language(ask), 0)

    def resume(
        self,
        recording: Recording,
        ask: TranscribeAsk,
        earlier: Iterable[Segment],  # noqa: ARG002 - nothing depends on them
        seek: int,
    ) -> Iterator[Segment]:
        """The segments from the one whose `seek` is told, as if all had been done."""
        return self._from(recording, ask, self._language(ask), seek)

    def _from(
        self, recording: Recording, ask: TranscribeAsk, language: str | None, seek: int
    ) -> Iterator[Segment]:
        hop = self._heard.model.hop
        first = seek * _SEEK // hop
        wanted = self._wanted(ask.hotwords)
        if self._looks_up:
            cutter = _Cutter(self._heard, first, words=_favouring(tuple(wanted)))
        else:
            cutter = _Cutter(self._heard, first, hotwords=self._hotwords(wanted))
        windows = LIVE if ask.stream else FILE
        for begun, said in cutter.cut(self._heard.logprobs(recording(), windows, begin=first)):
            segment = self._segment(said, language, begun * hop // _SEEK)
            if segment is not None:
                yield segment

    def transcribe(self, audio: Audio, ask: TranscribeAsk = TranscribeAsk()) -> Transcript:
        """All of a recording."""
        return whole(self, audio, ask, self._language(ask))

    def _language(self, ask: TranscribeAsk) -> str | None:
        """What is spoken, as far as is known."""
        wanted = {ask.language, *ask.languages} - {None}
        alien = self.language == "en" and wanted and not wanted & {"en", "English", "english"}
        unable = {
            "translate": ask.task == "translate",
            f"write {', '.join(sorted(map(str, wanted)))}": bool(alien),
            "take a prompt or a prefix": bool(ask.initial_prompt or ask.prefix),
            "begin and end where it is told": ask.clip_timestamps not in ((), (0.0,)),
        }
        for what, asked in unable.items():
            if asked:
                hint = "a model of Whisper's family can: --model whisper-tiny"
                raise UsageError(f"{self.name} cannot {what}", hint=hint)
        return self.language or ask.language

    def _wanted(self, text: str | None) -> list[str]:
        """The hotwords, in letters that the model has."""
        letters = {letter for text in self._heard.vocabulary for letter in text}
        small = not any(letter.isupper() for letter in letters)
        said = (text or "").replace(",", " ")
        words = (said.lower() if small else said.upper()).split()
        return list(filter(None, ("".join(filter(letters.__contains__, word)) for word in words)))

    def _hotwords(self, wanted: Sequence[str]) -> Hotwords | None:
        return Hotwords(wanted, self._heard.vocabulary, per_letter=_WANTED) if wanted else None

    def _segment(self, words: Sequence[_Said], language: str | None, seek: int) -> Segment | None:
        """What is sure enough of the words of a stretch; None if nothing is."""
        sure = [word for word in words if word.sound >= _LEAST_WORD]
        peaks = [spike.probability for word in sure for spike in word.spikes]
        if len(peaks) < _LEAST_LETTERS or fmean(word.sound for word in sure) < _LEAST_SEGMENT:
            return None
        if sum(peaks) < _LEAST_CERTAIN * (len(peaks) + 1):
            return None
        texts = [word.text for word in sure]
        texts = sentence(texts) if self._restores else texts
        found = tuple(
            Word(
                start_s=word.start_s,
                end_s=word.end_s,
                text=f" {text}",
                probability=word.probability,
            )
            for text, word in zip(texts, sure, strict=True)
        )
        return Segment(
            start_s=found[0].start_s,
            end_s=found[-1].end_s,
            text="".join(word.text for word in found),
            words=found,
            tokens=tuple(token for word in sure for token in word.tokens),
            seek=seek,
            avg_logprob=fmean(log(max(peak, 1e-9)) for peak in peaks),
            language=language,
        )


@dataclass(frozen=True)
class _Said:
    """A word: what of it is heard, its letters, how surely any are heard, and when it is said."""

    spikes: tuple[Spike, ...]
    tokens: tuple[int, ...]
    text: str
    sound: float
    start_s: float
    end_s: float

    @property
    def probability(self) -> float:
        """The geometric mean of what is heard of it."""
        return exp(fmean(log(max(spike.probability, 1e-9)) for spike in self.spikes))


class _Cutter:
    """Log-probabilities as they come -> the words of one segment after another.

    All decisions follow from the frames alone, not from how many of them came at a time.
    """

    def __init__(
        self,
        heard: Emissions,
        first: int = 0,
        *,
        hotwords: Hotwords | None = None,
        words: Words | None = None,
    ) -> None:
        self._heard, self._hotwords, self._lexicon = heard, hotwords, words
        self._pause = round(_PAUSE_S / heard.frame_s)
        self._lead = round(_LEAD_S / heard.frame_s)
        self._longest = round(_LONGEST_S / heard.frame_s)
        self._earliest = round(_EARLIEST_S / heard.frame_s)
        self._spaced = any(" " in text for text in heard.vocabulary)
        self._letters = len(heard.vocabulary)
        silent = [i for i, text in enumerate(heard.vocabulary) if not text.strip()]
        self._silent = [self._letters] if words is not None else sorted({*silent, heard.blank})
        self._rows: Logprobs = np.zeros((0, self._letters + len(heard.sounds)), np.float32)
        self._first = first  # the number of the first of these frames
        self._begun = first  # the frame before which everything has been said

    def cut(self, logprobs: Iterator[Logprobs]) -> Iterator[tuple[int, list[_Said]]]:
        """Log-probabilities [n, V + S] of the next frames -> the segments that are over.

        Of each, its words and the first frame that could have been one of theirs.
        """
        for rows in logprobs:
            self._rows = np.concatenate((self._rows, rows))
            yield from self._over(last=False)
        yield from self._over(last=True)

    def _over(self, last: bool) -> Iterator[tuple[int, list[_Said]]]:
        """The segments that are over; their frames are forgotten."""
        known = self._first + len(self._rows)
        for stretch in _stretches(self._words(self._rows, self._first), self._pause):
            end = stretch[-1][-1].end
            closed = last or known - end >= self._pause
            # The last word of what is not over may go on.
            while place := self._cut(stretch if closed else stretch[:-1]):
                yield self._segment(stretch[:place], stretch[place][0].begin)
                stretch = stretch[place:]
            if not closed:
                return
            yield self._segment(stretch, known if last else min(known, end + self._pause))
        self._forget(max(self._begun, known - self._lead))

    def _words(self, rows: Logprobs, first: int) -> list[list[Spike]]:
        """Rows [n, V + S] from the frame `first` on -> the letters of each word."""
        spikes = greedy(rows[:, : self._letters], self._heard.blank)
        return self._grouped(_later(spike, first) for spike in spikes)

    def _grouped(self, spikes: Iterable[Spike]) -> list[list[Spike]]:
        """Symbols -> words of them: a space ends one, and so does a pause.

        Where the alphabet has no space every symbol is a word.
        """
        words: list[list[Spike]] = []
        ended = True
        for spike in spikes:
            text = self._heard.vocabulary[spike.symbol]
            if not text.strip():
                ended = ended or bool(text)
                continue
            begun = words[-1] if words else [spike]
            pause = spike.begin - begun[-1].end >= self._pause
            endless = spike.end - begun[0].begin > self._longest
            if ended or pause or endless or text[0] == " " or not self._spaced:
                words.append([])
            words[-1].append(spike)
            ended = text[-1] == " "
        return words

    def _cut(self, words: Sequence[Sequence[Spike]]) -> int:
        """Before which word a segment ends because it would be too long with all; 0 if it is not.

        Where the silence between words is longest, though not too early.
        """
        start = words[0][0].begin if words else 0
        long = (n for n, word in enumerate(words) if n and word[-1].end - start > self._longest)
        most = next(long, 0)
        places = range(1, most + 1)
        late = [n for n in places if words[n][0].begin - start >= self._earliest]
        return max(
            late or places, key=lambda n: (words[n][0].begin - words[n - 1][-1].end, n), default=0
        )

    def _segment(self, words: list[list[Spike]], until: int) -> tuple[int, list[_Said]]:
        """A segment after which nothing is said before the frame `until`."""
        begin = words[0][0].begin
        if self._lexicon is not None:
            read = self._looked_up(max(self._begun, begin - self._lead), until, self._lexicon)
        elif self._hotwords is not None:
            read = [self._read(word) for word in self._searched(begin, until, self._hotwords)]
        else:
            read = [self._read(word) for word in words]
        heard = [spikes for _, _, spikes in read]
        spans = [(word[0].begin, word[-1].end) for word in heard]
        timed = times(spans, self._heard.frame_s, until, after=self._begun)
        begun, self._begun = self._begun, until
        sounds = self._sounds(heard)
        self._forget(until)
        said = zip(read, sounds, timed, strict=True)
        return begun, [
            _Said(tuple(spikes), tokens, text, sound, *when)
            for (text, tokens, spikes), sound, when in said
        ]

    def _read(self, word: Sequence[Spike]) -> _Read:
        """A word as its letters write it."""
        tokens = tuple(spike.symbol for spike in word)
        return "".join(self._heard.vocabulary[t] for t in tokens).strip(), tokens, word

    def _sounds(self, words: Iterable[Sequence[Spike]]) -> list[float]:
        """How probable it is that anything is heard, in the mean of what is of each word."""
        silences = np.exp(self._rows[:, self._silent]).sum(1)
        return [
            fmean(
                1 - float(silences[spike.begin - self._first : spike.end - self._first].min())
                for spike in word
            )
            for word in words
        ]

    def _looked_up(self, begin: int, until: int, lexicon: Words) -> list[_Read]:
        """The words from the frame `begin` to `until` that its sounds make."""
        rows = self._rows[begin - self._first : until - self._first, self._letters :]
        places = {letter: place for place, letter in enumerate(self._heard.vocabulary)}
        return [
            (
                found.text,
                tuple(places[letter] for letter in found.text),
                [_later(spike, begin) for spike in found.spikes],
            )
            for found in search(rows, lexicon)
        ]

    def _searched(self, begin: int, until: int, hotwords: Hotwords) -> list[list[Spike]]:
        """The words from the frame `begin` to `until`, some of them favoured."""
        rows = self._rows[begin - self._first : until - self._first, : self._letters]
        best = prefix_beam(
            rows, self._heard.blank, width=_BEAM, least=_LEAST_TRIED, favours=hotwords
        )
        symbols = best[0].symbols
        states = chain(symbols, self._heard.blank)
        path = viterbi(rows, states, likely=True)
        if path is None or not symbols:
            return []
        return self._grouped(
            Spike(symbol, begin + first, begin + end, exp(float(path.logprobs[first:end].max())))
            for symbol, first, end in zip(symbols, *path.spans(), strict=True)
        )

    def _forget(self, frame: int) -> None:
        """Drop what was heard before a frame."""
        self._rows = self._rows[frame - self._first :].copy()
        self._first = frame


def _stretches(words: Iterable[list[Spike]], pause: int) -> list[list[list[Spike]]]:
    """Words between which there is no pause of so many frames."""
    found: list[list[list[Spike]]] = []
    for word in words:
        if not found or word[0].begin - found[-1][-1][-1].end >= pause:
            found.append([])
        found[-1].append(word)
    return found


def _later(spike: Spike, frames: int) -> Spike:
    return replace(spike, begin=spike.begin + frames, end=spike.end + frames)


@cache
def english_words() -> Words:
    """The words of English that ship in the package, by the sounds of `PHONEMES`, from 1."""
    return Words.load(ASSETS / "english" / "words.npz")


@lru_cache(maxsize=4)
def _favouring(wanted: tuple[str, ...]) -> Words:
    """The same, and some words that cost little even if nobody knew them: a second's work."""
    numbers = {sound: place for place, sound in enumerate(PHONEMES, 1)}
    spoken = {word: [numbers[s] for s in english().phonemes(word)] for word in wanted}
    return english_words().favouring({word: way for word, way in spoken.items() if way}, _COST)


def sentence(words: Sequence[str]) -> list[str]:
    """Words of a stretch of speech in small letters -> as a sentence of English is written."""
    said = [f"I{word[1:]}" if word.split("'")[0] == "i" else word for word in words]
    said[0] = said[0][:1].upper() + said[0][1:]
    said[-1] += "."
    return said


def ctc_transcriber(
    loaded: Loaded, *, device: torch.device, dtype: torch.dtype = torch.float32, batch: int = 1
) -> CtcTranscriber:
    """A loaded model as a recogniser. ModelError: it has no letters to write."""
    heard = emissions(loaded, device=device, dtype=dtype, batch=batch, sounds=True)
    return CtcTranscriber(heard)
