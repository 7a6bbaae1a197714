"""The same Whisper in other programs, where they are installed: same weights, same audio."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from alm_cli.bench.recognisers import Recogniser, Text
from alm_cli.errors import ModelError
from alm_cli.systems.transcriber import RATE, TranscribeAsk, mono
from alm_cli.text.tokenizer import load_tokenizer
from alm_cli.values import Audio

Wave = NDArray[np.float32]
Make = Callable[[Path, TranscribeAsk], Callable[[Wave], str]]


def peer(program: str, checkpoint: Path, ask: TranscribeAsk) -> Recogniser:
    """A recogniser of another program. ModelError: it is not here, or cannot read these weights."""
    package, make = PEERS[program]
    if importlib.util.find_spec(package) is None:
        raise ModelError(f"{program} is not installed", hint=f"pip install {program}")
    began = time.perf_counter()
    write = make(checkpoint, ask)
    took = time.perf_counter() - began

    def hear(audio: Audio) -> Text:
        return Text(text=write(np.concatenate([np.zeros(0, np.float32), *mono(audio)()])))

    name = checkpoint.stem if checkpoint.is_file() else checkpoint.name
    return Recogniser(model=name, program=program, hear=hear, load_s=took)


def _openai(checkpoint: Path, ask: TranscribeAsk) -> Callable[[Wave], str]:
    if checkpoint.suffix != ".pt":
        raise ModelError("openai-whisper reads its own .pt files only", hint="give one of them")
    model = import_module("whisper").load_model(str(checkpoint), device="cpu")

    def write(wave: Wave) -> str:
        told = model.transcribe(
            wave,
            language=ask.language,
            temperature=ask.temperature,
            beam_size=ask.beam_size,
            best_of=ask.best_of,
            fp16=False,
        )
        return str(told["text"])

    return write


def _transformers(checkpoint: Path, ask: TranscribeAsk) -> Callable[[Wave], str]:
    _needs(checkpoint, "config.json", "transformers")
    transformers = import_module("transformers")
    model: Any = transformers.WhisperForConditionalGeneration.from_pretrained(checkpoint)
    tokenizer = load_tokenizer(checkpoint, model.config.vocab_size)
    told = model.generation_config
    if not hasattr(told, "lang_to_id"):  # a folder without generation_config.json
        languages = zip(tokenizer.languages, tokenizer.language_tokens, strict=True)
        told.lang_to_id = {f"<|{language}|>": token for language, token in languages}
        told.task_to_id = {"transcribe": tokenizer.transcribe, "translate": tokenizer.translate}
        told.is_multilingual = tokenizer.multilingual
        told.no_timestamps_token_id = tokenizer.no_timestamps
    hears = transformers.WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)

    @torch.inference_mode()
    def write(wave: Wave) -> str:
        if len(wave) > 30 * RATE:
            raise ModelError("transformers is compared on recordings of up to 30 s")
        heard = hears(wave, sampling_rate=RATE, return_tensors="pt").input_features
        options = {"language": ask.language} if ask.language and tokenizer.multilingual else {}
        tokens = model.generate(heard, num_beams=ask.beam_size or 1, **options)[0].tolist()
        return str(tokenizer.decode([token for token in tokens if token < tokenizer.eot]))

    return write


def _faster(checkpoint: Path, ask: TranscribeAsk) -> Callable[[Wave], str]:
    # Without its tokenizer it would ask the network for one.
    _needs(checkpoint, "tokenizer.json", "faster-whisper")
    with tempfile.TemporaryDirectory() as folder:
        kind = import_module("ctranslate2.converters").TransformersConverter
        converter = kind(str(checkpoint), copy_files=["tokenizer.json"])
        converter.convert(folder, force=True)
        model = import_module("faster_whisper").WhisperModel(
            folder, device="cpu", compute_type="float32"
        )

    def write(wave: Wave) -> str:
        segments, _ = model.transcribe(
            wave,
            language=ask.language,
            temperature=list(ask.temperature),
            beam_size=ask.beam_size or 1,
            best_of=ask.best_of or 1,
        )
        return "".join(segment.text for segment in segments)

    return write


def _needs(checkpoint: Path, file: str, program: str) -> None:
    if not (checkpoint / file).is_file():
        raise ModelError(f"{checkpoint}: {program} needs {file} there", hint="give such a folder")


# Program, as pip calls it -> its package, and what makes a recogniser of a checkpoint.
PEERS: Mapping[str, tuple[str, Make]] = {
    "openai-whisper": ("whisper", _openai),
    "transformers": ("transformers", _transformers),
    "faster-whisper": ("faster_whisper", _faster),
}
