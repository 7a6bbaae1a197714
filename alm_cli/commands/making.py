"""The work of commands that make a sound of each text: one to a file or a pipe, or many."""

from __future__ import annotations

import re
import secrets
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePath
from traceback import format_exception
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Generic, TypeVar

import typer

from alm_cli.commands.manifest import Manifest
from alm_cli.commands.sound_files import comment_of, write_sound
from alm_cli.commands.sound_settings import SoundSettings
from alm_cli.commands.targets import Target
from alm_cli.errors import AlmError, InputError, UsageError
from alm_cli.files.ledger import Ledger
from alm_cli.jobs.report import Report, weight
from alm_cli.jobs.run import explain, follow
from alm_cli.jobs.sinks import fresh_file, occupied, sweep
from alm_cli.jobs.sources import Item
from alm_cli.jobs.task import Outcome, Summary, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from alm_cli.files.texts import Record

    Samples = NDArray[np.float32]

# A text that is ready to be made, and what was made of it.
Work = TypeVar("Work")
Made = TypeVar("Made")

SEEDS = 2**32


class Making(ABC, Generic[Work, Made]):
    """The work of one command: texts, how and where to make sounds of them.

    `noun` is what they become, `what` a text is called, `noted` the facts in a manifest.
    """

    command: ClassVar[str]
    noun: ClassVar[str]
    what: ClassVar[str]
    noted: ClassVar[tuple[str, ...]]

    def __init__(
        self, settings: SoundSettings, target: Target, records: Sequence[Record], report: Report
    ) -> None:
        self.settings: SoundSettings = settings
        self.target, self.records, self.report = target, records, report
        self._ledger = Ledger()
        self._texts = {record.id: record.text for record in records}
        self._manifest: Manifest | None = None

    @abstractmethod
    def begin(self) -> None:
        """Load what has to be there before the first text, so that its lack fails all at once."""

    @abstractmethod
    def outputs(self, record: Record) -> Sequence[Path]:
        """All files of a record. InputError: a suffix names no format."""

    @abstractmethod
    def work(self, record: Record, task: Task) -> Work:
        """What is to be made of a text. AlmError: nothing can be."""

    @abstractmethod
    def size(self, record: Record) -> int:
        """How much work a record is, against others, before any of them is begun."""

    @abstractmethod
    def length(self, work: Work) -> float:
        """Where a work stands among others: neighbours in length are done together."""

    @abstractmethod
    def together(self, works: Sequence[Work]) -> Sequence[Made | AlmError]:
        """Works as a batch; what goes wrong with one is its result."""

    @abstractmethod
    def seconds(self, made: Made) -> float:
        """How long a sound lasts."""

    @abstractmethod
    def keep(self, task: Task, record: Record, made: Made, wall_s: float) -> None:
        """Write what was made, and note what it comes to."""

    @abstractmethod
    def stream(self, task: Task, record: Record, work: Work) -> None:
        """Write while the model works."""

    @abstractmethod
    def replay(self) -> Made:
        """The sound of --from-tokens."""

    @abstractmethod
    def facts(self, record: Record) -> Mapping[str, Any]:
        """What makes the same sound of a text again."""

    @abstractmethod
    def identity(self, record: Record) -> Mapping[str, Any]:
        """What must be the same for two runs to make the same sound, in all detail."""

    @property
    def streams(self) -> bool:
        """Whether a single text is written while the model works."""
        return self.settings.stream

    @cached_property
    def inputs(self) -> frozenset[str]:
        """The files that are read, none of which is ever written."""
        return frozenset()

    def run(self) -> Summary:
        """Make all sounds. UsageError: the only one cannot be made."""
        tasks = {id(record): self._task(record) for record in self.records}
        if self.target.folder is not None:
            self._manifest = Manifest(
                self.target.folder, self.target.existing, what=self.what, facts=self.noted
            )
            self._manifest.seed = self.seed
        if self.settings.from_tokens is None:
            typer.echo(f"seed {self.seed}", err=True)
        if any(task.problem is None for task in tasks.values()):
            self.begin()
        only = None if self.target.many else self._only(tasks)
        outcomes = self._one(*only) if only is not None else self._all(tasks)
        self.report.start(len(tasks), sum(map(weight, tasks.values())))
        try:
            return follow(self._noted(outcomes), self.report)
        finally:
            if self._manifest is not None:
                self._manifest.finish([record.id for record in self.records])

    @cached_property
    def seed(self) -> int:
        """The seed that was given, that of the run which this one resumes, or any."""
        if self.settings.seed is not None:
            return self.settings.seed
        earlier = self._manifest.seed if self._manifest is not None else None
        return secrets.randbelow(SEEDS) if earlier is None else earlier

    def sound(self, record: Record) -> Path | None:
        """The file for the sound of a record. InputError: its suffix names no format."""
        from alm_cli.files.writer import WRITE_FORMATS, format_of

        path = self.target.sound(record, WRITE_FORMATS[self.settings.format or "wav"].suffix)
        if path is not None and self.settings.format is None:
            format_of(path)
        return path

    def write(
        self,
        task: Task,
        blocks: Iterator[Samples],
        *,
        rate: int,
        channels: int,
        length: int | None,
        facts: Mapping[str, Any] | None,
        last: Callable[[], None] | None = None,
    ) -> None:
        """Write blocks [channels, n]; `facts` go into the metadata.

        `last` is called when they are written; if it raises, there is no file.
        """
        place: Path | BinaryIO = sys.stdout.buffer
        comment = None if facts is None else comment_of(self.command, facts)
        form = {"rate": rate, "channels": channels, "comment": comment}
        finish = last if last is not None else lambda: None
        if task.target is None:
            form |= {"format": self.settings.format, "length": None}
            written = write_sound(place, blocks, **form)  # type: ignore[arg-type]
            finish()
        else:
            from alm_cli.files.writer import format_of

            form |= {"format": self.settings.format or format_of(task.target), "length": length}
            with fresh_file(task.target) as path:
                written = write_sound(path, blocks, **form)  # type: ignore[arg-type]
                finish()
        samples, clipped = written
        task.seconds = task.length_s = samples / rate
        if clipped:
            task.warnings.append(f"{clipped} samples beyond full scale were clipped")

    def _task(self, record: Record) -> Task:
        label = record.id if self.target.many or record.text == "" else record.text[:40]
        label = re.sub(r"\s+", " ", label).strip()
        item = Item(None, PurePath(self.noun), self.size(record), label=label)
        task = Task(item, self.sound(record), record.problem)
        if self.target.many:
            task.facts["id"] = record.id
        for path in self.outputs(record):
            problem = occupied(path, self.inputs, self.target.existing)
            if problem is not None and task.problem is None:
                hint = "--overwrite, or another -o"
                task.problem = InputError(
                    problem,
                    f"{hint}; or --skip-existing" if self.target.folder is not None else hint,
                )
        if task.target is not None:
            sweep({task.target.parent})
        return task

    def _only(self, tasks: Mapping[int, Task]) -> tuple[Task, Work | None] | None:
        """The single text, known to be one that can be done. UsageError: it is not."""
        (record,) = self.records
        task = tasks[id(record)]
        if task.problem is not None:
            return None
        if self.settings.from_tokens is not None:
            return task, None
        try:
            return task, self.work(record, task)
        except InputError as error:
            raise UsageError(error.message, error.hint) from error

    def _noted(self, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
        for outcome in outcomes:
            if self._manifest is not None:
                self._manifest.note(outcome, self._texts[str(outcome.task.facts["id"])])
            yield outcome

    def _one(self, task: Task, work: Work | None) -> Iterator[Outcome]:
        """The outcome of the only text."""
        task.began = began = time.perf_counter()
        record = self.records[0]
        try:
            if work is None:
                made = self.replay()
                self.keep(task, record, made, time.perf_counter() - began)
            elif self.streams:
                self.stream(task, record, work)
            else:
                (found,) = self.together([work])
                if isinstance(found, AlmError):
                    raise found
                self.keep(task, record, found, time.perf_counter() - began)
        except BrokenPipeError:
            raise
        except Exception as error:  # told like any other failure
            yield _failed(task, error)
            return
        yield Outcome(task=task, status="done", wall_s=time.perf_counter() - began)

    def _all(self, tasks: Mapping[int, Task]) -> Iterator[Outcome]:
        """The outcomes of many texts, those of about one length together."""
        works: list[tuple[Record, Task, Work]] = []
        for record in self.records:
            task = tasks[id(record)]
            problem, reason = task.problem, ""
            if problem is None:
                try:
                    work = self.work(record, task)
                    reason = self._needless(record, task)
                    if not reason:
                        works.append((record, task, work))
                except AlmError as error:
                    problem = error
            if problem is not None:
                yield Outcome(task=task, status="failed", error=problem)
            elif reason:
                yield Outcome(task=task, status="skipped", reason=reason)
        # Neighbours in length end together, so no row of a batch waits long for another.
        works.sort(key=lambda work: self.length(work[2]))
        for start in range(0, len(works), self.settings.batch_size):
            yield from self._batch(works[start : start + self.settings.batch_size])

    def _batch(self, works: Sequence[tuple[Record, Task, Work]]) -> Iterator[Outcome]:
        began = time.perf_counter()
        for _, task, _ in works:
            task.began = began
        found = self.together([work for _, _, work in works])
        wall_s = time.perf_counter() - began
        total = sum(0.0 if isinstance(one, AlmError) else self.seconds(one) for one in found)
        for (record, task, _), one in zip(works, found, strict=True):
            if isinstance(one, AlmError):
                yield _failed(task, one)
                continue
            share = wall_s * self.seconds(one) / (total or 1.0)
            try:
                self.keep(task, record, one, share)
                if self.target.folder is not None:
                    self._ledger.note(self._place(task), self.identity(record))
            except Exception as error:  # one bad output must not stop the others
                yield _failed(task, error)
                continue
            yield Outcome(task=task, status="done", wall_s=share)

    def _needless(self, record: Record, task: Task) -> str:
        """Why nothing needs to be made of a text, or nothing."""
        if not self.target.skip:
            return ""
        state = self._ledger.state(self._place(task), self.identity(record))
        if state == "current":
            return "its sound is there and still valid"
        if state == "foreign":
            return "its sound was edited or made elsewhere (--overwrite replaces it)"
        return ""

    def _place(self, task: Task) -> Path:
        assert task.target is not None
        return task.target


class Heard(Generic[Made]):
    """The samples of a model as they come, and when they ended what it returns."""

    def __init__(self, source: Generator[Samples, None, Made], task: Task) -> None:
        self._source, self._task = source, task
        self._value: Made | None = None

    @property
    def value(self) -> Made:
        assert self._value is not None
        return self._value

    def __iter__(self) -> Iterator[Samples]:
        began = time.perf_counter()
        while True:
            try:
                samples = next(self._source)
            except StopIteration as end:
                self._value = end.value
                return
            if samples.size:
                self._task.facts.setdefault("first_s", round(time.perf_counter() - began, 3))
                yield samples


def _failed(task: Task, error: Exception) -> Outcome:
    """How a task ended, with where it happened if nobody foresaw it."""
    cause = error.__cause__ if isinstance(error, AlmError) else error
    details = "" if isinstance(cause, AlmError | None) else "".join(format_exception(cause))
    return Outcome(task=task, status="failed", error=explain(error), details=details)


def accept_by_name(model: str) -> None:
    """Remember that the user accepts the licence of a catalogued model; folders have none."""
    from alm_cli.catalog import CATALOG
    from alm_cli.checkpoints.licences import accept

    for card in CATALOG:
        if card.name == model:
            accept(card)
