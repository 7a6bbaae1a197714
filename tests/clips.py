"""Waves to test codecs with: generated ones, and stretches of real recordings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

_KINDS = {".wav", ".flac", ".ogg"}


def synthetic(length: int, channels: int = 1, batch: int = 1) -> Tensor:
    """wave [B, C, T]: tones, noise, clicks and silence, other ones in every channel."""
    generator = torch.Generator().manual_seed(length)
    places = torch.arange(length) / 24_000
    phases = torch.rand(batch, channels, 1, generator=generator)
    tone = torch.sin(2 * torch.pi * ((200 + 3000 * places) * places + phases))
    noise = torch.randn(batch, channels, length, generator=generator)
    clicks = (torch.rand(batch, channels, length, generator=generator) > 0.999).float()
    loud = (torch.sin(9 * places) > -0.3).float()
    return (0.3 * tone + 0.1 * noise + 0.5 * clicks) * loud


def recorded(shared: Path, count: int, length: int, channels: int = 1) -> list[Tensor]:
    """`count` waves [1, C, T] from the middle of as many real recordings, whatever their rate.

    Mono recordings have the same wave in every channel.
    """
    import soundfile

    waves: list[Tensor] = []
    for path in sorted((shared / "audio").rglob("*")):
        if path.suffix not in _KINDS or len(waves) == count:
            continue
        with soundfile.SoundFile(path) as file:
            if file.frames < length:
                continue
            file.seek((file.frames - length) // 2)
            samples = torch.from_numpy(file.read(length, dtype="float32", always_2d=True)).T
        wave = samples[:channels] if len(samples) >= channels else samples[:1].repeat(channels, 1)
        if wave.abs().max() > 0.01:
            waves.append(wave[None].contiguous())
    if len(waves) < count:
        pytest.skip(f"only {len(waves)} recordings of {length} samples in {shared}")
    return waves
