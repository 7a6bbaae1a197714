"""Dia: dialogues with laughs and sighs, nine codebooks of DAC with delays (Nari Labs, 2025).

Bytes of text are read by an encoder; a decoder listens to it and tells a code of each codebook at
every step, the later codebooks later (arXiv:2306.05284).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.checkpoints.family import Family, Settings, SettingsError
from alm_cli.checkpoints.keymap import rename
from alm_cli.checkpoints.llama import llama_turns
from alm_cli.checkpoints.split import SplitKeyMap
from alm_cli.nn.linear import Linear
from alm_cli.nn.llama import GatedMLP, Llama, LlamaSpec, RowAttention
from alm_cli.nn.position import Rotary
from alm_cli.nn.state import State

Pair = tuple[Tensor, Tensor]  # keys and values
# What the layers of the decoder make of one text.
Heard = tuple[Pair, ...]

# After the codes of DAC; the first ends a recording, the second follows, the third begins it.
END, PAD, BEGIN = 1024, 1025, 1026

_BASE = 10_000.0
_LAGS = (0, 8, 9, 10, 11, 12, 13, 14, 15)
_ENCODER = {
    "hidden_size": 1024,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "intermediate_size": 4096,
}
_DECODER = {
    "hidden_size": 2048,
    "num_hidden_layers": 18,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "intermediate_size": 8192,
}
_UNUSED = frozenset({"initializer_range", "is_encoder_decoder", "tie_word_embeddings", "use_cache"})
_HALVES = ("encoder_config", "decoder_config")


@dataclass(frozen=True, kw_only=True)
class DiaConfig:
    """The architecture; codebook k comes `lags[k]` steps late."""

    encoder: LlamaSpec
    decoder: LlamaSpec
    cross_heads: int
    cross_head_dimension: int
    lags: tuple[int, ...]
    codes: int
    texts: int
    positions: tuple[int, int]

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> DiaConfig:
        """Read the published `config.json`; what this file does not build is an error."""
        whole = Settings({key: raw[key] for key in raw.keys() - _UNUSED - set(_HALVES)})
        encoder, decoder = (_Half(raw, name) for name in _HALVES)
        read, said = encoder.spec(_ENCODER), decoder.spec(_DECODER)
        told = raw.get("delay_pattern", _LAGS)
        # A lag of 0 is no number for `Settings`.
        lags = tuple(told) if isinstance(told, list | tuple) else ()
        if not lags or lags[0] or not all(type(lag) is int and 0 <= lag < 256 for lag in lags):
            raise _unsuitable("delay_pattern", "is not a list of steps that begins with 0")
        whole.only("delay_pattern", told)
        whole.only("norm_eps", said.epsilon)
        for settings in (whole, decoder.settings):
            settings.only("bos_token_id", BEGIN, None)
            settings.only("eos_token_id", END, None)
            settings.only("pad_token_id", PAD, None)
        config = cls(
            encoder=read,
            decoder=said,
            cross_heads=decoder.settings.number("cross_num_attention_heads", 16, most=256),
            cross_head_dimension=decoder.settings.number("cross_head_dim", 128, most=4096),
            lags=lags,
            codes=decoder.settings.number("vocab_size", 1028),
            texts=encoder.settings.number("vocab_size", 256),
            positions=(encoder.positions(1024), decoder.positions(3072)),
        )
        decoder.settings.only("num_channels", len(lags))
        decoder.settings.only("cross_hidden_size", read.dimension)
        decoder.settings.only("cross_num_key_value_heads", config.cross_heads)
        for part in (whole, encoder.settings, decoder.settings):
            part.finish()
        if config.codes <= BEGIN or config.texts < 256:
            raise _unsuitable("vocab_size", "is too small")
        return config


class _Half:
    """One of the two parts of the settings."""

    def __init__(self, raw: Mapping[str, object], name: str) -> None:
        half = raw.get(name) or {}
        if not isinstance(half, Mapping):
            raise _unsuitable(name, "is not an object")
        self._own = {key: value for key, value in half.items() if key not in _UNUSED}
        self.settings = Settings(self._own)

    def spec(self, usual: Mapping[str, int]) -> LlamaSpec:
        """The sizes. SettingsError: what cannot be built."""
        settings = self.settings
        settings.only("hidden_act", "silu")
        base, stretch = llama_turns(settings, self._own, _BASE)
        if base != _BASE or stretch is not None:
            raise _unsuitable("rope_parameters", "are not the default ones")
        heads = settings.number("num_attention_heads", usual["num_attention_heads"], most=256)
        shared = settings.number("num_key_value_heads", usual["num_key_value_heads"], most=256)
        if heads % shared:
            raise _unsuitable("num_key_value_heads", f"cannot be shared among {heads} heads")
        return LlamaSpec(
            dimension=settings.number("hidden_size", usual["hidden_size"]),
            layers=settings.number("num_hidden_layers", usual["num_hidden_layers"], most=256),
            heads=heads,
            kv_heads=shared,
            head_dimension=settings.number("head_dim", 128, most=4096),
            hidden=settings.number("intermediate_size", usual["intermediate_size"]),
            epsilon=settings.amount("norm_eps", 1e-5),
            # Products are not divided by anything.
            scale=1.0,
        )

    def positions(self, usual: int) -> int:
        """How long it may be."""
        return self.settings.number("max_position_embeddings", usual)


def _unsuitable(key: str, why: str) -> SettingsError:
    return SettingsError(
        f"config.json: {key} {why}",
        hint="take the config.json that came with the weights",
        keys=frozenset({key}),
    )


class Dia(nn.Module):
    """Bytes [1, S] -> what the decoder hears of them; codes so far -> logits of the next."""

    def __init__(self, config: DiaConfig) -> None:
        super().__init__()
        self.lags, self.codes = config.lags, config.codes
        self.text_positions, self.positions = config.positions
        wide = config.decoder.dimension
        self.text_embedding = _embedding(config.texts, config.encoder.dimension)
        self.encoder = Llama(config.encoder, Rotary("halves", _BASE), causal=False)
        self.audio_embedding = _embedding(len(config.lags) * config.codes, wide)
        rotary = Rotary("halves", _BASE)
        self.blocks = nn.ModuleList(
            SpeakingBlock(config, rotary) for _ in range(config.decoder.layers)
        )
        self.norm = nn.RMSNorm(wide, eps=config.decoder.epsilon)
        self.output = Linear(wide, len(config.lags) * config.codes, bias=False)

    def read(self, tokens: Tensor) -> Heard:
        """tokens [1, S], bytes of a text -> what the layers of the decoder make of it."""
        memory = self.encoder(self.text_embedding(tokens))
        return tuple(cast(SpeakingBlock, block).cross.heard(memory) for block in self.blocks)

    def speak(self, codes: Tensor, heard: Sequence[Heard], state: State) -> Tensor:
        """codes [B, S, K] of the last steps -> logits [B, K, V] float32 of the next one.

        `heard` has what each row listens to; rows beyond fill the batch up, as in `Streams`.
        """
        books = torch.arange(len(self.lags), device=codes.device) * self.codes
        x = self.audio_embedding(codes + books).sum(-2)
        for layer, block in enumerate(self.blocks):
            x = block(x, [row[layer] for row in heard], state)
        y: Tensor = self.output(self.norm(x[:, -1]))
        return y.float().view(len(y), len(self.lags), -1)


class SpeakingBlock(nn.Module):
    """Attention to the steps before, to the text, and a gated part; each is added to its input."""

    def __init__(self, config: DiaConfig, rotary: nn.Module) -> None:
        super().__init__()
        spec = config.decoder
        norm = partial(nn.RMSNorm, spec.dimension, eps=spec.epsilon)
        self.attention_norm, self.attention = norm(), RowAttention(spec, rotary)
        self.cross_norm, self.cross = norm(), TextAttention(config)
        self.mlp_norm, self.mlp = norm(), GatedMLP(spec.dimension, spec.hidden)

    def forward(self, x: Tensor, heard: Sequence[Pair], state: State) -> Tensor:
        """x [B, S, D], keys and values of each row -> [B, S, D]."""
        x = x + self.attention(self.attention_norm(x), state=state)
        x = x + self.cross(self.cross_norm(x), heard)
        return x + self.mlp(self.mlp_norm(x))


class TextAttention(nn.Module):
    """Each row collects from a text of its own, whose keys and values are made once."""

    def __init__(self, config: DiaConfig) -> None:
        super().__init__()
        self.heads = config.cross_heads
        wide, inner = config.decoder.dimension, config.cross_heads * config.cross_head_dimension
        self.q = Linear(wide, inner, bias=False)
        self.k = Linear(config.encoder.dimension, inner, bias=False)
        self.v = Linear(config.encoder.dimension, inner, bias=False)
        self.out = Linear(inner, wide, bias=False)

    def heard(self, memory: Tensor) -> Pair:
        """memory [1, M, E] -> keys and values [1, H, M, D]."""
        return self._split(self.k(memory)).contiguous(), self._split(self.v(memory)).contiguous()

    def forward(self, x: Tensor, heard: Sequence[Pair]) -> Tensor:
        """x [B, S, D] -> [B, S, D]; rows beyond those of `heard` collect nothing."""
        q = self._split(self.q(x))
        rows = [
            F.scaled_dot_product_attention(q[row : row + 1], keys, values, scale=1.0)
            for row, (keys, values) in enumerate(heard)
        ]
        y = torch.cat([*rows, torch.zeros_like(q[len(rows) :])])
        return self.out(y.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """x [B, S, H * D] -> [B, H, S, D]."""
        return x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2)


def guided(told: Tensor, untold: Tensor, scale: float, keep: int) -> Tensor:
    """logits [K, V] with and without the text -> [K, V], where only the best `keep` are left.

    Which are best, the guided logits say (arXiv:2207.12598); but what stays are those with the
    text. The guided ones are `told + scale * (told - untold)`, one `scale` more than elsewhere.
    """
    best = (told + (told - untold) * scale).topk(min(keep, told.shape[-1])).indices
    return torch.full_like(told, -torch.inf).scatter(-1, best, told.gather(-1, best))


def ended(logits: Tensor) -> Tensor:
    """logits [K, V] -> the same; only codebook 0 may end, and only where that is likeliest."""
    logits = logits.clone()
    logits[1:, END:] = -torch.inf
    logits[0, END + 1 :] = -torch.inf
    if logits[0].argmax() == END:
        logits[0, :END] = -torch.inf
    else:
        logits[0, END] = -torch.inf
    return logits


def _embedding(count: int, wide: int) -> nn.Embedding:
    # Not random at first: on the meta device that would import torch's compiler.
    return nn.Embedding(count, wide, _weight=torch.zeros(count, wide))


_ENCODING = ("model.encoder.layers.{i}", "encoder.blocks.{i}")
_DECODING = ("model.decoder.layers.{i}", "blocks.{i}")
_PART = "{part:q,k,v}"


def _layer(theirs: str, ours: str, norms: Mapping[str, str]) -> tuple[Any, ...]:
    """What the layers of both halves have."""
    return (
        rename(f"{theirs}.self_attention.{_PART}_proj.weight", f"{ours}.attention.{{part}}.weight"),
        rename(f"{theirs}.self_attention.o_proj.weight", f"{ours}.attention.out.weight"),
        rename(f"{theirs}.mlp.gate_up_proj.weight.{{part:gate,up}}", f"{ours}.mlp.{{part}}.weight"),
        rename(f"{theirs}.mlp.down_proj.weight", f"{ours}.mlp.down.weight"),
        *(rename(f"{theirs}.{name}.weight", f"{ours}.{own}.weight") for name, own in norms.items()),
    )


KEYS = SplitKeyMap(
    {"gate_up_proj.weight": ("gate", "up")},
    rename("model.encoder.embedding.weight", "text_embedding.weight"),
    *_layer(*_ENCODING, {"pre_sa_norm": "attention_norm", "post_sa_norm": "mlp_norm"}),
    rename("model.encoder.norm.weight", "encoder.norm.weight"),
    rename("model.decoder.embeddings.embed.weight", "audio_embedding.weight"),
    *_layer(
        *_DECODING,
        {"pre_sa_norm": "attention_norm", "pre_ca_norm": "cross_norm", "pre_mlp_norm": "mlp_norm"},
    ),
    rename(
        f"{_DECODING[0]}.cross_attention.{_PART}_proj.weight",
        f"{_DECODING[1]}.cross.{{part}}.weight",
    ),
    rename(f"{_DECODING[0]}.cross_attention.o_proj.weight", f"{_DECODING[1]}.cross.out.weight"),
    rename("model.decoder.norm.weight", "norm.weight"),
    rename("logits_dense.weight", "output.weight"),
)

FAMILY = Family(DiaConfig.from_hub, Dia, KEYS)
