"""The search of words against all paths there are, and n-grams against their definition."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import groupby, product
from math import inf, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alm_cli.decoding.lexicon_search import Found, Weights, Words, grown, search
from alm_cli.decoding.ngrams import BORDER, NGrams, counted, restored
from alm_cli.errors import FormatError

# Sounds that begin alike, equal ones within a word and across words, two words that sound alike.
SPOKEN = {"a": (1,), "ab": (1, 2), "aa": (1, 1), "ba": (2, 1), "bee": (2,), "be": (2,), "c": (3, 2)}
TEXTS = ("", *SPOKEN)
SENTENCES = ["a bee", "a be c", "c a a bee", "aa ba", "ab ab a", "be c", "be c a", "ba c", "a bee"]
SYMBOLS = 4
EXACT = Weights(weight=0.7, word=0.4, blank=0.0, beam=inf, most=10**6, least=-inf)


@cache
def ngrams() -> NGrams:
    numbers = [[TEXTS.index(word) for word in said.split()] for said in SENTENCES]
    return counted(numbers, len(TEXTS))


@cache
def words() -> Words:
    tree = grown((sounds, number) for number, sounds in enumerate(SPOKEN.values(), 1))
    return Words(TEXTS, tree, ngrams())


def heard(seed: int, frames: int, sharp: float = 2.0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(0, sharp, (frames, SYMBOLS))
    return np.asarray(rows - np.log(np.exp(rows).sum(1, keepdims=True)))


@cache
def cost(said: tuple[str, ...]) -> float:
    """What a whole sentence costs."""
    grams = ngrams()
    context, total = np.array([grams.first]), 0.0
    for word in [*map(TEXTS.index, said), BORDER]:
        costs, context = grams.step(context, np.array([word]))
        total += float(costs[0])
    return total


@cache
def sentences_of(symbols: tuple[int, ...]) -> list[tuple[str, ...]]:
    """All ways to part symbols into words."""
    found: list[tuple[str, ...]] = [] if symbols else [()]
    for word, sounds in SPOKEN.items():
        if symbols[: len(sounds)] == sounds:
            found += [(word, *rest) for rest in sentences_of(symbols[len(sounds) :])]
    return found


def slowly(rows: np.ndarray, how: Weights) -> tuple[float, tuple[str, ...], float]:
    """The best of all paths and of all words that each may be: score, words, sound alone."""
    best: tuple[float, tuple[str, ...], float] = (-inf, (), 0.0)
    for path in product(range(SYMBOLS), repeat=len(rows)):
        sound = sum(float(row[symbol]) for row, symbol in zip(rows, path, strict=True))
        symbols = tuple(symbol for symbol, _ in groupby(path) if symbol)
        for said in sentences_of(symbols):
            score = sound + how.word * len(said) - how.weight * cost(said)
            best = max(best, (score, said, sound))
    return best


def sound_of(rows: np.ndarray, found: list[Found]) -> float:
    """How probable the path is that the frames of the symbols tell."""
    path = np.zeros(len(rows), int)
    for one in found:
        for spike in one.spikes:
            path[spike.begin : spike.end] = spike.symbol
    return float(rows[np.arange(len(rows)), path].sum())


@pytest.mark.parametrize("frames", [0, 1, 2, 4, 6])
@pytest.mark.parametrize("seed", range(6))
def test_finds_the_best_of_all_paths(seed: int, frames: int) -> None:
    rows = heard(seed, frames)
    _, said, sound = slowly(rows, EXACT)
    found = search(rows, words(), EXACT)
    assert tuple(one.text for one in found) == said
    assert sound_of(rows, found) == pytest.approx(sound)


@pytest.mark.parametrize("seed", range(4))
def test_symbols_that_are_not_tried_are_impossible_ones(seed: int) -> None:
    how = replace(EXACT, least=-2.5)
    rows = heard(seed, 6, sharp=3.0)
    masked = np.where(rows < np.minimum(rows.max(1, keepdims=True), how.least), -inf, rows)
    masked[:, 0] = rows[:, 0]
    _, said, sound = slowly(masked, how)
    found = search(rows, words(), how)
    assert tuple(one.text for one in found) == said
    assert sound_of(rows, found) == pytest.approx(sound)


def test_what_a_blank_loses_is_taken_from_all_of_them() -> None:
    for seed in range(10):
        rows = heard(seed, 30)
        louder = rows - np.eye(SYMBOLS)[0] * 1.25
        found = search(rows, words(), replace(EXACT, blank=1.25))
        assert found == search(louder, words(), EXACT)


def test_a_wide_beam_changes_nothing_and_a_narrow_one_still_answers() -> None:
    for seed in range(20):
        rows = heard(seed, 30)
        exact = search(rows, words(), EXACT)
        assert search(rows, words(), replace(EXACT, beam=40.0, most=500)) == exact
        narrow = search(rows, words(), replace(EXACT, beam=0.5, most=3))
        assert all(one.text in SPOKEN for one in narrow)


def test_spikes_are_the_sounds_of_their_words_in_order() -> None:
    rows = heard(3, 60)
    found = search(rows, words(), EXACT)
    assert len(found) > 5
    spikes = [spike for one in found for spike in one.spikes]
    assert all(0 <= a.begin < a.end <= b.begin for a, b in zip(spikes, spikes[1:], strict=False))
    assert spikes[-1].end <= len(rows)
    for one in found:
        assert tuple(spike.symbol for spike in one.spikes) == SPOKEN[one.text]
        inside = rows[one.spikes[0].begin : one.spikes[-1].end]
        assert inside.min(1).sum() <= one.logprob <= inside.max(1).sum() + 1e-4
        for spike in one.spikes:
            peak = rows[spike.begin : spike.end, spike.symbol].max()
            assert log(spike.probability) == pytest.approx(peak)


def surely(*symbols: int) -> np.ndarray:
    """A frame of each symbol, hardly anything else."""
    return np.where(np.arange(SYMBOLS) == np.array(symbols)[:, None], -0.01, -8.0)


def test_equal_sounds_need_a_blank_within_words_and_between_them() -> None:
    how = replace(EXACT, weight=0.0, word=0.0)

    def sounds(*symbols: int) -> list[int]:
        found = search(surely(*symbols), words(), how)
        return [spike.symbol for one in found for spike in one.spikes]

    assert sounds(1, 1, 1) == [1]
    assert sounds(1, 0, 1) == [1, 1]
    assert sounds(2, 1, 1, 2) == [2, 1, 2]
    assert sounds(2, 1, 0, 1, 2) == [2, 1, 1, 2]
    assert sounds(0, 0, 0) == []


def test_neighbours_decide_between_words_that_sound_alike() -> None:
    one = [found.text for found in search(surely(1, 0, 2, 0), words(), replace(EXACT, word=-1.0))]
    assert one in (["a", "bee"], ["ab"])
    two = [found.text for found in search(surely(2, 0, 3, 2), words(), EXACT)]
    assert two == ["be", "c"]


def test_quiet_frames_change_only_when_words_are_said() -> None:
    rows = heard(1, 12)
    quiet = np.array([[-0.001, *[-9.0] * (SYMBOLS - 1)]])
    how = replace(EXACT, least=-8.0)
    plain = search(rows, words(), how)
    later = search(np.concatenate((np.repeat(quiet, 50, 0), rows)), words(), how)
    assert [one.text for one in later] == [one.text for one in plain]
    assert [[s.begin - 50 for s in one.spikes] for one in later] == [
        [s.begin for s in one.spikes] for one in plain
    ]


def test_a_recording_that_ends_within_a_word_loses_it() -> None:
    how = replace(EXACT, beam=5.0)
    assert [one.text for one in search(surely(1, 0, 3), words(), how)] == ["a"]


@cache
def probability(given: tuple[int, ...], word: int) -> float:
    """Kneser and Ney's, with three discounts, by its definition."""
    everything: Counter[tuple[int, ...]] = Counter(grams(len(given) + 1))
    if len(given) < 2:
        longer = set(grams(len(given) + 2))
        for gram in everything:
            if gram[:1] != (BORDER,) or not given:
                everything[gram] = sum(one[1:] == gram for one in longer)
    counts = Counter({gram[-1]: n for gram, n in everything.items() if gram[:-1] == given})
    under = probability(given[1:], word) if given else 1 / len(TEXTS)
    if not any(counts.values()):
        return under
    often = Counter(everything.values())
    ones, twos, threes, fours = (max(1, often[n]) for n in (1, 2, 3, 4))
    base = ones / (ones + 2 * twos)
    exact = (
        1 - 2 * base * twos / ones,
        2 - 3 * base * threes / twos,
        3 - 4 * base * fours / threes,
    )
    least, most = (0.05, 0.1, 0.15), (0.95, 1.9, 2.85)
    taken = [0.0, *(min(max(d, a), b) for d, a, b in zip(exact, least, most, strict=True))]
    total = sum(counts.values())
    rest = sum(taken[min(n, 3)] for n in counts.values())
    return (counts[word] - taken[min(counts[word], 3)] + rest * under) / total


