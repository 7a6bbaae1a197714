"""The steps of `alm encode`: from a recording through the codec into token files."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from alm_cli.errors import AlmError, InputError, ModelError, UsageError
from alm_cli.jobs.dataset import Encoded
from alm_cli.jobs.run import Steps
from alm_cli.jobs.sinks import is_newer, open_sink
from alm_cli.jobs.task import Skip, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from alm_cli.files.audio import AudioReader, RawFormat
    from alm_cli.systems.codec import Codec
    from alm_cli.systems.encode_stream import EncodeStream
    from alm_cli.values import Latents, Tokens

ChannelMode = Literal["mono", "dual", "native"]
_MODES = ("mono", "dual", "native")
# Audio is read in blocks of this many seconds; for --stream in short ones, as it arrives.
_BLOCK_S, _STREAM_BLOCK_S = 2.0, 0.05
# Recordings in work at a time on a GPU, unless told otherwise.
_TOGETHER = 16


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides about the tokens, and where they are computed; contradictions raise UsageError.

    `rate` and `raw_channels` are those of `raw` samples; `batch` recordings are worked on at a
    time, None leaves that to the device. It can be sent to other machines.
    """

    model: str
    codebooks: int | None = None
    bitrate: float | None = None
    mode: ChannelMode = "mono"
    raw: str | None = None
    rate: int | None = None
    raw_channels: int = 1
    stream: bool = False
    segment_frames: int | None = None
    layer: int | None = None
    kmeans: Path | None = None
    normalize: bool | None = None
    windowed: float | None = None
    loudness: float | None = None
    pack: Literal["bits", "entropy"] = "bits"
    skip_existing: bool = False
    device: str = "auto"
    dtype: str = "float32"
    threads: int | None = None
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.codebooks is not None and self.bitrate is not None:
            raise UsageError("--codebooks and --bitrate exclude each other")
        if self.segment_frames is not None and not self.stream:
            raise UsageError("--segment-frames needs --stream")
        if self.raw is None and self.rate is not None:
            raise UsageError("--rate tells the rate of raw audio", hint="give --raw too")
        if self.raw is not None and self.rate is None:
            raise UsageError("raw audio does not tell its rate", hint="give --rate")

    @property
    def layout(self) -> RawFormat | None:
        """How raw samples lie in a file. UsageError: there is no such encoding."""
        from alm_cli.files.audio import RawFormat

        if self.raw is None or self.rate is None:
            return None
        return RawFormat(self.raw, self.rate, self.raw_channels)

    @property
    def suffixes(self) -> Collection[str]:
        """How the files end that a folder is searched for. UsageError: as for the layout."""
        from alm_cli.files.audio import AUDIO_SUFFIXES

        return AUDIO_SUFFIXES if self.layout is None else {".raw", ".pcm", f".{self.raw}"}

    def load(self) -> Encoding:
        """The steps, with the model in memory. ModelError, UsageError: it cannot be as asked."""
        codec = self._codec()
        if not hasattr(codec.model, "encode"):
            hint = f"it is for `alm decode --decoder {codec.name}`"
            raise ModelError(f"{codec.name} cannot encode", hint)
        books = self.codebooks if self.bitrate is None else codec.codebooks_for(self.bitrate)
        frames = self.segment_frames or max(1, round(codec.frame_rate)) if self.stream else None
        encoding = Encoding(codec, self, books, frames)
        # What the model does not have is a mistake of usage, told before any work.
        encoding.encoder(codec.rate, codec.channels)
        return encoding

    def _codec(self) -> Codec:
        """The codec, or the encoder of which one layer is asked for, or its units."""
        if all(choice is None for choice in (self.layer, self.kmeans, self.normalize)):
            from alm_cli.systems.codec import load_codec

            return load_codec(
                self.model,
                device=self.device,
                dtype=self.dtype,
                threads=self.threads,
                rows=self._rows(),
            )
        from alm_cli.systems.units import load_units

        return load_units(
            self.model,
            layer=self.layer,
            kmeans=self.kmeans,
            normalize=self.normalize,
            device=self.device,
            dtype=self.dtype,
            threads=self.threads,
        )

    def _rows(self) -> int:
        """How many recordings go through the model together: on a GPU, those in work."""
        from alm_cli.runtime import device_of

        return 1 if device_of(self.device).type == "cpu" else self.batch or _TOGETHER

    def asked(self, encoding: Encoding) -> Mapping[str, object]:
        """What must be the same for two runs to give the same tokens."""
        codec = encoding.codec
        return {
            "model": codec.name,
            "weights": codec.weights_sha256,
            "codebooks": encoding.codebooks or len(codec.vocabularies),
            "channels": self.mode,
            "raw": [self.raw, self.rate, self.raw_channels] if self.raw else None,
            "windowed": self.windowed,
            "loudness": self.loudness,
            "pack": self.pack,
            "dtype": self.dtype,
        }


