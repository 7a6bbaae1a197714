"""`alm bench`: what codecs cost and keep, and where the time of a spoken reply goes."""

from __future__ import annotations

import json as jsons
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from alm_cli.commands import options
from alm_cli.errors import UsageError
from alm_cli.jobs.sources import find_items

app = typer.Typer(help="Measure codecs, and the latency of replies.", no_args_is_help=True)

Inputs = Annotated[
    list[str],
    typer.Argument(metavar="INPUT", help="Recordings, folders or patterns.", show_default=False),
]
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
Runs = Annotated[int, typer.Option(min=1, metavar="N", help="Timed runs, in turn.")]
Limit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Use so many recordings, evenly chosen.")
]
Seconds = Annotated[
    float, typer.Option(min=0.1, metavar="S", help="Use so much of each recording's beginning.")
]
Json = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the report as JSON; - is stdout.")
]
Csv = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the rows as CSV; - is stdout.")
]
Markdown = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the table as Markdown; - is stdout.")
]
Html = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write one page with curves, players and spectrograms."),
]
Baseline = Annotated[
    Path | None, typer.Option(metavar="JSON", help="An earlier report, for --fail-on.")
]
FailOn = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY>+P%",
        help="Exit with 1 where a figure grew (or KEY<-P%, fell) since the baseline.",
    ),
]


@app.command("codec")
def codec(
    inputs: Inputs,
    model: Models = None,
    against: Against = "",
    codebooks: Points = "",
    runs: Runs = 5,
    limit: Limit = None,
    seconds: Seconds = 30.0,
    json: Json = None,
    csv: Csv = None,
    markdown: Markdown = None,
    html: Html = None,
    baseline: Baseline = None,
    fail_on: FailOn = None,
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

    outputs = {"json": json, "csv": csv, "markdown": markdown, "html": html}
    delivery = Delivery(outputs, baseline, fail_on or [])
    names = model or [options.DEFAULT_MODEL]
    for name in names:
        options.check_model(name)
    task = CodecBench(
        models=names,
        against=[text for text in against.split(",") if text],
        codebooks=_numbers(codebooks),
        runs=runs,
        loading={"device": device, "dtype": dtype, "threads": threads},
        say=(lambda text: None if quiet else typer.echo(text, err=True)),
    )
    report, heard = task.report(_items(inputs, recursive, limit), seconds)
    raise typer.Exit(delivery.deliver(report, heard))


Asr = Annotated[
    float, typer.Option("--asr", min=0, metavar="S", help="From the last sound to the final text.")
]
LlmFirst = Annotated[
    float, typer.Option("--llm-first", min=0, metavar="S", help="To the first token of the answer.")
]
LlmToken = Annotated[
    float, typer.Option("--llm-token", min=0, metavar="S", help="For each further token.")
]
TokenCount = Annotated[int, typer.Option("--tokens", min=1, metavar="N", help="Of the answer.")]
Speakable = Annotated[
    int, typer.Option(min=1, metavar="N", help="Tokens after which the voice can begin.")
]
Tts = Annotated[
    float, typer.Option("--tts", min=0, metavar="S", help="From text to the first sound.")
]
EndToEnd = Annotated[
    float | None,
    typer.Option(min=0, metavar="S", help="The same of a model that hears and speaks, beside it."),
]
JsonLine = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]


@app.command("latency")
def latency(
    asr: Asr,
    llm_first: LlmFirst,
    llm_token: LlmToken,
    tts: Tts,
    tokens: TokenCount = 50,
    speakable: Speakable = 1,
    end_to_end: EndToEnd = None,
    json: JsonLine = False,
) -> None:
    """Add up a spoken reply: recognise, think, speak, one after another and streamed.

    The first sound of a cascade against the 200 ms that people leave between turns.
    """
    from alm_cli.bench.timeline import Reply
    from alm_cli.commands.benching import timeline_facts, timeline_picture

    reply = Reply(
        asr_s=asr,
        llm_first_s=llm_first,
        llm_token_s=llm_token,
        tokens=tokens,
        tts_s=tts,
        speakable=speakable,
    )
    facts = timeline_facts(reply, end_to_end)
    typer.echo(jsons.dumps(facts) if json else timeline_picture(reply, facts))


def _numbers(text: str) -> list[int]:
    """`1,4,8` as numbers. UsageError: they are none."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"--codebooks {text!r}", hint="numbers from 1, with commas: 1,4,8")
    return [int(part) for part in parts]


def _items(inputs: Sequence[str], recursive: bool, limit: int | None) -> list[Path]:
    """The recordings, or an even choice of so many. UsageError: standard input."""
    from alm_cli.files.audio import AUDIO_SUFFIXES

    found = [item.path for item in find_items(inputs, suffixes=AUDIO_SUFFIXES, recursive=recursive)]
    paths = [path for path in found if path is not None]
    if len(paths) < len(found):
        raise UsageError("standard input cannot be measured again and again", hint="give files")
    if limit is None or limit >= len(paths):
        return paths
    return [paths[index * len(paths) // limit] for index in range(limit)]
