"""The one driver: many items are read, worked on and written, each step in a thread of its own."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Generic, TypeVar

from alm_cli.errors import AlmError, InputError
from alm_cli.jobs.channel import Channel, Stopped
from alm_cli.jobs.interrupts import orderly
from alm_cli.jobs.report import Report, weight
from alm_cli.jobs.sinks import remove_temporaries
from alm_cli.jobs.task import Abort, Outcome, Skip, Summary, Task

Chunk = TypeVar("Chunk")
Piece = TypeVar("Piece")

# Chunks of one item that may wait between two steps, and items that are read ahead: together with
# the size of a chunk they bound the memory, however long the inputs are.
_CHUNKS, _ITEMS = 4, 2
# Ctrl-C: what the threads get to put their files in order before they are left alone.
_GRACE_S = 0.5
_TICK_S = 0.1


@dataclass(frozen=True)
class Steps(Generic[Chunk, Piece]):
    """What is done to each item: `write(task, work(task, read(task)))`, as generators.

    Any step may raise: `Skip`, or an error, which fails the one item and reaches `write` in its
    place in the stream, so that the output is taken back. At least `together` items are worked on
    at a time, more where the caller wants more.
    """

    read: Callable[[Task], Iterator[Chunk]]
    work: Callable[[Task, Iterator[Chunk]], Iterator[Piece]]
    write: Callable[[Task, Iterator[Piece]], None]
    together: int = 1


def run(
    tasks: Sequence[Task],
    steps: Callable[[], Steps[Chunk, Piece]],
    report: Report,
    *,
    together: int = 1,
) -> Summary:
    """Do all tasks, `together` of them at a time; one that fails does not stop the others.

    Reading is ahead of the model and writing behind it, in bounded memory. The results are those
    of the plain composition of the steps, which are made (a model may have to be loaded for them)
    when at least one task can begin. On `KeyboardInterrupt`, and when standard output
    is gone, everything stops, unfinished outputs are removed, and the exception goes on.
    """
    able = [task for task in tasks if task.problem is None]
    made = steps() if able else None
    lanes = min(max(together, made.together), len(able)) if made else 0
    job = _Job(made, able, lanes) if made else None
    report.start(len(tasks), sum(map(weight, tasks)))
    if job is None:
        return follow(_impossible(tasks), report)
    outcomes = chain(_impossible(tasks), job.outcomes(report))
    return follow(outcomes, report, stop=job.stop, complete=job.complete)


def run_each(
    tasks: Iterable[Task],
    steps: Steps[Chunk, Piece],
    report: Report,
    *,
    together: int = 1,
    earlier: Summary | None = None,
) -> Summary:
    """As `run`, for tasks without number: each is made when its turn comes.

    What `earlier` holds at the end, of items that `tasks` knew to need nothing, is counted too.
    """
    job = _Job(steps, tasks, max(together, steps.together))

    def complete(summary: Summary) -> None:
        job.complete(summary)
        if earlier is not None:
            summary.skipped += earlier.skipped
            summary.failed += earlier.failed

    return follow(job.outcomes(report), report, stop=job.stop, complete=complete)


def follow(
    outcomes: Iterable[Outcome],
    report: Report,
    *,
    stop: Callable[[], None] | None = None,
    complete: Callable[[Summary], None] | None = None,
) -> Summary:
    """Count and report outcomes as they come; when anything breaks that off, `stop` their source.

    In the end `complete` may add to the sum what no outcome tells.
    """
    summary, began = Summary(), time.perf_counter()
    try:
        with orderly():
            for outcome in outcomes:
                summary.add(outcome)
                summary.wall_s = time.perf_counter() - began
                report.ended(outcome)
    except BaseException as error:
        if stop is not None:
            stop()
        report.abandon(summary if isinstance(error, KeyboardInterrupt) else None)
        raise
    if complete is not None:
        complete(summary)
    report.finish(summary)
    return summary


def _impossible(tasks: Sequence[Task]) -> Iterator[Outcome]:
    for task in tasks:
        if task.problem is not None:
            yield Outcome(task=task, status="failed", error=task.problem)


class _Job(Generic[Chunk, Piece]):
    """The threads of one run: lanes of three, which share the list of tasks."""

    def __init__(self, steps: Steps[Chunk, Piece], tasks: Iterable[Task], lanes: int) -> None:
        self._steps = steps
        self._lanes = lanes
        self._todo = iter(tasks)
        self._todo_lock = threading.Lock()
        self._stop = threading.Event()
        self._ended: queue.SimpleQueue[Outcome | BaseException | None] = queue.SimpleQueue()
        self._active: list[Task] = []
        self._threads: list[threading.Thread] = []
        self.model_s = 0.0
        for _ in range(lanes):
            read = Channel[tuple[Task, Channel[Chunk]]](_ITEMS, self._stop)
            worked = Channel[tuple[Task, Channel[Piece]]](_ITEMS, self._stop)
            for step in (self._read, read), (self._work, read, worked), (self._write, worked):
                # Daemons, because a thread that waits for standard input cannot be woken.
                self._threads.append(threading.Thread(target=self._guard, args=step, daemon=True))

    def outcomes(self, report: Report) -> Iterator[Outcome]:
        """Begin; the outcome of every task as it ends."""
        for thread in self._threads:
            thread.start()
        lanes = self._lanes
        while lanes:
            outcome = self._next(report)
            if outcome is None:
                lanes -= 1
            else:
                yield outcome
        for thread in self._threads:
            thread.join(_GRACE_S)

    def stop(self) -> None:
        """Let the threads end, and take back what they had not finished."""
        self._stop.set()
        deadline = time.monotonic() + _GRACE_S
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        remove_temporaries()

    def complete(self, summary: Summary) -> None:
        """Add what is known at the end."""
        summary.model_s = self.model_s

    def _next(self, report: Report) -> Outcome | None:
        """What ended next; None when a lane has nothing more to do."""
        while True:
            try:
                ended = self._ended.get(timeout=_TICK_S)
            except queue.Empty:
                report.tick(tuple(self._active))
                continue
            if isinstance(ended, BaseException):
                raise ended
            if ended is not None:
                self._active.remove(ended.task)
            return ended

    def _guard(self, step: Callable[..., None], *channels: Channel[object]) -> None:
        try:
            step(*channels)
        except Stopped:
            pass
        except BaseException as error:  # it is raised again in the main thread
            self._ended.put(error)

    def _read(self, out: Channel[tuple[Task, Channel[Chunk]]]) -> None:
        while True:
            with self._todo_lock:
                task = next(self._todo, None)
            if task is None:
                break
            chunks = Channel[Chunk](_CHUNKS, self._stop)
            out.put((task, chunks))
            chunks.feed(self._steps.read(task))
        out.end()

    def _work(
        self,
        source: Channel[tuple[Task, Channel[Chunk]]],
        out: Channel[tuple[Task, Channel[Piece]]],
    ) -> None:
        for task, chunks in source:
            self._active.append(task)
            task.began = began = time.perf_counter()
            pieces = Channel[Piece](_CHUNKS, self._stop)
            out.put((task, pieces))
            pieces.feed(self._steps.work(task, iter(chunks)))
            chunks.leave()
            waited = chunks.consumer_waited_s + pieces.producer_waited_s
            self.model_s += time.perf_counter() - began - waited
        out.end()

    def _write(self, source: Channel[tuple[Task, Channel[Piece]]]) -> None:
        for task, pieces in source:
            self._ended.put(self._written(task, pieces))
        self._ended.put(None)

    def _written(self, task: Task, pieces: Channel[Piece]) -> Outcome:
        try:
            self._steps.write(task, iter(pieces))
        except (Abort, BrokenPipeError, Stopped):
            raise
        except Skip as skip:
            return Outcome(task=task, status="skipped", reason=str(skip))
        except Exception as error:  # one bad item must not stop the others
            wall_s = time.perf_counter() - task.began
            details = "".join(traceback.format_exception(error))
            return Outcome(
                task=task, status="failed", wall_s=wall_s, error=explain(error), details=details
            )
        finally:
            pieces.leave()
        return Outcome(task=task, status="done", wall_s=time.perf_counter() - task.began)


def explain(error: Exception) -> AlmError:
    """What to tell the user about any error."""
    if isinstance(error, AlmError):
        return error
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return InputError(f"{where}{error.strerror}")
    if isinstance(error, MemoryError):
        return InputError("not enough memory", hint="try a smaller --batch-size")
    kind = type(error).__name__
    return AlmError(f"unexpected {kind}: {error}", hint="-v shows where; please report it")
