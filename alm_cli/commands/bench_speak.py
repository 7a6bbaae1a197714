"""`alm bench speak`: how soon, how steadily and how fast models speak."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alm_cli.commands import bench_options as own
from alm_cli.commands import options, speak_options
from alm_cli.errors import InputError, UsageError
from alm_cli.jobs.interrupts import Interrupted, orderly

_TEXT = "The birch canoe slid on the smooth planks."  # Harvard sentences, IEEE 1969

Texts = Annotated[
    list[str] | None,
    typer.Argument(metavar="TEXT", help="What to say; each text is a line.", show_default=_TEXT),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH",
        show_default=speak_options.DEFAULT_MODEL,
        help="A speaker; may be given several times.",
        autocompletion=speak_options.speakers,
    ),
]
File = Annotated[
    Path | None, typer.Option("--file", "-f", metavar="FILE", help="A text for each line.")
]


def speak(
    texts: Texts = None,
    model: Models = None,
    file: File = None,
    voice: speak_options.Voice = None,
    runs: own.Runs = 3,
    cold: own.Cold = True,
    json: own.Json = None,
    csv: own.Csv = None,
    markdown: own.Markdown = None,
    html: own.Html = None,
    plot: own.Plot = None,
    baseline: own.Baseline = None,
    fail_on: own.FailOn = None,
    device: options.Device = options.AUTO,
    dtype: own.Numbers = "float32",
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """Measure time to the first sound, gaps, underruns, speed and memory of speakers.

    The first sound is the first sample above -50 dB of full scale as a player without any buffer
    plays it, not the first chunk, which may be silent.
    """
    from alm_cli.commands.benching import Delivery

    outputs = {"json": json, "csv": csv, "markdown": markdown, "html": html, "plot": plot}
    delivery = Delivery(outputs, baseline, fail_on or [])
    names = model or [speak_options.DEFAULT_MODEL]
    for name in names:
        options.check_model(name)
    lines = _lines(texts or [], file) or [_TEXT]

    from alm_cli.bench.environment import environment
    from alm_cli.bench.reports import Cell, Report
    from alm_cli.bench.speakers import COLUMNS, Speaking, load_timed

    loading = {"device": device, "dtype": dtype, "threads": threads}
    bench = Speaking(lines, voice=voice, runs=runs)
    speakers = [load_timed(name, **loading) for name in names]
    rows: list[dict[str, Cell]] = []
    remarks = [f"{len(lines)} lines, {sum(map(len, lines))} characters, {runs} times each"]
    try:
        with orderly():
            rows = bench.rows(speakers)
            for row, name in zip(rows, names, strict=True):
                row |= bench.cold(name) if cold else {}
                if not quiet:
                    typer.echo(f"{name}: measured", err=True)
    except (KeyboardInterrupt, Interrupted):
        if not rows:
            raise
        remarks.append("interrupted: what was measured until then")
    if bench.noisy:
        remarks.append("the machine was busy with other work: the speeds are too low")
    report = Report(
        kind="speak",
        environment=environment(seed=bench.seed, warm_up=bench.warm_up, repetitions=runs),
        columns=COLUMNS,
        rows=rows,
        remarks=remarks,
        data={name: speaker.weights_sha256 for name, speaker, _ in speakers},
    )
    raise typer.Exit(delivery.deliver(report, {}))


def _lines(texts: list[str], file: Path | None) -> list[str]:
    """The texts given and those of the file. UsageError: both; InputError: it cannot be read."""
    if file is None:
        return texts
    if texts:
        raise UsageError("TEXT and --file exclude each other")
    try:
        told = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read", hint="a text in UTF-8") from error
    return [line for line in map(str.strip, told.splitlines()) if line]
