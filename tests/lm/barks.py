"""Tiny Barks with random weights: as `transformers` saves them, and in the names of Suno."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alm_cli.checkpoints.load import load
from alm_cli.lm.bark import Bark
from tests.random_weights import random_weights

SMALL = {
    "semantic_config": {
        "eos_token_id": 100,
        "max_new_tokens": 40,
        "temperature": 0.7,
        "top_k": 50,
        "do_sample": True,
        "text_encoding_offset": 120,
        "text_pad_token": 590,
        "semantic_infer_token": 599,
        "semantic_vocab_size": 100,
        "max_input_semantic_length": 24,
    },
    "coarse_acoustics_config": {
        "temperature": 0.7,
        "top_k": 50,
        "do_sample": True,
        "coarse_semantic_pad_token": 232,
        "coarse_infer_token": 234,
        "max_coarse_input_length": 24,
        "max_coarse_history": 60,
        "sliding_window_len": 12,
    },
    "fine_acoustics_config": {
        "temperature": 0.5,
        "max_fine_history_length": 32,
        "max_fine_input_length": 64,
    },
    "codebook_size": 64,
}
# As published, but for how many tokens there are at most.
WIDE = {
    "semantic_config": {"max_new_tokens": 24, "do_sample": True, "temperature": 0.7},
    "coarse_acoustics_config": {"do_sample": True, "temperature": 0.7},
    "fine_acoustics_config": {"temperature": 0.5},
}
_CODEC = {
    "num_filters": 4,
    "hidden_size": 16,
    "codebook_dim": 16,
    "upsampling_ratios": [8, 5, 4, 2],
}


@dataclass(frozen=True)
class Barks:
    """The same weights twice; `folder` is what `transformers` saved."""

    theirs: Any
    ours: Bark
    folder: Path

    @property
    def told(self) -> tuple[Any, Any, Any]:
        """How the three stages are asked to generate."""
        config = self.theirs.generation_config
        return config.semantic_config, config.coarse_acoustics_config, config.fine_acoustics_config


def stage(inputs: int, outputs: int, positions: int, **more: object) -> dict[str, object]:
    """The sizes of a stage."""
    return {
        "hidden_size": 32,
        "num_heads": 2,
        "num_layers": 2,
        "block_size": positions,
        "bias": False,
        "input_vocab_size": inputs,
        "output_vocab_size": outputs,
    } | more


@torch.no_grad()
def barks(
    folder: Path, *, wide: bool = False, bias: bool = False, safe: bool = True, end: float = 1.6
) -> Barks:
    """A pair, `wide` with the published vocabularies and windows; `end` makes speech short."""
    from transformers import BarkConfig, BarkModel
    from transformers.models.bark.generation_configuration_bark import BarkGenerationConfig

    codes, told = (1024, WIDE) if wide else (64, SMALL)
    more: dict[str, object] = {"bias": bias} | ({"num_layers": 1} if wide else {})
    places = 1024 if wide else 128
    config = BarkConfig(
        semantic_config=stage(*((129_600, 10_048) if wide else (600, 120)), places, **more),
        coarse_acoustics_config=stage(*((12_096,) * 2 if wide else (240, 240)), places, **more),
        fine_acoustics_config=stage(codes + 32, codes + 32, places, **more),
        codec_config={
            "model_type": "encodec",
            "codebook_size": codes,
            "target_bandwidths": [75 * 8 * (codes.bit_length() - 1) / 1000],
            **_CODEC,
        },
    )
    with torch.device("meta"):
        theirs = BarkModel(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in theirs.named_parameters()}
    weights = random_weights(shapes)
    for name, tensor in weights.items():
        if name.startswith("codec_model.") and "bias" not in name:
            continue
        if tensor.dim() > 1:
            # Rows of embeddings are as long as others; logits differ as much as in life.
            tensor.mul_(3.0 if "head" in name else 1.0)
        if name.endswith(("layernorm_1.weight", "layernorm_2.weight", "layernorm_final.weight")):
            tensor.mul_(0.1).add_(1.0)
    # The end of speech becomes likely now and then.
    weights["semantic.lm_head.weight"][told["semantic_config"].get("eos_token_id", 10_000)] *= end
    torch.manual_seed(0)
    theirs = BarkModel(config)
    own = theirs.state_dict()
    books = {name: tuple(own[name].shape) for name in own if name.endswith("codebook.embed")}
    weights |= random_weights(books)  # as they start, all codes sound the same
    theirs.load_state_dict({name: weights.get(name, own[name]) for name in own})
    theirs.tie_weights()
    theirs.eval()
    if safe:
        theirs.save_pretrained(folder)
    else:
        theirs.config.save_pretrained(folder)
        torch.save(theirs.state_dict(), folder / "pytorch_model.bin")
    (folder / "generation_config.json").write_text(json.dumps(told))
    theirs.generation_config = BarkGenerationConfig(**told)
    ours = load(folder).model
    assert isinstance(ours, Bark)
    return Barks(theirs, ours, folder)


# Tiny models in the names of Suno's program, with its own vocabularies; they speak for a second.
SUNO_MOST = 50
SUNO_SIZES = {"text": (129_600, 10_048), "coarse": (12_096, 12_096), "fine": (1056, 1056)}
SUNO_CASES: dict[str, tuple[int, bool, dict[str, Any]]] = {
    "plain": (1, False, {}),
    "cut": (3, True, {"top_k": 40, "top_p": 0.9, "temp": 0.9}),
}


def suno_weights() -> dict[str, dict[str, Tensor]]:
    """Names -> tensors of the three files; the end of speech becomes likely now and then."""
    made = {}
    for name, (inputs, outputs) in SUNO_SIZES.items():
        shapes: dict[str, tuple[int, ...]] = {"transformer.wpe.weight": (1024, 16)}
        norms = ("ln_1.weight", "ln_2.weight") + ("ln_1.bias", "ln_2.bias") * (name == "fine")
        shapes |= {f"transformer.h.0.{norm}": (16,) for norm in norms}
        shapes |= {
            "transformer.h.0.attn.c_attn.weight": (48, 16),
            "transformer.h.0.attn.c_proj.weight": (16, 16),
            "transformer.h.0.mlp.c_fc.weight": (64, 16),
            "transformer.h.0.mlp.c_proj.weight": (16, 64),
            "transformer.ln_f.weight": (16,),
        }
        if name == "fine":
            shapes["transformer.ln_f.bias"] = (16,)
            shapes |= {f"transformer.wtes.{book}.weight": (inputs, 16) for book in range(8)}
        else:
            shapes |= {"transformer.wte.weight": (inputs, 16), "lm_head.weight": (outputs, 16)}
        weights = random_weights({f"{name}.{key}": shape for key, shape in shapes.items()})
        weights = {key.removeprefix(f"{name}."): tensor for key, tensor in weights.items()}
        for key, tensor in weights.items():
            if "ln_" in key and key.endswith("weight"):
                tensor.mul_(0.1).add_(1.0)
        if name == "fine":
            weights |= {
                f"lm_heads.{k}.weight": weights[f"transformer.wtes.{k + 1}.weight"]
                for k in range(7)
            }
        else:
            weights["lm_head.weight"].mul_(2.5)
        if name == "text":
            weights["lm_head.weight"][10_000].mul_(1.5)
        made[name] = weights
    return made


def suno_text() -> list[int]:
    """Numbers of word pieces."""
    return [(17 * place * place + 5) % 100_000 for place in range(40)]


def suno_semantic() -> NDArray[np.int64]:
    """Semantic tokens that last a second."""
    return np.array([(31 * place * place + 7 * place) % 10_000 for place in range(50)])


def suno_voice() -> dict[str, NDArray[np.int64]]:
    """What was said before."""
    places = np.arange(450)
    return {
        "semantic_prompt": (13 * places[:300] ** 2 + 3) % 10_000,
        "coarse_prompt": np.stack([places**2 % 1021, (places**2 + 5 * places) % 1023]),
        "fine_prompt": np.stack([(places**2 + book * places) % 1019 for book in range(8)]),
    }
