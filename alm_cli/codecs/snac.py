"""SNAC at 24, 32 and 44.1 kHz: a few codebooks, the first of them slow (arXiv:2410.14411)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import lcm, prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import KeyMap, Shape, Verb, drop, fold_weight_norm, rename
from alm_cli.nn.blocks import in_blocks
from alm_cli.nn.conv import Conv
from alm_cli.nn.local_attention import LocalAttention
from alm_cli.nn.noise import Noise
from alm_cli.nn.projected_vq import ProjectedVQ
from alm_cli.nn.snake import Snake, snake_down, snake_up
from alm_cli.nn.stack import Chain
from alm_cli.nn.state import State

_HEAD = 64  # features of one of the heads of attention


@dataclass(frozen=True, kw_only=True)
class SnacConfig:
    """The architecture, in the words of the kit."""

    rate: int
    width: int  # features after the encoder's first convolution, doubled by every stage
    decoder_width: int  # features after the decoder's first convolutions, halved by every stage
    ratios: tuple[int, ...]  # by which the encoder's stages shorten the signal, in its order
    window: int | None  # of attention, in frames
    strides: tuple[int, ...]  # frames for one code of each codebook
    vocabulary: int
    dimension: int  # of a codebook
    noise: bool
    depthwise: bool

    @property
    def features(self) -> int:
        """Those of the latent."""
        return int(self.width * 2 ** len(self.ratios))

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> SnacConfig:
        """Read the published `config.json`; what this file does not build is an error."""
        settings = Settings(raw)
        ratios = settings.numbers("encoder_rates", (3, 3, 7, 7))
        settings.only("decoder_rates", [*reversed(ratios)])
        strides = settings.numbers("vq_strides", (8, 4, 2, 1))
        if any(strides[0] % stride for stride in strides) or strides[-1] != 1:
            settings.only("vq_strides", "divisors of the first, of which the last is 1")
        local = raw.get("attn_window_size", 32) is not None
        config = cls(
            rate=settings.number("sampling_rate", 44_100),
            width=settings.number("encoder_dim", 64),
            decoder_width=settings.number("decoder_dim", 1536),
            ratios=ratios,
            window=settings.number("attn_window_size", 32) if local else None,
            strides=strides,
            vocabulary=settings.number("codebook_size", 4096),
            dimension=settings.number("codebook_dim", 8),
            noise=settings.truth("noise", True),
            depthwise=settings.truth("depthwise", True),
        )
        if not local or config.features % _HEAD or config.decoder_width % _HEAD:
            settings.only("attn_window_size", None)
        settings.only("latent_dim", None, config.features)
        settings.finish()
        return config


class Snac(nn.Module):
    """wave [B, 1, T] <-> codes [B, K, F], those of slow codebooks repeated `strides` times.

    The signal is filled up with zeros to `frame_multiple` frames, which contain whole windows of
    attention and whole codes of all codebooks. The decoder adds noise where its stream has a
    `noise_seed`, and none otherwise.
    """

    channels = 1
    delay = 0
    by_blocks = True

    def __init__(self, config: SnacConfig) -> None:
        super().__init__()
        self.rate, self.hop = config.rate, prod(config.ratios)
        self.strides = config.strides
        self.vocabularies = (config.vocabulary,) * len(self.strides)
        self.frame_multiple = lcm(self.strides[0], config.window or 1)
        # About a second: its widest activations stay near the processor.
        self.block_frames = -(-self.rate // (self.hop * self.frame_multiple)) * self.frame_multiple
        self.encoder = _encoder(config)
        self.quantizer = ProjectedVQ(
            config.features, config.vocabulary, config.dimension, self.strides
        )
        self.decoder = _decoder(config)

    def encode(
        self, wave: Tensor, codebooks: int | None = None, state: State | None = None
    ) -> Tensor:
        """wave [B, 1, T] -> codes [B, K, F] int64."""
        if state is None and wave.device.type == "cpu" and wave.shape[-1]:
            step = partial(self._encoded, codebooks)
            return in_blocks(step, wave, self.block_frames * self.hop)
        return self._encoded(codebooks, wave, state)

    def decode(self, codes: Tensor, state: State | None = None) -> Tensor:
        """codes [B, K, F] -> wave [B, 1, F * hop]."""
        if state is None and codes.device.type == "cpu" and codes.shape[-1]:
            return in_blocks(self._decoded, codes, self.block_frames)
        return self._decoded(codes, state)

    def _encoded(self, codebooks: int | None, wave: Tensor, state: State | None) -> Tensor:
        if state is None or state.last:
            wave = F.pad(wave, (0, -wave.shape[-1] % (self.hop * self.frame_multiple)))
        if not wave.shape[-1] and state is None:
            return self.quantizer.encode(wave, codebooks)
        latents = self.encoder(wave.to(self.dtype), state)
        if state is not None:
            # Only as many frames as make whole codes; the encoder gives what it has.
            past = state.get(self.quantizer, lambda: latents[..., :0])
            latents = torch.cat((past, latents), -1)
            ready = latents.shape[-1] // self.strides[0] * self.strides[0]
            state.put(self.quantizer, latents[..., ready:].clone())
            latents = latents[..., :ready]
        return self.quantizer.encode(latents, codebooks)

    def _decoded(self, codes: Tensor, state: State | None) -> Tensor:
        if not codes.shape[-1] and state is None:
            return torch.zeros(codes.shape[0], 1, 0, device=codes.device)
        latents = self.quantizer.decode(codes).to(self.dtype)
        return torch.tanh(self.decoder(latents, state)).float()

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


def _encoder(config: SnacConfig) -> Chain:
    width = config.width
    parts: list[nn.Module] = [Conv(1, width, 7, causal=False)]
    for ratio in config.ratios:
        parts.append(snake_down(width, ratio, width if config.depthwise else 1))
        width *= 2
    if config.window:
        parts.append(LocalAttention(width, config.window, _HEAD))
    groups = width if config.depthwise else 1
    return Chain(*parts, Conv(width, width, 7, groups=groups, causal=False))


def _decoder(config: SnacConfig) -> Chain:
    features, width = config.features, config.decoder_width
    parts: list[nn.Module] = [Conv(features, width, 7, causal=False)]
    if config.depthwise:
        depthwise = Conv(features, features, 7, groups=features, causal=False)
        parts = [depthwise, Conv(features, width, 1, causal=False)]
    if config.window:
        parts.append(LocalAttention(width, config.window, _HEAD))
    for stage, ratio in enumerate(reversed(config.ratios)):
        half = width // 2
        noise = Noise(half, stage) if config.noise else None
        groups = half if config.depthwise else 1
        parts.append(snake_up(width, ratio, groups=groups, noise=noise))
        width = half
    return Chain(*parts, Snake(width), Conv(width, 1, 7, causal=False))


def _sniff(shapes: Mapping[str, Shape], said: Mapping[str, object]) -> Mapping[str, object] | None:
    """The config.json of SNAC, which names no family but nobody else's settings."""
    return said if "vq_strides" in said and "decoder.model.0.bias" in shapes else None


