"""Train alm-music, the composer that ships in the package (see recipes/README.md).

Data comes from `recipes/alm_music_data.py`. Seeded and resumable: the whole state is saved to the
run folder every few minutes, and the same command continues; a greater --minutes or --steps goes
on with what is there.

    python -m recipes.alm_music RUN_DIR DATA_DIR --minutes 60       train; again: continue
    python -m recipes.alm_music RUN_DIR DATA_DIR --export FOLDER    write the checkpoint
    python -m recipes.alm_music RUN_DIR DATA_DIR --plain            the baseline: tags, no score

The baseline is what MusicGen does, at this size: the words of a prompt, as tags, and nothing else.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.decoding.delays import delay
from alm_cli.lm.alm_music import AlmMusic, AlmMusicConfig, Events
from alm_cli.music.genres import GENRES, MOODS
from alm_cli.music.score import MODES, NAMES, Note, Tags
from recipes.alm_music_data import CODEC, tags_of
from recipes.renderers import book_losses, disturbed, started, weighed
from recipes.training import Training, options, run

# The first codebooks decide what is heard. Of those after the fourth so little can be foretold that
# drawing them is noise, and worse than to leave them out.
WEIGHTS = (1.5, 1.3, 1.1, 1.0)
WINDOW = 250  # frames of a piece that a step learns from
# Codes of the past that are others than they were, by book, and frames of it that are unknown: the
# score says what is to be heard, and no error shall be gone on with.
SPOILT, GONE = (0.08, 0.15, 0.25, 0.35), 0.12
UNTOLD = 0.08  # of them, whose notes are not told at all: what guidance leads away from
CLIP, CLIP_FRAMES = 0.15, (20, 75)  # that begin with a recording whose notes are not told


@dataclass(frozen=True)
class Piece:
    """A piece of the data: what it is, its notes as numbers, the room, and codes [K, F]."""

    tags: Tags
    events: Events
    room: int
    codes: np.ndarray


class Pieces:
    """The pieces of the parts that are there."""

    def __init__(self, folder: Path, model: AlmMusic) -> None:
        self.folder, self.model = folder, model
        self.known: dict[Path, list[Piece]] = {}
        self.look()

    def look(self) -> None:
        """Read the parts that have come since."""
        for path in sorted(self.folder.glob("part_*.npz")):
            if path not in self.known and path.with_suffix(".codes").exists():
                self.known[path] = list(self._read(path))
        self.rows = [piece for pieces in self.known.values() for piece in pieces]

    def _read(self, path: Path) -> Iterator[Piece]:
        data = dict(np.load(path)) | dict(np.load(path.with_suffix(".codes")))
        notes, frames = np.r_[0, data["sizes"].cumsum()], np.r_[0, data["frames"].cumsum()]
        columns = ("starts", "pitches", "lengths", "velocities", "instruments")
        for n, tags in enumerate(data["tags"]):
            inside = slice(notes[n], notes[n + 1])
            own = zip(*(data[name][inside].tolist() for name in columns), strict=True)
            events = self.model.events([Note(*values) for values in own])
            codes = data["codes"][: self.model.books, frames[n] : frames[n + 1]]
            yield Piece(tags_of(str(tags)), events, int(data["room"][n]), codes)


class Plain(nn.Module):
    """What the baseline knows of a piece: its tags, the same for all frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        names = (*GENRES, *NAMES, *MODES, *MOODS, "3/4", "4/4", "6/8", *map(str, range(12)))
        self.places = {name: place for place, name in enumerate(names)}
        self.words = nn.Embedding(len(names), width)
        self.numbers = nn.Sequential(nn.Linear(9, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, tags: Tags) -> Tensor:
        """[width]"""
        named = (tags.genre, *tags.instruments, tags.mode, tags.mood, tags.meter, str(tags.tonic))
        words = self.words(torch.tensor([self.places[name] for name in named])).sum(0)
        pace = np.log2(tags.bpm / 60)
        waves = [f(2 * np.pi * pace * n) for n in (1, 2, 4) for f in (np.sin, np.cos)]
        told = torch.tensor([pace, tags.density, 1.0, *waves], dtype=torch.float32)
        return torch.as_tensor(words + self.numbers(told))


class AlmMusicTraining(Training[AlmMusic]):
    """Windows of the pieces, and the losses of their codes."""

    name = "alm_music"
    betas = (0.9, 0.97)
    decay, clip = 0.03, 1.0
    warm, fade = 100, 0.7
    averaging = 0.997

    def __init__(self, run: Path, data: Path, ask: argparse.Namespace) -> None:
        torch.manual_seed(ask.seed)
        config = AlmMusicConfig()
        parts = {"plain": Plain(config.width)} if ask.plain else {}
        model, average = started(AlmMusic(config), CODEC), AlmMusic(config)
        average.vectors.copy_(model.vectors)
        super().__init__(run, ask, model, average, **parts)
        self.pieces = Pieces(data, self.model)

    def epoch(self) -> Iterator[list[int]]:
        """The pieces that are there by now; each once, with others beside it."""
        self.pieces.look()
        learnt = [i for i in range(len(self.pieces.rows)) if not held_out(i)]
        order = self.rng.permutation(learnt).tolist()
        size = self.ask.windows
        for begin in range(0, len(order) - size + 1, size):
            yield order[begin : begin + size]

    def losses(self, rng: np.random.Generator, group: list[int]) -> tuple[Tensor, dict[str, float]]:
        """The weighted mean, and what each book loses."""
        return weighed(self.parted(rng, group, training=True), WEIGHTS)

    def parted(self, rng: np.random.Generator, group: list[int], *, training: bool) -> Tensor:
        """[K]: the loss a code of each book."""
        model = self.model if training else self.average
        rows = [self._window(model, rng, self.pieces.rows[i], training=training) for i in group]
        inputs, wanted, told, tone = (torch.stack(parts) for parts in zip(*rows, strict=True))
        if training:
            inputs = disturbed(rng, inputs, model.config.vocabulary, SPOILT, GONE)
        return book_losses(model(inputs, told, tone), wanted)

    def _window(
        self, model: AlmMusic, rng: np.random.Generator, piece: Piece, *, training: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Inputs and targets [K, S], condition [S, width], tone [width] of a part of a piece."""
        books, total = piece.codes.shape
        # Beginnings are as likely as all other places together: each piece has one.
        first = 0 if rng.random() < 0.15 else int(rng.integers(0, max(1, total - WINDOW + 1)))
        codes = piece.codes[:, first : first + WINDOW].astype(np.int64)
        frames = codes.shape[1]
        steps = delay(torch.from_numpy(codes)[None], model.lags, -1)[0]
        steps = F.pad(steps, (0, WINDOW + books - 1 - steps.shape[1]), value=-1).to(self.device)
        wanted = steps.clone()
        told = self._condition(model, piece, first, first + frames)
        hidden = 0
        if training and rng.random() < UNTOLD:
            hidden = frames
        elif training and rng.random() < CLIP:
            hidden = int(rng.integers(*CLIP_FRAMES))
            for book in range(books):
                wanted[book, : hidden + book] = -1
        if hidden:
            told = torch.cat([model.untold.expand(min(hidden, frames), -1), told[hidden:]])
        told = F.pad(told, (0, 0, 0, steps.shape[1] - frames))
        return F.pad(steps, (1, -1), value=-1), wanted, told, self._tone(model, piece)

    def _condition(self, model: AlmMusic, piece: Piece, first: int, last: int) -> Tensor:
        if "plain" in self.parts:
            return self.parts["plain"](piece.tags).expand(last - first, -1)
        return model.condition(piece.events, first, last)

    def _tone(self, model: AlmMusic, piece: Piece) -> Tensor:
        return torch.as_tensor(model.rooms.weight[piece.room])

    def validate(self, *, last: bool = False) -> dict[str, object]:
        """The losses of the averaged model on pieces that it has not seen."""
        count = 120 if last else 24
        kept = [i for i in range(len(self.pieces.rows)) if held_out(i)][:count]
        rng = np.random.default_rng(1)
        groups = [kept[n : n + 4] for n in range(0, len(kept), 4)]
        found = torch.stack([self.parted(rng, group, training=False) for group in groups])
        return {"held out": [round(float(x), 4) for x in found.mean(0)]}


def held_out(index: int) -> bool:
    """Every 25th piece tells how well the model predicts what it has not seen."""
    return index % 25 == 7


def main() -> None:
    parser = options(__doc__, lr=2e-3)
    parser.add_argument("--windows", type=int, default=4, help="a thread and step")
    parser.add_argument("--plain", action="store_true", help="train the baseline")
    ask = parser.parse_args()
    ask.run.mkdir(parents=True, exist_ok=True)
    run(AlmMusicTraining(ask.run, ask.data, ask), ask)


if __name__ == "__main__":
    main()
