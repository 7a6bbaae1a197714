"""Train a small SoundStream at 16 kHz (arXiv:2107.03312) on the clips of `recipes/clips.py`.

    python recipes/soundstream.py RUN_DIR CLIPS_DIR                    train; again: continue
    python recipes/soundstream.py RUN_DIR CLIPS_DIR --export FOLDER    write the checkpoint

The loss compares mel spectrograms at six resolutions, as the paper's does; `--critic` adds its
discriminator of complex spectra from that step on. At first it learns without codebooks; those
start as k-means of latents and follow as moving averages. Every crop is decoded from a random
number of them, so that any first few of them decode. Everything is seeded, and the whole state is
saved every few minutes: the same command continues a run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.functional import resample

from alm_cli.codecs.soundstream import SoundStream, SoundStreamConfig
from alm_cli.nn.quantize import as_table
from recipes.clips import RATE as CLIPS_RATE
from recipes.codec import Clips, Quantizer, learning_rate
from recipes.losses import mel_filters

CONFIG = {
    "rate": 16_000, "width": 16, "features": 128, "ratios": [2, 4, 5, 8], "codebooks": 8,
    "vocabulary": 1024, "padding": "zeros",
}  # fmt: skip
WINDOWS = (64, 128, 256, 512, 1024, 2048)


def magnitudes(wave: Tensor, size: int) -> Tensor:
    """wave [B, T] -> magnitudes [B, F, bins]."""
    window = torch.hann_window(size, device=wave.device)
    spectra = torch.stft(wave, size, size // 4, window=window, return_complex=True)
    # The small number keeps the gradient finite where a bin is zero.
    return (spectra.real.square() + spectra.imag.square() + 1e-8).sqrt().mT


class MelLoss(nn.Module):
    """Distances of mel spectra and of their logarithms, over all windows of the paper."""

    def __init__(self, rate: int) -> None:
        super().__init__()
        for size in WINDOWS:
            # As many bands as the bins resolve, or some would be empty.
            bands = min(64, size // 8)
            self.register_buffer(f"filters{size}", mel_filters(bands, size, rate))

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        total = made.new_zeros(())
        for size in WINDOWS:
            filters = self.get_buffer(f"filters{size}")
            ours, theirs = (magnitudes(wave, size) @ filters for wave in (made, wanted))
            logs = (ours + 1e-3).log() - (theirs + 1e-3).log()
            total = total + (ours - theirs).abs().mean() / size**0.5 + logs.abs().mean()
        return total / len(WINDOWS)


class Critic(nn.Module):
    """Judges complex spectra [B, 2, F, bins] patch by patch; its features are compared as well."""

    def __init__(self, width: int = 16, size: int = 512) -> None:
        super().__init__()
        self.size = size
        widths = (2, *(width * 2 ** min(layer, 2) for layer in range(4)))
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, (3, 8), (1, 4), (1, 2)) for a, b in pairwise(widths)
        )
        self.judge = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        window = torch.hann_window(self.size, device=wave.device)
        spectra = torch.stft(wave, self.size, self.size // 4, window=window, return_complex=True)
        x, features = torch.view_as_real(spectra).permute(0, 3, 2, 1) / self.size**0.5, []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.judge(x), features


class Trainer:
    """One run: model, critic, codebooks, optimisers, data and their saved state."""

    def __init__(self, ask: argparse.Namespace) -> None:
        torch.manual_seed(ask.seed)
        self.ask, self.step, self.run = ask, 0, ask.run
        self.rng = np.random.default_rng(ask.seed)
        config = SoundStreamConfig.from_hub(CONFIG)
        self.model, self.critic, self.mels = SoundStream(config), Critic(), MelLoss(config.rate)
        self.books = Quantizer(self.model, decay=0.98)
        self.clips, self.valid = Clips(ask.clips), Clips(ask.clips, "_valid")
        self.optimizer = torch.optim.Adam(self.model.parameters(), ask.lr, betas=(0.8, 0.99))
        self.judging = torch.optim.Adam(self.critic.parameters(), ask.lr / 2, betas=(0.8, 0.99))

    def batch(self, clips: Clips, rng: np.random.Generator) -> Tensor:
        """Crops [B, T] of whole frames."""
        frames = round(self.ask.seconds * self.model.rate / self.model.hop)
        length = frames * self.model.hop
        wave = clips.batch(rng, self.ask.batch, length * CLIPS_RATE // self.model.rate)
        return resample(wave, CLIPS_RATE, self.model.rate)[:, :length]

    def train_step(self) -> dict[str, float]:
        if self.step == self.ask.plain:
            self.start()
        wave = self.batch(self.clips, self.rng)
        latents = self.model.encoder(wave[:, None])
        coded, commitment = self.coded(latents) if self.step >= self.ask.plain else (latents, None)
        made = self.model.decoder(coded)[:, 0]
        terms = {"mel": self.mels(made, wave)}
        if commitment is not None:
            terms["commit"] = self.ask.commit * commitment
        if self.ask.critic is not None and self.step >= self.ask.critic:
            terms |= self.judged(made, wave)
        for group in self.optimizer.param_groups:
            group["lr"] = self.ask.lr * learning_rate(self.step, self.ask.steps, warmup=50)
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        self.step += 1
        return {name: float(value.detach()) for name, value in (terms | {"norm": norm}).items()}

    def coded(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """latents [B, D, F] -> what the decoder reads instead, and how far that is."""
        depth = self.rng.integers(1, len(self.books.books) + 1, len(latents))
        depth = torch.from_numpy(depth).repeat_interleave(latents.shape[2])
        wanted = self.books.quantize(rows(latents), depth, learn=True)
        wanted = wanted.view(len(latents), -1, latents.shape[1]).mT
        # Gradients pass to the encoder as if the rows of the codebooks were its latents.
        return latents + (wanted - latents).detach(), (latents - wanted).square().mean()

    @torch.no_grad()
    def start(self) -> None:
        """Codebooks of what the encoder makes by now, as heavy as the crops of one step."""
        crops = (self.batch(self.clips, self.rng) for _ in range(self.ask.first))
        found = torch.cat([rows(self.model.encoder(crop[:, None])) for crop in crops])
        self.books.start(found)
        for counts, sums in zip(self.books.counts, self.books.sums, strict=True):
            factor = len(found) / self.ask.first / counts.sum()
            counts *= factor
            sums *= factor

    def judged(self, made: Tensor, wave: Tensor) -> dict[str, Tensor]:
        """A step of the critic (hinge), and what it then says of the model."""
        real, fake = self.critic(wave)[0], self.critic(made.detach())[0]
        loss = (1 - real).relu().mean() + (1 + fake).relu().mean()
        self.judging.zero_grad(set_to_none=True)
        loss.backward()
        self.judging.step()
        with torch.no_grad():
            wanted = self.critic(wave)[1]
        verdict, features = self.critic(made)
        pairs = zip(features, wanted, strict=True)
        like = torch.stack([(a - b).abs().mean() / b.abs().mean() for a, b in pairs]).mean()
        return {"critic": -0.1 * verdict.mean(), "features": like}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The loss with all books on held-out clips, and the least bits that a book spends."""
        if self.step <= self.ask.plain:
            return {}
        self.store_books()
        rng, losses, codes = np.random.default_rng(1), [], []
        for _ in range(4):
            wave = self.batch(self.valid, rng)
            found = self.model.quantizer.encode(self.model.encoder(wave[:, None]))
            made = self.model.decoder(self.model.quantizer.decode(found))[:, 0]
            losses.append(float(self.mels(made, wave)))
            codes.append(found.transpose(0, 1).flatten(1))
        counts = [torch.bincount(book).float() for book in torch.cat(codes, 1)]
        shares = [(count / count.sum())[count > 0] for count in counts]
        bits = min(float(-(share * share.log2()).sum()) for share in shares)
        return {"valid_mel": float(np.mean(losses)), "bits": bits}

    def store_books(self) -> None:
        """Give the search of the model the codebooks as they are now."""
        for book in self.model.quantizer.codebooks:
            book.table.copy_(as_table(book.vectors))

    def train(self) -> None:
        began, logged, totals = time.monotonic(), self.step, {}
        saved = began
        while self.step < self.ask.steps:
            for name, value in self.train_step().items():
                totals[name] = totals.get(name, 0.0) + value
            if self.step % self.ask.log == 0 or self.step == self.ask.steps:
                count = self.step - logged
                row = {name: value / count for name, value in totals.items()}
                speed = count / (time.monotonic() - began)
                self.log({"step": self.step, **row, "steps_per_s": speed, **self.validate()})
                began, logged, totals = time.monotonic(), self.step, {}
            if time.monotonic() - saved > 180:
                self.save()
                saved = time.monotonic()
        self.save()

    def log(self, row: dict[str, float]) -> None:
        line = json.dumps({name: round(value, 4) for name, value in row.items()})
        with (self.run / "log.jsonl").open("a") as handle:
            handle.write(line + "\n")
        sys.stderr.write(line + "\n")

    def save(self) -> None:
        state = {
            "step": self.step, "model": self.model.state_dict(), "books": self.books.state(),
            "critic": self.critic.state_dict(), "optimizer": self.optimizer.state_dict(),
            "judging": self.judging.state_dict(), "torch_rng": torch.get_rng_state(),
            "rng": json.dumps(self.rng.bit_generator.state),
        }  # fmt: skip
        partial = self.run / "state.pt.partial"
        torch.save(state, partial)
        partial.replace(self.run / "state.pt")

    def resume(self) -> None:
        path = self.run / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.critic.load_state_dict(state["critic"])
        self.books.restore(state["books"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.judging.load_state_dict(state["judging"])
        torch.set_rng_state(state["torch_rng"])
        self.rng.bit_generator.state = json.loads(state["rng"])

    def export(self, folder: Path) -> None:
        """Write weights in half precision, codebooks as vectors, and the settings."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = self.model.state_dict()
        for name in [name for name in weights if name.endswith(".table")]:
            weights[name.replace(".table", ".vectors")] = weights.pop(name)[:, :-2]
        halves = {name: tensor.half().contiguous() for name, tensor in weights.items()}
        save_file(halves, folder / "model.safetensors")
        (folder / "model.safetensors").chmod(0o644)  # it is written for its owner alone
        settings = {"model_type": "soundstream", **CONFIG}
        (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")


def rows(latents: Tensor) -> Tensor:
    """latents [B, D, F] -> [B * F, D]."""
    return latents.mT.reshape(-1, latents.shape[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.8)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--commit", type=float, default=0.25)
    parser.add_argument("--plain", type=int, default=1000, help="steps without codebooks")
    parser.add_argument("--first", type=int, default=64, help="batches that start the codebooks")
    parser.add_argument("--critic", type=int, help="the step from which a critic judges")
    parser.add_argument("--log", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", type=Path, help="write the checkpoint here and stop")
    ask = parser.parse_args()
    ask.run.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(ask)
    trainer.resume()
    if ask.export:
        trainer.export(ask.export)
    else:
        trainer.train()


if __name__ == "__main__":
    main()
