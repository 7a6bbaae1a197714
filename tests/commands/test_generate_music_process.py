"""`alm generate-music` as a process: live pipes, closed ones, terminals, progress, Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.commands.test_pipes import PATIENCE_S, started, wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sequence[object]:
    """`alm generate-music` with the composer that hums."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("BAND_PAUSE_S", "0.02")
    line = "from tests.commands.band import main; main()"
    return [sys.executable, "-c", line, "generate-music", "-m", tmp_path]


def test_music_leaves_while_the_model_composes_and_a_closed_pipe_ends_quietly(
    program: Sequence[object],
) -> None:
    words = [*program, "calm", "--seed", 1, "--duration", 60]
    with started(words, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        head = process.stdout.read(4000)
        assert head.startswith(b"RIFF\xff\xff\xff\xffWAVE") and b"seed=1" in head
        assert process.poll() is None
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 141
        assert process.stderr.read() == b"seed 1\n"


def test_a_terminal_gets_no_sound_but_sees_how_far_the_music_is(
    program: Sequence[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    master, slave = pty.openpty()
    with started([*program, "calm"], stdout=slave) as process:
        assert process.wait(PATIENCE_S) == 2
        assert process.stderr and b"standard output is a terminal" in process.stderr.read()
    words = [*map(str, program), "calm", "-o", str(tmp_path / "a.wav"), "--duration", "2"]
    with subprocess.Popen(words, stdout=slave, stderr=slave) as process:
        os.close(slave)
        seen = b""
        try:
            while block := os.read(master, 4096):
                seen += block
        except OSError:  # the other end of a terminal is gone
            pass
        assert process.wait(PATIENCE_S) == 0
    os.close(master)
    told = seen.decode()
    assert re.search(r"[01]\.\d s of audio, \d+\.\d x real time", told), told
    assert re.search(r"\d:\d\d:\d\d", told), told
    assert "calm -> " in told


def test_ctrl_c_leaves_what_is_finished_and_a_manifest(
    program: Sequence[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAND_PAUSE_S", "0.3")
    (tmp_path / "l.txt").write_text("calm\n" * 200)
    words = [*program, "--batch", tmp_path / "l.txt", "-o", tmp_path / "out", "--batch-size", 2]
    with started([*words, "--duration", "0.1"]) as process:
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
    words = [*program, "calm", "-o", out / "a.wav", "--stream", "--duration", 60]
    words += ["--save-score", out / "a.mid"]
    with started(words) as process:
        wait_for(lambda: out.is_dir() and bool(list(out.glob(".*.part"))), process)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
    assert list(out.iterdir()) == []
