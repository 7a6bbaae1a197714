"""A data set in the making: a folder whose list of items and shards is fixed by the first process.

    job.json           what was asked, so that nobody goes on with something else
    items.jsonl        the items in order, itself a manifest
    shard-000000.tar   their token files (alm_cli.files.shards), and
    shard-000000.jsonl the index

Any number of processes, on any machines that share the folder, work on different shards. Which
items a shard holds depends on the list alone, so every shard has the same bytes whoever makes it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from alm_cli import __version__
from alm_cli.errors import FormatError, InputError, UsageError
from alm_cli.files.shards import INDEX_SUFFIX, SHARD_SUFFIX, Row
from alm_cli.jobs.channel import Stopped
from alm_cli.jobs.locks import Locks
from alm_cli.jobs.ordered import Ordered
from alm_cli.jobs.plan import Entry, write_plan
from alm_cli.jobs.run import explain
from alm_cli.jobs.shards import Shard
from alm_cli.jobs.sinks import flush, fresh_file, sweep
from alm_cli.jobs.sources import Item
from alm_cli.jobs.task import Abort, Summary, Task

JOB, ITEMS, _LOCK = "job.json", "items.jsonl", ".lock"
_OURS = re.compile(rf"\.?shard-\d+({SHARD_SUFFIX}|{INDEX_SUFFIX})(\.part|\.old)?")
# How long another process may take to let go of a shard: longer than it takes to notice its end.
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Cut:
    """Into how many shards the items go, or how many items go into each."""

    shards: int | None = None
    size: int | None = None

    def count(self, items: int) -> int:
        """The number of shards; none is empty."""
        if self.size is not None:
            return -(-items // self.size)
        return min(items, self.shards or 1)

    def bounds(self, number: int, items: int) -> tuple[int, int]:
        """The first item of a shard, and the one after its last."""
        if self.size is not None:
            return number * self.size, min(items, (number + 1) * self.size)
        shards = self.count(items)
        return number * items // shards, (number + 1) * items // shards


@dataclass(eq=False, kw_only=True)
class ShardTask(Task):
    """An item on its way into a shard; `number` is its turn in this process."""

    entry: Entry
    shard: Shard
    position: int
    number: int


class Encoded(NamedTuple):
    """One item's token file, and what its index says of it."""

    data: bytes
    frames: int


@dataclass(frozen=True)
class DataSet:
    """A folder whose list is fixed: `items` of them, whose paths start at `base`.

    `places` are the bytes of the list at which the items of each shard begin.
    """

    folder: Path
    items: int
    cut: Cut
    base: str
    places: Sequence[int]
    locks: Locks = field(compare=False)

    @property
    def shards(self) -> int:
        """How many there will be."""
        return self.cut.count(self.items)

    def shard(self, number: int) -> Shard:
        """One of the shards."""
        first, end = self.cut.bounds(number, self.items)
        return Shard(self.folder, number, end - first)

    def left(self, share: Iterable[int]) -> int:
        """About how many items of these shards are still to be done."""
        shards = map(self.shard, share)
        return sum(shard.items - shard.written() for shard in shards if not shard.finished)


