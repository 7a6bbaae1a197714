"""What all tests share: two threads, no network, and which markers run."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

# Two threads however many cores there are, in this process and in those that tests start, and one
# where several processes share the tests (`pytest -n 2`): tiny tensors gain nothing from more, and
# a busy machine loses much. Before torch is imported.
os.environ["OMP_NUM_THREADS"] = "1" if "PYTEST_XDIST_WORKER" in os.environ else "2"

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Recordings beside the repository that cannot be part of it."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the recordings in {SHARED}")
    return SHARED


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread for all tests of a module: tiny tensors gain nothing from more."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test looks up a host, except those marked `weights`."""
    look_up = socket.getaddrinfo

    def local_only(host: object, *values: object, **options: object) -> object:
        if host in (None, "", "localhost", "127.0.0.1", "::1", b"localhost", b"127.0.0.1"):
            return look_up(host, *values, **options)
        raise socket.gaierror(socket.EAI_AGAIN, f"tests have no network: {host!r}")

    if request.node.get_closest_marker("weights") is None:
        monkeypatch.setattr(socket, "getaddrinfo", local_only)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run or was not asked to."""
    if item.get_closest_marker("weights") and os.environ.get("ALM_TEST_WEIGHTS") != "1":
        pytest.skip("published weights: set ALM_TEST_WEIGHTS=1")
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
