"""Small CSMs of `transformers`, written as checkpoints that we load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROPE = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0}
# So small that some turns are stretched, some are not, and some are in between.
NEAR = ROPE | {"low_freq_factor": 0.5, "high_freq_factor": 4.0}
MIMI = {
    "model_type": "mimi",
    "num_filters": 4,
    "hidden_size": 16,
    "upsampling_ratios": [4, 2],
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "codebook_size": 64,
    "codebook_dim": 8,
    "vector_quantization_hidden_dimension": 8,
    "num_quantizers": 6,
    "upsample_groups": 16,
    "sliding_window": 9,
}
HOP = 16
DEPTH = {
    "num_codebooks": 6,
    "backbone_hidden_size": 32,
    "vocab_size": 67,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 7,
    "rope_parameters": NEAR | {"original_max_position_embeddings": 6},
}
# Sizes that differ wherever they can. Tokens from 296 on have a meaning.
TINY = {
    "num_codebooks": 6,
    "vocab_size": 67,
    "text_vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 700,
    "rope_parameters": NEAR | {"original_max_position_embeddings": 64},
    "codebook_pad_token_id": 66,
    "bos_token_id": 296,
    "pad_token_id": 298,
    "audio_token_id": 298,
    "audio_eos_token_id": 299,
    "depth_decoder_config": DEPTH,
    "codec_config": MIMI,
}


@torch.no_grad()
def reference(**config: Any) -> Any:
    """A model of the library: activations stay as large as in life, and codes differ."""
    from transformers import CsmConfig, CsmForConditionalGeneration

    model = CsmForConditionalGeneration(CsmConfig(**(TINY | config))).eval()
    noise = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        drawn = torch.randn(parameter.shape, generator=noise)
        if name.startswith("codec_model"):
            # As it comes it makes no sound, and hears the same in everything.
            parameter.add_(0.1 * drawn)
        elif parameter.dim() == 1:
            parameter.add_(0.1 * drawn)
        elif "embed_tokens" in name or "embed_text" in name:
            parameter.copy_(drawn)
        else:
            inputs = parameter.shape[-2 if "codebooks_head" in name else -1]
            parameter.copy_(1.5 * drawn * inputs**-0.5)
    for name, buffer in model.codec_model.named_buffers():
        if name.endswith("embed_sum"):
            buffer.copy_(torch.randn(buffer.shape, generator=noise))
    return model


def written(folder: Path, **config: Any) -> Any:
    """The same, and its files in a folder, a tokenizer among them."""
    model = reference(**config)
    model.save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    return model


def tokenizer() -> Any:
    """Bytes, and the special tokens by the names that Llama 3 has for them."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: place for place, letter in enumerate(alphabet)}
    vocabulary |= {"he": 256, "ll": 257, "hell": 258}
    vocabulary |= {f"<unused {place}>": place for place in range(259, 296)}
    made = Tokenizer(models.BPE(vocabulary, [("h", "e"), ("l", "l"), ("he", "ll")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    names = "<|begin_of_text|>", "<|end_of_text|>", "<|AUDIO|>", "<|audio_eos|>"
    made.add_special_tokens([AddedToken(name, special=True) for name in names])
    return made


def their_frames(model: Any, how: dict[str, Any], count: int, **inputs: Tensor) -> Tensor:
    """`count` frames [B, F, K] of the library, drawn in the same manner in both of its parts."""
    both = how | {f"depth_decoder_{name}": value for name, value in how.items()}
    frames: Tensor = model.generate(**inputs, max_new_tokens=count, **both)
    return frames
