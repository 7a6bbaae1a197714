"""Tiny models of pocket-tts in both layouts of their checkpoints."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.fixtures.golden import make_pocket_kyutai as kyutai

HOP = 16  # samples of a frame of the tiny models of the authors' program
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
HEAD = {"hidden_size": 16, "num_hidden_layers": 2, "condition_dim": 32}
CODEC = {"num_filters": 2, "hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2}
CODEC |= {"intermediate_size": 24, "upsample_groups": 16}


@cache
def golden() -> tuple[dict[str, Tensor], dict[str, dict[str, tuple[int, ...]]]]:
    """What pocket-tts computed, and the shapes of its weights, by the name of the variant."""
    with safe_open(kyutai.FILE, "pt") as opened:
        told = json.loads(opened.metadata()["shapes"])
    shapes = {name: {key: tuple(shape) for key, shape in of.items()} for name, of in told.items()}
    return load_file(kyutai.FILE), shapes


def kyutai_folder(folder: Path, variant: str = "usual") -> Path:
    """A checkpoint as the authors' program has it: two models in one file, a tokenizer, a voice."""
    (folder / "embeddings").mkdir(parents=True)
    tensors, shapes = golden()
    save_file(kyutai.weights(shapes[variant]), folder / "model.safetensors")
    shutil.copy(kyutai.TOKENIZER, folder / "tokenizer.model")
    begin = f"{variant}/voice/"
    voice = {key.removeprefix(begin): x for key, x in tensors.items() if key.startswith(begin)}
    save_file(voice, folder / "embeddings" / "alba.safetensors")
    return folder


@torch.no_grad()
def hub_models(flow: str = "lsd", **config: Any) -> tuple[Any, Any]:
    """The two models of `transformers`, with weights under which everything in them matters."""
    from transformers import PocketTTSAudioTokenizerConfig as CodecConfig
    from transformers import PocketTTSAudioTokenizerModel as Codec
    from transformers import PocketTTSConfig as Config
    from transformers import PocketTTSForConditionalGeneration as Model

    torch.manual_seed(0)
    sizes = TINY | {"intermediate_size": 48} | config
    model = Model(Config(**sizes, flow_head_config=HEAD | {"flow_type": flow})).eval()
    codec = Codec(CodecConfig(**CODEC)).eval()
    _spread(model)
    _spread(codec)
    # What is said must not lose itself in what was said before.
    model.model.audio_latent_proj.weight.mul_(0.2)
    return model, codec


def _spread(model: Any) -> None:
    for name, parameter in model.named_parameters():
        if name.endswith("_scale.scale"):
            parameter.fill_(0.3)
        elif parameter.dim() == 2:
            parameter.normal_(0, parameter.shape[1] ** -0.5)
        elif parameter.dim() == 1:
            parameter.add_(0.1 * torch.randn_like(parameter))
    if hasattr(model, "latent_std"):
        model.latent_std.uniform_(0.5, 2)
        model.latent_mean.normal_()


def snr_db(wanted: Tensor, found: Tensor) -> float:
    """How far below what is wanted the difference lies."""
    assert found.shape == wanted.shape
    error = (found.double() - wanted).square().sum()
    return float(10 * torch.log10(wanted.double().square().sum() / error.clamp(min=1e-300)))
