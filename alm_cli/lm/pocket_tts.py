"""pocket-tts: a language model over continuous latents of speech, CALM (arXiv:2509.06926)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import Shape, drop, offer, rename
from alm_cli.checkpoints.split import SplitKeyMap
from alm_cli.nn.attention import Attention, KVCache
from alm_cli.nn.flow import FlowHead, FlowKind, FlowSpec
from alm_cli.nn.linear import Linear
from alm_cli.nn.position import Rotary, Style
from alm_cli.nn.state import State
from alm_cli.nn.transformer import MLP, Block, Transformer

# How the published models say when they are asked nothing.
_GENERATION = "generation_config.json"
# What config.json says of training and of the interface of its library.
_UNUSED = frozenset({
    "attention_dropout", "audio_bos_token_id", "audio_latent_token_id",
    "bos_token_id", "eos_loss_weight", "eos_token_id", "flow_head_config", "flow_loss_num_samples",
    "initializer_range", "latent_stats_ema_decay", "latent_stats_ema_steps", "lsd_diagonal_weight",
    "lsd_distill_probability", "lsd_time_logit_mean", "lsd_time_logit_std",
    "max_position_embeddings", "pad_token_id", "use_cache",
})  # fmt: skip
_UNUSED_OF_HEAD = frozenset({"loss_weighting_hidden_size", "loss_weighting_num_layers"})
# In all published models.
_HEAD = 64
_GELU = partial(F.gelu, approximate="tanh")


@dataclass(frozen=True, kw_only=True)
class PocketTtsConfig:
    """The architecture, in the words of the kit.

    `vocabulary` counts the rows of the embedding, of which the first `texts` are tokens of text,
    and `rank` is how wide they are; `heard` is how many
    features a frame of a voice has. `output` is how wide the last product is that makes conditions
    of the backbone's vectors, None without one. `voice_row` is where the embedding has what stands
    before a voice; None: it is a tensor of its own where `voice_start` says that there is one.
    """

    dimension: int
    layers: int
    heads: int
    kv_heads: int
    head_dimension: int
    hidden: int
    rotary: Style
    vocabulary: int
    texts: int
    rank: int | None
    heard: int
    output: int | None
    voice_row: int | None
    voice_start: bool
    flow: FlowSpec
    frame_rate: float
    temperature: float | None
    threshold: float | None

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> PocketTtsConfig:
        """Read the published `config.json`; what this file does not build is an error."""
        told = raw.get(_GENERATION)
        settings = Settings({key: raw[key] for key in raw.keys() - _UNUSED - {_GENERATION}})
        dimension = settings.number("hidden_size", 1024)
        heads = settings.number("num_attention_heads", 16, most=256)
        latent = settings.number("latent_dim", 32)
        # Ours, for what only the authors' program has: see `_sniff`.
        original = settings.truth("rotary_pairs", False)
        output = settings.number("output_size", dimension)
        rank = settings.number("embedding_rank", dimension)
        config = cls(
            dimension=dimension,
            layers=settings.number("num_hidden_layers", 6, most=256),
            heads=heads,
            kv_heads=settings.number("num_key_value_heads", heads),
            head_dimension=settings.number("head_dim", max(1, dimension // heads)),
            hidden=settings.number("intermediate_size", 4096),
            rotary="pairs" if original else "halves",
            vocabulary=settings.number("vocab_size", 4004),
            texts=settings.number("audio_prompt_token_id", 4000),
            rank=None if rank == dimension else rank,
            heard=settings.number("heard_dim", latent),
            output=None if output == dimension else output,
            voice_row=None if original else settings.number("audio_prompt_bos_token_id", 4002),
            voice_start=settings.truth("voice_start", True),
            flow=_flow(raw.get("flow_head_config"), latent, output),
            frame_rate=settings.amount("frame_rate", 12.5),
            temperature=_told(told, "temperature"),
            threshold=_told(told, "eos_threshold"),
        )
        settings.only("hidden_act", "gelu_pytorch_tanh")
        settings.only("layer_norm_eps", 1e-5)
        settings.only("attention_bias", False)
        settings.only("rope_parameters", None, {"rope_type": "default", "rope_theta": 10_000.0})
        rows = {
            "audio_prompt_bos_token_id": config.voice_row,
            "audio_prompt_token_id": config.texts,
        }
        for key, row in rows.items():
            settings.require(key, (row or 0) < config.vocabulary, "below vocab_size")
        settings.require("num_key_value_heads", heads % config.kv_heads == 0, "a part of the heads")
        settings.finish()
        return config


def _flow(told: object, latent: int, condition: int) -> FlowSpec:
    raw = told if isinstance(told, Mapping) else {}
    settings = Settings({key: raw[key] for key in raw.keys() - _UNUSED_OF_HEAD})
    settings.only("flow_type", "lsd", "drifting", "pointwise")
    spec = FlowSpec(
        kind=cast(FlowKind, raw.get("flow_type", "lsd")),
        latent=latent,
        condition=condition,
        width=settings.number("hidden_size", 512),
        depth=settings.number("num_hidden_layers", 6, most=256),
        frequencies=max(1, settings.number("frequency_embedding_size", 256) // 2),
    )
    settings.only("latent_dim", latent)
    settings.only("condition_dim", condition)
    settings.only("hidden_act", "silu")
    settings.only("layer_norm_eps", 1e-6)
    settings.only("rms_norm_eps", 1e-5)
    settings.only("max_period", 10_000.0)
    settings.finish()
    return spec


def _told(generation: object, key: str) -> float | None:
    """What stands beside config.json of how to sample."""
    value = generation.get(key) if isinstance(generation, Mapping) else None
    return float(value) if isinstance(value, int | float) and isfinite(value) else None


class PocketTts(nn.Module):
    """A voice, then text, then latents one after another, each made of noise.

    `condition` is what the flow head needs to make a latent; with it comes how sure the model is
    that this frame is the last of the speech.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: PocketTtsConfig) -> None:
        super().__init__()
        wide, flow = config.dimension, config.flow
        self.latent, self.heard, self.frame_rate = flow.latent, config.heard, config.frame_rate
        self.texts = config.texts
        self.heads, self.head_dimension = config.kv_heads, config.head_dimension
        self.rotary: Style = config.rotary
        self._voice_row = config.voice_row
        # Not random at first: on the meta device that would import torch's compiler.
        rank = config.rank or wide
        table = torch.zeros(config.vocabulary, rank)
        self.embedding = nn.Embedding(config.vocabulary, rank, _weight=table)
        self.widen = Linear(config.rank, wide, bias=False) if config.rank else None
        own = config.voice_row is None and config.voice_start
        self.voice_start = nn.Parameter(torch.zeros(1, 1, wide)) if own else None
        self.voice = nn.Linear(config.heard, wide, bias=False)
        self.first = nn.Parameter(torch.zeros(flow.latent))
        self.input = nn.Linear(flow.latent, wide, bias=False)
        self.backbone = Transformer(_block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(wide)
        self.output = Linear(wide, config.output, bias=False) if config.output else None
        self.end = nn.Linear(flow.condition, 1)
        self.head = FlowHead(flow)
        # Buffers, so that they keep their digits whatever the parameters are.
        self.register_buffer("mean", torch.zeros(flow.latent))
        self.register_buffer("deviation", torch.ones(flow.latent))

    @property
    def dtype(self) -> torch.dtype:
        """What the backbone computes in."""
        return self.input.weight.dtype

    def listen(self, voice: Tensor, state: State) -> None:
        """Let a stream begin with a voice: voice [B, H, F], as the autoencoder heard it."""
        x = self.voice(voice.mT.to(self.dtype))
        start = self._start()
        if start is not None:
            x = torch.cat((start.expand(len(x), -1, -1), x), 1)
        self.backbone(x, state=state)

    def read(self, tokens: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """tokens [B, S] that follow a voice -> condition [B, C], end [B] of the first latent."""
        x: Tensor = self.embedding(tokens)
        x = x if self.widen is None else self.widen(x)
        first = self.input(self.first).expand(len(x), 1, -1)
        return self._advanced(torch.cat((x, first), 1), state)

    def step(self, latent: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """latent [B, L], the last one -> condition [B, C], end [B] of the next."""
        return self._advanced(self.input(latent.to(self.dtype))[:, None], state)

    def sounding(self, latents: Tensor) -> Tensor:
        """latents [B, L] as the model makes them -> as the autoencoder takes them."""
        return latents.float() * self.deviation + self.mean

    def _start(self) -> Tensor | None:
        """What stands before a voice [1, 1, D], if anything does."""
        if self._voice_row is not None:
            return self.embedding.weight[self._voice_row][None, None]
        return self.voice_start

    def _advanced(self, x: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """x [B, S, D] -> condition [B, C] and end [B] at the last of them, float32."""
        y = self.norm(self.backbone(x, state=state)[:, -1])
        y = y if self.output is None else self.output(y)
        return y, self.end(y)[:, 0].float()

    def remember(self, keys: Sequence[Tensor], values: Sequence[Tensor], state: State) -> None:
        """Let a stream begin with what the layers made of a voice before: each [B, H, S, D]."""
        for block, k, v in zip(self.backbone.blocks, keys, values, strict=True):
            cache = KVCache(None)
            cache.extend(k.to(self.first), v.to(self.first))
            state.put(cast(Block, block).attention, cache)


def _block(config: PocketTtsConfig) -> Block:
    attention = Attention(
        config.dimension,
        config.heads,
        head_dimension=config.head_dimension,
        kv_heads=config.kv_heads,
        causal=True,
        rotary=Rotary(config.rotary),
    )
    mlp = MLP(config.dimension, config.hidden, activation=_GELU)
    return Block(attention, mlp, partial(nn.LayerNorm, config.dimension))


# The layout of the hub, and that of the authors' program.
_LAYERS = ("model.layers.{i}", "flow_lm.transformer.layers.{i}")
_IN_LAYER = (
    ("attention_norm", "input_layernorm", "norm1"),
    ("attention.out", "self_attn.o_proj", "self_attn.out_proj"),
    ("mlp_norm", "post_attention_layernorm", "norm2"),
    ("mlp.up", "mlp.fc1", "linear1"),
    ("mlp.down", "mlp.fc2", "linear2"),
)
_QUERIES = ("self_attn.{part:q,k,v}_proj.weight", "self_attn.in_proj.weight.{part:q,k,v}")
_OURS = "backbone.blocks.{i}"
_OF = "{of:weight,bias}"
_HEADS = (
    ("condition", "cond_proj", "cond_embed"),
    ("input", "input_proj", "input_proj"),
    ("modulation", "final_layer.adaln_proj", "final_layer.adaLN_modulation.1"),
    ("output", "final_layer.proj", "final_layer.linear"),
    ("blocks.{i}.norm", "layers.{i}.norm", "res_blocks.{i}.in_ln"),
    ("blocks.{i}.up", "layers.{i}.fc1", "res_blocks.{i}.mlp.0"),
    ("blocks.{i}.down", "layers.{i}.fc2", "res_blocks.{i}.mlp.2"),
    ("blocks.{i}.modulation", "layers.{i}.adaln_proj", "res_blocks.{i}.adaLN_modulation.1"),
    ("clocks.{i}.up", "timestep_embeddings.{i}.fc1", "time_embed.{i}.mlp.0"),
    ("clocks.{i}.down", "timestep_embeddings.{i}.fc2", "time_embed.{i}.mlp.2"),
)
_WHOLE = (
    ("embedding.weight", "model.embed_tokens.weight", "flow_lm.conditioner.embed.weight"),
    ("voice.weight", "model.audio_prompt_proj.weight", "flow_lm.speaker_proj_weight"),
    ("input.weight", "model.audio_latent_proj.weight", "flow_lm.input_linear.weight"),
    ("first", "model.bos_latent", "flow_lm.bos_emb"),
    ("mean", "latent_mean", "flow_lm.emb_mean"),
    ("deviation", "latent_std", "flow_lm.emb_std"),
)
_ROOTS = ("flow_head", "flow_lm.flow_net")


def _parts_of(name: str, shapes: Mapping[str, Shape]) -> Sequence[int] | None:
    """How many rows of the joint weights are queries, keys and values."""
    out = shapes.get(name.replace("in_proj.", "out_proj."), ())
    rows = shapes[name][:1]
    if len(out) != 2 or not rows or rows[0] <= out[1] or (rows[0] - out[1]) % 2:
        return None
    few = (rows[0] - out[1]) // 2
    return out[1], few, few


KEYS = SplitKeyMap(
    {"self_attn.in_proj.weight": ("q", "k", "v")},
    *(
        rename(f"{layer}.{queries}", f"{_OURS}.attention.{{part}}.weight")
        for layer, queries in zip(_LAYERS, _QUERIES, strict=True)
    ),
    *(
        rename(f"{layer}.{theirs}.{_OF}", f"{_OURS}.{ours}.{{of}}")
        for ours, *names in _IN_LAYER
        for layer, theirs in zip(_LAYERS, names, strict=True)
    ),
    *(
        rename(f"{root}.{theirs}.{_OF}", f"head.{ours}.{{of}}")
        for ours, *names in _HEADS
        for root, theirs in zip(_ROOTS, names, strict=True)
    ),
    *(rename(f"{{name:{hub},{original}}}", ours) for ours, hub, original in _WHOLE),
    rename("{root:model.norm,flow_lm.out_norm}.{of:weight,bias}", "norm.{of}"),
    rename("{root:eos_head,flow_lm.out_eos}.{of:weight,bias}", "end.{of}"),
    *(
        rename(f"{root}.{clock}.{{i}}.{theirs}", f"head.clocks.{{i}}.{ours}")
        for root, clock, *names in (
            (_ROOTS[0], "timestep_embeddings", "freqs", "norm.weight"),
            (_ROOTS[1], "time_embed", "freqs", "mlp.3.alpha"),
        )
        for theirs, ours in zip(names, ("frequencies", "scale"), strict=True)
    ),
    rename("flow_lm.conditioner.proj.weight", "widen.weight"),
    rename("flow_lm.z_proj.weight", "output.weight"),
    offer("flow_lm.bos_before_voice", "voice_start"),
    drop("loss_weighting.*"),  # of training
    drop("latent_stats_num_updates"),
    drop("mimi.*"),  # the autoencoder: `alm_cli.codecs.pocket_vae`
    sizes=_parts_of,
)


def _sniff(
    shapes: Mapping[str, Shape],
    said: Mapping[str, object],  # noqa: ARG001
) -> Mapping[str, object] | None:
    """The settings of a checkpoint of the authors' program, which comes without any."""
    table = shapes.get("flow_lm.conditioner.embed.weight", ())
    first = shapes.get("flow_lm.input_linear.weight", ())
    voice = shapes.get("flow_lm.speaker_proj_weight", ())
    layer = "flow_lm.transformer.layers.0"
    queries = shapes.get(f"{layer}.self_attn.in_proj.weight", ())
    out = shapes.get(f"{layer}.self_attn.out_proj.weight", ())
    hidden = shapes.get(f"{layer}.linear1.weight", ())
    condition = shapes.get("flow_lm.flow_net.cond_embed.weight", ())
    found = (table, first, voice, queries, out, hidden, condition)
    if any(len(shape) != 2 for shape in found):
        return None
    clocks = shapes.get("flow_lm.flow_net.time_embed.0.freqs", ())
    return {
        "hidden_size": first[0],
        "num_hidden_layers": _count(shapes, r"flow_lm\.transformer\.layers\.\d+\.linear1\.weight"),
        # All published models have heads of 64 features.
        "num_attention_heads": max(1, out[1] // _HEAD),
        "num_key_value_heads": max(1, (queries[0] - out[1]) // 2 // _HEAD),
        "head_dim": _HEAD,
        "intermediate_size": hidden[0],
        "latent_dim": first[1],
        "vocab_size": table[0],
        "audio_prompt_token_id": table[0] - 1,  # the last row fills up
        "embedding_rank": table[1],
        "heard_dim": voice[1],
        "output_size": condition[1],
        "voice_start": "flow_lm.bos_before_voice" in shapes,
        # The hub's checkpoints have the rows of queries and keys in another order.
        "rotary_pairs": True,
        "flow_head_config": {
            "flow_type": "lsd" if clocks else _TIMELESS.get(condition[0], "drifting"),
            "hidden_size": condition[0],
            "num_hidden_layers": _count(shapes, r"flow_lm\.flow_net\.res_blocks\.\d+\.in_ln\.bias"),
            "frequency_embedding_size": 2 * clocks[0] if clocks else 256,
            "latent_dim": first[1],
            "condition_dim": condition[1],
        },
    }


# Heads that are told no times show no difference between the two ways that they may have been
# trained in. Of the published ones, only those of this width add to the noise.
_TIMELESS = {64: "pointwise"}


def _count(shapes: Mapping[str, Shape], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in shapes)


FAMILY = Family(PocketTtsConfig.from_hub, PocketTts, KEYS, _sniff, beside=(_GENERATION,))
