"""A prompt -> what the music is to be.

What words decide, they decide alike in any order; the rest is chosen by a seed from what is usual.
Where words contradict each other, what is denied is left out, a number counts more than a word, a
word more than a mood, and what comes first more than what follows; of two genres side by side the
last names the thing (folk rock is rock). What then has no effect is told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from alm_cli.music.dice import Dice
from alm_cli.music.genres import FASTEST_BPM, GENRES, MOODS, SLOWEST_BPM
from alm_cli.music.phrases import Said, said_in
from alm_cli.music.score import DRUMS, MODES, NAMES, TONICS, Tags
from alm_cli.music.vocabulary import Kind

_ACCOMPANY = frozenset(("bass", DRUMS))
_MAJOR_THIRDS = ("major", "mixolydian")
_METERS = ("4/4", "3/4", "6/8")
# Faster, the eighths of 6/8 are no longer heard one by one.
_FASTEST_COMPOUND_BPM = 104
_MOST_TOLD = 8


@dataclass(frozen=True)
class Reading:
    """What was made of a prompt.

    `decided` are its phrases and what each of them set; `unheeded` its words without a meaning
    here; `notes` say what was meant and could not be done, or not exactly.
    """

    tags: Tags
    decided: tuple[tuple[str, str], ...]
    unheeded: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def remarks(self) -> tuple[str, ...]:
        """All that a user should be told, a sentence each."""
        if not self.unheeded:
            return self.notes
        told = ", ".join(self.unheeded[:_MOST_TOLD])
        more = len(self.unheeded) - _MOST_TOLD
        return (*self.notes, f"no effect: {told}{f' and {more} more' if more > 0 else ''}")


def read_prompt(text: str, seed: int) -> Reading:
    """What the words decide, and what the seed does of all the rest; any text has a reading.

    In a genre the seed chooses each thing by itself: another word changes only what it decides.
    """
    said, unknown = said_in(text)
    chooser = _Chooser(said, seed)
    tags = chooser.tags()
    unheeded = [phrase.words for phrase in said if phrase.meaning.kind == "none"
                and not phrase.denied] + unknown  # fmt: skip
    idle = [
        f"{words!r} has no effect beside {other!r}"
        for words, other in chooser.idle.items()
        if words not in chooser.decided
    ]
    return Reading(
        tags=tags,
        decided=tuple(chooser.decided.items()),
        unheeded=tuple(dict.fromkeys(unheeded)),
        notes=tuple(dict.fromkeys([*chooser.notes, *idle])),
    )


@dataclass
class _Chooser:
    said: Sequence[Said]
    seed: int
    decided: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    idle: dict[str, str] = field(default_factory=dict)
    genre: str = ""

    def tags(self) -> Tags:
        moods = self._wanted("mood")
        mood = moods[0].meaning.value if moods else "neutral"
        for phrase in moods:
            self._set(phrase, f"mood {phrase.meaning.value}")
        pace = self._pull("pace")
        tempo = self._tempo()
        meter = self._first("meter")
        tonic, mode = self._key()
        genre = self.genre = self._genre(tempo, meter, mode)
        meter = meter or self._meter(genre, tempo)
        return Tags(
            genre=genre,
            instruments=self._instruments(genre),
            bpm=self._bpm(genre, meter, tempo, pace),
            tonic=self._dice("tonic").pick(range(12)) if tonic is None else tonic,
            mode=mode or self._mode(genre, bare=tonic is not None),
            meter=meter,
            mood=str(mood),
            density=self._density(genre),
            section=self._first("section") or "whole",
        )

    def _dice(self, what: str) -> Dice:
        return Dice(f"{what} {self.genre} {self.seed}")

    def _wanted(self, kind: Kind) -> list[Said]:
        return [s for s in self.said if s.meaning.kind == kind and not s.denied]

    def _denied(self, kind: Kind) -> list[Said]:
        return [s for s in self.said if s.meaning.kind == kind and s.denied]

    def _denied_values(self, kind: Kind) -> set[Any]:
        """What must not be, told as decided."""
        for phrase in self._denied(kind):
            self._set(phrase, f"no {_named(phrase.meaning.value)}")
        return {phrase.meaning.value for phrase in self._denied(kind)}

    def _set(self, phrase: Said, what: str) -> None:
        known = self.decided.get(phrase.words)
        if known is None:
            self.decided[phrase.words] = what
        elif what not in known.split(", "):
            self.decided[phrase.words] = f"{known}, {what}"
        if phrase.meaning.near:
            self.notes.append(f"{phrase.words!r}: the nearest is {_named(phrase.meaning.value)}")

    def _first(self, kind: Kind) -> str | None:
        """The value that counts, of those that exclude each other."""
        strong = [phrase for phrase in self._wanted(kind) if not phrase.meaning.weak]
        if kind == "genre":
            strong = self._nouns(strong)
        denied = self._denied_values(kind) if kind != "section" else set()
        for phrase in strong or self._wanted(kind)[:1]:
            if phrase.meaning.value in denied:
                self.notes.append(f"{phrase.words!r} is both asked for and denied")
                continue
            value = str(phrase.meaning.value)
            self._set(phrase, f"{kind} {value}")
            self._others(strong, phrase)
            return value
        return None

    def _nouns(self, genres: list[Said]) -> list[Said]:
        """Genres without those that only qualify the next."""
        nouns = []
        for number, genre in enumerate(genres):
            after = genres[number + 1] if number + 1 < len(genres) else None
            adjacent = after is not None and genre.place + genre.count == after.place
            if adjacent and after is not None and after.meaning.value != genre.meaning.value:
                self.idle[genre.words] = after.words
            else:
                nouns.append(genre)
        return nouns

    def _others(self, phrases: Iterable[Said], counts: Said) -> None:
        for other in phrases:
            if other.meaning.value != counts.meaning.value:
                self.idle[other.words] = counts.words

    def _pull(self, what: str) -> float:
        """Where the moods draw pace or density; one denied draws away from where it would."""
        wanted = [getattr(MOODS[str(s.meaning.value)], what) for s in self._wanted("mood")]
        away = [-getattr(MOODS[str(v)], what) for v in self._denied_values("mood")]
        pulls = wanted or away
        return sum(pulls) / len(pulls) if pulls else 0.0

    def _tempo(self) -> tuple[float, float] | None:
        """The range of tempi that numbers, or else words, leave."""
        wanted = self._wanted("bpm")
        if wanted:
            phrase = wanted[0]
            low, high = _limits(phrase.meaning.value)
            if (low, high) != phrase.meaning.value:
                limit = "from 60 to 180 bpm"
                self.notes.append(f"{phrase.words!r} is taken as {low:g} bpm: music is {limit}")
            self._set(phrase, f"tempo {low:g}" + (f" to {high:g}" if high > low else ""))
            self._others(wanted, phrase)
            for other in self._wanted("tempo"):
                slowest, fastest = _limits(other.meaning.value)
                if fastest < low or slowest > high:
                    self.idle[other.words] = phrase.words
                else:
                    low, high = max(low, slowest), min(high, fastest)
            return low, high
        span: tuple[float, float] | None = None
        before = ""
        for phrase in [*self._wanted("tempo"), *self._denied("tempo")]:
            low, high = _limits(phrase.meaning.value)
            if phrase.denied:
                low, high = (SLOWEST_BPM, low - 1) if low > 110 else (high + 1, FASTEST_BPM)
            both = (low, high) if span is None else (max(span[0], low), min(span[1], high))
            if both[0] > both[1]:
                self.idle[phrase.words] = before
                continue
            span, before = both, phrase.words
            self._set(phrase, f"tempo {low:g} to {high:g}")
        return span

    def _key(self) -> tuple[int | None, str | None]:
        keys = [key for key in self._wanted("key") if isinstance(key.meaning.value, tuple)]
        tonic = mode = None
        if keys:
            name, told = (str(part) for part in keys[0].meaning.value)  # type: ignore[union-attr]
            tonic, mode = TONICS.index(name), told or None
            self._set(keys[0], f"key {name} {told}".strip())
            self._others(keys, keys[0])
        if mode is None:
            return tonic, self._first("mode")
        self._others([s for s in self._wanted("mode") if s.meaning.value != mode], keys[0])
        return tonic, mode

    def _genre(self, tempo: tuple[float, float] | None, meter: str | None, mode: str | None) -> str:
        """The genre that is said, or one of those to which the most of what is said is usual."""
        said = self._first("genre")
        if said is not None:
            return said
        denied = {s.meaning.value for s in self._denied("genre")}
        named = [name for s in self._wanted("instruments") for name in _names(s)]
        moods = [s.meaning.value for s in self._wanted("mood")]

        def fits(name: str) -> float:
            usual = GENRES[name]
            points = sum(instrument in usual.palette for instrument in named)
            points += named != [] and set(named) in map(set, usual.ensembles)
            points += sum(mood in usual.moods for mood in moods)
            points += meter in usual.meters
            points += mode in usual.modes
            if tempo is not None:
                points += tempo[0] <= usual.bpm[1] and tempo[1] >= usual.bpm[0]
            return points

        names = [name for name in GENRES if name not in denied] or [*GENRES]
        most = max(map(fits, names))
        return self._dice("genre").pick([name for name in names if fits(name) == most])

    def _meter(self, genre: str, tempo: tuple[float, float] | None) -> str:
        denied = {phrase.meaning.value for phrase in self._denied("meter")}
        if tempo is not None and tempo[0] > _FASTEST_COMPOUND_BPM:
            denied.add("6/8")
        usual = [meter for meter in GENRES[genre].meters if meter not in denied]
        others = [meter for meter in _METERS if meter not in denied]
        return self._dice("meter").pick(usual or others or _METERS)

    def _mode(self, genre: str, *, bare: bool) -> str:
        """A mode of the genre that the moods agree with; in C, without more, is with a third."""
        usual = GENRES[genre].modes
        denied = {phrase.meaning.value for phrase in self._denied("mode")}
        moods = [MOODS[str(s.meaning.value)].modes for s in self._wanted("mood")]
        agreed: Collection[str] = next((modes for modes in moods if modes), ())
        if not agreed:
            hated = {m for v in self._denied_values("mood") for m in MOODS[str(v)].modes}
            agreed = [mode for mode in MODES if mode not in hated] if hated else ()
        if not agreed and bare:
            agreed = _MAJOR_THIRDS
        allowed = [mode for mode in agreed or MODES if mode not in denied]
        allowed = allowed or [mode for mode in MODES if mode not in denied] or [*MODES]
        return self._dice("mode").pick([m for m in usual if m in allowed] or allowed[:1])

    def _bpm(self, genre: str, meter: str, tempo: tuple[float, float] | None, pace: float) -> float:
        """A whole number of the range, towards where the moods draw; a number that is told."""
        low, high = GENRES[genre].bpm
        if tempo is not None:
            if tempo[0] == tempo[1]:
                return round(tempo[0], 2)
            within = max(low, tempo[0]), min(high, tempo[1])
            low, high = within if within[0] <= within[1] else tempo  # type: ignore[assignment]
        elif meter == "6/8":
            low, high = min(low, 84), min(high, _FASTEST_COMPOUND_BPM)
        return float(round(self._dice("tempo").between(*_drawn(low, high, pace))))

    def _density(self, genre: str) -> float:
        low, high = GENRES[genre].density
        wanted, denied = self._wanted("density"), self._denied("density")
        if wanted:
            low, high = _pair(wanted[0].meaning.value)
            self._set(wanted[0], "density low" if high < 0.5 else "density high")
            self._others(wanted, wanted[0])
        elif denied:
            self._set(denied[0], "density the other way")
            busy = _pair(denied[0].meaning.value)[0] > 0.5
            low, high = (low, min(high, 0.45)) if busy else (max(low, 0.55), max(high, 0.75))
        drawn = _drawn(low, high, 0.0 if wanted else self._pull("density"))
        return round(self._dice("density").between(*drawn), 2)

    def _instruments(self, genre: str) -> tuple[str, ...]:
        """Those named, all of them; with the genre's where only bass or drums, or a band, are."""
        denied = {name for s in self._denied("instruments") for name in _names(s)}
        self._denied_values("instruments")
        named: list[str] = []
        for phrase in self._wanted("instruments"):
            wanted = [name for name in _names(phrase) if name not in denied]
            if not wanted:
                self.notes.append(f"{phrase.words!r} is both asked for and denied")
                continue
            self._set(phrase, " and ".join(wanted))
            named += [name for name in wanted if name not in named]
        avoided = set(denied)
        for phrase in self._wanted("avoided"):
            self._set(phrase, "acoustic instruments")
            avoided |= set(_names(phrase)) - set(named)
        groups = [s for s in self._wanted("group") if named or not s.meaning.weak]
        groups.sort(key=lambda s: s.meaning.weak)
        size = None
        if groups:
            size = int(groups[0].meaning.value)  # type: ignore[arg-type]
            self._set(groups[0], f"{size or 'many'} play" if size != 1 else "nothing else plays")
        return tuple(self._ensemble(genre, named, avoided, size))

    def _ensemble(
        self, genre: str, named: list[str], avoided: set[str], size: int | None
    ) -> list[str]:
        """What plays, of which `named` surely does; `size` 0 is a band, 1 a soloist."""
        complete = any(name not in _ACCOMPANY for name in named) or (size == 1 and named)
        if complete and size in (None, 1) or (size is not None and 1 < size <= len(named)):
            return named
        usual = GENRES[genre].ensembles
        allowed = [[name for name in e if name not in avoided] for e in usual]
        allowed = [e for e in allowed if any(name not in _ACCOMPANY for name in e)]
        if not allowed:
            playing = [name for name in NAMES if name not in avoided] or ["piano"]
            if not named:
                self.notes.append(f"of all instruments only {playing[0]} is left to play")
            return list(dict.fromkeys([*named, playing[0]]))
        most = max(len(set(named) & set(e)) for e in allowed)
        fitting = [e for e in allowed if len(set(named) & set(e)) == most]
        if size == 0:
            longest = max(map(len, fitting))
            fitting = [e for e in fitting if len(e) == longest]
        ensemble = self._dice("ensemble").pick(fitting)
        if size is None or size == 0:
            return [*ensemble, *(name for name in named if name not in ensemble)]
        more = [name for e in (ensemble, *allowed, NAMES) for name in e if name not in avoided]
        return list(dict.fromkeys([*named, *more]))[: max(size, len(named))]


def _names(phrase: Said) -> tuple[str, ...]:
    value = phrase.meaning.value
    return tuple(str(name) for name in value) if isinstance(value, tuple) else ()


def _named(value: object) -> str:
    return " and ".join(str(v) for v in value) if isinstance(value, tuple) else str(value)


def _pair(value: object) -> tuple[float, float]:
    assert isinstance(value, tuple)
    return float(value[0]), float(value[1])


def _limits(value: object) -> tuple[float, float]:
    low, high = (min(max(part, SLOWEST_BPM), FASTEST_BPM) for part in _pair(value))
    return low, high


def _drawn(low: float, high: float, pull: float) -> tuple[float, float]:
    """The part of a range to which a pull from -1 to 1 leads: at most its outer two fifths."""
    width = 0.6 * (high - low)
    return low + width * max(0.0, pull), high - width * max(0.0, -pull)
