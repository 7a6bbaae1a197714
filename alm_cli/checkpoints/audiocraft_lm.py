"""AudioCraft's language models of codes, in its own layout: settings and names of tensors.

MusicGen and AudioGen go from step to step (`musicgen_sizes`), MAGNeT fills masks; their layers are
the same (`lm_keys`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from alm_cli.checkpoints.audiocraft import audiocraft_settings
from alm_cli.checkpoints.family import Settings
from alm_cli.checkpoints.keymap import Shape, Verb, drop, rename
from alm_cli.errors import ModelError

LM, T5 = "transformer_lm", "conditioners.description.t5"
# Where the settings stand, and by which of them a model that goes from step to step is known.
CFG, KIND = "xp.cfg", "lm_model"
TABLE = "emb.0.weight"
STACKED = {"in_proj_weight": ("q", "k", "v")}

_CONDITIONERS = "condition_provider.conditioners"
_TEXT, _WAVE = f"{_CONDITIONERS}.description.output_proj", f"{_CONDITIONERS}.self_wav.output_proj"
_PATTERN, _CHROMA = "codebooks_pattern", "conditioners.self_wav.chroma_stem"
_DELAYS = f"{_PATTERN}.delay.delays"
_STEREO = "interleave_stereo_codebooks"
# How it was trained, how attention is computed, and what the program fills in from elsewhere.
UNUSED = frozenset({
    *(f"{LM}.{key}" for key in (
        "attention_as_float32", "attention_dropout", "checkpointing", "cross_attention", "custom",
        "depthwise_init", "dropout", "emb_lr", "lr", "memory_efficient", "q_modeling",
        "two_step_cfg", "weight_decay", "weight_init", "zero_bias_init",
    )),
    T5, f"{T5}.autocast_dtype", f"{T5}.word_dropout", "fuser.cross_attention_pos_emb_scale",
})  # fmt: skip
# What every published model has.
ONLY: Mapping[str, tuple[object, ...]] = {
    **{f"{LM}.{key}": (False,) for key in ("bias_attn", "bias_ff", "bias_proj")},
    **{f"{LM}.{key}": (False,) for key in ("qk_layer_norm", "qk_layer_norm_cross", "xpos")},
    **{f"{LM}.{key}": (None,) for key in ("layer_scale", "past_context")},
    f"{LM}.activation": ("gelu",),
    f"{LM}.kv_repeat": (1,),
    f"{LM}.max_period": (10_000,),
    f"{LM}.norm": ("layer_norm",),
    f"{LM}.norm_first": (True,),
    f"{LM}.positional_embedding": ("sin",),
    f"{LM}.positional_scale": (1,),
    "compression_model_n_q": (None,),
    "conditioners.description.model": ("t5",),
    f"{T5}.finetune": (False,),
    f"{T5}.normalize_text": (False,),
    **{f"fuser.{key}": ([], None) for key in ("sum", "input_interpolate")},
    "fuser.cross_attention_pos_emb": (False,),
}
# What is read by `musicgen_sizes`: sections, single settings, and what of them has no effect.
_SECTIONS = (f"{LM}.", "fuser.", "conditioners.", f"{_PATTERN}.delay.", f"{_STEREO}.")
_SINGLE = frozenset({
    "channels", "compression_model_n_q", "dataset.segment_duration", KIND, f"{_PATTERN}.modeling",
})  # fmt: skip
_IDLE = frozenset({
    "conditioners.description", "conditioners.self_wav", _CHROMA,
    # As the program says itself once it has loaded a model: melodies have a length, and no mask.
    *(f"{_CHROMA}.{key}" for key in (
        "cache_path", "eval_wavs", "match_len_on_eval", "n_eval_wavs", "norm",
    )),
})  # fmt: skip
# Of melodies: samples a second, samples of a spectrum and from one to the next.
_RATE, _SPECTRUM, _HOP = 32_000, 16_384, 4096


def lm_keys(ours: str, text: str, heads: str) -> tuple[Verb, ...]:
    """The tensors of a model; ours begin with `ours`, but for the map of a `text`."""
    layer, block = "transformer.layers.{i}", f"{ours}blocks.{{i}}"
    parts = ",".join(STACKED["in_proj_weight"])
    both = "{part:weight,bias}"
    return (
        rename("emb.{i}.weight", f"{ours}embeddings.{{i}}.weight"),
        rename(f"{_TEXT}.{both}", f"{text}.{{part}}"),
        *(
            verb
            for theirs, own in (("self_attn", "attention"), ("cross_attention", "cross"))
            for verb in (
                rename(
                    f"{layer}.{theirs}.in_proj_weight.{{p:{parts}}}", f"{block}.{own}.{{p}}.weight"
                ),
                rename(f"{layer}.{theirs}.out_proj.weight", f"{block}.{own}.out.weight"),
            )
        ),
        *(
            rename(f"{layer}.{theirs}.{both}", f"{block}.{own}_norm.{{part}}")
            for theirs, own in (("norm1", "attention"), ("norm_cross", "cross"), ("norm2", "mlp"))
        ),
        rename(f"{layer}.linear1.weight", f"{block}.mlp.up.weight"),
        rename(f"{layer}.linear2.weight", f"{block}.mlp.down.weight"),
        rename(f"out_norm.{both}", f"{ours}norm.{{part}}"),
        rename("linears.{i}.weight", f"{ours}{heads}.{{i}}.weight"),
    )


def melody_keys(ours: str) -> tuple[Verb, ...]:
    """The map of a melody, and the window of its spectra, which is that of Hann."""
    return (
        rename(f"{_WAVE}.{{part:weight,bias}}", f"{ours}.{{part}}"),
        drop(f"{_CONDITIONERS}.self_wav.chroma.spec.window"),
    )


def text_features(shapes: Mapping[str, Shape]) -> int:
    """How many features of a word the model listens to; 0: it does not say."""
    shape = shapes.get(f"{_TEXT}.weight", ())
    return shape[1] if len(shape) > 1 else 0


def sniff_musicgen(
    shapes: Mapping[str, Shape], said: Mapping[str, object]
) -> Mapping[str, object] | None:
    """The settings that a checkpoint says of itself, if it goes from step to step.

    ModelError: the tensors are AudioCraft's, and nothing says what they are.
    """
    if TABLE not in shapes or f"{_TEXT}.weight" not in shapes:
        return None
    told = audiocraft_settings(said)
    if KIND not in told:
        raise ModelError(
            f"a language model of AudioCraft without its settings ({CFG} is missing or no YAML)",
            hint="export it with audiocraft's export_lm, which keeps them",
        )
    if told[KIND] != LM:
        return None
    kept = {key: x for key, x in told.items() if key.startswith(_SECTIONS) or key in _SINGLE}
    # Nothing that a loaded model computes hangs on these: they are chances of training.
    kept = {key: x for key, x in kept.items() if not key.startswith("conditioners.args")}
    modeling = kept.pop(f"{_PATTERN}.modeling", None) or kept.get(f"{LM}.q_modeling")
    # What the program takes where nothing is said, and is not what is built here.
    if f"{_CHROMA}.sample_rate" in kept:
        kept.setdefault(f"{_CHROMA}.argmax", False)
    books = kept.get(f"{LM}.n_q")
    if kept.get(_DELAYS) is None and type(books) is int:
        kept[_DELAYS] = list(range(min(books, 64)))
    return kept | {
        f"{_PATTERN}.modeling": modeling,
        "table": tuple(shapes[TABLE]),
        "text_dimension": text_features(shapes),
    }


def musicgen_sizes(raw: Mapping[str, object]) -> dict[str, Any]:
    """The sizes of a MusicGen from what `sniff_musicgen` found.

    `text_dimension` is that of the T5 called `reader`, `seconds` how much it was trained to make at
    a time, `melody` how many frames of one are read. SettingsError: what cannot be built.
    """
    settings = Settings({key: raw[key] for key in raw.keys() - UNUSED - _IDLE}, CFG)
    wide = settings.number(f"{LM}.dim", 512)
    sizes: dict[str, Any] = {
        "dimension": wide,
        "layers": settings.number(f"{LM}.num_layers", 8, most=256),
        "heads": settings.number(f"{LM}.num_heads", 8, most=256),
        "hidden": settings.number(f"{LM}.hidden_scale", 4, most=64) * wide,
        "codes": settings.number(f"{LM}.card", 1024),
        "books": settings.number(f"{LM}.n_q", 8, most=64),
        "channels": settings.number("channels", 1, most=2),
        "seconds": settings.number("dataset.segment_duration", 30, most=600),
        "text_dimension": settings.number("text_dimension", 768),
        "reader": reader_name(settings, raw),
    }
    fits = wide > 2 and wide % 2 == 0 == wide % sizes["heads"]
    settings.require(f"{LM}.num_heads", fits, "a divisor of dim, which is even")
    # Sizes that the tensors do not have would fill the memory before anybody notices.
    settings.only("table", (sizes["codes"] + 1, wide))
    settings.only(KIND, LM)
    for key, supported in {**ONLY, f"{LM}.causal": (True,)}.items():
        settings.only(key, *supported)
    _pattern(settings, sizes["books"], sizes["channels"])
    sizes["melody"] = _melody(settings, raw, sizes["seconds"])
    settings.finish()
    return sizes


def reader_name(settings: Settings, raw: Mapping[str, object]) -> str:
    """The name of the T5 that reads texts, which is not among the weights."""
    name = raw.get(f"{T5}.name")
    named = isinstance(name, str) and re.fullmatch(r"[\w./-]{1,80}", name) is not None
    settings.only(f"{T5}.name", name)
    settings.require(f"{T5}.name", named, "the name of a T5")
    return str(name)


def _pattern(settings: Settings, books: int, channels: int) -> None:
    """Each book comes a step after the one before; those of two channels go side by side."""
    settings.require(f"{LM}.n_q", books % channels == 0, "equally many for each channel")
    settings.only(f"{_PATTERN}.modeling", "delay")
    settings.only(_DELAYS, [book // channels for book in range(books)])
    for key in ("flatten_first", "empty_initial"):
        settings.only(f"{_PATTERN}.delay.{key}", 0)
    settings.only(f"{_STEREO}.use", *([True] if channels > 1 else [False, None]))
    settings.only(f"{_STEREO}.per_timestep", False)


def _melody(settings: Settings, raw: Mapping[str, object], seconds: int) -> int:
    """The frames of a melody, which is read with the words; 0: words alone, listened to."""
    follows = "conditioners.self_wav.model" in raw
    read = (["self_wav", "description"], ["description", "self_wav"])
    settings.only("fuser.prepend", *(read if follows else ([], None)))
    settings.only("fuser.cross", *(([], None) if follows else (["description"],)))
    if not follows:
        return 0
    settings.only("conditioners.self_wav.model", "chroma_stem")
    told = {"sample_rate": _RATE, "n_chroma": 12, "radix2_exp": 14, "argmax": True}
    for key, value in told.items():
        settings.only(f"{_CHROMA}.{key}", value)
    for key, usual in (("nfft", _SPECTRUM), ("winlen", _SPECTRUM), ("winhop", _HOP)):
        settings.only(f"{_CHROMA}.{key}", None, usual)
    return 1 + max(seconds * _RATE, _SPECTRUM) // _HOP
