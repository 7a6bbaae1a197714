"""Facts about a shard, or about all shards of a data set."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from alm_cli.commands.facts import Facts, rate_facts
from alm_cli.files.shards import SHARD_SUFFIX, Row, index_of, read_index, read_shard
from alm_cli.jobs.dataset import JOB, reopen
from alm_cli.planning import TokenRate


def is_shard(path: Path) -> bool:
    """Whether this is a shard, or the folder of a data set."""
    return (path.suffix == SHARD_SUFFIX and path.is_file()) or (path / JOB).is_file()


def shard_facts(path: Path) -> Facts:
    """What the indexes say; without an index, what is in the shard."""
    if path.is_dir():
        dataset = reopen(path)
        shards = [shard for shard in map(dataset.shard, range(dataset.shards)) if shard.finished]
        facts = {"kind": "data set", "items": dataset.items, "shards": dataset.shards}
        facts["shards_finished"] = len(shards)
        return facts | _sums(shard.tar for shard in shards)
    return {"kind": "shard", **_sums([path])}


def _sums(shards: Iterable[Path]) -> Facts:
    done = failed = size = frames = 0
    seconds = 0.0
    facts: Facts = {}
    for shard in shards:
        size += shard.stat().st_size
        for row in _rows(shard):
            if row.status == "failed":
                failed += 1
                continue
            done, frames = done + 1, frames + (row.frames or 0)
            seconds += row.seconds or 0.0
        facts = facts or _format(shard)
    return facts | {
        "done": done,
        "failed": failed,
        "seconds": round(seconds, 6),
        "frames": frames,
        "bytes": size,
    }


def _rows(shard: Path) -> Iterable[Row]:
    if index_of(shard).is_file():
        return read_index(index_of(shard))
    return (
        Row(id=id, path="", frames=tokens.frames, seconds=tokens.origin.seconds)
        for id, tokens in read_shard(shard)
    )


def _format(shard: Path) -> Facts:
    """The token format, by the first item."""
    for _, tokens in read_shard(shard):
        origin = tokens.origin
        rate = TokenRate(
            frame_rate=origin.frame_rate,
            codebooks=tokens.codebooks or 1,
            vocabularies=origin.vocabularies,
            streams=tokens.streams,
        )
        return {
            "codec": origin.codec,
            **rate_facts(rate),
            "weights_sha256": origin.weights_sha256,
        }
    return {}
