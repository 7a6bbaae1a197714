"""Whether decoded speech has the speaker's voice still."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from alm_cli.bench.quality import SPEECH_RATE, mono_pair
from alm_cli.errors import InputError, ModelError
from alm_cli.values import Audio

# A vector of mel powers every 10 ms; a voice is told from 1.6 s of them, 1.3 times a second.
_WINDOW, _HOP, _BANDS = 400, 160, 40
_FRAMES, _STEP = 160, 77
_WIDTH, _LAYERS = 256, 3
_LEVEL = 10 ** (-30 / 20)  # of full scale: quieter speech is made as loud
_COVERED = 0.75  # of the last piece, else it does not count
_SHORTEST_S = 0.5


def speaker_cosine(reference: Audio, decoded: Audio) -> float:
    """The cosine of the vectors of two voices, 0 to 1 (the encoder in the package `resemblyzer`).

    GE2E (Wan et al., arXiv:1710.10467). Only the weights of the package are used, and they are read
    without unpickling: its code needs packages that no longer install. Unlike there, silence is
    not cut out, as it lies in the same places in both recordings.
    """
    encoder = weights()
    wanted, made = mono_pair(reference, decoded)
    if wanted.size < _SHORTEST_S * SPEECH_RATE:
        raise InputError("a voice needs at least half a second of speech")
    if not made.any():
        return 0.0
    # The encoder knows people by how loud they are too, which is not what is asked here.
    made = made * np.float32(_level(wanted) / _level(made))
    return float(voice(encoder, wanted) @ voice(encoder, made))


class Encoder(nn.Module):
    """Mel powers [B, F, 40] -> a vector of length 1 for each row [B, 256]."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_BANDS, _WIDTH, _LAYERS, batch_first=True)
        self.linear = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, mel: Tensor) -> Tensor:
        """mel [B, F, 40] -> [B, 256]."""
        _, (hidden, _) = self.lstm(mel)
        return nn.functional.normalize(self.linear(hidden[-1]).relu(), dim=1)


@torch.inference_mode()
def voice(encoder: Encoder, wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """wave [T] at 16 kHz -> a vector of length 1 [256]: the mean over pieces that overlap."""
    begins = pieces(wave.size)
    most = (begins[-1] + _FRAMES) * _HOP
    x = torch.from_numpy(wave) * max(1.0, _LEVEL / _level(wave))
    mel = _mel_powers(nn.functional.pad(x, (0, max(0, most - wave.size))))
    mean = encoder(torch.stack([mel[begin : begin + _FRAMES] for begin in begins])).mean(0)
    return (mean / mean.norm()).numpy()


def _level(wave: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


def pieces(samples: int) -> list[int]:
    """The first frames of the pieces by which so many samples are covered."""
    frames = -(-(samples + 1) // _HOP)
    begins = list(range(0, max(1, frames - _FRAMES + _STEP + 1), _STEP))
    covered = (samples - begins[-1] * _HOP) / (_FRAMES * _HOP)
    return begins[:-1] if covered < _COVERED and len(begins) > 1 else begins


def _mel_powers(wave: Tensor) -> Tensor:
    """wave [T] at 16 kHz -> [F, 40], without a logarithm."""
    hann = torch.hann_window(_WINDOW)
    spectrum = torch.stft(
        wave, _WINDOW, _HOP, window=hann, pad_mode="constant", return_complex=True
    )
    bins = _WINDOW // 2 + 1
    filters = melscale_fbanks(bins, 0.0, SPEECH_RATE / 2, _BANDS, SPEECH_RATE, "slaney", "slaney")
    return (filters.mT @ spectrum.abs().square()).mT


@lru_cache(maxsize=1)
def weights() -> Encoder:
    """The published weights. ModelError: the package is not installed, or has others."""
    spec = find_spec("resemblyzer")
    # Its other requirements are not needed, and some of them harm (a `typing` of 2021).
    hint = "pip install --no-deps resemblyzer"
    if spec is None or not spec.submodule_search_locations:
        raise ModelError("this measure needs the package resemblyzer", hint=hint)
    path = Path(spec.submodule_search_locations[0]) / "pretrained.pt"
    encoder = Encoder()
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        encoder.load_state_dict({name: stored[name] for name in encoder.state_dict()})
    except Exception as error:  # whatever a damaged file makes of it
        raise ModelError(f"{path}: cannot be read as a voice encoder", hint=hint) from error
    return encoder.requires_grad_(False).eval()
