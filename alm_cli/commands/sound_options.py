"""The options of commands that make sounds of texts."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

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
Format = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        show_default="by the suffix of OUT, or wav",
        help="wav, wav24, wavf (float), flac, ogg, opus, mp3, or raw samples such as s16le.",
    ),
]
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16", "int8"],
    typer.Option(help="The numbers the model computes with; int8 for some on processors."),
]
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
