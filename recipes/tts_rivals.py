"""Other ways to draw the codes of alm-tts, and how they are learnt (see recipes/README.md).

alm-tts draws all books of a frame in one step, by the delay pattern. Its rivals have its sounds,
durations, voices and network, and differ in what is drawn from what:

    masked   all frames at once, a book after the other, the first ones in several looks
             (SoundStorm, arXiv:2305.09636)
    first    the first book frame by frame, the others each in one look at all frames
             (VALL-E, arXiv:2301.02111): its second half is the masked one

    python -m recipes.tts_rivals RUN_DIR DATA_DIR --rival masked --begin alm_cli/assets/alm-tts
    python -m recipes.tts_rivals RUN_DIR DATA_DIR --rival masked --export MASKED
    python -m recipes.evaluate_tts --rival MASKED
    python -m recipes.evaluate_tts --rival MASKED FIRST
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from alm_cli.checkpoints.load import load
from alm_cli.decoding.delays import delay
from alm_cli.decoding.masked import fill, soundstorm_looks
from alm_cli.decoding.sampling import noise_of, sample
from alm_cli.lm.alm_tts import AlmTts
from alm_cli.runtime import inference
from alm_cli.systems.alm_speaker import CODEC, AlmSpeaker, _Plan
from alm_cli.systems.codec import load_codec
from alm_cli.systems.rendering import Sketch
from alm_cli.systems.speaker import Line, Spoken
from alm_cli.text.sounds import SYMBOLS
from alm_cli.values import Audio
from recipes.alm_tts import GONE, SPOILT, AlmTtsTraining, asked, together
from recipes.renderers import disturbed
from recipes.training import run

# How often a row learns each book.
LEVELS = (0.25, 0.18, 0.14, 0.11, 0.09, 0.08, 0.08, 0.07)
# Codes that are given and others than they were.
WRONG = (0.03,) * 8
# Looks at each book, and at which temperature all but the last draw.
LOOKS, TEMPERATURE = (12, 4, 2, 1, 1, 1, 1, 1), 0.5


class MaskedTraining(AlmTtsTraining):
    """Of each row one book is hidden in part and the finer ones wholly; that book is asked for."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        for model in (self.model, self.average):
            see_all(model)

    def parted(self, rng: np.random.Generator, group: list[int], *, training: bool) -> Tensor:
        """[K + 1]: the loss a code of each book, and that of the durations."""
        model = self.model if training else self.average
        rows, tone, length = self.laid_out(rng, group, model)
        codes, targets = [], []
        for place, row in enumerate(rows):
            level = int(rng.choice(len(LEVELS), p=LEVELS)) if training else place % len(LEVELS)
            hidden = rng.random(row.codes.shape[1]) < np.cos(rng.random() * np.pi / 2)
            hidden[: row.before] = False
            hidden[-1] |= not hidden.any()
            lost = torch.from_numpy(hidden).to(self.device)
            given, wanted = row.codes.clone(), torch.full_like(row.codes, -1)
            given[level].masked_fill_(lost, -1)
            given[level + 1 :, row.before :] = -1
            wanted[level, lost] = row.codes[level, lost]
            codes.append(given)
            targets.append(wanted)
        inputs = together(codes, -1)
        if training:
            inputs = disturbed(rng, inputs, model.config.vocabulary, WRONG, 0.0)
        told = together([row.condition.mT for row in rows], 0).mT
        ends = [row.codes.shape[1] for row in rows]
        x = _read(model, inputs, told, tone, _beyond(ends, self.device))
        return torch.cat([_losses(model, x, together(targets, -1)), length[None]])


class FirstTraining(AlmTtsTraining):
    """Of what was drawn only the first book is seen, and only the first book is asked for."""

    def parted(self, rng: np.random.Generator, group: list[int], *, training: bool) -> Tensor:
        """[K + 1]: the loss a code of the first book, zeros, and the loss of the durations."""
        model = self.model if training else self.average
        rows, tone, length = self.laid_out(rng, group, model)
        targets = []
        for row in rows:
            wanted = _only_first(row.codes)
            wanted[:, : row.before] = -1
            targets.append(wanted)
        inputs = together([F.pad(row.codes, (1, -1), value=-1) for row in rows], -1)
        if training:
            inputs = disturbed(rng, inputs, model.config.vocabulary, SPOILT, GONE)
        told = together([row.condition.mT for row in rows], 0).mT
        x = _read(model, _only_first(inputs), told, tone)
        return torch.cat([_losses(model, x, together(targets, -1)), length[None]])


def see_all(model: AlmTts) -> None:
    """Let each frame see those that come later too."""
    for block in model.stack.blocks:
        block.attention.causal = False  # type: ignore[union-attr]


def _only_first(codes: Tensor) -> Tensor:
    """codes [..., K, F] -> the same, of which only the first book is there."""
    rest = torch.full_like(codes[..., 1:, :], -1)
    return torch.cat([codes[..., :1, :], rest], -2)


def _read(
    model: AlmTts, inputs: Tensor, told: Tensor, tone: Tensor, bias: Tensor | None = None
) -> Tensor:
    """inputs [B, K, F], condition [B, F, width], tone [B, width] -> what heads get [B, F, K, D]."""
    found = model.looked_up(inputs).transpose(1, 2).flatten(2)
    x = model.stack(model.enter(found) + told + tone[:, None], bias=bias)
    aims: Tensor = model.aim(model.norm(x)).unflatten(-1, (model.books, -1))
    return aims


