"""The options that commands share, so that each reads and behaves the same everywhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

AUTO = "auto"
DEFAULT_MODEL = "alm-codec"


def model_names(incomplete: str) -> Iterator[tuple[str, str]]:
    """The models of the catalogue that begin like this, with their notes, for the shell."""
    from alm_cli.catalog import CATALOG

    for card in CATALOG:
        if card.name.startswith(incomplete):
            yield card.name, card.note


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise typer.BadParameter(f"{text!r} is not auto, cpu, cuda or cuda:N.")
    return text


def _batch_size(text: str) -> str:
    if text != AUTO and not (text.isdecimal() and int(text) > 0):
        raise typer.BadParameter(f"{text!r} is neither a positive number nor auto.")
    return text


Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        help="Files, folders, patterns, or - for standard input.",
        show_default=False,
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="A file; a folder, ending in /, which mirrors the tree; or - for standard output."
        " Without it each result lies beside its input.",
    ),
]
FromList = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Read more inputs from a file, one a line; - is standard input."
    ),
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Look into the folders inside folders too.")
]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Leave outputs that are there and still valid.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that are there.")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH",
        help="A model that `alm models` lists, or the folder or file of one.",
        autocompletion=model_names,
    ),
]
Codebooks = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Use the first N codebooks.")
]
Device = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda[:N]",
        callback=_device,
        help="Where the model runs.",
        autocompletion=lambda: ["auto", "cpu", "cuda"],
    ),
]
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16"],
    typer.Option(help="The numbers the model computes with."),
]
Threads = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Processor threads for the model.")
]
BatchSize = Annotated[
    str,
    typer.Option(
        metavar="N|auto",
        callback=_batch_size,
        help="How many inputs are worked on at a time; results never depend on it.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one line of JSON per item on standard output.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say only what failed.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")]


def check_model(name: str) -> None:
    """Refuse a name that is neither in the catalogue nor on disk, before anything is loaded."""
    from alm_cli.catalog import find_card

    if os.sep not in name and not Path(name).exists():
        find_card(name)
