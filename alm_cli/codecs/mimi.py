"""Mimi: 12.5 frames per second of 24 kHz speech, up to 32 codebooks (arXiv:2410.00037)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import Shape, drop, merge, rename
from alm_cli.checkpoints.split import SplitKeyMap
from alm_cli.nn.blocks import in_blocks
from alm_cli.nn.context import ContextSpec, context_transformer
from alm_cli.nn.narrow import NarrowConv, NarrowConvTranspose
from alm_cli.nn.quantize import ProjectedVQ, SplitVQ, TableCodebook, as_table
from alm_cli.nn.seanet import seanet_parts
from alm_cli.nn.stack import ConvDecoder, ConvEncoder, StackParts, StackSpec
from alm_cli.nn.state import State

# The transformers see two vectors for every frame of codes.
_STRIDE = 2
# What config.json says of training and of the interface of its library.
_UNUSED = frozenset({
    "attention_dropout", "initializer_range", "layer_scale_initial_scale",
    "max_position_embeddings", "tie_word_embeddings", "use_cache", "use_streaming",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MimiConfig:
    """The architecture, in the words of the kit."""

    stack: StackSpec
    context: ContextSpec
    rate: int
    unit_kernel: int
    compress: int  # features of a residual unit over those inside it
    convolved_skip: bool
    codebooks: int
    semantic: int  # of the codebooks
    vocabulary: int
    code_dimension: int

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> MimiConfig:
        """Read the published `config.json`; what this file does not build is an error."""
        settings = Settings({key: value for key, value in raw.items() if key not in _UNUSED})
        context = _context(settings)
        ratios = settings.numbers("upsampling_ratios", (8, 6, 5, 4))
        units = settings.number("num_residual_layers", 1, most=16)
        growth = settings.number("dilation_growth_rate", 2)
        books = settings.number("num_quantizers", 32, most=256)
        config = cls(
            stack=StackSpec(
                channels=settings.number("audio_channels", 1),
                width=settings.number("num_filters", 64),
                features=context.dimension,
                ratios=ratios[::-1],  # the file lists the decoder's
                dilations=tuple(growth**unit for unit in range(units)),
                kernel=settings.number("kernel_size", 7),
                last_kernel=settings.number("last_kernel_size", 3),
            ),
            context=context,
            rate=settings.number("sampling_rate", 24_000),
            unit_kernel=settings.number("residual_kernel_size", 3),
            compress=settings.number("compress", 2),
            convolved_skip=settings.truth("use_conv_shortcut", False),
            codebooks=books,
            semantic=settings.number("num_semantic_quantizers", 1, most=max(1, books - 1)),
            vocabulary=settings.number("codebook_size", 2048),
            code_dimension=settings.number("vector_quantization_hidden_dimension", 256),
        )
        _only_what_is_built(settings, config)
        settings.finish()
        return config


def _context(settings: Settings) -> ContextSpec:
    dimension = settings.number("hidden_size", 512)
    heads = settings.number("num_attention_heads", 8)
    pairs = settings.truth("rotary_pairs", False)  # ours: see `_sniff`
    spec = ContextSpec(
        dimension=dimension,
        depth=settings.number("num_hidden_layers", 8, most=256),
        heads=heads,
        kv_heads=settings.number("num_key_value_heads", heads),
        head_dimension=max(1, dimension // heads),
        hidden=settings.number("intermediate_size", 2048),
        window=settings.number("sliding_window", 250),
        rotary="pairs" if pairs else "halves",
    )
    settings.only("head_dim", None, spec.head_dimension)
    settings.only("hidden_act", "gelu")
    settings.only("norm_eps", 1e-5)
    settings.only("attention_bias", False)
    settings.only("rope_theta", 10_000.0)
    settings.only("rope_scaling", None)
    rope = {"rope_type": "default", "rope_theta": 10_000.0}
    settings.only("rope_parameters", None, rope)
    return spec


def _only_what_is_built(settings: Settings, config: MimiConfig) -> None:
    frame_rate = config.rate / prod(config.stack.ratios) / _STRIDE
    settings.only("frame_rate", None, frame_rate)
    settings.only("_frame_rate", None, frame_rate)
    settings.only("codebook_dim", config.code_dimension, None)
    settings.only("upsample_groups", config.stack.features)
    settings.only("pad_mode", "constant")
    settings.only("use_causal_conv", True)
    settings.only("trim_right_ratio", 1.0)
    settings.only("normalize", False)


class Mimi(nn.Module):
    """wave [B, C, T] <-> codes [B, K, ceil(T / hop)].

    Strictly causal: a frame of codes depends on nothing after its own samples. The wave is filled
    with zeros to whole frames, as its authors' program does; `transformers` fills up in every layer
    instead, and then codes the last frame otherwise.
    """

    delay = 0
    by_blocks = fills_up = True
    # Two seconds keep the widest activations inside a processor's cache.
    block_frames = 25

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        stack, width = config.stack, config.stack.features
        self.rate, self.channels = config.rate, stack.channels
        self.hop = prod(stack.ratios) * _STRIDE
        self.vocabularies = (config.vocabulary,) * config.codebooks
        parts = _parts(config)
        self.encoder = ConvEncoder(stack, parts)
        self.encoder_context = context_transformer(config.context)
        kernel = 2 * _STRIDE
        self.down = NarrowConv(
            width, width, kernel, stride=_STRIDE, bias=False, padding="replicate"
        )
        self.quantizer = SplitVQ(
            _quantizer(config, config.semantic),
            _quantizer(config, config.codebooks - config.semantic),
        )
        self.up = NarrowConvTranspose(
            width, width, kernel, stride=_STRIDE, groups=width, bias=False
        )
        self.decoder_context = context_transformer(config.context)
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
        # Only the last call of a stream may bring a part of a frame.
        wave = F.pad(wave, (0, -wave.shape[-1] % self.hop))
        x = self.encoder(wave.to(self._dtype), state)
        x = self.encoder_context(x.mT, state=state).mT
        return self.quantizer.encode(self.down(x, state), codebooks)

    def _decoded(self, codes: Tensor, state: State | None) -> Tensor:
        x = self.up(self.quantizer.decode(codes), state)
        wave: Tensor = self.decoder(self.decoder_context(x.mT, state=state).mT, state)
        return wave.float()

    def _no_codes(self, wave: Tensor, codebooks: int | None) -> Tensor:
        shape = (wave.shape[0], len(self.vocabularies[:codebooks]), 0)
        return torch.zeros(shape, dtype=torch.int64, device=wave.device)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


def _parts(config: MimiConfig) -> StackParts:
    return seanet_parts(
        conv=NarrowConv,
        up=NarrowConvTranspose,
        kernel=config.unit_kernel,
        compress=config.compress,
        convolved_skip=config.convolved_skip,
    )


def _quantizer(config: MimiConfig, codebooks: int) -> ProjectedVQ:
    return ProjectedVQ(
        codebooks,
        config.vocabulary,
        config.stack.features,
        config.code_dimension,
        TableCodebook,
    )


def _table_of_means(total: Tensor, usage: Tensor) -> Tensor:
    """The table of a codebook from the sums [V, D] and numbers [V] of what training gave it."""
    return as_table(total.float() / usage.float().clamp_min(1e-5)[:, None])


# Both the layout of the hub and that of the authors' program, which wraps modules once more.
_LAYER = "{half:encoder,decoder}.{list:layers,model}.{i}"
_CONV = "{conv:conv,conv.conv,convtr.convtr}.{what:weight,bias}"
_ROLES = {"first": "block.1", "second": "block.3", "skip": "shortcut"}
_BLOCK = "{half:encoder,decoder}_transformer.{list:layers,transformer.layers}.{i}"
_OURS = "{half}_context.blocks.{i}"
_IN_BLOCK = {
    "attention_norm": "input_layernorm,norm1",
    "attention.out": "self_attn.o_proj,self_attn.out_proj",
    "attention_add": "self_attn_layer_scale,layer_scale_1",
    "mlp_norm": "post_attention_layernorm,norm2",
    "mlp.up": "mlp.fc1,linear1",
    "mlp.down": "mlp.fc2,linear2",
    "mlp_add": "mlp_layer_scale,layer_scale_2",
}
_BRANCHES = {
    "semantic": "quantizer.{branch:semantic_residual_vector_quantizer,rvq_first}",
    "acoustic": "quantizer.{branch:acoustic_residual_vector_quantizer,rvq_rest}",
}
_BOOK = "{list:layers,vq.layers}.{i}.{book:codebook,_codebook}"
_PROJECTIONS = {"before": "input_proj", "after": "output_proj"}

KEYS = SplitKeyMap(
    {"in_proj_weight": ("q", "k", "v")},
    rename(f"{_LAYER}.{_CONV}", "{half}.{i}.{what}"),
    *(
        rename(f"{_LAYER}.{theirs}.{_CONV}", f"{{half}}.{{i}}.{ours}.{{what}}")
        for ours, theirs in _ROLES.items()
    ),
    rename(f"{_BLOCK}.self_attn.{{part:q,k,v}}_proj.weight", f"{_OURS}.attention.{{part}}.weight"),
    rename(
        f"{_BLOCK}.self_attn.in_proj_weight.{{part:q,k,v}}", f"{_OURS}.attention.{{part}}.weight"
    ),
    *(
        rename(f"{_BLOCK}.{{part:{theirs}}}.{{what:weight,bias,scale}}", f"{_OURS}.{ours}.{{what}}")
        for ours, theirs in _IN_BLOCK.items()
    ),
    rename("downsample.{conv:conv,conv.conv.conv}.weight", "down.weight"),
    rename("upsample.{conv:conv,convtr.convtr.convtr}.weight", "up.weight"),
    *(
        rename(f"{branch}.{theirs}.weight", f"quantizer.{name}.{ours}.weight")
        for name, branch in _BRANCHES.items()
        for ours, theirs in _PROJECTIONS.items()
    ),
    *(
        merge(
            (
                f"{branch}.{_BOOK}.{{sum:embed_sum,embedding_sum}}",
                f"{branch}.{_BOOK}.cluster_usage",
            ),
            f"quantizer.{name}.codebooks.{{i}}.table",
            _table_of_means,
        )
        for name, branch in _BRANCHES.items()
    ),
    drop("quantizer.*.{state:initialized,_initialized}"),  # of training
)


def _sniff(
    shapes: Mapping[str, Shape],
    said: Mapping[str, object],  # noqa: ARG001
) -> Mapping[str, object] | None:
    """The settings of a checkpoint of the authors' program, which comes without any."""
    first = shapes.get("encoder.model.0.conv.conv.weight", ())
    hidden = shapes.get("encoder_transformer.transformer.layers.0.linear1.weight", ())
    table = shapes.get("quantizer.rvq_first.vq.layers.0._codebook.embedding_sum", ())
    if len(first) != 3 or len(hidden) != 2 or len(table) != 2:
        return None
    kernels = {
        int(match[1]): shape[-1]
        for name, shape in shapes.items()
        if (match := re.fullmatch(r"decoder\.model\.(\d+)\.convtr\.convtr\.weight", name)) and shape
    }
    semantic, acoustic = (
        len(
            [
                name
                for name in shapes
                if re.fullmatch(rf"quantizer\.{branch}\..*\.embedding_sum", name)
            ]
        )
        for branch in ("rvq_first", "rvq_rest")
    )
    blocks = [name for name in shapes if re.fullmatch(r"encoder_tr.*\.linear1\.weight", name)]
    return {
        "audio_channels": first[1],
        "num_filters": first[0],
        "kernel_size": first[2],
        "upsampling_ratios": [kernels[place] // 2 for place in sorted(kernels)],
        "hidden_size": hidden[1],
        "intermediate_size": hidden[0],
        "num_hidden_layers": len(blocks),
        # All published models have heads of 64 features.
        "num_attention_heads": max(1, hidden[1] // 64),
        "num_key_value_heads": max(1, hidden[1] // 64),
        "upsample_groups": hidden[1],
        "codebook_size": table[0],
        "codebook_dim": table[1],
        "vector_quantization_hidden_dimension": table[1],
        "num_quantizers": semantic + acoustic,
        "num_semantic_quantizers": semantic,
        # The hub's checkpoints have the rows of queries and keys in another order.
        "rotary_pairs": True,
    }


FAMILY = Family(MimiConfig.from_hub, Mimi, KEYS, _sniff)
