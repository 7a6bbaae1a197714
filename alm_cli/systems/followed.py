"""Melodies as MusicGen is told them: which of twelve pitches leads, frame by frame."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from alm_cli.errors import InputError
from alm_cli.music.score import DRUMS, Score
from alm_cli.nn.chroma import HOP, PITCHES, RATE, chroma
from alm_cli.nn.resample import resampled
from alm_cli.values import Audio


def followed(melody: Audio | Score, seconds: float) -> Tensor:
    """A recording or notes -> [F, 12], what is needed of it for so many seconds.

    InputError: there is nothing in it to follow.
    """
    if isinstance(melody, Score):
        return _led(melody, seconds)
    if not melody.length:
        raise InputError("there is nothing in the melody to follow", hint="give a recording of one")
    needed = torch.from_numpy(melody.samples[:, : round(seconds * melody.rate) + 1])
    wave = resampled(needed.mean(0, keepdim=True), melody.rate, RATE)[0]
    return chroma(wave[: round(seconds * RATE)])


def _led(score: Score, seconds: float) -> Tensor:
    """Notes -> [F, 12]: the highest one that sounds, and in a rest the one that sounded last."""
    notes = [note for note in score.notes if note.instrument != DRUMS]
    if not notes:
        raise InputError("there are no notes in the melody", hint="drums alone are no melody")
    length = min(max(score.seconds, HOP / RATE), seconds)
    places = [frame * HOP / RATE for frame in range(1 + int(length * RATE / HOP))]
    leading, pitch = [], min(notes).pitch
    for place in places:
        sounding = [n.pitch for n in notes if n.start <= place < n.start + n.length]
        pitch = max(sounding, default=pitch)
        leading.append(pitch % PITCHES)
    return F.one_hot(torch.tensor(leading), PITCHES).float()
