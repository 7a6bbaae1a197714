"""The upsampler's laws: any chunking is the whole, rows are alone, and how far it looks."""

from __future__ import annotations

import pytest
import torch

from alm_cli.nn.state import State
from alm_cli.nn.upsampler import UpsamplerSpec, WaveUpsampler
from tests.laws import batch_equals_single, streaming_equals_whole

# The branch that looks ahead farthest is the first, the last, or one with more dilations.
SPECS = {
    "usual": ((4, 2), (8, 4), (3, 7), ((1, 3, 5), (1, 3, 5))),
    "slowest first": ((3,), (9,), (7, 3), ((1, 3), (1, 3))),
    "slow by dilation": ((2, 2), (2, 4), (3, 3, 5), ((1,), (1, 3, 9), (1,))),
}


def made(ratios: tuple[int, ...], kernels: tuple[int, ...], *branches: object) -> WaveUpsampler:
    units, dilations = branches
    torch.manual_seed(0)
    spec = UpsamplerSpec(
        features=5,
        width=16,
        ratios=ratios,
        kernels=kernels,
        unit_kernels=units,  # type: ignore[arg-type]
        dilations=dilations,  # type: ignore[arg-type]
        slope=0.1,
    )
    return WaveUpsampler(spec).eval().requires_grad_(False)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_any_chunking_equals_the_whole(spec: tuple[tuple[int, ...], ...]) -> None:
    part = made(*spec)
    x = torch.randn(2, 5, 19, generator=torch.Generator().manual_seed(1))
    for ends in ([7], [1, 2, 3, 10], [18]):
        streaming_equals_whole(part, x, ends)
    batch_equals_single(lambda y, _: part(y), x)


def test_frames_become_samples_and_a_condition_counts() -> None:
    part = made(*SPECS["usual"])
    x, condition = torch.randn(1, 5, 3), torch.randn(1, 16, 1)
    assert part(x).shape == (1, 1, 24)
    assert not torch.allclose(part(x, None, condition), part(x))
    assert part(x, State()).shape[-1] < 24  # it owes what it cannot know yet
