"""Train alm-codec, the codec that ships in the package (see recipes/README.md for the commands).

Data comes from `recipes/clips.py`. Every stage is seeded and resumable: the whole state is saved to
the run folder every few minutes, and the same command continues.

    python recipes/codec.py RUN_DIR CLIPS_DIR                     train; again: continue
    python recipes/codec.py RUN_DIR CLIPS_DIR --export FOLDER     write the checkpoint
    python recipes/codec.py RUN_DIR PARTS_DIR --music             alm-codec-music, on the parts that
                                                                  `recipes/alm_music_data.py` makes

It begins as a transform codec (principal components of log-spectra, k-means in their space) and
learns to be a better one: networks on both sides add to the linear transform, while the codebooks
follow as moving averages. For the last fifth the decoder learns alone: encoder (averaged) and then
codebooks stand still.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from alm_cli.codecs.alm_codec import AlmCodec, AlmCodecConfig
from recipes.losses import SpectralLoss

# Share of the crops by class of clips; real speech is what the bars measure.
MIX = {
    "libri": 0.26, "libri_fast": 0.10, "libri_slow": 0.10, "kerstin": 0.16, "rooms": 0.06,
    "synth": 0.09, "music": 0.15, "sounds": 0.08,
}  # fmt: skip
# Chords need a window twice as long: in 40 ms the tones of a third are one.
MUSIC = AlmCodecConfig(
    delay=1440, synthesis_hop=480, window=1920, codebooks=8, latent=96,
    encoder_depth=3, encoder_width=128, context_width=224, decoder_depth=4, decoder_width=224,
)  # fmt: skip
ENCODER = ("enter", "encoder", "gather", "context", "bottleneck")


class Clips:
    """Random crops of the memory-mapped clips."""

    def __init__(self, files: Mapping[Path, float]) -> None:
        found = {path: weight for path, weight in files.items() if path.exists()}
        self.waves = [np.memmap(path, np.dtype("<i2"), "r") for path in found]
        self.weights = np.array([*found.values()]) / sum(found.values())

    def batch(self, rng: np.random.Generator, size: int, samples: int) -> Tensor:
        """Crops [B, T] float32 with random gain and polarity."""
        rows = []
        for index in rng.choice(len(self.waves), size=size, p=self.weights):
            start = int(rng.integers(0, len(self.waves[index]) - samples))
            rows.append(np.asarray(self.waves[index][start : start + samples], dtype=np.float32))
        # Mostly natural levels, sometimes far quieter.
        decibels = np.minimum(rng.normal(-6, 8, size=(size, 1)), 0)
        gain = rng.choice([-1.0, 1.0], size=(size, 1)) * 10 ** (decibels / 20) / 32768
        return torch.from_numpy((np.stack(rows) * gain).astype(np.float32))


def clips_of(folder: Path, *, music: bool) -> tuple[Clips, Clips]:
    """What is learnt from, and what validates."""
    if music:
        first, *rest = sorted(folder.glob("part_*.i16"))
        return Clips(dict.fromkeys(rest, 1.0)), Clips({first: 1.0})
    learnt, valid = (
        {folder / f"{name}{suffix}.i16": weight for name, weight in MIX.items()}
        for suffix in ("", "_valid")
    )
    return Clips(learnt), Clips(valid)


class Quantizer:
    """Training of the codebooks from outside: nearest rows, moving averages, revival (EMA VQ)."""

    def __init__(self, model: AlmCodec, decay: float = 0.99) -> None:
        self.books = [book.vectors for book in model.quantizer.codebooks]
        self.decay = decay
        self.counts = [torch.ones(len(book)) for book in self.books]
        self.sums = [book.clone() for book in self.books]

    def state(self) -> dict[str, list[Tensor]]:
        return {"counts": self.counts, "sums": self.sums}

    def restore(self, state: dict[str, list[Tensor]]) -> None:
        self.counts, self.sums = state["counts"], state["sums"]

    @torch.no_grad()
    def start(self, vectors: Tensor, rounds: int = 8) -> None:
        """k-means on residuals [N, D], book after book."""
        residual = vectors.float().clone()
        for k, book in enumerate(self.books):
            book.copy_(residual[torch.randperm(len(residual))[: len(book)]])
            for _ in range(rounds):
                nearest = self._nearest(residual, book)
                counts, sums = self._gather(residual, nearest, len(book))
                alive = counts > 0
                book[alive] = sums[alive] / counts[alive, None]
                book[~alive] = residual[torch.randint(len(residual), (int((~alive).sum()),))]
            nearest = self._nearest(residual, book)
            self.counts[k], self.sums[k] = self._gather(residual, nearest, len(book))
            scale = 64 * 1024 / len(residual)
            self.counts[k] = (self.counts[k] * scale).clamp(min=1e-3)
            self.sums[k] = book * self.counts[k][:, None]
            residual -= book[nearest]

    @torch.no_grad()
    def quantize(self, vectors: Tensor, depth: Tensor, learn: bool) -> Tensor:
        """vectors [N, D], books to keep per row [N] -> quantised rows [N, D]."""
        residual = vectors.float().clone()
        total = torch.zeros_like(residual)
        for k, book in enumerate(self.books):
            nearest = self._nearest(residual, book)
            chosen = book[nearest]
            total += chosen * (depth > k)[:, None]
            if learn:
                self._update(k, residual, nearest)
            residual -= chosen
        return total

    @staticmethod
    def _nearest(x: Tensor, book: Tensor) -> Tensor:
        return torch.addmm(book.square().sum(1), x, book.t(), alpha=-2).argmin(1)

    @staticmethod
    def _gather(x: Tensor, nearest: Tensor, size: int) -> tuple[Tensor, Tensor]:
        counts = torch.bincount(nearest, minlength=size).float()
        return counts, torch.zeros(size, x.shape[1]).index_add_(0, nearest, x)

    def _update(self, k: int, residual: Tensor, nearest: Tensor) -> None:
        book = self.books[k]
        counts, sums = self._gather(residual, nearest, len(book))
        self.counts[k].lerp_(counts, 1 - self.decay)
        self.sums[k].lerp_(sums, 1 - self.decay)
        expected = len(residual) / len(book)
        dead = self.counts[k] < 0.1 * expected
        alive = ~dead
        book[alive] = self.sums[k][alive] / self.counts[k][alive, None]
        if dead.any():
            # A rarely used row starts again from a random residual of this batch.
            rows = torch.nonzero(dead)[:, 0]
            rows = rows[torch.randperm(len(rows))[: max(1, len(residual) // 16)]]
            book[rows] = residual[torch.randint(len(residual), (len(rows),))]
            self.counts[k][rows] = expected
            self.sums[k][rows] = book[rows] * expected


def learning_rate(step: int, steps: int, warmup: int = 200, tail: float = 0.4) -> float:
    """Factor: linear warm-up, constant, then linear to zero over the last `tail` of the steps."""
    return min(1.0, (step + 1) / warmup, max(0.0, (steps - step) / (tail * steps)))


def depths(rng: np.random.Generator, size: int, books: int, common: tuple[int, ...]) -> Tensor:
    """How many books each crop may use: the rates people ask for, and any other prefix."""
    any_depth = rng.integers(1, books + 1, size=size)
    usual = rng.choice(np.array(common), size=size)
    return torch.from_numpy(np.where(rng.random(size) < 0.7, usual, any_depth))


class Trainer:
    """One run: model, averaged model, optimisers, data and their saved state."""

    def __init__(self, run: Path, clips: Path, config: AlmCodecConfig, ask: argparse.Namespace):
        torch.manual_seed(ask.seed)
        self.run, self.ask, self.step = run, ask, 0
        self.rng = np.random.default_rng(ask.seed)
        self.model = AlmCodec(config)
        self.average = AlmCodec(config).requires_grad_(False)
        self.average.load_state_dict(self.model.state_dict())
        self.quantizer = Quantizer(self.model)
        self.objective = SpectralLoss(config.window, config.rate)
        self.clips, self.valid = clips_of(clips, music=ask.music)
        for layer in self.model.project, self.model.renderer.recall:
            layer.requires_grad_(False)  # the transform stays what `start` found
        self.optimizer = torch.optim.Adam(self.model.parameters(), ask.lr, betas=(0.9, 0.99))

    def forward(self, spectra: Tensor, learn: bool, depth: Tensor) -> tuple[Tensor, Tensor]:
        """spectra [B, F, bins], books to keep [B] -> rendered spectra, commitment loss."""
        latents = self.model.latents_of(spectra)
        rows = latents.mT.reshape(-1, latents.shape[1])
        wanted = self.quantizer.quantize(rows, depth.repeat_interleave(latents.shape[2]), learn)
        commitment = (rows - wanted).square().sum(1).mean() / latents.shape[1]
        wanted = wanted.view(len(latents), -1, latents.shape[1]).mT
        latents = latents + (wanted - latents).detach()
        return self.model.renderer.magnitudes(latents), commitment

    def compare(self, made: Tensor, spectra: Tensor) -> dict[str, Tensor]:
        """Distances of the delayed output and the input, both [B, F, bins]."""
        config = self.model.config
        # Output frame j starts `delay` samples after its signal, input frame i ends one hop later.
        late = (config.delay - config.window) // config.synthesis_hop + 1
        return self.objective(made[:, late:], spectra[:, : spectra.shape[1] - late])

    def batch(self, clips: Clips, rng: np.random.Generator) -> Tensor:
        samples = round(self.ask.seconds * self.model.rate / self.model.hop) * self.model.hop
        return clips.batch(rng, self.ask.batch, samples)

    def train_step(self) -> dict[str, float]:
        ask = self.ask
        factor = learning_rate(self.step, ask.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = ask.lr * factor
        if self.step == 0:
            self.start()
        done = self.step / ask.steps
        if done >= 0.8 and self.model.enter.weight.requires_grad:
            self.freeze_encoder()
        with torch.no_grad():
            spectra = self.model.analysis(self.batch(self.clips, self.rng))
        depth = depths(self.rng, ask.batch, len(self.quantizer.books), self.common())
        made, commitment = self.forward(spectra, learn=done < 0.9, depth=depth)
        found = self.compare(made, spectra)
        loss = sum(found.values()) + ask.commit * commitment
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        decay = min(0.999, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            live = self.model.parameters()
            for ours, theirs in zip(self.average.parameters(), live, strict=True):
                ours.lerp_(theirs, 1 - decay)
        self.step += 1
        found |= {"commit": commitment, "norm": norm}
        return {name: float(value.detach()) for name, value in found.items()}

    def freeze_encoder(self) -> None:
        """From now on the tokens are what the averaged encoder says."""
        averaged = dict(self.average.named_parameters())
        for name, parameter in self.model.named_parameters():
            if name.split(".")[0] in ENCODER:
                parameter.data.copy_(averaged[name])
                parameter.requires_grad_(False)

    def common(self) -> tuple[int, ...]:
        """Books for 1.5, 3, 3, 6 and 8 kbps."""
        per_kbps = 1000 / (10 * self.model.rate / self.model.hop)
        books = len(self.quantizer.books)
        return tuple(min(books, max(1, int(kbps * per_kbps))) for kbps in (1.5, 3, 3, 6, 8))

    @torch.no_grad()
    def start(self) -> None:
        """Begin as a transform codec: principal components, k-means, networks that add nothing."""
        model = self.model
        batches = [model.analysis(self.batch(self.clips, self.rng)) for _ in range(100)]
        spectra = torch.cat(batches).flatten(0, 1)
        scale = self.objective.weights.sqrt().repeat(model.project.in_features // len(spectra[0]))
        rows = spectra.view(-1, len(scale)) * scale
        mean = rows.mean(0)
        energy, axes = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
        axes = axes[:, -model.config.latent :].flip(1)
        unit = energy[-model.config.latent :].mean().sqrt()
        model.project.weight.copy_(axes.T * scale / unit)
        model.project.bias.copy_(-(axes.T @ mean) / unit)
        model.renderer.recall.weight.copy_(axes * unit / scale[:, None])
        model.renderer.recall.bias.copy_(mean / scale)
        for layer in model.bottleneck, model.renderer.leave:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.quantizer.start((rows - mean) @ axes / unit)
        self.average.load_state_dict(model.state_dict())

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Losses and code entropy of the averaged weights on held-out clips at about 3 kbps."""
        rng = np.random.default_rng(1)
        model, found = self.average, []
        for ours, theirs in zip(model.buffers(), self.model.buffers(), strict=True):
            ours.copy_(theirs)
        kept, codes = self.common()[1], []
        for _ in range(8):
            spectra = model.analysis(self.batch(self.valid, rng))
            latents = model.latents_of(spectra)
            found_codes = model.quantizer.encode(latents)
            codes.append(found_codes.transpose(0, 1).flatten(1))
            made = model.renderer.magnitudes(model.quantizer.decode(found_codes[:, :kept]))
            found.append({k: float(v) for k, v in self.compare(made, spectra).items()})
        used = [torch.bincount(book, minlength=1024).float() for book in torch.cat(codes, 1)]
        shares = [count / count.sum() for count in used]
        bits = [float(-(p[p > 0] * p[p > 0].log2()).sum()) for p in shares]
        means = {f"valid_{k}": float(np.mean([row[k] for row in found])) for k in found[0]}
        return means | {"bits": min(bits)}

    def save(self) -> None:
        state = {
            "step": self.step, "model": self.model.state_dict(),
            "average": self.average.state_dict(), "quantizer": self.quantizer.state(),
            "optimizer": self.optimizer.state_dict(),
            "rng": json.dumps(self.rng.bit_generator.state), "torch_rng": torch.get_rng_state(),
            "config": asdict(self.model.config),
        }  # fmt: skip
        partial = self.run / "state.pt.partial"
        torch.save(state, partial)
        partial.replace(self.run / "state.pt")

    def resume(self) -> None:
        path = self.run / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.quantizer.restore(state["quantizer"])
        self.step = state["step"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.bit_generator.state = json.loads(state["rng"])
        torch.set_rng_state(state["torch_rng"])

    def export(self, folder: Path) -> None:
        """Write the averaged weights in half precision, as the package ships them."""
        folder.mkdir(parents=True, exist_ok=True)
        for ours, theirs in zip(self.average.buffers(), self.model.buffers(), strict=True):
            ours.copy_(theirs)
        weights = {k: v.half().contiguous() for k, v in self.average.state_dict().items()}
        save_file(weights, folder / "model.safetensors")
        (folder / "model.safetensors").chmod(0o644)  # it is written for its owner alone
        settings = {"model_type": "alm_codec", **asdict(self.model.config)}
        (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")

    def log(self, row: dict[str, float | int]) -> None:
        line = json.dumps({k: round(v, 4) for k, v in row.items()})
        with (self.run / "log.jsonl").open("a") as handle:
            handle.write(line + "\n")
        sys.stderr.write(line + "\n")

    def train(self) -> None:
        saved, logged, began, totals = time.monotonic(), self.step, time.monotonic(), {}
        while self.step < self.ask.steps:
            row = self.train_step()
            totals = {k: totals.get(k, 0.0) + v for k, v in row.items()}
            if self.step % self.ask.log == 0:
                count = self.step - logged
                means = {k: v / count for k, v in totals.items()}
                speed = count / (time.monotonic() - began)
                extra = self.validate() if self.step % (5 * self.ask.log) == 0 else {}
                self.log({"step": self.step, **means, "steps_per_s": speed, **extra})
                logged, began, totals = self.step, time.monotonic(), {}
            if time.monotonic() - saved > 180:
                self.save()
                saved = time.monotonic()
        self.save()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--steps", type=int, default=2800)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=1.28)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--commit", type=float, default=0.5)
    parser.add_argument("--log", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frame-rate", type=int, choices=(25, 50), default=25)
    parser.add_argument("--music", action="store_true", help="train alm-codec-music")
    parser.add_argument("--export", type=Path, help="write the checkpoint here and stop")
    ask = parser.parse_args()
    ask.run.mkdir(parents=True, exist_ok=True)
    config = MUSIC if ask.music else AlmCodecConfig()
    if ask.frame_rate == 50:
        config = replace(config, group=1, codebooks=16, latent=64)
    trainer = Trainer(ask.run, ask.clips, config, ask)
    trainer.resume()
    if ask.export:
        trainer.export(ask.export)
    else:
        trainer.train()


if __name__ == "__main__":
    main()
