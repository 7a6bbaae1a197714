"""One piece of a job, how it ended, and the sum over a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from alm_cli.errors import DONE, MODEL_UNAVAILABLE, SOME_FAILED, AlmError, InputError
from alm_cli.jobs.sinks import Existing, occupied, plan_targets
from alm_cli.jobs.sources import Item

Status = Literal["done", "skipped", "failed"]


class Skip(Exception):  # noqa: N818 - not an error
    """Raised by a step when its item needs nothing done; the text says why."""


class Abort(AlmError):  # noqa: N818 - named for what it does
    """The whole job must end, not only the item at hand: its results cannot be kept."""


@dataclass(eq=False)
class Task:
    """An item on its way to `target` (None: standard output) and the notebook that goes with it.

    The steps write into `facts` (for the report) and `warnings`; `seconds` of audio are done of
    `length_s`, as far as known. `problem` is why it fails before it begins.
    """

    item: Item
    target: Path | None
    problem: AlmError | None = None
    facts: dict[str, object] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    length_s: float | None = None
    began: float = 0.0

    @property
    def fraction(self) -> float:
        """How much of it is done, 0..1."""
        return min(1.0, self.seconds / self.length_s) if self.length_s else 0.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a task ended; `error` when it failed, `reason` when it was skipped, `wall_s` seconds."""

    task: Task
    status: Status
    wall_s: float = 0.0
    error: AlmError | None = None
    reason: str = ""
    details: str = ""


@dataclass
class Summary:
    """What a job did; `model_s` is the wall time in which the model worked, in seconds."""

    done: int = 0
    skipped: int = 0
    failed: int = 0
    audio_s: float = 0.0
    wall_s: float = 0.0
    model_s: float = 0.0
    without_model: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count one more outcome."""
        setattr(self, outcome.status, getattr(self, outcome.status) + 1)
        if outcome.status == "done":
            self.audio_s += outcome.task.seconds
        if outcome.error is not None:
            self.without_model += outcome.error.exit_code == MODEL_UNAVAILABLE

    @property
    def exit_code(self) -> int:
        """0 all done, 1 some failed, 3 all that failed lacked their model."""
        if not self.failed:
            return DONE
        return MODEL_UNAVAILABLE if self.without_model == self.failed else SOME_FAILED


def plan_tasks(
    items: Sequence[Item], output: str | None, suffix: str, existing: Existing
) -> list[Task]:
    """A task for every item, with its output named and what stands in its way already known."""
    inputs = frozenset(str(item.path.resolve()) for item in items if item.path is not None)
    tasks = []
    for item, target in zip(items, plan_targets(items, output, suffix), strict=True):
        task = Task(item, target, item.problem)
        tasks.append(task)
        if target is None or item.problem is not None:
            continue
        obstacle = occupied(target, inputs, existing)
        if obstacle is not None:
            hint = "--overwrite, --skip-existing or another -o" if "exists" in obstacle else None
            task.problem = InputError(obstacle, hint=hint)
        if not item.named and target.stem != item.place.stem:
            task.warnings.append(f"another input has the same name; this one goes to {target}")
    return tasks
