"""Recordings -> segments of words with their times, by any model for CTC, however long they are.

The model hears windows with context on both sides; what it writes is cut at pauses, so that a
segment is final as soon as its pause has been heard.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import exp, log
from statistics import fmean

import numpy as np
import torch

from alm_cli.checkpoints.fetch import ASSETS
from alm_cli.checkpoints.load import Loaded
from alm_cli.decoding.ctc import Favours, Hotwords, Spike, greedy, prefix_beam
from alm_cli.decoding.hmm import Viterbi, chain, viterbi
from alm_cli.decoding.spelling import Spelling, Together
from alm_cli.errors import UsageError
from alm_cli.systems.emissions import FILE, LIVE, Emissions, Logprobs, emissions, times
from alm_cli.systems.transcriber import RATE, Recording, TranscribeAsk, whole
from alm_cli.values import Audio, Segment, Transcript, Word

# Seconds without a letter that end a segment, and the longest that a segment may be.
_PAUSE_S = 0.7
_LONGEST_S = 30.0
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
_LEAST_CERTAIN = 0.47
# Samples in the unit of Segment.seek.
_SEEK = RATE // 100
# Symbols that are less probable are not tried by the beam; and how many texts that holds.
_LEAST_TRIED = -6.0
_BEAM = 12
_WAY = 100.0
# What spelling counts against sound, and what makes up for it with each letter.
_SPELLING, _LETTER = 0.5, 0.8
# What each letter of a hotword gains; rare words are spelt improbably.
_WANTED = 1.5

_ENGLISH = frozenset("abcdefghijklmnopqrstuvwxyz'")


class CtcTranscriber:
    """A model for CTC as a recogniser; nothing about it changes after loading.

    Where it writes small letters of English, and no others, it searches by a beam that knows how
    they are spelt; `hotwords` are favoured by a beam too. Else it writes what is most probable in
    each frame. Whisper's prompts, temperatures and thresholds mean nothing to it.
    """

    def __init__(self, heard: Emissions) -> None:
        self._heard = heard
        self.name, self.weights_sha256 = heard.name, heard.weights_sha256
        letters = {letter for text in heard.vocabulary for letter in text} - {" "}
        # Models that know small letters alone leave it to us where sentences begin.
        self._restores = letters == _ENGLISH
        self.language = "en" if self._restores else None

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
        cutter = _Cutter(self._heard, self._favours(ask.hotwords), first)
        windows = LIVE if ask.stream else FILE
        for begun, words in cutter.cut(self._heard.logprobs(recording(), windows, begin=first)):
            segment = self._segment(words, language, begun * hop // _SEEK)
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

    def _favours(self, hotwords: str | None) -> Favours | None:
        """What texts gain over others, if there is a search."""
        found: list[Favours] = []
        if self._restores:
            found.append(english(self._heard.vocabulary))
        if wanted := self._hotwords(hotwords):
            found.append(wanted)
        return Together(*found) if len(found) > 1 else next(iter(found), None)

    def _hotwords(self, text: str | None) -> Hotwords | None:
        """The wanted words, in letters that the model has."""
        vocabulary = self._heard.vocabulary
        letters = {letter for text in vocabulary for letter in text}
        small = not any(letter.isupper() for letter in letters)
        said = (text or "").replace(",", " ")
        words = (said.lower() if small else said.upper()).split()
        known = ["".join(filter(letters.__contains__, word)) for word in words]
        return Hotwords(known, vocabulary, per_letter=_WANTED) if any(known) else None

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
            tokens=tuple(spike.symbol for word in sure for spike in word.spikes),
            seek=seek,
            avg_logprob=fmean(log(max(peak, 1e-9)) for peak in peaks),
            language=language,
        )


@dataclass(frozen=True)
class _Said:
    """A word: its letters, what they write, how surely any are heard, and when it is said."""

    spikes: tuple[Spike, ...]
    text: str
    sound: float
    start_s: float
    end_s: float

    @property
    def probability(self) -> float:
        """The geometric mean of its letters."""
        return exp(fmean(log(max(spike.probability, 1e-9)) for spike in self.spikes))


class _Cutter:
    """Log-probabilities as they come -> the words of one segment after another.

    All decisions follow from the frames alone, not from how many of them came at a time.
    """

    def __init__(self, heard: Emissions, favours: Favours | None, first: int = 0) -> None:
        self._heard, self._favours = heard, favours
        self._pause = round(_PAUSE_S / heard.frame_s)
        self._longest = round(_LONGEST_S / heard.frame_s)
        self._earliest = round(_EARLIEST_S / heard.frame_s)
        self._spaced = any(" " in text for text in heard.vocabulary)
        silent = [i for i, text in enumerate(heard.vocabulary) if not text.strip()]
        self._silent = sorted({*silent, heard.blank})
        self._rows: Logprobs = np.zeros((0, len(heard.vocabulary)), np.float32)
        self._first = first  # the number of the first of these frames
        self._begun = first  # the frame before which everything has been said

    def cut(self, logprobs: Iterator[Logprobs]) -> Iterator[tuple[int, list[_Said]]]:
        """Log-probabilities [n, V] of the next frames -> the segments that are over.

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
        self._forget(known)

    def _words(self, rows: Logprobs, first: int) -> list[list[Spike]]:
        """Rows [n, V] from the frame `first` on -> the letters of each word."""
        return self._grouped(
            Spike(spike.symbol, spike.begin + first, spike.end + first, spike.probability)
            for spike in greedy(rows, self._heard.blank)
        )

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
        if self._favours is not None:
            words = self._searched(words[0][0].begin, until)
        sounds = self._sounds(words)
        spans = [(word[0].begin, word[-1].end) for word in words]
        timed = times(spans, self._heard.frame_s, until, after=self._begun)
        begun, self._begun = self._begun, until
        self._forget(until)
        texts = ["".join(self._heard.vocabulary[s.symbol] for s in word).strip() for word in words]
        said = zip(words, texts, sounds, timed, strict=True)
        return begun, [_Said(tuple(word), text, sound, *when) for word, text, sound, when in said]

    def _sounds(self, words: Iterable[Sequence[Spike]]) -> list[float]:
        """How probable it is that a letter is heard, in the mean of those of each word."""
        silences = np.exp(self._rows[:, self._silent]).sum(1)
        return [
            fmean(
                1 - float(silences[spike.begin - self._first : spike.end - self._first].min())
                for spike in word
            )
            for word in words
        ]

    def _searched(self, begin: int, until: int) -> list[list[Spike]]:
        """The words from the frame `begin` to `until` with favours."""
        rows = self._rows[begin - self._first : until - self._first]
        best = prefix_beam(
            rows, self._heard.blank, width=_BEAM, least=_LEAST_TRIED, favours=self._favours
        )
        symbols = best[0].symbols
        states = chain(symbols, self._heard.blank)
        # What was found is nowhere improbable, so that ways far below it need not be followed.
        search = Viterbi(states, beam=_WAY)
        search.push(rows)
        path = search.finish() or viterbi(rows, states)
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


@cache
def english(vocabulary: tuple[str, ...]) -> Spelling:
    """The spelling of English, for the symbols of a model."""
    with np.load(ASSETS / "spelling" / "english.npz", allow_pickle=False) as file:
        letters, contexts, rows = str(file["letters"]), file["contexts"], file["rows"]
    return Spelling(letters, contexts, rows, vocabulary, weight=_SPELLING, bonus=_LETTER)


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
    return CtcTranscriber(emissions(loaded, device=device, dtype=dtype, batch=batch))
