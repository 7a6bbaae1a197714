"""Make the words that alm-asr writes, for `alm_cli/decoding/lexicon_search.py`.

    python -m recipes.words alm_cli/assets/english/words.npz --shared ../shared --words WORDS \\
        --books FOLDER

From the sentences that alm-asr is trained on, from books, without what measures it, and from
phrases of everyday life (`recipes/asr_text.py`); words of the list that are in none get what is
left for new words. What ships was made with SCOWL's list, american-english-small of the Debian
package wamerican-small, and with the English books of Project Gutenberg (all in the public domain)
that have these numbers there: 33 36 45 55 74 76 77 98 103 107 113 120 122 139 140 145 155 158 174
203 215 219 242 245 289 308 345 394 421 507 514 541 543 550 558 583 599 730 766 768 910 1023 1056
1260 1342 1400 1480 1661 1874 2084 2432 2788 2852 3176 5658 6688.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from alm_cli.decoding.lexicon_search import grown
from alm_cli.decoding.ngrams import counted
from alm_cli.text.phonemes import PHONEMES, english
from recipes.alm_asr_data import WORDS, divided, references
from recipes.asr_text import Phrases, letters
from recipes.asr_text import spoken as spoken_text


def spoken(words: Iterable[str]) -> Iterator[tuple[tuple[int, ...], int]]:
    """Words, numbered from 1 -> their sounds, numbered from 1, and their numbers.

    One way to say each, which alm-asr learns: weak forms of the commonest words make more errors.
    """
    numbers = {sound: place + 1 for place, sound in enumerate(PHONEMES)}
    lexicon = english()
    for number, word in enumerate(words, 1):
        if sounds := lexicon.phonemes(word):
            yield tuple(numbers[sound] for sound in sounds), number


def everyday(lines: list[str], listed: list[str], count: int) -> list[str]:
    """Phrases of everyday life, in letters."""
    phrases, rng = Phrases(lines, listed), np.random.default_rng(7)
    return [letters(phrases.filled(rng)) for _ in range(count)]


def sentences(book: str) -> Iterator[str]:
    """What a text of Project Gutenberg says, in letters, without what is said about it."""
    inside = re.split(r"\*\*\* ?(?:START|END) OF.*?\*\*\*", book)
    for paragraph in re.split(r"\n\s*\n", inside[1] if len(inside) > 2 else book):
        told = spoken_text(paragraph.replace("\n", " "))
        yield from filter(None, map(letters, re.split(r"[.!?;:]+", told)))


def runs(text: str, count: int = 6) -> set[str]:
    """All so many words of a text that follow each other."""
    words = text.split()
    return {" ".join(words[i : i + count]) for i in range(len(words) - count + 1)}


def of_books(folder: Path, unknown: Iterable[str]) -> Iterator[str]:
    """The sentences of all books, but for those that share six words with an unknown text."""
    forbidden = set().union(*map(runs, unknown))
    for path in sorted(folder.glob("*.txt")):
        for said in sentences(path.read_text("utf-8-sig")):
            if not forbidden & runs(said):
                yield said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--words", type=Path, default=WORDS, help="a word a line")
    parser.add_argument("--books", type=Path, help="texts of Project Gutenberg, *.txt")
    parser.add_argument("--known", type=int, default=4, help="as often is a word of books one")
    parser.add_argument("--phrases", type=int, default=20000, help="of everyday life")
    parser.add_argument("--least", type=int, nargs=2, default=(2, 3),
                        help="pairs and triples that occur less are left out")  # fmt: skip
    ask = parser.parse_args()
    held_out, lines = divided(ask.shared)
    listed = ask.words.read_text("utf-8").split()
    unknown = {letters(line) for line in (*held_out, *references(ask.shared))}
    texts = [text for text in map(letters, lines) if text and text not in unknown]
    texts += filter(None, everyday(lines, listed, ask.phrases))
    found = {word.lower() for word in listed}.union(*map(str.split, texts))
    if ask.books:
        read = list(of_books(ask.books, unknown))
        often = Counter(word for said in read for word in said.split())
        found |= {word for word, count in often.items() if count >= ask.known}
        texts += read
    words = sorted(word for word in found if re.fullmatch(r"[a-z]+('[a-z]+)*", word))
    numbers = {word: number for number, word in enumerate(words, 1)}
    said = [[numbers[word] for word in text.split() if word in numbers] for text in texts]
    ngrams = counted(filter(None, said), len(words) + 1, least=ask.least)
    tree = grown(spoken(words))
    written = np.frombuffer("\n".join(("", *words)).encode(), np.uint8)
    arrays: dict[str, Any] = {"texts": written, **tree, **ngrams.arrays()}
    np.savez_compressed(ask.out, **arrays)
    size = ask.out.stat().st_size / 1e6
    nodes, followers = len(tree["symbols"]), len(ngrams.followers)
    sys.stderr.write(
        f"{len(words):,} words, {nodes:,} nodes, {followers:,} n-grams, {size:.2f} MB\n"
    )


if __name__ == "__main__":
    main()
