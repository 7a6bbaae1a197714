"""`alm bench`: what codecs cost and keep, and where the time of a spoken reply goes."""

from __future__ import annotations

from typing import Annotated

import typer

from alm_cli.commands import bench_options as own
from alm_cli.commands import options
from alm_cli.commands.bench_adapters import adapters
from alm_cli.commands.bench_latency import latency
from alm_cli.commands.bench_music import music
from alm_cli.commands.bench_speak import speak
from alm_cli.commands.bench_transcribe import Texts, transcribe
from alm_cli.errors import UsageError

app = typer.Typer(
    help="Measure codecs, recognisers, voices and composers, and the latency of replies.",
    no_args_is_help=True,
)
app.command("transcribe")(transcribe)
app.command("speak")(speak)
app.command("music")(music)
app.command("latency")(latency)
app.command("adapters")(adapters)

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH",
        show_default=options.DEFAULT_MODEL,
        help="A codec; may be given several times.",
        autocompletion=options.model_names,
    ),
]
Against = Annotated[
    str,
    typer.Option(
        metavar="CODEC,...", help="Classical codecs beside it: opus:6, opus:12, mp3:64 (kbps)."
    ),
]
Points = Annotated[
    str,
    typer.Option(
        metavar="N,...",
        show_default="1, 2, 4 ... and all",
        help="Numbers of codebooks that get a row.",
    ),
]
_PROGRAMS = ("transformers", "encodec", "descript-audio-codec")
Peers = Annotated[
    str,
    typer.Option(
        metavar="PROGRAM,...",
        help="The same codec in transformers, encodec, descript-audio-codec.",
    ),
]
Rewrite = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|PATH",
        help="Let this recogniser write down what was decoded, and count the words lost.",
        autocompletion=options.model_names,
    ),
]


@app.command("codec")
def codec(
    inputs: own.Inputs,
    model: Models = None,
    against: Against = "",
    peers: Peers = "",
    codebooks: Points = "",
    rewrite: Rewrite = None,
    texts: Texts = None,
    runs: own.Runs = 5,
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
    dtype: options.Dtype = "float32",
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """Measure bitrate, use of codebooks, quality, speed, memory and stability of codecs.

    A row for every number of codebooks; speed, memory and stability in the last row of a codec.
    Recordings are mixed to one channel. Ctrl-C keeps what was measured. What a column means, and
    when it misleads, stands below the table.
    """
    from alm_cli.commands.benching import CodecBench, Delivery

    outputs = {"json": json, "csv": csv, "markdown": markdown, "html": html, "plot": plot}
    delivery = Delivery(outputs, baseline, fail_on or [])
    names = model or [options.DEFAULT_MODEL]
    for name in names:
        options.check_model(name)
    task = CodecBench(
        models=names,
        against=[text for text in against.split(",") if text],
        peers=own.programs(peers, _PROGRAMS),
        codebooks=_numbers(codebooks),
        runs=runs,
        cold=cold,
        rewrite=rewrite,
        texts=texts,
        loading={"device": device, "dtype": dtype, "threads": threads},
        say=(lambda text: None if quiet else typer.echo(text, err=True)),
    )
    report, heard = task.report(own.items(inputs, recursive, limit), seconds)
    raise typer.Exit(delivery.deliver(report, heard))


def _numbers(text: str) -> list[int]:
    """`1,4,8` as numbers. UsageError: they are none."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"--codebooks {text!r}", hint="numbers from 1, with commas: 1,4,8")
    return [int(part) for part in parts]
