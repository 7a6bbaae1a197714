"""w2v-BERT 2.0: features of speech in 143 languages, 50 a second (arXiv:2312.05187)."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy

import numpy as np
import torch
from torch import Tensor, nn

from alm_cli.checkpoints.family import Family
from alm_cli.checkpoints.keymap import KeyMap
from alm_cli.checkpoints.w2v_bert import conformer_keys, conformer_sizes
from alm_cli.errors import UsageError
from alm_cli.nn.conformer import Conformer, ConformerSpec
from alm_cli.nn.fbank import VARIANCE_FLOOR, fbank, paired
from alm_cli.nn.state import State
from alm_cli.nn.whole import heard


def _spec(raw: Mapping[str, object]) -> ConformerSpec:
    """Read the published `config.json`; what this file does not build is an error."""
    return ConformerSpec(**conformer_sizes(raw))


def seamless_features(wave: Tensor) -> Tensor:
    """wave [B, T] at 16 kHz -> [B, F, 160] float32: what the SeamlessM4T extractor makes of a row.

    An odd last frame counts for the statistics, but is not paired with a padded one: the reference
    does so and then masks the pair.
    """
    energies = fbank(wave.double()).float()
    if energies.shape[1] < 2:
        return energies.new_zeros(len(wave), 0, 2 * energies.shape[2])
    return paired(torch.stack([_standardised(row) for row in energies]))


def _standardised(x: Tensor) -> Tensor:
    """x [F, N] -> [F, N], every band with mean 0 and variance 1."""
    # With numpy and in the memory order of the reference, so that its sums are rounded alike: of
    # silence and of steady tones nothing but rounding is left, and the division makes it loud.
    bands = np.asfortranarray(x.cpu().numpy())
    bands = (bands - bands.mean(0)) / np.sqrt(bands.var(0, ddof=1) + VARIANCE_FLOOR)
    return torch.from_numpy(np.ascontiguousarray(bands)).to(x.device)


class W2vBert(nn.Module):
    """wave [B, 1, T] -> features [B, D, F] of the last layer, F = (T - 240) // 320, at least 0.

    Every feature depends on the whole recording, whose spectra are normalised and which attention
    sees all at once; so a stream is answered at its end. Memory grows in proportion to the length,
    time with its square: upstream has no windows, and so there are none here.
    """

    rate, channels, hop, delay = 16_000, 1, 320, 0
    vocabularies: tuple[int, ...] = ()
    block_frames = 100

    def __init__(self, spec: ConformerSpec) -> None:
        super().__init__()
        self.dimension, self.layers = spec.dimension, spec.depth
        self.layer: int | None = None
        self.conformer = Conformer(spec)

    def encode(
        self,
        wave: Tensor,
        codebooks: int | None = None,  # noqa: ARG002 - there are none
        state: State | None = None,
    ) -> Tensor:
        """wave [B, 1, T] -> features [B, D, F] float32."""
        return self.features(heard(self, wave, state, None), self.layer)

    def at_layer(self, layer: int | None) -> W2vBert:
        """The same weights as a model that ends after its first `layer` blocks; None is the last.

        0 is what enters the first block. UsageError: there is no such layer.
        """
        if layer is not None and not 0 <= layer <= self.layers:
            raise UsageError(f"the model has layers 0 to {self.layers}, not {layer}")
        other = copy(self)
        other.layer = layer
        return other

    def features(self, wave: Tensor, layer: int | None = None) -> Tensor:
        """wave [B, 1, T], whole -> features [B, D, F] float32."""
        # Row by row, so that a row cannot depend, not even in its last bit, on those beside it.
        return torch.cat([self._features(row[0], layer) for row in torch.split(wave, 1)])

    def _features(self, wave: Tensor, layer: int | None) -> Tensor:
        """wave [1, T] -> [1, D, F]."""
        spectra = seamless_features(wave).to(self.conformer.project.weight.dtype)
        if not spectra.shape[1]:
            return wave.new_zeros(1, self.dimension, 0)
        return self.conformer(spectra, layer).mT.float()


KEYS = KeyMap(*conformer_keys("", "conformer."))

FAMILY = Family(_spec, W2vBert, KEYS)