class Chunk(NamedTuple):
    """Samples [C, n], the reader that they come from, and the gain in dB that they are to get."""

    reader: AudioReader
    samples: NDArray[np.float32]
    gain_db: float


@dataclass(frozen=True)
class Encoding:
    """The steps of one `alm encode`; `segment_frames` is None unless it streams."""

    codec: Codec
    settings: Settings
    codebooks: int | None
    segment_frames: int | None
    _compared: Event = field(default_factory=Event)

    def steps(self) -> Steps[Chunk, Tokens | Latents]:
        """From files to files."""
        return Steps(self.read, self.work, self.write, together=self.together)

    @property
    def together(self) -> int:
        """How many recordings are in work at a time."""
        rows = 1 if self.codec.batches is None else self.codec.batches.rows
        return self.settings.batch or rows

    def read(self, task: Task) -> Iterator[Chunk]:
        """The recording in blocks, an empty one first: whoever waits learns its rate at once."""
        import numpy as np

        from alm_cli.files.audio import open_audio

        if self.settings.skip_existing and self._is_current(task):
            raise Skip("its tokens are there and still valid")
        source = task.item.path or sys.stdin.buffer
        gain = self._gain(task)
        with open_audio(source, raw=self.settings.layout) as reader:
            yield Chunk(reader, np.zeros((reader.channels, 0), np.float32), gain)
            block_s = _BLOCK_S if self.segment_frames is None else _STREAM_BLOCK_S
            for samples in _section(reader, task, max(1, round(block_s * reader.rate))):
                yield Chunk(reader, samples, gain)

    def work(self, task: Task, chunks: Iterator[Chunk]) -> Iterator[Tokens | Latents]:
        """The tokens: one value, or one for every segment."""
        from alm_cli.runtime import is_emulated
        from alm_cli.systems.agreement import SECONDS

        reader, _, gain = next(chunks)
        task.length_s = _length(reader, task)
        stream = self.encoder(reader.rate, reader.channels, gain)
        agreement = None if self._compared.is_set() else self.codec.agreement(stream)
        self._compared.set()  # one recording is enough to tell
        length = 0
        with self.codec.joined():
            for chunk in chunks:
                length += chunk.samples.shape[1]
                task.seconds = length / reader.rate
                if agreement is not None:
                    agreement.push(chunk.samples)
                yield from stream.push(chunk.samples)
            if not length:
                start, _ = task.item.section or (0, None)
                raise InputError(f"ends before {start:g} s" if start else "holds no audio")
            yield from stream.finish()
        if agreement is not None:
            share = task.facts["agreement"] = round(agreement.share(), 4)
            told = f"{100 * share:.1f} % of the first {SECONDS:g} s has the codes of float32"
            slow = is_emulated(self.codec.device, self.codec.dtype)
            more = ", which is faster on this processor" if slow else ""
            task.warnings.append(f"{self.settings.dtype}: {told}{more}")
        self._note_input(task, reader)

    def write(self, task: Task, pieces: Iterator[Tokens | Latents]) -> None:
        """Write the segments one after the other, each at once."""
        from alm_cli.files.tokens import to_bytes

        first = next(pieces)
        frames = size = 0
        with open_sink(task.target, sys.stdout.buffer) as file:
            for tokens in chain([first], pieces):
                data = to_bytes(tokens, self.settings.pack)
                file.write(data)
                file.flush()
                frames += tokens.frames
                size += len(data)
        _note_output(task, first, frames, size)

    def encoded(self, task: Task, pieces: Iterator[Tokens | Latents]) -> Iterator[Encoded]:
        """The same for a shard: the one token file of a recording."""
        from alm_cli.files.tokens import to_bytes

        (tokens,) = pieces
        data = to_bytes(tokens, self.settings.pack)
        _note_output(task, tokens, tokens.frames, len(data))
        yield Encoded(data, tokens.frames)

    def encoder(self, rate: int, channels: int, gain_db: float = 0.0) -> EncodeStream:
        """A stream through the codec for a recording. UsageError: it cannot be as asked."""
        return self.codec.encoder(
            rate,
            channels,
            codebooks=self.codebooks,
            channels=self.settings.mode,
            segment_frames=self.segment_frames,
            gain_db=gain_db,
            windowed=self.settings.windowed,
        )

    def _gain(self, task: Task) -> float:
        """The gain in dB to the loudness asked, of the recording as the codec hears it."""
        from alm_cli.files.audio import open_audio
        from alm_cli.systems.loudness import gain_to

        path, lufs = task.item.path, self.settings.loudness
        if lufs is None:
            return 0.0
        if path is None or (path.exists() and not path.is_file()):
            raise InputError("cannot be read twice, which --loudness needs", hint="give a file")
        with open_audio(path, raw=self.settings.layout) as reader:
            blocks = _section(reader, task, reader.rate)
            if self.settings.mode == "mono":
                blocks = (block.mean(0, keepdims=True) for block in blocks)
            gain = gain_to(lufs, blocks, reader.rate)
        task.facts["gain_db"] = round(gain, 3)
        return gain

    def _note_input(self, task: Task, reader: AudioReader) -> None:
        task.facts |= {
            "rate": reader.rate,
            "channels": reader.channels,
            "clipped": reader.clipped,
            "nonfinite": reader.nonfinite,
            "truncated": reader.truncated,
        }
        if self.settings.mode == "mono" and reader.channels > 1:
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
        from alm_cli.systems.codec import noted

        if task.item.path is None or not is_newer(task.target, task.item.path):
            return False
        try:
            made = read_tokens(task.target).origin  # which verifies the checksum
        except AlmError:
            return False
        layout = self.settings.layout
        if layout is not None:
            rate, channels, length = layout.rate, layout.channels, None
        else:
            source = probe_audio(task.item.path)
            rate, channels, length = source.rate, source.channels, source.length
        books = self.codebooks or len(self.codec.vocabularies)
        return (
            (made.codec, made.weights_sha256) == (self.codec.name, self.codec.weights_sha256)
            and made.vocabularies == self.codec.vocabularies[:books]
            and made.notes.get("channels") == self.settings.mode
            and made.notes.get("dtype", "float32") == self.settings.dtype
            and noted(made, "windowed") == self.settings.windowed
            and (made.source_rate, made.source_channels) == (rate, channels)
            and length in (None, made.source_length)
            and (noted(made, "gain_db") or 0.0) == self._gain(task)
        )


