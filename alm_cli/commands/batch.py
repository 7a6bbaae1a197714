"""What `encode` and `decode` share: from options to tasks, a report, and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import NoReturn, TypeVar

import typer

from alm_cli.commands.options import AUTO
from alm_cli.errors import UsageError
from alm_cli.jobs.report import Report, make_report
from alm_cli.jobs.run import Steps, run
from alm_cli.jobs.sinks import STDOUT, Existing, sweep
from alm_cli.jobs.sources import STDIN, find_items, read_list
from alm_cli.jobs.task import Task, plan_tasks

Chunk = TypeVar("Chunk")
Piece = TypeVar("Piece")


@dataclass(frozen=True)
class Batch:
    """The options about which files to do and what to tell; contradictions raise UsageError.

    `text` tells that results can be read on a terminal.
    """

    command: str
    inputs: Sequence[str]
    output: str | None
    _: KW_ONLY
    from_list: str | None
    recursive: bool
    skip_existing: bool
    overwrite: bool
    json: bool
    quiet: bool
    verbose: bool
    together: str
    text: bool = False

    def __post_init__(self) -> None:
        if not self.inputs and self.from_list is None:
            raise UsageError("no INPUT", hint=f"alm {self.command} --help shows what it can be")
        if self.skip_existing and self.overwrite:
            raise UsageError("--skip-existing and --overwrite exclude each other")
        if self.skip_existing and STDIN in self.inputs:
            raise UsageError("--skip-existing cannot tell whether standard input has changed")
        if self.from_list == STDIN and STDIN in self.inputs:
            raise UsageError("standard input is either the list or an input")

    def tasks(self, suffixes: Collection[str], suffix: str) -> list[Task]:
        """A task for each input; folders give the files with one of `suffixes`."""
        listed = [] if self.from_list is None else read_list(self.from_list, sys.stdin.buffer)
        items = find_items(self.inputs, suffixes=suffixes, recursive=self.recursive, listed=listed)
        tasks = plan_tasks(items, self.output, suffix, self.existing)
        if any(task.target is None for task in tasks):
            self._check_stdout()
        sweep({task.target.parent for task in tasks if task.target is not None})
        return tasks

    def run(self, tasks: Sequence[Task], steps: Callable[[], Steps[Chunk, Piece]]) -> NoReturn:
        """Do the tasks and end with their exit code."""
        # A result on the terminal and a bar would write into each other.
        shown = sys.stdout.isatty() and any(task.target is None for task in tasks)
        report = self.report(bar=not shown)
        raise typer.Exit(run(tasks, steps, report, together=self.lanes).exit_code)

    def report(self, *, many: bool = False, bar: bool = True) -> Report:
        """What tells how the job goes; with `many` items not each of them to people."""
        return make_report(
            self.command,
            sys.stderr,
            sys.stdout if self.json else None,
            quiet=self.quiet,
            verbose=self.verbose,
            many=many,
            bar=bar,
        )

    @property
    def lanes(self) -> int:
        """How many items are worked on at a time."""
        return 1 if self.together == AUTO else int(self.together)

    @property
    def existing(self) -> Existing:
        """What to do about outputs that are there."""
        if self.skip_existing:
            return "skip"
        return "overwrite" if self.overwrite else "refuse"

    def _check_stdout(self) -> None:
        if self.json:
            raise UsageError("--json and the result cannot both go to standard output")
        if sys.stdout.isatty() and not self.text:
            hint = f"-o FILE, or -o {STDOUT} into a pipe"
            raise UsageError("the result is binary and standard output is a terminal", hint=hint)
