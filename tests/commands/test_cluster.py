"""`--engine ray`: shards made on a cluster, also when a node dies, are those made here."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
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


def serve(pipe: Path, data: bytes, gate: threading.Event) -> None:
    """Give everyone who reads the pipe the same bytes, once the gate is open."""

    def feed() -> None:
        while True:
            with suppress(BrokenPipeError), pipe.open("wb") as file:
                gate.wait()
                file.write(data)

    os.mkfifo(pipe)
    threading.Thread(target=feed, daemon=True).start()


@pytest.mark.filterwarnings("ignore")  # those of Ray
def test_a_node_may_die_in_the_middle(
    cluster: Any, alm: Alm, record: Record, small: Path, tmp_path: Path
) -> None:
    for number in range(40):
        record(f"in/{number:02d}.wav", length=500 + 97 * number)
    (tmp_path / "in/15.wav").write_bytes(b"not a recording")
    gate = threading.Event()
    gate.set()
    # In the middle of the first two shards everybody has to wait.
    for name in ("04.wav", "13.wav"):
        data = (tmp_path / "in" / name).read_bytes()
        (tmp_path / "in" / name).unlink()
        serve(tmp_path / "in" / name, data, gate)
    words = ("encode", tmp_path / "in", "-qm", small, "--shards", 5)
    assert alm(*words, "-o", tmp_path / "here").exit_code == 1
    gate.clear()
    out, (second,) = tmp_path / "there", cluster.worker_nodes

    def kill() -> None:
        while sum(path.stat().st_size > 0 for path in out.glob(".shard-*.tar.part")) < 2:
            time.sleep(0.01)
        cluster.remove_node(second, allow_graceful=False)
        gate.set()

    threading.Thread(target=kill, daemon=True).start()
    result = alm(*words, "-o", out, "--engine", "ray", "--json")
    assert result.exit_code == 1, result.stderr
    assert not cluster.worker_nodes
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
