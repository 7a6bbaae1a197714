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
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.encoders.alm_asr import LETTERS, AlmAsr, AlmAsrConfig
from recipes.asr_noise import RATE, Surroundings, holes, other_throats
from recipes.asr_text import greedy, word_errors

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


class Trainer:
    """One run: model, averaged model, optimisers, data and their saved state."""

    def __init__(self, run: Path, data: Path, ask: argparse.Namespace) -> None:
        torch.manual_seed(ask.seed)
        self.run, self.data, self.ask = run, data, ask
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.step, self.spent = 0, 0.0
        self.rng = np.random.default_rng(ask.seed)
        config = AlmAsrConfig()
        self.model = AlmAsr(config).to(self.device)
        self.average = AlmAsr(config).to(self.device).requires_grad_(False)
        self.average.load_state_dict(self.model.state_dict())
        # Half way the letters must be there too (arXiv:2102.03216): it makes the start quicker.
        self.early = nn.Linear(config.dimension, 2 * len(LETTERS)).to(self.device)
        wide = [p for p in self.model.parameters() if p.ndim > 1]
        rest = [p for p in self.model.parameters() if p.ndim == 1]
        groups = [
            {"params": [*wide, *self.early.parameters()], "weight_decay": 0.02},
            {"params": rest, "weight_decay": 0.0},
        ]
        self.parameters = [*self.model.parameters(), *self.early.parameters()]
        self.pool = ThreadPoolExecutor(ask.threads)
        self.optimizer = torch.optim.AdamW(groups, ask.lr, betas=(0.9, 0.98))
        bank = Clips(data, "noise")
        self.surroundings = Surroundings(bank.waves[0] if bank.waves else np.zeros(0), ask.seed)
        self.tests = {name: Clips(data, name) for name in TESTS}

    @property
    def done(self) -> float:
        """The part of the training that lies behind."""
        if self.ask.steps:
            return min(1.0, self.step / self.ask.steps)
        return min(1.0, self.spent / (60 * self.ask.minutes))

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

    def losses(self, rng: np.random.Generator, batch: Batch) -> tuple[Tensor, Tensor]:
        """The losses a letter of the model and of its first half."""
        waves, lengths, texts = batch
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
        return found[0], found[1]

    def gradients(self, place: int, group: list[int]) -> tuple[list[Tensor], dict[str, float]]:
        """What one thread does of a step."""
        rng = np.random.default_rng([self.ask.seed, self.step, place])
        batch = self.batch(rng, group)
        loss, early = self.losses(rng, batch)
        found = torch.autograd.grad(loss + 0.3 * early, self.parameters)
        seconds = float(batch[1].sum()) / RATE
        return list(found), {
            "loss": float(loss.detach()),
            "early": float(early.detach()),
            "audio": seconds,
        }

    def train_step(self, groups: list[list[int]]) -> dict[str, float]:
        """A step on several batches, a thread for each: whole batches need fewer meetings."""
        factor = min(1.0, (self.step + 1) / 120, max(0.0, (1 - self.done) / 0.75))
        for settings in self.optimizer.param_groups:
            settings["lr"] = self.ask.lr * factor
        done = list(self.pool.map(self.gradients, range(len(groups)), groups))
        for parameter, *parts in zip(self.parameters, *(found for found, _ in done), strict=True):
            parameter.grad = torch.stack(parts).mean(0)
        norm = nn.utils.clip_grad_norm_(self.parameters, 2.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        decay = min(0.995, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            live = self.model.parameters()
            for ours, theirs in zip(self.average.parameters(), live, strict=True):
                ours.lerp_(theirs, 1 - decay)
        self.step += 1
        row = {name: sum(told[name] for _, told in done) / len(done) for name in done[0][1]}
        return row | {"norm": float(norm), "audio": row["audio"] * len(done)}

    @torch.no_grad()
    def validate(self, count: int = 24) -> dict[str, float]:
        """Word error rates in per cent of the averaged model, on the first clips of each test."""
        found = {}
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

    def save(self) -> None:
        state = {
            "step": self.step, "spent": self.spent, "model": self.model.state_dict(),
            "average": self.average.state_dict(), "early": self.early.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": json.dumps(self.rng.bit_generator.state),
        }  # fmt: skip
        partial = self.run / "state.pt.partial"
        torch.save(state, partial)
        partial.replace(self.run / "state.pt")

    def resume(self) -> None:
        path = self.run / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.step, self.spent = state["step"], state["spent"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.early.load_state_dict(state["early"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.bit_generator.state = json.loads(state["rng"])

    def export(self, folder: Path) -> None:
        """Write the averaged weights in half precision, as the package ships them."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {k: v.half().cpu().contiguous() for k, v in self.average.state_dict().items()}
        partial = folder / "model.safetensors.partial"
        save_file(weights, partial)
        partial.chmod(0o644)  # it is written for its owner alone
        partial.replace(folder / "model.safetensors")
        settings = {"model_type": "alm_asr", **asdict(self.model.config)}
        (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")

    def log(self, row: dict[str, float | int]) -> None:
        line = json.dumps({k: round(v, 4) for k, v in row.items()})
        with (self.run / "log.jsonl").open("a") as handle:
            handle.write(line + "\n")
        sys.stderr.write(line + "\n")

    def train(self) -> None:
        saved = tested = time.monotonic()
        rows: list[dict[str, float]] = []
        while self.done < 1:
            began = time.monotonic()
            epoch = self.epoch()
            while groups := list(islice(epoch, self.ask.threads)):
                rows.append(self.train_step(groups))
                self.spent += time.monotonic() - began
                if self.step % self.ask.log == 0:
                    extra = {}
                    if time.monotonic() - tested > self.ask.test_every:
                        extra, tested = self.validate(), time.monotonic()
                    means = {k: float(np.mean([row[k] for row in rows])) for k in rows[0]}
                    self.log({"step": self.step, "minutes": self.spent / 60, **means, **extra})
                    rows = []
                if time.monotonic() - saved > 300:
                    self.save()
                    saved = time.monotonic()
                if self.done >= 1:
                    break
                began = time.monotonic()
        self.save()
        self.log({"step": self.step, **self.validate(80)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=60.0, help="of training, in all")
    length.add_argument("--steps", type=int, help="in all, whatever time they take")
    parser.add_argument("--seconds", type=float, default=36.0, help="of audio a thread and step")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--strength", type=float, default=0.4, help="of distortions: 0 to 1; a "
                        "short training learns more from less")  # fmt: skip
    parser.add_argument("--log", type=int, default=25)
    parser.add_argument("--test-every", type=float, default=300.0, help="seconds")
    parser.add_argument("--threads", type=int, default=2, help="a batch each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", type=Path, help="write the checkpoint here and stop")
    ask = parser.parse_args()
    ask.run.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    trainer = Trainer(ask.run, ask.data, ask)
    trainer.resume()
    if ask.export:
        trainer.export(ask.export)
    else:
        trainer.train()


if __name__ == "__main__":
    main()
