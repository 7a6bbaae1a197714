"""Marked-up text: a small part of SSML 1.1, and `[[...]]` for phonemes, as parts in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from xml.parsers import expat

from alm_cli.errors import InputError

Markup = Literal["auto", "ssml", "none"]
Warn = Callable[[str], None]

# W3C leaves the lengths to the reader; these follow what a reader does at a comma (medium), at
# the end of a sentence (strong) and of a paragraph (x-strong).
STRENGTHS = {
    "none": 0.0, "x-weak": 0.1, "weak": 0.2, "medium": 0.3, "strong": 0.5, "x-strong": 1.0,
}  # fmt: skip
LONGEST_BREAK_S = 60.0

_TIME = re.compile(r"\+?(\d{0,6}(?:\.\d{0,6})?)(ms|s)")
_PHONEMES = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_DEPTH = 32
# What each element may say; more is unknown markup. Namespaces declare, and say nothing.
_ATTRIBUTES = {
    "speak": {"version", "xml:lang", "xsi:schemaLocation", "onlangfailure", "startmark", "endmark"},
    "p": {"xml:lang"},
    "s": {"xml:lang"},
    "break": {"time", "strength"},
    "phoneme": {"alphabet", "ph"},
}


@dataclass(frozen=True, slots=True)
class Break:
    """A pause that was asked for, exact, in seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class End:
    """Where a sentence, or a whole paragraph, ends whatever the text says."""

    paragraph: bool = False


Part = str | Break | End


def parse(
    text: str, markup: Markup = "auto", *, strict: bool = False, warn: Warn | None = None
) -> list[Part]:
    """The text and pauses of marked-up text; phonemes stand in the text as `[[...]]`.

    It is SSML if asked, or where it begins with `<speak`. What SSML knows and this does not is an
    error if `strict`; else `warn` is told once of each, and what the element holds is said.
    InputError: the line, and what is wrong there.
    """
    if markup == "ssml" or (markup == "auto" and re.match(r"\s*(<\?xml[^>]*>\s*)?<speak\b", text)):
        return _merged(_Reader(strict, warn or _ignore).read(text))
    check_phonemes(text)
    return [text]


def pieces(text: str) -> list[tuple[str, bool]]:
    """The text in pieces, each with whether it is phonemes, without their brackets."""
    split = _PHONEMES.split(text)
    return [(piece, bool(place % 2)) for place, piece in enumerate(split) if piece.strip()]


def check_phonemes(text: str) -> None:
    """InputError: brackets without an end, or with nothing in them."""
    plain = _PHONEMES.sub("", text)
    if "[[" in plain or "]]" in plain:
        here = (plain.find("[[") + 1 or plain.find("]]") + 1) - 1
        raise InputError(
            f"a bracket of phonemes without the other one: {plain[here : here + 20]!r}",
            hint="phonemes are written [[həˈloʊ]]",
        )
    if any(not found.strip() for found in _PHONEMES.findall(text)):
        raise InputError("[[]] holds no phonemes", hint="phonemes are written [[həˈloʊ]]")


def _ignore(_: str) -> None:
    return None


def _merged(parts: Iterable[Part]) -> list[Part]:
    """The parts with neighbouring texts as one; what remains empty is left out."""
    found: list[Part] = []
    for part in parts:
        if isinstance(part, str) and found and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    for part in found:
        if isinstance(part, str):
            check_phonemes(part)
    return [part for part in found if not isinstance(part, str) or part.strip()]


