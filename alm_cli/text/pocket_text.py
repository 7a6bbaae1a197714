"""How pocket-tts is given text: prepared as in its training, in pieces of at most 50 tokens.

The rules are those of the package pocket-tts 4.0.1, where every published model has a file of
settings; its checkpoints say nothing of this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

from tokenizers import Tokenizer

from alm_cli.errors import InputError

MOST_TOKENS = 50
_SHORT_WORDS = 4
# Frames after the one in which the speech seems to end: the last sound needs some.
_AFTER, _AFTER_SHORT = 2, 4
_FINAL, _WEAK = ".!?…", ",;:-–—"
_CLOSING = "\"'”’)]»"
_QUOTES = dict.fromkeys('"“”„«»()[]', "")
_APOSTROPHES = {"’": "'", "‘": "'"}
_DASH, _DASHES = {"–": ","}, {"–": ",", "—": ","}


@dataclass(frozen=True, kw_only=True)
class Manner:
    """What a model wants of its text, and how it is sampled unless someone asks otherwise.

    `replaced` are characters that its training text did not have. `pads` short texts with spaces.
    `temperature` is the variance of the noise; a frame may be the last above `threshold`. `voice`
    is the published one that the model takes by itself.
    """

    replaced: Mapping[str, str] = field(default_factory=lambda: _APOSTROPHES)
    semicolons: bool = True
    pads: bool = False
    temperature: float = 0.3
    threshold: float = -4.0
    voice: str = "alba"


_FRENCH = {**_QUOTES, **_APOSTROPHES, **_DASH, ":": ","}
_GERMAN = {**_QUOTES, **_APOSTROPHES, **_DASHES}
_PLAIN = {**_QUOTES, **_APOSTROPHES, **_DASH}
_SMALL = Manner(replaced={**_APOSTROPHES, **_DASHES}, threshold=-1.0)
# By what stands in the names of the published models; the first that does.
_MANNERS = (
    ("french", Manner(replaced=_FRENCH, semicolons=False, voice="estelle")),
    ("german", Manner(replaced=_GERMAN, semicolons=False, voice="juergen")),
    ("spanish", Manner(replaced={**_PLAIN, "¡": "", "¿": ""}, voice="lola")),
    ("dutch", Manner(replaced=_PLAIN, voice="daan")),
    ("italian", Manner(replaced=_PLAIN, voice="giovanni")),
    ("portuguese", Manner(replaced=_PLAIN, voice="rafael")),
    *((name, _SMALL) for name in ("18m", "7m", "2m")),
    ("2026-01", Manner(pads=True)),
)


def manner_of(name: str) -> Manner:
    """The manner of a model by its name or folder: `french_24l`; English where nothing matches."""
    words = re.split(r"[-_/]", name.lower().replace("2026-01", "2026=01"))
    found = (manner for key, manner in _MANNERS if key.replace("-", "=") in words)
    return next(found, Manner())


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What is said in one go: its tokens, and how many frames follow the end of its speech."""

    tokens: tuple[int, ...]
    after: int

    def frames(self, rate: float) -> int:
        """At most so many, at `rate` frames a second: a third of a second a token, and two more."""
        return ceil((len(self.tokens) / 3 + 2) * rate)


def pieces(text: str, tokenizer: Tokenizer, manner: Manner) -> Iterator[Piece]:
    """A text as pieces. InputError: there is nothing in it to say."""
    for part in _parts(_prepared(text, manner).strip(), tokenizer):
        prepared = _prepared(part, manner)
        # The words are counted before the final point, which may take the place of a lone dash.
        short = len(_plain(part, manner).split()) <= _SHORT_WORDS
        tokens = _encoded(tokenizer, prepared)
        yield Piece(tokens=tuple(tokens), after=_AFTER_SHORT if short else _AFTER)


