"""`--engine ray`: the shards of a data set, made on the nodes of a Ray cluster.

Ray only says who makes which shard. A worker makes it by the same code as a process without Ray,
into the same folder, which all nodes must share, so its bytes are the same. When a node vanishes,
its shard goes on elsewhere from what is in the folder. Actors and not Ray Data: that would carry
every item through its object store, and drops a whole block of items when one of them fails.
"""

from __future__ import annotations

import io
import os
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from alm_cli.commands.dataset import make_share
from alm_cli.errors import AlmError, ModelError, UsageError
from alm_cli.jobs.dataset import DataSet, Share, reopen
from alm_cli.jobs.report import Report
from alm_cli.jobs.run import follow
from alm_cli.jobs.task import Abort, Outcome, Summary, Task

if TYPE_CHECKING:
    from alm_cli.commands.encoding import Settings

_TICK_S = 0.1
# A shard whose workers end so often ends them itself, by the memory that it needs for instance.
_ATTEMPTS = 3


@dataclass(frozen=True)
class Order:
    """What every worker is told; `asked` must come out the same on all nodes."""

    settings: Settings
    asked: Mapping[str, object]
    _: KW_ONLY
    retry: bool
    lanes: int
    folder: Path = Path()


class Made(NamedTuple):
    """What became of the items of a shard; `earlier` counts those that needed nothing."""

    outcomes: list[Outcome]
    earlier: Summary


class Worker:
    """An actor: a model in the memory of some node, which makes one shard after the other."""

    def __init__(self, order: Order) -> None:
        self._order = order

    def load(self) -> None:
        """Load the model. ModelError: it is not the same as elsewhere."""
        self._set = reopen(self._order.folder)
        self._encoding = self._order.settings.load()
        if self._order.settings.asked(self._encoding) != self._order.asked:
            raise ModelError(f"{os.uname().nodename}: has another {self._order.settings.model}")

    def make(self, number: int) -> Made:
        """Make a shard, or what is missing of it."""
        report = _Collected()
        share = Share(self._set, [number], retry=self._order.retry)
        make_share(share, self._encoding, report, self._order.lanes)
        return Made(report.outcomes, share.earlier)


def make_on_cluster(
    dataset: DataSet, numbers: Sequence[int], order: Order, report: Report
) -> Summary:
    """Make these shards on the cluster that this machine belongs to, or on this machine alone.

    UsageError: Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        hint = "pip install 'alm-cli[ray]'"
        raise UsageError("--engine ray needs Ray, which is not installed", hint) from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="error")
    settings, size, needs = _placed(order.settings, ray.cluster_resources())
    order = replace(order, folder=dataset.folder.absolute(), settings=settings)
    pool = _Pool(ray, order, needs, min(size, len(numbers)))

    def complete(summary: Summary) -> None:
        summary.skipped += pool.earlier.skipped
        summary.failed += pool.earlier.failed

    outcomes = pool.outcomes(numbers, report)
    return follow(outcomes, report, stop=pool.stop, complete=complete)


class _Pool:
    """So many actors, of which each has one shard at a time; those that die are replaced.

    An actor for which there is no room waits without work, so no shard ever waits for it.
    """

    def __init__(self, ray: Any, order: Order, needs: Mapping[str, float], size: int) -> None:
        self._ray, self._order, self._size = ray, order, size
        self._actor = ray.remote(Worker).options(max_restarts=0, **needs)
        # What is under way: its actor, and the shard; None while the model is loaded.
        self._busy: dict[Any, tuple[Any, int | None]] = {}
        self._deaths: Counter[int | None] = Counter()
        self.earlier = Summary()

    def outcomes(self, numbers: Sequence[int], report: Report) -> Iterator[Outcome]:
        """What becomes of the items, shard by shard as they are finished."""
        todo = deque(numbers)
        for _ in range(self._size):
            self._start()
        while todo or any(number is not None for _, number in self._busy.values()):
            ready, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=_TICK_S)
            if not ready:
                report.tick(())
                continue
            actor, number = self._busy.pop(ready[0])
            try:
                made = self._result(ready[0])
            except self._ray.exceptions.RayError as error:
                self._mourn(actor, number, error)
                if number is not None:
                    todo.appendleft(number)
                continue
            if todo:
                following = todo.popleft()
                self._busy[actor.make.remote(following)] = actor, following
            else:
                self._ray.kill(actor)
            if made is not None:
                self.earlier.skipped += made.earlier.skipped
                self.earlier.failed += made.earlier.failed
                yield from made.outcomes
        self.stop()

    def stop(self) -> None:
        """End all actors; what they have begun stays in the folder."""
        for actor, _ in self._busy.values():
            self._ray.kill(actor)
        self._busy.clear()

    def _start(self) -> None:
        actor = self._actor.remote(self._order)
        self._busy[actor.load.remote()] = actor, None

    def _result(self, reference: Any) -> Made | None:
        """What an actor has made. RayError: it is gone; what it raises itself is raised here."""
        try:
            made: Made | None = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, AlmError):
                raise error.cause from None
            raise AlmError(f"a worker failed: {error}") from error
        return made

    def _mourn(self, actor: Any, number: int | None, error: Exception) -> None:
        """Replace an actor. Abort: it is not the first one that ended over this."""
        self._ray.kill(actor)
        self._deaths[number] += 1
        if self._deaths[number] >= _ATTEMPTS:
            what = "loading the model" if number is None else f"shard {number}"
            reason = " ".join(str(error).split())
            raise Abort(f"{what}: {_ATTEMPTS} workers ended over it ({reason:.300})")
        self._start()


class _Collected(Report):
    """Keeps the outcomes, in a form that can travel."""

    def __init__(self) -> None:
        super().__init__("encode", io.StringIO())
        self.outcomes: list[Outcome] = []

    def ended(self, outcome: Outcome) -> None:
        task = outcome.task
        light = Task(task.item, task.target, facts=task.facts, warnings=task.warnings)
        light.seconds = task.seconds
        self.outcomes.append(replace(outcome, task=light))


def _placed(
    settings: Settings, resources: Mapping[str, float]
) -> tuple[Settings, int, dict[str, float]]:
    """The settings for any node, how many workers the cluster has room for, and what each needs."""
    kmeans = None if settings.kmeans is None else settings.kmeans.absolute()
    model = os.path.abspath(settings.model) if os.path.exists(settings.model) else settings.model
    settings = replace(settings, model=model, kmeans=kmeans)
    graphics = 0 if settings.device == "cpu" else int(resources.get("GPU", 0))
    if graphics:
        device = "cuda" if settings.device.startswith("cuda") else settings.device
        return replace(settings, device=device), graphics, {"num_cpus": 1, "num_gpus": 1}
    threads = settings.threads or 1
    room = int(resources.get("CPU", 0) // threads)
    return replace(settings, threads=threads), max(1, room), {"num_cpus": threads}
