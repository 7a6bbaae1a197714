"""One stage of a model that works ahead of the next, each on a processor core of its own.

Speech is made step by step, and a step is too small for several cores to share it: a language model
on one core and its codec on another are faster than both on all. Each then computes on one core
whatever the machine has, so what is said does not depend on the number of cores either.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from alm_cli.runtime import inference

T = TypeVar("T")

_lock = threading.Lock()
_users = 0
_threads = 1
# A consumer that is gone is noticed after so long at most.
_PATIENCE_S = 0.1


@contextmanager
def one_core_each() -> Iterator[bool]:
    """Let every operation run on one core; whether there are others for stages that work ahead.

    The number is the process's: several may be within at a time, and the last one restores it.
    """
    global _users, _threads
    with _lock:
        if not _users:
            _threads = torch.get_num_threads()
            torch.set_num_threads(1)
        _users += 1
    try:
        yield _threads > 1
    finally:
        with _lock:
            _users -= 1
            if not _users:
                torch.set_num_threads(_threads)


def ahead(made: Iterator[T], depth: int) -> Generator[T, None, None]:
    """The items of `made`, which a thread makes while earlier ones are used; at most `depth` wait.

    Everything of `made` runs for inference. What it raises is raised here; when nobody asks any
    more (the iterator is closed), it stops with the next item.
    """
    items: queue.Queue[T | _End] = queue.Queue(depth)
    stop = threading.Event()
    thread = threading.Thread(target=_work, args=(made, items, stop), daemon=True)
    thread.start()
    try:
        while not isinstance(item := items.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        thread.join()


def in_turn(made: Iterator[T]) -> Generator[T, None, None]:
    """The items of `made`, each made for inference when it is asked for."""
    while True:
        # Not around the loop: whoever uses the items would compute in this mode too.
        with inference():
            item = next(made, None)
        if item is None:
            return
        yield item


class _End:
    """There is no more, or only an error."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def _work(made: Iterator[T], items: queue.Queue[T | _End], stop: threading.Event) -> None:
    end = _End()
    try:
        with inference():
            for item in made:
                if not _put(items, item, stop):
                    return
    except BaseException as error:
        end = _End(error)
    _put(items, end, stop)


def _put(items: queue.Queue[T | _End], item: T | _End, stop: threading.Event) -> bool:
    """Whether it could be handed over."""
    while not stop.is_set():
        try:
            items.put(item, timeout=_PATIENCE_S)
        except queue.Full:
            continue
        return True
    return False
