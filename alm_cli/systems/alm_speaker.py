"""alm-tts as a speaker: sounds, times, codes, and alm-codec that makes them heard.

A line is planned before it is drawn (`alm_cli.systems.rendering`), so its length and the times of
its words are known at once.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alm_cli.checkpoints.load import Loaded
from alm_cli.decoding.sampling import Sampling
from alm_cli.errors import InputError, UsageError
from alm_cli.lm.alm_tts import AlmTts
from alm_cli.runtime import inference
from alm_cli.systems.codec import Codec, load_codec
from alm_cli.systems.parallel_rendering import ParallelRendering
from alm_cli.systems.rendering import Rendered, Rendering, Sketch
from alm_cli.systems.speaker import Line, Spoken
from alm_cli.text.sounds import SYMBOLS, Sounds, sounds
from alm_cli.values import Audio, Tokens, Word

CODEC = "alm-codec"
# What sounds best on the texts of recipes/speak_texts.txt.
SAMPLING = Sampling(temperature=0.3, top_k=20)

# Frames of what was said before that a line goes on from, and of a recording that make a voice.
_BEFORE = 25
_VOICE_S = 12.0
_MOST_UNITS = 6000


@dataclass(frozen=True)
class _Plan:
    """A line before it is drawn: its sounds, units of each of them, and what is rendered."""

    said: Sounds
    units: NDArray[np.int64]
    sketch: Sketch


class AlmSpeaker:
    """The speaker that ships in the package: see `alm_cli.systems.speaker.Speaker`."""

    longest = 240
    language = "en"
    codec = CODEC

    def __init__(self, loaded: Loaded, codec: Codec, device: torch.device) -> None:
        self.name, self.weights_sha256 = loaded.name, loaded.weights_sha256
        self.model = cast("AlmTts", loaded.model).to(device)
        self.config = self.model.config
        self.rate, self.voices = self.config.rate, self.config.voices
        self._codec, self._device = codec, device
        kind = Rendering if self.config.causal else ParallelRendering
        self._rendering = kind(self.model, codec, device, name=self.name, kind="alm-tts")

    def voice(self, source: str | Path | Audio | None) -> Tensor:
        """[1, W]: a named voice, or that of a recording or of tokens of alm-codec."""
        if source is None or (isinstance(source, str) and source in self.voices):
            return self.model.named[self.voices.index(source) if source else 0][None]
        codes = torch.from_numpy(self._recorded(source)).long().to(self._device)
        with inference():
            return self.model.voice(self.model.latents(codes[None]))

    def check(self, text: str) -> None:
        """InputError that names what cannot be said."""
        sounds(text)

    def say(self, lines: Sequence[Line]) -> list[Spoken]:
        """Lines together; each sounds as it does alone."""
        with inference():
            plans = [self._plan(line) for line in lines]
        rendered = self._rendering.all([plan.sketch for plan in plans])
        return [self._spoken(plan, one) for plan, one in zip(plans, rendered, strict=True)]

    def stream(self, line: Line) -> Generator[NDArray[np.float32], None, Spoken]:
        """The samples of a line, some frames at a time; in the end, all of it."""
        with inference():
            plan = self._plan(line)
        rendered = yield from self._rendering.stream(plan.sketch)
        return self._spoken(plan, rendered)

    def _plan(self, line: Line) -> _Plan:
        said = sounds(line.text)
        voice = self.voice(None) if line.voice is None else cast("Tensor", line.voice)
        features, lengths = self._read_sounds(said, voice)
        predicted = (lengths[0].double().exp() - 0.5).clamp(min=1).cpu().numpy()
        samples = None if line.duration_s is None else round(line.duration_s * self.rate)
        units = self._units(predicted / line.speed, samples)
        condition = self.model.condition(features[0], torch.from_numpy(units).to(self._device))
        sketch = Sketch(
            condition=condition,
            tone=self.model.tone(voice),
            before=self._rendering.last_codes(line.before and line.before.tokens, _BEFORE),
            samples=samples or int(units.sum()) * self.config.unit,
            seed=line.seed,
            sampling=line.sampling(SAMPLING),
        )
        return _Plan(said, units, sketch)

    def _read_sounds(self, said: Sounds, voice: Tensor) -> tuple[Tensor, Tensor]:
        """What the reader makes of sounds: features [1, N, D], log of units [1, N]."""
        symbols = torch.tensor([[SYMBOLS.index(s) for s in said.symbols]], device=self._device)
        owners = torch.tensor(said.owners, device=self._device)
        first = (owners >= 0) & (owners != owners.roll(1))
        features, lengths = self.model.reader(symbols, first.long()[None], voice)
        return features, lengths

    def _units(self, predicted: NDArray[np.float64], samples: int | None) -> NDArray[np.int64]:
        """Whole units of each symbol, at least one, so many in all as the samples need."""
        total = predicted.sum() if samples is None else -(-samples // self.config.unit)
        if not len(predicted) <= total <= _MOST_UNITS:
            seconds = total * self.config.unit / self.rate
            raise InputError(
                f"{len(predicted)} sounds do not go into {seconds:.2f} s",
                hint="shorter or longer text, or another --duration or --speed",
            )
        # Each has one unit, the rest is shared, rounded so that no error adds up.
        spare = np.maximum(predicted - 1, 1e-6)
        edges = np.round((spare / spare.sum() * (total - len(spare))).cumsum()).astype(np.int64)
        return np.diff(np.r_[0, edges]) + 1

    def _spoken(self, plan: _Plan, rendered: Rendered) -> Spoken:
        words = tuple(self._words(plan))
        return Spoken(samples=rendered.samples, words=words, tokens=rendered.tokens)

    def _words(self, plan: _Plan) -> Iterator[Word]:
        """When each word begins and ends, as planned."""
        ends = plan.units.cumsum() * (self.config.unit / self.rate)
        owners = np.array(plan.said.owners)
        for number, text in enumerate(plan.said.words):
            own = np.flatnonzero(owners == number)
            begin = ends[own[0] - 1] if own[0] else 0.0
            yield Word(start_s=float(begin), end_s=float(ends[own[-1]]), text=f" {text}")

    def _recorded(self, source: str | Path | Audio) -> NDArray[np.int32]:
        """Codes [K, F] of a recording, a token file, or audio."""
        books = self.config.codebooks
        audio = source if isinstance(source, Audio) else self._read(str(source))
        if isinstance(audio, Tokens):
            if audio.origin.codec != self._codec.name or audio.codebooks < books:
                raise InputError(
                    f"{source}: tokens of {audio.origin.codec}, {audio.codebooks} codebooks",
                    hint=f"voices are tokens of {CODEC} with {books} codebooks or more",
                )
            return audio.codes[0, :books]
        kept = audio.samples[:, : round(_VOICE_S * audio.rate)]
        if kept.shape[1] < audio.rate // 2:
            raise InputError("a voice needs at least half a second of speech")
        loud = float(np.sqrt(np.mean(np.square(kept, dtype=np.float64))))
        if loud < 1e-4:
            raise InputError("there is only silence where a voice should be")
        even = Audio((kept * (0.08 / loud)).astype(np.float32), audio.rate)
        return self._codec.encode(even, codebooks=books).codes[0]

    def _read(self, name: str) -> Audio | Tokens:
        from alm_cli.files.audio import read_audio
        from alm_cli.files.tokens import read_tokens

        path = Path(name).expanduser()
        if not path.is_file():
            raise InputError(
                f"{name}: there is no such voice and no such file",
                hint=f"voices of {self.name}: {', '.join(self.voices)}; or a recording",
            )
        if path.suffix == ".safetensors":
            tokens = read_tokens(path)
            if isinstance(tokens, Tokens):
                return tokens
            raise InputError(f"{name}: features are no voice of {self.name}")
        return read_audio(path)


def speaker(loaded: Loaded, source: str | Path, *, device: torch.device, dtype: str) -> AlmSpeaker:
    """alm-tts and its codec. UsageError: a dtype that it has not been made for."""
    del source  # all that it needs is in the checkpoint
    if dtype != "float32":
        raise UsageError(f"{loaded.name} is not made to compute in {dtype}", hint="--dtype float32")
    return AlmSpeaker(loaded, load_codec(CODEC, device=str(device)), device)
