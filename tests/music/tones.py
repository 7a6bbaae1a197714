"""Tones of known pitch and time, as recordings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alm_cli.music.score import DRUMS, Note
from alm_cli.values import Audio


def tone(note: Note, rate: int, kind: str, cents: float) -> np.ndarray:
    """Four partials: `flat`, with the vibrato of a `voice`, or dying away as a `pluck` does."""
    t = np.arange(int(note.length * rate)) / rate
    wobble = 0.3 * np.sin(2 * np.pi * 5.5 * t) * (t > 0.15) if kind == "voice" else 0 * t
    phase = 2 * np.pi * np.cumsum(440 * 2 ** ((note.pitch - 69 + wobble + cents / 100) / 12)) / rate
    wave = sum(a * np.sin(k * phase) for k, a in ((1, 1.0), (2, 0.5), (3, 0.35), (4, 0.2)))
    shape = np.minimum(1, t / 0.01) * np.minimum(1, (note.length - t) / 0.02)
    return 0.2 * note.velocity * wave * shape * (np.exp(-3 * t) if kind == "pluck" else 1)


def recording(
    notes: Sequence[Note], seconds: float, rate: int = 16_000, kind: str = "flat", cents: float = 0
) -> Audio:
    """Notes on a little noise; drums are clicks of noise."""
    rng = np.random.default_rng(0)
    wave = rng.normal(0, 0.0005, int(seconds * rate))
    for note in notes:
        if note.instrument == DRUMS:
            sound = 0.3 * note.velocity * rng.normal(size=rate // 20)
            sound *= np.exp(-np.arange(len(sound)) / (0.01 * rate))
        else:
            sound = tone(note, rate, kind, cents)
        start = round(note.start * rate)
        wave[start : start + len(sound)] += sound[: max(0, len(wave) - start)]
    return Audio(wave[None].astype(np.float32), rate)
