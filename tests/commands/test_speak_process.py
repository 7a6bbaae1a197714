"""`alm speak` as a process: live pipes, closed ones, terminals, Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.commands.test_pipes import PATIENCE_S, started, wait_for

ROOT = Path(__file__).parents[2]
LONG = " ".join(["One two three."] * 20)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sequence[object]:
    """`alm speak` with the voice that beeps."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TALKER_PAUSE_S", "0.02")
    line = "from tests.commands.talker import main; main()"
    return [sys.executable, "-c", line, "speak", "-m", tmp_path]


def test_sound_leaves_while_the_model_speaks_and_a_closed_pipe_ends_quietly(
    program: Sequence[object],
) -> None:
    with started([*program, LONG, "--seed", 1], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        head = process.stdout.read(4000)
        assert head.startswith(b"RIFF\xff\xff\xff\xffWAVE") and b"seed=1" in head
        assert process.poll() is None
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 141
        assert process.stderr.read() == b"seed 1\n"


def test_a_terminal_gets_no_sound(program: Sequence[object]) -> None:
    master, slave = pty.openpty()
    with started([*program, "Hello."], stdout=slave) as process:
        assert process.wait(PATIENCE_S) == 2
        assert process.stderr and b"standard output is a terminal" in process.stderr.read()
    os.close(slave)
    os.close(master)


def test_ctrl_c_leaves_what_is_finished_and_a_manifest(
    program: Sequence[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALKER_PAUSE_S", "0.3")
    (tmp_path / "l.txt").write_text("Go.\n" * 200)
    words = [*program, "--batch", tmp_path / "l.txt", "-o", tmp_path / "out", "--batch-size", 2]
    with started(words) as process:
        wait_for(lambda: len(list((tmp_path / "out").glob("*.wav"))) > 3, process)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
        assert process.stderr
        told = process.stderr.read()
        assert b"interrupted: " in told and b"Traceback" not in told
    made = sorted(path.name for path in (tmp_path / "out").glob("*.wav"))
    manifest = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in manifest] == made
    assert not list((tmp_path / "out").glob("*.part"))


def test_ctrl_c_leaves_no_half_file(program: Sequence[object], tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [*program, LONG, "-o", out / "a.wav", "--stream"]
    with started(words) as process:
        wait_for(lambda: out.is_dir() and bool(list(out.glob(".*.part"))), process)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
    assert list(out.iterdir()) == []