def all_words() -> range:
    return range(len(TEXTS))


@cache
def grams(order: int) -> list[tuple[int, ...]]:
    found = []
    for said in SENTENCES:
        numbers = [BORDER, *(TEXTS.index(word) for word in said.split()), BORDER]
        found += [tuple(numbers[i : i + order]) for i in range(len(numbers) - order + 1)]
    return found


def after(grams: NGrams, given: tuple[int, ...]) -> int:
    context = np.array([grams.first])
    for word in given:
        _, context = grams.step(context, np.array([word]))
    return int(context[0])


@pytest.mark.parametrize("given", [*product(range(1, len(TEXTS)), repeat=2), (1,), (5,), ()])
def test_n_grams_are_what_they_are_defined_to_be(given: tuple[int, ...]) -> None:
    model = ngrams()
    context = np.full(len(TEXTS), after(model, given))
    costs, _ = model.step(context, np.arange(len(TEXTS)))
    assert np.exp(-costs).sum() == pytest.approx(1)
    known = (BORDER, *given)[-2:]
    expected = [probability(known, word) for word in all_words()]
    assert np.exp(-costs) == pytest.approx(expected)


@pytest.mark.parametrize("least", [(1, 2), (2, 2), (2, 3)])
def test_rounded_n_grams_sum_to_nearly_one_and_rare_ones_can_be_left_out(
    least: tuple[int, int],
) -> None:
    numbers = [[TEXTS.index(word) for word in said.split()] for said in SENTENCES]
    few = counted(numbers, len(TEXTS), least=least)
    assert len(few.followers) < len(ngrams().followers)
    everything = np.arange(len(TEXTS))
    for model in (few, restored(few.arrays()), restored(ngrams().arrays())):
        for context in range(len(model.sizes)):
            costs, then = model.step(np.full(len(TEXTS), context), everything)
            assert np.exp(-costs).sum() == pytest.approx(1, abs=0.04)
            assert (then < len(model.sizes)).all()


