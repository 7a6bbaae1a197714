"""The steps of `alm bench`: recordings through codecs, and reports to where they are wanted."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer

from alm_cli.commands.pace import Pace
from alm_cli.errors import DONE, INTERRUPTED, SOME_FAILED, AlmError, InputError, UsageError
from alm_cli.jobs.interrupts import orderly
from alm_cli.jobs.report import printable
from alm_cli.jobs.sinks import STDOUT, open_sink

if TYPE_CHECKING:
    from alm_cli.bench.codec_peers import CodecPeer
    from alm_cli.bench.codec_trials import ClassicalTrial, CodecTrial
    from alm_cli.bench.codecs import Bench, Recording
    from alm_cli.bench.reports import Cell, Report
    from alm_cli.systems.codec import Codec
    from alm_cli.values import Audio

    Heard = Mapping[str, Sequence[tuple[str, Audio]]]
    Trial = CodecTrial | ClassicalTrial


class HasRows(Protocol):
    """What is being measured."""

    def rows(self) -> list[dict[str, Cell]]:
        """Of a report, as far as they are measured."""


BROKEN_OFF = "interrupted"  # so begins the remark of a report that is not whole


@dataclass(frozen=True, kw_only=True)
class CodecBench:
    """One `alm bench codec`; `say` tells how far it is."""

    models: Sequence[str]
    against: Sequence[str]
    codebooks: Sequence[int]
    runs: int
    loading: Mapping[str, Any]
    say: Callable[[str], None]
    peers: Sequence[str] = ()
    cold: bool = True
    rewrite: str | None = None
    texts: Path | None = None

    def report(self, paths: Sequence[Path], seconds: float) -> tuple[Report, Heard]:
        """Measure everything, or what there is when interrupted. AlmError: nothing can be."""
        from alm_cli.bench.classical import classical
        from alm_cli.bench.codec_trials import ClassicalTrial
        from alm_cli.bench.codecs import COLUMNS, Bench
        from alm_cli.bench.environment import environment
        from alm_cli.bench.reports import Report
        from alm_cli.bench.timing import noise
        from alm_cli.checkpoints.reader import file_sha256

        others = [classical(text) for text in self.against]
        bench = Bench(recordings(paths, seconds, self.say), runs=self.runs)
        if self.rewrite is not None:
            self._write(bench, paths, seconds)
        heard = len(bench.recordings)
        steps = len(self.models) * (heard + 1) + len(others) * heard
        trials: list[Trial] = []
        weights: dict[str, str] = {}
        remarks = [f"{heard} recordings, the first {seconds:g} s of each, mono"]

        def measure() -> None:
            pace = Pace(self.say, steps)
            for name in self.models:
                trial, sha256 = self._codec(bench, name)
                trials.append(trial)
                weights[trial.name] = sha256
                _hear(trial, bench, pace)
                trial.finish()
                trial.once |= bench.cold(name) if self.cold else {}
                pace.step(f"{trial.name}: measured", last=True)
            for other in others:
                trials.append(ClassicalTrial(bench, other))
                _hear(trials[-1], bench, pace)

        rows = measured_rows(measure, trials, remarks)
        report = Report(
            kind="codec",
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
            remarks=remarks + noise([[timing] for timing in bench.timings]),
            data={one.name: file_sha256(one.path) for one in bench.recordings},
            weights=weights,
            names=("codec", "program", "codebooks"),
        )
        return report, bench.heard

    def _write(self, bench: Bench, paths: Sequence[Path], seconds: float) -> None:
        """Let the bench tell what words codecs cost."""
        from alm_cli.commands.bench_transcribe import spoken
        from alm_cli.systems.transcriber import load_transcriber

        assert self.rewrite is not None
        transcriber = load_transcriber(self.rewrite, threads=self.loading["threads"])
        bench.write = lambda audio: transcriber.transcribe(audio).text
        whole = {one.name for one in bench.recordings if one.audio.seconds < seconds}
        known = spoken(paths, self.texts)
        bench.said = {name: text for name, text in known.items() if name in whole}

    def _codec(self, bench: Bench, name: str) -> tuple[CodecTrial, str]:
        """A codec and the programs beside it, and the digest of its weights."""
        from alm_cli.bench.codec_trials import CodecTrial
        from alm_cli.systems.codec import load_codec

        began = time.perf_counter()
        codec = load_codec(name, **self.loading)
        took = time.perf_counter() - began
        points = bench.points(codec, self.codebooks)
        peers = self._peers(bench, name, str(codec.device))
        trial = CodecTrial(bench, codec, points, peers, self._elsewhere(codec, name))
        trial.once["load_s"] = took
        return trial, codec.weights_sha256

    def _peers(self, bench: Bench, name: str, device: str) -> list[CodecPeer]:
        """The programs that have what they need; of the others it is said what they lack."""
        from alm_cli.bench.codec_peers import codec_peer

        found = []
        for program in self.peers:
            try:
                if self.loading["dtype"] != "float32":
                    raise UsageError("other programs compute in float32", hint="--dtype float32")
                found.append(codec_peer(program, name, device))
            except (AlmError, ImportError) as error:
                bench.skipped[program] = str(error)
        return found

    def _elsewhere(self, codec: Codec, name: str) -> Codec | None:
        """The same codec on the other kind of device, if there is one."""
        from alm_cli.runtime import device_of
        from alm_cli.systems.codec import load_codec

        if device_of("auto").type == "cpu":
            return None
        other = "cuda" if codec.device.type == "cpu" else "cpu"
        return load_codec(name, **{**self.loading, "device": other})


def broken_off(work: Callable[[], None]) -> KeyboardInterrupt | None:
    """Do it; the signal by which the user broke it off, None where it came to its end."""
    try:
        with orderly():
            work()
    except KeyboardInterrupt as signal:
        return signal
    return None


def measured_rows(
    measure: Callable[[], None], trials: Sequence[HasRows], remarks: list[str]
) -> list[dict[str, Cell]]:
    """Measure; the rows of the trials that there are then, and a remark where it was broken off.

    KeyboardInterrupt: nothing had been measured.
    """
    signal = broken_off(measure)
    rows = [row for trial in trials for row in trial.rows()]
    if signal is not None:
        if not rows:
            raise signal
        remarks.append(f"{BROKEN_OFF}: what was measured until then")
    return rows


def _hear(trial: Trial, bench: Bench, pace: Pace) -> None:
    count = len(bench.recordings)
    for number, one in enumerate(bench.recordings, 1):
        trial.hear(one)
        pace.step(f"{trial.name}: {number} of {count} recordings", last=number == count)


def recordings(
    paths: Sequence[Path], seconds: float, say: Callable[[str], None]
) -> list[Recording]:
    """The beginnings of what can be read; what cannot is named. InputError: nothing can."""
    from alm_cli.bench.codecs import Recording

    found = []
    for path in paths:
        try:
            audio = _beginning(path, seconds)
        except AlmError as error:
            say(f"{printable(str(path))}: left out, {error.message}")
            continue
        found.append(Recording(name=str(path), path=path, audio=audio))
    if not found:
        raise InputError("none of the inputs is a recording", hint="give files of audio")
    return found


class Delivery:
    """Where a report goes, and what may not have changed since an earlier one."""

    def __init__(
        self, outputs: Mapping[str, Path | None], baseline: Path | None, fail_on: Sequence[str]
    ) -> None:
        from alm_cli.bench.reports import condition, read_baseline

        if bool(fail_on) != (baseline is not None):
            raise UsageError("--baseline and --fail-on go together")
        self._outputs = {kind: path for kind, path in outputs.items() if path is not None}
        if "plot" in self._outputs:
            from alm_cli.bench.quality import optional

            optional("matplotlib")  # not found to be missing after an hour of measuring
        self._conditions = [condition(text) for text in fail_on]
        self._before = read_baseline(baseline) if baseline is not None else []

    def deliver(self, report: Report, heard: Heard) -> int:
        """Write the report where it was asked for, show it, and return the exit code."""
        from alm_cli.bench import reports
        from alm_cli.bench.pages import to_html
        from alm_cli.bench.pictures import picture

        forms: dict[str, Callable[[Report], bytes]] = {
            "json": lambda report: _lines(reports.to_json(report)),
            "csv": lambda report: _lines(reports.to_csv(report)),
            "markdown": lambda report: _lines(reports.to_markdown(report)),
            "html": lambda report: _lines(to_html(report, heard)),
            "plot": picture,
        }
        taken = False
        for kind, path in self._outputs.items():
            made = forms[kind](report)
            target = None if str(path) == STDOUT else path
            taken |= target is None
            with open_sink(target, sys.stdout.buffer) as file:
                file.write(made)
        show(report, stderr=taken)
        told = reports.failures(report.rows, self._before, self._conditions, report.keys)
        for line in told:
            typer.echo(f"alm: {printable(line)}", err=True)
        if any(remark.startswith(BROKEN_OFF) for remark in report.remarks):
            return INTERRUPTED
        return SOME_FAILED if told else DONE


def _lines(text: str) -> bytes:
    return text.rstrip("\n").encode() + b"\n"


def show(report: Report, *, stderr: bool = False) -> None:
    """A table for eyes: a block for each row, as there are more columns than a terminal has."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from alm_cli.bench.reports import NOTHING, notes, shown

    console = Console(stderr=stderr, highlight=False)
    columns = report.used
    cells = [
        [shown(row.get(c.key), 0 if c is columns[0] else c.digits, ranges=False) for c in columns]
        for row in report.rows
    ]
    room = console.width - max(len(column.head) for column in columns)
    for beside in _lines_of(cells, room):
        table = Table(box=None, pad_edge=False)
        for title in ("", *(row[0] for row in beside)):
            table.add_column(escape(title), justify="right" if title else "left", no_wrap=True)
        for column, *figures in zip(columns[1:], *(row[1:] for row in beside), strict=True):
            if any(figure != NOTHING for figure in figures):
                table.add_row(escape(column.head), *map(escape, figures))
        console.print(table)
    for column in columns:
        if column.meaning:
            console.print(f"  {column.title}: {column.meaning}", markup=False, soft_wrap=True)
    for text in notes(report):
        console.print(f"  {text}", markup=False, soft_wrap=True)


def _lines_of(rows: Sequence[list[str]], room: int) -> Iterator[list[list[str]]]:
    """As many rows as fit beside one another, each as wide as its widest cell; at least one."""
    taken, left = list[list[str]](), room
    for row in rows:
        wide = max(map(len, row)) + 2
        if taken and wide > left:
            yield taken
            taken, left = [], room
        taken, left = [*taken, row], left - wide
    yield taken


def _beginning(path: Path, seconds: float) -> Any:
    """The first seconds of a recording, mixed to one channel. InputError: there are none."""
    import numpy as np

    from alm_cli.files.audio import open_audio
    from alm_cli.values import Audio

    with open_audio(path) as reader:
        block = next(reader.blocks(max(1, round(seconds * reader.rate))), None)
        if block is None or not block.shape[1]:
            raise InputError("holds no audio")
        mono = block.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
        return Audio(mono, reader.rate)