def prepare(
    folder: Path,
    asked: Mapping[str, object],
    cut: Cut,
    entries: Callable[[], Iterable[Entry]],
    *,
    overwrite: bool = False,
) -> DataSet:
    """The data set in `folder`: as it was begun, or begun now with `entries` in order.

    UsageError: it was begun with something else asked, or holds foreign shards.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        locks = Locks(folder / _LOCK)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}", hint="choose another -o") from error
    locks.hold(0)
    try:
        sweep({folder})
        if overwrite:
            _clear(folder)
        asked = {**asked, "shards": cut.shards, "shard_size": cut.size}
        if not (folder / JOB).exists():
            if any(_OURS.fullmatch(name) for name in os.listdir(folder)):
                raise UsageError(f"{folder}: holds other shards", hint="another -o, or --overwrite")
            items = write_plan(entries(), folder / ITEMS)
            if not items:
                raise InputError("the list of items is empty")
            job = {"program": f"alm {__version__}", "items": items, "base": os.getcwd()}
            places = _places(folder / ITEMS, cut, items)
            told = json.dumps({**job, "asked": asked, "places": places})
            with fresh_file(folder / JOB) as path, path.open("w", encoding="utf-8") as file:
                file.write(told)
                flush(file)
    finally:
        locks.release(0)
    return reopen(folder, asked, locks)


def reopen(
    folder: Path, asked: Mapping[str, object] | None = None, locks: Locks | None = None
) -> DataSet:
    """The data set that was begun in `folder`. UsageError: with something else asked."""
    try:
        job = json.loads((folder / JOB).read_text(encoding="utf-8"))
        told = job["asked"]
        cut = Cut(told["shards"], told["shard_size"])
        items, base, places = int(job["items"]), str(job["base"]), list(job["places"])
    except OSError as error:
        raise InputError(f"{folder / JOB}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError):
        raise FormatError(f"{folder / JOB}: not the job of a data set") from None
    if asked is not None:
        for key in sorted(asked.keys() | told.keys()):
            if asked.get(key) != told.get(key):
                raise UsageError(
                    f"{folder}: was begun with {key} {told.get(key)}, not {asked.get(key)}",
                    hint="choose another -o, or --overwrite what is there",
                )
    return DataSet(folder, items, cut, base, places, locks or Locks(folder / _LOCK))


class Share:
    """The shards that this process makes, as tasks and as the place where their results go.

    `earlier` counts what earlier processes have left: done items as skipped, and failed ones.
    """

    def __init__(self, dataset: DataSet, numbers: Iterable[int], *, retry: bool = False) -> None:
        self._set, self._numbers, self._retry = dataset, numbers, retry
        self._ordered = Ordered(self._keep)
        self._open: list[Shard] = []
        # Paths are shown as they were written where that is how they are opened, too.
        self._base = "" if dataset.base == os.getcwd() else dataset.base
        self.earlier = Summary()

    def tasks(self) -> Iterator[ShardTask]:
        """A task for every item that is to be done. Abort: another process has a shard."""
        turns = count()
        with (self._set.folder / ITEMS).open("rb") as lines:
            for number in self._numbers:
                shard, read = self._set.shard(number), 0
                lines.seek(self._set.places[number])
                for position in self._begin(shard):
                    line = next(islice(lines, position - read, None))
                    read = position + 1
                    yield self._task(Entry.parse(line.decode()), shard, position, next(turns))

    def write(self, task: Task, results: Iterator[Encoded]) -> None:
        """Keep the one result of an item, or that it failed, which is raised again."""
        assert isinstance(task, ShardTask)
        try:
            encoded = next(results)
        except (BrokenPipeError, Stopped):
            raise
        except Exception as error:
            # The same on every machine, wherever its data lie.
            message = explain(error).message.replace(task.item.name, task.entry.path)
            self._bring(task, _row(task.entry, status="failed", error=message))
            raise
        row = _row(task.entry, frames=encoded.frames, seconds=round(task.seconds, 6))
        self._bring(task, row, encoded.data)

    def close(self) -> None:
        """Leave unfinished shards as they are, for the next time."""
        self._ordered.close()
        for shard in list(self._open):
            shard.close()
            self._set.locks.release(shard.number + 1)

    def _begin(self, shard: Shard) -> Sequence[int]:
        locks = self._set.locks
        if not locks.hold(shard.number + 1, _PATIENCE_S):
            raise Abort(
                f"{shard.tar}: another process is making it",
                hint="give each its own --shard-index",
            )
        with _writing(shard):
            todo = shard.begin(retry=self._retry)
        self.earlier.skipped += shard.done
        self.earlier.failed += shard.failed
        if todo:
            self._open.append(shard)
        else:
            locks.release(shard.number + 1)
        return todo

    def _task(self, entry: Entry, shard: Shard, position: int, number: int) -> ShardTask:
        path = Path(os.path.join(self._base, entry.path))
        item = Item(path, PurePath(entry.id), section=entry.section)
        return ShardTask(
            item=item,
            target=shard.tar,
            facts={"id": entry.id},
            entry=entry,
            shard=shard,
            position=position,
            number=number,
        )

    def _bring(self, task: ShardTask, row: Row, data: bytes = b"") -> None:
        self._ordered.put(task.number, (task, row, data), len(data))

    def _keep(self, result: tuple[ShardTask, Row, bytes]) -> None:
        task, row, data = result
        with _writing(task.shard):
            last = task.shard.put(task.position, row, data)
        if last:
            self._open.remove(task.shard)
            self._set.locks.release(task.shard.number + 1)


def _places(items: Path, cut: Cut, count: int) -> list[int]:
    """Where in the list the items of each shard begin, in bytes."""
    places, place, read = [], 0, 0
    with items.open("rb") as lines:
        for number in range(cut.count(count)):
            first, _ = cut.bounds(number, count)
            place += sum(map(len, islice(lines, first - read)))
            read = first
            places.append(place)
    return places


def _row(entry: Entry, **found: Any) -> Row:
    start, duration = entry.section or (None, None)
    return Row(id=entry.id, path=entry.path, start=start, duration=duration, **found)


@contextmanager
def _writing(shard: Shard) -> Iterator[None]:
    """What hinders the shard ends the job: no other item would fare better."""
    try:
        yield
    except OSError as error:
        raise Abort(f"{shard.tar}: cannot be written ({error.strerror or error})") from error


def _clear(folder: Path) -> None:
    """Remove what an earlier job made here, and nothing else."""
    (folder / JOB).unlink(missing_ok=True)
    for name in [ITEMS, *filter(_OURS.fullmatch, os.listdir(folder))]:
        (folder / name).unlink(missing_ok=True)
