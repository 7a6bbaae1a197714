"""Outputs: names that never collide, files that appear at once, and nothing left behind."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path, PurePath

import pytest

from alm_cli.errors import InputError, UsageError
from alm_cli.jobs.sinks import fresh_file, open_sink, plan_targets, remove_temporaries, sweep
from alm_cli.jobs.sources import Item, find_items
from alm_cli.jobs.task import plan_tasks

SUFFIXES = frozenset({".wav", ".flac", ".mp3"})


def items_of(*names: str) -> list[Item]:
    """Items named outright."""
    return [Item(Path(name), PurePath(PurePath(name).name)) for name in names]


def names_of(items: list[Item], output: str | None = None, suffix: str = ".alm") -> list[str]:
    """Where they go."""
    return [str(target) for target in plan_targets(items, output, suffix)]


def test_results_lie_beside_their_inputs() -> None:
    assert names_of(items_of("a.wav", "x/b.c.flac", "noend")) == ["a.alm", "x/b.c.alm", "noend.alm"]


def test_one_input_may_name_its_output(tmp_path: Path) -> None:
    assert names_of(items_of("a.wav"), "b.bin") == ["b.bin"]
    assert names_of(items_of("a.wav"), f"{tmp_path}") == [f"{tmp_path}/a.alm"]
    assert names_of(items_of("a.wav"), "new/") == ["new/a.alm"]
    assert plan_targets(items_of("a.wav"), "-", ".alm") == [None]


def test_several_inputs_need_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert names_of(items_of("a.wav", "b.wav"), "new") == ["new/a.alm", "new/b.alm"]
    for output in ("-", str(tmp_path / "file")):
        with pytest.raises(UsageError, match="cannot all be written"):
            plan_targets(items_of("a.wav", "b.wav"), output, ".alm")


def test_standard_input_goes_to_standard_output_unless_told() -> None:
    stdin = find_items(["-"], suffixes=SUFFIXES)
    assert plan_targets(stdin, None, ".alm") == [None]
    assert names_of(stdin, "d/") == ["d/stdin.alm"]
    assert names_of([*stdin, *items_of("x/a.wav")]) == ["stdin.alm", "x/a.alm"]


def test_a_folder_of_one_file_is_still_a_folder(tmp_path: Path) -> None:
    (tmp_path / "one.wav").touch()
    items = find_items([str(tmp_path)], suffixes=SUFFIXES)
    assert names_of(items, "out") == ["out/one.alm"]


@pytest.mark.parametrize("output", [None, "out/"])
def test_inputs_of_one_name_keep_their_full_name(output: str | None) -> None:
    folder = output or ""
    items = items_of("a.wav", "a.flac", "b.wav", "A.mp3")
    assert names_of(items, output) == [
        f"{folder}{name}" for name in ("a.wav.alm", "a.flac.alm", "b.alm", "A.mp3.alm")
    ]


def test_the_whole_path_tells_apart_what_nothing_else_does() -> None:
    names = names_of(items_of("/x/a.wav", "/y/a.wav", "/y/b.wav", "/y/a.flac"), "out/")
    assert names == ["out/x/a.wav.alm", "out/y/a.wav.alm", "out/b.alm", "out/a.flac.alm"]


def test_a_full_name_that_meets_another_stem_gives_way() -> None:
    names = names_of(items_of("/x/a.wav", "/x/a.flac", "/x/a.wav.mp3"), "out/")
    assert len(set(names)) == 3


def test_longer_names_and_obstacles_are_told(tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac", "b.wav", "b.alm", "c.wav"):
        (tmp_path / name).touch()
    (tmp_path / "c.alm").mkdir()
    items = find_items([str(tmp_path)], suffixes=SUFFIXES)
    tasks = {task.item.place.name: task for task in plan_tasks(items, None, ".alm", "refuse")}
    assert "a.flac.alm" in tasks["a.flac"].warnings[0]
    assert tasks["a.wav"].problem is None
    assert tasks["b.wav"].problem
    assert tasks["b.wav"].problem.message == f"{tmp_path}/b.alm: exists already"
    assert tasks["b.wav"].problem.hint
    assert tasks["c.wav"].problem
    assert "is a folder" in tasks["c.wav"].problem.message
    for existing in ("skip", "overwrite"):
        again = plan_tasks(items, None, ".alm", existing)
        assert [task.problem is None for task in again] == [True, True, True, False]


def test_an_input_is_never_overwritten(tmp_path: Path) -> None:
    path, link = tmp_path / "a.wav", tmp_path / "link.wav"
    path.touch()
    link.symlink_to(path)
    items = items_of(str(path))
    for output in (path, link):
        (task,) = plan_tasks(items, str(output), ".wav", "overwrite")
        assert task.problem
        assert "is an input" in task.problem.message


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "x.alm"
    with open_sink(target, io.BytesIO()) as file:
        file.write(b"all")
        file.flush()
        assert not target.exists()
        (temporary,) = target.parent.iterdir()
        assert temporary.name.startswith(".")
        assert temporary.suffix == ".part"
    assert [path.name for path in target.parent.iterdir()] == ["x.alm"]
    assert target.read_bytes() == b"all"


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "x.alm"
    target.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), open_sink(target, io.BytesIO()) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["x.alm"]
    assert target.read_bytes() == b"old"


def test_long_names_and_links_work(tmp_path: Path) -> None:
    real, link = tmp_path / ("ü" * 120 + ".alm"), tmp_path / "link.alm"
    link.symlink_to(real.name)
    with open_sink(link, io.BytesIO()) as file:
        file.write(b"through")
    assert real.read_bytes() == b"through"
    assert link.is_symlink()


def test_an_output_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file"), open_sink(tmp_path / "file/x.alm", io.BytesIO()):
        pass


def test_devices_and_named_pipes_are_written_through(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reader.start()
    with open_sink(pipe, io.BytesIO()) as file:
        file.write(b"flow")
    reader.join(10)
    assert received == [b"flow"]
    assert pipe.is_fifo()
    with open_sink(Path("/dev/null"), io.BytesIO()) as file:
        file.write(b"gone")
    assert not Path("/dev/null").is_file()


def test_temporaries_of_dead_processes_are_swept_and_others_stay(tmp_path: Path) -> None:
    script = (
        "import os, signal, pathlib, sys\n"
        "from alm_cli.jobs.sinks import fresh_file\n"
        "with fresh_file(pathlib.Path(sys.argv[1])) as path:\n"
        "    path.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "x.alm")]
    subprocess.run(command, check=False, timeout=60, env=os.environ | {"PYTHONPATH": os.getcwd()})
    (stale,) = tmp_path.iterdir()
    assert stale.read_bytes() == b"half"
    (tmp_path / ".x.0badcafe-1.part").touch()  # of another machine, and young
    (tmp_path / ".notes.part").touch()
    with fresh_file(tmp_path / "y.alm") as mine:
        mine.touch()
        sweep({tmp_path, tmp_path / "no folder"})
        assert mine.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".notes.part",
        ".x.0badcafe-1.part",
        "y.alm",
    ]


def test_temporaries_can_be_removed_from_outside(tmp_path: Path) -> None:
    with pytest.raises(InputError), fresh_file(tmp_path / "x.alm") as path:
        path.touch()
        remove_temporaries()
        assert not path.exists()
    assert list(tmp_path.iterdir()) == []
