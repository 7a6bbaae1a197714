"""`alm bench speak`: how soon, how steadily and how fast models speak."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alm_cli.commands import bench_options as own
from alm_cli.commands import options, speak_options
from alm_cli.commands.bench_heard import given_lines, heard_report

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
    lines = given_lines(texts or [], file, "TEXT") or [_TEXT]

    from alm_cli.bench.speakers import COLUMNS, Speaking, Trial, load_timed

    bench = Speaking(lines, voice=voice, runs=runs)
    speakers = [load_timed(name, device=device, dtype=dtype, threads=threads) for name in names]
    report = heard_report(
        "speak",
        Trial(bench, speakers),
        bench,
        COLUMNS,
        names,
        texts="lines",
        remark=f", {sum(map(len, lines))} characters",
        cold=cold,
        device=device,
        dtype=dtype,
        say=(lambda text: None if quiet else typer.echo(text, err=True)),
    )
    raise typer.Exit(delivery.deliver(report, {}))
