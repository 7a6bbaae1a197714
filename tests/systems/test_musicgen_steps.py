"""Steps in memory that does not move: the same codes, whether computed, or replayed on a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from alm_cli.decoding.delays import delay
from alm_cli.decoding.sampling import Sampling, sample
from alm_cli.lm.musicgen import MusicGen, MusicGenConfig, Told, guided
from alm_cli.nn.state import State
from alm_cli.nn.t5 import T5Spec
from alm_cli.runtime import inference, seeded
from alm_cli.systems.musicgen_engine import Engine, Work
from alm_cli.systems.musicgen_steps import Steps

pytestmark = pytest.mark.usefixtures("one_thread")

CODES, FRAMES, KNOWN = 40, 20, 3
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]


def musicgen(melody: int = 0) -> MusicGen:
    spec = T5Spec(vocabulary=9, dimension=8, layers=1, heads=1, head_dimension=4, hidden=8)
    config = MusicGenConfig(
        text=spec, codec={}, dimension=32, layers=2, heads=4, hidden=48, codes=CODES, books=4,
        channels=1, melody=melody,
    )  # fmt: skip
    model = MusicGen(config)
    generator = torch.Generator().manual_seed(0)
    for weights in model.parameters():
        if weights.dim() > 1:
            weights.data = torch.randn(weights.shape, generator=generator) * 0.3
    return model.requires_grad_(False).eval()


def begun(model: MusicGen, rows: int, scale: float, grid: Tensor) -> tuple[Told, State, Tensor]:
    """What rows are told, their stream after the first codes, and the logits of the next."""
    device = grid.device
    generator = torch.Generator().manual_seed(1)
    words = torch.randn(rows, 5, 32, generator=generator).to(device)
    if model.config.melody:
        told = Told(read=words if scale == 1 else torch.cat((words, torch.zeros_like(words))))
    else:
        told = model.decoder.hear(words)
    state, start = State(), F.pad(grid[:, :, :KNOWN], (1, 0), value=CODES)
    logits = model.decoder(start if scale == 1 else start.repeat(2, 1, 1), told, state)
    return told, state, logits


def grid_of(rows: int) -> Tensor:
    prompt = torch.randint(CODES, (rows, 4, KNOWN), generator=torch.Generator().manual_seed(2))
    return delay(F.pad(prompt, (0, FRAMES - KNOWN), value=-1), (0, 1, 2, 3), CODES)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("melody", [0, 4])
@pytest.mark.parametrize(
    ("how", "scale"),
    [
        (Sampling(temperature=0.0), 3.0),
        (Sampling(top_k=10), 3.0),
        (Sampling(temperature=0.7, top_p=0.9), 1.0),
    ],
    ids=["likeliest", "guided", "alone"],
)
def test_steps_draw_the_same_codes(device: str, melody: int, how: Sampling, scale: float) -> None:
    model, place = musicgen(melody).to(device), torch.device(device)
    grid = grid_of(2).to(place)
    with inference():
        told, state, logits = begun(model, 2, scale, grid)
        noise = [seeded(seed, place) for seed in (5, 6)]
        expected = []
        for now in grid.unbind(2)[KNOWN:]:
            drawn = sample(logits if scale == 1 else guided(logits, scale), how, noise)
            expected.append(torch.where(now < 0, drawn, now))
            codes = expected[-1][:, :, None]
            logits = model.decoder(codes if scale == 1 else codes.repeat(2, 1, 1), told, state)
        told, state, logits = begun(model, 2, scale, grid)
        rules: Any = how, scale, [seeded(seed, place) for seed in (5, 6)]
        steps = Steps(model.decoder, told, state, grid, rules, capture=device == "cuda", ahead=1)
        found = list(steps.run(logits, KNOWN))
    assert torch.equal(torch.stack(found), torch.stack(expected))


@pytest.mark.parametrize("device", DEVICES)
def test_noise_that_is_drawn_ahead_depends_on_no_neighbour(device: str) -> None:
    model, place = musicgen().to(device), torch.device(device)
    made = []
    for rows in ((5,), (5, 6), (6, 5)):
        grid = grid_of(2).to(place)[:1].repeat(len(rows), 1, 1)
        with inference():
            told, state, logits = begun(model, 1, 1.0, grid[:1])
            same = Told(
                tuple(
                    (k.repeat(len(rows), 1, 1, 1), v.repeat(len(rows), 1, 1, 1))
                    for k, v in told.heard
                )
            )
            start = F.pad(grid[:, :, :KNOWN], (1, 0), value=CODES)
            state = State()
            logits = model.decoder(start, same, state)
            rules: Any = Sampling(top_k=10), 1.0, [seeded(seed, place) for seed in rows]
            steps = Steps(
                model.decoder, same, state, grid, rules, capture=device == "cuda", ahead=4
            )
            codes = torch.stack(list(steps.run(logits, KNOWN)))
        made.append(codes[:, rows.index(5)])
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_works_of_different_lengths_go_together_on_a_gpu() -> None:
    model = musicgen().to("cuda")
    engine = Engine(model, window=30, stride=18, melody_rate=0.15)
    past = torch.zeros(4, 0, dtype=torch.long, device="cuda")
    works = [
        Work(
            words=torch.randn(1, 3 + row, 32, device="cuda"), past=past, frames=10 + 20 * row,
            melody=None, how=Sampling(top_k=10), guidance=3.0, seed=row,
        )
        for row in range(3)
    ]  # fmt: skip
    with inference():
        together = torch.stack(list(engine.frames(works)))
        alone = [torch.stack(list(engine.frames([work])))[:, 0] for work in works]
    assert len({engine.kind(work) for work in works}) == 1
    for row, codes in enumerate(alone):
        assert together[: len(codes), row].shape == codes.shape
        assert bool((codes < CODES).all())
