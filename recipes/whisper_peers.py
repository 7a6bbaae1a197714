"""Whisper as others run it: one random checkpoint per size, and an engine for every program.

All engines hear the same spectrogram and write the same number of tokens: the end of text is
suppressed, so that time depends on sizes alone. Weights are half floats, as the published ones.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

SIZES = {  # width, layers, heads; the first is no published one
    "nano": (64, 1, 1),
    "tiny": (384, 4, 6),
    "base": (512, 6, 8),
    "small": (768, 12, 12),
    "medium": (1024, 24, 16),
}
VOCABULARY, END = 51_865, 50_257
PROMPT = (50_258, 50_259, 50_359, 50_363)  # start, English, transcribe, no timestamps


class Engine(Protocol):
    """A program with the checkpoint loaded."""

    def encode(self, mel: Tensor) -> Any:
        """mel [B, M, 3000] -> what `decode` takes."""

    def decode(self, memory: Any, beams: int, tokens: int) -> list[int]:
        """The best of `beams` texts of so many tokens for each window, one after another."""

    def vectors(self, memory: Any) -> Tensor:
        """What the encoder made, as [B, 1500, D]."""


def spectrogram(windows: int = 1) -> Tensor:
    """mel [B, 80, 3000], as smooth and as large as those of speech."""
    coarse = torch.randn(windows, 80, 400, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, 3000, mode="linear").clamp(-1, 1.5)


def build(size: str, folder: Path) -> None:
    """Write the checkpoint in the forms of all programs below `folder`."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    wide, layers, heads = SIZES[size]
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=VOCABULARY,
        d_model=wide,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * wide,
        decoder_ffn_dim=4 * wide,
        decoder_start_token_id=PROMPT[0],
        bos_token_id=END,
        eos_token_id=END,
        pad_token_id=END,
        suppress_tokens=[],
        begin_suppress_tokens=[],
    )
    model = WhisperForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        # As they start, activations fade from layer to layer and all texts are the same.
        gain = 3.0 if parameter.dim() > 1 else 1.0
        parameter.data.mul_(gain).copy_(parameter.data.half())
    model.generation_config.update(alignment_heads=[[0, 0]], lang_to_id={"<|en|>": PROMPT[1]})
    model.save_pretrained(folder / "hub")
    _write_tokenizer(folder / "hub")
    _write_original(model, folder / "model.pt")
    if importlib.util.find_spec("ctranslate2") is not None:
        from ctranslate2.converters import TransformersConverter  # type: ignore[import-not-found]

        TransformersConverter(str(folder / "hub")).convert(str(folder / "ctranslate2"))


def _write_tokenizer(folder: Path) -> None:
    """The tokenizer as the hub has it, from the ranks of openai-whisper."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from alm_cli.text.pairs import find_pairs
    from alm_cli.text.tokenizer import load_tokenizer

    package = importlib.util.find_spec("whisper")
    assert package is not None and package.submodule_search_locations is not None
    assets = Path(package.submodule_search_locations[0]) / "assets"
    pairs, ours = find_pairs(assets, "multilingual.tiktoken"), load_tokenizer(assets, VOCABULARY)
    assert pairs is not None
    text = {piece: token for piece, token in pairs.tokens.items() if token < END}
    tokenizer = Tokenizer(models.BPE(text, list(pairs.merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [ours.decode_with_timestamps([token]) for token in range(END, VOCABULARY)]
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in special])
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[0])
    whole.save_pretrained(folder)


_NAMES = (
    ("layers", "blocks"),
    ("encoder_attn_layer_norm", "cross_attn_ln"),
    ("encoder_attn", "cross_attn"),
    ("self_attn_layer_norm", "attn_ln"),
    ("self_attn", "attn"),
    ("fc1", "mlp.0"),
    ("fc2", "mlp.2"),
    ("final_layer_norm", "mlp_ln"),
    ("encoder.layer_norm", "encoder.ln_post"),
    ("decoder.layer_norm", "decoder.ln"),
    ("q_proj", "query"),
    ("k_proj", "key"),
    ("v_proj", "value"),
    ("out_proj", "out"),
    ("embed_tokens.weight", "token_embedding.weight"),
    ("embed_positions.weight", "positional_embedding"),
)


def _write_original(model: Any, path: Path) -> None:
    """The checkpoint under OpenAI's names."""
    weights = {}
    for name, tensor in model.model.state_dict().items():
        for theirs, original in _NAMES:
            name = name.replace(theirs, original)
        weights[name] = tensor.half()
    config = model.config
    audio = {"n_audio_ctx": 1500, "n_audio_head": config.encoder_attention_heads}
    audio |= {"n_audio_state": config.d_model, "n_audio_layer": config.encoder_layers}
    text = {"n_text_ctx": 448, "n_text_head": config.decoder_attention_heads}
    text |= {"n_text_state": config.d_model, "n_text_layer": config.decoder_layers}
    dims = {"n_mels": config.num_mel_bins, "n_vocab": VOCABULARY} | audio | text
    torch.save({"dims": dims, "model_state_dict": weights}, path)


