"""Tiny VALL-Es with random weights, in the names of the published checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tests.random_weights import random_weights

DIMENSION, HEADS, LAYERS, SEED = 128, 2, 2, 7
# Phonemes, of which some are those of the voice, its frames, the language, and top-k.
CASES = {
    "greedy": (9, 4, 20, "en", 1),
    "drawn": (5, 2, 13, "ja", -100),
    "alone": (4, 0, 0, "zh", 30),
}


def shapes(dimension: int = DIMENSION, layers: int = LAYERS) -> dict[str, tuple[int, ...]]:
    """The published names."""
    wide = dimension
    made: dict[str, tuple[int, ...]] = {
        "ar_audio_embedding.word_embeddings.weight": (1026, wide),
        "ar_predict_layer.weight": (1025, wide),
        "nar_audio_embeddings.0.word_embeddings.weight": (1025, wide),
    }
    for half in ("ar", "nar"):
        made[f"{half}_text_embedding.word_embeddings.weight"] = (2048, wide)
        made[f"{half}_language_embedding.word_embeddings.weight"] = (3, wide)
        made |= {f"{half}_{kind}_position.alpha": (1,) for kind in ("text", "audio")}
        norms = [f"layers.{i}.norm{n}" for i in range(layers) for n in (1, 2)] + ["norm"]
        for norm in (f"{half}_decoder.{norm}" for norm in norms):
            inner = norm if half == "ar" else f"{norm}.norm"
            made |= {f"{inner}.weight": (wide,), f"{inner}.bias": (wide,)}
            if half == "nar":
                made |= {f"{norm}.project_layer.weight": (2 * wide, wide)}
                made |= {f"{norm}.project_layer.bias": (2 * wide,)}
        for layer in (f"{half}_decoder.layers.{i}" for i in range(layers)):
            made |= {
                f"{layer}.self_attn.in_proj_weight": (3 * wide, wide),
                f"{layer}.self_attn.in_proj_bias": (3 * wide,),
                f"{layer}.self_attn.out_proj.weight": (wide, wide),
                f"{layer}.self_attn.out_proj.bias": (wide,),
                f"{layer}.linear1.weight": (4 * wide, wide),
                f"{layer}.linear1.bias": (4 * wide,),
                f"{layer}.linear2.weight": (wide, 4 * wide),
                f"{layer}.linear2.bias": (wide,),
            }
    for book in range(7):
        made[f"nar_audio_embeddings.{book + 1}.word_embeddings.weight"] = (1024, wide)
        made[f"nar_predict_layers.{book}.weight"] = (1024, wide)
        made[f"nar_stage_embeddings.{book}.word_embeddings.weight"] = (1, wide)
    return made


def weights() -> dict[str, Tensor]:
    """Tensors by the published names; heads 2 to 7 are the embeddings of the next book."""
    made = random_weights(shapes())
    for name, tensor in made.items():
        if name.endswith(("norm1.weight", "norm2.weight", "decoder.norm.weight")):
            tensor.mul_(0.1).add_(1.0)
        if "stage" in name or "language" in name:
            tensor.mul_(2.0)
    made["ar_predict_layer.weight"].mul_(2.5)
    made["ar_predict_layer.weight"][1024].mul_(2.0)
    for book in range(6):
        made[f"nar_predict_layers.{book}.weight"] = made[
            f"nar_audio_embeddings.{book + 2}.word_embeddings.weight"
        ]
    return made


def case(name: str) -> tuple[Tensor, Tensor, int, str, int]:
    """phonemes [1, S], codes of the voice [1, 8, P], phonemes of the voice, language, top-k."""
    new, spoken, frames, language, top_k = CASES[name]
    phonemes = torch.arange(spoken + new)[None] * 5 % 60 + 5
    voice = torch.arange(8 * frames).view(1, 8, frames) * 37 % 1024
    return phonemes, voice, spoken, language, top_k


def saved(path: Path) -> Path:
    """The file as it is published."""
    torch.save({"model": weights()}, path)
    return path