class _Reader:
    """Reads one document with expat, which is told to refuse whatever could define entities."""

    def __init__(self, strict: bool, warn: Warn) -> None:
        self._strict, self._warn = strict, warn
        self._told: set[str] = set()
        self._parts: list[Part] = []
        self._open: list[str] = []
        self._replaced = 0
        # The encoding is ours: a declaration in the text speaks of a file that it came from.
        self._expat = expat.ParserCreate("utf-8")
        self._expat.StartDoctypeDeclHandler = self._doctype
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._text

    def read(self, text: str) -> list[Part]:
        """All parts. InputError: not XML, or none of ours."""
        try:
            self._expat.Parse(text.strip().encode(), True)
        except expat.ExpatError as error:
            raise InputError(
                f"line {error.lineno}: not well-formed: {expat.ErrorString(error.code)}",
                hint="write & as &amp; and < as &lt;, or give --markup none",
            ) from error
        except UnicodeEncodeError as error:
            raise InputError("the text holds half of a surrogate pair") from error
        return self._parts

    def _fail(self, message: str, hint: str | None = None) -> InputError:
        return InputError(f"line {self._expat.CurrentLineNumber}: {message}", hint)

    def _doctype(self, *_: object) -> None:
        # Entities that hold entities fill any memory; external ones read files.
        raise self._fail("a DOCTYPE, which can define entities, is refused")

    def _start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if not self._open and tag != "speak":
            raise self._fail(f"<{tag}> where SSML begins with <speak>")
        if len(self._open) >= _DEPTH:
            raise self._fail(f"elements within elements, more than {_DEPTH} deep")
        if self._open and self._open[-1] in ("break", "phoneme"):
            raise self._fail(f"<{tag}> within <{self._open[-1]}>")
        known = _ATTRIBUTES.get(tag)
        if known is None or (tag == "speak" and self._open):
            self._unknown(f"<{tag}>")
        else:
            for name in attributes:
                if name not in known and not name.startswith("xmlns"):
                    self._unknown(f"{name} of <{tag}>")
        self._open.append(tag)
        if tag == "break":
            self._parts.append(Break(self._break(attributes)))
        elif tag == "phoneme":
            self._phoneme(attributes)
        elif tag in ("p", "s"):
            self._parts.append(End(tag == "p"))

    def _end(self, tag: str) -> None:
        self._open.pop()
        if tag == "phoneme":
            self._replaced -= 1
        elif tag in ("p", "s"):
            self._parts.append(End(tag == "p"))

    def _text(self, text: str) -> None:
        if self._open[-1] == "break" and text.strip():
            raise self._fail("<break> holds text", hint="<break/> stands alone")
        if not self._replaced:
            self._parts.append(text)

    def _phoneme(self, attributes: Mapping[str, str]) -> None:
        alphabet, phonemes = attributes.get("alphabet", "ipa"), attributes.get("ph", "").strip()
        if alphabet != "ipa":
            raise self._fail(f"phonemes in the alphabet {alphabet!r}", hint='alphabet="ipa"')
        if not phonemes or "[" in phonemes or "]" in phonemes:
            raise self._fail("<phoneme> without phonemes", hint='ph="həˈloʊ"')
        self._parts.append(f" [[{phonemes}]] ")
        self._replaced += 1

    def _break(self, attributes: Mapping[str, str]) -> float:
        """The seconds of a break: `time` decides where both are given, as W3C has it."""
        if "time" not in attributes:
            strength = attributes.get("strength", "medium")
            if strength not in STRENGTHS:
                raise self._fail(
                    f"<break> of the strength {strength!r}", hint=f"one of {', '.join(STRENGTHS)}"
                )
            return STRENGTHS[strength]
        found = _TIME.fullmatch(attributes["time"].strip())
        if found is None or found[1] in ("", "."):
            raise self._fail(f"<break> for {attributes['time']!r}", hint="such as 500ms or 1.5s")
        seconds = float(found[1]) / (1000 if found[2] == "ms" else 1)
        if seconds > LONGEST_BREAK_S:
            raise self._fail(f"<break> for {seconds:g} s, more than {LONGEST_BREAK_S:g} s")
        return seconds

    def _unknown(self, what: str) -> None:
        told = f"line {self._expat.CurrentLineNumber}: {what} is not understood"
        if self._strict:
            raise InputError(told, hint="leave it out, or do without --strict")
        if what not in self._told:
            self._told.add(what)
            self._warn(f"{told}; what it holds is said as it is")
