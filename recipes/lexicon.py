"""Make the English lexicon of the package from a list of words and what flite says for them.

    python recipes/lexicon.py --text ../shared/train/text/ljspeech.txt

Pronunciations are those of flite's libraries (the CMU dictionary: a permissive licence). Letters
and phonemes are aligned by expectation maximisation, contexts become a decision list, and words
that the list gets wrong become exceptions. Every tenth word is held out first, to tell how well
unknown words are read.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import inf, log
from pathlib import Path

from alm_cli.text.phonemes import CONTEXTS, PHONEMES, Lexicon, Phonemes, contexts, packed
from recipes.asr_text import letters

WORDS = Path("/usr/share/dict/american-english-small")  # the package wamerican-small (SCOWL)
_MOST = 3  # phonemes of one letter


def pronounced(words: Iterable[str]) -> dict[str, Phonemes]:
    """What flite's lexicon and its own rules say for each word, without stress."""
    flite = ctypes.CDLL("libflite.so.1", mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL("libflite_usenglish.so.1", mode=ctypes.RTLD_GLOBAL)
    cmulex = ctypes.CDLL("libflite_cmulex.so.1", mode=ctypes.RTLD_GLOBAL)
    pointer = ctypes.c_void_p
    for function, result, arguments in (
        (cmulex.cmu_lex_init, pointer, []),
        (flite.lex_lookup, pointer, [pointer, ctypes.c_char_p, ctypes.c_char_p, pointer]),
        (flite.val_car, pointer, [pointer]),
        (flite.val_cdr, pointer, [pointer]),
        (flite.val_string, ctypes.c_char_p, [pointer]),
    ):
        function.restype, function.argtypes = result, arguments
    flite.flite_init()
    lexicon, found = cmulex.cmu_lex_init(), {}
    for word in words:
        # The last s takes the sound of what stands before it, which flite sees to later.
        stem = word.removesuffix("'s")
        value, said = flite.lex_lookup(lexicon, stem.encode(), None, None), []
        while value:
            said.append(flite.val_string(flite.val_car(value)).decode().rstrip("012"))
            value = flite.val_cdr(value)
        if stem != word and said:
            said += _ending(said[-1])
        if set(said) <= set(PHONEMES):
            found[word] = tuple(said)
    return found


def _ending(sound: str) -> tuple[str, ...]:
    if sound in ("s", "z", "sh", "zh", "ch", "jh"):
        return "ax", "z"
    return ("s",) if sound in ("p", "t", "k", "f", "th") else ("z",)


def aligned(lexicon: Mapping[str, Phonemes], rounds: int = 4) -> dict[str, list[Phonemes]]:
    """The phonemes of each letter of each word, the likeliest way to part them."""
    weights: dict[tuple[str, Phonemes], float] = defaultdict(lambda: -8.0)
    found: dict[str, list[Phonemes]] = {}
    for _ in range(rounds):
        counts: Counter[tuple[str, Phonemes]] = Counter()
        for word, sounds in lexicon.items():
            parts = _parted(word, sounds, weights)
            if parts is not None:
                found[word] = parts
                counts.update(zip(word, parts, strict=True))
        totals = Counter[str]()
        for (letter, _), count in counts.items():
            totals[letter] += count
        weights = defaultdict(
            lambda: -12.0, {key: log(n / totals[key[0]]) for key, n in counts.items()}
        )
    return found


def _parted(
    word: str, sounds: Phonemes, weights: Mapping[tuple[str, Phonemes], float]
) -> list[Phonemes] | None:
    """The best split of phonemes among the letters, None where there are too many."""
    best = {0: (0.0, ())}
    trail: list[dict[int, tuple[float, tuple[int, ...]]]] = [best]
    for letter in word:
        row: dict[int, tuple[float, tuple[int, ...]]] = {}
        for done, (score, cuts) in trail[-1].items():
            for more in range(min(_MOST, len(sounds) - done) + 1):
                # Silent letters and letters of two sounds are seldom, whatever the counts say.
                taste = -0.5 * abs(more - 1)
                value = score + weights[letter, sounds[done : done + more]] + taste
                if value > row.get(done + more, (-inf, ()))[0]:
                    row[done + more] = (value, (*cuts, done + more))
        trail.append(row)
    end = trail[-1].get(len(sounds))
    if end is None:
        return None
    edges = (0, *end[1])
    return [sounds[a:b] for a, b in zip(edges, edges[1:], strict=False)]


def decisions(parts: Mapping[str, Sequence[Phonemes]]) -> dict[str, Phonemes]:
    """Contexts, narrow to wide, each only where it corrects the narrower ones."""
    places = [
        (contexts(word, place), sounds)
        for word, row in parts.items()
        for place, sounds in enumerate(row)
    ]
    rules: dict[str, Phonemes] = {}
    current: list[Phonemes | None] = [None] * len(places)
    for width in range(len(CONTEXTS)):
        votes: dict[str, Counter[Phonemes]] = defaultdict(Counter)
        for seen, sounds in places:
            votes[seen[width]][sounds] += 1
        for index, (seen, _) in enumerate(places):
            count = votes[seen[width]]
            best, number = count.most_common(1)[0]
            if best != current[index] and number > count[current[index]] + bool(width):
                rules[seen[width]] = best
                current[index] = best
    return rules


def report(lexicon: Lexicon, wanted: Mapping[str, Phonemes]) -> str:
    """Words wholly right, by the rules alone."""
    right = sum(lexicon.guess(word) == sounds for word, sounds in wanted.items())
    return f"{100 * right / max(1, len(wanted)):.1f} % of {len(wanted)} words"


def wanted_words(text: Path | None) -> Iterable[str]:
    listed = WORDS.read_text(encoding="utf-8").splitlines()
    read = letters(text.read_text(encoding="utf-8")).split() if text else []
    found = Counter(word.lower() for word in listed) + Counter(read)
    return sorted(word for word in found if re.fullmatch(r"[a-z]+('[a-z]+)*", word))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, help="sentences whose words are wanted too")
    parser.add_argument("--out", type=Path, default=Path("alm_cli/assets/english/lexicon.xz"))
    ask = parser.parse_args()
    said = pronounced(wanted_words(ask.text))
    parts = aligned(said)
    held = {word: said[word] for n, word in enumerate(sorted(parts)) if n % 10 == 0}
    seen = {word: row for word, row in parts.items() if word not in held}
    sys.stderr.write(f"held out: {report(Lexicon({}, decisions(seen)), held)}\n")
    rules = decisions(parts)
    bare = Lexicon({}, rules)
    exceptions = {word: sounds for word, sounds in said.items() if bare.guess(word) != sounds}
    data = packed(Lexicon(exceptions, rules))
    ask.out.parent.mkdir(parents=True, exist_ok=True)
    ask.out.write_bytes(data)
    sys.stderr.write(
        f"{len(said)} words, {len(exceptions)} exceptions, {len(rules)} rules, {len(data)} bytes\n"
    )


if __name__ == "__main__":
    main()
