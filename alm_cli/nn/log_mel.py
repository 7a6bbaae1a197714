"""Whisper's log-mel spectrogram in steps, for recordings of any length (arXiv:2212.04356).

What is known of a frame at once is its logarithm of power; the floor lies below the loudest of the
whole recording, so it is a step of its own.
"""

from __future__ import annotations

from math import log10

import torch
from torch import Tensor, nn

from alm_cli.nn.mel import Power, slaney_filters
from alm_cli.nn.state import State

RATE, HOP = 16_000, 160
_SIZE = 400
_LEAST = 1e-10
# Of what is silent, so the least that a logarithm can be.
SILENCE = log10(_LEAST)
_RANGE = 8.0


class LogMel(nn.Module):
    """wave [B, 1, T] -> decimal logarithms of power [B, bands, T // 160], unscaled.

    Frame i is centred on sample 160 * i, the ends mirrored. A stream is two frames late, until its
    last call.
    """

    filters: Tensor

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.bands = bands
        self.power = Power(_SIZE, HOP)
        self.register_buffer("filters", slaney_filters(bands, _SIZE, RATE), persistent=False)

    def forward(self, wave: Tensor, state: State | None = None) -> Tensor:
        """wave [B, 1, T] -> [B, bands, T // 160]; with `state`, the next T samples of a stream."""
        if state is None:
            # _compat_last_frame: the one centred on the end of the recording is left out.
            return self._logarithms(wave, None)[..., :-1]
        new = self._logarithms(wave, state)
        # The last of a stream is not known before its end, so one frame always waits.
        held = torch.cat((state.get(self, lambda: new[..., :0]), new), -1)
        ready = max(0, held.shape[-1] - 1)
        state.put(self, held[..., ready:].clone())
        return held[..., :ready]

    def _logarithms(self, wave: Tensor, state: State | None) -> Tensor:
        """wave [B, 1, T] -> [B, bands, T // 160 + 1]."""
        # In full precision whatever models compute in: logarithms of small numbers need it.
        with torch.autocast(wave.device.type, enabled=False):
            power = self.power(wave.float(), state)[:, 0]
            return (power @ self.filters).clamp(min=_LEAST).log10().mT


def floored(logs: Tensor, loudest: Tensor | float) -> Tensor:
    """Logarithms [..., F] of a part, the greatest of the whole -> [..., F], about -1 to 1.

    Nothing stays further than 8 (80 dB) below the loudest.
    """
    return (logs.clamp(min=loudest - _RANGE) + 4.0) / 4.0
