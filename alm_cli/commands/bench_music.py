"""`alm bench music`: how soon, how steadily and how fast models compose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alm_cli.commands import bench_options as own
from alm_cli.commands import music_options, options
from alm_cli.commands.bench_heard import given_lines, heard_report
from alm_cli.commands.music_settings import check_duration

_PROMPT = "calm piano in C minor, 70 bpm"

Prompts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PROMPT", help="What to play; each prompt is a piece.", show_default=_PROMPT
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH",
        show_default=music_options.DEFAULT_MODEL,
        help="A composer; may be given several times.",
        autocompletion=music_options.composers,
    ),
]
File = Annotated[
    Path | None, typer.Option("--file", "-f", metavar="FILE", help="A prompt for each line.")
]


def music(
    prompts: Prompts = None,
    model: Models = None,
    file: File = None,
    duration: music_options.Duration = 10.0,
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
    """Measure time to the first sound, gaps, underruns, speed and memory of composers.

    The first sound is the first sample above -50 dB of full scale as a player without any buffer
    plays it, not the first chunk, which may be silent.
    """
    from alm_cli.commands.benching import Delivery

    check_duration(duration)
    outputs = {"json": json, "csv": csv, "markdown": markdown, "html": html, "plot": plot}
    delivery = Delivery(outputs, baseline, fail_on or [])
    names = model or [music_options.DEFAULT_MODEL]
    for name in names:
        options.check_model(name)
    pieces = given_lines(prompts or [], file, "PROMPT") or [_PROMPT]

    from alm_cli.bench.composers import COLUMNS, Composing, MusicTrial, load_timed

    bench = Composing(pieces, seconds=duration, dtype=dtype, runs=runs)
    composers = [load_timed(name, device=device, dtype=dtype, threads=threads) for name in names]
    report = heard_report(
        "music",
        MusicTrial(bench, composers),
        bench,
        COLUMNS,
        names,
        texts="pieces",
        remark=f" of {duration:g} s",
        cold=cold,
        device=device,
        dtype=dtype,
        say=(lambda text: None if quiet else typer.echo(text, err=True)),
    )
    raise typer.Exit(delivery.deliver(report, {}))
