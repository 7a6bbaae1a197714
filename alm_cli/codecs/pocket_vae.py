"""The variational autoencoder of pocket-tts: 12.5 latents a second of speech (arXiv:2509.06926).

Mimi without its quantiser: its encoder and decoder around a narrow latent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import prod

from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import Shape, drop, rename
from alm_cli.checkpoints.split import SplitKeyMap
from alm_cli.nn.blocks import in_blocks
from alm_cli.nn.context import ContextSpec, context_transformer
from alm_cli.nn.narrow import NarrowConv, NarrowConvTranspose
from alm_cli.nn.seanet import seanet_parts
from alm_cli.nn.stack import ConvDecoder, ConvEncoder, StackSpec
from alm_cli.nn.state import State

# What config.json says of training and of the interface of its library.
_UNUSED = frozenset({
    "attention_dropout", "initializer_range", "layer_scale_initial_scale",
    "max_position_embeddings", "use_cache", "use_streaming",
})  # fmt: skip
_GELU = partial(F.gelu, approximate="tanh")


@dataclass(frozen=True, kw_only=True)
class Half:
    """The sizes of an encoder, or of the decoder that mirrors such."""

    stack: StackSpec
    context: ContextSpec


@dataclass(frozen=True, kw_only=True)
class PocketVaeConfig:
    """The architecture; `encoder` is None where it was left out.

    `heard` is how many features the encoder makes of a frame: those of the latent, but more in the
    first release, whose language model heard voices in another way than it speaks.
    """

    encoder: Half | None
    decoder: Half
    rate: int
    stride: int  # vectors of the transformers for each latent
    latent: int
    heard: int
    unit_kernel: int
    compress: int

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> PocketVaeConfig:
        """Read the published `config.json`; what this file does not build is an error."""
        told = raw.get("decoder")  # ours, as "heard_dim" and "rotary_pairs": see `bundled`
        settings = Settings({key: raw[key] for key in raw.keys() - _UNUSED - {"decoder"}})
        half = _half(settings)
        other = Settings(told) if isinstance(told, Mapping) else None
        latent = settings.number("latent_dim", 32)
        config = cls(
            encoder=None if raw.get("encoder_config", 0) is None else half,
            decoder=half if other is None else _half(other),
            rate=settings.number("sampling_rate", 24_000),
            stride=settings.number("latent_stride", 16, most=1024),
            latent=latent,
            heard=settings.number("heard_dim", latent),
            unit_kernel=settings.number("residual_kernel_size", 3),
            compress=settings.number("compress", 2),
        )
        settings.only("encoder_config", None)
        settings.only("audio_channels", 1)
        settings.only("upsample_groups", config.decoder.stack.features)
        settings.only("pad_mode", "constant")
        settings.only("use_causal_conv", True)
        settings.only("trim_right_ratio", 1.0)
        settings.only("use_conv_shortcut", False)
        settings.finish()
        if other is not None:
            other.finish()
        return config


def _half(settings: Settings) -> Half:
    dimension = settings.number("hidden_size", 512)
    heads = settings.number("num_attention_heads", 8, most=256)
    ratios = settings.numbers("upsampling_ratios", (6, 5, 4))
    units = settings.number("num_residual_layers", 1, most=16)
    growth = settings.number("dilation_growth_rate", 2, most=16)
    half = Half(
        stack=StackSpec(
            channels=1,
            width=settings.number("num_filters", 64),
            features=dimension,
            ratios=ratios[::-1],  # the file lists the decoder's
            dilations=tuple(growth**unit for unit in range(units)),
            kernel=settings.number("kernel_size", 7),
            last_kernel=settings.number("last_kernel_size", 3),
        ),
        context=ContextSpec(
            dimension=dimension,
            depth=settings.number("num_hidden_layers", 2, most=256),
            heads=heads,
            kv_heads=settings.number("num_key_value_heads", heads),
            head_dimension=settings.within("num_attention_heads", dimension // heads, most=4096),
            hidden=settings.number("intermediate_size", 2048),
            window=settings.number("sliding_window", 250),
            rotary="pairs" if settings.truth("rotary_pairs", False) else "halves",
        ),
    )
    settings.only("head_dim", None, half.context.head_dimension)
    settings.only("hidden_act", "gelu_pytorch_tanh")
    settings.only("norm_eps", 1e-5)
    settings.only("attention_bias", False)
    settings.only("rope_parameters", None, {"rope_type": "default", "rope_theta": 10_000.0})
    return half


class PocketVae(nn.Module):
    """wave [B, 1, T] -> what is heard [B, H, ceil(T / hop)]; latents [B, L, F] -> wave.

    Strictly causal. The wave is filled with zeros to whole frames.
    """

    # Frames that are decoded at a time in a whole signal.
    block_frames = 25

    def __init__(self, config: PocketVaeConfig) -> None:
        super().__init__()
        stack = config.decoder.stack
        self.rate, self.latent, self.heard = config.rate, config.latent, config.heard
        self.hop = prod(stack.ratios) * config.stride
        parts = seanet_parts(
            conv=NarrowConv,
            up=NarrowConvTranspose,
            kernel=config.unit_kernel,
            compress=config.compress,
            convolved_skip=False,
        )
        kernel, width = 2 * config.stride, stack.features
        self.encoder: ConvEncoder | None = None
        if config.encoder is not None:
            half = config.encoder
            self.encoder = ConvEncoder(half.stack, parts)
            self.encoder_context = context_transformer(half.context, _GELU)
            self.down = NarrowConv(
                *(half.stack.features, config.heard, kernel),
                stride=config.stride,
                bias=False,
                padding="replicate",
            )
        self.widen = NarrowConv(config.latent, width, 1, bias=False)
        self.up = NarrowConvTranspose(
            width, width, kernel, stride=config.stride, groups=width, bias=False
        )
        self.decoder_context = context_transformer(config.decoder.context, _GELU)
        self.decoder = ConvDecoder(stack, parts)

    @property
    def hears(self) -> bool:
        """Whether there is an encoder: open checkpoints leave it out, or make all of it zeros."""
        return self.encoder is not None and bool(self.down.weight.any())

    def encode(self, wave: Tensor, state: State | None = None) -> Tensor:
        """wave [B, 1, T] -> [B, H, F]."""
        if state is None and wave.device.type == "cpu" and wave.shape[-1]:
            return in_blocks(self._encoded, wave, self.block_frames * self.hop)
        return self._encoded(wave, state)

    def decode(self, latents: Tensor, state: State | None = None) -> Tensor:
        """latents [B, L, F] -> wave [B, 1, F * hop]."""
        if state is None and latents.device.type == "cpu" and latents.shape[-1]:
            return in_blocks(self._decoded, latents, self.block_frames)
        return self._decoded(latents, state)

    def _encoded(self, wave: Tensor, state: State | None) -> Tensor:
        assert self.encoder is not None, "the checkpoint has no encoder"
        # Only the last call of a stream may bring a part of a frame.
        wave = F.pad(wave, (0, -wave.shape[-1] % self.hop))
        x = self.encoder(wave.to(self.down.weight.dtype), state)
        heard: Tensor = self.down(self.encoder_context(x.mT, state=state).mT, state)
        return heard.float()

    def _decoded(self, latents: Tensor, state: State | None) -> Tensor:
        x = self.up(self.widen(latents.to(self.up.weight.dtype)), state)
        wave: Tensor = self.decoder(self.decoder_context(x.mT, state=state).mT, state)
        return wave.float()


# The layout of the hub, and that of the authors' program, where the language model is in the file.
_HUB, _ORIGINAL = "{half:encoder,decoder}.{half}_", "mimi.{half:encoder,decoder}"
_ROLES = {"": "", "block.1.": "first.", "block.3.": "second."}
_IN_BLOCK = (
    ("attention_norm", "input_layernorm", "norm1"),
    ("attention.out", "self_attn.o_proj", "self_attn.out_proj"),
    ("attention_add", "self_attn_layer_scale", "layer_scale_1"),
    ("mlp_norm", "post_attention_layernorm", "norm2"),
    ("mlp.up", "mlp.fc1", "linear1"),
    ("mlp.down", "mlp.fc2", "linear2"),
    ("mlp_add", "mlp_layer_scale", "layer_scale_2"),
)
_LAYERS = (f"{_HUB}seanet.layers.{{i}}", f"{_ORIGINAL}.model.{{i}}")
_BLOCKS = (
    f"{_HUB}transformer.layers.{{i}}",
    f"{_ORIGINAL}_transformer.transformer.layers.{{i}}",
)
_OURS = "{half}_context.blocks.{i}"
_QUERIES = ("self_attn.{part:q,k,v}_proj.weight", "self_attn.in_proj.weight.{part:q,k,v}")

KEYS = SplitKeyMap(
    {"in_proj.weight": ("q", "k", "v")},
    *(
        rename(
            f"{layer}.{theirs}{{conv:conv,convtr}}.{{what:weight,bias}}",
            f"{{half}}.{{i}}.{ours}{{what}}",
        )
        for layer in _LAYERS
        for theirs, ours in _ROLES.items()
    ),
    *(
        rename(f"{block}.{queries}", f"{_OURS}.attention.{{part}}.weight")
        for block, queries in zip(_BLOCKS, _QUERIES, strict=True)
    ),
    *(
        rename(f"{block}.{theirs}.{{what:weight,bias,scale}}", f"{_OURS}.{ours}.{{what}}")
        for ours, *names in _IN_BLOCK
        for block, theirs in zip(_BLOCKS, names, strict=True)
    ),
    rename("{root:encoder.downsample,mimi.downsample.conv}.conv.weight", "down.weight"),
    rename("{root:decoder.upsample.conv,mimi.upsample.convtr.convtr}.weight", "up.weight"),
    rename("{root:latent_proj,mimi.quantizer.output_proj}.weight", "widen.weight"),
    drop("flow_lm.*"),
)


def bundled(shapes: Mapping[str, Shape]) -> Mapping[str, object] | None:
    """The settings of the autoencoder in a checkpoint of the authors' program; None: there is none.

    They follow from the shapes, and where they do not, from what all published ones have.
    """
    halves = {half: _told(shapes, f"mimi.{half}") for half in ("encoder", "decoder")}
    outer = shapes.get("mimi.quantizer.output_proj.weight", ())
    up = shapes.get("mimi.upsample.convtr.convtr.weight", ())
    down = shapes.get("mimi.downsample.conv.conv.weight", ())
    decoder = halves["decoder"]
    if decoder is None or len(outer) != 3 or len(up) != 3:
        return None
    encoder = halves["encoder"] if len(down) == 3 else None
    return {
        **(encoder or {**decoder, "encoder_config": None}),
        "latent_dim": outer[1],
        "latent_stride": up[2] // 2,
        "heard_dim": down[0] if encoder else outer[1],
        "decoder": decoder,
    }


def _told(shapes: Mapping[str, Shape], name: str) -> dict[str, object] | None:
    """The settings of one half, from its tensors."""
    layers = {
        int(match[1]): shape
        for key, shape in shapes.items()
        if (match := re.fullmatch(rf"{re.escape(name)}\.model\.(\d+)\.conv(tr)?\..*weight", key))
    }
    ends = [layers[place] for place in sorted(layers)]
    hidden = shapes.get(f"{name}_transformer.transformer.layers.0.linear1.weight", ())
    blocks = [
        key for key in shapes if re.fullmatch(rf"{re.escape(name)}_tr.*\.linear1\.weight", key)
    ]
    if len(ends) < 3 or any(len(shape) != 3 for shape in ends) or len(hidden) != 2:
        return None
    decodes = name.endswith("decoder")
    ratios = [shape[2] // 2 for shape in ends[1:-1]]
    wide = hidden[1]
    # All published encoders are 512 wide and have heads of 64; the narrow decoders of the small
    # models have heads of 32 and see fewer vectors.
    narrow = wide < 512
    return {
        "num_filters": ends[-1][1] if decodes else ends[0][0],
        "hidden_size": wide,
        "upsampling_ratios": ratios if decodes else ratios[::-1],
        "kernel_size": ends[0][2],
        "last_kernel_size": ends[-1][2],
        "num_hidden_layers": len(blocks),
        "num_attention_heads": max(1, wide // (32 if narrow else 64)),
        "num_key_value_heads": max(1, wide // (32 if narrow else 64)),
        "intermediate_size": hidden[0],
        "sliding_window": 50 if narrow else 250,
        # The hub's checkpoints have the rows of queries and keys in another order.
        "rotary_pairs": True,
    }


FAMILY = Family(PocketVaeConfig.from_hub, PocketVae, KEYS)
