"""A folder that recordings are dropped into: each is found once it has stopped growing."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from pathlib import Path

from alm_cli.errors import AlmError
from alm_cli.jobs.sinks import Existing
from alm_cli.jobs.sources import Item, find_items
from alm_cli.jobs.task import Task, plan_tasks

# Looked at so often, and taken when nothing has changed for so long.
POLL_S, QUIET_S = 0.2, 0.8

_Stamp = tuple[int, int]


def watch(
    folder: str,
    output: str | None,
    suffix: str,
    *,
    suffixes: Collection[str],
    recursive: bool,
    existing: Existing,
) -> Iterator[Task]:
    """A task for every recording in `folder`, and for each that comes, without end.

    What is empty or still grows is left until it is quiet; what changes later is done again, over
    its own output. Of two that would have one output the second keeps its full name.
    """
    waiting: dict[Path, tuple[_Stamp, float]] = {}
    done: dict[Path, _Stamp] = {}
    taken: dict[Path, Path | None] = {}
    while True:
        items = _recordings(folder, suffixes, recursive)
        for item in items:
            assert item.path is not None
            stamp = _stamp(item.path)
            if stamp is None or done.get(item.path) == stamp:
                continue
            seen, since = waiting.get(item.path, (None, 0.0))
            if seen != stamp:
                waiting[item.path] = stamp, time.monotonic()
            elif time.monotonic() - since >= QUIET_S:
                again = item.path in done
                del waiting[item.path]
                done[item.path] = stamp
                yield _task(item, items, output, suffix, "overwrite" if again else existing, taken)
        time.sleep(POLL_S)


def _recordings(folder: str, suffixes: Collection[str], recursive: bool) -> list[Item]:
    """What is there now; a folder that is away for a moment is empty."""
    try:
        items = find_items([folder], suffixes=suffixes, recursive=recursive)
    except AlmError:
        return []
    return [item for item in items if item.problem is None]


def _stamp(path: Path) -> _Stamp | None:
    """Size and time of the last change, None for what is empty or gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns) if status.st_size else None


def _task(
    item: Item,
    items: list[Item],
    output: str | None,
    suffix: str,
    existing: Existing,
    taken: dict[Path, Path | None],
) -> Task:
    """The task of one recording; `taken` are the outputs of those before it, by recording."""
    assert item.path is not None
    (task,) = plan_tasks([item], output, suffix, existing)
    if item.path in taken:
        task.target = taken[item.path]
    elif task.target in taken.values():
        tasks = plan_tasks(items, output, suffix, existing)
        task = next(other for other in tasks if other.item.path == item.path)
    taken[item.path] = task.target
    return task
