"""Word error rates, after the normaliser with which the field compares recognisers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module

import numpy as np

from alm_cli.errors import ModelError

# The packages that have Whisper's normalisers, both with the same results.
_HOMES = ("whisper_normalizer.english", "whisper_normalizer.basic"), ("whisper.normalizers",) * 2


@lru_cache(maxsize=2)
def normaliser(english: bool = True) -> Callable[[str], str]:
    """Whisper's (arXiv:2212.04356, appendix C): letters, numbers and spellings made alike.

    For other languages than English only case, marks and punctuation go. ModelError: no package
    that has it is installed.
    """
    name = "EnglishTextNormalizer" if english else "BasicTextNormalizer"
    for home in _HOMES:
        try:
            make = getattr(import_module(home[not english]), name)
        except ImportError:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # they leave a file open
            made: Callable[[str], str] = make()
        return made
    raise ModelError(
        "this measure needs the package whisper-normalizer", hint="pip install 'alm-cli[bench]'"
    )


def word_errors(said: Sequence[str], written: Sequence[str]) -> int:
    """The fewest words to replace, leave out and add to make one of the other."""
    costs = np.arange(len(written) + 1)
    wanted = np.array(written, dtype=object)
    for word in said:
        replaced = costs[:-1] + (wanted != word)
        kept = np.minimum(replaced, costs[1:] + 1)
        # Adding words: each place costs at most one more than the place before it.
        row = np.concatenate(([costs[0] + 1], kept)) - np.arange(len(costs))
        costs = np.minimum.accumulate(row) + np.arange(len(costs))
    return int(costs[-1])


def compared(said: str, written: str, *, english: bool = True) -> tuple[int, int]:
    """Wrong words, and words that were said, both after the normaliser."""
    clean = normaliser(english)
    truth = clean(said).split()
    return word_errors(truth, clean(written).split()), len(truth)
