"""Masked parallel decoding: what is masked when, by MAGNeT's schedule and by SoundStorm's."""

from __future__ import annotations

from math import cos, pi

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from alm_cli.decoding.masked import (
    Look,
    Predict,
    annealed,
    fill,
    magnet_looks,
    soundstorm_looks,
)
from alm_cli.decoding.sampling import Sampling

CODES = 11


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def nothing(batch: int, books: int, frames: int) -> Tensor:
    return torch.full((batch, books, frames), CODES)


def model(seed: int = 0) -> Predict:
    """Logits that hang on every code of the row and on the book, and on no other row."""
    table = torch.randn(CODES + 1, CODES, generator=generator(seed))

    def predict(codes: Tensor, book: int, _masked: float) -> Tensor:
        seen = table[codes].sum(1)
        return 0.7 * (seen + seen.roll(book + 1, 1) + seen.cumsum(1) / 9)

    return predict


Books = st.lists(st.integers(1, 6), min_size=1, max_size=3)


@settings(max_examples=20, deadline=None)
@given(Books, st.integers(1, 4), st.integers(4, 23), st.booleans())
def test_nothing_stays_masked_and_books_are_filled_in_turn(
    steps: list[int], span: int, frames: int, storm: bool
) -> None:
    looks = [soundstorm_looks(n) if storm else magnet_looks(n, 2.0) for n in steps]
    seen: list[int] = []

    def predict(codes: Tensor, book: int, masked: float) -> Tensor:
        assert (codes[:, :book] < CODES).all() and (codes[:, book + 1 :] == CODES).all()
        assert (codes[:, book] == CODES).any(), "a look that could change nothing"
        seen.append(book)
        return model()(codes, book, masked)

    how, noise = Sampling(top_p=0.9), [generator(1), generator(2)]
    codes = fill(predict, nothing(2, len(steps), frames), looks, how, noise, span=span)
    assert codes.shape == (2, len(steps), frames - frames % span)
    assert (codes < CODES).all()
    assert seen == [book for book, count in enumerate(steps) for _ in range(count)]


@pytest.mark.parametrize("how", [Sampling(top_p=0.8), Sampling(top_k=3), Sampling()])
def test_neighbours_do_not_matter(how: Sampling) -> None:
    looks = [magnet_looks(5, 3.0), magnet_looks(3, 3.0)]
    together = fill(model(), nothing(3, 2, 12), looks, how, [generator(s) for s in (4, 5, 4)])
    alone = [fill(model(), nothing(1, 2, 12), looks, how, [generator(s)]) for s in (4, 5)]
    assert torch.equal(together[:2], torch.cat(alone))
    assert torch.equal(together[0], together[2]) and not torch.equal(together[0], together[1])


def test_what_was_given_is_not_changed() -> None:
    given_codes = nothing(1, 2, 9)
    fill(model(), given_codes, [magnet_looks(2, 1.0)] * 2, Sampling(), [generator(0)], span=3)
    assert (given_codes == CODES).all()


@given(st.integers(1, 40))
def test_fewer_are_masked_at_each_look(count: int) -> None:
    for looks in (magnet_looks(count, 3.0), soundstorm_looks(count)):
        shares = [look.masked for look in looks]
        assert len(shares) == count and shares[0] == 1
        assert all(later < earlier for earlier, later in zip(shares, shares[1:], strict=False))
        assert [look.temperature for look in looks] == sorted(
            (look.temperature for look in looks), reverse=True
        )


def test_guidance_lies_between_its_ends() -> None:
    assert annealed(1.0, 10.0, 1.0) == 10 and annealed(0.0, 10.0, 1.0) == 1
    assert annealed(0.25, 9.0, 1.0) == 3


def storm(predict: Predict, frames: int, iterations: list[int], noise: torch.Generator) -> Tensor:
    """codes [K, F] as section 3.3 of SoundStorm says, code by code (arXiv:2305.09636).

    Level by level, coarse to fine; in a level, every iteration draws all that is masked and keeps
    the most confident, so many that a cosine share stays masked; the last one is greedy. What was
    kept is known, and kept for good.
    """
    codes = nothing(1, len(iterations), frames)
    for level, count in enumerate(iterations):
        known: set[int] = set()
        for iteration in range(1, count + 1):
            for frame in set(range(frames)) - known:
                codes[0, level, frame] = CODES
            chances = predict(codes.clone(), level, 0.0)[0].softmax(-1)
            if iteration == count:
                drawn = chances.argmax(-1)
            else:
                drawn = torch.multinomial(chances, 1, generator=noise)[:, 0]
            confidence = {}
            for frame in set(range(frames)) - known:
                codes[0, level, frame] = drawn[frame]
                confidence[frame] = chances[frame, drawn[frame]].item()
            # At least one waits for the last iteration, as in MaskGIT (arXiv:2202.04200).
            masked = max(1, int(cos(pi / 2 * iteration / count) * frames + 1e-6))
            masked = 0 if iteration == count else masked
            best = sorted(confidence, key=lambda frame: -confidence[frame])
            known |= set(best[: len(best) - masked])
        assert len(known) == frames
    return codes[0]


@pytest.mark.parametrize("iterations", [[16, 1, 1, 1], [1], [5, 3, 2]])
@pytest.mark.parametrize("frames", [1, 7, 21])
def test_soundstorm_is_what_its_paper_says(iterations: list[int], frames: int) -> None:
    looks = [soundstorm_looks(count) for count in iterations]
    masked = nothing(1, len(iterations), frames)
    for seed in range(2):
        ours = fill(model(seed), masked, looks, Sampling(), [generator(seed)])[0]
        assert torch.equal(ours, storm(model(seed), frames, iterations, generator(seed)))


def test_a_matrix_of_any_length_takes_as_many_looks() -> None:
    counts = []
    for frames in (9, 90):
        seen: list[int] = []

        def predict(codes: Tensor, book: int, masked: float, seen: list[int] = seen) -> Tensor:
            seen.append(book)
            return model()(codes, book, masked)

        looks = [soundstorm_looks(count) for count in (16, *[1] * 11)]
        fill(predict, nothing(1, 12, frames), looks, Sampling(), [generator(0)])
        counts.append(len(seen))
    assert counts == [27, 27]  # as the paper has it, of twelve levels


def test_the_likeliest_need_no_noise() -> None:
    one, other = (
        fill(model(), nothing(1, 1, 9), [magnet_looks(4, 0.0)], Sampling(), [generator(s)])
        for s in (1, 2)
    )
    assert torch.equal(one, other)
    assert all(
        look == Look(masked=look.masked, temperature=0, greedy=True)
        for look in magnet_looks(4, 0.0)
    )
