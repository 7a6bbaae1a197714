"""VITS and SpeechT5 as `transformers` runs them, with random weights at the published sizes.

python -m recipes.compare_speakers --model mms-tts --runs 5
python -m recipes.compare_speakers --model speecht5 --text "The quick brown fox." --runs 3
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alm_cli.systems.speaker import Line, load_speaker
from alm_cli.systems.speecht5_speaker import VOCODERS
from alm_cli.text.characters import Characters
from alm_cli.text.unigram import read_tokenizer

Engine = Callable[[str, int], Iterator[Any]]
_LETTERS = "abcdefghijklmnopqrstuvwxyz' "


@torch.no_grad()
def build_vits(root: Path) -> Path:
    """A model of the sizes of mms-tts, two or three frames a character."""
    from transformers import VitsConfig, VitsModel

    torch.manual_seed(0)
    folder = root / "mms-tts"
    model = VitsModel(VitsConfig())
    _randomise(model)
    predictor = model.duration_predictor
    predictor.conv_proj.weight.mul_(0.1)
    predictor.flows[0].translate.fill_(-0.6)
    model.save_pretrained(folder)
    numbers = {letter: number for number, letter in enumerate(_LETTERS)}
    settings = {"add_blank": True, "normalize": True, "phonemize": False}
    for name, value in (("vocab.json", numbers), ("tokenizer_config.json", settings)):
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    return folder


def vits(folder: Path, kind: str) -> Engine:  # noqa: ARG001
    """The model of transformers, all at once."""
    from transformers import VitsModel

    model = VitsModel.from_pretrained(folder).eval()
    numbers = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    characters = Characters(ids=numbers)

    def say(text: str, seed: int) -> Iterator[Any]:
        torch.manual_seed(seed)
        with torch.no_grad():
            yield model(torch.tensor([characters.read(text).ids])).waveform[0].numpy()

    return say


@torch.no_grad()
def build_speecht5(root: Path) -> Path:
    """A model and a vocoder of the published sizes; speech ends at 20 frames a character."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        SpeechT5Config,
        SpeechT5ForTextToSpeech,
        SpeechT5HifiGan,
        SpeechT5HifiGanConfig,
    )

    torch.manual_seed(0)
    folder = root / "speecht5"
    model = SpeechT5ForTextToSpeech(SpeechT5Config(max_text_positions=600))
    vocoder = SpeechT5HifiGan(SpeechT5HifiGanConfig())
    for part, place in ((model, folder), (vocoder, folder / VOCODERS[0])):
        _randomise(part)
        if part is model:
            model.speech_decoder_postnet.prob_out.bias.fill_(-100)
        part.save_pretrained(place)
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *_LETTERS[:-1], *_LETTERS[:26].upper(), *",."]
    scored = [(piece, -float(place)) for place, piece in enumerate(pieces)]
    tokenizer = Tokenizer(models.Unigram(scored, 3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    np.save(folder / "voice.npy", np.random.default_rng(0).normal(size=512).astype(np.float32))
    return folder


def our_speecht5(folder: Path, kind: str) -> Engine:
    """This program, in the voice in the folder."""
    speaker = load_speaker(folder, device="cpu", dtype=kind)
    voice = speaker.voice(folder / "voice.npy")

    def say(text: str, seed: int) -> Iterator[Any]:
        return speaker.stream(Line(text=text, seed=seed, voice=voice))

    return say


def speecht5(folder: Path, kind: str) -> Engine:  # noqa: ARG001
    """The models of transformers, all at once."""
    from transformers import SpeechT5ForTextToSpeech, SpeechT5HifiGan

    model = SpeechT5ForTextToSpeech.from_pretrained(folder).eval()
    vocoder = SpeechT5HifiGan.from_pretrained(folder / VOCODERS[0]).eval()
    tokenizer = read_tokenizer(folder / "tokenizer.json")
    voice = torch.from_numpy(np.load(folder / "voice.npy"))[None]

    def say(text: str, seed: int) -> Iterator[Any]:
        tokens = torch.tensor([[*tokenizer.encode(text).ids, 2]])
        torch.manual_seed(seed)
        yield model.generate_speech(tokens, voice, vocoder=vocoder).numpy()

    return say


def _randomise(model: torch.nn.Module) -> None:
    """Weights under which activations stay as large as in life."""
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and "original0" not in name:
            transposed = "upsampler" in name
            inputs = 2 * parameter.shape[0] if transposed else parameter[0].numel()
            parameter.normal_(0, (0.3 if "convs2" in name else 1.0) * inputs**-0.5)
        elif name.endswith("bias"):
            parameter.zero_()
