"""Bark as a speaker: text, voices, three stages of tokens, and EnCodec at the end."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alm_cli.checkpoints.fetch import fetch
from alm_cli.checkpoints.load import Loaded, build, load
from alm_cli.checkpoints.parts import contents_sha256, part_of
from alm_cli.checkpoints.reader import open_checkpoint
from alm_cli.codecs.encodec import FAMILY as ENCODEC
from alm_cli.errors import InputError
from alm_cli.lm.bark import Bark
from alm_cli.runtime import inference, seeded
from alm_cli.systems.bark_stages import (
    SUNO,
    Manner,
    coarse_codes,
    coarse_history,
    fine_codes,
    hub_manner,
    semantic_tokens,
)
from alm_cli.systems.bark_voices import RANDOM, BarkVoice, preset, preset_names, read_voice
from alm_cli.systems.codec import Codec, CodecModel
from alm_cli.systems.placing import placed
from alm_cli.systems.speaker import Line, Spoken
from alm_cli.systems.spoken_codes import sound, spoken_tokens, whole
from alm_cli.text.wordpiece import WordPieces, load_wordpieces
from alm_cli.values import Audio

Samples = NDArray[np.float32]
Rules = Literal["suno", "transformers"]
SETTINGS = {"rules": get_args(Rules)}

_CODEC = "encodec-24khz"
# Who lacks a tokenizer finds the same one here.
_TOKENIZERS = ("suno/bark-small", "suno/bark", "google-bert/bert-base-multilingual-cased")
# Some 13 s of speech, as much as its makers promise.
_LONGEST = 200
# Rows of a step that are computed together. On a processor, up to three give the same, to the last
# bit, as one (`alm_cli.nn.linear`); on a GPU more cost nothing.
_ROWS = {"cpu": 3, "cuda": 16}
_PHONEMES = "[["
_SUNG = "♪"


@dataclass(frozen=True, kw_only=True)
class BarkSpoken(Spoken):
    """As `Spoken`; `said` is what the next line can go on from."""

    said: BarkVoice


class BarkSpeaker:
    """A loaded Bark; nothing about it changes after loading.

    `rules` tell how tokens are drawn where a line does not: by default as Suno's program does
    (temperature 0.7, 0.5 for the fine books, no top-k, speech ends where its end has a chance of
    0.2), or as `transformers` does with the `generation_config.json` beside the weights (the
    published ones: the same temperatures, the 50 likeliest, an end that must be drawn). A line's
    temperature, top-k and top-p are those of the first two stages.
    """

    longest = _LONGEST

    def __init__(
        self,
        model: Bark,
        codec: Codec,
        tokenizer: WordPieces,
        folder: Path,
        *,
        name: str,
        weights_sha256: str,
        rules: Rules = "suno",
        rows: int = 1,
    ) -> None:
        self.name, self.weights_sha256, self.rate = name, weights_sha256, codec.rate
        self.voices = (RANDOM, *preset_names(folder))
        self.manner = SUNO if rules == "suno" else hub_manner(model.hub)
        self._model, self._codec, self._tokenizer = model, codec, tokenizer
        self._rows = rows
        self._preset = lru_cache(16)(lambda voice: preset(folder, voice, model.numbers))

    def voice(self, source: str | Path | Audio | None) -> BarkVoice | None:
        """See `Speaker`; "random", or None, is a voice that the model makes up for the seed."""
        if source is None or source == RANDOM:
            return None
        if isinstance(source, Audio):
            raise _no_recordings(self.name)
        if str(source) in self.voices:
            return self._preset(str(source))
        path = Path(source).expanduser()
        if path.suffix == ".npz":
            return read_voice(path, self._model.numbers)
        if path.is_file():
            raise _no_recordings(self.name)
        raise InputError(
            f"{self.name} has no voice {str(source)!r}", hint="`alm voices` lists them"
        )

    def check(self, text: str) -> None:
        """See `Speaker`: empty, too long, phonemes, or words of which it knows no letters."""
        self._tokens(text)

    def say(self, lines: Sequence[Line]) -> list[Spoken]:
        """See `Speaker`."""
        texts = [self._accepted(line) for line in lines]
        with inference():
            voices = [self._history(line) for line in lines]
            made: list[Spoken | None] = [None] * len(lines)
            for rows in self._groups(voices):
                chosen = [(texts[row], voices[row], lines[row]) for row in rows]
                for row, said in zip(rows, self._said(chosen), strict=True):
                    made[row] = self._spoken(said)
        return cast("list[Spoken]", made)

    def stream(self, line: Line) -> Generator[Samples, None, Spoken]:
        """See `Speaker`; nothing is known before the last of the three stages has ended.

        In the end it returns what `say` does.
        """
        text = self._accepted(line)
        with inference():
            (said,) = self._said([(text, self._history(line), line)])
        return self._streamed(said)

    def _streamed(self, said: BarkVoice) -> Generator[Samples, None, Spoken]:
        tokens, heard = spoken_tokens(self._codec, said.fine), list[Samples]()
        for block in sound(self._codec, tokens):
            heard.append(block)
            yield block
        return BarkSpoken(samples=whole(iter(heard)), tokens=tokens, said=said)

    def _accepted(self, line: Line) -> list[int]:
        """The tokens of a line's text. InputError: it cannot be said, or not so."""
        line.keep_pace_of(self.name)
        if line.voice is not None and not isinstance(line.voice, BarkVoice):
            raise InputError(f"this is no voice of {self.name}")
        if line.before is not None and not isinstance(line.before, BarkSpoken):
            raise InputError(f"{self.name} goes on from what it said itself, and nothing else")
        return self._tokens(line.text)

    def _tokens(self, text: str) -> list[int]:
        text = re.sub(r"\s+", " ", text).strip()
        if _PHONEMES in text:
            raise InputError(f"{self.name} does not read phonemes", hint="write words")
        tokens = self._tokenizer.encode(text)
        if not tokens:
            raise InputError("there is nothing to say")
        unknown = [word for word in self._tokenizer.unknown(text) if word.strip(_SUNG)]
        if unknown:
            raise InputError(f"{self.name} cannot read {', '.join(dict.fromkeys(unknown))}")
        most = self._model.numbers.inputs
        if len(tokens) > most:
            raise InputError(
                f"a line of {len(tokens)} tokens, where {self.name} reads {most}",
                hint="say it in several lines",
            )
        return tokens

    def _history(self, line: Line) -> BarkVoice | None:
        """What the line goes on from: its voice, or where it has none, what was said before."""
        said = line.before.said if isinstance(line.before, BarkSpoken) else None
        before = said if said is not None and len(said.semantic) > 3 else None
        return cast("BarkVoice | None", line.voice) or before

    def _groups(self, voices: Sequence[BarkVoice | None]) -> Iterator[list[int]]:
        """Rows that can go side by side: those with as much behind them."""
        alike: dict[object, list[int]] = {}
        for row, voice in enumerate(voices):
            size = None if voice is None else (len(voice.semantic), voice.coarse.shape[1])
            alike.setdefault(size, []).append(row)
        for rows in alike.values():
            yield from (rows[i : i + self._rows] for i in range(0, len(rows), self._rows))

    def _said(self, rows: Sequence[tuple[list[int], BarkVoice | None, Line]]) -> list[BarkVoice]:
        """The tokens of all stages, of lines that can go side by side."""
        model, device = self._model, self._codec.device
        numbers = model.numbers
        manners = [self._manner(line) for _, _, line in rows]
        if len(set(manners)) > 1:
            return [said for row in rows for said in self._said([row])]
        manner = manners[0]
        noise = [seeded(line.seed, device) for _, _, line in rows]
        text = torch.full((len(rows), numbers.inputs), numbers.text_pad)
        history = torch.full_like(text, numbers.semantics)
        for row, (tokens, voice, _) in enumerate(rows):
            text[row, : len(tokens)] = torch.tensor(tokens) + numbers.text_offset
            if voice is not None:
                known = torch.from_numpy(voice.semantic[-numbers.inputs :])
                history[row, : len(known)] = known
        semantics = semantic_tokens(model, text.to(device), history.to(device), manner, noise)
        pasts = [self._past(voice) for _, voice, _ in rows]
        coarse = coarse_codes(model, semantics, pasts, manner, noise)
        fine = [
            self._fine(codes, voice, manner, own)
            for codes, (_, voice, _), own in zip(coarse, rows, noise, strict=True)
        ]
        triples = zip(semantics, coarse, fine, strict=True)
        return [BarkVoice(*(part.cpu().numpy() for part in triple)) for triple in triples]

    def _manner(self, line: Line) -> Manner:
        manner = self.manner
        asked: Mapping[str, float | None] = {"top_k": line.top_k, "top_p": line.top_p}
        given = {key: value for key, value in asked.items() if value is not None}
        if given:
            manner = replace(
                manner,
                semantic=replace(manner.semantic, **given),  # type: ignore[arg-type]
                coarse=replace(manner.coarse, **given),  # type: ignore[arg-type]
            )
        if line.temperature is not None:
            manner = manner.with_temperature(line.temperature)
        return manner

    def _past(self, voice: BarkVoice | None) -> tuple[Tensor, Tensor]:
        """What the second stage goes on from."""
        device = self._codec.device
        if voice is None:
            nothing = torch.zeros(0, dtype=torch.long, device=device)
            return nothing, nothing
        semantic, coarse = torch.from_numpy(voice.semantic), torch.from_numpy(voice.coarse)
        return coarse_history(self._model.numbers, semantic.to(device), coarse.to(device))

    def _fine(
        self, coarse: Tensor, voice: BarkVoice | None, manner: Manner, noise: torch.Generator
    ) -> Tensor:
        if not coarse.shape[1]:
            return coarse.new_zeros(self._model.numbers.books, 0)
        past = None if voice is None else torch.from_numpy(voice.fine).to(coarse.device)
        return fine_codes(self._model, coarse, past, manner, noise)

    def _spoken(self, said: BarkVoice) -> BarkSpoken:
        """Decoded by itself, as long as it is: the codec would hear a filled-up end."""
        tokens = spoken_tokens(self._codec, said.fine)
        return BarkSpoken(samples=whole(sound(self._codec, tokens)), tokens=tokens, said=said)


