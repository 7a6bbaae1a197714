"""How published checkpoints describe T5's encoder within a larger model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alm_cli.checkpoints.family import Settings
from alm_cli.checkpoints.generic import GENERIC, finish_section
from alm_cli.checkpoints.keymap import Verb, drop, rename

# Settings of training, and of T5's decoder.
_UNUSED = GENERIC | {
    "classifier_dropout", "dropout_rate", "initializer_factor", "n_positions",
    "num_decoder_layers", "output_past", "scale_decoder_outputs", "tie_word_embeddings",
}  # fmt: skip
_FORWARD = "feed_forward_proj"
_GATED = "gated-gelu"


def t5_sizes(raw: Mapping[str, object], section: str) -> dict[str, Any]:
    """The fields of a T5Spec from a section of config.json. SettingsError: what cannot be built."""
    settings = Settings({key: raw[key] for key in raw.keys() - _UNUSED})
    gated = raw.get(_FORWARD, "relu") == _GATED
    sizes = {
        "vocabulary": settings.number("vocab_size", 32_128),
        "dimension": settings.number("d_model", 512),
        "layers": settings.number("num_layers", 6, most=256),
        "heads": settings.number("num_heads", 8, most=256),
        "head_dimension": settings.number("d_kv", 64, most=4096),
        "hidden": settings.number("d_ff", 2048),
        "buckets": settings.number("relative_attention_num_buckets", 32, most=4096),
        "furthest": settings.number("relative_attention_max_distance", 128, most=100_000),
        "epsilon": settings.amount("layer_norm_epsilon", 1e-6),
        "gated": gated,
    }
    settings.only("model_type", "t5")
    settings.only(_FORWARD, "relu", _GATED)
    settings.only("dense_act_fn", "gelu_new" if gated else "relu")
    settings.only("is_gated_act", gated)
    settings.require("relative_attention_num_buckets", sizes["buckets"] % 4 == 0, "a multiple of 4")
    far = sizes["furthest"] > sizes["buckets"] // 4
    settings.require("relative_attention_max_distance", far, "above a quarter of the buckets")
    finish_section(settings, section)
    return sizes


def t5_keys(theirs: str, ours: str) -> tuple[Verb, ...]:
    """The tensors of an encoder, whose names begin with `theirs` there and with `ours` here."""
    block, own = f"{theirs}encoder.block.{{i}}.layer", f"{ours}transformer.blocks.{{i}}"
    return (
        rename(f"{theirs}shared.weight", f"{ours}embedding.weight"),
        # The same table once more, in files that do not share it.
        drop(f"{theirs}encoder.embed_tokens.weight"),
        rename(
            f"{theirs}encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            f"{ours}distances.weight",
        ),
        rename(f"{block}.0.SelfAttention.{{p:q,k,v}}.weight", f"{own}.attention.{{p}}.weight"),
        rename(f"{block}.0.SelfAttention.o.weight", f"{own}.attention.out.weight"),
        rename(f"{block}.0.layer_norm.weight", f"{own}.attention_norm.weight"),
        rename(f"{block}.1.DenseReluDense.wi.weight", f"{own}.mlp.up.weight"),
        rename(f"{block}.1.DenseReluDense.wi_0.weight", f"{own}.mlp.gate.weight"),
        rename(f"{block}.1.DenseReluDense.wi_1.weight", f"{own}.mlp.up.weight"),
        rename(f"{block}.1.DenseReluDense.wo.weight", f"{own}.mlp.down.weight"),
        rename(f"{block}.1.layer_norm.weight", f"{own}.mlp_norm.weight"),
        rename(f"{theirs}encoder.final_layer_norm.weight", f"{ours}norm.weight"),
    )