def unknown(text: str, tokenizer: Tokenizer, manner: Manner, vocabulary: int) -> list[str]:
    """What of a text has none of the first `vocabulary` tokens, in order, each once."""
    prepared = _prepared(text, manner)
    found = tokenizer.encode(prepared, add_special_tokens=False)
    none = tokenizer.token_to_id("<unk>")
    odd = [
        prepared[begin:end].strip()
        for token, (begin, end) in zip(found.ids, found.offsets, strict=True)
        if token == none or token >= vocabulary
    ]
    return list(dict.fromkeys(filter(None, odd)))


def _plain(text: str, manner: Manner) -> str:
    """The text with what the model knows in place of what it does not."""
    table = {ord(old): new for old, new in manner.replaced.items()}
    text = " ".join(text.translate(table).split())
    # What was in quotes may have left a mark of its own before that of the sentence.
    text = re.sub(rf"([{_FINAL}])\s*[,;:]", r"\1", text)
    text = text if manner.semicolons else text.replace(";", ",")
    if not text:
        raise InputError("there is nothing to say", hint="give some text")
    return text


def _prepared(text: str, manner: Manner) -> str:
    """The text with a capital, a final mark, and spaces before a short one where that helps."""
    text = _plain(text, manner)
    text = _ended(text if text[0].isupper() else text[0].upper() + text[1:])
    return " " * 8 + text if manner.pads and len(text.split()) <= _SHORT_WORDS else text


def _ended(text: str) -> str:
    """The text with a mark that ends a sentence: without one the last word suffers."""
    core = text.rstrip(_CLOSING + " ")
    if not core or core[-1] in _FINAL:
        return text
    if core[-1] in _WEAK:
        return core.rstrip(_WEAK + " ") + "." + text[len(core) :].strip()
    return text + "."


def _parts(text: str, tokenizer: Tokenizer) -> list[str]:
    """A prepared text at the ends of sentences, and of clauses where a sentence is too long.

    Neighbours stay together as long as they have no more tokens than are good together.
    """
    ends, clauses = (set(_encoded(tokenizer, marks)[1:]) for marks in (".!...?", ",;:"))
    sized: list[tuple[int, str]] = []
    for sentence in _cut(_encoded(tokenizer, text), ends, tokenizer, decimals=True):
        said = tokenizer.decode(sentence)
        inner = _encoded(tokenizer, said.strip()) if len(sentence) > MOST_TOKENS else []
        several = list(_cut(inner, clauses, tokenizer)) if inner else []
        if len(several) > 1:
            sized += [(len(part), tokenizer.decode(part)) for part in several]
        else:
            sized.append((len(sentence), said))
    return [part.strip() for part in _joined(sized)]


def _joined(sized: Iterable[tuple[int, str]]) -> Iterator[str]:
    """Texts with their lengths -> neighbours together, up to what is good together."""
    text, length = "", 0
    for size, part in sized:
        if text and length + size > MOST_TOKENS:
            yield text
            text, length = "", 0
        text, length = f"{text} {part}" if text else part, length + size
    if text:
        yield text


def _cut(
    tokens: Sequence[int], marks: set[int], tokenizer: Tokenizer, *, decimals: bool = False
) -> Iterator[list[int]]:
    """Tokens, cut after every run of `marks`; with `decimals`, not after the point of a number."""
    begin = 0
    for place in range(1, len(tokens)):
        after = tokens[place - 1] in marks and tokens[place] not in marks
        if after and not (decimals and _in_number(tokens, place, tokenizer)):
            yield list(tokens[begin:place])
            begin = place
    yield list(tokens[begin:])


def _in_number(tokens: Sequence[int], place: int, tokenizer: Tokenizer) -> bool:
    """Whether what is before `place` ends in a digit and a point, and a digit follows."""
    before, after = tokenizer.decode(tokens[:place]), tokenizer.decode(tokens[place:])
    return bool(re.search(r"\d\.$", before)) and after[:1].isdigit()


def _encoded(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)