class Ours:
    """This program; `kind` is float32 or int8."""

    def __init__(self, folder: Path, kind: str) -> None:
        from alm_cli.checkpoints.load import load
        from alm_cli.lm.whisper import Whisper
        from alm_cli.nn.packed import (
            SteadyHalfLinear,
            SteadyInt8Linear,
            pack_exactly,
            pack_int8,
        )

        model = load(folder / "hub").model
        assert isinstance(model, Whisper)
        if kind == "int8":
            pack_int8(model, SteadyInt8Linear)
        else:
            pack_exactly(model.decoder, SteadyHalfLinear)
        self._model = model

    def encode(self, mel: Tensor) -> Tensor:
        """mel [B, M, 3000] -> [B, 1500, D]."""
        return torch.cat([self._model.encode(one) for one in mel.split(1)])

    def decode(self, memory: Tensor, beams: int, tokens: int) -> list[int]:
        """As `Engine`."""
        from alm_cli.decoding import search
        from alm_cli.decoding.rules import Rules

        nothing = torch.zeros(0, dtype=torch.long)
        rules = Rules(never=torch.tensor([END]), not_first=nothing)
        bounds = search.Bounds(rules=rules, end=END, limit=tokens)
        line = _Line(self._model, memory)
        prompts = torch.tensor([PROMPT] * len(memory))
        logits = line.model.decode(prompts, memory, line.state, at=(-1,))[:, 0]
        if beams == 1:
            found = [texts[0] for texts in search.likeliest(line, logits, bounds)]
        else:
            found = list(map(search.best, search.beams(line, logits, bounds, width=beams)))
        return [token for text in found for token in text.tokens]

    def vectors(self, memory: Tensor) -> Tensor:
        """[B, 1500, D] -> [B, 1500, D]."""
        return memory


class _Line:
    """The rows that our model continues."""

    def __init__(self, model: Any, memory: Tensor) -> None:
        from alm_cli.nn.state import State

        self.model, self.memory, self.state = model, memory, State()

    def __call__(self, tokens: Tensor) -> Tensor:
        """tokens [R] -> logits [R, V]."""
        logits: Tensor = self.model.decode(tokens[:, None], self.memory, self.state)[:, -1]
        return logits

    def reorder(self, rows: Tensor) -> None:
        """Let row i go on as row rows[i] was."""
        self.state.reorder(rows)

    def keep(self, recordings: Tensor) -> None:
        """There is one."""


class OpenAi:
    """The package openai-whisper."""

    def __init__(self, folder: Path, kind: str) -> None:  # noqa: ARG002
        import whisper  # type: ignore[import-not-found]

        self._whisper = whisper
        self._model = whisper.load_model(str(folder / "model.pt"), device="cpu")

    def encode(self, mel: Tensor) -> Tensor:
        """mel [B, M, 3000] -> [B, 1500, D]."""
        memory: Tensor = self._model.embed_audio(mel)
        return memory

    def decode(self, memory: Tensor, beams: int, tokens: int) -> list[int]:
        """As `Engine`."""
        options = self._whisper.DecodingOptions(
            language="en",
            beam_size=beams if beams > 1 else None,
            sample_len=tokens,
            suppress_tokens=[END],
            suppress_blank=False,
            without_timestamps=True,
            fp16=False,
        )
        task = self._whisper.decoding.DecodingTask(self._model, options)
        # The marks that it always suppresses besides, no other program does.
        for rule in task.logit_filters:
            rule.suppress_tokens = [END]
        # Its beams are those of one recording.
        parts = memory.split(1) if beams > 1 else [memory]
        return [token for part in parts for text in task.run(part) for token in text.tokens]

    def vectors(self, memory: Tensor) -> Tensor:
        """[B, 1500, D] -> [B, 1500, D]."""
        return memory


