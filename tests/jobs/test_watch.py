"""The watched folder: nothing unfinished is taken, nothing twice, what changes is done again."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alm_cli.jobs import watch as watching
from alm_cli.jobs.task import Task
from alm_cli.jobs.watch import watch


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds are long in tests."""
    monkeypatch.setattr(watching, "POLL_S", 0.01)
    monkeypatch.setattr(watching, "QUIET_S", 0.15)


def watched(folder: Path, output: str | None = None) -> Iterator[Task]:
    """Its tasks, without end."""
    return watch(
        str(folder), output, ".txt", suffixes={".wav", ".mp3"}, recursive=False, existing="skip"
    )


def test_what_is_there_and_what_comes(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"1")
    (tmp_path / "notes.md").write_bytes(b"1")
    (tmp_path / ".b.wav").write_bytes(b"1")
    (tmp_path / "empty.wav").touch()
    tasks = watched(tmp_path)
    first = next(tasks)
    assert (first.item.path, first.target) == (tmp_path / "a.wav", tmp_path / "a.txt")
    (tmp_path / "c.wav").write_bytes(b"1")
    assert next(tasks).item.path == tmp_path / "c.wav"
    (tmp_path / "empty.wav").write_bytes(b"1")
    assert next(tasks).item.path == tmp_path / "empty.wav"


def test_what_still_grows_is_left(tmp_path: Path) -> None:
    path, ended = tmp_path / "slow.wav", 0.0

    def grow() -> None:
        nonlocal ended
        with path.open("wb", buffering=0) as file:
            for _ in range(20):
                file.write(b"1")
                ended = time.monotonic()
                time.sleep(0.03)

    writer = threading.Thread(target=grow)
    writer.start()
    task = next(watched(tmp_path))
    assert time.monotonic() - ended >= 0.14
    writer.join()
    assert task.item.size == 20


def test_what_changes_is_done_again_over_its_own_output(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"1")
    tasks = watched(tmp_path)
    first = next(tasks)
    assert first.target
    first.target.write_text("old", encoding="utf-8")
    path.write_bytes(b"12")
    again = next(tasks)
    assert (again.target, again.problem) == (first.target, None)


def test_no_two_have_one_output(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"1")
    tasks = watched(tmp_path, f"{tmp_path}/out/")
    targets = [next(tasks).target]
    (tmp_path / "a.mp3").write_bytes(b"1")
    targets.append(next(tasks).target)
    os.utime(tmp_path / "a.mp3", (1, 1))
    targets.append(next(tasks).target)
    out = tmp_path / "out"
    assert targets == [out / "a.txt", out / "a.mp3.txt", out / "a.mp3.txt"]


def test_a_folder_that_is_away_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    tasks = watched(folder)

    def make() -> None:
        folder.mkdir()
        (folder / "a.wav").write_bytes(b"1")

    timer = threading.Timer(0.1, make)
    timer.start()
    assert next(tasks).item.path == folder / "a.wav"
    timer.join()
