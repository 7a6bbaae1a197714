"""Learn what `--pack entropy` knows of a codec's codes before it has read any (docs/token-file.md).

    python recipes/entropy_priors.py codes CODES.npz CLIPS_DIR [--passes 2]    encode the clips
    python recipes/entropy_priors.py train CODES.npz PRIOR.npz [--epochs 4]    learn, round, write

CLIPS_DIR is what `recipes/clips.py` made: the audio that the codec itself was trained on. The first
pass encodes every clip as it is, each further one at a random level. The model is log-bilinear: the
score of a code is its own bias plus the product of its vector with a linear function of the vectors
of the two frames before and of the codebooks before it in this frame. It is trained in floating
point, then rounded to the small integers that coder and decoder compute with; the last line of the
output says what the rounding costs on the clips held out for validation. A prior belongs to the
weights that made the codes: other weights, another prior, beside the old one as long as there are
files that were written with that. Priors are `alm_cli/assets/priors/CODEC.npz`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.systems.codec import load_codec
from alm_cli.values import Audio

CLASSES = ("libri", "libri_fast", "libri_slow", "kerstin", "rooms", "synth", "music", "sounds")
LENGTH, ROWS = 64, 8  # frames of a training sequence, and sequences of a step
# What the codes of a frame say to the next frames, and to one another, has so many dimensions.
CONTEXT, VECTOR = 16, 8
# Fixed points of the published integers: vectors 2^6, matrices 2^10, biases 2^3 to an octave.
VECTORS, MATRICES, BIASES = 64, 1024, 8


def encode_clips(folder: Path, suffix: str, passes: int) -> Iterator[tuple[str, NDArray[np.int16]]]:
    """Codes [K, F] of every clip, at its own level and then at random ones."""
    codec, rng = load_codec(device="cpu"), np.random.default_rng(len(suffix))
    for name in CLASSES:
        index = folder / f"{name}{suffix}.json"
        if not index.exists():
            continue
        wave = np.memmap(index.with_suffix(".i16"), np.dtype("<i2"), "r")
        for number in range(passes):
            for start, length, _ in json.loads(index.read_text(encoding="utf-8")):
                gain = 10 ** (rng.uniform(-14, 6) / 20) if number else 1.0
                clip = wave[start : start + length] * (gain / 32768)
                samples = np.clip(clip, -1, 1).astype(np.float32)
                yield name, codec.encode(Audio(samples[None], codec.rate)).codes[0].astype(np.int16)
        print(name + suffix, flush=True)


def make_codes(target: Path, folder: Path, passes: int) -> None:
    """Write all codes [F, K], the clip that each frame is of, and the same for validation."""
    found = {}
    for part, suffix, times in (("train", "", passes), ("valid", "_valid", 1)):
        rows = [codes.T for _, codes in encode_clips(folder, suffix, times)]
        found[part] = np.concatenate(rows)
        found[f"{part}_clip"] = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    np.savez_compressed(target, **found)


class Prior(nn.Module):
    """codes [B, T, K] -> nats [B, T, K] that each costs, given those before it."""

    def __init__(self, codebooks: int, vocabulary: int) -> None:
        super().__init__()

        def table(*shape: int, scale: float = 0.1) -> nn.Parameter:
            return nn.Parameter(scale * torch.randn(shape))

        self.bias = table(codebooks, vocabulary, scale=0.0)
        self.vector = table(codebooks, vocabulary, VECTOR, scale=0.3)
        self.told = table(codebooks, VECTOR, CONTEXT)  # to the next frames
        self.shown = table(codebooks, VECTOR, CONTEXT)  # to the codebooks after it
        self.heard = table(codebooks, 3 * CONTEXT, VECTOR)
        self.always = table(codebooks, VECTOR, scale=0.0)

    def forward(self, codes: Tensor, clip: Tensor, books: Tensor) -> Tensor:
        """codes [B, T, K], clip [B, T], books [B]: of so many the contexts know."""
        count = self.bias.shape[0]
        own = self.vector[torch.arange(count), codes]
        own = own * (torch.arange(count) < books[:, None])[:, None, :, None]
        frame = torch.einsum("btkd,kdc->btc", own, self.told)
        one, two = (_later(frame, clip, lag) for lag in (1, 2))
        shown = torch.einsum("btkd,kdc->btkc", own, self.shown)
        before = shown.cumsum(2) - shown
        past = torch.cat([one, two], -1)[:, :, None].expand(-1, -1, count, -1)
        asked = torch.einsum("btkc,kcd->kbtd", torch.cat([past, before], -1), self.heard)
        asked = asked.flatten(1, 2) + self.always[:, None]
        costs = [
            F.cross_entropy(
                torch.addmm(self.bias[k], asked[k], self.vector[k].T),
                codes[..., k].flatten(),
                reduction="none",
            )
            for k in range(count)
        ]
        return torch.stack(costs, -1).view(codes.shape)

    @torch.no_grad()
    def limit(self) -> None:
        """Keep what will be rounded within its integers."""
        self.vector.clamp_(-126 / VECTORS, 126 / VECTORS)


def _later(frames: Tensor, clip: Tensor, lag: int) -> Tensor:
    """frames [B, T, C] -> those `lag` earlier, zeros where another clip was."""
    moved = F.pad(frames, (0, 0, lag, 0))[:, : frames.shape[1]]
    same = F.pad(clip, (lag, 0), value=-1)[:, : clip.shape[1]] == clip
    return moved * same[..., None]


def learn(codes: Tensor, clip: Tensor, epochs: float, seed: int) -> Prior:
    """Train on codes [F, K]: Adam, one cosine."""
    torch.manual_seed(seed)
    count, vocabulary = codes.shape[1], int(codes.max()) + 1
    model = Prior(count, vocabulary)
    for k in range(count):
        model.bias.data[k] = (torch.bincount(codes[:, k], minlength=vocabulary) + 1.0).log()
    model.bias.data -= model.bias.data.logsumexp(1, keepdim=True)
    steps, peak = int(epochs * len(codes) / LENGTH / ROWS), 8e-3
    optimizer = torch.optim.Adam(model.parameters(), lr=peak)
    began = time.monotonic()
    for step in range(steps):
        rate = peak * min(1, step / 100) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate + 2e-5
        at = torch.randint(0, len(codes) - LENGTH, (ROWS, 1)) + torch.arange(LENGTH)
        # Files keep any number of codebooks, and their contexts are of those.
        books = torch.randint(1, count + 1, (ROWS,))
        books[ROWS // 2 :] = count
        known = torch.arange(count) < books[:, None, None]
        costs = model(codes[at], clip[at], books)
        loss = (costs * known).sum() / (LENGTH * ROWS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.limit()
        if step % 200 == 199:
            bits = (costs * known).sum() / known.expand_as(costs).sum() / math.log(2)
            print(f"{step + 1}/{steps} {bits:.4f} {time.monotonic() - began:.0f} s", flush=True)
    return model


@torch.no_grad()
def cost(model: Prior, codes: Tensor, clip: Tensor, books: int) -> float:
    """Bits a code of the first `books` codebooks, clip by clip."""
    total = 0.0
    for number in clip.unique():
        rows = codes[clip == number]
        whole = torch.zeros(1, len(rows))
        costs = model(rows[None], whole, torch.tensor([books]))
        total += float(costs[..., :books].sum())
    return total / math.log(2) / len(codes) / books


@torch.no_grad()
def rounded(model: Prior) -> dict[str, NDArray[np.integer]]:
    """The integers of the asset; the model is given their values."""
    octaves = 1 / math.log(2)
    bias = model.bias - model.bias.max(1, keepdim=True).values
    found = {
        "bias": (bias * octaves * BIASES).round().clamp(-127, 0),
        "vector": (model.vector * VECTORS).round().clamp(-127, 127),
        "told": (model.told * MATRICES).round(),
        "shown": (model.shown * MATRICES).round(),
        "heard": (model.heard * octaves * MATRICES).round(),
        "always": (model.always * octaves * MATRICES).round(),
    }
    model.bias.copy_(found["bias"] / octaves / BIASES)
    model.vector.copy_(found["vector"] / VECTORS)
    model.told.copy_(found["told"] / MATRICES)
    model.shown.copy_(found["shown"] / MATRICES)
    model.heard.copy_(found["heard"] / octaves / MATRICES)
    model.always.copy_(found["always"] / octaves / MATRICES)
    small = {"bias", "vector"}
    made = {name: table.numpy() for name, table in found.items()}
    assert all(abs(table).max() < 1 << 15 for table in made.values())
    return {name: made[name].astype("i1" if name in small else "<i2") for name in made}


def make_prior(source: Path, target: Path, epochs: float, seed: int) -> None:
    """Learn from the codes of `source` and write the integers."""
    data = {
        name: torch.from_numpy(array.astype(np.int64)) for name, array in np.load(source).items()
    }
    model = learn(data["train"], data["train_clip"], epochs, seed)
    valid, clip = data["valid"], data["valid_clip"]
    books = (12, 24, valid.shape[1])
    before = [cost(model, valid, clip, count) for count in books]
    tables = rounded(model)
    np.savez_compressed(target, **tables)
    after = [cost(model, valid, clip, count) for count in books]
    size = target.stat().st_size
    print(f"{books} codebooks: {before} bits a code, rounded {after}; {size} bytes", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    codes = commands.add_parser("codes")
    codes.add_argument("target", type=Path)
    codes.add_argument("clips", type=Path)
    codes.add_argument("--passes", type=int, default=2)
    train = commands.add_parser("train")
    train.add_argument("source", type=Path)
    train.add_argument("target", type=Path)
    train.add_argument("--epochs", type=float, default=4.0)
    train.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.command == "codes":
        make_codes(asked.target, asked.clips, asked.passes)
    else:
        make_prior(asked.source, asked.target, asked.epochs, asked.seed)


if __name__ == "__main__":
    sys.exit(main())
