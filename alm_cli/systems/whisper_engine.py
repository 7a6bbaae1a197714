"""Whisper's network at work: batches of windows heard, languages told, texts and words found."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alm_cli.decoding import alignment
from alm_cli.decoding.rules import Rules, TimestampRules
from alm_cli.decoding.search import (
    Bounds,
    Continuation,
    Hypothesis,
    beams,
    best,
    draws,
    likeliest,
)
from alm_cli.decoding.speculation import Tally, speculate
from alm_cli.errors import UsageError
from alm_cli.lm.whisper import Whisper
from alm_cli.nn.state import State
from alm_cli.runtime import inference
from alm_cli.systems.whisper_steps import Steps
from alm_cli.text.tokenizer import TIMESTAMP_S, WhisperTokenizer

_POSITIONS_PER_S = 50
# The first timestamp of a window is at most one second (_compat_first_timestamp).
_MOST_INITIAL = round(1.0 / TIMESTAMP_S)


class Memory:
    """What the encoder made of some windows, [B, P, D], and what the decoder makes of that."""

    def __init__(self, model: Whisper, mel: Tensor, draft: Whisper | None = None) -> None:
        # One by one on a processor: no faster together, and rounded as alone.
        parts = torch.split(mel, 1 if mel.device.type == "cpu" else len(mel))
        self._model, self.vectors = model, torch.cat([model.encode(part) for part in parts])
        # Kept for a model that may hear the same.
        self._draft, self._mel = draft, mel if draft is not None else None

    @cached_property
    def state(self) -> State:
        """Before the first token; made once, however often texts are tried."""
        return self._model.listen(self.vectors)

    @cached_property
    def drafted(self) -> Memory:
        """What the model that drafts makes of the same windows."""
        assert self._draft is not None and self._mel is not None, "there is no draft"
        return Memory(self._draft, self._mel)


@dataclass(frozen=True)
class Heard:
    """One window in the memory of several."""

    memory: Memory
    place: int

    @property
    def vectors(self) -> Tensor:
        """[1, P, D]."""
        return self.memory.vectors[self.place : self.place + 1]


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a text is sought: `width` beams at temperature 0, else as many samples."""

    temperature: float
    width: int
    beams: bool
    patience: float | None
    length_penalty: float | None
    suppress: tuple[int, ...]
    timestamps: bool
    seed: int


@dataclass(frozen=True, eq=False)
class Hear:
    """mel [M, F] -> Heard."""

    mel: Tensor

    @property
    def kind(self) -> Hashable:
        return "hear", self.mel.shape


@dataclass(frozen=True, eq=False)
class Tell:
    """The probability of each language -> dict by code."""

    heard: Heard

    @property
    def kind(self) -> Hashable:
        return "tell", self.heard.memory.vectors.shape[1]


@dataclass(frozen=True, eq=False)
class Try:
    """A text -> Decoded.

    `prompt` has the start of text at `sot`. `seek` is where in the recording the window begins: it
    decides what is drawn at temperatures above 0.
    """

    heard: Heard
    prompt: tuple[int, ...]
    sot: int
    manner: Manner
    seek: int

    @property
    def kind(self) -> Hashable:
        positions = self.heard.memory.vectors.shape[1]
        return "try", positions, len(self.prompt), self.sot, self.manner


