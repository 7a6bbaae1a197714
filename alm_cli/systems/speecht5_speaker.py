"""SpeechT5 and its HiFi-GAN as a speaker, in the voice of an x-vector."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from torch import Tensor

from alm_cli.catalog import SPEECHT5_VOCODER
from alm_cli.checkpoints.fetch import fetch
from alm_cli.checkpoints.load import Loaded, build
from alm_cli.checkpoints.reader import open_checkpoint, read_json
from alm_cli.errors import InputError, ModelError
from alm_cli.lm.hifigan import FAMILY, HifiGan
from alm_cli.lm.speecht5 import Masks, SpeechT5
from alm_cli.nn.packed import pack_int8
from alm_cli.nn.state import State
from alm_cli.runtime import dtype_of, inference, place, seeded
from alm_cli.systems.speaker import Line, Spoken
from alm_cli.text.unigram import read_tokenizer
from alm_cli.values import Audio

# The same order of steps in a stream and for a file: half a second at a time.
_BLOCK_STEPS = 16
# As `transformers` has it: so many frames a token, then speech is cut off.
_FRAMES_PER_TOKEN = 20
# Folders within that of the model that may hold the vocoder.
VOCODERS = ("speecht5_hifigan", "hifigan")
_TOKENIZERS = ("spm_char.model", "tokenizer.json")
_SAID, _SAID_TOO = "LMNS", "#%&@"


class SpeechT5Speaker:
    """A loaded SpeechT5; nothing about it changes after loading.

    The seed of a line is that of the dropout which stays on, drawn in the order of `transformers`.
    """

    voices: tuple[str, ...] = ()

    def __init__(
        self,
        model: SpeechT5,
        vocoder: HifiGan,
        tokenizer: Tokenizer,
        name: str,
        weights_sha256: str,
        *,
        device: torch.device,
    ) -> None:
        self.name, self.weights_sha256, self.rate = name, weights_sha256, vocoder.rate
        self.longest = min(300, model.texts - 2)
        self._model, self._vocoder, self._tokenizer = model, vocoder, tokenizer
        self._device = device
        self._unknown = tokenizer.token_to_id("<unk>")

    def voice(self, source: str | Path | Audio | None) -> XVector:
        """The x-vector in a `.npy` or `.safetensors` file; see `Speaker.voice`."""
        size = self._model.voice_size
        hint = f"--voice FILE with an x-vector of {size} numbers, as .npy or .safetensors"
        if source is None or isinstance(source, Audio):
            lack = "needs a voice" if source is None else "takes no voice from a recording"
            raise InputError(f"{self.name} {lack}", hint=hint)
        values = _numbers(Path(source), hint)
        if values.size != size or not np.isfinite(values).all():
            raise InputError(f"{source}: not {size} numbers", hint=hint)
        return XVector(torch.from_numpy(values.astype(np.float32).reshape(1, size)))

    def check(self, text: str) -> None:
        """InputError that names what in a text the model cannot say."""
        self._tokens(text)

    def say(self, lines: Sequence[Line]) -> list[Spoken]:
        """One after another, so that none depends on the others, not even in its last bit."""
        return [Spoken(samples=np.concatenate(list(self.stream(line)))) for line in lines]

    def stream(self, line: Line) -> Iterator[NDArray[np.float32]]:
        """The samples of a line, half a second at a time."""
        self._accept(line)
        voice = line.voice if line.voice is not None else self.voice(None)
        if not isinstance(voice, XVector):
            raise InputError(f"this is no voice of {self.name}")
        return self._pieces(self._tokens(line.text), voice, line.seed)

    def _accept(self, line: Line) -> None:
        """InputError: what is asked for does not exist here."""
        line.keep_pace_of(self.name)
        if any(asked is not None for asked in (line.temperature, line.top_k, line.top_p)):
            raise InputError(
                f"{self.name} draws no tokens", hint="ask for no temperature, top-k or top-p"
            )

    def _tokens(self, text: str) -> list[int]:
        """Text -> tokens. InputError: it is too long, or there is something it cannot say."""
        if "[[" in text:
            raise InputError(f"{self.name} reads no phonemes", hint="write the words instead")
        odd = {c for c in set(text) if not c.isspace() and self._unknown in self._encoded(c)}
        lost = sorted(c for c in odd if c in _SAID_TOO or unicodedata.category(c)[0] in _SAID)
        if lost:
            raise InputError(
                f"{self.name} cannot say {' '.join(lost)[:60]!r}", hint="write it in other words"
            )
        kept = "".join(" " if c in odd else c for c in text).strip()
        tokens = [*self._encoded(kept), self._model.end]
        if not kept or len(tokens) > self._model.texts:
            lack = "nothing to say" if not kept else f"more than {self._model.texts - 1} characters"
            raise InputError(f"{lack} in {text.strip()[:40]!r}")
        return tokens

    def _encoded(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _pieces(
        self, tokens: list[int], voice: XVector, seed: int
    ) -> Iterator[NDArray[np.float32]]:
        model, state = self._model, State()
        with inference():
            heard = model.read(torch.tensor([tokens], device=self._device))
        most = max(1, len(tokens) * _FRAMES_PER_TOKEN // model.frames)
        masks = Masks(model, seeded(seed))
        steps = model.speak(heard, voice.values.to(self._device), masks, most)
        while not state.last:
            with inference():
                block = list(islice(steps, _BLOCK_STEPS))
                state.last = block[-1][1]
                mel = model.leave(torch.cat([mel for mel, _ in block], -1), state)
                wave = self._vocoder(mel.to(self._vocoder.upsampler.first.weight), state)[0, 0]
            if len(wave):
                yield wave.float().cpu().numpy()


@dataclass(frozen=True)
class XVector:
    """A voice: [1, E]."""

    values: Tensor


def _numbers(path: Path, hint: str) -> NDArray[np.generic]:
    """What a file holds. InputError: it is no file of numbers."""
    try:
        if path.suffix == ".safetensors":
            tensors = load_file(path)
            if len(tensors) != 1:
                raise InputError(f"{path}: {len(tensors)} tensors, not one", hint=hint)
            values = next(iter(tensors.values()))
        else:
            with path.open("rb") as file:
                values = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}", hint=hint) from error
    except (ValueError, EOFError, SafetensorError, TypeError) as error:
        raise InputError(f"{path}: not a file of numbers", hint=hint) from error
    if values.dtype.kind not in "fiu":
        raise InputError(f"{path}: not numbers", hint=hint)
    return values


def speaker(
    loaded: Loaded, source: str | Path, *, device: torch.device, dtype: str
) -> SpeechT5Speaker:
    """A loaded SpeechT5, ready to speak. ModelError: its tokenizer or its vocoder is missing.

    `int8` rounds the linear maps. Other types than float32 are for the vocoder alone: rounded
    spectra would go another way.
    """
    model = loaded.model
    assert isinstance(model, SpeechT5)
    path = fetch(loaded.card) if loaded.card else Path(source).expanduser()
    folder = path if path.is_dir() else path.parent
    tokenizer = _tokenizer(folder)
    if tokenizer.get_vocab_size() > model.vocabulary:
        raise ModelError(f"{folder}: its tokenizer has more tokens than the model")
    vocoder = _vocoder(folder)
    if vocoder.bands != model.bands:
        raise ModelError(f"{folder}: the model has {model.bands} bands, its vocoder another number")
    model.to(device)
    if dtype == "int8":
        pack_int8(model)
    vocoder.to(device)
    place(vocoder.upsampler, device, dtype_of("float32" if dtype == "int8" else dtype))
    return SpeechT5Speaker(
        model, vocoder, tokenizer, loaded.name, loaded.weights_sha256, device=device
    )


def _tokenizer(folder: Path) -> Tokenizer:
    for name in _TOKENIZERS:
        if (folder / name).is_file():
            tokenizer = read_tokenizer(folder / name)
            if tokenizer.token_to_id("<unk>") is None:
                raise ModelError(f"{folder / name}: has no <unk>")
            return tokenizer
    raise ModelError(
        f"{folder}: no tokenizer beside the weights", hint=f"put {_TOKENIZERS[0]} there"
    )


def _vocoder(folder: Path) -> HifiGan:
    """The vocoder in a folder within the model's, or the published one."""
    homes = [folder / name for name in VOCODERS if (folder / name).is_dir()]
    try:
        home = homes[0] if homes else fetch(SPEECHT5_VOCODER)
    except ModelError as error:
        repository, revision = SPEECHT5_VOCODER.repository
        raise ModelError(
            f"{folder}: no vocoder, and {error.message}",
            hint=f"put config.json and the weights of {repository} (revision {revision}) into "
            f"{folder / VOCODERS[0]}",
        ) from error
    checkpoint = open_checkpoint(home)
    raw = read_json(home / "config.json")
    vocoder = build(FAMILY, FAMILY.read_config(raw), checkpoint)
    assert isinstance(vocoder, HifiGan)
    return vocoder
