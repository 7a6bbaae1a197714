"""What the trainings of the bundled models share: threads, steps, averages, saved states, logs.

A step takes several batches, one thread and one gradient each: on a processor, whole batches need
fewer meetings than parts of one. The state is saved every few minutes, and a run that is started
again continues; seeds follow from the step, so no batch depends on how often it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)
Group = list[int]


class Training(Generic[M]):
    """One run: a model, its running average, an optimiser, and where it stands.

    `warm` steps lead up to the learning rate, the last `fade` part of the run leads down to 0.
    `parts` are what is trained beside the model and not shipped.
    """

    name: str
    betas = (0.9, 0.98)
    decay = 0.02
    clip = 2.0
    warm, fade = 120, 0.75
    averaging = 0.995

    def __init__(
        self, run: Path, ask: argparse.Namespace, model: M, average: M, **parts: nn.Module
    ) -> None:
        self.run, self.ask = run, ask
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.step, self.spent = 0, 0.0
        self.rng = np.random.default_rng(ask.seed)
        self.model = model.to(self.device)
        self.average = average.to(self.device).requires_grad_(False)
        self.average.load_state_dict(self.model.state_dict())
        self.parts = {name: part.to(self.device) for name, part in parts.items()}
        beside = [p for part in self.parts.values() for p in part.parameters()]
        wide = [p for p in self.model.parameters() if p.ndim > 1]
        rest = [p for p in self.model.parameters() if p.ndim == 1]
        groups = [
            {"params": [*wide, *beside], "weight_decay": self.decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        self.parameters = [*self.model.parameters(), *beside]
        self.pool = ThreadPoolExecutor(ask.threads)
        self.optimizer = torch.optim.AdamW(groups, ask.lr, betas=self.betas)

    def epoch(self) -> Iterator[Group]:
        """Batches, each a group of indices; each clip once."""
        raise NotImplementedError

    def losses(self, rng: np.random.Generator, group: Group) -> tuple[Tensor, dict[str, float]]:
        """What is to become less, and what to tell of a batch."""
        raise NotImplementedError

    def validate(self, *, last: bool = False) -> dict[str, object]:
        """How well the averaged model does on what it has not seen; thoroughly at the `last`."""
        raise NotImplementedError

    def shipped(self) -> dict[str, Tensor]:
        """The tensors of the checkpoint."""
        return self.average.state_dict()

    def settings(self) -> dict[str, object]:
        """What `config.json` says."""
        return {"model_type": self.name, **asdict(self.model.config)}  # type: ignore[call-overload]

    @property
    def done(self) -> float:
        """The part of the training that lies behind."""
        if self.ask.steps:
            return min(1.0, self.step / self.ask.steps)
        return min(1.0, self.spent / (60 * self.ask.minutes))

    def gradients(self, place: int, group: Group) -> tuple[list[Tensor], dict[str, float]]:
        """What one thread does of a step."""
        rng = np.random.default_rng([self.ask.seed, self.step, place])
        loss, told = self.losses(rng, group)
        found = torch.autograd.grad(
            loss, self.parameters, allow_unused=True, materialize_grads=True
        )
        return list(found), told

    def train_step(self, groups: Sequence[Group]) -> dict[str, float]:
        """A step on several batches, a thread for each."""
        fading = max(0.0, (1 - self.done) / self.fade)
        for settings in self.optimizer.param_groups:
            settings["lr"] = self.ask.lr * min(1.0, (self.step + 1) / self.warm, fading)
        done = list(self.pool.map(self.gradients, range(len(groups)), groups))
        for parameter, *parts in zip(self.parameters, *(found for found, _ in done), strict=True):
            parameter.grad = torch.stack(parts).mean(0)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.clip)
        if torch.isfinite(norm):
            self.optimizer.step()
        kept = min(self.averaging, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            live = self.model.parameters()
            for ours, theirs in zip(self.average.parameters(), live, strict=True):
                ours.lerp_(theirs, 1 - kept)
        self.step += 1
        row = {name: sum(told[name] for _, told in done) / len(done) for name in done[0][1]}
        return row | {"norm": float(norm)}

    def train(self) -> None:
        """Until the time or the steps are spent."""
        saved = tested = time.monotonic()
        rows: list[dict[str, float]] = []
        while self.done < 1:
            began = time.monotonic()
            epoch = self.epoch()
            while groups := list(islice(epoch, self.ask.threads)):
                rows.append(self.train_step(groups))
                self.spent += time.monotonic() - began
                if self.step % self.ask.log == 0:
                    extra: Mapping[str, object] = {}
                    if time.monotonic() - tested > self.ask.test_every:
                        extra, tested = self._validated(), time.monotonic()
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
        self.log({"step": self.step, **self._validated(last=True)})

    @torch.no_grad()
    def _validated(self, *, last: bool = False) -> dict[str, object]:
        return self.validate(last=last)

    def save(self) -> None:
        """The whole state, in place of the last one."""
        state = {
            "step": self.step, "spent": self.spent, "model": self.model.state_dict(),
            "average": self.average.state_dict(), "optimizer": self.optimizer.state_dict(),
            "rng": json.dumps(self.rng.bit_generator.state),
            **{name: part.state_dict() for name, part in self.parts.items()},
        }  # fmt: skip
        partial = self.run / "state.pt.partial"
        torch.save(state, partial)
        partial.replace(self.run / "state.pt")

    def resume(self) -> None:
        """Go on from the saved state, if there is one."""
        path = self.run / "state.pt"
        if not path.exists():
            return
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        self.step, self.spent = state["step"], state["spent"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.bit_generator.state = json.loads(state["rng"])
        for name, part in self.parts.items():
            part.load_state_dict(state[name])

    def begin(self, folder: Path) -> None:
        """Take the weights of a checkpoint that was shipped.

        A wider network computes what the narrower one did: nobody listens to its new units yet.
        """
        found = load_file(folder / "model.safetensors")
        with torch.no_grad():
            for model in (self.model, self.average):
                for name, parameter in model.named_parameters():
                    ours = found[name]
                    if parameter.shape[1:] != ours.shape[1:]:
                        parameter.zero_()
                    parameter[tuple(map(slice, ours.shape))].copy_(ours)

    def export(self, folder: Path) -> None:
        """Write the averaged weights in half precision, as the package ships them."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {k: v.half().cpu().contiguous() for k, v in self.shipped().items()}
        partial = folder / "model.safetensors.partial"
        save_file(weights, partial)
        partial.chmod(0o644)  # it is written for its owner alone
        partial.replace(folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(self.settings(), indent=2) + "\n")

    def log(self, row: Mapping[str, object]) -> None:
        """A line of JSON, to the run folder and to standard error."""
        rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
        with (self.run / "log.jsonl").open("a") as handle:
            handle.write(json.dumps(rounded) + "\n")
        sys.stderr.write(json.dumps(rounded) + "\n")


def options(description: str, *, lr: float) -> argparse.ArgumentParser:
    """What every training can be asked for."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=60.0, help="of training, in all")
    length.add_argument("--steps", type=int, help="in all, whatever time they take")
    parser.add_argument("--lr", type=float, default=lr)
    parser.add_argument("--log", type=int, default=25)
    parser.add_argument("--test-every", type=float, default=300.0, help="seconds")
    parser.add_argument("--threads", type=int, default=2, help="a batch each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--begin", type=Path, help="a checkpoint to start from")
    parser.add_argument("--export", type=Path, help="write the checkpoint here and stop")
    return parser


def run(training: Training[Any], ask: argparse.Namespace) -> None:
    """Continue a training, or write its checkpoint."""
    torch.set_num_threads(1)
    if ask.begin:
        training.begin(ask.begin)
    training.resume()
    if ask.export:
        training.export(ask.export)
    else:
        training.train()
