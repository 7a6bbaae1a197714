"""Rendering: the tokens of the plain network, whatever is around a sketch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from alm_cli.decoding.sampling import Sampling, noise_of
from alm_cli.nn.renderer import Renderer
from alm_cli.runtime import inference
from alm_cli.systems.codec import Codec, load_codec
from alm_cli.systems.rendering import Rendering, Sketch
from alm_cli.values import Tokens
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


def rendering(codec: Codec, window: int | None = None) -> Rendering:
    torch.manual_seed(0)
    model = Renderer(
        books=BOOKS, vocabulary=64, latent=8, width=WIDTH, depth=2, heads=2, window=window
    )
    model.vectors.normal_()
    model.untold.normal_()
    for head in model.heads:
        head.weight.data.mul_(4)
    model.eval().requires_grad_(False)
    return Rendering(model, codec, torch.device("cpu"), name="ours", kind="test")


def plainly(model: Renderer, wanted: Sketch) -> Tensor:
    """Codes [K, F], by the whole network for every step."""
    known, frames, noise = wanted.before.shape[1], wanted.frames, noise_of(wanted.seed, "test")
    total = known + frames + BOOKS - 1
    grid = torch.full((BOOKS, total), -1)
    for book in range(BOOKS):
        grid[book, book : book + known] = wanted.before[book]
    told = torch.zeros(1, total, WIDTH)
    told[0, :known] = model.untold
    told[0, known : known + frames] = wanted.condition
    for step in range(known, total):
        inputs = torch.nn.functional.pad(grid[:, :step], (1, 0), value=-1)[None]
        logits = model(inputs, told[:, : step + 1], wanted.tone)[0, :, -1]
        drawn = plainly_drawn(logits, wanted.sampling, noise)
        for book in range(BOOKS):
            if 0 <= step - book - known < frames:
                grid[book, step] = drawn[book]
    return torch.stack([grid[k, known + k : known + k + frames] for k in range(BOOKS)])


def plainly_drawn(logits: Tensor, how: Sampling, noise: torch.Generator) -> Tensor:
    """logits [K, V] -> codes [K]."""
    if how.temperature == 0:
        return logits.argmax(-1)
    likeliest, codes = logits.topk(how.top_k) if how.top_k else (logits, None)
    chances = (likeliest / how.temperature).softmax(-1)
    chosen = torch.multinomial(chances, 1, generator=noise)
    return (chosen if codes is None else codes.gather(1, chosen))[:, 0]


@pytest.mark.parametrize(
    ("window", "wanted"),
    [
        (None, sketch()),
        (None, sketch(known=9, top_k=0)),
        (None, sketch(known=5, temperature=0.0)),
        (2, sketch(known=1)),
        (4, sketch(18, known=9)),
    ],
)
def test_tokens_are_those_of_the_plain_network(
    codec: Codec, window: int | None, wanted: Sketch
) -> None:
    ours = rendering(codec, window)
    with inference():
        expected = plainly(ours._model, wanted)
    np.testing.assert_array_equal(ours.all([wanted])[0].tokens.codes[0], expected)


SKETCHES = [sketch(), sketch(7, 4, seed=2), sketch(1, 4, seed=1), sketch(9, 1, seed=3)]


def test_neighbours_repeats_and_streams_change_nothing(codec: Codec) -> None:
    neighbours_repeats_and_streams_change_nothing(rendering(codec), SKETCHES)


def test_one_thread_or_two(codec: Codec) -> None:
    one_thread_or_two(rendering(codec), SKETCHES[0])


def test_rows_that_go_together_are_what_they_are_alone(codec: Codec) -> None:
    alone = rendering(codec)
    ours = rendering(codec)
    ours._layout = None  # as on a GPU
    for one, wanted in zip(ours.all(SKETCHES), SKETCHES, strict=True):
        assert np.array_equal(one.tokens.codes, alone.all([wanted])[0].tokens.codes)
        np.testing.assert_allclose(one.samples, alone.all([wanted])[0].samples, atol=1e-6)


def test_seed_tone_and_past_matter(codec: Codec) -> None:
    ours, wanted = rendering(codec), sketch(12, 4)
    others = [
        replace(wanted, seed=9),
        replace(wanted, tone=-wanted.tone),
        replace(wanted, before=wanted.before.flip(1)),
        replace(wanted, condition=wanted.condition.flip(0)),
    ]
    first, *found = ours.all([wanted, *others])
    assert not any(np.array_equal(first.tokens.codes, one.tokens.codes) for one in found)


def test_the_last_codes_are_gone_on_from(codec: Codec) -> None:
    ours = rendering(codec)
    tokens = ours.all([sketch(12)])[0].tokens
    np.testing.assert_array_equal(ours.last_codes(tokens, 5), tokens.codes[0, :, -5:])
    assert ours.last_codes(None, 5).shape == (BOOKS, 0)
    few = Tokens(tokens.codes[:, :2], replace(tokens.origin, vocabularies=(1024, 1024)))
    assert ours.last_codes(few, 5).shape == (BOOKS, 0), "too few books"
