"""Count how English is spelt, for `alm_cli/decoding/spelling.py`.

    python -m recipes.spelling OUT.npz --text ../shared/train/text/ljspeech.txt \
        --without ../shared/audio/MANIFEST.tsv

Sentences that `--without` names, the transcripts of what measures, are left out.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from alm_cli.decoding.spelling import counted
from recipes.asr_text import letters

LETTERS = " 'abcdefghijklmnopqrstuvwxyz"
ORDER = 6


def unwanted(manifests: list[Path]) -> set[str]:
    """The letters of all transcripts in tables with a column of that name."""
    found = set()
    for path in manifests:
        with path.open(newline="", encoding="utf-8") as handle:
            rows = csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
            found |= {letters(row["transcript"]) for row in rows if row["language"] == "en"}
    return found - {""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--text", type=Path, action="append", required=True)
    parser.add_argument("--without", type=Path, action="append", default=[])
    parser.add_argument("--words", type=Path, help="a word a line; each counts a third")
    parser.add_argument("--least", type=float, default=2.0)
    ask = parser.parse_args()
    without = unwanted(ask.without)
    lines = [letters(line) for path in ask.text for line in path.read_text("utf-8").splitlines()]
    texts: dict[str, float] = dict(Counter(line for line in lines if line not in without))
    texts.pop("", None)
    if ask.words:
        words = ask.words.read_text("utf-8").split()
        plain = {word for word in words if word.isascii() and word.islower() and word.isalpha()}
        texts |= {word: 1 / 3 for word in plain - set(texts)}
    contexts, rows = counted(texts, LETTERS, ORDER, least=ask.least)
    np.savez_compressed(ask.out, letters=np.array(LETTERS), contexts=contexts, rows=rows)
    size = ask.out.stat().st_size / 1e6
    sys.stderr.write(f"{len(texts):,} texts, {len(contexts):,} contexts, {size:.1f} MB\n")


if __name__ == "__main__":
    main()
