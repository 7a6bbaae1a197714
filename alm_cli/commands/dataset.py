"""`alm encode --shards`: a data set instead of files beside files."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from alm_cli.commands.batch import Batch
from alm_cli.errors import UsageError
from alm_cli.jobs.dataset import Cut, Share, prepare
from alm_cli.jobs.plan import Entry, find_entries, read_manifest
from alm_cli.jobs.report import Report
from alm_cli.jobs.run import Steps, run_each
from alm_cli.jobs.sinks import STDOUT
from alm_cli.jobs.sources import STDIN
from alm_cli.jobs.task import Summary, Task

if TYPE_CHECKING:
    from alm_cli.commands.encoding import Encoding, Settings
    from alm_cli.values import Latents, Tokens


@dataclass(frozen=True, kw_only=True)
class Sharding:
    """The options about shards; contradictions raise UsageError."""

    shards: int | None
    shard_size: int | None
    manifest: str | None
    num_shards: int | None
    shard_index: int | None
    retry_failed: bool
    engine: str

    def __post_init__(self) -> None:
        if self.shards is not None and self.shard_size is not None:
            raise UsageError("--shards and --shard-size exclude each other")
        if self.shard_index is not None and self.num_shards is None:
            raise UsageError("--shard-index needs --num-shards")
        if self.engine == "ray" and self.num_shards is not None:
            raise UsageError("--engine ray shares the shards out by itself, without --num-shards")
        alone = {"--manifest": self.manifest, "--retry-failed": self.retry_failed}
        alone["--engine"] = self.engine != "local"
        lost = next((name for name, given in alone.items() if given), None)
        if lost and not self.wanted:
            raise UsageError(f"{lost} is for data sets", hint="give --shards or --shard-size too")

    @property
    def wanted(self) -> bool:
        """Whether a data set is asked for."""
        return any((self.shards, self.shard_size, self.num_shards))

    @property
    def cut(self) -> Cut:
        """How the items go into shards; unless told, one for each job."""
        if self.shard_size is not None:
            return Cut(size=self.shard_size)
        return Cut(shards=self.shards or self.num_shards)

    def numbers(self, shards: int) -> range:
        """The shards of this job: every so many, so that jobs end together."""
        jobs = self.num_shards or 1
        index = self.shard_index
        if index is None:
            index = _array_index() if self.num_shards else 0
        if index >= jobs:
            raise UsageError(f"--shard-index {index}: with --num-shards {jobs} it is below {jobs}")
        return range(index, shards, jobs)


def encode_dataset(settings: Settings, sharding: Sharding, batch: Batch) -> NoReturn:
    """Make the data set, or this job's share of it, and end with the exit code."""
    if settings.stream:
        raise UsageError("--stream is for pipes, not for shards")
    folder, suffixes = _folder(sharding, batch), settings.suffixes
    encoding = settings.load()
    asked = {**_source(batch), **settings.asked(encoding)}

    def entries() -> Iterator[Entry]:
        if batch.from_list is None:
            return find_entries(batch.inputs, suffixes=suffixes, recursive=batch.recursive)
        plain = sharding.manifest is None
        return read_manifest(batch.from_list, sys.stdin.buffer, plain=plain)

    dataset = prepare(folder, asked, sharding.cut, entries, overwrite=batch.overwrite)
    numbers = sharding.numbers(dataset.shards)
    report = batch.report(many=True)
    left = dataset.left(numbers)
    report.start(left, left)
    if sharding.engine == "ray":
        from alm_cli.commands.cluster import Order, make_on_cluster

        told = settings.asked(encoding)
        order = Order(settings, told, retry=sharding.retry_failed, lanes=batch.lanes)
        summary = make_on_cluster(dataset, numbers, order, report)
    else:
        share = Share(dataset, numbers, retry=sharding.retry_failed)
        summary = make_share(share, encoding, report, batch.lanes)
    if summary.failed and not (sharding.retry_failed or batch.quiet):
        report.say("the indexes tell what failed; --retry-failed tries it again")
    raise typer.Exit(summary.exit_code)


def make_share(share: Share, encoding: Encoding, report: Report, lanes: int) -> Summary:
    """Make these shards here."""

    def write(task: Task, pieces: Iterator[Tokens | Latents]) -> None:
        share.write(task, encoding.encoded(task, pieces))

    steps = Steps(encoding.read, encoding.work, write, encoding.together)
    try:
        return run_each(share.tasks(), steps, report, together=lanes, earlier=share.earlier)
    finally:
        share.close()


def _folder(sharding: Sharding, batch: Batch) -> Path:
    """Where the data set goes. UsageError: what is given makes no sense for one."""
    if batch.output in (None, STDOUT):
        raise UsageError("shards need a folder", hint="-o DIR/")
    if STDIN in batch.inputs:
        raise UsageError("a data set is made of files", hint="--manifest - reads their names")
    if bool(batch.inputs) is (batch.from_list is not None):
        raise UsageError("the items are either INPUT or those of --manifest")
    if batch.skip_existing:
        raise UsageError("a data set always goes on where it ended, without --skip-existing")
    if batch.overwrite and sharding.num_shards is not None:
        raise UsageError(
            "--overwrite would remove what the other jobs make", hint=f"remove {batch.output} first"
        )
    return Path(str(batch.output))


def _source(batch: Batch) -> dict[str, object]:
    """What tells one list of items from another."""
    listed = batch.from_list
    digest = None
    if listed is not None and os.path.isfile(listed):
        with open(listed, "rb") as file:
            found = hashlib.sha256()
            while block := file.read(1 << 20):
                found.update(block)
        digest = found.hexdigest()
    return {
        "inputs": list(batch.inputs),
        "recursive": batch.recursive,
        "manifest": listed,
        "manifest_sha256": digest,
    }


def _array_index() -> int:
    """The place of this job in a Slurm array, from 0."""
    text = os.environ.get("SLURM_ARRAY_TASK_ID", "")
    first = os.environ.get("SLURM_ARRAY_TASK_MIN", "0")
    if not (text.isdecimal() and first.isdecimal() and int(text) >= int(first)):
        raise UsageError("--num-shards needs --shard-index", hint="0 for the first job, then 1, 2")
    return int(text) - int(first)
