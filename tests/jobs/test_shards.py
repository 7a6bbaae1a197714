"""Shards in the making: whatever ends the process and whenever, nothing is lost or half there."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

import pytest

from alm_cli.files.shards import BLOCK, Row, member_header, padding, read_index
from alm_cli.files.streams import write_all
from alm_cli.jobs import shards
from alm_cli.jobs.shards import Shard

ITEMS = 7


class Crash(BaseException):
    """The process ends here."""


def data_of(position: int) -> bytes:
    """What a token file might be: some length, some content."""
    return random.Random(position).randbytes(300 * position + 1)


def put(shard: Shard, position: int, bad: Collection[int] = ()) -> None:
    """Bring an item, or that it failed."""
    name = f"part.1/{position}"
    if position in bad:
        shard.put(position, Row(id=name, path=f"{name}.wav", status="failed", error="bad"))
    else:
        shard.put(position, Row(id=name, path=f"{name}.wav", frames=position), data_of(position))


def make(folder: Path, *, bad: Collection[int] = (), retry: bool = False) -> list[int]:
    """Make the shard, or what is missing of it; the positions that had to be brought."""
    shard = Shard(folder, 0, ITEMS)
    try:
        todo = list(shard.begin(retry=retry))
        for position in todo:
            put(shard, position, bad)
    finally:
        shard.close()
    assert shard.finished
    assert shard.done + shard.failed + len(todo) == ITEMS
    return todo


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a shard that was made without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    assert make(folder) == list(range(ITEMS))
    return content(folder)


@contextmanager
def crashing(monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[None]:
    """The process ends at this step of all that touch the disk, in the middle of a write."""
    taken = count()

    def before(act: Callable[..., object]) -> Callable[..., object]:
        def crash(*values: object, **options: object) -> object:
            if next(taken) == step:
                raise Crash
            return act(*values, **options)

        return crash

    def write(target: BinaryIO, data: bytes) -> None:
        if next(taken) == step:
            write_all(target, data[: len(data) // 2])
            raise Crash
        write_all(target, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", before(os.replace))
        patch.setattr(os, "fsync", before(os.fsync))
        patch.setattr(Path, "unlink", before(Path.unlink))
        patch.setattr(shards, "write_all", write)
        yield


def test_a_shard_appears_whole_and_alone(whole: dict[str, bytes]) -> None:
    assert sorted(whole) == ["shard-000000.jsonl", "shard-000000.tar"]
    place = 0
    for position in range(ITEMS):
        data = data_of(position)
        header = member_header(f"part.1/{position}", len(data))
        member = header + data + padding(len(data))
        assert whole["shard-000000.tar"][place : place + len(member)] == member
        place += len(member)
    assert whole["shard-000000.tar"][place:] == bytes(2 * BLOCK)


def test_it_is_the_same_after_an_end_at_any_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, bytes]
) -> None:
    for step in count():
        folder = tmp_path / str(step)
        folder.mkdir()
        with crashing(monkeypatch, step):
            try:
                make(folder)
                break
            except Crash:
                pass
        seen = content(folder)
        for name in whole.keys() & seen.keys():
            assert seen[name] == whole[name], step
        rows = seen.get(".shard-000000.jsonl.part", b"").count(b"\n")
        done = ITEMS if "shard-000000.jsonl" in seen else rows
        assert make(folder) == list(range(done, ITEMS)), step
        assert content(folder) == whole, step
    assert step > 2 * ITEMS + 4


def test_it_is_the_same_after_many_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, bytes]
) -> None:
    chance = random.Random(0)
    for turn in range(30):
        folder = tmp_path / str(turn)
        folder.mkdir()
        for _ in range(chance.randrange(1, 9)):
            with crashing(monkeypatch, chance.randrange(12)), suppress(Crash):
                make(folder, bad={2}, retry=chance.random() < 0.5)
        make(folder, bad={2})
        make(folder, retry=True)
        make(folder, retry=True)
        assert content(folder) == whole, turn


def test_failed_items_are_rows_and_can_be_tried_again(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    make(tmp_path, bad={0, 3, 6})
    rows = list(read_index(tmp_path / "shard-000000.jsonl"))
    assert [row.status == "failed" for row in rows] == [n in (0, 3, 6) for n in range(ITEMS)]
    assert (rows[3].error, rows[3].offset) == ("bad", None)
    assert make(tmp_path) == []
    assert make(tmp_path, bad={3}, retry=True) == [0, 3, 6]
    assert make(tmp_path, retry=True) == [3]
    assert content(tmp_path) == whole
    assert make(tmp_path, retry=True) == []


def test_trying_again_survives_an_end_at_any_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, bytes]
) -> None:
    for step in count():
        folder = tmp_path / str(step)
        folder.mkdir()
        make(folder, bad={1, 4})
        with crashing(monkeypatch, step):
            try:
                make(folder, retry=True)
                break
            except Crash:
                pass
        again = make(folder, retry=True)
        assert set(again) <= {1, 4}, step
        assert content(folder) == whole, step
    assert step > 2 * ITEMS + 4


def test_an_unfinished_shard_is_tried_again_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, bytes]
) -> None:
    for step in count():
        folder = tmp_path / str(step)
        folder.mkdir()
        shard = Shard(folder, 0, ITEMS)
        for position in list(shard.begin(retry=False))[:5]:
            put(shard, position, bad={1, 4})
        shard.close()
        with crashing(monkeypatch, step):
            try:
                assert make(folder, retry=True) == [1, 4, 5, 6]
                break
            except Crash:
                pass
        assert set(make(folder, retry=True)) <= {1, 4, 5, 6}
        assert content(folder) == whole, step
    assert step > 2 * ITEMS + 4


@pytest.mark.parametrize("damage", ["short", "zeros", "row", "torn", "newline"])
def test_rows_without_their_bytes_are_not_believed(
    tmp_path: Path, whole: dict[str, bytes], damage: str
) -> None:
    """What a machine that lost its power may leave behind."""
    shard = Shard(tmp_path, 0, ITEMS)
    for position in list(shard.begin(retry=False))[:5]:
        put(shard, position)
    shard.close()
    tar, index = (tmp_path / f".shard-000000.{end}.part" for end in ("tar", "jsonl"))
    size = tar.stat().st_size
    if damage == "short":
        os.truncate(tar, size - 700)
    elif damage == "zeros":
        os.truncate(tar, size - 700)
        os.truncate(tar, size)
    elif damage == "row":
        index.write_bytes(index.read_bytes()[:-20])
    elif damage == "newline":
        index.write_bytes(index.read_bytes()[:-1])
    else:
        index.write_bytes(index.read_bytes()[:-20] + b"\n")
    assert make(tmp_path) == [4, 5, 6]
    assert content(tmp_path) == whole


def test_what_was_half_written_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where less is written in its place: the last and longest item has become unreadable."""
    last = ITEMS - 1
    (tmp_path / "whole").mkdir()
    make(tmp_path / "whole", bad={last})
    for step in (2 * last, 2 * last + 1):
        folder = tmp_path / str(step)
        folder.mkdir()
        with crashing(monkeypatch, step), pytest.raises(Crash):
            make(folder)
        assert make(folder, bad={last}) == [last]
        assert content(folder) == content(tmp_path / "whole")


def test_an_index_without_its_shard_is_not_believed(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    make(tmp_path)
    (tmp_path / "shard-000000.tar").unlink()
    assert make(tmp_path) == list(range(ITEMS))
    assert content(tmp_path) == whole