def _beyond(lengths: Sequence[int], device: torch.device) -> Tensor:
    """Minus infinity where a row has ended [B, 1, 1, F]."""
    ends = torch.tensor(lengths, device=device)[:, None]
    after = torch.arange(max(lengths), device=device) >= ends
    return torch.zeros(after.shape, device=device).masked_fill(after, -torch.inf)[:, None, None]


def _losses(model: AlmTts, aims: Tensor, wanted: Tensor) -> Tensor:
    """aims [B, F, K, D], codes [B, K, F] -> loss a code of each book [K]; 0 where none is asked."""
    found = []
    for book, head in enumerate(model.heads):
        asked_for = wanted[:, book] >= 0
        logits = head(aims[:, :, book][asked_for])
        own = F.cross_entropy(logits, wanted[:, book][asked_for], reduction="sum")
        found.append(own / asked_for.sum().clamp(min=1))
    return torch.stack(found)


class Rival(AlmSpeaker):
    """A rival as a speaker of whole lines, on a processor.

    `masked` and `first` are checkpoints; without `first`, all books are drawn by the masked one.
    """

    looks, temperature = LOOKS, TEMPERATURE

    def __init__(self, masked: Path, first: Path | None = None) -> None:
        device = torch.device("cpu")
        super().__init__(load(masked), load_codec(CODEC, device="cpu"), device)
        see_all(self.model)
        self.causal: AlmSpeaker | None = None
        if first is not None:
            self.causal = AlmSpeaker(load(first), self._codec, device)
        self._causal_voice: Tensor | None = None

    def voice(self, source: str | Path | Audio | None) -> Tensor:
        """As the masked one knows it; the causal one remembers its own."""
        if self.causal:
            self._causal_voice = self.causal.voice(source)
        return super().voice(source)

    def say(self, lines: Sequence[Line]) -> list[Spoken]:
        """Each by itself."""
        found = []
        for line in lines:
            with inference():
                plan = self._plan(line)
                codes = self._filled(plan.sketch, self._first(line, plan))
                steps = [*delay(codes, self.model.lags, 0).unbind(-1)]
                blocks = list(self._rendering._heard(plan.sketch, steps))
            found.append(self._spoken(plan, self._rendering._rendered(plan.sketch, steps, blocks)))
        return found

    def _first(self, line: Line, plan: _Plan) -> Tensor:
        """The books that the causal model draws [1, 0 or 1, F], step by step."""
        sketch = plan.sketch
        if self.causal is None:
            return torch.zeros(1, 0, sketch.frames, dtype=torch.long)
        condition, tone = self._as_the_causal_one_reads_it(line, plan)
        sketch = replace(sketch, condition=condition, tone=tone)
        past = sketch.before.shape[1]
        codes = _only_first(F.pad(sketch.before, (1, 0), value=-1))[None]
        network = self.causal._rendering._network([sketch], codes[:, :, :past])
        last, drawn, noise = codes[:, :, past].clone(), [], [noise_of(sketch.seed, "first")]
        for step in range(sketch.frames):
            last[:, :1] = sample(network(last, step)[:, :1], sketch.sampling, noise)
            drawn.append(last[:, :1].clone())
        return torch.stack(drawn, -1)

    def _as_the_causal_one_reads_it(self, line: Line, plan: _Plan) -> tuple[Tensor, Tensor]:
        """The same plan, in the conditions that the other model has learnt."""
        assert self.causal is not None
        model = self.causal.model
        voice = self._causal_voice if line.voice is not None else None
        voice = self.causal.voice(None) if voice is None else voice
        owners = torch.tensor(plan.said.owners)
        first = (owners >= 0) & (owners != owners.roll(1))
        symbols = torch.tensor([[SYMBOLS.index(symbol) for symbol in plan.said.symbols]])
        features, _ = model.reader(symbols, first.long()[None], voice)
        condition = model.condition(features[0], torch.from_numpy(plan.units))
        return condition, model.tone(voice)

    def _filled(self, sketch: Sketch, given: Tensor) -> Tensor:
        """The books that are given and those that follow from them [1, K, F]."""
        model, known, past = self.model, given.shape[1], sketch.before.shape[1]
        before = sketch.before[None]
        told = F.pad(sketch.condition[None], (0, 0, past, 0))

        def predict(codes: Tensor, book: int, share: float) -> Tensor:
            del share
            inputs = torch.cat([before, torch.cat([given, codes], 1)], 2)
            aims = _read(model, inputs, told, sketch.tone)
            logits: Tensor = model.heads[known + book](aims[:, past:, known + book])
            return logits

        masked = torch.full((1, model.books - known, sketch.frames), -1)
        looks = [soundstorm_looks(count, self.temperature) for count in self.looks[known:]]
        noise = [noise_of(sketch.seed, "masked")]
        return torch.cat([given, fill(predict, masked, looks, sketch.sampling, noise)], 1)


TRAININGS = {"masked": MaskedTraining, "first": FirstTraining}


def main() -> None:
    parser = asked(__doc__)
    parser.add_argument("--rival", choices=TRAININGS, required=True)
    ask = parser.parse_args()
    ask.run.mkdir(parents=True, exist_ok=True)
    run(TRAININGS[ask.rival](ask.run, ask.data, ask), ask)


if __name__ == "__main__":
    main()
