"""Make the music that alm-music is trained on: scores, how they sound, and codes of its codec.

    python -m recipes.alm_music_data OUT_DIR              scores and sound, half an hour a part
    python -m recipes.codec RUN_DIR OUT_DIR --music       train the codec on that
    python -m recipes.alm_music_data OUT_DIR --codes      the parts in the codes of that codec

Scores are composed by `alm_cli/music/compose.py` and played by fluidsynth
(`recipes/music_render.py`), dry or in one of two rooms. Pieces that measure
(`recipes/music_tags.jsonl`) have other seeds and other tags.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np
import torch

from alm_cli.checkpoints.load import load
from alm_cli.codecs.alm_codec import AlmCodec
from alm_cli.music.compose import compose
from alm_cli.music.score import Score, Tags
from recipes.music_render import RATE, ROOMS, rendered, some_tags

BOOKS = 8
CODEC = "alm-codec-music"


@dataclass(frozen=True)
class Played:
    """A score in a room, and its samples [n] int16."""

    score: Score
    room: str
    samples: np.ndarray


@lru_cache(maxsize=1)
def codec() -> AlmCodec:
    torch.set_num_threads(1)
    model = load(CODEC).model
    assert isinstance(model, AlmCodec)
    return model


@torch.inference_mode()
def encoded(samples: np.ndarray) -> np.ndarray:
    """Samples [n] -> codes [K, F]; the last frames hear the end, which the codec does late."""
    padded = np.pad(samples.astype(np.float32), (0, codec().delay))
    found = codec().encode(torch.from_numpy(padded)[None, None], BOOKS)
    return found[0].numpy().astype(np.int16)


def played(task: tuple[int, int]) -> Played:
    """One piece of a part."""
    rng = Random(f"alm-music {task}")
    tags = some_tags(f"tags {task}")
    if rng.random() < 0.25:  # a tone at a time teaches most about an instrument
        tags = replace(tags, instruments=(rng.choice(tags.instruments),))
    score = compose(tags, rng.uniform(14, 34), rng.randrange(1 << 30))
    room = rng.choice(("dry", "room", "room", "hall"))
    return Played(score, room, np.round(rendered(score, room=room) * 32767).astype(np.int16))


def tags_of(raw: str) -> Tags:
    """Tags as `write` has them."""
    values = json.loads(raw)
    return Tags(**values | {"instruments": tuple(values["instruments"])})


def write(path: Path, pieces: list[Played]) -> None:
    """A part: its notes and how many of each piece, and beside it what they sound like."""
    notes = [piece.score.notes for piece in pieces]
    np.concatenate([piece.samples for piece in pieces]).tofile(path.with_suffix(".i16"))
    partial = path.with_suffix(".partial")
    with partial.open("wb") as handle:
        np.savez(
            handle,
            tags=np.array([json.dumps(asdict(piece.score.tags)) for piece in pieces]),
            room=np.array([[*ROOMS].index(piece.room) for piece in pieces]),
            samples=np.array([len(piece.samples) for piece in pieces]),
            starts=np.array([n.start for own in notes for n in own]),
            lengths=np.array([n.length for own in notes for n in own]),
            pitches=np.array([n.pitch for own in notes for n in own], np.int16),
            velocities=np.array([n.velocity for own in notes for n in own]),
            instruments=np.array([n.instrument for own in notes for n in own]),
            sizes=np.array([len(own) for own in notes]),
        )
    partial.replace(path)


def write_codes(path: Path) -> None:
    """The codes [K, all frames] of a part, and the frames of each piece."""
    samples = np.memmap(path.with_suffix(".i16"), np.int16, "r")
    edges = np.load(path)["samples"].cumsum()[:-1]
    codes = [encoded(part / np.float32(32767)) for part in np.split(samples, edges)]
    partial = path.with_suffix(".codes.partial")
    with partial.open("wb") as handle:
        np.savez(
            handle,
            codes=np.concatenate(codes, axis=1),
            frames=np.array([part.shape[1] for part in codes]),
        )
    partial.replace(path.with_suffix(".codes"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", type=int, default=16, help="of about half an hour each")
    parser.add_argument("--pieces", type=int, default=75, help="in a part")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--codes", action="store_true", help="encode the parts that are there")
    ask = parser.parse_args()
    ask.folder.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(ask.processes) as pool:
        if ask.codes:
            parts = sorted(ask.folder.glob("part_*.npz"))
            pool.map(write_codes, [p for p in parts if not p.with_suffix(".codes").exists()], 1)
            return
        for part in range(ask.parts):
            path = ask.folder / f"part_{part:02}.npz"
            if path.exists():
                continue
            began = time.monotonic()
            pieces = pool.map(played, [(part, n) for n in range(ask.pieces)], chunksize=1)
            write(path, pieces)
            minutes = sum(len(piece.samples) for piece in pieces) / RATE / 60
            took = time.monotonic() - began
            sys.stderr.write(f"{path.name}: {minutes:.1f} min of music, {took:.0f} s\n")


if __name__ == "__main__":
    main()
