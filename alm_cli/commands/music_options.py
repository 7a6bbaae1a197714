"""The options of `alm generate-music` alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

DEFAULT_MODEL = "alm-music"


def composers(incomplete: str) -> Iterator[tuple[str, str]]:
    """The composers of the catalogue that begin like this, with their notes, for the shell."""
    from alm_cli.catalog import CATALOG

    for card in CATALOG:
        if card.task == "composer" and card.name.startswith(incomplete):
            yield card.name, card.note


Prompt = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PROMPT",
        help="What the music is like, in words, or - for standard input.",
        show_default=False,
    ),
]
File = Annotated[
    str | None,
    typer.Option("--file", "-f", metavar="FILE", help="The prompt is in this file."),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH",
        help="A composer that `alm models` lists, or the folder or file of one.",
        autocompletion=composers,
    ),
]
Duration = Annotated[
    float,
    typer.Option(metavar="S", help="How long the music lasts, to the sample; up to an hour."),
]
Guidance = Annotated[
    float | None,
    typer.Option(min=0, metavar="X", help="More follows the prompt more closely; 1 is none."),
]
Melody = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Follow the melody of this recording, or MIDI file."),
]
Continue = Annotated[
    str | None,
    typer.Option(
        "--continue", metavar="CLIP", help="Go on from this recording, or these tokens; OUT begins"
        " where they end.",
    ),
]  # fmt: skip
Loop = Annotated[
    bool,
    typer.Option("--loop", help="Make whole bars whose end goes on with their beginning."),
]
Variations = Annotated[
    int,
    typer.Option(
        min=1,
        max=1000,
        metavar="N",
        help="Make N pieces, OUT-1 to OUT-N, whose seeds follow from the first.",
    ),
]
Stream = Annotated[bool, typer.Option("--stream", help="Write while the model still composes.")]
BatchFile = Annotated[
    str | None,
    typer.Option(
        "--batch",
        metavar="FILE",
        help="Compose for the prompts of a list (.jsonl, .csv, .tsv, .txt) into the folder -o,"
        " together.",
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        min=1, metavar="N", help="How many pieces of --batch or --variations are made at a time."
    ),
]
SaveTokens = Annotated[
    str | None,
    typer.Option(metavar="FILE|DIR/", help="Keep the tokens of the music too."),
]
FromTokens = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Play what --save-tokens kept, without a prompt."),
]
SaveScore = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|DIR/", help="Write the notes as MIDI too, for models that know them."
    ),
]
