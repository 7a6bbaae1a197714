"""`alm encode`: recordings in, token files out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, cast

import typer

from alm_cli.commands import options
from alm_cli.commands.batch import Batch
from alm_cli.errors import AlmError, InputError, UsageError
from alm_cli.jobs.run import Steps
from alm_cli.jobs.sinks import is_newer, open_sink
from alm_cli.jobs.task import Skip, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from alm_cli.files.audio import AudioReader, RawFormat
    from alm_cli.systems.codec import Codec
    from alm_cli.values import Latents, Tokens

ChannelMode = Literal["mono", "dual", "native"]
_MODES = ("mono", "dual", "native")
# Audio is read in blocks of this many seconds; for --stream in short ones, as it arrives.
_BLOCK_S, _STREAM_BLOCK_S = 2.0, 0.05

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


def encode(
    inputs: options.Inputs = None,
    output: options.Output = None,
    model: options.Model = options.DEFAULT_MODEL,
    codebooks: options.Codebooks = None,
    bitrate: Bitrate = None,
    channels: Channels = None,
    stream: Stream = False,
    segment_frames: SegmentFrames = None,
    raw: Raw = None,
    rate: RawRate = None,
    from_list: options.FromList = None,
    recursive: options.Recursive = False,
    skip_existing: options.SkipExisting = False,
    overwrite: options.Overwrite = False,
    batch_size: options.BatchSize = options.AUTO,
    device: options.Device = options.AUTO,
    dtype: options.Dtype = "float32",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Turn recordings into token files."""
    batch = Batch(
        "encode",
        inputs or (),
        output,
        from_list=from_list,
        recursive=recursive,
        skip_existing=skip_existing,
        overwrite=overwrite,
        together=batch_size,
        json=json,
        quiet=quiet,
        verbose=verbose,
    )
    mode, raw_channels = _split_channels(channels or (), raw)
    _check(codebooks, bitrate, stream, segment_frames, raw, rate)
    options.check_model(model)

    from alm_cli.files.audio import AUDIO_SUFFIXES, RawFormat
    from alm_cli.files.tokens import TOKEN_SUFFIX

    layout = None if raw is None or rate is None else RawFormat(raw, rate, raw_channels)
    suffixes = AUDIO_SUFFIXES if raw is None else {".raw", ".pcm", f".{raw}"}

    def steps() -> Steps[Chunk, Tokens | Latents]:
        from alm_cli.systems.codec import load_codec

        codec = load_codec(model, device=device, dtype=dtype, threads=threads)
        books = codebooks if bitrate is None else codec.codebooks_for(bitrate)
        frames = segment_frames or max(1, round(codec.frame_rate)) if stream else None
        # A number of codebooks that it does not have is a mistake of usage, told before any work.
        codec.encoder(codec.rate, codec.channels, codebooks=books)
        encoding = Encoding(codec, books, mode, frames, layout, skip_existing)
        return Steps(encoding.read, encoding.work, encoding.write)

    batch.run(batch.tasks(suffixes, TOKEN_SUFFIX), steps)


class Chunk(NamedTuple):
    """Samples [C, n] and the reader that they come from."""

    reader: AudioReader
    samples: NDArray[np.float32]


