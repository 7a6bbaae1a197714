"""The network that renders, whole and step by step."""

from __future__ import annotations

import pytest
import torch

from alm_cli.nn.attention import KVCache
from alm_cli.nn.renderer import Renderer
from alm_cli.nn.renderer_steps import RendererSteps
from alm_cli.nn.state import State

WINDOWS = pytest.mark.parametrize("window", [None, 1, 5, 40])


def renderer(window: int | None = None) -> Renderer:
    torch.manual_seed(0)
    model = Renderer(books=3, vocabulary=17, latent=8, width=16, depth=2, heads=2, window=window)
    model.vectors.normal_()
    return model.eval().requires_grad_(False)


def asked(rows: int, steps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes [B, K, S], condition [B, S, width], tone [B, width]."""
    codes = torch.randint(-1, 17, (rows, 3, steps))
    return codes, torch.randn(rows, steps, 16), torch.randn(rows, 16)


@WINDOWS
def test_steps_are_the_whole(window: int | None) -> None:
    model, (codes, told, tone), state = renderer(window), asked(2, 9), State()
    whole = model(codes, told, tone)
    parts = [
        model(codes[:, :, a:b], told[:, a:b], tone, state) for a, b in ((0, 4), (4, 5), (5, 9))
    ]
    torch.testing.assert_close(torch.cat(parts, 2), whole)
    assert whole.shape == (2, 3, 9, 17)


def test_the_past_does_not_see_the_future() -> None:
    model, (codes, told, tone) = renderer(), asked(1, 8)
    other = codes.clone()
    other[:, :, 5] = (other[:, :, 5] + 1) % 17
    before, after = model(codes, told, tone), model(other, told, tone)
    torch.testing.assert_close(before[:, :, :5], after[:, :, :5])
    assert not torch.allclose(before[:, :, 5:], after[:, :, 5:])


def test_a_window_ends_the_past() -> None:
    # What a layer sees of a step, the next one hands on: two layers see 2 * 4 steps back.
    model, (codes, told, tone) = renderer(5), asked(1, 20)
    other = codes.clone()
    other[:, :, 3] = (other[:, :, 3] + 1) % 17
    changed = (model(codes, told, tone) - model(other, told, tone)).abs().amax((0, 1, 3)) > 0
    assert changed.tolist() == [False] * 3 + [True] * 9 + [False] * 8


def test_unknown_codes_count_for_nothing() -> None:
    model, codes = renderer(), torch.tensor([[[1, -1], [2, -1], [3, -1]]])
    assert not model.looked_up(codes)[:, :, 1].any()
    assert model.looked_up(codes)[:, :, 0].any()


@WINDOWS
@pytest.mark.parametrize("known", [0, 1, 12])
def test_single_steps_are_the_whole(window: int | None, known: int) -> None:
    model, (codes, told, tone), state = renderer(window), asked(1, 60), State()
    whole = model(codes, told, tone)
    if known:
        model.read(codes[:, :, :known], told[:, :known], tone, state)
    row = RendererSteps(model).row(tone, 60 - known, state)
    steps = [row(codes[0, :, step], told[0, step]) for step in range(known, 60)]
    torch.testing.assert_close(torch.stack(steps, 1), whole[0, :, known:], atol=1e-5, rtol=0)


def test_rows_do_not_disturb_one_another() -> None:
    model, (codes, told, tone) = renderer(), asked(2, 6)
    layout = RendererSteps(model)
    rows = [layout.row(tone[index, None], 6) for index in range(2)]
    steps = [[row(codes[i, :, s], told[i, s]) for i, row in enumerate(rows)] for s in range(6)]
    alone = layout.row(tone[:1], 6)
    for step, (first, _) in enumerate(steps):
        assert torch.equal(alone(codes[0, :, step], told[0, step]), first)


def test_steps_leave_the_past_to_others() -> None:
    model, (codes, told, tone), state = renderer(), asked(1, 8), State()
    model.read(codes[:, :, :4], told[:, :4], tone, state)
    fork, layout = state.fork(), RendererSteps(model)
    row = layout.row(tone, 4, state)
    row(codes[0, :, 4], told[0, 4])
    for (_, kept), (_, before) in zip(state.memories(), fork.memories(), strict=True):
        assert isinstance(kept, KVCache)
        assert torch.equal(kept.kept, before.kept)


def test_the_renderer_stays() -> None:
    model, (codes, told, tone) = renderer(), asked(1, 3)
    whole, names = model(codes, told, tone), [*model.state_dict()]
    RendererSteps(model).row(tone, 3)(codes[0, :, 0], told[0, 0])
    assert [*model.state_dict()] == names
    assert torch.equal(model(codes, told, tone), whole)


@torch.no_grad()
def test_frames_that_see_one_another_are_asked_for_one_book() -> None:
    torch.manual_seed(0)
    model = Renderer(books=3, vocabulary=17, latent=8, width=16, depth=2, heads=2, causal=False)
    model.vectors.normal_()
    codes, told = torch.randint(-1, 17, (2, 3, 9)), torch.randn(2, 9, 16)
    tone = torch.randn(2, 16)
    logits = model(codes, told, tone)
    for book in range(3):
        torch.testing.assert_close(model.asked(book, codes, told, tone), logits[:, book])
    codes[:, 0, -1] = (codes[:, 0, -1] + 2) % 17
    seen = (model(codes, told, tone)[:, :, 0] - logits[:, :, 0]).abs().amax((1, 2))
    assert float(seen.min()) > 1e-6, "the last frame"
    hidden = torch.zeros(2, 1, 1, 9)
    hidden[..., 6:] = -torch.inf
    cut = model.read(codes[:, :, :6], told[:, :6], tone)
    torch.testing.assert_close(model.read(codes, told, tone, hidden=hidden)[:, :6], cut)
