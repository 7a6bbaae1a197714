"""`--engine ray`: shards made on a cluster, also when a node dies, are those made here."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

Alm = Callable[..., Result]
Record = Callable[..., Path]


def shards_of(folder: Path) -> dict[str, bytes]:
    """Shards and indexes."""
    return {path.name: path.read_bytes() for path in folder.glob("shard-*")}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes on this machine, with a processor each."""
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'alm-cli[ray]'")
    from ray.cluster_utils import Cluster

    # By default its workers give way to everything else on the machine.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    node = {"num_cpus": 1, "object_store_memory": 100_000_000}
    nodes = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    nodes.add_node(**node)
    ray.init(address=nodes.address, logging_level="error", log_to_driver=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.mark.filterwarnings("ignore")  # those of Ray
def test_a_node_may_die_in_the_middle(
    cluster: Any, alm: Alm, record: Record, small: Path, tmp_path: Path
) -> None:
    for number in range(240):
        record(f"in/{number:03d}.wav", length=9000 + 7 * number)
    (tmp_path / "in/100.wav").write_bytes(b"not a recording")
    words = ("encode", tmp_path / "in", "-qm", small, "--shards", 6)
    assert alm(*words, "-o", tmp_path / "here").exit_code == 1
    out, (second,) = tmp_path / "there", cluster.worker_nodes
    killed: list[float] = []

    def kill() -> None:
        while not killed:
            begun = [path for path in out.glob(".shard-*.tar.part") if path.stat().st_size]
            if len(begun) == 2:
                cluster.remove_node(second, allow_graceful=False)
                killed.append(time.monotonic())
            time.sleep(0.01)

    threading.Thread(target=kill, daemon=True).start()
    result = alm(*words, "-o", out, "--engine", "ray", "--json")
    assert result.exit_code == 1, result.stderr
    assert killed
    killed.append(0)
    assert shards_of(out) == shards_of(tmp_path / "here")
    assert result.stdout.count('"status": "failed"') == 1
    again = alm(*words, "-o", out, "--engine", "ray", "--json")
    assert (again.exit_code, again.stdout) == (1, "")


def test_without_ray_it_is_said_how_to_get_it(
    alm: Alm, record: Record, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    words = ("-m", small, "-o", tmp_path / "out", "--shards", 2, "--engine", "ray")
    result = alm("encode", record("a.wav"), *words)
    assert result.exit_code == 2
    assert "needs Ray" in result.stderr
    assert "pip install 'alm-cli[ray]'" in result.stderr
