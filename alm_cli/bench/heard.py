"""Models whose sound comes in chunks, in turn: first sound, gaps, underruns, speed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from alm_cli.bench.caches import CACHE_COLUMNS
from alm_cli.bench.playback import Playback
from alm_cli.bench.reports import Cell, Column
from alm_cli.bench.statistics import QUANTILES, estimate, spread
from alm_cli.bench.timing import Timing, interleaved, run_alone
from alm_cli.errors import InputError

Model = TypeVar("Model")


def columns(sound: str, texts: str, command: str) -> tuple[Column, ...]:
    """What is told of models that make `sound` of `texts`, and of their command."""
    return (
        Column(key="model", title="model"),
        Column(
            key="first_sound_ms", title="first sound", unit="ms", digits=0, meaning="median, 95 %"
        ),
        *(
            Column(key=f"first_sound_p{percent}_ms", title=f"p{percent}", unit="ms", digits=0)
            for percent in QUANTILES[1:]
        ),
        Column(
            key="first_chunk_ms", title="first chunk", unit="ms", digits=0, meaning="even silent"
        ),
        Column(key="gap_p50_ms", title="gaps, p50", unit="ms", digits=0, meaning="between chunks"),
        Column(key="gap_p99_ms", title="gaps, p99", unit="ms", digits=0),
        Column(key="chunks", title="chunks", meaning=f"of all {texts}"),
        Column(key="underruns", title="underruns", meaning="a player without buffer ran dry"),
        Column(
            key="starved_ms", title="starved", unit="ms", digits=0, meaning="for so long in all"
        ),
        Column(key="audio_s", title=sound, unit="s", digits=1),
        Column(key="rtf", title="rtf", digits=3, meaning=f"seconds per second of {sound}"),
        Column(key="rtfx", title="rtfx", digits=2, meaning="times real time"),
        Column(key="load_s", title="load", unit="s"),
        Column(key="cold_s", title=f"alm {command}, cold", unit="s"),
        Column(key="peak_mb", title="peak memory", unit="MB", digits=0),
        *CACHE_COLUMNS,
    )


@dataclass
class HeardBench(ABC):
    """What models are measured with: the same texts, each so many times."""

    texts: Sequence[str]
    seed: int = field(default=0, kw_only=True)
    runs: int = field(default=3, kw_only=True)
    warm_up: int = field(default=1, kw_only=True)
    skipped: dict[str, str] = field(default_factory=dict, kw_only=True)

    @abstractmethod
    def cold(self, model: str) -> dict[str, Cell]:
        """The command with the longest text in a process of its own."""


class HeardTrial(ABC, Generic[Model]):
    """Models, each (name, model, seconds to load), with texts, one after another.

    `rows` tells of the texts that were heard so far.
    """

    def __init__(self, bench: HeardBench, models: Sequence[tuple[str, Model, float]]) -> None:
        self.models, self._runs, self._warm_up = models, bench.runs, bench.warm_up
        self._heard: list[list[list[Playback]]] = []  # of each text and model, runs that count
        self.timings: list[list[Timing]] = [[] for _ in models]
        self._once: list[dict[str, Cell]] = [{} for _ in models]

    @abstractmethod
    def play(self, place: int, text: str) -> Playback | None:
        """What a listener has of one of the models and a text; None: nothing came."""

    @abstractmethod
    def cache(self, model: Model) -> Mapping[str, Cell]:
        """What the decoder of a model keeps, if it is known."""

    def once(self, place: int, cold: Mapping[str, Cell]) -> None:
        """What is measured of a model only once: the cache of its decoder, and a cold start."""
        self._once[place] |= {**self.cache(self.models[place][1]), **cold}

    def say(self, text: str) -> None:
        """All of them in turn make a sound of a text, again and again. InputError: one cannot."""
        heard: list[list[Playback]] = [[] for _ in self.models]

        def play(place: int) -> None:
            found = self.play(place, text)
            if found is None:
                raise InputError(f"{self.models[place][0]} said nothing for {text[:40]!r}")
            heard[place].append(found)

        works = {str(place): partial(play, place) for place in range(len(heard))}
        done = interleaved(works, runs=self._runs, warm_up=self._warm_up)
        self._heard.append([each[self._warm_up :] for each in heard])
        for timings, timing in zip(self.timings, done.values(), strict=True):
            timings.append(timing)

    def rows(self) -> list[dict[str, Cell]]:
        """A row for each model, none where nothing was heard."""
        if not self._heard:
            return []
        return [
            {
                "model": name,
                "load_s": load_s,
                **_cells([one for heard in self._heard for one in heard[place]]),
                **self._once[place],
            }
            for place, (name, _, load_s) in enumerate(self.models)
        ]


def cold_cells(arguments: Sequence[str], skipped: dict[str, str]) -> dict[str, Cell]:
    """A command of `alm` in a process of its own; where it fails, `skipped` tells."""
    ran = run_alone(arguments)
    if ran.exit_code:
        skipped["cold_s"] = f"alm {arguments[0]} ended with {ran.exit_code}"
        return {}
    return {"cold_s": ran.seconds, "peak_mb": ran.peak_bytes / 1e6}


def _cells(heard: Sequence[Playback]) -> dict[str, Cell]:
    sounds = [1000 * one.first_sound_s for one in heard if one.first_sound_s is not None]
    gaps = [1000 * gap for one in heard for gap in one.gaps_s]
    cells: dict[str, Cell] = {"first_sound_ms": estimate(sounds, 50)}
    for percent in QUANTILES[1:]:
        cells[f"first_sound_p{percent}_ms"] = estimate(sounds, percent)
    return cells | {
        "first_chunk_ms": spread([1000 * one.first_chunk_s for one in heard]),
        "gap_p50_ms": estimate(gaps, 50),
        "gap_p99_ms": estimate(gaps, 99),
        "chunks": sum(len(one.gaps_s) + 1 for one in heard),
        "underruns": sum(one.underruns for one in heard),
        "starved_ms": 1000 * sum(one.starved_s for one in heard),
        "audio_s": sum(one.audio_s for one in heard),
        "rtf": spread([one.wall_s / one.audio_s for one in heard]),
        "rtfx": spread([one.audio_s / one.wall_s for one in heard]),
    }