def _no_recordings(name: str) -> InputError:
    return InputError(
        f"{name} takes no voice from a recording", hint="a .npz file as Bark saves them, or a name"
    )


def speaker(
    loaded: Loaded,
    source: str | Path,
    *,
    device: torch.device,
    dtype: str = "float32",
    rules: Rules = "suno",
) -> BarkSpeaker:
    """A speaker of a loaded Bark, from its card or from the folder or file `source`.

    `dtype` may also be "int8", for the linear maps on a processor; the codec stays in float32.
    ModelError: there is no tokenizer, or no codec in the checkpoint and none to be had.
    UsageError: there is no int8 here.
    """
    path = fetch(loaded.card) if loaded.card else Path(source).expanduser()
    folder = path if path.is_dir() else path.parent
    model = loaded.model
    assert isinstance(model, Bark)
    codec = _codec(model, path, device)
    placed(model, device, dtype, steps=[model.semantic, model.coarse])
    return BarkSpeaker(
        model,
        codec,
        load_wordpieces(path, *_TOKENIZERS),
        folder,
        name=loaded.name,
        weights_sha256=loaded.weights_sha256,
        rules=rules,
        # The rows of a product in int8 share a scale.
        rows=1 if dtype == "int8" else _ROWS[device.type],
    )


def _codec(model: Bark, path: Path, device: torch.device) -> Codec:
    """EnCodec from the same checkpoint; Suno's own files have none, so from the catalogue then."""
    if model.codec is None:
        loaded = load(_CODEC)
        return Codec(
            cast(CodecModel, loaded.model.to(device)), _CODEC, loaded.weights_sha256, device=device
        )
    config = ENCODEC.read_config(model.codec)
    made = build(ENCODEC, config, part_of(open_checkpoint(path), "codec_model."))
    sha256 = contents_sha256(made)
    return Codec(cast(CodecModel, made.to(device)), _CODEC, sha256, device=device)
