"""Measure a composer on prompts that it has not seen: a table in Markdown on standard output.

    python -m recipes.evaluate_music --essentia OTHER/bin/python --json music.json

`recipes/music_tags.jsonl` are a hundred prompts and what they ask for. Each piece is judged three
times: as the composer makes it, as fluidsynth plays the same score (clean), and as the codec gives
that back (codec), so that what judges get wrong is seen. Tempo and key are heard by essentia
(`pip install essentia`, in another Python if need be: AGPL). Instruments are heard by a small
network that this script fits to renders of other scores, clean and from the codec.

Frechet distances are taken from the clean renders, over statistics of log-mel spectra of two
seconds (which nothing was trained to make alike) and over what the network hears before it
decides; of the codec's they are the floor, of clean renders with other seeds a measure of scale.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from alm_cli.music.compose import compose
from alm_cli.music.score import DRUMS, Score, Tags
from alm_cli.music.words import read_prompt
from alm_cli.systems.codec import load_codec
from alm_cli.systems.composer import Composer, Piece, load_composer
from recipes.music_judges import (
    Ear,
    agreement,
    essentia,
    frechet,
    hears,
    impressions,
    statistics,
    taught,
    through,
)
from recipes.music_render import RATE, rendered

PROMPTS = Path(__file__).parent / "music_tags.jsonl"
MINORS = ("minor", "dorian")
FROM_MAJOR = {"major": 0, "minor": 9, "dorian": 2, "mixolydian": 7}
# A beat that is heard at another level of the metre: its double, its half, its third.
LEVELS = (1.0, 2.0, 0.5, 3.0, 1 / 3, 1.5, 2 / 3)


@dataclass(frozen=True)
class Wanted:
    """A prompt and what it asks for."""

    prompt: str
    seed: int
    tags: Tags


@dataclass(frozen=True)
class Told:
    """What the judges say of a piece."""

    bpm: float
    tonic: int
    minor: bool
    instruments: frozenset[str]


@dataclass
class Way:
    """All pieces made in one way, and what is said of them."""

    waves: list[np.ndarray] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)


def prompts(limit: int | None) -> list[Wanted]:
    """The frozen prompts; they must be read as they were meant when they were frozen."""
    found = []
    for line in PROMPTS.read_text(encoding="utf-8").splitlines()[:limit]:
        row = json.loads(line)
        tags = read_prompt(row["prompt"], row["seed"]).tags
        for name in ("genre", "bpm", "tonic", "mode", "meter", "mood"):
            if getattr(tags, name) != row[name] or [*tags.instruments] != row["instruments"]:
                raise SystemExit(f"{row['prompt']!r} is read as {tags}")
        found.append(Wanted(row["prompt"], row["seed"], tags))
    return found


def tempo_of(pairs: Sequence[tuple[Tags, Told]]) -> dict[str, float]:
    """Shares of tempi within 2 %: as asked, also of an octave, also of other levels."""

    def right(levels: Sequence[float]) -> float:
        near = [
            any(abs(told.bpm * level / tags.bpm - 1) <= 0.02 for level in levels)
            for tags, told in pairs
        ]
        return sum(near) / max(1, len(near))

    return {"tempo": right(LEVELS[:1]), "octaves": right(LEVELS[:3]), "levels": right(LEVELS)}


def key_of(pairs: Sequence[tuple[Tags, Told]]) -> dict[str, float]:
    """Shares of keys with the right tonic and third, of relative keys, of the same scale.

    A dorian or mixolydian scale is also that of a major key; a finder that knows two modes that
    names it heard the notes, not their centre.
    """
    right = relative = scale = 0
    for tags, told in pairs:
        minor = tags.mode in MINORS
        same = told.tonic == tags.tonic and told.minor == minor
        third = (tags.tonic + (3 if minor else -3)) % 12
        beside = told.minor != minor and told.tonic == third
        major = (tags.tonic - FROM_MAJOR[tags.mode]) % 12
        right, relative = right + same, relative + beside
        scale += (told.tonic + 3 * told.minor) % 12 == major
    count = max(1, len(pairs))
    return {"key": right / count, "relative": relative / count, "same scale": scale / count}


def made_by(
    composer: Composer | None, wanted: Sequence[Wanted], seconds: float
) -> tuple[list[np.ndarray], list[Score], float]:
    """What the composer makes, the scores of that, and its seconds of music in a second."""
    waves, scores, took = [], [], 0.0
    if composer is not None:  # the first call takes longer
        composer.compose([Piece(prompt=wanted[0].prompt, seconds=1.0)])
    for want in wanted:
        score = compose(want.tags, seconds, want.seed)
        if composer is not None:
            began = time.perf_counter()
            music = composer.compose([Piece(prompt=want.prompt, seconds=seconds, seed=want.seed)])[
                0
            ]
            took += time.perf_counter() - began
            if music.samples.shape[1] != round(seconds * composer.rate):
                raise SystemExit(f"{want.prompt!r}: {music.samples.shape[1]} samples")
            waves.append(music.samples.mean(0))
            score = music.score or score
        scores.append(score)
    return waves, scores, seconds * len(wanted) / took if took else 0.0


def laws(composer: Composer, wanted: Sequence[Wanted], waves: Sequence[np.ndarray]) -> list[str]:
    """What every composer promises, on the first prompts."""
    digests = {sha256(wave.tobytes()).hexdigest() for wave in waves}
    lines = [f"different pieces of {len(waves)} prompts: {len(digests)}"]
    want = wanted[0]
    seconds = len(waves[0]) / composer.rate
    again, other = (
        composer.compose([Piece(prompt=want.prompt, seconds=seconds, seed=seed)])[0].samples.mean(0)
        for seed in (want.seed, want.seed + 1)
    )
    lines.append(f"the same seed, the same bytes: {again.tobytes() == waves[0].tobytes()}")
    lines.append(f"another seed, other bytes: {other.tobytes() != waves[0].tobytes()}")
    return lines


def distances(
    ear: Ear, ways: dict[str, Way], others: Sequence[np.ndarray]
) -> dict[str, dict[str, float]]:
    """Frechet distances of each way from the clean renders, by what is compared."""
    views: dict[str, Callable[[Sequence[np.ndarray]], np.ndarray]] = {
        "log-mel": lambda waves: statistics(ear.mel, waves),
        "ear": lambda waves: impressions(ear, waves),
    }
    found: dict[str, dict[str, float]] = {}
    for name, view in views.items():
        clean = view(ways["clean"].waves)
        spread = clean.std(0)
        scale = np.maximum(spread, 0.1 * spread.mean())  # all that moves counts alike
        clouds = {key: view(way.waves) for key, way in ways.items()} | {"others": view(others)}
        found[name] = {
            key: frechet(cloud / scale, clean / scale)
            for key, cloud in clouds.items()
            if key != "clean"
        }
    return found


def table(wanted: Sequence[Wanted], ways: dict[str, Way]) -> tuple[list[str], dict[str, object]]:
    """A line for each way, and the same figures by name."""
    columns = ("tempo", "octaves", "levels", "key", "relative", "same scale", "recall", "precision")
    columns += ("f1", "sets")
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    told: dict[str, object] = {}
    asked = [frozenset(want.tags.instruments) for want in wanted]
    for name, way in ways.items():
        pairs = [(want.tags, said) for want, said in zip(wanted, way.told, strict=True)]
        figures = tempo_of(pairs) | key_of(pairs)
        figures |= agreement(asked, [said.instruments for said in way.told])
        drummed = [pair for pair in pairs if DRUMS in pair[0].instruments]
        lines.append(f"| {name} | {' | '.join(f'{100 * figures[c]:.0f}' for c in columns)} |")
        told[name] = {**figures, "tempo with drums": tempo_of(drummed)["tempo"]}
    return lines, told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="alm-music", help="a composer, or none: ceilings only")
    parser.add_argument("--codec", default="alm-codec-music")
    parser.add_argument("--essentia", type=Path, help="a Python that has it, if not this one")
    parser.add_argument("--limit", type=int, help="prompts, all by default")
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--lessons", type=int, default=480, help="renders that the ear learns from")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    ask = parser.parse_args()
    torch.set_num_threads(ask.threads)
    wanted = prompts(ask.limit)
    judge = essentia(ask.essentia)
    codec = load_codec(ask.codec, device="cpu", threads=ask.threads)
    composer = None
    if ask.model != "none":
        composer = load_composer(ask.model, device="cpu", threads=ask.threads)
        if composer.rate != RATE:
            raise SystemExit(f"{composer.name} makes {composer.rate} samples a second, not {RATE}")
    made, scores, speed = made_by(composer, wanted, ask.seconds)
    clean = [rendered(score) for score in scores]
    ways = {"clean": Way(clean), "codec": Way([through(codec, wave) for wave in clean])}
    if composer is not None:
        ways = {composer.name: Way(made), **ways}
    ear, ceiling = taught(ask.lessons, ask.epochs, codec)
    for way in ways.values():
        way.told = [Told(*judge(wave), hears(ear, wave)) for wave in way.waves]
    others = [rendered(compose(want.tags, ask.seconds, want.seed + 1)) for want in wanted]
    lines, told = table(wanted, ways)
    apart = distances(ear, ways, others)
    for name, found in apart.items():
        floor = max(found["codec"], 1e-9)
        figures = ", ".join(
            f"{key} {value:.1f} ({value / floor:.2f} of the codec's)"
            for key, value in found.items()
        )
        lines.append(f"\nFrechet distance from the clean renders ({name}): {figures}")
    lines.append(f"\nF1 of the ear on clean renders of other scores: {100 * ceiling:.0f} %")
    if composer is not None:
        lines += [f"\n{speed:.1f} times real time on {ask.threads} threads", ""]
        lines += laws(composer, wanted, made)
    sys.stdout.write("\n".join(lines) + "\n")
    if ask.json:
        facts = {"ways": told, "frechet": apart, "ear": ceiling, "speed": speed}
        ask.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
