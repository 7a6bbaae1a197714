"""Make the words that alm-asr writes, for `alm_cli/decoding/lexicon_search.py`.

    python -m recipes.words alm_cli/assets/english/words.npz --shared ../shared --words WORDS

From the sentences that alm-asr is trained on, so without those that measure it, and from phrases of
everyday life (`recipes/asr_text.py`); words of the list that are in neither get what is left for
new words. What ships was made with SCOWL's list, american-english-small of the Debian package
wamerican-small.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from alm_cli.decoding.lexicon_search import grown
from alm_cli.decoding.ngrams import counted
from alm_cli.text.phonemes import PHONEMES, english
from recipes.alm_asr_data import WORDS, divided
from recipes.asr_text import Phrases, letters


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--words", type=Path, default=WORDS, help="a word a line")
    parser.add_argument("--phrases", type=int, default=4000, help="of everyday life")
    parser.add_argument("--least", type=int, default=2, help="triples that occur less are left out")
    ask = parser.parse_args()
    held_out, lines = divided(ask.shared)
    listed = ask.words.read_text("utf-8").split()
    unknown = {letters(line) for line in held_out}
    texts = [text for text in map(letters, lines) if text and text not in unknown]
    texts += filter(None, everyday(lines, listed, ask.phrases))
    found = {word.lower() for word in listed}.union(*map(str.split, texts))
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
