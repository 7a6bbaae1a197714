"""`alm transcribe` as a process: live pipes, signals, kills, a watched folder, long recordings."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from alm_cli.files.audio import open_writer
from alm_cli.files.ledger import NAME as LEDGER
from alm_cli.systems.transcriber import RATE
from tests.commands.test_pipes import PATIENCE_S, started, wait_for

ROOT = Path(__file__).parents[2]
RAW = ("--raw", "s16le", "--rate", RATE)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is given as --model."""
    folder = tmp_path_factory.mktemp("models") / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    return folder


@pytest.fixture
def program(model: Path, monkeypatch: pytest.MonkeyPatch) -> Sequence[object]:
    """`alm transcribe` with the recogniser of these tests, without torch."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    line = "from tests.commands.listener import main; main()"
    return [sys.executable, "-c", line, "transcribe", "-m", model]


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A recording of 40 s."""
    path = tmp_path / "long.wav"
    with open_writer(path, rate=RATE, channels=1) as writer:
        generator = np.random.default_rng(0)
        writer.write((0.1 * generator.standard_normal((1, 40 * RATE))).astype(np.float32))
    return path


def second(number: int) -> bytes:
    """A second of raw samples."""
    return np.full(RATE, number, "<i2").tobytes()


def ran(program: Sequence[object], *words: object) -> subprocess.CompletedProcess[str]:
    """A run to its end."""
    command = [str(word) for word in (*program, *words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)


def journals(folder: Path) -> list[Path]:
    """What unfinished transcripts leave."""
    return list(folder.glob(".*.journal"))


def test_segments_leave_while_the_input_goes_on(program: Sequence[object]) -> None:
    words = [*program, "-", *RAW, "--stream", "-f", "jsonl", "-o", "-"]
    with started(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        for number in range(3):
            process.stdin.write(second(number))
            process.stdin.flush()
            line = json.loads(process.stdout.readline())  # and the input is still open
            assert (line["id"], line["end"]) == (number, number + 1)
        process.stdin.close()
        assert json.loads(process.stdout.readline())["segments"] == 3
        assert process.wait(PATIENCE_S) == 0


def test_a_reader_that_goes_away_ends_the_program_quietly(
    program: Sequence[object], long: Path
) -> None:
    with started([*program, long, "-f", "jsonl"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        # What fits into the pipe may be written before that is noticed.
        assert process.wait(PATIENCE_S) in (0, 141)
        assert b"Traceback" not in process.stderr.read()


def test_text_is_shown_on_a_terminal(program: Sequence[object], long: Path) -> None:
    master, slave = pty.openpty()
    with started([*program, long], stdout=slave) as process:
        assert process.wait(PATIENCE_S) == 0
    os.close(slave)
    assert len(os.read(master, 10_000).splitlines()) == 40
    os.close(master)


@pytest.mark.usefixtures("long")
def test_ctrl_c_leaves_what_is_finished_and_a_journal(
    program: Sequence[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_writer(tmp_path / "a.wav", rate=RATE, channels=1) as writer:
        writer.write(np.zeros((1, RATE), np.float32))
    monkeypatch.setenv("LISTENER_PAUSE_S", "0.1")
    with started([*program, tmp_path]) as process:
        wait_for(lambda: (tmp_path / "a.txt").is_file() and bool(journals(tmp_path)), process)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
        assert process.stderr
        told = process.stderr.read()
        # The file is in its place a moment before it counts.
        assert re.search(rb"interrupted: [01] done", told)
        assert b"Traceback" not in told
    names = {path.name for path in tmp_path.iterdir()} - {path.name for path in journals(tmp_path)}
    assert names == {"a.wav", "a.txt", "long.wav", LEDGER}
    assert len(journals(tmp_path)) == 1


def test_after_kills_at_any_moment_it_ends_as_if_there_were_none(
    program: Sequence[object], long: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ran(program, long, "-o", f"{tmp_path}/whole/", "-f", "all").returncode == 0
    monkeypatch.setenv("LISTENER_PAUSE_S", "0.01")
    words = [*program, long, "-o", f"{tmp_path}/out/", "-f", "all"]
    chance = random.Random(0)
    kept = 0
    for _ in range(3):
        with started(words) as process:
            size = sum(path.stat().st_size for path in journals(tmp_path / "out"))
            enough = size + chance.randrange(1000, 3000)
            wait_for(
                lambda enough=enough: any(  # type: ignore[misc]
                    path.stat().st_size > enough for path in journals(tmp_path / "out")
                ),
                process,
            )
            process.kill()
            process.wait()
        (journal,) = journals(tmp_path / "out")
        lines = journal.read_bytes().count(b"\n") - 1
        # No run loses more than the window of two segments that it was in.
        assert lines > kept - 2
        kept = lines
    assert kept > 8
    done = ran(program, *words[len(program) :])
    assert done.returncode == 0, done.stderr
    for path in (tmp_path / "whole").glob("long.*"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name
    assert not journals(tmp_path / "out")


def test_two_runs_do_not_write_one_transcript(
    program: Sequence[object], long: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISTENER_PAUSE_S", "5")
    words = [long, "-o", tmp_path / "a.txt"]
    with started([*program, *words]) as process:
        wait_for(lambda: bool(journals(tmp_path)), process)
        time.sleep(0.1)
        other = ran(program, *words)
    assert other.returncode == 1
    assert "another process is writing this transcript" in other.stderr


@pytest.fixture
def watched(
    program: Sequence[object], tmp_path: Path
) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A folder, and the program that watches it."""
    folder = tmp_path / "in"
    folder.mkdir()
    words = [*program, "--watch", folder, "--json", "-f", "txt"]
    with started(words, stdout=subprocess.PIPE) as process:
        yield folder, process


def test_what_is_dropped_into_a_watched_folder_is_written_down(
    watched: tuple[Path, subprocess.Popen[bytes]], long: Path
) -> None:
    folder, process = watched
    assert process.stdout
    data = long.read_bytes()[: 44 + 2 * RATE * 4]
    with (folder / "a.wav").open("wb", buffering=0) as file:
        for begin in range(0, len(data), len(data) // 8):
            file.write(data[begin : begin + len(data) // 8])
            time.sleep(0.1)
    (folder / "bad.wav").write_bytes(b"no sound")
    lines = {}
    for _ in range(2):
        line = json.loads(process.stdout.readline())
        lines[Path(line["input"]).name] = line
    assert lines["a.wav"]["seconds"] == 4.0  # all of it, for half of it was left alone
    assert lines["bad.wav"]["status"] == "failed"
    assert len((folder / "a.txt").read_text(encoding="utf-8").splitlines()) == 4
    os.replace(folder / "a.wav", folder / "b.wav")
    assert Path(json.loads(process.stdout.readline())["input"]).name == "b.wav"
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 130
    names = {path.name for path in folder.iterdir()}
    assert names == {"a.txt", "b.wav", "b.txt", "bad.wav", LEDGER}


def test_long_recordings_take_no_more_memory(program: Sequence[object], tmp_path: Path) -> None:
    """Half a minute against a quarter of an hour; all formats, JSON among them."""
    used = []
    for name, seconds in (("short", 30), ("long", 900)):
        with open_writer(tmp_path / f"{name}.wav", rate=RATE, channels=1) as writer:
            for _ in range(seconds):
                writer.write(np.zeros((1, RATE), np.float32))
        words = [*program, tmp_path / f"{name}.wav", "-o", f"{tmp_path}/out/", "-f", "all"]
        with started(words) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        used.append(usage.ru_maxrss / 1024)
        assert (tmp_path / f"out/{name}.jsonl").read_bytes().count(b"\n") == seconds + 1
    assert used[1] - used[0] < 20, used
