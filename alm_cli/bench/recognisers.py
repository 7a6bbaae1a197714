"""What a recogniser costs and how often it is wrong: words, waiting, speed, memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from alm_cli.bench.caches import CACHE_COLUMNS, whisper_cache
from alm_cli.bench.codecs import Recording
from alm_cli.bench.reports import Cell, Column
from alm_cli.bench.statistics import QUANTILES, estimate, ratio, spread
from alm_cli.bench.timing import Timing, interleaved, run_alone
from alm_cli.bench.words import compared
from alm_cli.checkpoints.load import load
from alm_cli.errors import ModelError
from alm_cli.lm.whisper import Whisper
from alm_cli.systems.transcriber import TranscribeAsk, Transcriber, mono
from alm_cli.values import Audio

COLUMNS = (
    Column(key="model", title="model"),
    Column(key="program", title="program"),
    Column(key="wer", title="word error rate", unit="%", digits=1, meaning="95 % interval"),
    Column(key="wrong", title="wrong words"),
    Column(key="words", title="words", meaning="after Whisper's normaliser"),
    *(
        Column(key=f"p{percent}_s", title=f"p{percent}", unit="s", meaning="from sound to text")
        for percent in QUANTILES
    ),
    Column(key="first_text_ms", title="first words", unit="ms", digits=0, meaning="that are final"),
    Column(key="first_token_ms", title="first token", unit="ms", digits=0, meaning="Whisper: 30 s"),
    Column(key="rtf", title="rtf", digits=4, meaning="seconds per second of audio"),
    Column(key="rtfx", title="rtfx", digits=1, meaning="times real time"),
    Column(key="load_s", title="load", unit="s"),
    Column(key="cold_s", title="alm transcribe, cold", unit="s"),
    Column(key="peak_mb", title="peak memory", unit="MB", digits=0),
    *CACHE_COLUMNS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """What was written down, and after how many seconds the first words of it were final."""

    text: str
    first_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recogniser:
    """A program with a model in memory; `hear` writes a recording down."""

    model: str
    program: str
    hear: Callable[[Audio], Text]
    load_s: float | None = None


def ours(transcriber: Transcriber, ask: TranscribeAsk, load_s: float | None = None) -> Recogniser:
    """A recogniser of this program, asked like this."""

    def hear(audio: Audio) -> Text:
        began = time.perf_counter()
        parts: list[str] = []
        first: float | None = None
        for segment in transcriber.segments(mono(audio), ask):
            if first is None and segment.text.strip():
                first = time.perf_counter() - began
            parts.append(segment.text)
        return Text(text="".join(parts), first_s=first)

    return Recogniser(model=transcriber.name, program="alm", hear=hear, load_s=load_s)


@dataclass
class Recognition:
    """Measures recognisers on the same recordings; `texts` is what is said in them, by name."""

    recordings: Sequence[Recording]
    texts: Mapping[str, str] = field(default_factory=dict)
    english: bool = True
    runs: int = 3
    warm_up: int = 1
    skipped: dict[str, str] = field(default_factory=dict)

    def cold(self, model: str) -> dict[str, Cell]:
        """`alm transcribe` of the longest recording in a process of its own."""
        longest = max(self.recordings, key=lambda one: one.audio.seconds)
        ran = run_alone(["transcribe", str(longest.path), "-o", "-", "--model", model, "--quiet"])
        if ran.exit_code:
            self.skipped["cold_s"] = f"alm transcribe ended with {ran.exit_code}"
            return {}
        return {"cold_s": ran.seconds, "peak_mb": ran.peak_bytes / 1e6}

    def wrong(self, written: Mapping[str, str]) -> dict[str, Cell]:
        """Word errors of the recordings whose text is known."""
        known = [name for name in written if name in self.texts]
        if not known:
            self.skipped["wer"] = "no text is known: a .txt beside a recording, or --texts"
            return {}
        try:
            pairs = [
                compared(self.texts[name], written[name], english=self.english) for name in known
            ]
        except ModelError as error:
            self.skipped["wer"] = f"{error.message}: {error.hint}"
            return {}
        wrong, words = zip(*pairs, strict=True)
        rate = ratio([100 * count for count in wrong], words)
        return {"wer": rate, "wrong": sum(wrong), "words": sum(words)}


class Trial:
    """Recognisers on recordings, one after another; `rows` tells of those heard so far."""

    def __init__(self, bench: Recognition, recognisers: Sequence[Recogniser]) -> None:
        self._bench, self._recognisers = bench, recognisers
        self._heard: list[tuple[Recording, list[list[Text]]]] = []
        self.timings: list[list[Timing]] = [[] for _ in recognisers]
        self.once: dict[str, Cell] = {}  # goes into the first row

    def hear(self, one: Recording) -> None:
        """A recording goes through all of them in turn, again and again."""
        written: list[list[Text]] = [[] for _ in self._recognisers]

        def work(place: int) -> None:
            written[place].append(self._recognisers[place].hear(one.audio))

        works = {str(place): partial(work, place) for place in range(len(written))}
        timings = interleaved(works, runs=self._bench.runs, warm_up=self._bench.warm_up)
        self._heard.append((one, written))
        for known, timing in zip(self.timings, timings.values(), strict=True):
            known.append(timing)

    def rows(self) -> list[dict[str, Cell]]:
        """A row for each recogniser, none where nothing was heard."""
        if not self._heard:
            return []
        found = []
        for place, one in enumerate(self._recognisers):
            row: dict[str, Cell] = {"model": one.model, "program": one.program}
            row |= {"load_s": one.load_s, **self._waiting(place), **self._told(place)}
            found.append(row)
        found[0] |= self.once
        return found

    def _told(self, place: int) -> dict[str, Cell]:
        """How soon there were words, in the runs that count, and how many of the last are wrong."""
        texts = {one.name: written[place] for one, written in self._heard}
        counted = [text for each in texts.values() for text in each[self._bench.warm_up :]]
        first = [1000 * text.first_s for text in counted if text.first_s is not None]
        last = {name: each[-1].text for name, each in texts.items()}
        return {"first_text_ms": spread(first), **self._bench.wrong(last)}

    def _waiting(self, place: int) -> dict[str, Cell]:
        """How long one waits for a text, over recordings and runs; the speed of whole runs."""
        timings = self.timings[place]
        waited = [seconds for timing in timings for seconds in timing.seconds]
        heard = sum(one.audio.seconds for one, _ in self._heard)
        runs = range(self._bench.runs)
        whole = [sum(timing.seconds[run] for timing in timings) for run in runs]
        cells: dict[str, Cell] = {
            f"p{percent}_s": estimate(waited, percent) for percent in QUANTILES
        }
        return cells | {
            "rtf": spread([seconds / heard for seconds in whole]),
            "rtfx": spread([heard / seconds for seconds in whole]),
        }


def cache_cells(source: str) -> Iterator[tuple[str, Cell]]:
    """What the decoder of a Whisper keeps for 100 tokens; nothing of other models."""
    model = load(source).model
    if isinstance(model, Whisper):
        cache = whisper_cache(model, min(100, model.text_positions))
        if cache.first_token_s is not None:
            yield "first_token_ms", 1000 * cache.first_token_s
        yield from cache.cells().items()
