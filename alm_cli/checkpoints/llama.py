"""How published checkpoints describe the layers of a Llama, alone or within a larger model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from alm_cli.checkpoints.family import Settings, SettingsError
from alm_cli.checkpoints.keymap import Verb, merge, rename

_ROPE = ("rope_parameters", "rope_scaling")


def llama_sizes(settings: Settings, usual: Mapping[str, int]) -> dict[str, Any]:
    """The fields of a LlamaSpec; `usual` has what absent settings mean, by their published names.

    SettingsError: heads that cannot share.
    """
    dimension = settings.number("hidden_size", usual["hidden_size"])
    heads = settings.number("num_attention_heads", usual["num_attention_heads"], most=256)
    shared = settings.number("num_key_value_heads", usual["num_key_value_heads"], most=256)
    if heads % shared:
        raise SettingsError(
            f"config.json: {heads} heads cannot share num_key_value_heads, {shared}",
            hint="take the config.json that came with the weights",
            keys=frozenset({"num_key_value_heads"}),
        )
    settings.only("hidden_act", "silu")
    settings.only("attention_bias", False)
    settings.only("mlp_bias", False)
    return {
        "dimension": dimension,
        "layers": settings.number("num_hidden_layers", usual["num_hidden_layers"], most=256),
        "heads": heads,
        "kv_heads": shared,
        "head_dimension": settings.number("head_dim", max(1, dimension // heads), most=4096),
        "hidden": settings.number("intermediate_size", usual["intermediate_size"]),
        "epsilon": settings.amount("rms_norm_eps", 1e-5),
    }


def llama_turns(
    settings: Settings, raw: Mapping[str, object], base: float
) -> tuple[float, dict[str, float] | None]:
    """The base of the rotary angles, and the fields of a Stretch where there is one.

    `settings` read `raw`, in the spelling before version 5 of the hub's library or since.
    """
    told = next((raw[key] for key in _ROPE if raw.get(key) is not None), {})
    for key in (*_ROPE, "rope_theta"):
        settings.only(key, raw.get(key))
    if not isinstance(told, Mapping):
        raise _unsuitable("not an object")
    inner = Settings({"rope_theta": raw.get("rope_theta", base), **told})
    kind = told.get("rope_type", told.get("type", "default"))
    inner.only("rope_type", "default", "llama3")
    inner.only("type", kind)
    base = inner.amount("rope_theta", base)
    stretch = None
    if kind == "llama3":
        stretch = {
            "factor": inner.amount("factor", 8.0),
            "low": inner.amount("low_freq_factor", 1.0),
            "high": inner.amount("high_freq_factor", 4.0),
            "length": inner.amount("original_max_position_embeddings", 8192),
        }
    try:
        inner.finish()
    except SettingsError as error:
        raise _unsuitable(error.message.removeprefix("config.json: ")) from error
    if stretch is not None and stretch["low"] >= stretch["high"]:
        raise _unsuitable("low_freq_factor is not below high_freq_factor")
    return base, stretch


def _unsuitable(why: str) -> SettingsError:
    return SettingsError(
        f"config.json, rope_parameters: {why}",
        hint="this version of alm cannot compute what these settings ask for",
        keys=frozenset(_ROPE),
    )


def llama_keys(theirs: str, ours: str) -> tuple[Verb, ...]:
    """Verbs from the hub's names under `theirs` to a Llama under `ours`."""
    layer, block = f"{theirs}.layers.{{i}}", f"{ours}.blocks.{{i}}"
    return (
        rename(
            f"{layer}.self_attn.{{part:q,k,v}}_proj.weight", f"{block}.attention.{{part}}.weight"
        ),
        rename(f"{layer}.self_attn.o_proj.weight", f"{block}.attention.out.weight"),
        rename(f"{layer}.mlp.{{part:gate,up,down}}_proj.weight", f"{block}.mlp.{{part}}.weight"),
        rename(f"{layer}.input_layernorm.weight", f"{block}.attention_norm.weight"),
        rename(f"{layer}.post_attention_layernorm.weight", f"{block}.mlp_norm.weight"),
        rename(f"{theirs}.norm.weight", f"{ours}.norm.weight"),
    )


def torchtune_keys(theirs: str, ours: str, head: int) -> tuple[Verb, ...]:
    """Verbs from torchtune's names under `theirs` to a Llama under `ours`, with heads of `head`.

    torchtune turns neighbours among the features of a head, the hub's checkpoints each of the
    first half with one of the second: queries and keys are put into their order.
    """
    layer, block = f"{theirs}.layers.{{i}}", f"{ours}.blocks.{{i}}"
    halves = partial(_in_halves, head=head)
    return (
        merge(
            [f"{layer}.attn.{{part:q,k}}_proj.weight"], f"{block}.attention.{{part}}.weight", halves
        ),
        rename(f"{layer}.attn.v_proj.weight", f"{block}.attention.v.weight"),
        rename(f"{layer}.attn.output_proj.weight", f"{block}.attention.out.weight"),
        rename(f"{layer}.mlp.w1.weight", f"{block}.mlp.gate.weight"),
        rename(f"{layer}.mlp.w2.weight", f"{block}.mlp.down.weight"),
        rename(f"{layer}.mlp.w3.weight", f"{block}.mlp.up.weight"),
        rename(f"{layer}.sa_norm.scale", f"{block}.attention_norm.weight"),
        rename(f"{layer}.mlp_norm.scale", f"{block}.mlp_norm.weight"),
        rename(f"{theirs}.norm.scale", f"{ours}.norm.weight"),
    )


def _in_halves(weight: Tensor, *, head: int) -> Tensor:
    """weight [H * head, D], features of a head in pairs -> the first of all pairs first."""
    return weight.reshape(-1, head // 2, 2, weight.shape[-1]).transpose(1, 2).flatten(0, 2)