class Transformers:
    """The package transformers."""

    def __init__(self, folder: Path, kind: str) -> None:  # noqa: ARG002
        from transformers import WhisperForConditionalGeneration

        self._model = WhisperForConditionalGeneration.from_pretrained(folder / "hub").eval()

    def encode(self, mel: Tensor) -> Any:
        """mel [B, M, 3000] -> outputs of the encoder."""
        return self._model.model.encoder(mel)

    def decode(self, memory: Any, beams: int, tokens: int) -> list[int]:
        """As `Engine`."""
        from transformers import GenerationMixin

        made = GenerationMixin.generate(
            self._model,
            encoder_outputs=memory,
            decoder_input_ids=torch.tensor([PROMPT] * len(self.vectors(memory))),
            max_new_tokens=tokens,
            num_beams=beams,
            do_sample=False,
            suppress_tokens=[END],
        )
        return list(made[:, len(PROMPT) :].flatten().tolist())

    def vectors(self, memory: Any) -> Tensor:
        """[B, 1500, D]."""
        hidden: Tensor = memory.last_hidden_state
        return hidden


class FasterWhisper:
    """CTranslate2, on which faster-whisper is built; `kind` is float32 or int8."""

    def __init__(self, folder: Path, kind: str) -> None:
        import ctranslate2

        self._library = ctranslate2
        threads = torch.get_num_threads()
        path = str(folder / "ctranslate2")
        self._model = ctranslate2.models.Whisper(path, compute_type=kind, intra_threads=threads)

    def encode(self, mel: Tensor) -> Any:
        """mel [B, M, 3000] -> a view of its own kind."""
        features = self._library.StorageView.from_array(np.ascontiguousarray(mel.numpy()))
        return self._model.encode(features)

    def decode(self, memory: Any, beams: int, tokens: int) -> list[int]:
        """As `Engine`."""
        made = self._model.generate(
            memory,
            [list(PROMPT)] * memory.shape[0],
            beam_size=beams,
            max_length=2 * tokens,  # which it halves
            suppress_blank=False,
            suppress_tokens=[END],
        )
        return [token for text in made for token in text.sequences_ids[0]]

    def vectors(self, memory: Any) -> Tensor:
        """[B, 1500, D]."""
        return torch.from_numpy(np.array(memory))


Load = Callable[[Path, str], Engine]
# Program, number type, and what stands in the environment before it is imported.
ENGINES: dict[str, tuple[Load, str, dict[str, str]]] = {
    "alm": (Ours, "float32", {}),
    "alm int8": (Ours, "int8", {}),
    "openai-whisper": (OpenAi, "float32", {}),
    "transformers": (Transformers, "float32", {}),
    "faster-whisper": (FasterWhisper, "float32", {}),
    "faster-whisper int8": (FasterWhisper, "int8", {}),
    "faster-whisper int8, MKL": (FasterWhisper, "int8", {"CT2_USE_MKL": "1"}),
}
_PACKAGES = {OpenAi: "whisper", Transformers: "transformers", FasterWhisper: "ctranslate2"}


def available() -> Sequence[str]:
    """The engines whose packages are installed."""
    return [
        name
        for name, (load, _, _) in ENGINES.items()
        if load is Ours or importlib.util.find_spec(_PACKAGES[load]) is not None  # type: ignore[index]
    ]


def environment(name: str) -> dict[str, str]:
    """The environment of a process that runs an engine."""
    return {**os.environ, **ENGINES[name][2]}
