"""The driver: as the plain composition, with bad items, skips, bounds and interruptions."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePath

import pytest

from alm_cli.errors import InputError, ModelError
from alm_cli.jobs.interrupts import Interrupted
from alm_cli.jobs.report import PlainReport, Report
from alm_cli.jobs.run import Steps, run
from alm_cli.jobs.sinks import open_sink
from alm_cli.jobs.sources import Item
from alm_cli.jobs.task import Skip, Summary, Task


def tasks_of(names: list[str], folder: Path) -> list[Task]:
    """A task for each name, with an output in `folder`."""
    return [Task(Item(Path(name), PurePath(name)), folder / f"{name}.out") for name in names]


def read(task: Task) -> Iterator[str]:
    """The letters of the name; some names are bad at some place."""
    for letter in task.item.name:
        if letter == "!":
            raise InputError(f"{task.item.name}: bad letter")
        if letter == "?":
            raise Skip("a question")
        yield letter


def work(task: Task, letters: Iterator[str]) -> Iterator[str]:
    """Twice every letter, and a last line."""
    for letter in letters:
        task.seconds += 1
        if letter == "%":
            raise ZeroDivisionError("per cent")
        yield letter * 2
    yield "\n"


def write(task: Task, pieces: Iterator[str]) -> None:
    """Into the target."""
    assert task.target is not None
    with open_sink(task.target, io.BytesIO()) as file:
        for piece in pieces:
            if piece == "##":
                raise OSError(28, "No space left on device")
            file.write(piece.encode())


STEPS = Steps(read, work, write)


def quiet() -> Report:
    """A report that nobody reads."""
    return Report("test", io.StringIO())


@pytest.mark.parametrize("together", [1, 2, 7])
def test_results_are_those_of_the_plain_composition(tmp_path: Path, together: int) -> None:
    names = ["a" * n + "b" for n in range(20)]
    alone, threaded = tasks_of(names, tmp_path / "alone"), tasks_of(names, tmp_path / "threaded")
    for task in alone:
        write(task, work(task, read(task)))
    summary = run(threaded, lambda: STEPS, quiet(), together=together)
    assert summary.done == 20
    assert summary.exit_code == 0
    assert summary.audio_s == sum(map(len, names))
    for one, other in zip(alone, threaded, strict=True):
        assert one.target is not None
        assert other.target is not None
        assert one.target.read_bytes() == other.target.read_bytes()
    assert len(list((tmp_path / "threaded").iterdir())) == 20


def test_bad_items_do_not_stop_the_others(tmp_path: Path) -> None:
    names = ["good", "a!b", "wh?t", "50%", "fu#l", "fine"]
    words, lines = io.StringIO(), io.StringIO()
    summary = run(tasks_of(names, tmp_path), lambda: STEPS, PlainReport("test", words, lines))
    assert (summary.done, summary.skipped, summary.failed, summary.exit_code) == (2, 1, 3, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fine.out", "good.out"]
    told = words.getvalue()
    assert "failed: a!b: bad letter\n" in told
    assert "failed: 50%: unexpected ZeroDivisionError: per cent" in told
    assert "failed: fu#l: No space left on device\n" in told
    assert "skipped: wh?t: a question\n" in told
    records = {record["input"]: record for record in map(json.loads, lines.getvalue().splitlines())}
    assert {name: record["status"] for name, record in records.items()} == {
        "good": "done",
        "a!b": "failed",
        "wh?t": "skipped",
        "50%": "failed",
        "fu#l": "failed",
        "fine": "done",
    }
    assert records["a!b"]["error"] == "a!b: bad letter"
    assert all(record["version"] == 1 for record in records.values())


def test_nothing_is_prepared_when_nothing_can_begin(tmp_path: Path) -> None:
    tasks = tasks_of(["a", "b"], tmp_path)
    for task in tasks:
        task.problem = InputError("missing")

    def steps() -> Steps[str, str]:
        raise AssertionError("the model would be loaded")

    summary = run(tasks, steps, quiet())
    assert (summary.failed, summary.exit_code) == (2, 1)


def test_lacking_models_have_their_own_exit_code(tmp_path: Path) -> None:
    def no_model(task: Task, letters: Iterator[str]) -> Iterator[str]:
        raise ModelError(f"{task.item.name}: unknown model")
        yield from letters

    steps = Steps(read, no_model, write)
    assert run(tasks_of(["a", "b"], tmp_path), lambda: steps, quiet()).exit_code == 3
    assert run(tasks_of(["a", "b!"], tmp_path), lambda: steps, quiet()).exit_code == 3
    assert Summary(done=1, failed=2, without_model=1).exit_code == 1


def test_reading_is_ahead_but_bounded(tmp_path: Path) -> None:
    chunks_read, most_ahead, worked = 0, 0, 0

    def endless(_task: Task) -> Iterator[str]:
        nonlocal chunks_read
        for _ in range(100):
            chunks_read += 1
            yield "x"

    def slow(_task: Task, letters: Iterator[str]) -> Iterator[str]:
        nonlocal worked, most_ahead
        for letter in letters:
            worked += 1
            most_ahead = max(most_ahead, chunks_read - worked)
            time.sleep(0.0005)
            yield letter

    run(tasks_of(["a", "b", "c"], tmp_path), lambda: Steps(endless, slow, write), quiet())
    assert worked == 300
    assert 1 <= most_ahead <= 12


def test_items_are_open_only_while_they_are_near(tmp_path: Path) -> None:
    """A folder of many files does not run out of file handles."""
    opened, most = 0, 0

    def holding(_task: Task) -> Iterator[str]:
        nonlocal opened, most
        opened += 1
        most = max(most, opened)
        try:
            yield from "abc"
        finally:
            opened -= 1

    run(
        tasks_of([str(n) for n in range(30)], tmp_path),
        lambda: Steps(holding, work, write),
        quiet(),
    )
    assert (opened, most) == (0, 1)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_takes_back_what_is_unfinished(tmp_path: Path, signum: int, code: int) -> None:
    begun = threading.Event()

    def stuck(task: Task, letters: Iterator[str]) -> Iterator[str]:
        yield from letters
        if task.item.name == "stuck":
            begun.set()
            time.sleep(30)  # a model call that cannot be broken off

    def interrupt() -> None:
        begun.wait(5)
        time.sleep(0.1)
        os.kill(os.getpid(), signum)

    threading.Thread(target=interrupt, daemon=True).start()
    before = signal.getsignal(signum)
    words, began = io.StringIO(), time.monotonic()
    with pytest.raises(Interrupted) as caught:
        run(
            tasks_of(["whole", "stuck", "later"], tmp_path),
            lambda: Steps(read, stuck, write),
            PlainReport("test", words),
        )
    assert time.monotonic() - began < 10  # a quiet machine takes 0.6
    assert caught.value.exit_code == code
    assert [path.name for path in tmp_path.iterdir()] == ["whole.out"]
    assert words.getvalue().splitlines()[-1].startswith("interrupted: 1 done")
    assert signal.getsignal(signum) is before


def test_a_closed_pipe_stops_the_job(tmp_path: Path) -> None:
    def closed(_task: Task, _pieces: Iterator[str]) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run(tasks_of(["a", "b"], tmp_path), lambda: Steps(read, work, closed), quiet())


def test_the_model_time_leaves_out_reading_and_writing(tmp_path: Path) -> None:
    def slow_read(_task: Task) -> Iterator[str]:
        time.sleep(0.1)
        yield "x"

    def slow_work(_task: Task, letters: Iterator[str]) -> Iterator[str]:
        for letter in letters:
            time.sleep(0.05)
            yield letter

    summary = run(
        tasks_of(["a", "b"], tmp_path), lambda: Steps(slow_read, slow_work, write), quiet()
    )
    assert summary.model_s >= 0.1
    assert summary.wall_s - summary.model_s >= 0.09
