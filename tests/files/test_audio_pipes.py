"""Real pipes: low latency, bounded memory, and the programs at the other end."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from alm_cli.errors import InputError
from alm_cli.files.audio import RawFormat, open_audio, open_writer, read_audio
from alm_cli.files.wav import wav_header

RAW = RawFormat("s16le", 16_000, 1)
FFMPEG, SOX = shutil.which("ffmpeg"), shutil.which("sox")
PROGRAMS = [
    pytest.param(
        [str(FFMPEG), "-v", "error", "-i", "-", "-f", "s16le", "-"],
        marks=pytest.mark.skipif(FFMPEG is None, reason="needs ffmpeg"),
        id="ffmpeg",
    ),
    pytest.param(
        [str(SOX), "-D", "-t", "wav", "-", "-b", "16", "-e", "signed", "-t", "raw", "-"],
        marks=pytest.mark.skipif(SOX is None, reason="needs sox"),
        id="sox",
    ),
]


@contextmanager
def pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Both ends of a pipe."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as out, os.fdopen(writing, "wb", buffering=0) as into:
        yield out, into


class Endless(io.RawIOBase):
    """A stream that never ends, and counts what was taken."""

    def __init__(self, head: bytes = b"") -> None:
        self.head, self.taken = head, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "nobody may ask for all of it"
        data, self.head = self.head[:size] or bytes(size), self.head[size:]
        self.taken += len(data)
        return data


@pytest.mark.parametrize("head", [b"", wav_header(RAW, None)])
def test_an_endless_stream_is_read_block_by_block(head: bytes) -> None:
    stream = Endless(head)
    tracemalloc.start()
    try:
        with open_audio(stream, raw=None if head else RAW) as reader:  # type: ignore[arg-type]
            blocks = reader.blocks(16_000)
            for _ in range(600):  # ten minutes
                assert next(blocks).shape == (1, 16_000)
            assert reader.length is None
        assert stream.taken < 600 * 32_000 + 200_000
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_a_ten_hour_file_is_not_read_to_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "long.raw"
    with path.open("wb") as file:
        file.truncate(10 * 3600 * 32_000)  # a hole on the disk
    tracemalloc.start()
    try:
        with open_audio(path, raw=RAW) as reader:
            assert reader.length == 10 * 3600 * 16_000
            assert next(reader.blocks(16_000)).shape == (1, 16_000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("head", [b"", wav_header(RAW, None), wav_header(RAW, 99_999)])
def test_a_block_is_there_as_soon_as_its_samples_are(head: bytes) -> None:
    with pipe() as (out, into):
        into.write(head)
        for second in range(3):
            into.write(struct.pack("<160h", *[second] * 160))
            if second == 0:  # opened while the writer still writes
                reader = open_audio(out, raw=None if head else RAW)
                blocks = reader.blocks(160)
            assert (next(blocks) * 32768).tolist() == [[second] * 160]
        reader.close()


def test_bytes_may_arrive_one_by_one() -> None:
    data = wav_header(RAW, None) + np.arange(50, dtype="<i2").tobytes()
    with pipe() as (out, into):

        def send() -> None:
            for byte in data:
                into.write(bytes([byte]))
            into.close()

        sender = threading.Thread(target=send)
        sender.start()
        assert (read_audio(out).samples[0] * 32768).tolist() == list(range(50))
        sender.join()


def test_a_named_pipe_is_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    data = wav_header(RAW, 50) + np.arange(50, dtype="<i2").tobytes()
    sender = threading.Thread(target=path.write_bytes, args=[data])
    sender.start()
    assert (read_audio(path).samples[0] * 32768).tolist() == list(range(50))
    sender.join()


def test_nothing_on_a_pipe_is_an_error_unless_raw() -> None:
    with pytest.raises(InputError, match="empty"):
        open_audio(io.BytesIO())
    assert read_audio(io.BytesIO(), raw=RAW).length == 0


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("format", ["wav", "wav24", "wavf"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("length", [None, 4_001])
def test_other_programs_read_our_wav_from_a_pipe(
    program: list[str], format: str, channels: int, length: int | None
) -> None:
    steps = np.random.default_rng(0).integers(-9_000, 9_000, (channels, 4_001))
    target = io.BytesIO()
    with open_writer(
        target, rate=24_000, channels=channels, format=format, length=length
    ) as writer:
        writer.write((steps / 32768).astype(np.float32))
    done = subprocess.run(program, input=target.getvalue(), capture_output=True, check=True)
    assert done.stdout == steps.T.astype("<i2").tobytes()
    if length and (format, channels) != ("wavf", 3):  # sox misses an extension that is there
        assert done.stderr == b""


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(
            [str(FFMPEG), "-v", "error", "-i", "-", "-f", "wav", "-"],
            marks=pytest.mark.skipif(FFMPEG is None, reason="needs ffmpeg"),
            id="ffmpeg",
        ),
        pytest.param(
            [str(SOX), "-t", "wav", "-", "-t", "wav", "-"],
            marks=pytest.mark.skipif(SOX is None, reason="needs sox"),
            id="sox",
        ),
    ],
)
def test_we_read_the_wav_that_other_programs_pipe(command: list[str]) -> None:
    steps = np.random.default_rng(0).integers(-9_000, 9_000, 40_001)
    data = wav_header(RAW, None) + steps.astype("<i2").tobytes()
    done = subprocess.run(command, input=data, capture_output=True, check=True)
    with open_audio(io.BytesIO(done.stdout)) as reader:
        read = np.concatenate(list(reader.blocks(777)), axis=1)
        assert (read[0] * 32768).tolist() == steps.tolist()
        assert not reader.truncated


@pytest.mark.parametrize("format", ["wav", "s16le", "flac", "ogg", "opus", "mp3"])
def test_every_format_can_be_written_to_a_real_pipe(format: str) -> None:
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 30_000)).astype(np.float32)
    received = []
    with pipe() as (out, into):
        receiver = threading.Thread(target=lambda: received.append(out.read()))
        receiver.start()
        with open_writer(into, rate=24_000, channels=1, format=format) as writer:
            writer.write(wave)
        assert not into.closed, "the pipe belongs to the caller"
        into.close()
        receiver.join()
    raw = RawFormat(format, 24_000, 1) if format == "s16le" else None
    audio = read_audio(io.BytesIO(received[0]), raw=raw)
    assert audio.length * 24_000 == 30_000 * audio.rate


def test_a_written_block_passes_the_pipe_at_once() -> None:
    with (
        pipe() as (out, into),
        os.fdopen(os.dup(into.fileno()), "wb") as buffered,
        open_writer(buffered, rate=16_000, channels=1) as writer,
    ):
        writer.write(np.full((1, 3), 0.5, np.float32))
        assert len(os.read(out.fileno(), 999)) == 50


def test_a_reader_that_has_gone_breaks_the_pipe() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as target, pytest.raises(BrokenPipeError):
        open_writer(target, rate=16_000, channels=1)
