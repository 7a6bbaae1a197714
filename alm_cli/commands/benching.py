"""The steps of `alm bench`: recordings through codecs, and reports to where they are wanted."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from alm_cli.errors import DONE, INTERRUPTED, SOME_FAILED, AlmError, InputError, UsageError
from alm_cli.jobs.interrupts import Interrupted, orderly
from alm_cli.jobs.report import printable
from alm_cli.jobs.sinks import STDOUT, open_sink

if TYPE_CHECKING:
    from alm_cli.bench.codecs import Bench, Recording
    from alm_cli.bench.reports import Cell, Report
    from alm_cli.values import Audio

    Heard = Mapping[str, Sequence[tuple[str, Audio]]]


@dataclass(frozen=True, kw_only=True)
class CodecBench:
    """One `alm bench codec`; `say` tells how far it is."""

    models: Sequence[str]
    against: Sequence[str]
    codebooks: Sequence[int]
    runs: int
    loading: Mapping[str, Any]
    say: Callable[[str], None]
    rewrite: str | None = None
    texts: Path | None = None

    def report(self, paths: Sequence[Path], seconds: float) -> tuple[Report, Heard]:
        """Measure everything, or what there is when interrupted. AlmError: nothing can be."""
        from alm_cli.bench.classical import classical
        from alm_cli.bench.codecs import COLUMNS, Bench
        from alm_cli.bench.environment import environment
        from alm_cli.bench.reports import Report
        from alm_cli.checkpoints.reader import file_sha256

        others = [classical(text) for text in self.against]
        bench = Bench(recordings(paths, seconds, self.say), runs=self.runs)
        if self.rewrite is not None:
            self._write(bench, paths, seconds)
        rows: list[dict[str, Cell]] = []
        remarks = [f"{len(bench.recordings)} recordings, the first {seconds:g} s of each, mono"]
        try:
            with orderly():
                for name in self.models:
                    rows += self._codec(bench, name)
                for other in others:
                    rows.append(bench.classical(other))
                    self.say(f"{other.name}: measured")
        except (KeyboardInterrupt, Interrupted):
            if not rows:
                raise
            remarks.append("interrupted: what was measured until then")
        if bench.noisy:
            remarks.append("the machine was busy with other work: the speeds are too low")
        report = Report(
            kind="codec",
            environment=environment(seed=0, warm_up=bench.warm_up, repetitions=self.runs),
            columns=COLUMNS,
            rows=rows,
            skipped=bench.skipped,
            remarks=remarks,
            data={one.name: file_sha256(one.path) for one in bench.recordings},
            names=("codec", "codebooks"),
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

    def _codec(self, bench: Bench, name: str) -> Iterator[dict[str, Cell]]:
        """The rows of one codec as they are measured, the last with all that is measured once."""
        from alm_cli.systems.codec import load_codec

        began = time.perf_counter()
        codec = load_codec(name, **self.loading)
        took = time.perf_counter() - began
        points = bench.points(codec, self.codebooks)
        for row in bench.codec(codec, points):
            self.say(f"{codec.name}: {row['codebooks']} of {points[-1]} codebooks measured")
            once = row["codebooks"] == points[-1]
            yield row | ({"load_s": took, **bench.cold(name)} if once else {})


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
        if any(remark.startswith("interrupted") for remark in report.remarks):
            return INTERRUPTED
        return SOME_FAILED if told else DONE


def _lines(text: str) -> bytes:
    return text.rstrip("\n").encode() + b"\n"


def show(report: Report, *, stderr: bool = False) -> None:
    """A table for eyes: a block for each row, as there are more columns than a terminal has."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from alm_cli.bench.reports import notes, shown

    console = Console(stderr=stderr, highlight=False)
    columns = report.used
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for row in report.rows:
        table.add_column(escape(shown(row.get(columns[0].key), 0)), justify="right")
    for column in columns[1:]:
        cells = (shown(row.get(column.key), column.digits, ranges=False) for row in report.rows)
        table.add_row(escape(column.head), *cells)
    console.print(table)
    for column in columns:
        if column.meaning:
            console.print(f"  {column.title}: {column.meaning}", markup=False, soft_wrap=True)
    for text in notes(report):
        console.print(f"  {text}", markup=False, soft_wrap=True)


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
