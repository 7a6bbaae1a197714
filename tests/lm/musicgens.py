"""Tiny MusicGens with random weights, as `transformers` saves them, with a tokenizer beside."""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from alm_cli.lm.musicgen import MusicGen
from alm_cli.systems.composer import load_composer
from alm_cli.systems.musicgen_composer import MusicGenComposer

FORMS: dict[str, dict[str, bool]] = {
    "mono": {},
    "stereo": {"stereo": True},
    "melody": {"melody": True},
    "stereo-melody": {"stereo": True, "melody": True},
}
CODES = 512
PROMPTS = (
    "calm piano",
    "loud drums and bass",
    "a waltz",
    "slow strings in the rain at night",
    "x",
    "funk guitar",
    "ambient pads with bells",
    "fast techno",
)
_TEXT: dict[str, Any] = {
    "vocab_size": 64,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 2,
    "initializer_factor": 4.0,
}
_CODEC: dict[str, Any] = {
    "sampling_rate": 32_000,
    "num_filters": 2,
    "hidden_size": 8,
    "codebook_dim": 8,
    "upsampling_ratios": [8, 5, 4, 4],
    "codebook_size": CODES,
    "target_bandwidths": [1.8],
    "use_causal_conv": False,
    "use_conv_shortcut": False,
}
_DECODER: dict[str, Any] = {
    "vocab_size": CODES,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "ffn_dim": 64,
    "num_attention_heads": 4,
    "pad_token_id": CODES,
    "bos_token_id": CODES,
    # As transformers would, once there is a cache: the published size.
    "max_position_embeddings": 2048,
}


@dataclass(frozen=True)
class Pair:
    """The same weights twice; `folder` is what `transformers` saved."""

    theirs: Any
    ours: MusicGenComposer
    model: MusicGen
    folder: Path

    def their_codes(
        self,
        prompt: str,
        frames: int,
        seed: int | None = 0,
        past: Tensor | None = None,
        chroma: Tensor | None = None,
        **how: Any,
    ) -> Tensor:
        """Codes [S, K, F], those of the past [B * K, P] among them."""
        ids = torch.tensor([self.ours.ids(prompt)])
        heard: list[Tensor] = []

        def kept(codes: Tensor, **_: object) -> Any:
            heard.append(codes[0, 0])
            return SimpleNamespace(audio_values=torch.zeros(1, 1, 1))

        told: dict[str, Any] = {} if past is None else {"decoder_input_ids": past}
        told |= {} if chroma is None else {"input_features": chroma[None]}
        if seed is not None:
            torch.manual_seed(seed)
        with pytest.MonkeyPatch.context() as patch:
            # What codes sound like is another matter.
            patch.setattr(self.theirs.audio_encoder, "decode", kept)
            self.theirs.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=frames + self.model.lags[-1],
                **told,
                **{"do_sample": True, "top_k": 50, "guidance_scale": 3.0} | how,
            )
        return torch.stack(heard)


def tokenizer(folder: Path) -> None:
    """Letters as T5 numbers what fills up, ends, and is unknown, and a few words."""
    words = ["▁", "▁piano", "▁drums", "an", "er", *string.ascii_lowercase]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0)]
    pieces += [(piece, -2.0 - 0.1 * place) for place, piece in enumerate(words)]
    made = Tokenizer(models.Unigram(pieces, 2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.save(str(folder / "tokenizer.json"))


@torch.no_grad()
def musicgens(
    folder: Path,
    *,
    melody: bool = False,
    stereo: bool = False,
    wide: int = 32,
    half: bool = False,
    frames: int = 20,
) -> Pair:
    """A pair; `half`: the decoder's weights are half floats, as the published ones are.

    So many `frames` of a melody are read.
    """
    from transformers import (
        MusicgenConfig,
        MusicgenForConditionalGeneration,
        MusicgenMelodyConfig,
        MusicgenMelodyForConditionalGeneration,
    )

    decoder = _DECODER | {"hidden_size": wide, "num_codebooks": 8 if stereo else 4}
    decoder |= {"audio_channels": 2 if stereo else 1}
    parts = {
        "text_encoder": {"model_type": "t5", **_TEXT},
        "audio_encoder": {"model_type": "encodec", **_CODEC},
        "decoder": decoder,
    }
    torch.manual_seed(7)
    if melody:
        theirs: Any = MusicgenMelodyForConditionalGeneration(
            MusicgenMelodyConfig(**parts, chroma_length=frames)
        )
    else:
        theirs = MusicgenForConditionalGeneration(MusicgenConfig(**parts))
    theirs.eval()
    for name, parameter in theirs.named_parameters():
        if name.startswith("decoder") and parameter.dim() > 1:
            # Logits differ as much as in life, and no layer drowns another.
            parameter.normal_(0, 1.0 if "embed" in name else 1.2 * parameter.shape[1] ** -0.5)
        elif name.startswith("decoder"):
            parameter.add_(torch.randn_like(parameter) * 0.1)
        if half and name.startswith("decoder"):
            parameter.copy_(parameter.half().float())
    for name, buffer in theirs.named_buffers():
        if name.endswith("codebook.embed"):
            buffer.normal_()
    settings = theirs.generation_config
    settings.decoder_start_token_id = settings.pad_token_id = settings.bos_token_id = CODES
    theirs.save_pretrained(folder)
    tokenizer(folder)
    ours = load_composer(folder, device="cpu")
    assert isinstance(ours, MusicGenComposer)
    return Pair(theirs, ours, ours.model, folder)
