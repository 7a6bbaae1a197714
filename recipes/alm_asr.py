"""Train alm-asr, the recogniser that ships in the package (see recipes/README.md).

Data comes from `recipes/alm_asr_data.py`. Seeded and resumable: the whole state is saved to the
run folder every few minutes, and the same command continues; a greater --minutes or --steps goes
on with what is there.

    python recipes/alm_asr.py RUN_DIR DATA_DIR --minutes 60       train; again: continue
    python recipes/alm_asr.py RUN_DIR DATA_DIR --export FOLDER    write the checkpoint
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.encoders.alm_asr import LETTERS, AlmAsr, AlmAsrConfig
from recipes.asr_noise import RATE, Surroundings, holes, other_throats
from recipes.asr_text import greedy, word_errors
from recipes.training import Training, options, run

TESTS = ("test_texts", "test_espeak", "test_flite", "test_festival")
Batch = tuple[Tensor, Tensor, list[str]]  # waves [B, 1, T], their lengths [B], texts

SHORT = 0.06  # of the training is done with short clean clips, lest the blank win


class Clips:
    """The clips of the parts whose index is there."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self.parts = sorted(folder.glob(f"{pattern}.json"))
        self.waves = [np.memmap(path.with_suffix(".i16"), "<i2", "r") for path in self.parts]
        rows = [json.loads(path.read_text(encoding="utf-8")) for path in self.parts]
        self.rows = [(part, *row[:3]) for part, found in enumerate(rows) for row in found]
        self.lengths = np.array([row[2] for row in self.rows])

    def wave(self, index: int) -> np.ndarray:
        part, start, length, _ = self.rows[index]
        return self.waves[part][start : start + length].astype(np.float32) / 32768

    def text(self, index: int) -> str:
        return str(self.rows[index][3])


def batches(
    clips: Clips, rng: np.random.Generator, seconds: float, longest: float
) -> Iterator[list[int]]:
    """Indices of clips of about one length, so many seconds together; each clip once."""
    chosen = np.flatnonzero(clips.lengths < longest * RATE)
    # Not always the same clips together.
    order = chosen[np.argsort(clips.lengths[chosen] * rng.uniform(0.9, 1.1, len(chosen)))]
    groups, group = [], []
    for index in order:
        group.append(int(index))
        if (len(group) + 1) * clips.lengths[index] > seconds * RATE:
            groups.append(group)
            group = []
    for place in rng.permutation(len(groups)):
        yield groups[place]


class AlmAsrTraining(Training[AlmAsr]):
    """The clips of the data as they are heard this time, and the losses of CTC."""

    name = "alm_asr"

    def __init__(self, run: Path, data: Path, ask: argparse.Namespace) -> None:
        torch.manual_seed(ask.seed)
        config = AlmAsrConfig()
        # Half way the letters must be there too (arXiv:2102.03216): it makes the start quicker.
        model, average = AlmAsr(config), AlmAsr(config)
        early = nn.Linear(config.dimension, 2 * len(LETTERS))
        super().__init__(run, ask, model, average, early=early)
        self.data, self.early = data, early
        bank = Clips(data, "noise")
        self.surroundings = Surroundings(bank.waves[0] if bank.waves else np.zeros(0), ask.seed)
        self.tests = {name: Clips(data, name) for name in TESTS}

    def epoch(self) -> Iterator[list[int]]:
        """Clips of which a thread makes a batch; each once."""
        clips, short = Clips(self.data, "train_*"), self.done < SHORT
        self.clips = clips
        seconds = self.ask.seconds * (0.5 if short else 1)
        for group in batches(clips, self.rng, seconds, 4.5 if short else 16.0):
            yield group
            if short and self.done >= SHORT:
                return

    def batch(self, rng: np.random.Generator, group: list[int]) -> Batch:
        """Clips as they are heard this time."""
        strength = self.ask.strength * min(1.0, max(0.0, self.done / SHORT - 1) / 3)
        raw = [self.clips.wave(index) for index in group]
        texts = [self.clips.text(index) for index in group]
        heard = [self.surroundings.around(rng, wave, raw, strength) for wave in raw]
        for i in np.flatnonzero(rng.random(len(group)) < 0.07 * min(1.0, 4 * strength)):
            heard[i], texts[i] = self.surroundings.without_speech(rng, len(heard[i])), ""
        lengths = torch.tensor([len(wave) for wave in heard])
        waves = torch.zeros(len(heard), 1, int(lengths.max()))
        for row, wave in zip(waves, heard, strict=True):
            row[0, : len(wave)] = torch.from_numpy(wave)
        return waves.to(self.device), lengths.to(self.device), texts

    def losses(self, rng: np.random.Generator, group: list[int]) -> tuple[Tensor, dict[str, float]]:
        """The losses a letter of the model and of its first half."""
        waves, lengths, texts = self.batch(rng, group)
        strength = self.ask.strength * min(1.0, self.done / SHORT)
        bands, mask = self.model.heard(waves, lengths)
        bands = holes(rng, other_throats(rng, bands, 0.3 + 0.7 * strength), strength)
        said, middle = self.model.read(bands, mask)
        early = self.early(middle).reshape(len(said), -1, len(LETTERS)).log_softmax(-1)
        numbers = [LETTERS.index(letter) for text in texts for letter in text]
        targets = torch.tensor(numbers, device=self.device)
        sizes = torch.tensor([len(text) for text in texts], device=self.device)
        # A recording without speech counts like one of ten letters.
        total = sizes.sum() + 10 * (sizes == 0).sum()
        found = []
        for logprobs, hop in ((said, self.model.hop), (early, 2 * self.model.hop)):
            rows, frames = logprobs.transpose(0, 1), (lengths + hop - 1) // hop
            # Infinite where somebody talks too fast for the frames.
            loss = F.ctc_loss(rows, targets, frames, sizes, reduction="sum", zero_infinity=True)
            found.append(loss / total)
        told = {"loss": float(found[0].detach()), "early": float(found[1].detach())}
        return found[0] + 0.3 * found[1], told | {"audio": float(lengths.sum()) / RATE}

    def validate(self, *, last: bool = False) -> dict[str, object]:
        """Word error rates in per cent of the averaged model, on the first clips of each test."""
        found: dict[str, object] = {}
        count = 80 if last else 24
        for name, clips in self.tests.items():
            wrong = words = 0
            for index in range(min(count, len(clips.rows))):
                wave = torch.from_numpy(clips.wave(index)).to(self.device)
                said = greedy(self.average(wave[None, None])[0].cpu(), LETTERS)
                wrong += word_errors(clips.text(index), said)
                words += len(clips.text(index).split())
            if words:
                found[name] = 100 * wrong / words
        return found


def main() -> None:
    parser = options(__doc__, lr=1.5e-3)
    parser.add_argument("--seconds", type=float, default=36.0, help="of audio a thread and step")
    parser.add_argument("--strength", type=float, default=0.4, help="of distortions: 0 to 1; a "
                        "short training learns more from less")  # fmt: skip
    ask = parser.parse_args()
    ask.run.mkdir(parents=True, exist_ok=True)
    run(AlmAsrTraining(ask.run, ask.data, ask), ask)


if __name__ == "__main__":
    main()
