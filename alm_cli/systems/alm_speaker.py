"""alm-tts as a speaker: sounds, times, codes, and alm-codec that makes them heard.

A line is planned before it is drawn, so its length and the times of its words are known at once.
On a GPU the lines of a batch take their steps together. On a CPU they are drawn one by one: no
matrix product there rounds a row as it does with other rows beside it, and a draw that flips is
another recording.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alm_cli.checkpoints.load import Loaded
from alm_cli.decoding.delays import delay, undelay
from alm_cli.decoding.sampling import Sampling, noise_of, sample
from alm_cli.errors import InputError, UsageError
from alm_cli.lm.alm_tts import AlmTts
from alm_cli.nn.packed import pack_exactly
from alm_cli.nn.state import State
from alm_cli.runtime import inference
from alm_cli.systems.ahead import ahead, in_turn, one_core_each
from alm_cli.systems.codec import Codec, load_codec
from alm_cli.systems.speaker import Line, Spoken
from alm_cli.systems.spoken_codes import spoken_origin
from alm_cli.text.sounds import SYMBOLS, Sounds, sounds
from alm_cli.values import Audio, Origin, Tokens, Word

CODEC = "alm-codec"
# What sounds best on the texts of recipes/speak_texts.txt.
SAMPLING = Sampling(temperature=0.7, top_k=40)

# Frames of what was said before that a line goes on from, and of a recording that make a voice.
_BEFORE = 50
_VOICE_S = 12.0
# Frames of the first blocks of a stream; later ones are the codec's own.
_BLOCKS = (5, 10, 20)
_MOST_UNITS = 6000
# Steps that may be drawn before what they sound like is wanted.
_AHEAD = 64


@dataclass(frozen=True)
class _Plan:
    """A line before it is drawn: units of each symbol, the condition of each frame, its voice."""

    line: Line
    said: Sounds
    units: NDArray[np.int64]
    samples: int
    condition: Tensor
    voice: Tensor
    before: Tensor

    @property
    def frames(self) -> int:
        return int(self.condition.shape[0])


class AlmSpeaker:
    """The speaker that ships in the package: see `alm_cli.systems.speaker.Speaker`."""

    longest = 120
    language = "en"
    codec = CODEC

    def __init__(self, loaded: Loaded, codec: Codec, device: torch.device) -> None:
        self.name, self.weights_sha256 = loaded.name, loaded.weights_sha256
        self.model = cast("AlmTts", loaded.model).to(device)
        self.config = self.model.config
        self.rate, self.voices = self.config.rate, self.config.voices
        self._codec, self._device = codec, device
        self._together = device.type != "cpu"
        if not self._together:
            pack_exactly(self.model)

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
            if self._together:
                rows = self._drawn(plans)
                return [self._spoken(plan, steps) for plan, steps in zip(plans, rows, strict=True)]
        return [self._whole(plan) for plan in plans]

    def stream(self, line: Line) -> Generator[NDArray[np.float32], None, Spoken]:
        """The samples of a line, some frames at a time; in the end, all of it."""
        with inference():
            plan = self._plan(line)
        return (yield from self._streamed(plan))

    def _whole(self, plan: _Plan) -> Spoken:
        stream = self._streamed(plan)
        while True:
            try:
                next(stream)
            except StopIteration as end:
                assert isinstance(end.value, Spoken)
                return end.value

    def _streamed(self, plan: _Plan) -> Generator[NDArray[np.float32], None, Spoken]:
        """Steps on one core, the codec on another one."""
        steps: list[Tensor] = []
        blocks: list[NDArray[np.float32]] = []
        with one_core_each() as others:
            made = self._steps([plan])
            with closing(ahead(made, _AHEAD) if others else in_turn(made)) as source:
                for block in self._heard(plan, _kept(source, steps)):
                    blocks.append(block)
                    yield block
        return self._told(plan, torch.stack(steps), np.concatenate(blocks))

    def _heard(self, plan: _Plan, steps: Iterable[Tensor]) -> Iterator[NDArray[np.float32]]:
        """Codes [1, K] of each step -> the samples that can be decoded with them."""
        decoder, frames = self._codec.decoder(), _Frames(plan, self._origin(plan))
        for codes in chain(steps, [None]):
            for segment in frames.push(codes):
                for block in decoder.push(segment):
                    yield block[0]

    def _plan(self, line: Line) -> _Plan:
        said = sounds(line.text)
        voice = self.voice(None) if line.voice is None else cast("Tensor", line.voice)
        symbols = torch.tensor([[SYMBOLS.index(s) for s in said.symbols]], device=self._device)
        owners = torch.tensor(said.owners, device=self._device)
        first = (owners >= 0) & (owners != owners.roll(1))
        features, lengths = self.model.reader(symbols, first.long()[None], voice)
        predicted = (lengths[0].double().exp() - 0.5).clamp(min=1).cpu().numpy()
        samples = None if line.duration_s is None else round(line.duration_s * self.rate)
        units = self._units(predicted / line.speed, samples)
        condition = self.model.condition(features[0], torch.from_numpy(units).to(self._device))
        return _Plan(
            line=line,
            said=said,
            units=units,
            samples=samples or int(units.sum()) * self.config.unit,
            condition=condition,
            voice=voice,
            before=self._before(line),
        )

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

    def _before(self, line: Line) -> Tensor:
        """The last codes of what was said before [K, P]."""
        tokens = line.before.tokens if line.before else None
        if not isinstance(tokens, Tokens) or tokens.codebooks < self.config.codebooks:
            return torch.zeros(self.config.codebooks, 0, dtype=torch.long, device=self._device)
        codes = torch.from_numpy(tokens.codes[0, : self.config.codebooks, -_BEFORE:])
        return codes.long().to(self._device)

    def _drawn(self, plans: Sequence[_Plan]) -> list[Tensor]:
        """Steps of the delay pattern [S, 1, K] of each; those that can go together do."""
        groups: dict[int, list[int]] = {}
        for index, plan in enumerate(plans):
            groups.setdefault(plan.before.shape[1] if self._together else index, []).append(index)
        found: dict[int, Tensor] = {}
        for group in groups.values():
            steps = torch.stack(list(self._steps([plans[index] for index in group])), 1)
            for index, row in zip(group, steps, strict=True):
                found[index] = row[: plans[index].frames + max(self.model.lags), None]
        return [found[index] for index in range(len(plans))]

    def _steps(self, plans: Sequence[_Plan]) -> Iterator[Tensor]:
        """Codes [B, K] of each step of the delay pattern, from the first new frame on."""
        books, rows = self.config.codebooks, len(plans)
        known = plans[0].before.shape[1]
        lags = torch.arange(books, device=self._device)
        voice = torch.cat([plan.voice for plan in plans])
        noise = [noise_of(plan.line.seed, "alm-tts", device=self._device) for plan in plans]
        rules = [plan.line.sampling(SAMPLING) for plan in plans]
        before = torch.stack([plan.before for plan in plans])
        pattern = delay(before, self.model.lags, -1)
        state = State()
        if known > 1:
            nothing = voice.new_zeros(rows, known, self.config.width)
            start = torch.nn.functional.pad(pattern[:, :, : known - 1], (1, 0), value=-1)
            self.model(start, nothing, voice, state)
        last = pattern[:, :, known - 1] if known else before.new_full((rows, books), -1)
        for step in range(max(plan.frames for plan in plans) + max(self.model.lags)):
            told = torch.stack([_at(plan.condition, step) for plan in plans])[:, None]
            logits = self.model(last[:, :, None], told, voice, state)[:, :, 0]
            last = _sampled(logits, rules, noise)
            # Books that lag still have codes of what was said before, or none.
            early = lags > step
            if known:
                last = torch.where(early, pattern[:, :, known + min(step, books - 2)], last)
            else:
                last = last.masked_fill(early, -1)
            ended = torch.tensor([plan.frames for plan in plans], device=self._device)[:, None]
            yield last
            last = last.masked_fill(lags + ended <= step, -1)

    def _origin(self, plan: _Plan) -> Origin:
        return spoken_origin(
            self._codec,
            self._codec.name,
            self._codec.weights_sha256,
            books=self.config.codebooks,
            length=plan.samples,
            notes={"model": self.name, "seed": str(plan.line.seed)},
        )

    def _spoken(self, plan: _Plan, steps: Tensor) -> Spoken:
        # By the blocks of a stream: others would round otherwise.
        return self._told(plan, steps, np.concatenate(list(self._heard(plan, steps))))

    def _told(self, plan: _Plan, steps: Tensor, samples: NDArray[np.float32]) -> Spoken:
        """All that is known of a line: steps [S, 1, K] and samples [n]."""
        codes = undelay(steps.permute(1, 2, 0), self.model.lags).cpu().numpy()
        tokens = Tokens(codes.astype(np.int32), self._origin(plan))
        return Spoken(samples=samples, words=tuple(self._words(plan)), tokens=tokens)

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


class _Frames:
    """Steps of the delay pattern one after another -> segments of tokens that can be decoded."""

    def __init__(self, plan: _Plan, origin: Origin) -> None:
        self._plan, self._origin = plan, origin
        self._steps: list[NDArray[np.int32]] = []
        self._given = self._segments = 0

    def push(self, codes: Tensor | None) -> Iterator[Tokens]:
        """Codes [1, K] of a step, None after the last."""
        if codes is not None:
            self._steps.append(codes[0].cpu().numpy().astype(np.int32))
        frames, lag = self._plan.frames, len(self._origin.vocabularies) - 1
        whole = len(self._steps) - lag
        block = _BLOCKS[min(self._segments, len(_BLOCKS) - 1)]
        if codes is None:
            yield self._segment(frames, final=True)
        # The last two frames stay with the end, whose samples are fewer than its frames hold.
        elif whole - self._given >= block and whole <= frames - 2:
            yield self._segment(whole, final=False)

    def _segment(self, end: int, *, final: bool) -> Tokens:
        begin, hop = self._given, self._origin.hop
        books = range(len(self._origin.vocabularies))
        codes = np.array([[self._steps[f + k][k] for f in range(begin, end)] for k in books])
        length = self._plan.samples - begin * hop if final else (end - begin) * hop
        origin = replace(self._origin, source_length=length, segment=self._segments, final=final)
        self._given, self._segments = end, self._segments + 1
        return Tokens(codes[None].astype(np.int32), origin)


def speaker(loaded: Loaded, source: str | Path, *, device: torch.device, dtype: str) -> AlmSpeaker:
    """alm-tts and its codec. UsageError: a dtype that it has not been made for."""
    del source  # all that it needs is in the checkpoint
    if dtype != "float32":
        raise UsageError(f"{loaded.name} is not made to compute in {dtype}", hint="--dtype float32")
    return AlmSpeaker(loaded, load_codec(CODEC, device=str(device)), device)


def _sampled(logits: Tensor, rules: Sequence[Sampling], noise: Sequence[torch.Generator]) -> Tensor:
    """logits [B, K, V] -> codes [B, K], each row by rules and noise of its own."""
    rows = zip(torch.split(logits, 1), rules, noise, strict=True)
    return torch.cat([_sampled_row(row, rule, generator) for row, rule, generator in rows])


def _sampled_row(logits: Tensor, rule: Sampling, noise: torch.Generator) -> Tensor:
    """logits [1, K, V] -> codes [1, K]."""
    if not 0 < rule.top_k < logits.shape[-1]:
        return sample(logits, rule, [noise])
    # Noise for the likeliest alone: drawing it for all takes longer than a layer.
    likeliest, codes = logits.topk(rule.top_k)
    chosen = sample(likeliest, replace(rule, top_k=0), [noise])
    return codes.gather(-1, chosen[..., None])[..., 0]


def _kept(source: Iterable[Tensor], items: list[Tensor]) -> Iterator[Tensor]:
    """What comes from the source, all of which `items` gets."""
    for item in source:
        items.append(item)
        yield item


def _at(condition: Tensor, step: int) -> Tensor:
    """What is said at a step [width]; nothing after the last frame."""
    return condition[step] if step < len(condition) else torch.zeros_like(condition[0])
