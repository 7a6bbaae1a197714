"""Texts of any length -> speech: line after line, joined, checked if wanted, also in batches."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import AlmError, InputError, UsageError
from alm_cli.systems.joins import Joiner
from alm_cli.systems.proof import Proof, Proofreader
from alm_cli.systems.speaker import Line, Speaker, Spoken
from alm_cli.text.lines import Piece
from alm_cli.values import Word

Samples = NDArray[np.float32]

# How often a line that is not understood is spoken, in all.
_ATTEMPTS = 4
# By how much a whole may miss its duration before its pauses make up for it.
_MISSING_S = 0.02
# How often lines are said until they are as long as they have to be.
_TIMES = 8
_SLOWEST, _FASTEST = 0.1, 10.0


@dataclass(frozen=True, kw_only=True)
class SpeechAsk:
    """How a text is said; as in `Line`, `duration_s` being that of the whole text."""

    seed: int = 0
    voice: object = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    speed: float = 1.0
    duration_s: float | None = None
    before: Spoken | None = None

    def line(self, text: str, place: int, before: Spoken | None, attempt: int = 0) -> Line:
        """The line of a text that stands at `place`, for one of several attempts."""
        return Line(
            text=text,
            seed=seed_of(self.seed, place, attempt),
            voice=self.voice,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            speed=self.speed,
            before=before or self.before,
        )


@dataclass(frozen=True, kw_only=True)
class Said:
    """A piece as it was said: when, in seconds of the whole, its words, seed and model's own view.

    `attempts` were made until it was understood, or the best one of them was kept.
    """

    text: str
    start_s: float
    end_s: float
    pause_s: float
    seed: int
    spoken: Spoken
    words: tuple[Word, ...] = ()
    proof: Proof | None = None
    attempts: int = 1


@dataclass(frozen=True, kw_only=True)
class Speech:
    """A whole text: samples [n] at the speaker's rate, and its pieces in order."""

    samples: Samples
    rate: int
    pieces: tuple[Said, ...]

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


@dataclass(frozen=True)
class Work:
    """A text to be said."""

    pieces: Sequence[Piece]
    ask: SpeechAsk


@dataclass(frozen=True)
class _Take:
    """A line, what it sounds like, and whether that was understood."""

    line: Line
    spoken: Spoken
    proof: Proof | None = None
    attempts: int = 1


# Asks for lines, gets what they sound like, and has the takes that count in the end.
_Talk = Generator[Line, Spoken, list[_Take]]


