"""Searches over a language of a few words, against `openai-whisper` and by enumeration."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from alm_cli.decoding.rules import Rules
from alm_cli.decoding.search import (
    Bounds,
    Hypothesis,
    beams,
    best,
    drawn,
    draws,
    likeliest,
)

SIZE, END = 12, 11
NONE = torch.tensor([], dtype=torch.long)
RULES = Rules(never=NONE, not_first=torch.tensor([END]))


class Language:
    """What comes next hangs on the recording, on the last token and on the one before."""

    def __init__(self, recordings: int, *, end: float = 0.0, seed: int = 0) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.table = 2 * torch.randn(recordings, SIZE, SIZE, SIZE, generator=draw)
        self.table[..., END] += end
        self.numbers = torch.arange(recordings)
        self.before = torch.zeros(recordings, dtype=torch.long)
        self.rows_seen: list[int] = []

    def first(self) -> Tensor:
        """Logits [B, V] of the first tokens."""
        return self.table[self.numbers, 0, 0].clone()

    def __call__(self, tokens: Tensor) -> Tensor:
        """As `Continuation`."""
        self.rows_seen.append(len(tokens))
        logits = self.table[self.numbers, self.before, tokens].clone()
        self.before = tokens
        return logits

    def reorder(self, rows: Tensor) -> None:
        """As `Continuation`."""
        self.numbers, self.before = self.numbers[rows], self.before[rows]

    def only(self, number: int) -> Language:
        """The same for one of the recordings."""
        other = Language(1)
        other.table = self.table[number : number + 1]
        return other


def uneven() -> Language:
    """Nine recordings, of which six say little and three do not end."""
    language = Language(9, seed=2, end=5.0)
    language.table[1::3, ..., END] -= 15
    return language


def bounds(limit: int, rules: Rules = RULES) -> Bounds:
    return Bounds(rules=rules, end=END, limit=limit)


def theirs(language: Language, width: int, patience: float | None, limit: int) -> Any:
    """The candidates of `openai-whisper` for one recording, with their scores."""
    decoding = pytest.importorskip("whisper.decoding", reason="needs the package openai-whisper")
    moved = SimpleNamespace(rearrange_kv_cache=lambda rows: language.reorder(torch.tensor(rows)))
    decoder = decoding.BeamSearchDecoder(width, END, moved, patience)
    tokens = torch.zeros(width, 1, dtype=torch.long)
    sums = torch.zeros(width)
    language.numbers = torch.zeros(width, dtype=torch.long)
    language.before = torch.zeros(width, dtype=torch.long)
    logits = language.first()
    for _ in range(limit):
        RULES.apply(logits, tokens[:, 1:])
        tokens, completed = decoder.update(tokens, logits, sums)
        if completed:
            break
        logits = language(tokens[:, -1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they sort a tensor by numpy
        found, scores = decoder.finalize(tokens[None], sums[None])
    texts = [tuple(text.tolist()[1:]) for text in found[0]]
    return [(text[: text.index(END)], score) for text, score in zip(texts, scores[0], strict=True)]


@pytest.mark.oracle
@pytest.mark.parametrize("end", [-4.0, 0.0, 3.0])
@pytest.mark.parametrize(
    ("width", "patience"), [(5, None), (5, 2.0), (4, 0.4), (2, 1.0), (1, 1.0), (3, 1.7)]
)
def test_section_5_7_beams_are_those_of_the_other(
    width: int, patience: float | None, end: float
) -> None:
    for seed in range(6):
        expected = theirs(Language(1, end=end, seed=seed), width, patience, 9)
        language = Language(1, end=end, seed=seed)
        ((*found,),) = beams(
            language, language.first(), bounds(9), width=width, patience=patience or 1.0
        )
        assert [text.tokens for text in found] == [text for text, _ in expected]
        scores = [score for _, score in expected]
        assert [text.sum_logprob for text in found] == pytest.approx(scores, abs=1e-5)


def test_section_5_7_equal_rows_are_one_candidate_at_the_first_step() -> None:
    language = Language(1, end=-9.0)
    language.table[:] = language.table[0, 0, 0]  # whatever was said, the same comes next
    (found,) = beams(language, language.first(), bounds(1), width=4)
    likely = language.first()[0].topk(4).indices.tolist()
    assert [text.tokens for text in found] == [(token,) for token in likely]


@pytest.mark.parametrize("width", [1, 3])
def test_a_text_does_not_hang_on_the_others_of_its_batch(width: int) -> None:
    language = uneven()
    chances = torch.stack([draws(0, place, 0.7, 2, 12) for place in range(9)])
    searches = {
        "beams": lambda one, _: beams(one, one.first(), bounds(12), width=width, patience=1.5),
        "greedy": lambda one, _: likeliest(one, one.first(), bounds(12)),
        "samples": lambda one, places: likeliest(
            one, one.first(), bounds(12), temperature=0.7, draws=chances[places]
        ),
    }
    for search in searches.values():
        everything = uneven()
        together = search(everything, slice(None))
        alone = [search(language.only(n), slice(n, n + 1))[0] for n in range(9)]
        assert [[text.tokens for text in texts] for texts in together] == [
            [text.tokens for text in texts] for texts in alone
        ]
        # Those that are done are not carried on for ever.
        assert everything.rows_seen[-1] < max(everything.rows_seen)


def test_samples_follow_the_distribution_and_their_score_is_untempered() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -torch.inf, 0.5]).expand(20_000, -1)
    chances = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    counts = torch.bincount(drawn(logits, 0.5, chances), minlength=5) / 20_000
    expected = (logits[0] / 0.5).softmax(0)
    assert counts[3] == 0
    torch.testing.assert_close(counts, expected, atol=0.01, rtol=0)
    language = Language(1, seed=5)
    (texts,) = likeliest(
        language, language.first(), bounds(1), temperature=2.0, draws=draws(0, 0, 2.0, 4, 1)[None]
    )
    first = Language(1, seed=5).first()
    first[:, END] = -torch.inf
    for text in texts:
        assert text.sum_logprob == pytest.approx(
            float(first.log_softmax(1)[0, text.tokens[0]]), abs=1e-5
        )


@pytest.mark.parametrize("chance", [0.0, 1.0, 1 - 2**-53])
def test_no_draw_is_impossible(chance: float) -> None:
    logits = torch.full((1, 9), -torch.inf)
    logits[0, 4:6] = torch.tensor([0.3, 0.1])
    token = drawn(logits, 0.37, torch.tensor([chance], dtype=torch.float64))
    assert int(token) in (4, 5)


def test_draws_are_those_of_the_window_whatever_is_drawn_beside() -> None:
    three = draws(7, 3000, 0.2, 3, 5)
    assert torch.equal(draws(7, 3000, 0.2, 2, 5), three[:2])
    assert torch.equal(draws(7, 3000, 0.2, 3, 4), three[:, :4])
    others = [draws(8, 3000, 0.2, 1, 5), draws(7, 3001, 0.2, 1, 5), draws(7, 3000, 0.4, 1, 5)]
    assert len({tuple(row) for row in [*three.tolist(), *(o[0].tolist() for o in others)]}) == 6


def test_the_best_is_the_likeliest_for_its_length() -> None:
    short, long = Hypothesis((1,), -1.0), Hypothesis((1, 2, 3, 4), -2.0)
    assert best([short, long]) == long
    assert best([short, long], length_penalty=0.0) == short
    assert best([short, Hypothesis((2,), -1.0)]) == short
    assert Hypothesis((1, 2, 3), -2.0).avg_logprob == -0.5
    assert np.isfinite(best([Hypothesis((), -1.0)]).avg_logprob)