def written(path: Path, **other: Any) -> Path:
    tree = grown((sounds, number) for number, sounds in enumerate(SPOKEN.values(), 1))
    texts = np.frombuffer("\n".join(TEXTS).encode(), np.uint8)
    arrays: dict[str, Any] = {"texts": texts, **tree, **ngrams().arrays(), **other}
    np.savez_compressed(path, **arrays)
    return path


def test_what_is_loaded_says_the_same(tmp_path: Path) -> None:
    loaded = Words.load(written(tmp_path / "words.npz"))
    for seed in range(5):
        rows = heard(seed, 40)
        ours, theirs = search(rows, words(), EXACT), search(rows, loaded, EXACT)
        assert [one.text for one in ours] == [one.text for one in theirs]


HOSTILE: dict[str, Any] = {
    "texts": np.frombuffer(b"\na\nb", np.uint8),
    "symbols": np.zeros(3, np.uint8),
    "children": np.array([0, 7, 0], np.uint8),
    "endings": np.zeros(8, np.uint8),
    "words": np.full(7, 900, np.uint16),
    "unigrams": np.zeros(2, np.uint8),
    "sizes": np.full(30, 65535, np.uint16),
    "backoffs": np.zeros(0, np.uint8),
    "followers": np.full(25, 65535, np.uint16),
    "costs": np.zeros(1, np.uint8),
    "pairs": np.full(9, 2**31, np.uint32),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FormatError):
        Words.load(written(tmp_path / "words.npz", **{name: HOSTILE[name]}))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"words", b"\x93NUMPY"])
def test_files_of_other_kinds_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "words.npz"
    path.write_bytes(data)
    with pytest.raises(FormatError):
        Words.load(path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "words.npz")
    data = path.read_bytes()
    for place in range(40, len(data), 97):
        path.write_bytes(data[:place])
        with pytest.raises(FormatError):
            Words.load(path)


def test_favoured_words_are_heard_though_nobody_knew_them() -> None:
    rows = np.full((7, SYMBOLS), -9.0)
    rows[np.arange(7), [3, 0, 1, 0, 3, 3, 0]] = -0.01  # no word ends in 1 3
    assert [found.text for found in search(rows, words(), EXACT)] != ["cac"]
    wider = words().favouring({"cac": (3, 1, 3), "bee": (2,)}, 0.5)
    (found,) = search(rows, wider, EXACT)
    assert found.text == "cac" and [spike.symbol for spike in found.spikes] == [3, 1, 3]
    # What the others cost is as before, in every context; the favoured cost little in all.
    before, after = ngrams(), wider.ngrams
    plain = [word for word in SPOKEN if word != "bee"]
    for said in product(plain, repeat=3):
        costs = []
        for grams in (before, after):
            context, total = np.array([grams.first]), 0.0
            for word in map(TEXTS.index, said):
                cost, context = grams.step(context, np.array([word]))
                total += float(cost[0])
            costs.append(total)
        assert costs[0] == costs[1]
    (cost,), _ = after.step(np.array([after.first]), np.array([len(TEXTS)]))
    assert float(cost) <= 0.5 + float(after.backoffs.max()) < before.unigrams.max() + 5
    assert words().favouring({}, 0.5) is words()
    assert len(words().texts) == len(TEXTS)
