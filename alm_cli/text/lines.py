"""A text cut into what is said in one go, with the pauses between."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

from alm_cli.errors import InputError
from alm_cli.text.markup import Break, End, Part

# Between sentences, as people read aloud; the other pauses are in proportion to it.
PAUSE_S = 0.4
_PARAGRAPH, _ELLIPSIS, _CLAUSE, _COMMA, _WORD = 2.0, 1.25, 0.75, 0.5, 0.1

# A point within a word and an ellipsis before a small letter end nothing.
_SENTENCE = re.compile(
    r"(?:\[\[.*?\]\]|[^\[.!?。！？।]|\[(?!\[)|\.(?=\w)|\.{3}(?=\s[a-z]))+[.!?。！？।]*\s*",
    re.DOTALL,
)
_WHOLE = re.compile(r"\[\[.*?\]\]\S*|\S+")


@dataclass(frozen=True, slots=True)
class Piece:
    """A line of text, none for a pause before the first one, and the pause after it in seconds.

    Pauses that were asked for are `exact`; the others follow punctuation.
    """

    text: str
    pause_s: float = 0.0
    exact: bool = False


def cut(
    parts: Iterable[Part], longest: int, read: Callable[[str], str], pause_s: float = PAUSE_S
) -> list[Piece]:
    """The pieces of a text, each of at most `longest` characters, never ended within a word.

    `read` is what makes a paragraph into what is read aloud. Sentences are pieces of their own;
    one that is too long is cut where it has other punctuation, else between words. InputError: a
    word is longer than that.
    """
    found: list[Piece] = []
    for part in parts:
        if isinstance(part, Break):
            _add_break(found, part.seconds)
        elif isinstance(part, End):
            _lengthen(found, pause_s * (_PARAGRAPH if part.paragraph else 1))
        else:
            found += _paragraphs(part, longest, read, pause_s)
    if found and not found[-1].exact:
        found[-1] = replace(found[-1], pause_s=0.0)
    return found


def _paragraphs(
    text: str, longest: int, read: Callable[[str], str], pause_s: float
) -> Iterator[Piece]:
    for paragraph in re.split(r"\n\s*\n", text):
        pieces = [
            Piece(line, pause_s * _weight(line, end=line is lines[-1]))
            for lines in (_within(sentence, longest) for sentence in sentences(read(paragraph)))
            for line in lines
        ]
        yield from pieces[:-1]
        for piece in pieces[-1:]:
            yield replace(piece, pause_s=pause_s * _PARAGRAPH)


def sentences(text: str) -> list[str]:
    """What ends with a point, an exclamation mark or a question mark, as it is read aloud."""
    return [found.strip() for found in _SENTENCE.findall(text) if re.search(r"\w", found)]


def _within(sentence: str, longest: int) -> list[str]:
    """A sentence in lines of at most `longest` characters, of about one length."""
    words = _WHOLE.findall(sentence)
    lines = []
    while words:
        size = len(" ".join(words))
        if size <= longest:
            lines.append(" ".join(words))
            break
        count = _best(words, longest, size / ceil(size / longest))
        lines.append(" ".join(words[:count]))
        words = words[count:]
    return lines


def _best(words: Sequence[str], longest: int, ideal: float) -> int:
    """After how many words a line ends best: at punctuation, and not far from `ideal`."""
    costs, size = {}, -1
    for count, word in enumerate(words, 1):
        size += 1 + len(word)
        if size > longest:
            break
        costs[count] = abs(size - ideal) / longest + (1.0 - _CUTS.get(word[-1], 0.0))
    if not costs:
        raise InputError(
            f"a word of {len(words[0])} characters: {words[0][:30]}...",
            hint=f"this model says {longest} in one go; write it with spaces",
        )
    return min(costs, key=costs.__getitem__)


# How good it is to end a line behind a word that ends so.
_CUTS = {";": 1.0, ":": 0.9, ",": 0.8, ".": 0.6}


def _weight(line: str, *, end: bool) -> float:
    """The pause after a line, in those between sentences."""
    if line.endswith("..."):
        return _ELLIPSIS
    if line[-1] in ";:":
        return _CLAUSE
    if line[-1] == ",":
        return _COMMA
    return 1.0 if end else _WORD


def _add_break(found: list[Piece], seconds: float) -> None:
    """A break instead of the pause that punctuation makes; breaks add up."""
    if not found:
        found.append(Piece("", seconds, exact=True))
    elif found[-1].exact:
        found[-1] = replace(found[-1], pause_s=found[-1].pause_s + seconds)
    else:
        found[-1] = replace(found[-1], pause_s=seconds, exact=True)


def _lengthen(found: list[Piece], seconds: float) -> None:
    """At least this pause after the last piece, unless it was given."""
    if found and not found[-1].exact and found[-1].text:
        found[-1] = replace(found[-1], pause_s=max(found[-1].pause_s, seconds))
