"""How soon and how fast a model speaks: first sound, gaps, underruns, speed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from alm_cli.bench.playback import Playback, arrivals, played
from alm_cli.bench.reports import Cell, Column
from alm_cli.bench.statistics import QUANTILES, estimate, spread
from alm_cli.bench.timing import interleaved, run_alone
from alm_cli.errors import InputError
from alm_cli.systems.speaker import Line, Speaker

COLUMNS = (
    Column(key="model", title="model"),
    Column(key="first_sound_ms", title="first sound", unit="ms", digits=0, meaning="median, 95 %"),
    *(
        Column(key=f"first_sound_p{percent}_ms", title=f"p{percent}", unit="ms", digits=0)
        for percent in QUANTILES[1:]
    ),
    Column(key="first_chunk_ms", title="first chunk", unit="ms", digits=0, meaning="even silent"),
    Column(key="gap_p99_ms", title="gaps, p99", unit="ms", digits=0, meaning="between chunks"),
    Column(key="chunks", title="chunks", meaning="of all lines"),
    Column(key="underruns", title="underruns", meaning="a player without buffer ran dry"),
    Column(key="starved_ms", title="starved", unit="ms", digits=0, meaning="for so long in all"),
    Column(key="audio_s", title="speech", unit="s", digits=1),
    Column(key="rtf", title="rtf", digits=3, meaning="seconds per second of speech"),
    Column(key="rtfx", title="rtfx", digits=2, meaning="times real time"),
    Column(key="load_s", title="load", unit="s"),
    Column(key="cold_s", title="alm speak, cold", unit="s"),
    Column(key="peak_mb", title="peak memory", unit="MB", digits=0),
)


@dataclass
class Speaking:
    """Measures speakers with the same texts, each of them one line."""

    texts: Sequence[str]
    voice: str | None = None
    seed: int = 0
    runs: int = 3
    warm_up: int = 1
    noisy: bool = False

    def rows(self, speakers: Sequence[tuple[str, Speaker, float]]) -> list[dict[str, Cell]]:
        """A row for each (name, speaker, seconds to load); lines go through all of them in turn.

        InputError: a speaker cannot say a text, or said nothing.
        """
        voices = [speaker.voice(self.voice) for _, speaker, _ in speakers]
        heard: dict[int, list[Playback]] = {place: [] for place in range(len(speakers))}
        for text in self.texts:

            def say(place: int, text: str = text) -> None:
                speaker = speakers[place][1]
                line = Line(text=text, voice=voices[place], seed=self.seed)
                found = played(arrivals(speaker.stream(line)), speaker.rate)
                if found is None:
                    raise InputError(f"{speakers[place][0]} said nothing for {text[:40]!r}")
                heard[place].append(found)

            works = {str(place): partial(say, place) for place in heard}
            done = interleaved(works, runs=self.runs, warm_up=self.warm_up)
            self.noisy |= any(timing.noisy for timing in done.values())
        # Every line's first runs warm up.
        each = self.runs + self.warm_up
        kept = {
            place: [one for turn, one in enumerate(found) if turn % each >= self.warm_up]
            for place, found in heard.items()
        }
        return [
            {"model": name, "load_s": load_s, **_cells(kept[place])}
            for place, (name, _, load_s) in enumerate(speakers)
        ]

    def cold(self, model: str) -> dict[str, Cell]:
        """`alm speak` of the longest text in a process of its own."""
        longest = max(self.texts, key=len)
        voice = [] if self.voice is None else ["--voice", self.voice]
        ran = run_alone(["speak", longest, "-m", model, "-o", "-", "--quiet", *voice])
        return {} if ran.exit_code else {"cold_s": ran.seconds, "peak_mb": ran.peak_bytes / 1e6}


def load_timed(name: str, **options: object) -> tuple[str, Speaker, float]:
    """A speaker, its name, and the seconds that loading took. ModelError: it does not speak."""
    from alm_cli.systems.speaker import load_speaker

    began = time.perf_counter()
    speaker = load_speaker(name, **options)  # type: ignore[arg-type]
    return speaker.name, speaker, time.perf_counter() - began


def _cells(heard: Sequence[Playback]) -> dict[str, Cell]:
    sounds = [1000 * one.first_sound_s for one in heard if one.first_sound_s is not None]
    gaps = [1000 * gap for one in heard for gap in one.gaps_s]
    cells: dict[str, Cell] = {"first_sound_ms": estimate(sounds, 50)}
    for percent in QUANTILES[1:]:
        cells[f"first_sound_p{percent}_ms"] = estimate(sounds, percent)
    return cells | {
        "first_chunk_ms": spread([1000 * one.first_chunk_s for one in heard]),
        "gap_p99_ms": estimate(gaps, 99),
        "chunks": sum(len(one.gaps_s) + 1 for one in heard),
        "underruns": sum(one.underruns for one in heard),
        "starved_ms": 1000 * sum(one.starved_s for one in heard),
        "audio_s": sum(one.audio_s for one in heard),
        "rtf": spread([one.wall_s / one.audio_s for one in heard]),
        "rtfx": spread([one.audio_s / one.wall_s for one in heard]),
    }
