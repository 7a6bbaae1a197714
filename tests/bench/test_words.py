"""Word errors: known answers, the obvious slow count, and the normaliser of the field."""

from __future__ import annotations

import importlib.util
import random
import warnings
from functools import cache

import pytest

from alm_cli.bench.statistics import ratio
from alm_cli.bench.words import compared, normaliser, word_errors

# What the paper's appendix says is to become of such texts.
SAID = {
    "Mr. Park visited colour-blind Dr. Neill, uh, at 10:30!": (
        "mister park visited color blind doctor neill at 10 30"
    ),
    "It's twenty-one thousand dollars [laughter] (aside)": "it is $21000",
    "won't can't let's": "will not can not let us",
    "fifty five percent of one hundred and two": "55% of 102",
}


def slow(said: tuple[str, ...], written: tuple[str, ...]) -> int:
    @cache
    def cost(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        swapped = cost(i - 1, j - 1) + (said[i - 1] != written[j - 1])
        return min(swapped, cost(i - 1, j) + 1, cost(i, j - 1) + 1)

    return cost(len(said), len(written))


def test_errors_are_those_of_the_obvious_count() -> None:
    draw = random.Random(0)
    for _ in range(300):
        said, written = (tuple(draw.choices("abc", k=draw.randrange(9))) for _ in range(2))
        assert word_errors(said, written) == slow(said, written)


def test_known_answers() -> None:
    assert word_errors(["the", "cat", "sat"], ["the", "cat", "sat"]) == 0
    assert word_errors(["the", "cat", "sat", "on"], ["a", "cat", "on", "on", "it"]) == 3
    assert word_errors([], ["two", "words"]) == 2
    assert word_errors(["two", "words"], []) == 2


@pytest.mark.parametrize("text", SAID)
def test_the_normaliser_is_the_one_of_the_paper(text: str) -> None:
    assert normaliser()(text) == SAID[text]


@pytest.mark.oracle
def test_both_packages_normalise_alike() -> None:
    if importlib.util.find_spec("whisper_normalizer") is None:
        pytest.skip("whisper-normalizer is not installed")
    from whisper.normalizers import EnglishTextNormalizer
    from whisper_normalizer.english import EnglishTextNormalizer as Repackaged

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        ours, theirs = Repackaged(), EnglishTextNormalizer()
    for text in (*SAID, "Gray's $3.50, £20M; 1st and 22nd of May 1999.", "oh one two double three"):
        assert ours(text) == theirs(text)


def test_what_was_meant_alike_is_alike() -> None:
    assert compared("He's got 2 colours.", "he has got two colors") == (0, 5)
    assert compared("Größe, bitte!", "größe bitte", english=False) == (0, 2)


def test_the_rate_of_the_example_in_the_documentation_of_torchmetrics() -> None:
    """Four errors in eight words: 0.5; over recordings all words count alike."""
    said = ["this is the reference", "there is another one"]
    written = ["this is the prediction", "there is an other sample"]
    errors = [word_errors(a.split(), b.split()) for a, b in zip(said, written, strict=True)]
    found = ratio(errors, [len(one.split()) for one in said])
    assert found is not None and found.value == 0.5
