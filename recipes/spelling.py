"""Count how English is spelt, for `alm_cli/decoding/spelling.py`.

    python -m recipes.spelling OUT.npz --shared ../shared --words WORDS

From the sentences that alm-asr is trained on, so without those that measure it; each word of a list
counts a third. What ships was made with SCOWL's list, american-english-small of the Debian package
wamerican-small.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from alm_cli.decoding.spelling import counted
from recipes.alm_asr_data import divided
from recipes.asr_text import letters

LETTERS = " 'abcdefghijklmnopqrstuvwxyz"
ORDER = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--words", type=Path, help="a word a line; each counts a third")
    parser.add_argument("--least", type=float, default=2.0)
    ask = parser.parse_args()
    held_out, lines = divided(ask.shared)
    known = {letters(line) for line in held_out}
    texts: dict[str, float] = dict(Counter(map(letters, lines)))
    texts = {text: count for text, count in texts.items() if text and text not in known}
    if ask.words:
        words = ask.words.read_text("utf-8").split()
        plain = {word for word in words if word.isascii() and word.islower() and word.isalpha()}
        texts |= {word: 1 / 3 for word in plain - set(texts)}
    contexts, rows = counted(texts, LETTERS, ORDER, least=ask.least)
    # Not compressed: packages are, and a short recording should not wait for it.
    np.savez(ask.out, letters=np.array(LETTERS), contexts=contexts, rows=rows)
    size = ask.out.stat().st_size / 1e6
    sys.stderr.write(f"{len(texts):,} texts, {len(contexts):,} contexts, {size:.1f} MB\n")


if __name__ == "__main__":
    main()
