"""Rendering in stretches: the codes of a plain loop over the network, whatever is around them."""

from __future__ import annotations

from dataclasses import replace
from math import cos, pi

import numpy as np
import pytest
import torch
from torch import Tensor

from alm_cli.decoding.sampling import Sampling, noise_of
from alm_cli.nn.renderer import Renderer
from alm_cli.runtime import inference
from alm_cli.systems.codec import Codec, load_codec
from alm_cli.systems.parallel_rendering import ParallelRendering, stretches
from alm_cli.systems.rendering import Sketch
from tests.systems.sketches import (
    BOOKS,
    WIDTH,
    neighbours_repeats_and_streams_change_nothing,
    one_thread_or_two,
    sketch,
)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return load_codec("alm-codec", device="cpu")


def rendering(codec: Codec) -> ParallelRendering:
    torch.manual_seed(0)
    model = Renderer(
        books=BOOKS, vocabulary=64, latent=8, width=WIDTH, depth=2, heads=2, causal=False
    )
    model.vectors.normal_()
    for name, weight in model.named_parameters():
        if name.startswith(("heads", "enter", "stack")):
            weight.data.mul_(2)
    model.eval().requires_grad_(False)
    return ParallelRendering(model, codec, torch.device("cpu"), name="ours", kind="test")


def plainly(model: Renderer, wanted: Sketch) -> Tensor:
    """Codes [K, F], by the whole network for every look; the first book in four looks."""
    noise, known = noise_of(wanted.seed, "test"), wanted.before
    told = torch.cat([torch.zeros(known.shape[1], WIDTH), wanted.condition])
    for begin, end in stretches(wanted.frames):
        past = known[:, -75:]
        first, frames = wanted.before.shape[1] + begin - past.shape[1], end - begin
        condition = told[first : wanted.before.shape[1] + end]
        new = torch.full((BOOKS, frames), -1)
        for book in range(BOOKS):
            hidden = torch.ones(frames, dtype=torch.bool)
            score = torch.zeros(frames)
            for look in range(looks := 4 if book == 0 else 1):
                count = max(1, int(cos(look / looks * pi / 2) * frames + 1e-6))
                hidden = torch.zeros(frames, dtype=torch.bool)
                hidden[score.topk(count).indices] = True
                new[book, hidden] = -1
                inputs = torch.cat([past, new], 1)[None]
                logits = model(inputs, condition[None], wanted.tone)[0, book, past.shape[1] :]
                drawn, sure = plainly_drawn(logits, wanted.sampling, look == looks - 1, noise)
                new[book, hidden] = drawn[hidden]
                score = torch.where(hidden, 1 - sure, -1e4)
        known = torch.cat([known, new], 1)
    return known[:, wanted.before.shape[1] :]


def plainly_drawn(
    logits: Tensor, how: Sampling, last: bool, noise: torch.Generator
) -> tuple[Tensor, Tensor]:
    """logits [F, V] -> codes [F], and how likely they were."""
    chances = (logits / max(how.temperature, 0.01)).softmax(-1)
    if last:
        codes = logits.argmax(-1)
    else:
        likely = chances * (chances >= chances.topk(how.top_k).values[:, -1:])
        chances = likely / likely.sum(-1, keepdim=True)
        codes = torch.multinomial(chances, 1, generator=noise)[:, 0]
    return codes, chances.gather(1, codes[:, None])[:, 0]


@pytest.mark.parametrize("wanted", [sketch(), sketch(30, 9), sketch(260, 5, seed=2), sketch(1)])
def test_codes_are_those_of_a_plain_loop(codec: Codec, wanted: Sketch) -> None:
    ours = rendering(codec)
    with inference():
        expected = plainly(ours._model, wanted)
    np.testing.assert_array_equal(ours.all([wanted])[0].tokens.codes[0], expected)


SKETCHES = [sketch(60), sketch(7, 4, seed=2), sketch(1, 4), sketch(90, 1, seed=3)]


def test_neighbours_repeats_and_streams_change_nothing(codec: Codec) -> None:
    neighbours_repeats_and_streams_change_nothing(rendering(codec), SKETCHES)


def test_one_thread_or_two(codec: Codec) -> None:
    one_thread_or_two(rendering(codec), SKETCHES[0])


def test_seed_tone_and_past_matter(codec: Codec) -> None:
    ours, wanted = rendering(codec), sketch(30, 40)
    others = [
        replace(wanted, seed=9),
        replace(wanted, tone=-wanted.tone),
        replace(wanted, before=63 - wanted.before),
        replace(wanted, condition=wanted.condition.flip(0)),
    ]
    first, *found = ours.all([wanted, *others])
    same = [np.array_equal(first.tokens.codes, one.tokens.codes) for one in found]
    assert same == [False] * 4


def test_without_temperature_the_seed_does_not_matter(codec: Codec) -> None:
    ours, wanted = rendering(codec), sketch(30, temperature=0.0)
    one, two = ours.all([wanted, replace(wanted, seed=9)])
    assert np.array_equal(one.tokens.codes, two.tokens.codes)


def test_stretches_cover_a_line_once_and_none_is_short() -> None:
    for frames in range(1, 700):
        found = list(stretches(frames))
        assert [begin for begin, _ in found] == [0, *(end for _, end in found[:-1])]
        assert found[-1][1] == frames
        assert all(end - begin >= min(25, frames) for begin, end in found)
        assert found[0][1] <= 50, "a line begins to sound soon"
