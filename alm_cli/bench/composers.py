"""How soon and how fast a model composes: first sound, gaps, underruns, speed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alm_cli.bench.caches import musicgen_cache, renderer_cache
from alm_cli.bench.heard import HeardBench, HeardTrial, cold_cells, columns
from alm_cli.bench.playback import Playback, arrivals, played
from alm_cli.bench.reports import Cell
from alm_cli.lm.musicgen import MusicGen
from alm_cli.nn.renderer import Renderer
from alm_cli.systems.composer import Composer, Piece

COLUMNS = columns("music", "pieces", "generate-music")


@dataclass
class Composing(HeardBench):
    """Measures composers with the same prompts and lengths."""

    seconds: float = 10.0
    dtype: str = "float32"

    def cold(self, model: str) -> dict[str, Cell]:
        longest = max(self.texts, key=len)
        words = ["generate-music", longest, "-m", model, "-o", "-", "--quiet"]
        words += ["--duration", str(self.seconds), "--dtype", self.dtype, "--seed", str(self.seed)]
        return cold_cells(words, self.skipped)


class MusicTrial(HeardTrial[Composer]):
    """Composers with prompts, one after another; `rows` tells of those played so far."""

    def __init__(self, bench: Composing, composers: Sequence[tuple[str, Composer, float]]) -> None:
        super().__init__(bench, composers)
        self._bench = bench

    def play(self, place: int, text: str) -> Playback | None:
        composer = self.models[place][1]
        piece = Piece(prompt=text, seconds=self._bench.seconds, seed=self._bench.seed)
        # What is audible in any channel is.
        loudest = (np.abs(block).max(0) for block in composer.stream(piece))
        return played(arrivals(loudest), composer.rate)

    def cache(self, model: Composer) -> Mapping[str, Cell]:
        """Of 100 steps, for composers with a network that is known."""
        for network in vars(model).values():
            if isinstance(network, Renderer):
                return renderer_cache(network).cells()
            if isinstance(network, MusicGen):
                return musicgen_cache(network).cells()
        return {}


def load_timed(name: str, **options: object) -> tuple[str, Composer, float]:
    """A composer, its name, and the seconds that loading took. ModelError: it makes no music."""
    from alm_cli.systems.composer import load_composer

    began = time.perf_counter()
    composer = load_composer(name, **options)  # type: ignore[arg-type]
    return composer.name, composer, time.perf_counter() - began