@dataclass(frozen=True, eq=False)
class Align:
    """When the words of `text` are said -> list of TimedWord; `start` are the tokens before it."""

    heard: Heard
    start: tuple[int, ...]
    text: tuple[int, ...]
    language: str | None
    frames: int

    @property
    def kind(self) -> Hashable:
        return "align", id(self)


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A text as it was found; `limited` tells that it was broken off at the most tokens."""

    tokens: tuple[int, ...]
    text: str
    avg_logprob: float
    no_speech_prob: float
    temperature: float
    compression_ratio: float
    limited: bool


Asked = Hear | Tell | Try | Align


class Engine:
    """Answers requests of one kind with one call of the network for each step.

    With a `draft`, texts of the likeliest tokens are found one after another instead, several
    tokens with a call; `tally` counts what became of them.
    """

    def __init__(
        self,
        model: Whisper,
        tokenizer: WhisperTokenizer,
        device: torch.device,
        draft: Whisper | None = None,
    ) -> None:
        self.model, self.tokenizer, self.device = model, tokenizer, device
        self._draft, self.tally = draft, Tally()
        self._rules = lru_cache(8)(self._new_rules)

    def run(self, requests: Sequence[Asked]) -> Sequence[object]:
        """The answers to requests of one kind, in their order."""
        with inference():
            first = requests[0]
            if isinstance(first, Hear):
                return self._hear([r for r in requests if isinstance(r, Hear)])
            if isinstance(first, Tell):
                return self._tell([r for r in requests if isinstance(r, Tell)])
            if isinstance(first, Try):
                return self._try([r for r in requests if isinstance(r, Try)])
            return [self._align(r) for r in requests if isinstance(r, Align)]

    def _hear(self, requests: Sequence[Hear]) -> list[Heard]:
        mel = torch.stack([request.mel for request in requests]).to(self.device)
        memory = Memory(self.model, mel, self._draft)
        return [Heard(memory, place) for place in range(len(requests))]

    def _tell(self, requests: Sequence[Tell]) -> list[dict[str, float]]:
        vectors, state = self._joined([request.heard for request in requests])
        tokens = torch.full((len(requests), 1), self.tokenizer.sot, device=self.device)
        logits = self.model.decode(tokens, vectors, state)[:, -1]
        chances = logits[:, list(self.tokenizer.language_tokens)].softmax(1).tolist()
        return [dict(zip(self.tokenizer.languages, row, strict=True)) for row in chances]

    def _try(self, requests: Sequence[Try]) -> list[Decoded]:
        first = requests[0]
        manner, prompt = first.manner, len(first.prompt)
        bounds = self._bounds(manner, prompt)
        vectors, state = self._joined([request.heard for request in requests])
        tokens = torch.tensor([request.prompt for request in requests], device=self.device)
        # Of long prompts only two places matter, and the vocabulary is large.
        logits = self.model.decode(tokens, vectors, state, at=(first.sot, prompt - 1))
        no_speech = logits[:, 0].softmax(1)[:, self.tokenizer.no_speech].tolist()
        line = self._line(vectors, state)
        if self._draft is not None and not manner.beams and not manner.temperature:
            heard = [(request.heard, request.prompt) for request in requests]
            found = [[text] for text in self._drafted(heard, vectors, state, logits[:, 1], bounds)]
        elif manner.beams:
            found = beams(
                line, logits[:, 1], bounds, width=manner.width, patience=manner.patience or 1.0
            )
        else:
            seeks = [request.seek for request in requests]
            found = likeliest(
                line,
                logits[:, 1],
                bounds,
                temperature=manner.temperature,
                draws=_drawn(manner, seeks, bounds.limit),
            )
        texts = [best(some, manner.length_penalty) for some in found]
        return [
            self._decoded(text, silence, manner.temperature, bounds.limit)
            for text, silence in zip(texts, no_speech, strict=True)
        ]

    def _drafted(
        self,
        heard: Sequence[tuple[Heard, Sequence[int]]],
        vectors: Tensor,
        state: State,
        logits: Tensor,
        bounds: Bounds,
    ) -> Iterator[Hypothesis]:
        """The same texts as `likeliest`, one window after another: each has a length of its own."""
        assert self._draft is not None
        for place, (one, prompt) in enumerate(heard):
            own = state.fork()
            own.reorder(torch.tensor([place], device=self.device))
            memory = one.memory.drafted.vectors[one.place : one.place + 1]
            known = self._draft.listen(memory)
            self._draft.decode(torch.tensor([prompt], device=self.device), memory, known, at=(-1,))
            model = _Row(self.model, vectors[place : place + 1], own)
            yield speculate(
                model, _Row(self._draft, memory, known), logits[place], bounds, self.tally
            )

    def _line(self, vectors: Tensor, state: State) -> Continuation:
        if self.device.type != "cuda":
            return _Line(self.model, vectors, state)
        return Steps(self.model, vectors, state, capture=True)

    def _align(self, request: Align) -> list[alignment.TimedWord]:
        tokenizer, text = self.tokenizer, request.text
        words, groups = tokenizer.split_to_words((*text, tokenizer.eot), request.language)
        if not text or len(words) <= 1:
            return []
        start = (*request.start, tokenizer.no_timestamps)
        line = torch.tensor([(*start, *text, tokenizer.eot)], device=self.device)
        logits, scores = self.model.attend(line, request.heard.vectors)
        # What is predicted at the last place of the start is the first of the text.
        spoken = logits[0, len(start) - 1 :][: len(text), : tokenizer.eot].softmax(1)
        chances = spoken.gather(1, line[0, len(start) : -1, None])[:, 0].tolist()
        looked = alignment.attention_map(scores, request.frames // 2)[len(request.start) : -1]
        starts: NDArray[np.float64] = alignment.token_starts(looked) / _POSITIONS_PER_S
        return alignment.timed_words(words[:-1], groups[:-1], starts, chances)

    def _joined(self, heard: Sequence[Heard]) -> tuple[Tensor, State]:
        """Vectors [B, P, D] of windows and a state before the first token, to be used up."""
        memory = heard[0].memory
        places = [one.place for one in heard]
        if any(one.memory is not memory for one in heard):
            vectors = torch.cat([one.vectors for one in heard])
            return vectors, self.model.listen(vectors)
        state = memory.state.fork()
        if places == list(range(len(memory.vectors))):
            return memory.vectors, state
        rows = torch.tensor(places, device=self.device)
        state.reorder(rows)
        return memory.vectors[rows], state

    def _bounds(self, manner: Manner, prompt: int) -> Bounds:
        positions = self.model.text_positions
        # _compat_limit: the last token may lie one position beyond the last.
        limit = min(positions // 2, positions - prompt + 1)
        if limit < 1:
            raise UsageError(
                f"prompt and prefix of {prompt} tokens", hint="make the prefix shorter"
            )
        rules = self._rules(manner.suppress, manner.timestamps)
        return Bounds(rules=rules, end=self.tokenizer.eot, limit=limit)

    def _new_rules(self, suppress: tuple[int, ...], timestamps: bool) -> Rules:
        tokenizer = self.tokenizer
        never = [*suppress, *([tokenizer.no_timestamps] if timestamps else [])]
        rules = TimestampRules(
            end=tokenizer.eot, first=tokenizer.timestamp_begin, most_initial=_MOST_INITIAL
        )
        blank = [*tokenizer.encode(" "), tokenizer.eot]
        return Rules(
            never=torch.tensor(never, dtype=torch.long, device=self.device),
            not_first=torch.tensor(blank, device=self.device),
            timestamps=rules if timestamps else None,
        )

    def _decoded(
        self, text: Hypothesis, no_speech: float, temperature: float, limit: int
    ) -> Decoded:
        said = self.tokenizer.decode(text.tokens).strip()
        return Decoded(
            tokens=text.tokens,
            text=said,
            avg_logprob=text.avg_logprob,
            no_speech_prob=no_speech,
            temperature=temperature,
            compression_ratio=compression_ratio(said),
            limited=len(text.tokens) >= limit,
        )


class _Line:
    """Rows of text that the model continues."""

    def __init__(self, model: Whisper, vectors: Tensor, state: State) -> None:
        self._model, self._vectors, self._state = model, vectors, state

    def __call__(self, tokens: Tensor) -> Tensor:
        return self._model.decode(tokens[:, None], self._vectors, self._state)[:, -1]

    def reorder(self, rows: Tensor) -> None:
        self._state.reorder(rows)


class _Row:
    """A row of text that the model continues by several tokens at a time."""

    def __init__(self, model: Whisper, vectors: Tensor, state: State) -> None:
        self._model, self._vectors, self._state = model, vectors, state

    def __call__(self, tokens: Sequence[int]) -> Tensor:
        line = torch.tensor([tokens], device=self._vectors.device)
        return self._model.decode(line, self._vectors, self._state)[0]

    def rewind(self, count: int) -> None:
        if count:
            self._state.rewind(count)


def _drawn(manner: Manner, seeks: Sequence[int], limit: int) -> Tensor | None:
    """[B, N, limit]: what decides at temperatures above 0."""
    if not manner.temperature:
        return None
    seed, temperature = manner.seed, manner.temperature
    return torch.stack([draws(seed, seek, temperature, manner.width, limit) for seek in seeks])


def compression_ratio(text: str) -> float:
    """How much shorter zlib makes a text; what repeats itself has a high one."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))
