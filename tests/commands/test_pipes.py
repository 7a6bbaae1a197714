"""The program as a process: live pipes, signals, kills, terminals."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from alm_cli.files.audio import read_audio
from alm_cli.files.tokens import iter_tokens, read_tokens

Alm = Callable[..., Result]
Record = Callable[..., Path]
RAW = ("--raw", "s16le", "--rate", "24000")
SECOND = np.zeros(24_000, "<i2").tobytes()
# A busy machine takes a minute to import torch; what must be quick is compared with this.
PATIENCE_S = 120.0


@contextmanager
def started(words: Sequence[object], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive the test, and can be interrupted however we were started."""
    command = [str(word) for word in words]
    process = subprocess.Popen(  # type: ignore[call-overload]
        command,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Until something has happened, while the process lives."""
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A named pipe that sounds for a second and then neither goes on nor ends."""
    path = tmp_path / "in" / "c.raw"
    path.parent.mkdir()
    os.mkfifo(path)
    handle = os.open(path, os.O_RDWR)
    os.write(handle, SECOND)
    yield path, handle
    os.close(handle)


def test_segments_leave_while_the_input_goes_on(program: Sequence[str], small: Path) -> None:
    words = [*program, "encode", "-", *RAW, "-m", small, "--stream", "--segment-frames", 25]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with started(words, **pipes) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(SECOND)
        process.stdin.flush()
        segments = iter_tokens(process.stdout)
        heard = [next(segments) for _ in range(8)]  # 0.8 of 1.0 s, and the input is still open
        assert [tokens.origin.segment for tokens in heard] == list(range(8))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 143


def test_encode_and_decode_meet_in_a_pipe(
    program: Sequence[str], alm: Alm, record: Record, small: Path, tmp_path: Path
) -> None:
    path = record("a.wav", length=50_000, rate=16_000)
    encode = [*program, "encode", "-", "-m", small, "--stream", "-o", "-"]
    decode = [*program, "decode", "-", "-m", small, "-o", "-"]
    with (
        path.open("rb") as file,
        started(encode, stdin=file, stdout=subprocess.PIPE) as one,
        started(decode, stdin=one.stdout, stdout=subprocess.PIPE) as two,
    ):
        sound, words = two.communicate(timeout=PATIENCE_S)
        assert (one.wait(PATIENCE_S), two.returncode) == (0, 0), words
    (tmp_path / "piped.wav").write_bytes(sound)
    assert alm("encode", path, "-m", small).exit_code == 0
    assert alm("decode", tmp_path / "a.alm", "-m", small, "-o", tmp_path / "b.wav").exit_code == 0
    piped, whole = read_audio(tmp_path / "piped.wav"), read_audio(tmp_path / "b.wav")
    assert piped.samples.shape == whole.samples.shape == (1, 50_000)
    assert np.abs(piped.samples - whole.samples).max() <= 2 / 32_768


def test_a_reader_that_goes_away_ends_the_program_quietly(
    program: Sequence[str], alm: Alm, record: Record, small: Path, tmp_path: Path
) -> None:
    path = record("a.wav", length=24_000 * 30)
    assert alm("encode", path, "-m", small).exit_code == 0
    words = [*program, "decode", tmp_path / "a.alm", "-m", small, "-o", "-"]
    with started(words, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.read(4) == b"RIFF"
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 141
        assert process.stderr.read() == b""


def test_interruption_leaves_what_is_finished_and_nothing_else(
    program: Sequence[str], small: Path, hanging: tuple[Path, int]
) -> None:
    path, _ = hanging
    (path.parent / "a.raw").write_bytes(SECOND)
    live = "--stream", "--segment-frames", "25"
    words = [*program, "encode", path.parent, *RAW, "-m", small, *live]
    with started(words) as process:
        wait_for(lambda: len(list(path.parent.glob(".c*.part"))) == 1, process)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
        # A second on a quiet machine; the pipe would have hung for ever.
        assert time.monotonic() - began < 20
        assert process.stderr
        assert b"Traceback" not in process.stderr.read()
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["a.alm", "a.raw", "c.raw"]
    assert read_tokens(path.parent / "a.alm").origin.source_length == 24_000


def test_a_killed_run_is_taken_up_where_it_was(
    program: Sequence[str], alm: Alm, small: Path, hanging: tuple[Path, int]
) -> None:
    path, _ = hanging
    for name in ("a", "b"):
        (path.parent / f"{name}.raw").write_bytes(SECOND)
    options = (path.parent, *RAW, "-m", small)
    live = "--stream", "--segment-frames", "25"
    with started([*program, "encode", *options, *live]) as process:
        wait_for(lambda: len(list(path.parent.glob(".c*.part"))) == 1, process)
        process.kill()
        process.wait()
    assert len(list(path.parent.glob("*.alm"))) == 2
    path.unlink()
    path.write_bytes(SECOND)
    result = alm("encode", *options, "--skip-existing")
    assert result.exit_code == 0
    assert "1 done, 2 skipped" in result.stderr
    names = sorted(entry.name for entry in path.parent.iterdir())
    assert names == ["a.alm", "a.raw", "b.alm", "b.raw", "c.alm", "c.raw"]


def test_nothing_binary_is_written_to_a_terminal(program: Sequence[str], record: Record) -> None:
    path = record("a.wav")
    master, slave = pty.openpty()
    for words in (["encode", path, "-o", "-"], ["encode", "-"], ["decode", "-"]):
        with started([*program, *words], stdin=subprocess.DEVNULL, stdout=slave) as process:
            assert process.wait(PATIENCE_S) == 2
            assert process.stderr
            assert b"is a terminal" in process.stderr.read()
    os.close(slave)
    os.close(master)