def split_channels(given: Sequence[str], raw: str | None) -> tuple[ChannelMode, int]:
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


def _section(reader: AudioReader, task: Task, size: int) -> Iterator[NDArray[np.float32]]:
    """Blocks of the part that is meant, to the sample; adjoining parts neither overlap nor gape."""
    start, duration = task.item.section or (0.0, None)
    first = round(start * reader.rate)
    reader.skip(first)
    left = sys.maxsize if duration is None else round((start + duration) * reader.rate) - first
    blocks = reader.blocks(size)
    while left > 0 and (samples := next(blocks, None)) is not None:
        yield samples[:, :left]
        left -= samples.shape[1]


def _length(reader: AudioReader, task: Task) -> float | None:
    """Seconds that will be encoded, as far as is known."""
    start, duration = task.item.section or (0.0, None)
    rest = None if reader.seconds is None else max(0.0, reader.seconds - start)
    return min((length for length in (rest, duration) if length is not None), default=None)


def _note_output(task: Task, first: Tokens | Latents, frames: int, size: int) -> None:
    task.facts |= {
        "codec": first.origin.codec,
        "streams": first.streams,
        "codebooks": first.codebooks,
        "frames": frames,
        "tokens": frames * first.codebooks * first.streams,
        "bytes": size,
        "kbps": round(size * 8 / 1000 / task.seconds, 3),
    }
