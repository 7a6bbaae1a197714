"""`alm bench transcribe`: how often recognisers are wrong, how long they take, what they need."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alm_cli.commands import bench_options as own
from alm_cli.commands import options
from alm_cli.commands.pace import Pace
from alm_cli.errors import AlmError, InputError

if TYPE_CHECKING:
    from alm_cli.bench.recognisers import Recogniser, Recognition, Trial
    from alm_cli.bench.reports import Report
    from alm_cli.systems.transcriber import TranscribeAsk

_PROGRAMS = ("openai-whisper", "transformers", "faster-whisper")
_DEFAULT = "alm-asr"

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH",
        show_default=_DEFAULT,
        help="A recogniser; may be given several times.",
        autocompletion=options.model_names,
    ),
]
Texts = Annotated[
    Path | None,
    typer.Option(
        metavar="TSV",
        help="What is said: columns `path` and `transcript`. Else a .txt beside each recording.",
    ),
]
Peers = Annotated[
    str,
    typer.Option(
        metavar="PROGRAM,...",
        help="The same Whisper checkpoint in openai-whisper, transformers, faster-whisper.",
    ),
]
Language = Annotated[
    str | None, typer.Option(metavar="CODE", help="What is spoken, else it is detected.")
]
Beams = Annotated[int, typer.Option(min=1, metavar="N", help="Beams of a Whisper.")]


def transcribe(
    inputs: own.Inputs,
    model: Models = None,
    texts: Texts = None,
    peers: Peers = "",
    language: Language = None,
    beam_size: Beams = 5,
    runs: own.Runs = 3,
    cold: own.Cold = True,
    limit: own.Limit = None,
    seconds: own.Seconds = 30.0,
    json: own.Json = None,
    csv: own.Csv = None,
    markdown: own.Markdown = None,
    html: own.Html = None,
    plot: own.Plot = None,
    baseline: own.Baseline = None,
    fail_on: own.FailOn = None,
    recursive: options.Recursive = False,
    device: options.Device = options.AUTO,
    dtype: own.Numbers = "float32",
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """Measure word errors, waiting times, speed and memory of recognisers.

    Word errors after Whisper's normaliser with a 95 % interval; percentiles of the time from a
    recording to its text; for Whisper the cache of keys and values, predicted and as it is.
    """
    from alm_cli.commands.benching import Delivery

    outputs = {"json": json, "csv": csv, "markdown": markdown, "html": html, "plot": plot}
    delivery = Delivery(outputs, baseline, fail_on or [])
    names = model or [_DEFAULT]
    for name in names:
        options.check_model(name)
    task = TranscribeBench(
        models=names,
        peers=own.programs(peers, _PROGRAMS),
        language=language,
        beams=beam_size,
        runs=runs,
        cold=cold,
        loading={"device": device, "dtype": dtype, "threads": threads},
        say=(lambda text: None if quiet else typer.echo(text, err=True)),
    )
    report = task.report(own.items(inputs, recursive, limit), seconds, texts)
    raise typer.Exit(delivery.deliver(report, {}))


@dataclass(frozen=True, kw_only=True)
class TranscribeBench:
    """One `alm bench transcribe`; `say` tells how far it is."""

    models: Sequence[str]
    peers: Sequence[str]
    language: str | None
    beams: int
    runs: int
    cold: bool
    loading: Mapping[str, Any]
    say: Callable[[str], None]

    def report(self, paths: Sequence[Path], seconds: float, texts: Path | None) -> Report:
        """Measure all models. AlmError: nothing can be."""
        from alm_cli.bench.environment import environment
        from alm_cli.bench.recognisers import COLUMNS, Recognition, cache_cells
        from alm_cli.bench.reports import Report
        from alm_cli.bench.timing import noise
        from alm_cli.checkpoints.reader import file_sha256
        from alm_cli.commands.benching import measured_rows, recordings

        heard = recordings(paths, seconds, self.say)
        known = spoken(paths, texts)
        cut = {one.name for one in heard if one.audio.seconds >= seconds}
        bench = Recognition(
            recordings=heard,
            texts={name: text for name, text in known.items() if name not in cut},
            english=self.language in (None, "en"),
            runs=self.runs,
        )
        remarks = [
            f"{len(heard)} recordings, {sum(one.audio.seconds for one in heard):.1f} s",
            f"beam {self.beams}, temperatures as the commands' defaults",
        ]
        if cut:
            remarks.append(f"{len(cut)} were cut at {seconds:g} s: their words are not counted")
        trials: list[Trial] = []
        weights: dict[str, str] = {}

        def measure() -> None:
            pace = Pace(self.say, len(self.models) * len(heard))
            for name in self.models:
                trial, sha256 = self._trial(bench, name)
                trials.append(trial)
                weights[name] = sha256
                for number, one in enumerate(heard, 1):
                    trial.hear(one)
                    pace.step(f"{name}: {number} of {len(heard)} recordings")
                trial.once |= {**dict(cache_cells(name)), **(bench.cold(name) if self.cold else {})}
                self.say(f"{name}: measured")

        rows = measured_rows(measure, trials, remarks)
        return Report(
            kind="transcribe",
            environment=environment(
                seed=0,
                warm_up=bench.warm_up,
                repetitions=self.runs,
                device=str(self.loading["device"]),
                dtype=str(self.loading["dtype"]),
            ),
            columns=COLUMNS,
            rows=rows,
            skipped=bench.skipped,
            remarks=remarks + noise([group for trial in trials for group in trial.timings]),
            data={one.name: file_sha256(one.path) for one in heard},
            weights=weights,
            names=("model", "program"),
        )

    def _trial(self, bench: Recognition, name: str) -> tuple[Trial, str]:
        """A model here, and in the programs that are wanted; the digest of its weights."""
        from alm_cli.bench.recognisers import Trial, ours
        from alm_cli.systems.transcriber import TranscribeAsk, load_transcriber

        ask = TranscribeAsk(language=self.language, beam_size=self.beams)
        began = time.perf_counter()
        transcriber = load_transcriber(name, **self.loading)
        first = ours(transcriber, ask, time.perf_counter() - began)
        return Trial(bench, [first, *self._peers(bench, name, ask)]), transcriber.weights_sha256

    def _peers(self, bench: Recognition, name: str, ask: TranscribeAsk) -> list[Recogniser]:
        """The programs that have what they need; of the others it is said what they lack."""
        from alm_cli.bench.peers import peer
        from alm_cli.catalog import find_card
        from alm_cli.checkpoints.fetch import fetch

        found = []
        for program in self.peers:
            try:
                path = Path(name) if Path(name).exists() else fetch(find_card(name))
                found.append(peer(program, path, ask))
            except AlmError as error:
                hint = f": {error.hint}" if error.hint else ""
                bench.skipped[program] = f"{error.message}{hint}"
        return found


def spoken(paths: Sequence[Path], table: Path | None) -> dict[str, str]:
    """What is said in recordings, as far as it is known, by their names. InputError: no table."""
    if table is None:
        beside = {path: path.with_suffix(".txt") for path in paths}
        return {
            str(path): text.read_text(encoding="utf-8")
            for path, text in beside.items()
            if text.is_file() and text != path
        }
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{table}: cannot be read", hint="a TSV in UTF-8") from error
    if not rows or not {"path", "transcript"} <= rows[0].keys():
        raise InputError(f"{table}: lacks columns", hint="the first line names path and transcript")
    told = {(table.parent / row["path"]).resolve(): row["transcript"] for row in rows}
    found = {str(path): told.get(path.resolve()) for path in paths}
    return {name: text for name, text in found.items() if text}
