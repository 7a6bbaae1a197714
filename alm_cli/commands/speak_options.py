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
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="A file, whose suffix names the format; with --batch a folder; or - for standard"
        " output, where WAV, or what --format says, goes without it too if it is no terminal.",
    ),
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
Seed = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=2**32 - 1,
        metavar="N",
        show_default="random, and told",
        help="The same seed gives the same sound.",
    ),
]
Temperature = Annotated[
    float | None, typer.Option(min=0, metavar="X", help="More is livelier and less certain.")
]
TopK = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Choose among the N likeliest only; 0: all.")
]
TopP = Annotated[
    float | None,
    typer.Option(metavar="X", help="Choose among the likeliest, up to this probability."),
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
Format = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        show_default="by the suffix of OUT, or wav",
        help="wav, wav24, wavf (float), flac, ogg, opus, mp3, or raw samples such as s16le.",
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
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16", "int8"],
    typer.Option(help="The numbers the model computes with; int8 for some on processors."),
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
AcceptLicense = Annotated[
    bool,
    typer.Option(
        "--accept-license", help="Accept, once for all, a licence that restricts what may be done."
    ),
]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing",
        help="With --batch: leave what would be the same again, and what is not ours.",
    ),
]