def _convolution(theirs: str, ours: str) -> tuple[Verb, Verb]:
    return fold_weight_norm(theirs, f"{ours}.weight"), rename(f"{theirs}.bias", f"{ours}.bias")


# Parts have the places of the reference.
_PART, _OURS = "{half:encoder,decoder}.{list:block,model}.{i}", "{half}.{i}"
_STAGE, _OUR_STAGE = f"{_PART}.block.{{j}}", f"{_OURS}.{{j}}"
_BOOK, _OUR_BOOK = "quantizer.quantizers.{i}", "quantizer.books.{i}"

KEYS = KeyMap(
    *_convolution(_PART, _OURS),
    rename(f"{_PART}.alpha", f"{_OURS}.alpha"),
    rename(f"{_PART}.norm.{{name:weight,bias}}", f"{_OURS}.norm.{{name}}"),
    rename(f"{_PART}.to_qkv.weight", f"{_OURS}.qkv.weight"),
    rename(f"{_PART}.to_out.weight", f"{_OURS}.out.weight"),
    drop(f"{_PART}.rel_pos.inv_freq"),  # what its formula gives
    *_convolution(_STAGE, _OUR_STAGE),
    rename(f"{_STAGE}.alpha", f"{_OUR_STAGE}.alpha"),
    fold_weight_norm(f"{_STAGE}.linear", f"{_OUR_STAGE}.weight"),
    rename(f"{_STAGE}.block.0.alpha", f"{_OUR_STAGE}.before.alpha"),
    *_convolution(f"{_STAGE}.block.1", f"{_OUR_STAGE}.first"),
    rename(f"{_STAGE}.block.2.alpha", f"{_OUR_STAGE}.between.alpha"),
    *_convolution(f"{_STAGE}.block.3", f"{_OUR_STAGE}.second"),
    *_convolution(f"{_BOOK}.in_proj", f"{_OUR_BOOK}.into"),
    *_convolution(f"{_BOOK}.out_proj", f"{_OUR_BOOK}.out"),
    rename(f"{_BOOK}.codebook.weight", f"{_OUR_BOOK}.vectors"),
)

FAMILY = Family(SnacConfig.from_hub, Snac, KEYS, _sniff)
