"""Encoder, quantiser, decoder: the frame of convolutional codecs (arXiv:2107.03312)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from alm_cli.nn.blocks import in_blocks
from alm_cli.nn.quantize import ResidualVQ
from alm_cli.nn.stack import Chain
from alm_cli.nn.state import State


class Autoencoder(nn.Module):
    """wave [B, C, T] <-> codes [B, K, ceil(T / hop)].

    Parts that look ahead give each frame, and each stretch of wave, as soon as what they need of
    the stream has come; what is owed comes out at the last call.
    """

    rate: int
    channels: int
    hop: int
    vocabularies: tuple[int, ...]

    delay = 0
    by_blocks = True
    # Two seconds of EnCodec keep the widest activations inside a processor's cache.
    block_frames = 150

    def __init__(self, encoder: Chain, quantizer: ResidualVQ, decoder: Chain) -> None:
        super().__init__()
        self.encoder, self.quantizer, self.decoder = encoder, quantizer, decoder

    def encode(
        self, wave: Tensor, codebooks: int | None = None, state: State | None = None
    ) -> Tensor:
        """wave [B, C, T] -> codes [B, K, F] int64."""
        if not wave.shape[-1] and not _owes(state, self.encoder):
            return self._no_codes(wave, codebooks)
        if state is None and wave.device.type == "cpu":
            step = partial(self._encoded, codebooks)
            return in_blocks(step, wave, self.block_frames * self.hop)
        return self._encoded(codebooks, wave, state)

    def decode(self, codes: Tensor, state: State | None = None) -> Tensor:
        """codes [B, K, F] -> wave [B, C, F * hop] float32."""
        if not codes.shape[-1] and not _owes(state, self.decoder):
            return torch.zeros(codes.shape[0], self.channels, 0, device=codes.device)
        if state is None and codes.device.type == "cpu":
            return in_blocks(self._decoded, codes, self.block_frames)
        return self._decoded(codes, state)

    def _encoded(self, codebooks: int | None, wave: Tensor, state: State | None) -> Tensor:
        latents = self.encoder(wave.to(self._dtype), state)
        return self.quantizer.encode(latents, codebooks)

    def _decoded(self, codes: Tensor, state: State | None) -> Tensor:
        latents = self.quantizer.decode(codes).to(self._dtype)
        wave: Tensor = self.decoder(latents, state)
        return wave.float()

    def _no_codes(self, wave: Tensor, codebooks: int | None) -> Tensor:
        shape = (wave.shape[0], len(self.vocabularies[:codebooks]), 0)
        return torch.zeros(shape, dtype=torch.int64, device=wave.device)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


def _owes(state: State | None, chain: Chain) -> bool:
    """Whether a stream has begun, so that a call without input may have output."""
    return state is not None and state.knows(chain[0])
