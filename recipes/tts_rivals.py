"""Other ways to draw the codes of alm-tts, and how they are learnt (see recipes/README.md).

alm-tts draws the frames of a stretch together, a book after the other. Its rivals have its sounds,
durations, voices and network, and differ in what is drawn from what:

    delay    frame by frame, all books of a step together (the delay pattern, arXiv:2306.05284)
    first    the first book frame by frame, the others as alm-tts does (VALL-E, arXiv:2301.02111)

    python -m recipes.tts_rivals RUN_DIR DATA_DIR --rival delay --minutes 60
    python -m recipes.tts_rivals RUN_DIR DATA_DIR --rival delay --export FOLDER
    python -m recipes.evaluate_tts --model FOLDER                         # the first rival
    python -m recipes.evaluate_tts --model alm-tts --first OTHER_FOLDER   # the second
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from alm_cli.checkpoints.load import load
from alm_cli.decoding.delays import delay
from alm_cli.decoding.sampling import noise_of, sample
from alm_cli.lm.alm_tts import AlmTtsConfig
from alm_cli.runtime import inference
from alm_cli.systems.alm_speaker import CODEC, AlmSpeaker, _Plan
from alm_cli.systems.codec import load_codec
from alm_cli.systems.parallel_rendering import ParallelRendering
from alm_cli.systems.rendering import Sketch
from alm_cli.systems.speaker import Line, Spoken
from alm_cli.values import Audio
from recipes.alm_tts import AlmTtsTraining, asked, asked_losses, together
from recipes.renderers import book_losses, disturbed
from recipes.training import run

# Codes of the past that are others than they were, by book, and frames of it that are unknown.
SPOILT, GONE = (0.06, 0.1, 0.14, 0.18, 0.22, 0.26, 0.3, 0.34), 0.1


class DelayTraining(AlmTtsTraining):
    """All books of a frame are drawn in one step, each from what is known of those before it."""

    config = AlmTtsConfig(causal=True)

    def parted(self, rng: np.random.Generator, group: list[int], *, training: bool) -> Tensor:
        """[K + 1]: the loss a code of each book, and that of the durations."""
        model = self.model if training else self.average
        rows, tone, length = self.laid_out(rng, group, model)
        codes, conditions, targets = [], [], []
        for row in rows:
            steps = delay(row.codes[None], model.lags, -1)[0]
            wanted = steps.clone()
            for book in range(model.books):
                wanted[book, : row.before + book] = -1
            beyond = steps.shape[1] - row.codes.shape[1]
            conditions.append(F.pad(row.condition, (0, 0, 0, beyond)))
            codes.append(F.pad(steps, (1, -1), value=-1))
            targets.append(wanted)
        inputs, wanted = together(codes, -1), together(targets, -1)
        if training:
            inputs = disturbed(rng, inputs, model.config.vocabulary, SPOILT, GONE)
        told = together([part.mT for part in conditions], 0).mT
        return torch.cat([book_losses(model(inputs, told, tone), wanted), length[None]])


class FirstTraining(AlmTtsTraining):
    """Of what was drawn only the first book is seen, and only the first book is asked for."""

    config = AlmTtsConfig(causal=True)

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
        found = asked_losses(model, _only_first(inputs), told, tone, together(targets, -1))
        return torch.cat([found, length[None]])


def _only_first(codes: Tensor) -> Tensor:
    """codes [..., K, F] -> the same, of which only the first book is there."""
    rest = torch.full_like(codes[..., 1:, :], -1)
    return torch.cat([codes[..., :1, :], rest], -2)


class FirstRendering(ParallelRendering):
    """alm-tts, to whom the first book is given."""

    first: Tensor

    def _given(self, sketch: Sketch, begin: int, end: int) -> Tensor:
        del sketch  # the same
        return self.first[..., begin:end]


class FirstSpeaker(AlmSpeaker):
    """The second rival, for whole lines, on a processor: two checkpoints."""

    def __init__(self, parallel: str, first: Path) -> None:
        device = torch.device("cpu")
        super().__init__(load(parallel), load_codec(CODEC, device="cpu"), device)
        self._rendering = FirstRendering(
            self.model, self._codec, device, name=self.name, kind="alm-tts"
        )
        self._causal = AlmSpeaker(load(first), self._codec, device)
        self._other_voice = self._causal.voice(None)

    def voice(self, source: str | Path | Audio | None) -> Tensor:
        """As alm-tts knows it; the other model remembers what it knows."""
        self._other_voice = self._causal.voice(source)
        return super().voice(source)

    def say(self, lines: Sequence[Line]) -> list[Spoken]:
        """Each by itself."""
        found: list[Spoken] = []
        for line in lines:
            with inference():
                plan = self._plan(line)
                assert isinstance(self._rendering, FirstRendering)
                self._rendering.first = self._drawn(self._read_by_the_other(plan))
            found += super().say([line])
        return found

    def _read_by_the_other(self, plan: _Plan) -> Sketch:
        """The same plan, in the conditions that the other model has learnt."""
        model = self._causal.model
        features, _ = self._causal._read_sounds(plan.said, self._other_voice)
        condition = model.condition(features[0], torch.from_numpy(plan.units))
        return replace(plan.sketch, condition=condition, tone=model.tone(self._other_voice))

    def _drawn(self, sketch: Sketch) -> Tensor:
        """The first book [1, 1, F], step by step."""
        past = sketch.before.shape[1]
        codes = _only_first(F.pad(sketch.before, (1, 0), value=-1))[None]
        network = self._causal._rendering._network([sketch], codes[:, :, :past])
        last, drawn, noise = codes[:, :, past].clone(), [], [noise_of(sketch.seed, "first")]
        for step in range(sketch.frames):
            last[:, :1] = sample(network(last, step)[:, :1], sketch.sampling, noise)
            drawn.append(last[:, :1].clone())
        return torch.stack(drawn, -1)


TRAININGS = {"delay": DelayTraining, "first": FirstTraining}


def main() -> None:
    parser = asked(__doc__)
    parser.add_argument("--rival", choices=TRAININGS, required=True)
    ask = parser.parse_args()
    ask.run.mkdir(parents=True, exist_ok=True)
    run(TRAININGS[ask.rival](ask.run, ask.data, ask), ask)


if __name__ == "__main__":
    main()
