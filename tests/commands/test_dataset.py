"""`alm encode --shards` end to end: the same bytes however it is made, kills among the ways."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

import alm_cli
from alm_cli.commands.dataset import make_share
from alm_cli.commands.encoding import Settings
from alm_cli.files.audio import open_writer, read_audio
from alm_cli.files.shards import read_index
from alm_cli.jobs.dataset import Cut, Share, prepare
from alm_cli.jobs.plan import Entry, find_entries
from alm_cli.jobs.report import make_report
from alm_cli.systems.codec import load_codec

Alm = Callable[..., Result]
Record = Callable[..., Path]


def shards_of(folder: Path) -> dict[str, bytes]:
    """Shards and indexes."""
    return {path.name: path.read_bytes() for path in folder.glob("shard-*")}


def lines_of(result: Result) -> list[dict[str, object]]:
    """The JSON lines on standard output."""
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def tree(record: Record, tmp_path: Path) -> Path:
    """Eleven recordings in two folders, one of them bad."""
    for number in range(10):
        record(f"in/s{number % 3}/u.{number}.wav", length=500 + 700 * (number * 7 % 10))
    (tmp_path / "in/s1/bad.wav").write_bytes(b"RIFF not really")
    return tmp_path / "in"


@pytest.fixture
def expected(alm: Alm, tree: Path, small: Path, tmp_path: Path) -> dict[str, bytes]:
    """The shards made in one go."""
    assert alm("encode", tree, "-rqm", small, "-o", tmp_path / "e", "--shards", 3).exit_code == 1
    return shards_of(tmp_path / "e")


def test_a_tree_becomes_shards_with_an_index(
    alm: Alm, tree: Path, small: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = alm("encode", tree, "-r", "-m", small, "-o", f"{out}/", "--shards", 3, "--json")
    assert result.exit_code == 1
    assert "bad.wav: not a recording" in result.stderr
    assert "10 done, 1 failed" in result.stderr
    assert "--retry-failed tries" in result.stderr
    assert sorted(path.name for path in out.iterdir() if path.name[0] != ".") == [
        "items.jsonl", "job.json",
        *(f"shard-00000{n}.{end}" for n in range(3) for end in ("jsonl", "tar")),
    ]  # fmt: skip
    rows = [row for n in range(3) for row in read_index(out / f"shard-00000{n}.jsonl")]
    assert [row.id for row in rows] == [
        *(f"s0/u.{n}" for n in (0, 3, 6, 9)), "s1/bad", *(f"s1/u.{n}" for n in (1, 4, 7)),
        *(f"s2/u.{n}" for n in (2, 5, 8)),
    ]  # fmt: skip
    assert [row.status for row in rows if row.id == "s1/bad"] == ["failed"]
    told = {line["id"]: line for line in lines_of(result)}
    shards = alm_cli.open_shards(out)
    assert len(shards) == 10
    assert len(told) == 11
    assert alm("encode", tree, "-rq", "-m", small, "-o", f"{tmp_path}/files/").exit_code == 1
    for row in rows:
        if row.status == "done":
            single = (tmp_path / "files" / f"{row.id}.alm").read_bytes()
            assert np.array_equal(
                shards[row.id].codes, alm_cli.read_tokens(tmp_path / f"files/{row.id}.alm").codes
            )
            assert (row.bytes, told[row.id]["bytes"]) == (len(single), len(single))
            assert row.seconds == told[row.id]["seconds"]
            assert row.frames == shards[row.id].frames


@pytest.mark.parametrize(
    "way", [("--batch-size", 5), ("--threads", 1), ("--quiet",), ("--engine", "local")], ids=str
)
def test_shards_are_the_same_by_any_way(
    alm: Alm, tree: Path, small: Path, tmp_path: Path, expected: dict[str, bytes], way: object
) -> None:
    words = ("encode", tree, "-r", "-m", small, "-o", tmp_path / "out", "--shards", 3)
    assert alm(*words, *way).exit_code == 1
    assert shards_of(tmp_path / "out") == expected


def test_shards_are_the_same_when_blocks_go_together(
    tree: Path, small: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    """As on a GPU: eight recordings in work, their blocks as rows of one batch."""
    out, suffixes = tmp_path / "out", {".wav"}
    loaded = Settings(model=str(small)).load()
    encoding = replace(loaded, codec=load_codec(small, rows=8))
    assert (loaded.together, encoding.together) == (1, 8)

    def entries() -> Iterable[Entry]:
        return find_entries([str(tree)], suffixes=suffixes, recursive=True)

    dataset = prepare(out, {}, Cut(shards=3), entries)
    report = make_report("encode", io.StringIO(), None, quiet=True, verbose=False)
    assert make_share(Share(dataset, range(3)), encoding, report, 1).done == 10
    assert shards_of(out) == expected


def test_jobs_share_the_shards(
    alm: Alm, tree: Path, small: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    words = ("encode", tree, "-rqm", small, "-o", out, "--shards", 3, "--num-shards", 2)
    seen: list[set[str]] = []
    for index, count in ((1, 1), (0, 2)):
        alm(*words, "--shard-index", index)
        seen.append(shards_of(out).keys() - set().union(*seen))
        assert len(seen[-1]) == 2 * count
    assert shards_of(out) == expected
    assert alm(*words, "--shard-index", 2).exit_code == 2
    # More jobs than shards: some have nothing to do.
    assert alm(*words[:-1], 9, "--shard-index", 8).exit_code == 0


def test_slurm_tells_which_job_this_is(
    alm: Alm, tree: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("encode", tree, "-rqm", small, "-o", tmp_path / "out", "--num-shards", 4)
    assert alm(*words).exit_code == 2
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "1")
    for task in range(1, 5):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        alm(*words)
        assert len(shards_of(tmp_path / "out")) == 2 * task
    assert f"shard-{task - 1:06d}.tar" in shards_of(tmp_path / "out")


def test_a_second_run_does_nothing_and_says_what_failed(
    alm: Alm, tree: Path, small: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    words = ("encode", tree, "-r", "-m", small, "-o", tmp_path / "e", "--shards", 3)
    again = alm(*words, "--json")
    assert (again.exit_code, lines_of(again)) == (1, [])
    assert "0 done, 10 skipped, 1 failed" in again.stderr
    (tree / "s1/bad.wav").write_bytes((tree / "s0/u.0.wav").read_bytes())
    assert alm(*words).exit_code == 1
    assert shards_of(tmp_path / "e") == expected
    mended = alm(*words, "--retry-failed", "--json")
    assert mended.exit_code == 0
    assert [line["id"] for line in lines_of(mended)] == ["s1/bad"]
    assert alm(*words[:-4], "-o", tmp_path / "new", "--shards", 3).exit_code == 0
    assert shards_of(tmp_path / "e") == shards_of(tmp_path / "new")


def test_another_job_is_not_mixed_with_this_one(
    alm: Alm, tree: Path, small: Path, other: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    out = tmp_path / "e"
    words = ["encode", tree, "-rq", "-o", out]
    for options, reason in (
        (("-m", other, "--shards", 3), "weights"),
        (("-m", small, "--shards", 4), "shards 3, not 4"),
        (("-m", small, "--shards", 3, "--codebooks", 2), "codebooks 4, not 2"),
        (("-m", small, "--shards", 3, "--pack", "entropy"), "pack bits, not entropy"),
        ((tree / "s0", "-m", small, "--shards", 3), "inputs"),
    ):
        result = alm(*words, *options)
        assert result.exit_code == 2
        assert f"{out}: was begun with {reason}" in result.stderr
    assert shards_of(out) == expected
    assert alm(*words, "-m", other, "--shard-size", 6, "--overwrite").exit_code == 1
    assert len(shards_of(out)) == 4
    (out / "job.json").unlink()
    assert alm(*words, "-m", small, "--shards", 3).exit_code == 2
    (out / "job.json").write_text("{}", encoding="utf-8")
    assert alm(*words, "-m", small, "--shards", 3).exit_code == 1


def test_manifests_name_parts_of_recordings(
    alm: Alm, record: Record, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, flac = record("a.wav", length=5000), record("b.flac", length=5000, rate=16_000)
    items = [
        {"audio_filepath": "a.wav", "offset": 0.05, "duration": 0.1},
        {"audio_filepath": "b.flac", "offset": 0.1, "id": "b-end"},
        {"audio_filepath": "b.flac", "duration": 99},
        {"audio_filepath": "b.flac", "offset": 9, "id": "late"},
        {"audio_filepath": "none.wav", "id": "none"},
    ]
    Path("m.jsonl").write_text("\n".join(map(json.dumps, items)), encoding="utf-8")
    words = ("encode", "--manifest", "m.jsonl", "-m", small, "--shard-size", 2)
    assert alm(*words, "-o", "out", "--json").exit_code == 1
    shards = alm_cli.open_shards("out")
    assert shards.ids == ["a-00000050", "b-end", "b"]
    for id, source, begin, end in (
        ("a-00000050", path, 1200, 3600), ("b-end", flac, 1600, 5000), ("b", flac, 0, 5000),
    ):  # fmt: skip
        audio = read_audio(source)
        with open_writer(Path("part.wav"), rate=audio.rate, channels=1, format="wavf") as writer:
            writer.write(audio.samples[:, begin:end])
        assert alm("encode", "part.wav", "-m", small, "-o", "p.alm", "--overwrite").exit_code == 0
        alone = alm_cli.read_tokens("p.alm")
        assert np.array_equal(shards[id].codes, alone.codes), id
        assert shards[id].origin.source_length == end - begin
    failed = {row.id: row for row in shards.rows() if row.status == "failed"}
    assert failed["late"].error == "ends before 9 s"
    assert failed["none"].error == "none.wav: there is no such file"
    assert failed["late"].start == 9
    table = "path\tid\na.wav\tx\nb.flac\ty\n"
    piped = alm("encode", "--manifest", "-", *words[3:], "-o", "piped", input=table.encode())
    assert piped.exit_code == 0
    assert alm_cli.open_shards("piped").ids == ["x", "y"]
    # The list is fixed: the second time nobody reads it.
    assert alm("encode", "--manifest", "-", *words[3:], "-o", "piped").exit_code == 0


def test_the_folder_may_be_reached_from_elsewhere(
    alm: Alm, tree: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths are those of the first run, and an index says them as they were given."""
    top = tree.parent
    monkeypatch.chdir(top)
    words = ("encode", "in", "-rqm", small, "--shards", 2, "--num-shards", 2, "--shard-index")
    alm(*words, 0, "-o", "out")
    monkeypatch.chdir("/")
    alm(*words, 1, "-o", top / "out")
    monkeypatch.chdir(top)
    alm(*words[:-3], "-o", "whole")
    assert shards_of(top / "out") == shards_of(top / "whole")
    rows = list(read_index(top / "out/shard-000000.jsonl"))
    assert all(row.path.startswith("in/") for row in rows)


