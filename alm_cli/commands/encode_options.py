"""The options of `alm encode` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Bitrate = Annotated[
    float | None,
    typer.Option(metavar="KBPS", help="Use as many codebooks as fit into this bitrate."),
]
Channels = Annotated[
    list[str] | None,
    typer.Option(
        metavar="mono|dual|native",
        show_default="mono",
        help="Mix to one channel, encode every channel by itself, or leave them to the codec."
        " With --raw, a number says how many channels the raw audio has; both can be given.",
    ),
]
Layer = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help="Of an encoder: the features after its first N blocks."),
]
Kmeans = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Turn features into units by these centroids, a .npy or .safetensors file.",
    ),
]
Normalize = Annotated[
    bool | None,
    typer.Option(
        "--normalize/--no-normalize",
        show_default="as the model was trained",
        help="Whether an encoder hears recordings at zero mean and unit variance.",
    ),
]
Windowed = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Encode in windows of this length, as DAC's own program does; decoding knows.",
    ),
]
Loudness = Annotated[
    float | None,
    typer.Option(
        min=-70,
        max=0,
        metavar="LUFS",
        help="Bring recordings to this loudness before they are encoded; decoding brings it back.",
    ),
]
Pack = Annotated[
    Literal["bits", "entropy"],
    typer.Option(help="How codes are stored: in whole bits, or smaller, by how likely they are."),
]
Stream = Annotated[
    bool, typer.Option("--stream", help="Write a segment as soon as it is encoded, for live pipes.")
]
SegmentFrames = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", show_default="1 second", help="The frames in a segment of --stream."
    ),
]
Raw = Annotated[
    str | None,
    typer.Option(
        metavar="ENCODING",
        help="The inputs are bare samples in this encoding, such as s16le or f32le; needs --rate.",
    ),
]
RawRate = Annotated[
    int | None, typer.Option(min=1, metavar="HZ", help="The sample rate of --raw audio.")
]
Shards = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Write a data set into the folder OUT: N tar files of tokens, each with an index."
        " The same command again goes on where it ended.",
    ),
]
ShardSize = Annotated[
    int | None,
    typer.Option(min=1, metavar="ITEMS", help="The same, with so many items in a shard."),
]
Manifest = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="The items of the data set: paths, one a line; JSON lines or a table with tabs, with"
        " path and perhaps id, offset and duration in seconds. - is standard input.",
    ),
]
NumShards = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Of N jobs that share the shards of a data set, do the share of one.",
    ),
]
ShardIndex = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="I",
        show_default="by SLURM_ARRAY_TASK_ID",
        help="Which of the --num-shards jobs this is, from 0.",
    ),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Try again what failed in earlier runs.")
]
Engine = Annotated[
    Literal["local", "ray"],
    typer.Option(help="Where the shards are made: in this process, or on the nodes of Ray."),
]
