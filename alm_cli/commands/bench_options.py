"""The options that the commands of `alm bench` share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from alm_cli.errors import UsageError
from alm_cli.jobs.sources import find_items

Inputs = Annotated[
    list[str],
    typer.Argument(metavar="INPUT", help="Recordings, folders or patterns.", show_default=False),
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
Plot = Annotated[
    Path | None, typer.Option(metavar="PNG", help="Draw the most telling figures as one picture.")
]
Cold = Annotated[
    bool,
    typer.Option("--cold/--no-cold", help="Start the program anew too, for peak memory."),
]
Numbers = Annotated[
    Literal["float32", "bfloat16", "float16", "int8"],
    typer.Option(help="The numbers the model computes with; int8 for a Whisper on a processor."),
]


def items(inputs: Sequence[str], recursive: bool, limit: int | None) -> list[Path]:
    """The recordings, or an even choice of so many. UsageError: standard input."""
    from alm_cli.files.audio import AUDIO_SUFFIXES

    found = [item.path for item in find_items(inputs, suffixes=AUDIO_SUFFIXES, recursive=recursive)]
    paths = [path for path in found if path is not None]
    if len(paths) < len(found):
        raise UsageError("standard input cannot be measured again and again", hint="give files")
    if limit is None or limit >= len(paths):
        return paths
    return [paths[index * len(paths) // limit] for index in range(limit)]


def programs(text: str, known: Sequence[str]) -> list[str]:
    """The programs in `--peers a,b`. UsageError: one is not known."""
    names = [name for name in text.split(",") if name]
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"--peers {unknown[0]}", hint=f"one of {', '.join(known)}")
    return list(dict.fromkeys(names))
