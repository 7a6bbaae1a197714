"""Reference models of `transformers` that speak, with weights that make lively, bounded speech."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.random_weights import reference_with

LETTERS = "abcdefghijklmnopqrstuvwxyz' "
VITS_TINY: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "ffn_dim": 24,
    "flow_size": 8,
    "upsample_initial_channel": 16,
    "upsample_rates": [4, 2],
    "upsample_kernel_sizes": [8, 4],
    "duration_predictor_filter_channels": 12,
    "posterior_encoder_num_wavenet_layers": 2,
    "spectrogram_bins": 9,
}
SPEECHT5_TINY: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 24,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 40,
    "decoder_layers": 2,
    "decoder_attention_heads": 3,
    "decoder_ffn_dim": 36,
    "num_mel_bins": 16,
    "speech_decoder_prenet_units": 14,
    "speech_decoder_postnet_units": 16,
    "speaker_embedding_dim": 6,
    "max_text_positions": 60,
    "max_speech_positions": 200,
}
HIFIGAN_TINY: dict[str, Any] = {
    "model_in_dim": 16,
    "upsample_initial_channel": 16,
    "upsample_rates": [4, 2],
    "upsample_kernel_sizes": [8, 4],
}
# Durations near two frames; branches that do not drown what they are added to.
_VITS_GAINS = {
    "duration_predictor.conv_proj": 0.1,
    "duration_predictor.proj": 0.1,
    "log_scale": 0.1,
    "text_encoder.project": 0.3,
    ".convs2.": 0.3,
}


@torch.no_grad()
def vits_reference(**settings: Any) -> tuple[Any, dict[str, Tensor]]:
    """A model of the library, and its weights: about two frames a character, none very long."""
    from transformers import VitsConfig, VitsModel

    model, weights = reference_with(lambda: VitsModel(VitsConfig(**settings)))
    for name, tensor in weights.items():
        if name == "duration_predictor.flows.0.translate":
            tensor.fill_(-0.6)
        tensor.mul_(next((gain for part, gain in _VITS_GAINS.items() if part in name), 1.0))
    return model, weights


@torch.no_grad()
def speecht5_reference(**settings: Any) -> tuple[Any, dict[str, Tensor]]:
    """A model of the library, and its weights: speech that neither ends at once nor never."""
    from transformers import SpeechT5Config, SpeechT5ForTextToSpeech

    model, weights = reference_with(lambda: SpeechT5ForTextToSpeech(SpeechT5Config(**settings)))
    for name, tensor in weights.items():
        if name.endswith("running_var"):
            tensor.abs_().add_(0.5)
        elif name.endswith("num_batches_tracked"):
            tensor.fill_(5)
        elif name.endswith("alpha"):
            tensor.fill_(0.8)
        elif name.endswith("prob_out.bias"):
            tensor.fill_(-3.5)
    for part in (model.speecht5.encoder.prenet, model.speecht5.decoder.prenet):
        _restore_sinusoids(part.encode_positions)
    return model, weights


def _restore_sinusoids(part: Any) -> None:
    """What was computed on the device without memory; no weight, so no file has it."""
    made = type(part)(0.0, part.dim, part.max_len)
    part.pe = torch.nn.Buffer(made.pe, persistent=False)


@torch.no_grad()
def hifigan_reference(**settings: Any) -> tuple[Any, dict[str, Tensor]]:
    """A vocoder of the library, and its weights."""
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    model, weights = reference_with(lambda: SpeechT5HifiGan(SpeechT5HifiGanConfig(**settings)))
    for name, tensor in weights.items():
        tensor.mul_(next((gain for part, gain in _VITS_GAINS.items() if part in name), 1.0))
    weights["scale"].abs_().add_(0.5)
    return model, weights


def write_vits(folder: Path, *, letters: str = LETTERS, **settings: Any) -> Any:
    """A model in a folder as the hub has it; the reference model with the same weights."""
    from safetensors.torch import save_file

    size = max(len(letters), settings.pop("vocab_size", 0))
    model, weights = vits_reference(**(VITS_TINY | {"vocab_size": size} | settings))
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    published = {_published(name): tensor.contiguous() for name, tensor in weights.items()}
    save_file(published, folder / "model.safetensors")
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    tokenizer = {"add_blank": True, "normalize": True, "phonemize": False, "is_uroman": False}
    for name, value in (("vocab.json", vocabulary), ("tokenizer_config.json", tokenizer)):
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    return model


def _published(name: str) -> str:
    """The spelling of weight normalisation in the files of the hub, which are from 2023."""
    return name.replace("parametrizations.weight.original0", "weight_g").replace(
        "parametrizations.weight.original1", "weight_v"
    )


def write_speecht5(folder: Path) -> tuple[Any, Any]:
    """A model and its vocoder in a folder; the reference models with the same weights."""
    from safetensors.torch import save_file

    model, weights = speecht5_reference(**SPEECHT5_TINY)
    vocoder, waves = hifigan_reference(**HIFIGAN_TINY)
    for place, config, tensors in (
        (folder, model.config, weights),
        (folder / "speecht5_hifigan", vocoder.config, waves),
    ):
        place.mkdir(parents=True)
        config.save_pretrained(place)
        save_file(dict(tensors), place / "model.safetensors")
    return model, vocoder