def seed_of(seed: int, place: int, attempt: int) -> int:
    """The seed of the line at `place`: that of the text for the first one at the first attempt."""
    if not place and not attempt:
        return seed
    digest = hashlib.blake2b(f"{seed} {place} {attempt}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


class Narrator:
    """Says texts with a speaker; with a proofreader what is not understood is said again."""

    def __init__(self, speaker: Speaker, proofreader: Proofreader | None = None) -> None:
        self.speaker, self._proofreader = speaker, proofreader

    def check(self, pieces: Sequence[Piece]) -> None:
        """InputError that names what cannot be said; UsageError where there is nothing to say."""
        if not any(piece.text for piece in pieces):
            raise UsageError("there is nothing to say: the text has no words")
        for piece in pieces:
            if piece.text:
                self.speaker.check(piece.text)

    def say(self, works: Sequence[Work]) -> list[Speech | AlmError]:
        """Texts together: their lines go through the model in batches, one of each text.

        Each sounds as it does alone. What goes wrong with one is its result.
        """
        talks = [self._talk(work) for work in works]
        results: list[Speech | AlmError | None] = [None] * len(works)
        lines: dict[int, Line] = {}

        def advance(place: int, spoken: Spoken | AlmError | None) -> None:
            lines.pop(place, None)
            try:
                if isinstance(spoken, AlmError):
                    raise spoken
                talk = talks[place]
                lines[place] = next(talk) if spoken is None else talk.send(spoken)
            except StopIteration as end:
                results[place] = self._joined(works[place], end.value)
            except AlmError as error:
                results[place] = error

        for place in range(len(works)):
            advance(place, None)
        while lines:
            waiting = dict(lines)
            for place, spoken in zip(waiting, self._lines(list(waiting.values())), strict=True):
                advance(place, spoken)
        return [result for result in results if result is not None]

    def stream(self, work: Work) -> Generator[Samples, None, tuple[Said, ...]]:
        """The samples of a text as soon as they are known, and in the end its pieces.

        Together they are those of `say`. What has to be checked, or to last a given time in several
        lines, is known when all is said.
        """
        one = sum(bool(piece.text) for piece in work.pieces) == 1
        if self._proofreader or (work.ask.duration_s is not None and not one):
            (speech,) = self.say([work])
            if isinstance(speech, AlmError):
                raise speech
            yield speech.samples
            return speech.pieces
        joiner, said, before = Joiner(self.speaker.rate), list[Said](), None
        returns = True
        for place, (piece, last) in enumerate(_spoken_pieces(work.pieces, joiner)):
            line = self._line(work, piece.text, place, before)
            joiner.begin()
            heard, before = list[Samples](), None
            if returns:
                before = yield from self._heard(line, joiner, heard)
            if before is None and last and returns:
                before = Spoken(samples=np.concatenate([np.zeros(0, np.float32), *heard]))
            if before is None:
                # A model that tells nothing but samples has to say the line again for the next one
                # to go on from; once, for from there on lines come whole.
                (before,) = self.speaker.say([line])
                if not returns:
                    yield joiner.push(before.samples)
                returns = False
            yield joiner.end(last=last)
            said.append(_said(piece, _Take(line, before), joiner))
            _pause(piece, joiner, last)
        yield joiner.finish()
        return tuple(said)

    def _heard(
        self, line: Line, joiner: Joiner, heard: list[Samples]
    ) -> Generator[Samples, None, Spoken | None]:
        """The joined samples of a line, all of which `heard` gets; the line, if its model tells."""
        source = iter(self.speaker.stream(line))
        while True:
            try:
                heard.append(next(source))
            except StopIteration as end:
                return end.value if isinstance(end.value, Spoken) else None
            yield joiner.push(heard[-1])

    def _line(
        self, work: Work, text: str, place: int, before: Spoken | None, attempt: int = 0
    ) -> Line:
        line = work.ask.line(text, place, before, attempt)
        one = sum(bool(piece.text) for piece in work.pieces) == 1
        pauses = sum(piece.pause_s for piece in work.pieces)
        if work.ask.duration_s is None or not one:
            return line
        if work.ask.duration_s <= pauses:
            raise UsageError(f"pauses of {pauses:g} s in {work.ask.duration_s:g} s")
        return replace(line, duration_s=work.ask.duration_s - pauses)

    def _lines(self, lines: list[Line]) -> list[Spoken | AlmError]:
        """Lines as one batch; where that fails, each alone, so that one error has one cause."""
        try:
            return list(self.speaker.say(lines))
        except AlmError as error:
            if len(lines) == 1:
                return [error]
            return [self._lines([line])[0] for line in lines]

    def _talk(self, work: Work) -> _Talk:
        """The lines of a text, each said after the one before it."""
        self.check(work.pieces)
        takes, before = list[_Take](), None
        for place, piece in enumerate(piece for piece in work.pieces if piece.text):
            take = yield from self._take(work, piece.text, place, before)
            takes.append(take)
            before = take.spoken
        if work.ask.duration_s is None or len(takes) == 1:
            return takes
        return (yield from self._timed(work, takes))

    def _take(
        self, work: Work, text: str, place: int, before: Spoken | None
    ) -> Generator[Line, Spoken, _Take]:
        """The first take of a line that is understood, or the best one."""
        best: _Take | None = None
        for attempt in range(_ATTEMPTS if self._proofreader else 1):
            line = self._line(work, text, place, before, attempt)
            spoken = yield line
            if self._proofreader is None:
                return _Take(line, spoken)
            proof = self._proofreader.proof(text, spoken.samples, self.speaker.rate)
            if best is None or best.proof is None or proof.error < best.proof.error:
                best = _Take(line, spoken, proof)
            best = replace(best, attempts=attempt + 1)
            if proof.good:
                break
        assert best is not None
        return best

    def _timed(self, work: Work, takes: Sequence[_Take]) -> _Talk:
        """The same lines again, each as much longer or shorter as the whole has to become."""
        assert work.ask.duration_s is not None
        untimed = replace(work, ask=replace(work.ask, duration_s=None))
        pauses = sum(piece.pause_s for piece in work.pieces)
        wanted, ratio, timed = work.ask.duration_s - pauses, 1.0, takes
        # Silence at the edges of lines is cut, which is not as much longer or shorter as they are:
        # what is still too long is said a little too short, and silence takes the rest.
        for again in range(_TIMES):
            natural = self._joined(untimed, timed).seconds
            beyond = natural - work.ask.duration_s
            if timed is not takes and -(again + 1) * _MISSING_S <= beyond <= _MISSING_S:
                break
            ratio *= (wanted - again * _MISSING_S) / max(1e-3, natural - pauses)
            if not _SLOWEST <= ratio <= _FASTEST:
                raise UsageError(
                    f"{natural:.1f} s of speech cannot be said in {work.ask.duration_s:g} s",
                    hint="give another --duration, or a shorter text",
                )
            timed = yield from self._again(work, takes, ratio)
            if not all(piece.exact for piece in work.pieces[:-1]):
                break  # the pauses take the rest
        return [*timed]

    def _again(self, work: Work, takes: Sequence[_Take], ratio: float) -> _Talk:
        """The same lines, each so many times as long."""
        timed, before = list[_Take](), work.ask.before
        for take in takes:
            duration_s = max(0.02, len(take.spoken.samples) / self.speaker.rate * ratio)
            line = replace(take.line, duration_s=duration_s, before=before)
            before = yield line
            timed.append(replace(take, line=line, spoken=before))
        return timed

    def _joined(self, work: Work, takes: Sequence[_Take]) -> Speech:
        """The takes with their pauses; of the duration that was asked for, to the sample."""
        speech = _mixed(work.pieces, takes, self.speaker.rate)
        if work.ask.duration_s is None:
            return speech
        wanted, rate = round(work.ask.duration_s * self.speaker.rate), self.speaker.rate
        free = [place for place, piece in enumerate(work.pieces[:-1]) if not piece.exact]
        missing = (wanted - len(speech.samples)) / rate
        if abs(missing) > 1 / rate and free:
            pieces = list(work.pieces)
            for place in free:
                more = max(0.0, pieces[place].pause_s + missing / len(free))
                pieces[place] = replace(pieces[place], pause_s=more)
            speech = _mixed(pieces, takes, self.speaker.rate)
        excess = len(speech.samples) - wanted
        if excess > _MISSING_S * rate:
            raise InputError(f"{speech.seconds:.2f} s cannot be made {work.ask.duration_s:g} s")
        samples = np.concatenate([speech.samples[:wanted], np.zeros(max(0, -excess), np.float32)])
        return replace(speech, samples=samples)


def _mixed(pieces: Sequence[Piece], takes: Sequence[_Take], rate: int) -> Speech:
    """The takes of the pieces that have words, with the pauses between."""
    joiner, parts, said = Joiner(rate), list[Samples](), list[Said]()
    every = zip(_spoken_pieces(pieces, joiner), takes, strict=True)
    for (piece, last), take in every:
        joiner.begin()
        parts.append(joiner.push(take.spoken.samples))
        parts.append(joiner.end(last=last))
        said.append(_said(piece, take, joiner))
        _pause(piece, joiner, last)
    parts.append(joiner.finish())
    return Speech(samples=np.concatenate(parts), rate=rate, pieces=tuple(said))


def joined(pieces: Sequence[Piece], spoken: Sequence[Spoken], rate: int) -> Speech:
    """What was spoken before for the pieces that have words, with the pauses between, again."""
    takes = [_Take(Line(text=""), one) for one in spoken]
    return _mixed(pieces, takes, rate)


def _spoken_pieces(pieces: Sequence[Piece], joiner: Joiner) -> Iterator[tuple[Piece, bool]]:
    """Each piece with words, and whether the whole ends with it and no pause."""
    for place, piece in enumerate(pieces):
        if piece.text:
            yield piece, place == len(pieces) - 1 and not piece.pause_s
        else:
            joiner.pause(round(piece.pause_s * joiner.rate))


def _pause(piece: Piece, joiner: Joiner, last: bool) -> None:
    if not last:
        joiner.pause(round(piece.pause_s * joiner.rate))


def _said(piece: Piece, take: _Take, joiner: Joiner) -> Said:
    """The piece that was just joined, its times counted from the beginning of the whole."""
    rate = joiner.rate
    shift, end = joiner.offset / rate, joiner.length / rate
    words = tuple(
        replace(
            word,
            start_s=min(max(0.0, word.start_s + shift), end),
            end_s=min(max(0.0, word.end_s + shift), end),
        )
        for word in take.spoken.words
    )
    start = max(0.0, shift)
    return Said(
        text=piece.text,
        start_s=words[0].start_s if words else start,
        end_s=words[-1].end_s if words else end,
        pause_s=piece.pause_s,
        seed=take.line.seed,
        spoken=take.spoken,
        words=words,
        proof=take.proof,
        attempts=take.attempts,
    )
