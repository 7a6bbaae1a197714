"""pocket-tts as a speaker: any text in any of its voices, streamed from the first frame on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from alm_cli.catalog import CATALOG
from alm_cli.checkpoints.fetch import fetch, locate
from alm_cli.checkpoints.load import Loaded, build
from alm_cli.checkpoints.reader import open_checkpoint, read_json
from alm_cli.codecs.pocket_vae import FAMILY, PocketVae, bundled
from alm_cli.errors import InputError, ModelError, UsageError
from alm_cli.lm.pocket_tts import PocketTts, PocketTtsConfig
from alm_cli.nn.packed import pack_int8, pack_with
from alm_cli.nn.packed_rows import pack_rows
from alm_cli.runtime import dtype_of, place
from alm_cli.systems.pocket_engine import Ask, Engine, Samples, Sound
from alm_cli.systems.pocket_voices import PocketVoice, Voices
from alm_cli.systems.speaker import Line, Spoken
from alm_cli.text.pocket_text import Manner, manner_of, pieces, unknown
from alm_cli.text.unigram import NAMES, read_tokenizer
from alm_cli.values import Audio, Latents, Origin

_CODEC_TYPE = "pocket_tts_audio_tokenizer"
# The cards whose weights have an encoder are called as those without, and this.
_CLONING = "-cloning"


class PocketSpeaker:
    """A loaded pocket-tts; nothing about it changes after loading.

    Each piece of a line begins anew with the voice, so `Line.before` makes no difference.
    """

    # About as many characters as 50 tokens have: longer lines are cut within.
    longest = 200

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        manner: Manner,
        voices: Voices,
        name: str,
        weights_sha256: str,
    ) -> None:
        self.name, self.weights_sha256, self.rate = name, weights_sha256, engine.codec.rate
        self.voices = voices.names
        self._engine, self._tokenizer, self._manner = engine, tokenizer, manner
        self._voices = voices

    def voice(self, source: str | Path | Audio | None) -> PocketVoice:
        """See `Speaker`. InputError: there is none of this name, or no encoder to hear it with."""
        return self._voices.voice(source)

    def check(self, text: str) -> None:
        """InputError: there is nothing to say, phonemes, or characters without a token."""
        if "[[" in text:
            raise InputError(f"{self.name} reads no phonemes", hint="write the words instead")
        odd = unknown(text, self._tokenizer, self._manner, self._engine.model.texts)
        if odd:
            raise InputError(
                f"{self.name} cannot say {' '.join(odd)[:60]!r}", hint="write it in other words"
            )

    def say(self, lines: Sequence[Line]) -> list[Spoken]:
        """Lines together, as a batch; each sounds as it does alone. InputError: see `Speaker`."""
        sounds: list[list[Sound]] = [[] for _ in lines]
        for sound in self._engine.say([self._ask(line) for line in lines]):
            sounds[sound.ask].append(sound)
        return [self._spoken(of) for of in sounds]

    def stream(self, line: Line) -> Iterator[Samples]:
        """The samples of a line, of one frame at first; together, those of `say`."""
        return (sound.samples for sound in self._engine.say([self._ask(line)]))

    def _ask(self, line: Line) -> Ask:
        """What a line asks for. InputError: it cannot be done."""
        self.check(line.text)
        self._accept(line)
        voice = line.voice if line.voice is not None else self.voice(None)
        if not isinstance(voice, PocketVoice):
            raise InputError(f"this is no voice of {self.name}")
        usual = self._manner.temperature
        return Ask(
            pieces=tuple(pieces(line.text, self._tokenizer, self._manner)),
            voice=voice.state,
            seed=line.seed,
            temperature=usual if line.temperature is None else line.temperature,
            threshold=self._manner.threshold,
        )

    def _accept(self, line: Line) -> None:
        """InputError: what is asked for does not exist here. UsageError: a number is impossible."""
        line.keep_pace_of(self.name)
        if line.top_k is not None or line.top_p is not None:
            raise InputError(
                f"{self.name} draws no tokens, so there are no likeliest ones",
                hint="ask for a temperature only",
            )
        if line.temperature is not None and not 0 <= line.temperature < inf:
            raise UsageError(f"temperature is {line.temperature}, not a number from 0")

    def _spoken(self, sounds: Sequence[Sound]) -> Spoken:
        codec = self._engine.codec
        latents = np.concatenate([sound.latents for sound in sounds], 1)
        origin = Origin(
            codec=self.name,
            weights_sha256=self.weights_sha256,
            rate=codec.rate,
            hop=codec.hop,
            frame_rate=codec.rate / codec.hop,
            vocabularies=(),
            channels=1,
            source_rate=codec.rate,
            source_channels=1,
            source_length=latents.shape[1] * codec.hop,
            source_sha256="",
        )
        samples = np.concatenate([sound.samples for sound in sounds])
        return Spoken(samples=samples, tokens=Latents(latents[None], origin))


def speaker(
    loaded: Loaded, source: str | Path, *, device: torch.device, dtype: str = "float32"
) -> PocketSpeaker:
    """A loaded pocket-tts as a speaker; its files lie at `source`. `dtype` may also be "int8".

    ModelError: there is no tokenizer or no autoencoder. UsageError: no int8 here.
    """
    model, folders = loaded.model, _folders(loaded, source)
    assert isinstance(model, PocketTts)
    name = loaded.card.name if loaded.card else folders[0].name
    manner = _told(manner_of(name), loaded.config)
    codec = _codec(folders[0] if loaded.card else Path(source).expanduser()).to(device)
    if (codec.latent, codec.heard) != (model.latent, model.heard):
        raise ModelError(f"{name}: the autoencoder has {codec.latent} features, not {model.latent}")
    tokenizer = _tokenizer(folders, name)
    if tokenizer.get_vocab_size() not in (model.texts, model.embedding.num_embeddings):
        raise ModelError(
            f"{name}: the tokenizer has {tokenizer.get_vocab_size()} tokens, not {model.texts}",
            hint="take the one that came with the weights",
        )
    _prepare(model, device, dtype)
    engine = Engine(model, codec, device)
    voices = Voices(engine, folders, name, manner.voice)
    return PocketSpeaker(engine, tokenizer, manner, voices, name, loaded.weights_sha256)


def _told(manner: Manner, config: PocketTtsConfig) -> Manner:
    """The manner, with what stands beside the weights of how to sample."""
    temperature, threshold = config.temperature, config.threshold
    return replace(
        manner,
        temperature=manner.temperature if temperature is None else temperature,
        threshold=manner.threshold if threshold is None else threshold,
    )


def _prepare(model: PocketTts, device: torch.device, dtype: str) -> None:
    """Bring the weights where and into what they are computed in."""
    rounded = dtype == "int8"
    # Again for inference: that is when matrices that are used together are laid side by side.
    place(model, device, dtype_of("float32" if rounded else dtype)).eval()
    if rounded and device.type != "cpu":
        raise UsageError("int8 is for processors", hint="--dtype float16")
    if rounded:
        pack_int8(model.backbone)
    if device.type == "cpu" and model.dtype == torch.float32:
        # The head is small, and what it makes is heard at once: it is never rounded.
        for part in (model.head,) if rounded else (model.backbone, model.head):
            pack_with(part, pack_rows)


def _folders(loaded: Loaded, source: str | Path) -> list[Path]:
    """Where the files of a model are: its own folder, then that of the card without an encoder."""
    if loaded.card is None:
        path = Path(source).expanduser()
        return [path if path.is_dir() else path.parent]
    plain = loaded.card.name.removesuffix(_CLONING)
    others = [card for card in CATALOG if card.name == plain and card != loaded.card]
    return [fetch(loaded.card), *filter(None, map(locate, others))]


def _tokenizer(folders: Sequence[Path], name: str) -> Tokenizer:
    """The first tokenizer in any of the folders."""
    for folder in folders:
        for file in (folder / name for name in NAMES):
            if file.is_file():
                return read_tokenizer(file)
    raise ModelError(
        f"{folders[0]}: no tokenizer beside the weights",
        hint=f"put {' or '.join(NAMES)} there, or run `alm models pull "
        f"{name.removesuffix(_CLONING)}` once",
    )


def _codec(path: Path) -> PocketVae:
    """The autoencoder in the same file, or in a folder within, as the hub's layout has it."""
    checkpoint = open_checkpoint(path)
    settings = bundled(checkpoint.shapes)
    if settings is None:
        folder = path if path.is_dir() else path.parent
        for file in sorted(folder.glob("*/config.json")):
            raw = read_json(file)
            if raw.get("model_type") == _CODEC_TYPE:
                settings, checkpoint = raw, open_checkpoint(file.parent)
                break
    if settings is None:
        raise ModelError(
            f"{path}: the autoencoder of pocket-tts is missing",
            hint="put the folder of its audio tokenizer, with its config.json, into this one",
        )
    made = build(FAMILY, FAMILY.read_config(settings), checkpoint)
    assert isinstance(made, PocketVae)
    return made
