"""Sketches to render, and the laws of every rendering."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from alm_cli.decoding.sampling import Sampling
from alm_cli.systems.rendering import Rendered, Rendering, Sketch

BOOKS, WIDTH = 3, 16


def sketch(frames: int = 12, known: int = 0, seed: int = 1, **how: float) -> Sketch:
    """Random conditions and codes before; the rest is how codes are drawn."""
    generator = torch.Generator().manual_seed(seed)
    return Sketch(
        condition=torch.randn(frames, WIDTH, generator=generator),
        tone=torch.randn(1, WIDTH, generator=generator),
        before=torch.randint(64, (BOOKS, known), generator=generator),
        samples=frames * 960 - 333,
        seed=seed,
        sampling=Sampling(**({"temperature": 0.8, "top_k": 10} | how)),  # type: ignore[arg-type]
    )


def equal(one: Rendered, two: Rendered) -> bool:
    """Whether codes and samples are."""
    codes = np.array_equal(one.tokens.codes, two.tokens.codes)
    return codes and np.array_equal(one.samples, two.samples)


def neighbours_repeats_and_streams_change_nothing(
    ours: Rendering, sketches: Sequence[Sketch]
) -> None:
    """Each sketch is rendered as in all together, alone and in a stream."""
    for wanted, found in zip(sketches, ours.all(sketches), strict=True):
        assert equal(ours.all([wanted])[0], found)
        stream, blocks = ours.stream(wanted), []
        try:
            while True:
                blocks.append(next(stream))
        except StopIteration as end:
            assert equal(end.value, found)
        assert np.array_equal(np.concatenate(blocks), found.samples)
        assert len(found.samples) == wanted.samples
        assert found.tokens.origin.source_length == wanted.samples


def one_thread_or_two(ours: Rendering, wanted: Sketch) -> None:
    """The number of threads changes nothing, and stays."""
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(ours.all([wanted])[0])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert equal(*found)
