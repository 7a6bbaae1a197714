"""Drawing tokens: as transformers filters and draws, row by row."""

from __future__ import annotations

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from alm_cli.decoding.sampling import Sampling, filtered, noise_of, sample
from alm_cli.errors import UsageError


@pytest.mark.parametrize(
    ("how", "warpers"),
    [
        (Sampling(temperature=0.7), [TemperatureLogitsWarper(0.7)]),
        (Sampling(top_k=5), [TopKLogitsWarper(5)]),
        (Sampling(top_p=0.6), [TopPLogitsWarper(0.6)]),
        (
            Sampling(temperature=1.3, top_k=20, top_p=0.8),
            [TemperatureLogitsWarper(1.3), TopKLogitsWarper(20), TopPLogitsWarper(0.8)],
        ),
    ],
)
def test_filters_are_those_of_transformers(how: Sampling, warpers: list) -> None:
    logits = 3 * torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    wanted = logits.clone()
    for warper in warpers:
        wanted = warper(None, wanted)
    torch.testing.assert_close(filtered(logits, how), wanted)


def test_a_row_draws_what_transformers_draws_with_its_seed() -> None:
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(1))
    how = Sampling(temperature=0.9, top_k=30)
    ours = [sample(logits, how, [g]).item() for g in [torch.Generator().manual_seed(5)] * 20]
    generator = torch.Generator().manual_seed(5)
    chances = TopKLogitsWarper(30)(None, TemperatureLogitsWarper(0.9)(None, logits)).softmax(-1)
    theirs = [torch.multinomial(chances, 1, generator=generator).item() for _ in range(20)]
    assert ours == theirs
    assert len(set(ours)) > 3


def test_neighbours_do_not_matter() -> None:
    logits = torch.randn(5, 3, 40, generator=torch.Generator().manual_seed(2))
    how = Sampling(temperature=0.8, top_p=0.9)
    together = sample(logits, how, [noise_of(7, row) for row in range(5)])
    alone = [sample(logits[row : row + 1], how, [noise_of(7, row)])[0] for row in range(5)]
    assert torch.equal(together, torch.stack(alone))
    assert together.shape == (5, 3)


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = torch.randn(2, 40, generator=torch.Generator().manual_seed(3))
    assert torch.equal(sample(logits, Sampling(temperature=0), []), logits.argmax(-1))


def test_noise_follows_from_seed_and_place() -> None:
    def first(*place: object) -> float:
        return torch.rand(1, generator=noise_of(*place)).item()  # type: ignore[arg-type]

    assert first(1, "a", 2) == first(1, "a", 2)
    assert len({first(1, "a"), first(1, "b"), first(2, "a"), first(1)}) == 4


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": -1}, {"top_p": 0.0}]
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Sampling(**wrong)  # type: ignore[arg-type]
