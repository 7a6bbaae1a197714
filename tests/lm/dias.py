"""Small Dias of `transformers`, and a DAC for them, written as checkpoints that we load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LAGS = [0, 3, 4, 6]
TINY: dict[str, Any] = {
    "delay_pattern": LAGS,
    "encoder_config": {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 40,
        "max_position_embeddings": 300,
    },
    "decoder_config": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 48,
        "cross_num_attention_heads": 3,
        "cross_num_key_value_heads": 3,
        "cross_head_dim": 8,
        "cross_hidden_size": 24,
        "num_channels": 4,
        "max_position_embeddings": 900,
    },
}
DAC = {
    "encoder_hidden_size": 4,
    "decoder_hidden_size": 32,
    "downsampling_ratios": [2, 2, 4, 4],
    "n_codebooks": 4,
    "codebook_size": 1024,
    "codebook_dim": 4,
    "sampling_rate": 8000,
}
HOP = 64


@torch.no_grad()
def reference(**config: Any) -> Any:
    """A model of the library: activations stay as large as in life, and codes differ."""
    from transformers import DiaConfig, DiaForConditionalGeneration

    model = DiaForConditionalGeneration(DiaConfig(**(TINY | config))).eval()
    noise = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        drawn = torch.randn(parameter.shape, generator=noise)
        if parameter.dim() == 1:
            parameter.add_(0.1 * drawn)
        elif "embed" in name:
            parameter.copy_(drawn)
        else:
            # Products of queries and keys are not divided by anything.
            gain = 0.6 if "q_proj" in name or "k_proj" in name else 1.5
            parameter.copy_(gain * drawn * parameter.shape[-1] ** -0.5)
    return model


def written(folder: Path, **config: Any) -> Any:
    """The same, and its files in a folder."""
    model = reference(**config)
    model.save_pretrained(folder)
    return model


def codec(folder: Path) -> Path:
    """The files of a DAC."""
    from transformers import DacConfig, DacModel

    torch.manual_seed(0)
    DacModel(DacConfig(**DAC)).eval().save_pretrained(folder)
    return folder


def their_codes(model: Any, text: Tensor, prompt: Tensor, count: int, **how: Any) -> Tensor:
    """Bytes [1, S], codes [K, F] -> the frames [K, n] that the library says after these."""
    from transformers import DiaProcessor

    steps = prompt.shape[1] + 1 + max(LAGS)
    ids = torch.full((1, steps, len(LAGS)), 1025)
    ids[:, 0], ids[0, 1 : prompt.shape[1] + 1] = 1026, prompt.T
    indices = DiaProcessor.build_indices(1, steps, len(LAGS), LAGS)
    delayed = DiaProcessor.apply_audio_delay(ids, 1025, 1026, indices)
    said = model.generate(
        input_ids=text,
        attention_mask=torch.ones_like(text),
        decoder_input_ids=delayed,
        decoder_attention_mask=torch.ones(1, steps),
        # The last of them ends codebook 0, those after it the others.
        max_new_tokens=count + 1 + max(LAGS),
        bos_token_id=1026,
        eos_token_id=1024,
        pad_token_id=1025,
        decoder_start_token_id=1026,
        **how,
    )[0]
    end = said[:, 0].tolist().index(1024)
    frames = range(prompt.shape[1] + 1, end)
    rows = [[int(said[f + lag, book]) for f in frames] for book, lag in enumerate(LAGS)]
    return torch.tensor(rows)