@pytest.mark.usefixtures("expected")
def test_info_tells_about_shards(alm: Alm, tmp_path: Path) -> None:
    def facts(name: str) -> dict[str, object]:
        (line,) = lines_of(alm("info", tmp_path / "e" / name, "--json"))
        return line

    whole, shard = facts(""), facts("shard-000001.tar")
    assert (whole["kind"], whole["items"], whole["done"], whole["failed"]) == (
        "data set",
        11,
        10,
        1,
    )
    assert (whole["shards"], whole["shards_finished"], whole["codec"]) == (3, 3, "small")
    assert (shard["kind"], shard["done"], shard["failed"]) == ("shard", 3, 1)
    (tmp_path / "e/shard-000001.jsonl").unlink()
    assert facts("shard-000001.tar") | {"failed": 1} == shard
    assert facts("")["shards_finished"] == 2
    told = alm("info", tmp_path / "e").stdout
    assert "items failed             0" in told


@pytest.mark.parametrize(
    "line",
    [
        "in --shards 2",
        "in --shards 2 -o -",
        "in --shards 2 --shard-size 2 -o out",
        "in --shards 0 -o out",
        "- --shards 2 -o out",
        "in --shards 2 -o out --stream",
        "in --shards 2 -o out --skip-existing",
        "in --shards 2 -o out --manifest m.txt",
        "in --shards 2 -o out --num-shards 2 --shard-index 2",
        "in --shards 2 -o out --num-shards 2 --shard-index 0 --overwrite",
        "in --shards 2 -o out --shard-index 0",
        "in --shards 2 -o out --engine ray --num-shards 2",
        "in --shards 2 -o out --from-list a --manifest b",
        "in -o out --manifest m.txt",
        "in -o out --retry-failed",
        "in -o out --engine ray",
        "--manifest m.txt -o out",
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_done(
    alm: Alm, record: Record, small: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, line: str,
) -> None:  # fmt: skip
    record("in/a.wav"), (tmp_path / "m.txt").write_text("in/a.wav\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    result = alm("encode", *line.split(), "-m", small)
    assert result.exit_code == 2, result.stderr
    assert not Path("out").exists() or not shards_of(Path("out"))


def test_lists_of_nothing_are_refused(alm: Alm, small: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "m.txt").touch()
    for source in ((tmp_path / "in",), ("--manifest", tmp_path / "m.txt")):
        result = alm("encode", *source, "-m", small, "-o", tmp_path / "out", "--shards", 2)
        assert result.exit_code == 1
    assert (
        "no such"
        in alm(
            "encode",
            "--manifest",
            tmp_path / "x",
            "-m",
            small,
            "-o",
            tmp_path / "out",
            "--shards",
            2,
        ).stderr.lower()
    )
    assert not (tmp_path / "out/job.json").exists()


def test_a_full_disk_ends_the_job_and_not_the_item(
    alm: Alm, tree: Path, small: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes],
) -> None:  # fmt: skip
    from alm_cli.jobs import shards

    whole, left = shards.write_all, [3]

    def full(*values: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        whole(*values)  # type: ignore[arg-type]

    words = ("encode", tree, "-rqm", small, "-o", tmp_path / "out", "--shards", 3)
    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_all", full)
        result = alm(*words, "--batch-size", 3)
    assert result.exit_code == 1
    assert "shard-000000.tar: cannot be written (No space left on device)" in result.stderr
    assert alm(*words).exit_code == 1
    assert shards_of(tmp_path / "out") == expected


# A process that has imported everything once, and then forks one job after the other, each of
# which it kills: rows are counted, so that kills fall everywhere between the first and the last.
KILLER = """
import hashlib, json, os, random, signal, sys, time
from pathlib import Path
from alm_cli.app import app, main

out, log, lanes, kills, *words = sys.argv[1:]
out, kills, chance = Path(out), int(kills), random.Random(int(lanes))
app(["encode", *words, "-o", f"{log}.warm", "-q"], standalone_mode=False)

def rows():
    return sum(path.read_bytes().count(b"\\n") for path in out.glob("*shard-*.jsonl*"))

def rows_known():
    try:
        return rows()
    except FileNotFoundError:  # renamed at this moment
        return -1

def state():
    indexes = [path.read_bytes() for path in sorted(out.glob("*shard-*.jsonl*"))]
    whole = [line for data in indexes for line in data.split(b"\\n")[:-1]]
    final = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.glob("shard-*")}
    return {"committed": [json.loads(line)["id"] for line in whole], "final": final}

def start():
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        sys.argv = ["alm", "encode", *words, "-o", str(out), "--batch-size", lanes, "--json", "-q"]
        main()
    return pid

killed = 0
while True:
    before = state()
    pid, wanted = start(), len(before["committed"]) + chance.randrange(5)
    ended = 0
    while not ended and (killed >= kills or rows_known() < wanted):
        ended, status = os.waitpid(pid, os.WNOHANG)
        time.sleep(0.002)
    if not ended:
        time.sleep(chance.random() / 50)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    killed += os.WIFSIGNALED(status)
    lines = Path(log).read_bytes().split(b"\\n")[:-1]
    done = [json.loads(line)["id"] for line in lines]
    print(json.dumps({"before": before, "after": state(), "done": done, "status": status}))
    if not os.WIFSIGNALED(status):
        break
"""


@pytest.mark.parametrize("lanes", [1, 3])
def test_kills_cost_nothing_that_was_finished(
    record: Record, small: Path, tmp_path: Path, alm: Alm, lanes: int
) -> None:
    for number in range(90):
        record(f"in/{number:02d}.wav", length=200 + 97 * (number * 31 % 17))
    words = [tmp_path / "in", "-m", small, "--shard-size", 20, "--threads", 1]
    assert alm("encode", *words, "-q", "-o", tmp_path / "whole").exit_code == 0
    expected = shards_of(tmp_path / "whole")
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in expected.items()}
    out, log = tmp_path / "out", tmp_path / "log"
    (out).mkdir()
    told = subprocess.run(
        [sys.executable, "-c", KILLER, *map(str, (out, log, lanes, 10, *words))],
        capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    runs = [json.loads(line) for line in told.stdout.splitlines()]
    assert len(runs) == 11
    for run in runs:
        # Nothing that was committed is done again, nothing committed is lost,
        assert not set(run["done"]) & set(run["before"]["committed"])
        assert set(run["before"]["committed"]) <= set(run["after"]["committed"])
        # and what has its final name is final.
        assert run["after"]["final"].items() <= digests.items()
    assert sum(0 < len(run["before"]["committed"]) < 90 for run in runs) >= 8
    assert shards_of(out) == expected
    assert not [path for path in out.iterdir() if ".part" in path.name or ".old" in path.name]


def test_two_processes_do_not_make_one_shard(tmp_path: Path) -> None:
    from alm_cli.jobs.locks import Locks

    holder = (
        "import sys, time; from pathlib import Path; from alm_cli.jobs.locks import Locks;"
        "locks = Locks(Path(sys.argv[1])); print(locks.hold(7), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holder, str(tmp_path / "lock")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == b"True\n"
        locks = Locks(tmp_path / "lock")
        assert not locks.hold(7, patience_s=0)
        assert locks.hold(8, patience_s=0)
        process.kill()
        began = time.monotonic()
        assert locks.hold(7, patience_s=60)
        assert time.monotonic() - began < 50
    locks.close()
