"""Recordings as recognisers hear them: mono samples at 16 kHz, of 16 bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from alm_cli.systems.transcriber import RATE

Samples = NDArray[np.float32]


def heard(blocks: Iterable[Samples], rate: int) -> Iterator[Samples]:
    """Blocks [C, n] of a recording at `rate` -> [m] each, at 16 kHz.

    `openai-whisper` has ffmpeg make 16-bit samples before anything else, so these are too. Halves
    are rounded up, which is how ffmpeg mixes the channels of 16-bit recordings; samples that are
    16 kHz, mono and of 16 bits already stay what they are.
    """
    mono = (block.mean(0, dtype=np.float64) for block in blocks)
    for samples in mono if rate == RATE else _resampled(mono, rate):
        steps = np.floor(samples.astype(np.float64) * 32_768 + 0.5).clip(-32_768, 32_767)
        yield (steps / 32_768).astype(np.float32)


def _resampled(blocks: Iterable[NDArray[np.float64]], rate: int) -> Iterator[Samples]:
    """The same samples [n] at 16 kHz."""
    import torch

    from alm_cli.nn.resample import Resampler

    resampler = Resampler(rate, RATE)
    for block in blocks:
        yield resampler.push(torch.from_numpy(block).float()[None])[0].numpy()
    yield resampler.finish()[0].numpy()
