"""EnCodec, causal at 24 kHz: 75 frames per second, up to 32 codebooks (arXiv:2210.13438)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil, log2, prod

import torch
from torch import Tensor, nn

from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import KeyMap, drop, fold_weight_norm, rename
from alm_cli.nn.blocks import in_blocks
from alm_cli.nn.conv import Conv, ConvTranspose
from alm_cli.nn.quantize import ResidualVQ
from alm_cli.nn.recurrent import ResidualLSTM
from alm_cli.nn.stack import ConvDecoder, ConvEncoder, Elu, ResidualUnit, StackParts, StackSpec
from alm_cli.nn.state import State


@dataclass(frozen=True, kw_only=True)
class EncodecConfig:
    """The architecture, in the words of the kit."""

    stack: StackSpec
    rate: int
    unit_kernel: int
    compress: int  # features of a residual unit over those inside it
    convolved_skip: bool
    lstm_layers: int
    codebooks: int
    vocabulary: int

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> EncodecConfig:
        """Read the published `config.json`; what this file does not build is an error."""
        settings = Settings(raw)
        ratios = settings.numbers("upsampling_ratios", (8, 5, 4, 2))
        units = settings.number("num_residual_layers", 1, most=16)
        growth = settings.number("dilation_growth_rate", 2)
        config = cls(
            stack=StackSpec(
                channels=settings.number("audio_channels", 1),
                width=settings.number("num_filters", 32),
                features=settings.number("hidden_size", 128),
                ratios=ratios[::-1],  # the file lists the decoder's
                dilations=tuple(growth**unit for unit in range(units)),
                kernel=settings.number("kernel_size", 7),
                last_kernel=settings.number("last_kernel_size", 7),
            ),
            rate=settings.number("sampling_rate", 24_000),
            unit_kernel=settings.number("residual_kernel_size", 3),
            compress=settings.number("compress", 2),
            convolved_skip=settings.truth("use_conv_shortcut", True),
            lstm_layers=settings.number("num_lstm_layers", 2, most=16),
            codebooks=_codebooks(settings, prod(ratios)),
            vocabulary=settings.number("codebook_size", 1024),
        )
        settings.only("codebook_dim", config.stack.features, None)
        settings.only("norm_type", "weight_norm")
        settings.only("pad_mode", "reflect")
        settings.only("use_causal_conv", True)
        settings.only("trim_right_ratio", 1.0)
        settings.only("normalize", False)
        settings.only("chunk_length_s", None)
        settings.only("overlap", None)
        settings.finish()
        return config


def _codebooks(settings: Settings, hop: int) -> int:
    """How many books the highest of the published bandwidths, in kbps, pays for."""
    kbps = settings.amounts("target_bandwidths", (1.5, 3.0, 6.0, 12.0, 24.0))[-1]
    bits = ceil(log2(settings.number("codebook_size", 1024)))
    frame_rate = ceil(settings.number("sampling_rate", 24_000) / hop)
    return settings.within("target_bandwidths", int(1000 * kbps // (frame_rate * max(bits, 1))))


class Encodec(nn.Module):
    """wave [B, C, T] <-> codes [B, K, ceil(T / hop)].

    The convolutions mirror the signal at its start, so a stream begins with its seventh frame;
    after that the model is strictly causal.
    """

    delay = 0
    # Two seconds keep the widest activations inside a processor's cache.
    block_frames = 150

    def __init__(self, config: EncodecConfig) -> None:
        super().__init__()
        stack = config.stack
        self.rate, self.channels, self.hop = config.rate, stack.channels, prod(stack.ratios)
        self.vocabularies = (config.vocabulary,) * config.codebooks
        parts = _parts(config)
        self.encoder = ConvEncoder(stack, parts)
        self.quantizer = ResidualVQ(config.codebooks, config.vocabulary, stack.features)
        self.decoder = ConvDecoder(stack, parts)

    def encode(
        self, wave: Tensor, codebooks: int | None = None, state: State | None = None
    ) -> Tensor:
        """wave [B, C, T] -> codes [B, K, F] int64."""
        if not wave.shape[-1]:
            return self._no_codes(wave, codebooks)
        if state is None and wave.device.type == "cpu":
            step = partial(self._encoded, codebooks)
            return in_blocks(step, wave, self.block_frames * self.hop)
        return self._encoded(codebooks, wave, state)

    def decode(self, codes: Tensor, state: State | None = None) -> Tensor:
        """codes [B, K, F] -> wave [B, C, F * hop]."""
        if not codes.shape[-1]:
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


def _parts(config: EncodecConfig) -> StackParts:
    conv = partial(Conv, padding="reflect")

    def unit(width: int, dilation: int) -> nn.Module:
        hidden = width // config.compress
        first = conv(width, hidden, config.unit_kernel, dilation=dilation)
        skip = conv(width, width, 1) if config.convolved_skip else None
        return ResidualUnit(Elu(), first, Elu(), conv(hidden, width, 1), skip)

    return StackParts(
        conv=conv,
        up=ConvTranspose,
        unit=unit,
        activation=lambda _: Elu(),
        context=lambda width: ResidualLSTM(width, config.lstm_layers),
    )


# Both the layout of the hub and that of the first release (`.th`), which wraps modules once more.
_LAYER = "{half:encoder,decoder}.{list:layers,model}.{i}"
_CONV = "{conv:conv,conv.conv,convtr.convtr}"
_ROLES = (("block.1", "first"), ("block.3", "second"), ("shortcut", "skip"))
_CODEBOOK = "quantizer.{list:layers,vq.layers}.{i}.{book:codebook,_codebook}"

KEYS = KeyMap(
    fold_weight_norm(f"{_LAYER}.{_CONV}", "{half}.{i}.weight"),
    rename(f"{_LAYER}.{_CONV}.bias", "{half}.{i}.bias"),
    *(
        rule
        for theirs, ours in _ROLES
        for rule in (
            fold_weight_norm(f"{_LAYER}.{theirs}.{_CONV}", f"{{half}}.{{i}}.{ours}.weight"),
            rename(f"{_LAYER}.{theirs}.{_CONV}.bias", f"{{half}}.{{i}}.{ours}.bias"),
        )
    ),
    rename(f"{_LAYER}.lstm.{{name:*}}", "{half}.{i}.lstm.{name}"),
    rename(f"{_CODEBOOK}.embed", "quantizer.codebooks.{i}.vectors"),
    drop(f"{_CODEBOOK}.{{name:embed_avg,cluster_size,inited}}"),  # what training updates
)

FAMILY = Family(EncodecConfig.from_hub, Encodec, KEYS)
