"""The options of `alm speak` alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import typer

DEFAULT_MODEL = "alm-tts"


def speakers(incomplete: str) -> Iterator[tuple[str, str]]:
    """The speakers of the catalogue that begin like this, with their notes, for the shell."""
    from alm_cli.catalog import CATALOG

    for card in CATALOG:
        if card.task == "speaker" and card.name.startswith(incomplete):
            yield card.name, card.note


Text = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TEXT", help="What to say, or - for standard input.", show_default=False
    ),
]
File = Annotated[
    str | None,
    typer.Option("--file", "-f", metavar="FILE", help="Say the text in this file."),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH",
        help="A speaker that `alm models` lists, or the folder or file of one.",
        autocompletion=speakers,
    ),
]
Voice = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        show_default="the model's first",
        help="A voice that `alm voices` lists, or a recording to speak like.",
    ),
]
Speed = Annotated[float, typer.Option(metavar="X", help="2 is twice as fast.")]
Duration = Annotated[
    float | None, typer.Option(metavar="S", help="How long the whole lasts, to the sample.")
]
Pause = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=60,
        metavar="S",
        show_default="0.4 at the usual speed",
        help="The pause between sentences; others are in proportion.",
    ),
]
Markup = Annotated[
    Literal["auto", "ssml", "none"],
    typer.Option(help="auto takes what begins with <speak for SSML."),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse markup that is not understood, and do not warn.")
]
AsWritten = Annotated[
    bool,
    typer.Option("--as-written", help="Give the model the text as it is: no numbers in words."),
]
Own = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A setting that only this model has, as rules=transformers of bark; any other name is"
        " answered with those that there are.",
        show_default=False,
    ),
]
Stream = Annotated[bool, typer.Option("--stream", help="Write while the model still speaks.")]
BatchFile = Annotated[
    str | None,
    typer.Option(
        "--batch",
        metavar="FILE",
        help="Say the texts of a list (.jsonl, .csv, .tsv, .txt) into the folder -o, together.",
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="How many texts of --batch are said at a time."),
]
Timestamps = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        help="Write beside OUT when what is said: srt, vtt, json (with words), tsv, textgrid;"
        " several with commas between.",
    ),
]
SaveTokens = Annotated[
    str | None,
    typer.Option(metavar="FILE|DIR/", help="Keep the tokens of what is said too."),
]
FromTokens = Annotated[
    str | None, typer.Option(metavar="FILE", help="Say what --save-tokens kept, without a text.")
]
Continue = Annotated[
    str | None,
    typer.Option(
        "--continue", metavar="CLIP", help="Go on from this recording, or these tokens, of a voice."
    ),
]
Verify = Annotated[
    bool,
    typer.Option("--verify", help="Listen to what is said, and say again what is not understood."),
]
VerifyModel = Annotated[str, typer.Option(metavar="NAME|PATH", help="The recogniser that listens.")]
