"""Train alm-tts, the speaker that ships in the package (see recipes/README.md).

Data comes from `recipes/alm_tts_data.py`. Seeded and resumable: the whole state is saved to the run
folder every few minutes, and the same command continues; a greater --minutes or --steps goes on
with what is there.

    python recipes/alm_tts.py RUN_DIR DATA_DIR --minutes 60       train; again: continue
    python recipes/alm_tts.py RUN_DIR DATA_DIR --export FOLDER    write the checkpoint
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.checkpoints.load import load
from alm_cli.decoding.delays import delay
from alm_cli.lm.alm_tts import AlmTts, AlmTtsConfig

# The first codebooks decide what is heard, the last ones how clean it is.
WEIGHTS = (1.5, 1.3, 1.1, 1.0, 0.9, 0.8, 0.7, 0.7)
PREFIX = (20, 75)  # frames of the same speaker before, whose sounds are not told
REFERENCE = (40, 125)  # frames from which the voice is taken


@dataclass(frozen=True)
class Row:
    """A clip of the data: [N], [N], [N] and codes [K, F]; who speaks."""

    speaker: tuple[int, int]
    symbols: np.ndarray
    first: np.ndarray
    durations: np.ndarray
    codes: np.ndarray


class Clips:
    """The clips of the parts that are there."""

    def __init__(self, folder: Path) -> None:
        self.rows: list[Row] = []
        for part, path in enumerate(sorted(folder.glob("part_*.npz"))):
            self.rows += _rows(part, path)
        self.by_speaker: dict[tuple[int, int], list[int]] = {}
        for index, row in enumerate(self.rows):
            self.by_speaker.setdefault(row.speaker, []).append(index)

    def other(self, index: int, rng: np.random.Generator) -> Row:
        """Another clip of the same speaker, or the same where there is no other."""
        same = [i for i in self.by_speaker[self.rows[index].speaker] if i != index]
        return self.rows[int(rng.choice(same)) if same else index]


def _rows(part: int, path: Path) -> Iterator[Row]:
    with np.load(path) as file:
        data = {name: file[name] for name in file.files}
    sounds, frames = np.r_[0, data["sizes"].cumsum()], np.r_[0, data["frames"].cumsum()]
    for n, speaker in enumerate(data["speaker"]):
        inside, across = slice(sounds[n], sounds[n + 1]), slice(frames[n], frames[n + 1])
        yield Row(
            (part, int(speaker)),
            data["symbols"][inside],
            data["first"][inside],
            data["durations"][inside],
            data["codes"][:, across],
        )


def held_out(index: int) -> bool:
    """Every 60th clip tells how well the model predicts what it has not seen."""
    return index % 60 == 7


def batches(clips: Clips, rng: np.random.Generator, frames: int) -> Iterator[list[int]]:
    """Indices of clips of about one length, so many frames together; each clip once."""
    lengths = np.array([row.codes.shape[1] for row in clips.rows])
    chosen = np.array([i for i in range(len(lengths)) if not held_out(i)])
    order = chosen[np.argsort(lengths[chosen] * rng.uniform(0.85, 1.15, len(chosen)))]
    groups, group = [], []
    for index in order:
        group.append(int(index))
        if (len(group) + 1) * (lengths[index] + 20) > frames:
            groups.append(group)
            group = []
    for place in rng.permutation(len(groups)):
        yield groups[place]


class Trainer:
    """One run: model, averaged model, optimiser, data and their saved state."""

    def __init__(self, run: Path, data: Path, ask: argparse.Namespace) -> None:
        torch.manual_seed(ask.seed)
        self.run, self.data, self.ask = run, data, ask
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.step, self.spent = 0, 0.0
        self.rng = np.random.default_rng(ask.seed)
        self.model = started(AlmTts(AlmTtsConfig())).to(self.device)
        self.average = AlmTts(self.model.config).to(self.device).requires_grad_(False)
        self.average.load_state_dict(self.model.state_dict())
        wide = [p for p in self.model.parameters() if p.ndim > 1]
        rest = [p for p in self.model.parameters() if p.ndim == 1]
        groups = [{"params": wide, "weight_decay": 0.03}, {"params": rest, "weight_decay": 0.0}]
        self.parameters = [*wide, *rest]
        self.optimizer = torch.optim.AdamW(groups, ask.lr, betas=(0.9, 0.97))
        self.pool = ThreadPoolExecutor(ask.threads)
        self.clips = Clips(data)

    @property
    def done(self) -> float:
        """The part of the training that lies behind."""
        if self.ask.steps:
            return min(1.0, self.step / self.ask.steps)
        return min(1.0, self.spent / (60 * self.ask.minutes))

    def losses(self, rng: np.random.Generator, group: list[int], training: bool) -> Tensor:
        """[K + 1]: the loss a code of each book, and that of the durations."""
        model, device = self.model if training else self.average, self.device
        books = model.config.codebooks
        rows = [self.clips.rows[i] for i in group]
        others = [self.clips.other(i, rng) for i in group]
        voice = model.voice(*self._references(rng, others))
        symbols, first, units, mask = _padded(rows, device)
        features, lengths = model.reader(symbols, first, voice, mask[:, None, None])
        codes, conditions, targets = [], [], []
        for n, (row, other) in enumerate(zip(rows, others, strict=True)):
            told = model.condition(features[n, : len(row.symbols)], units[n, : len(row.symbols)])
            before = _prefix(rng, other) if rng.random() < 0.5 else other.codes[:, :0]
            said = np.concatenate([before, row.codes], 1).astype(np.int64)
            steps = delay(torch.from_numpy(said)[None], model.lags, -1)[0].to(device)
            wanted = steps.clone()
            for book in range(books):
                wanted[book, : before.shape[1] + book] = -1
            fill = (0, 0, before.shape[1], steps.shape[1] - said.shape[1])
            conditions.append(F.pad(told, fill))
            codes.append(F.pad(steps, (1, -1), value=-1))
            targets.append(wanted)
        longest = max(part.shape[1] for part in codes)
        inputs, wanted = (
            torch.stack([F.pad(part, (0, longest - part.shape[1]), value=-1) for part in parts])
            for parts in (codes, targets)
        )
        told = torch.stack([F.pad(part, (0, 0, 0, longest - len(part))) for part in conditions])
        if training:
            inputs = self._disturbed(rng, inputs)
        logits = model(inputs, told, voice)
        found = [
            F.cross_entropy(logits[:, k].flatten(0, 1), wanted[:, k].flatten(), ignore_index=-1)
            for k in range(books)
        ]
        known = mask == 0
        target = (units.float() + 0.5).log()
        found.append(F.smooth_l1_loss(lengths[known], target[known], beta=0.2))
        return torch.stack(found)

    def _references(self, rng: np.random.Generator, others: list[Row]) -> tuple[Tensor, Tensor]:
        """Latents [B, F, D] of a piece of each, and which of the frames are none."""
        pieces = [_piece(rng, row.codes, REFERENCE) for row in others]
        longest = max(piece.shape[1] for piece in pieces)
        codes = np.stack([np.pad(p, ((0, 0), (0, longest - p.shape[1]))) for p in pieces])
        mask = np.stack([np.arange(longest) >= p.shape[1] for p in pieces])
        hidden = torch.from_numpy(mask).to(self.device)
        latents = self.model.latents(torch.from_numpy(codes.astype(np.int64)).to(self.device))
        none = torch.zeros(hidden.shape, device=self.device).masked_fill(hidden, -torch.inf)
        return latents.masked_fill(hidden[..., None], 0), none

    def _disturbed(self, rng: np.random.Generator, inputs: Tensor) -> Tensor:
        """Codes of the past, some of them wrong or unknown, as when the model draws them itself."""
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        chance = torch.rand(inputs.shape, generator=generator).to(self.device)
        wrong = torch.randint(0, self.model.config.vocabulary, inputs.shape, generator=generator)
        spoilt = torch.where(chance < 0.04, wrong.to(self.device), inputs)
        gone = torch.rand(inputs.shape[0], 1, inputs.shape[2], generator=generator) < 0.06
        return torch.where((inputs < 0) | gone.to(self.device), -1, spoilt)

    def total(self, losses: Tensor) -> Tensor:
        weights = torch.tensor(WEIGHTS, device=losses.device)
        return (losses[:-1] * weights).sum() / weights.sum() + losses[-1]

    def gradients(self, place: int, group: list[int]) -> tuple[list[Tensor], Tensor]:
        """What one thread does of a step."""
        rng = np.random.default_rng([self.ask.seed, self.step, place])
        losses = self.losses(rng, group, training=True)
        found = torch.autograd.grad(self.total(losses), self.parameters)
        return list(found), losses.detach()

    def train_step(self, groups: list[list[int]]) -> Tensor:
        """A step on several batches, a thread for each."""
        factor = min(1.0, (self.step + 1) / 100, max(0.0, (1 - self.done) / 0.7))
        for settings in self.optimizer.param_groups:
            settings["lr"] = self.ask.lr * factor
        done = list(self.pool.map(self.gradients, range(len(groups)), groups))
        for parameter, *parts in zip(self.parameters, *(found for found, _ in done), strict=True):
            parameter.grad = torch.stack(parts).mean(0)
        norm = nn.utils.clip_grad_norm_(self.parameters, 1.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        decay = min(0.997, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            live = self.model.parameters()
            for ours, theirs in zip(self.average.parameters(), live, strict=True):
                ours.lerp_(theirs, 1 - decay)
        self.step += 1
        return torch.stack([losses for _, losses in done]).mean(0)

    @torch.no_grad()
    def validate(self) -> list[float]:
        """The losses of the averaged model on clips that it has not seen."""
        kept = [i for i in range(len(self.clips.rows)) if held_out(i)][:48]
        rng = np.random.default_rng(1)
        found = [self.losses(rng, kept[n : n + 8], training=False) for n in range(0, len(kept), 8)]
        return [round(float(x), 4) for x in torch.stack(found).mean(0)]

    def save(self) -> None:
        state = {
            "step": self.step, "spent": self.spent, "model": self.model.state_dict(),
            "average": self.average.state_dict(), "optimizer": self.optimizer.state_dict(),
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
        settings = {"model_type": "alm_tts", **asdict(self.model.config)}
        (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")

    def log(self, row: dict[str, object]) -> None:
        line = json.dumps(row)
        with (self.run / "log.jsonl").open("a") as handle:
            handle.write(line + "\n")
        sys.stderr.write(line + "\n")

    def train(self) -> None:
        saved = tested = time.monotonic()
        rows: list[Tensor] = []
        while self.done < 1:
            self.clips = Clips(self.data)
            epoch = batches(self.clips, self.rng, self.ask.frames)
            began = time.monotonic()
            while groups := list(islice(epoch, self.ask.threads)):
                rows.append(self.train_step(groups))
                self.spent += time.monotonic() - began
                if self.step % self.ask.log == 0:
                    means = [round(float(x), 4) for x in torch.stack(rows).mean(0)]
                    row = {"step": self.step, "minutes": round(self.spent / 60, 2), "loss": means}
                    if time.monotonic() - tested > self.ask.test_every:
                        row["valid"], tested = self.validate(), time.monotonic()
                    self.log(row)
                    rows = []
                if time.monotonic() - saved > 240:
                    self.save()
                    saved = time.monotonic()
                if self.done >= 1:
                    break
                began = time.monotonic()
        self.save()
        self.log({"step": self.step, "valid": self.validate()})


def started(model: AlmTts) -> AlmTts:
    """The model with the codebooks of alm-codec, and weights that begin small where they must."""
    books = [book.vectors for book in load("alm-codec").model.quantizer.codebooks]  # type: ignore
    for book, vectors in enumerate(books[: model.config.codebooks]):
        scale = vectors.square().mean().sqrt()
        model.vectors[book] = vectors / scale
        model.scales[book] = scale
    for head, vectors in zip(model.heads, model.vectors, strict=True):
        head.weight.data.copy_(vectors)
        head.bias.data.zero_()
    model.aim.weight.data.mul_(0.3 / model.config.latent**0.5)
    for name, parameter in model.named_parameters():
        if name.endswith(("out.weight", "down.weight")):
            parameter.data.mul_(0.5)
    return model


def _padded(rows: list[Row], device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Symbols, beginnings, units [B, N], and minus infinity where there are none [B, N]."""
    longest = max(len(row.symbols) for row in rows)
    found = []
    for name in ("symbols", "first", "durations"):
        parts = [getattr(row, name).astype(np.int64) for row in rows]
        found.append(np.stack([np.pad(part, (0, longest - len(part))) for part in parts]))
    symbols, first, units = (torch.from_numpy(part).to(device) for part in found)
    sizes = torch.tensor([len(row.symbols) for row in rows], device=device)
    beyond = torch.arange(longest, device=device) >= sizes[:, None]
    mask = torch.zeros(beyond.shape, device=device).masked_fill(beyond, -torch.inf)
    return symbols, first, units, mask


def _piece(rng: np.random.Generator, codes: np.ndarray, bounds: tuple[int, int]) -> np.ndarray:
    """Some frames of a recording, wherever they begin."""
    length = min(codes.shape[1], int(rng.integers(*bounds)))
    begin = int(rng.integers(0, codes.shape[1] - length + 1))
    return codes[:, begin : begin + length]


def _prefix(rng: np.random.Generator, row: Row) -> np.ndarray:
    """The last frames of what was said before."""
    length = min(row.codes.shape[1], int(rng.integers(*PREFIX)))
    return row.codes[:, row.codes.shape[1] - length :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=60.0, help="of training, in all")
    length.add_argument("--steps", type=int, help="in all, whatever time they take")
    parser.add_argument("--frames", type=int, default=1500, help="a thread and step")
    parser.add_argument("--lr", type=float, default=1.5e-3)
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
