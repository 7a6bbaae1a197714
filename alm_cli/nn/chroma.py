"""Which of the twelve pitches is the loudest, frame by frame, as MusicGen is told a melody.

Spectra are added up over all octaves by the filters of librosa, Gaussians around each pitch
(D. Ellis, "Chroma feature analysis and synthesis", 2007).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

RATE, HOP, PITCHES = 32_000, 4096, 12
_SIZE = 16_384
# The octave that counts most, and how far from it others still count; octave 0 is that of A0.
_CENTRE, _WIDTH = 5.0, 2.0


def chroma(wave: Tensor) -> Tensor:
    """wave [T] at `RATE` -> [1 + T // HOP, 12], 1 for the loudest pitch from C on and else 0.

    A frame of silence counts as a C.
    """
    missing = max(0, _SIZE - len(wave))
    wave = F.pad(wave.float(), (missing // 2, missing - missing // 2))
    window = torch.hann_window(_SIZE, device=wave.device)
    spectrum = torch.stft(wave, _SIZE, HOP, window=window, return_complex=True).abs().square()
    loudest = (_filters().to(wave.device) @ spectrum).argmax(0)
    return F.one_hot(loudest, PITCHES).float()


@lru_cache(maxsize=1)
@torch.inference_mode(False)
def _filters() -> Tensor:
    """[12, bins]: how much each frequency adds to each pitch."""
    bins = _SIZE // 2 + 2
    frequencies = torch.arange(1, bins).double() * RATE / _SIZE
    # In semitones above A0; constant sound is put well below the lowest.
    places = PITCHES * torch.log2(frequencies / 27.5)
    places = torch.cat((places[:1] - 1.5 * PITCHES, places))
    widths = places.diff().clamp(min=1)
    places = places[:-1]
    pitches = torch.arange(PITCHES)[:, None]
    half = PITCHES // 2
    distances = (places - pitches + half).remainder(PITCHES) - half
    bumps = torch.exp(-0.5 * (2 * distances / widths).square())
    bumps = bumps / bumps.square().sum(0).sqrt()
    bumps = bumps * torch.exp(-0.5 * ((places / PITCHES - _CENTRE) / _WIDTH).square())
    return bumps.roll(-3, 0).float()
