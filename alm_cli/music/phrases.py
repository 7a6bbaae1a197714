"""What a prompt says, phrase by phrase, before anything is made of it."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from alm_cli.music.genres import FASTEST_BPM, SLOWEST_BPM
from alm_cli.music.score import TONICS
from alm_cli.music.vocabulary import (
    AS_WRITTEN,
    DENIES,
    EMPTY,
    ENDS_DENIAL,
    LONGEST_PHRASE,
    PHRASES,
    VERY,
    Kind,
    Meaning,
    singular,
    words_of,
)

_PLAIN = str.maketrans({
    **dict.fromkeys("\u2018\u2019\u02bc\u2032\u0060\u00b4", "'"), "\u266f": "#", "\uff03": "#",
    "\u266d": "b", **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"), "&": " and ",
    "+": " and ", "!": ".", "?": ".", "\n": ".",
})  # fmt: skip
_WORD = re.compile(
    r"\d+/\d+|\d+(?:[.,]\d{1,2}(?!\d))?"
    r"|(?<![^\W_])[A-Ga-g]#(?:m(?:aj|in)?(?![^\W_]))?"
    r"|(?<=\d)\s*-\s*(?=\d)|w/o\b|[^\W\d_]+(?:'[^\W\d_]+)*|[.;,:=~%$<>]"
)
_LETTER = re.compile(r"([a-g])(#|b)?(m|min|maj)?$")
_PITCHES = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_ACCIDENTALS = {"#": 1, "sharp": 1, "b": -1, "flat": -1}
_MODES = {
    "major": "major", "maj": "major", "dur": "major", "ionian": "major", "lydian": "major",
    "minor": "minor", "min": "minor", "m": "minor", "moll": "minor", "aeolian": "minor",
    "phrygian": "minor", "locrian": "minor", "dorian": "dorian", "mixolydian": "mixolydian",
}  # fmt: skip
# "A minor" is no key before these: a minor key.
_KEY_NOUNS = words_of(
    "key scale mode tonality mood feel feeling sound chord chords progression harmony harmonies"
    " vibe melody"
)
_BEFORE_KEYS = frozenset(("in", "of", "key", "tonic", ":", "="))
_STOPS = frozenset((".", ";", ",", ":"))
_AFTER_A_KEY = _STOPS | {"at", "with", "and", "for", "played", "on", "by"}
_TEMPO_CUES = frozenset(("tempo", "bpm", "speed", "pace", "metronome"))
_ABOUT = words_of("of at is : = around about approximately roughly ~ a the to set be by")
_UNITS = words_of(
    "s sec secs second seconds minute minutes min mins m bar bars measure measures hz khz bit"
    " bits kbps kb mb % th st nd rd years year old note notes string strings am pm hour hours h ms"
    " db percent times x instruments players voices people channel channels d p k"
)
_BEFORE_NUMBERS = words_of("opus op number version seed bwv $ track year k part vol")
_AT_MOST = words_of("under below max maximum most slower less <")
_AT_LEAST = words_of("over above least minimum faster more >")
_LONGEST_NUMBER = 6  # words, as in one hundred and seventy five
_NAMED = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
_SPELT = {
    **{name: number for number, name in enumerate(_NAMED.split())},
    "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20,
    "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip


@dataclass(frozen=True)
class Said:
    """A phrase of a prompt and what it asks for, or, `denied`, what it asks not to have."""

    words: str
    meaning: Meaning
    denied: bool
    place: int
    count: int


@dataclass(frozen=True)
class _Word:
    text: str  # in lower case
    start: int
    stop: int


def said_in(prompt: str) -> tuple[list[Said], list[str]]:
    """All that is said, in order, and the words that mean nothing to us.

    A denial ("no", "without", "not") reaches the next phrase and, in a list, those after "or",
    "nor" and, of instruments, "and". Numbers without a unit are a tempo between 40 and 240.
    """
    plain = unicodedata.normalize("NFKC", prompt.translate(_PLAIN)).replace("'n'", " n ")
    reader = _Reader(plain, _words(plain))
    reader.read()
    return reader.said, list(dict.fromkeys(reader.unknown))


def _words(plain: str) -> list[_Word]:
    found = []
    for match in _WORD.finditer(plain):
        text = match.group().strip().casefold()
        found.append(_Word(text.replace(",", ".") if len(text) > 1 else text, *match.span()))
    return found


@dataclass
class _Reader:
    plain: str
    words: list[_Word]
    said: list[Said] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    # The word that denies what comes, and how many words without a meaning came since.
    denial: str = ""
    gap: int = 0

    def read(self) -> None:
        place = 0
        while place < len(self.words):
            place += self._step(place)

    def text(self, place: int) -> str:
        """A word, "" before the first and after the last."""
        return self.words[place].text if 0 <= place < len(self.words) else ""

    def raw(self, place: int, after: int) -> str:
        """Words as they are written."""
        written = self.plain[self.words[place].start : self.words[after - 1].stop]
        return " ".join(written.split())

    def _step(self, place: int) -> int:
        text = self.text(place)
        if (text, self.text(place + 1)) in (("instead", "of"), ("rather", "than")):
            self.denial, self.gap = text, 0
            return 2
        count, meanings = self._phrase(place) or self._key(place) or self._number(place) or (0, ())
        if count:
            self._say(place, count, meanings)
            return count
        if text in DENIES:
            self.denial, self.gap = text, 0
        elif text in ENDS_DENIAL or (text == "," and not self._lists_on(place)):
            self.denial = ""
        elif text not in EMPTY and singular(text) not in EMPTY:
            self.unknown.append(self.raw(place, place + 1))
            self.gap += 1
            if self.gap > 2:
                self.denial = ""
        return 1

    def _say(self, place: int, count: int, meanings: tuple[Meaning, ...]) -> None:
        after = place + count
        words = self.raw(place, after)
        kinds = {meaning.kind for meaning in meanings}
        if kinds == {"empty"}:
            self.denial = ""
            return
        if self.denial not in ("", "not", "isn't", "never") and "instruments" not in kinds:
            following = self._phrase(after)
            if following and following[1][0].kind == "instruments":
                return  # no soft drums: softness is not what is denied
        if self.text(place) in ENDS_DENIAL:
            self.denial = ""
        less = self.text(place).endswith("less") and (self.text(place),) not in PHRASES
        denied = bool(self.denial) or less
        for meaning in meanings:
            if not (denied and meaning.weak):
                self.said.append(Said(words, meaning, denied, place, count))
        if self.denial and not self._goes_on(after, kinds):
            self.denial = ""

    def _goes_on(self, place: int, kinds: set[Kind]) -> bool:
        """Whether a denial reaches what comes after its phrase."""
        joint = self.text(place)
        if joint in ("or", "nor"):
            return True
        if joint == "and":
            following = self._phrase(place + 1)
            return following is not None and following[1][0].kind in kinds & {"instruments"}
        return joint == "," and self._lists_on(place)

    def _lists_on(self, place: int) -> bool:
        """Whether a comma stands in a list that ends with "or" or "nor"."""
        for later in range(place + 1, min(place + 24, len(self.words))):
            text = self.text(later)
            if text in ("or", "nor"):
                return bool(self.denial)
            if text in ENDS_DENIAL or text in DENIES:
                return False
        return False

    def _phrase(self, place: int) -> tuple[int, tuple[Meaning, ...]] | None:
        """The longest phrase that begins here."""
        for count in range(LONGEST_PHRASE, 0, -1):
            texts = [self.text(at) for at in range(place, place + count)]
            if texts[0] in VERY:
                texts[0] = "very"
            if "" in texts:
                continue
            phrase = tuple(singular(text) for text in texts)
            changed = phrase in AS_WRITTEN and phrase != tuple(texts)
            found = None if changed else PHRASES.get(phrase)
            if found is None and count == 1:
                found = next((PHRASES[(t,)] for t in _shorter(texts[0]) if (t,) in PHRASES), None)
            if found is not None:
                return count, found
        return None

    def _key(self, place: int) -> tuple[int, tuple[Meaning, ...]] | None:
        """A tonic and, if it is told, its mode: F# minor, E flat, Am."""
        match = _LETTER.match(self.text(place))
        if match is None:
            return None
        letter, sign, tail = match.groups()
        after = place + 1
        if sign is None and tail is None and self.text(after) in ("flat", "sharp"):
            sign = self.text(after)
            after += 1
        if tail is None and self.text(after) in ("natural", "harmonic", "melodic"):
            after += self.text(after + 1) in _MODES
        mode = _MODES.get(tail or self.text(after))
        if tail is None and mode is not None:
            after += 1
        raw = self.raw(place, place + 1)
        if not self._is_key(place, after, raw, mode):
            return None
        tonic = (_PITCHES[letter] + _ACCIDENTALS.get(sign or "", 0)) % 12
        told = Meaning("key", (TONICS[tonic], mode or ""))
        return after - place, (told,)

    def _is_key(self, place: int, after: int, raw: str, mode: str | None) -> bool:
        """Whether a letter is a tonic, and not an article or a part of something else."""
        cued = self.text(place - 1) in _BEFORE_KEYS
        following = self.text(after)
        if after == place + 1 and len(raw) > 1:  # written together: Am, Eb, F#
            return "#" in raw or cued or raw.endswith(("min", "maj")) or raw.istitle()
        if raw in "aA":
            if mode is not None and following in _KEY_NOUNS:
                return False
            ends = not following or following in _AFTER_A_KEY or following[0].isdigit()
            return (cued and (ends or after > place + 1)) or (
                after > place + 1 and (ends or raw == "A")
            )
        return cued or after > place + 1

    def _number(self, place: int) -> tuple[int, tuple[Meaning, ...]] | None:
        """A tempo or a range of tempi; other numbers, with their unit, mean nothing."""
        count, value = self._value(place)
        if not count:
            return None
        low = high = value
        after = place + count
        between = self.text(place - 1) == "between" and self.text(after) == "and"
        if self.text(after) in ("-", "to") or between:
            more, second = self._value(after + 1)
            if more:
                low, high = sorted((value, second))
                after += 1 + more
        unit = self._unit(after)
        spelt = not self.text(place)[0].isdigit()
        if not unit and (spelt or not self._is_tempo(place, after, value)):
            if spelt:
                return None
            after += self.text(after) in _UNITS
            self.unknown.append(self.raw(place, after))
            return after - place, (Meaning("empty", ""),)
        bound = self._bound(place)
        if low == high and bound:
            low, high = (SLOWEST_BPM, high) if bound < 0 else (low, FASTEST_BPM)
        return after - place + unit, (Meaning("bpm", (low, high)),)

    def _value(self, place: int) -> tuple[int, float]:
        """A number and how many words it has, none: it is no number."""
        text = self.text(place)
        if text[:1].isdigit() and "/" not in text:
            return 1, min(float(text), 1e6)
        count, value = 0, 0
        while count < _LONGEST_NUMBER and (
            (word := self.text(place + count)) in _SPELT
            or word == "hundred"
            or (word == "and" and value >= 100 and self.text(place + count + 1) in _SPELT)
        ):
            value = 100 * max(1, value) if word == "hundred" else value + _SPELT.get(word, 0)
            count += 1
        return count, float(value)

    def _unit(self, place: int) -> int:
        """How many words say that a number counts beats."""
        if self.text(place) == "bpm":
            return 1
        beats = self.text(place) in ("beats", "beat") and self.text(place + 1) in ("per", "a")
        return 3 if beats and self.text(place + 2) in ("minute", "min") else 0

    def _is_tempo(self, place: int, after: int, value: float) -> bool:
        before = place - 1
        while place - before < 4 and self.text(before) in _ABOUT:
            before -= 1
        if self.text(before) in _TEMPO_CUES:
            return True
        usual = 40 <= value <= 240 and value == int(value)
        odd = self.text(after) in _UNITS or self.text(place - 1) in _BEFORE_NUMBERS
        return usual and not odd

    def _bound(self, place: int) -> int:
        """-1 where a tempo is the most that is wanted, 1 where it is the least, else 0."""
        before = [self.text(place - back) for back in (1, 2, 3)]
        if before[0] == "to" and before[1] == "up":
            return -1
        for back, text in enumerate(before):
            if text in _AT_MOST | _AT_LEAST:
                most = text in _AT_MOST
                denied = back + 1 < len(before) and before[back + 1] in ("no", "not")
                return -1 if most != denied else 1
            if text not in ("than", "a", "tempo", "of", "the"):
                break
        return 0


def _shorter(word: str) -> list[str]:
    """What a word may come from: slowly, jazzy, drumless."""
    found = [word.replace("-", "")]
    for ending, instead in (
        ("ily", "y"), ("ly", ""), ("ish", ""), ("y", ""), ("less", ""), ("ier", "y"), ("iest", "y"),
        ("er", ""), ("est", ""), ("like", ""),
    ):  # fmt: skip
        if word.endswith(ending) and len(word) - len(ending) > 2:
            found.append(word[: len(word) - len(ending)] + instead)
    return found
