"""How soon and how fast a model speaks: first sound, gaps, underruns, speed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alm_cli.bench.caches import renderer_cache
from alm_cli.bench.heard import HeardBench, HeardTrial, cold_cells, columns
from alm_cli.bench.playback import Playback, arrivals, played
from alm_cli.bench.reports import Cell
from alm_cli.nn.renderer import Renderer
from alm_cli.systems.speaker import Line, Speaker

COLUMNS = columns("speech", "lines", "speak")


@dataclass
class Speaking(HeardBench):
    """Measures speakers with the same texts, each of them one line."""

    voice: str | None = None

    def cold(self, model: str) -> dict[str, Cell]:
        longest = max(self.texts, key=len)
        voice = [] if self.voice is None else ["--voice", self.voice]
        words = ["speak", longest, "-m", model, "-o", "-", "--quiet", *voice]
        return cold_cells(words, self.skipped)


class Trial(HeardTrial[Speaker]):
    """Speakers with texts, one after another; `rows` tells of those said so far."""

    def __init__(self, bench: Speaking, speakers: Sequence[tuple[str, Speaker, float]]) -> None:
        super().__init__(bench, speakers)
        self._seed = bench.seed
        self._voices = [speaker.voice(bench.voice) for _, speaker, _ in speakers]

    def play(self, place: int, text: str) -> Playback | None:
        speaker = self.models[place][1]
        line = Line(text=text, voice=self._voices[place], seed=self._seed)
        return played(arrivals(speaker.stream(line)), speaker.rate)

    def cache(self, model: Speaker) -> Mapping[str, Cell]:
        return cache_cells(model)


def load_timed(name: str, **options: object) -> tuple[str, Speaker, float]:
    """A speaker, its name, and the seconds that loading took. ModelError: it does not speak."""
    from alm_cli.systems.speaker import load_speaker

    began = time.perf_counter()
    speaker = load_speaker(name, **options)  # type: ignore[arg-type]
    return speaker.name, speaker, time.perf_counter() - began


def cache_cells(speaker: Speaker) -> dict[str, Cell]:
    """What a renderer keeps of 100 steps; nothing of other speakers."""
    model = getattr(speaker, "model", None)
    if not isinstance(model, Renderer) or not model.causal:
        return {}
    return renderer_cache(model).cells()
