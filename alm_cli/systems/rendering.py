"""Conditions of frames -> codes -> sound, with any model that renders (alm-tts, alm-music).

What is rendered is planned before it is drawn: its length is known at once. On a GPU the rows of a
batch take their steps together. On a CPU they are drawn one by one: no matrix product there rounds
a row as it does with other rows beside it, and a draw that flips is another recording.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from alm_cli.decoding.delays import delay, undelayed
from alm_cli.decoding.sampling import Sampling, noise_of, sample
from alm_cli.nn.renderer import Renderer
from alm_cli.nn.renderer_steps import RendererSteps
from alm_cli.nn.state import State
from alm_cli.runtime import inference
from alm_cli.systems.ahead import ahead, in_turn, one_core_each
from alm_cli.systems.codec import Codec
from alm_cli.systems.spoken_codes import spoken_origin
from alm_cli.values import Origin, Tokens

Samples = NDArray[np.float32]

# Frames of the first blocks of a stream, and of all later ones.
_BLOCKS = (5, 10, 20, 40)
# Frames that may be drawn before what they sound like is wanted.
_AHEAD = 64
# Codes of the step before [B, K], and which step it is -> logits [B, K, V].
_Network = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """What is to be rendered: the condition of each frame [F, width], the tone of all [1, width].

    It goes on from the codes `before` [K, P], which may be none, and is cut to so many samples.
    """

    condition: Tensor
    tone: Tensor
    before: Tensor
    samples: int
    seed: int
    sampling: Sampling

    @property
    def frames(self) -> int:
        """Frames of the codec."""
        return len(self.condition)


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """Mono samples [n], and the tokens that they were made from."""

    samples: Samples
    tokens: Tokens


class Rendering:
    """A model that renders and its codec; each sketch becomes what it becomes alone.

    `name` is told in the tokens; `kind` tells the noise of one model from that of another.
    """

    def __init__(
        self, model: Renderer, codec: Codec, device: torch.device, *, name: str, kind: str
    ) -> None:
        self.name = name
        self._model, self._codec, self._device, self._kind = model, codec, device, kind
        self._lags = torch.tensor(model.lags, device=device)
        self._layout: RendererSteps | None = None
        if device.type == "cpu" and model.causal:
            with inference():
                self._layout = RendererSteps(model)

    def last_codes(self, tokens: object, frames: int) -> Tensor:
        """The last codes of tokens to go on from [K, P]; none where there are too few books."""
        books = self._model.books
        if not isinstance(tokens, Tokens) or tokens.codebooks < books:
            return torch.zeros(books, 0, dtype=torch.long, device=self._device)
        return torch.from_numpy(tokens.codes[0, :books, -frames:]).long().to(self._device)

    def all(self, sketches: Sequence[Sketch]) -> list[Rendered]:
        """Each as `stream` gives it."""
        if self._layout is not None:
            return [end_of(self.stream(sketch)) for sketch in sketches]
        with inference():
            return [
                self._rendered(sketch, frames, list(self._heard(sketch, frames)))
                for sketch, frames in zip(sketches, self._drawn(sketches), strict=True)
            ]

    def stream(self, sketch: Sketch) -> Generator[Samples, None, Rendered]:
        """Blocks of samples as soon as they are known; in the end, all of it.

        Frames are drawn on one core, what they sound like is computed on another one.
        """
        frames: list[Tensor] = []
        blocks: list[Samples] = []
        with one_core_each() as others:
            made = self._frames(sketch)
            with closing(ahead(made, _AHEAD) if others else in_turn(made)) as source:
                for block in self._heard(sketch, _kept(source, frames)):
                    blocks.append(block)
                    yield block
        return self._rendered(sketch, frames, blocks)

    def _rendered(
        self, sketch: Sketch, frames: Sequence[Tensor], blocks: Sequence[Samples]
    ) -> Rendered:
        """What has been drawn, codes [1, K] of each frame, and heard."""
        codes = torch.stack([*frames], -1).cpu().numpy()
        tokens = Tokens(codes.astype(np.int32), self._origin(sketch))
        return Rendered(samples=np.concatenate(blocks), tokens=tokens)

    def _origin(self, sketch: Sketch) -> Origin:
        return spoken_origin(
            self._codec,
            self._codec.name,
            self._codec.weights_sha256,
            books=self._model.books,
            length=sketch.samples,
            notes={"model": self.name, "seed": str(sketch.seed)},
        )

    def _heard(self, sketch: Sketch, frames: Iterable[Tensor]) -> Iterator[Samples]:
        """Codes [1, K] of each frame -> the samples that can be decoded with them."""
        decoder, segments = self._codec.decoder(), _Segments(sketch, self._origin(sketch))
        for codes in chain(frames, [None]):
            for segment in segments.push(codes):
                for block in decoder.push(segment):
                    yield block[0]

    def _drawn(self, sketches: Sequence[Sketch]) -> list[list[Tensor]]:
        """Codes [1, K] of the frames of each; those that can go together do."""
        groups: dict[int, list[int]] = {}
        for index, sketch in enumerate(sketches):
            groups.setdefault(sketch.before.shape[1], []).append(index)
        found: dict[int, list[Tensor]] = {}
        for group in groups.values():
            steps = list(self._steps([sketches[index] for index in group]))
            for row, index in enumerate(group):
                own = (codes[row : row + 1] for codes in steps)
                frames = islice(undelayed(own, self._model.lags), sketches[index].frames)
                found[index] = list(frames)
        return [found[index] for index in range(len(sketches))]

    def _frames(self, sketch: Sketch) -> Iterator[Tensor]:
        """Codes [1, K] of each new frame."""
        return undelayed(self._steps([sketch]), self._model.lags)

    def _steps(self, sketches: Sequence[Sketch]) -> Iterator[Tensor]:
        """Codes [B, K] of each step of the delay pattern, from the first new frame on."""
        lags, most, known = self._lags, max(self._model.lags), sketches[0].before.shape[1]
        noise = [noise_of(sketch.seed, self._kind, device=self._device) for sketch in sketches]
        rules = [sketch.sampling for sketch in sketches]
        before = torch.stack([sketch.before for sketch in sketches])
        frames = [sketch.frames for sketch in sketches]
        ends = torch.tensor(frames, device=self._device)[:, None]
        # Codes of the step before each step.
        pattern = F.pad(delay(before, self._model.lags, -1), (1, 0), value=-1)
        network = self._network(sketches, pattern[:, :, :known])
        last = pattern[:, :, known]
        for step in range(max(frames) + most):
            last = _sampled(network(last, step), rules, noise)
            # Books that lag still have codes of what was before, or none.
            if step < most:
                last = torch.where(lags > step, pattern[:, :, known + step + 1], last)
            yield last
            if step >= min(frames):
                last = last.masked_fill(lags + ends <= step, -1)

    def _network(self, sketches: Sequence[Sketch], past: Tensor) -> _Network:
        """What gives the logits of each step, once the past [B, K, P] has been read."""
        model, state, most = self._model, State(), max(self._model.lags)
        tone = torch.cat([sketch.tone for sketch in sketches])
        if past.shape[2]:
            nothing = model.untold.expand(len(tone), past.shape[2], -1)
            model.read(past, nothing, tone, state)
        longest = max(sketch.frames for sketch in sketches) + most
        # After its last frame there is nothing to be heard of a row.
        told = torch.stack(
            [F.pad(sketch.condition, (0, 0, 0, longest - sketch.frames)) for sketch in sketches]
        )
        if self._layout is None:
            return lambda last, step: model(
                last[:, :, None], told[:, step : step + 1], tone, state
            )[:, :, 0]
        row, one = self._layout.row(tone, longest, state), told[0].unbind()
        return lambda last, step: row(last[0], one[step])[None]


class _Segments:
    """Frames one after another -> segments of tokens that can be decoded."""

    def __init__(self, sketch: Sketch, origin: Origin) -> None:
        self._sketch, self._origin = sketch, origin
        self._frames: list[Tensor] = []
        self._given = self._segments = 0

    def push(self, codes: Tensor | None) -> Iterator[Tokens]:
        """Codes [1, K] of a frame, None after the last."""
        if codes is None:
            yield self._segment(final=True)
            return
        self._frames.append(codes)
        count = self._given + len(self._frames)
        block = _BLOCKS[min(self._segments, len(_BLOCKS) - 1)]
        # The last two frames stay with the end, whose samples are fewer than its frames hold.
        if len(self._frames) >= block and count <= self._sketch.frames - 2:
            yield self._segment(final=False)

    def _segment(self, *, final: bool) -> Tokens:
        """What has not been given yet."""
        codes, hop = torch.stack(self._frames, -1).cpu().numpy(), self._origin.hop
        left = self._sketch.samples - self._given * hop
        length = left if final else len(self._frames) * hop
        origin = replace(self._origin, source_length=length, segment=self._segments, final=final)
        self._given += len(self._frames)
        self._frames, self._segments = [], self._segments + 1
        return Tokens(codes.astype(np.int32), origin)


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


def end_of(stream: Generator[Samples, None, Rendered]) -> Rendered:
    """What a stream returns."""
    while True:
        try:
            next(stream)
        except StopIteration as end:
            assert isinstance(end.value, Rendered)
            return end.value
