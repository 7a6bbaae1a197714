"""Features without weights: Whisper's log-mel spectrogram, and cepstra with their deltas.

Frame i is centred on sample 160 * i: 100 frames a second. Nothing decodes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from alm_cli.checkpoints.family import Family
from alm_cli.checkpoints.keymap import KeyMap
from alm_cli.errors import ModelError
from alm_cli.nn import log_mel
from alm_cli.nn.blocks import in_blocks
from alm_cli.nn.mel import Deltas, Power, cosines, htk_filters
from alm_cli.nn.state import State
from alm_cli.nn.whole import heard

_RATE, _WINDOW, _HOP = 16_000, 400, 160


class _Features(nn.Module):
    """What the features share: 16 kHz, windows of 25 ms every 10 ms."""

    rate, channels, hop, delay = _RATE, 1, _HOP, 0
    vocabularies: tuple[int, ...] = ()
    block_frames = 200
    dimension: int

    def encode(
        self,
        wave: Tensor,
        codebooks: int | None = None,  # noqa: ARG002 - there are none
        state: State | None = None,
    ) -> Tensor:
        """wave [B, 1, T] -> features [B, D, F] float32."""
        if not wave.shape[-1] and state is None:
            return wave.new_zeros(wave.shape[0], self.dimension, 0)
        if state is None:
            return in_blocks(self._streamed, wave, self.block_frames * self.hop)
        return self._streamed(wave, state)

    def _streamed(self, wave: Tensor, state: State) -> Tensor:
        # In full precision whatever models compute in: logarithms of small numbers need it.
        with torch.autocast(wave.device.type, enabled=False):
            return self._features(wave.float(), state)

    def _features(self, wave: Tensor, state: State) -> Tensor:
        raise NotImplementedError


class LogMel(_Features):
    """Whisper's input (arXiv:2212.04356): wave [B, 1, T] -> [B, bands, T // 160], about -1 to 1.

    Decimal logarithms of power, no further than 8 below the greatest of the recording: so nothing
    is known before its end. The recording is taken as long as it is and mirrored at its ends.
    Whisper's programs first add silence, up to or of 30 s, before they compute the same: then the
    last two frames see silence where these see the mirror image.
    """

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.dimension = bands
        self.logs = log_mel.LogMel(bands)

    def _features(self, wave: Tensor, state: State) -> Tensor:
        whole = heard(self, self.logs(wave, state), state, None)
        return log_mel.floored(whole, whole.amax((1, 2), keepdim=True)) if whole.numel() else whole


class Mfcc(_Features):
    """Cepstra: wave [B, 1, T] -> [B, 39, T // 160 + 1]: 13 coefficients, their slopes, and theirs.

    As torchaudio's `MFCC(16_000, 13, log_mels=True)` of 400-sample windows, 160 apart, with 40 mel
    bands of HTK's scale from 0 to 8 kHz, natural logarithms of power + 1e-6, an orthonormal cosine
    transform; then `compute_deltas` twice. (Without `log_mels` torchaudio cuts at 80 dB below the
    loudest of the recording; so there is nothing here that is known at its end only.)
    """

    dimension = 39
    filters: Tensor
    cosines: Tensor

    def __init__(self, bands: int = 40, coefficients: int = 13) -> None:
        super().__init__()
        self.power = Power(_WINDOW, _HOP)
        self.register_buffer("filters", htk_filters(bands, _WINDOW, _RATE), persistent=False)
        self.register_buffer("cosines", cosines(bands, coefficients), persistent=False)
        self.first, self.second = Deltas(), Deltas()

    def _features(self, wave: Tensor, state: State) -> Tensor:
        mel = self.power(wave, state)[:, 0] @ self.filters
        cepstra = ((mel + 1e-6).log() @ self.cosines).mT
        slopes = self.first(cepstra, state)
        curves = self.second(slopes, state)
        frames = curves.shape[-1]
        cepstra = state.aligned(self.first, cepstra, frames)
        slopes = state.aligned(self.second, slopes, frames)
        return torch.cat((cepstra, slopes, curves), 1)


_MODELS: Mapping[str, Callable[[], nn.Module]] = {
    "mel-80": partial(LogMel, 80),
    "mel-128": partial(LogMel, 128),
    "mfcc": Mfcc,
}


def _name(raw: Mapping[str, object]) -> str:
    """The name, which says everything."""
    name = raw.get("model_type")
    if not isinstance(name, str) or name not in _MODELS:
        raise ModelError(f"there are no features {name!r}", hint=f"{', '.join(_MODELS)} there are")
    return name


FAMILY = Family(_name, lambda name: _MODELS[name](), KeyMap())