@dataclass(frozen=True)
class Encoding:
    """The steps of one `alm encode`; `segment_frames` is None unless it streams."""

    codec: Codec
    codebooks: int | None
    mode: ChannelMode
    segment_frames: int | None
    layout: RawFormat | None
    skip_existing: bool

    def read(self, task: Task) -> Iterator[Chunk]:
        """The recording in blocks, an empty one first: whoever waits learns its rate at once."""
        import numpy as np

        from alm_cli.files.audio import open_audio

        if self.skip_existing and self._is_current(task):
            raise Skip("its tokens are there and still valid")
        source = task.item.path or sys.stdin.buffer
        with open_audio(source, raw=self.layout) as reader:
            yield Chunk(reader, np.zeros((reader.channels, 0), np.float32))
            block_s = _BLOCK_S if self.segment_frames is None else _STREAM_BLOCK_S
            for samples in reader.blocks(max(1, round(block_s * reader.rate))):
                yield Chunk(reader, samples)

    def work(self, task: Task, chunks: Iterator[Chunk]) -> Iterator[Tokens | Latents]:
        """The tokens: one value, or one for every segment."""
        reader = next(chunks).reader
        task.length_s = reader.seconds
        stream = self.codec.encoder(
            reader.rate,
            reader.channels,
            codebooks=self.codebooks,
            channels=self.mode,
            segment_frames=self.segment_frames,
        )
        length = 0
        for chunk in chunks:
            length += chunk.samples.shape[1]
            task.seconds = length / reader.rate
            yield from stream.push(chunk.samples)
        if not length:
            raise InputError("holds no audio")
        yield from stream.finish()
        self._note_input(task, reader)

    def write(self, task: Task, pieces: Iterator[Tokens | Latents]) -> None:
        """Write the segments one after the other, each at once."""
        from alm_cli.files.tokens import to_bytes

        first = next(pieces)
        frames = size = 0
        with open_sink(task.target, sys.stdout.buffer) as file:
            for tokens in chain([first], pieces):
                data = to_bytes(tokens)
                file.write(data)
                file.flush()
                frames += tokens.frames
                size += len(data)
        task.facts |= {
            "codec": first.origin.codec,
            "streams": first.streams,
            "codebooks": first.codebooks,
            "frames": frames,
            "tokens": frames * first.codebooks * first.streams,
            "bytes": size,
            "kbps": round(size * 8 / 1000 / task.seconds, 3),
        }

    def _note_input(self, task: Task, reader: AudioReader) -> None:
        task.facts |= {
            "rate": reader.rate,
            "channels": reader.channels,
            "clipped": reader.clipped,
            "nonfinite": reader.nonfinite,
            "truncated": reader.truncated,
        }
        if self.mode == "mono" and reader.channels > 1:
            task.warnings.append(f"{reader.channels} channels were mixed to one")
        if reader.truncated:
            task.warnings.append("ends before its header says; what is there was encoded")
        if reader.clipped:
            task.warnings.append(f"{reader.clipped} samples lie beyond full scale")
        if reader.nonfinite:
            task.warnings.append(f"{reader.nonfinite} samples were not numbers and became silence")

    def _is_current(self, task: Task) -> bool:
        """Whether the output holds what would be written now, as far as can be told quickly."""
        from alm_cli.files.audio import probe_audio
        from alm_cli.files.tokens import read_tokens

        if task.item.path is None or not is_newer(task.target, task.item.path):
            return False
        try:
            made = read_tokens(task.target).origin  # which verifies the checksum
        except AlmError:
            return False
        if self.layout is not None:
            rate, channels, length = self.layout.rate, self.layout.channels, None
        else:
            source = probe_audio(task.item.path)
            rate, channels, length = source.rate, source.channels, source.length
        books = self.codebooks or len(self.codec.vocabularies)
        return (
            (made.codec, made.weights_sha256) == (self.codec.name, self.codec.weights_sha256)
            and made.vocabularies == self.codec.vocabularies[:books]
            and made.notes.get("channels") == self.mode
            and (made.source_rate, made.source_channels) == (rate, channels)
            and length in (None, made.source_length)
        )


def _split_channels(given: Sequence[str], raw: str | None) -> tuple[ChannelMode, int]:
    """What --channels says: the mode, and after --raw the channels of the raw audio."""
    modes = [text for text in given if text in _MODES]
    counts = [text for text in given if text.isdecimal() and int(text) > 0]
    wrong = [text for text in given if text not in modes + counts]
    if wrong or (counts and raw is None):
        hint = "a number is for --raw" if counts else None
        raise UsageError(f"--channels {(wrong + counts)[0]}: not one of {', '.join(_MODES)}", hint)
    if len(modes) > 1 or len(counts) > 1:
        raise UsageError(f"--channels is given twice: {' and '.join(given)}")
    return cast(ChannelMode, (modes or ["mono"])[0]), int((counts or ["1"])[0])


def _check(
    codebooks: int | None,
    bitrate: float | None,
    stream: bool,
    segment_frames: int | None,
    raw: str | None,
    rate: int | None,
) -> None:
    if codebooks is not None and bitrate is not None:
        raise UsageError("--codebooks and --bitrate exclude each other")
    if segment_frames is not None and not stream:
        raise UsageError("--segment-frames needs --stream")
    if raw is None and rate is not None:
        raise UsageError("--rate tells the rate of raw audio", hint="give --raw too")
    if raw is not None and rate is None:
        raise UsageError("raw audio does not tell its rate", hint="give --rate")
