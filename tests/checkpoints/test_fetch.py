"""Finding and fetching models, with a hub of our own on this machine and with none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from alm_cli.catalog import CATALOG, ModelCard, find_card
from alm_cli.checkpoints.fetch import fetch, is_offline, locate
from alm_cli.errors import ModelError

ENCODEC = find_card("encodec-24khz")
REPOSITORY, REVISION = ENCODEC.repository
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"\x02\x00\x00\x00\x00\x00\x00\x00{}",
    "pytorch_model.bin": b"a pickle that nobody asked for",
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("ALM_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def cached(cache: Path) -> Path:
    """The files of EnCodec where a download would have put them."""
    folder = cache / f"models--{REPOSITORY.replace('/', '--')}" / "snapshots" / REVISION
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def test_what_is_cached_is_used_without_a_network(cache: Path) -> None:
    assert locate(ENCODEC) is None
    folder = cached(cache)
    assert locate(ENCODEC) == folder
    assert fetch(ENCODEC) == fetch(ENCODEC, offline=True) == folder


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_half_a_download_is_not_a_model(missing: str, cache: Path) -> None:
    folder = cached(cache)
    (folder / missing).unlink()
    (folder / "pytorch_model.bin").unlink()
    assert locate(ENCODEC) is None


@pytest.mark.parametrize(
    ("name", "files", "home"),
    [
        ("vocos-encodec-24khz", ["pytorch_model.bin"], "."),
        ("snac-24khz", ["config.json", "pytorch_model.bin"], "."),
        (
            "speechtokenizer",
            ["speechtokenizer_hubert_avg/config.json", "speechtokenizer_hubert_avg/Model.pt"],
            "speechtokenizer_hubert_avg",
        ),
    ],
)
def test_a_model_is_complete_when_the_files_of_its_card_are_there(
    name: str, files: list[str], home: str, cache: Path
) -> None:
    card = find_card(name)
    repository, revision = card.repository
    folder = cache / f"models--{repository.replace('/', '--')}" / "snapshots" / revision
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        assert locate(card) is None
        (folder / file).write_bytes(b"{}")
    assert locate(card) == folder / home


@pytest.mark.parametrize("name", ["ALM_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize(("value", "offline"), [("1", True), ("true", True), ("0", False)])
def test_the_environment_can_forbid_the_network(
    name: str, value: str, offline: bool, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    assert cache
    monkeypatch.setenv(name, value)
    assert is_offline() is offline


def test_offline_says_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache
    monkeypatch.setenv("ALM_OFFLINE", "1")
    with pytest.raises(ModelError) as caught:
        fetch(ENCODEC)
    for words in ("offline", "alm models pull encodec-24khz", REPOSITORY, REVISION, "--model"):
        assert words in str(caught.value)


def test_no_network_is_said_at_once_and_says_what_to_do(cache: Path) -> None:
    assert cache
    with pytest.raises(ModelError) as caught:  # conftest.py keeps host names from resolving
        fetch(ENCODEC)
    assert caught.value.exit_code == 3
    assert "could not be fetched" in caught.value.message
    assert caught.value.hint is not None and "--model" in caught.value.hint


def test_a_missing_asset_is_a_broken_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alm_cli.checkpoints.fetch.ASSETS", tmp_path)
    with pytest.raises(ModelError, match="missing from this installation"):
        fetch(find_card("alm-codec"))


@pytest.mark.parametrize("card", [c for c in CATALOG if c.asset], ids=lambda card: card.name)
def test_assets_are_in_the_package(card: ModelCard) -> None:
    folder = locate(card)
    assert folder is not None and (folder / "README.md").is_file()


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as a download needs."""

    asked: list[str] = []

    def do_HEAD(self) -> None:  # noqa: N802
        self._answer(body=False)

    def do_GET(self) -> None:  # noqa: N802
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        self.asked.append(self.path)
        path, name = self.path.split("?")[0], self.path.rpartition("/")[2]
        tree = [{"type": "file", "path": n, "size": len(c), "oid": n} for n, c in FILES.items()]
        if path.startswith(f"/{REPOSITORY}/resolve/{REVISION}/") and name in FILES:
            content, kind = FILES[name], "application/octet-stream"
        elif path.startswith(f"/api/models/{REPOSITORY}/tree/{REVISION}"):
            content, kind = json.dumps(tree).encode(), "application/json"
        elif path.startswith(f"/api/models/{REPOSITORY}/revision/{REVISION}"):
            siblings = [{"rfilename": name} for name in FILES]
            facts = {"id": REPOSITORY, "sha": REVISION, "siblings": siblings}
            content, kind = json.dumps(facts).encode(), "application/json"
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("ETag", f'"{name}"')
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[str]:
    """The address of a hub on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_download_takes_the_pinned_revision_and_only_what_is_needed(
    hub: str, tmp_path: Path
) -> None:
    program = (
        "from alm_cli.catalog import find_card; from alm_cli.checkpoints.fetch import fetch;"
        "print(fetch(find_card('encodec-24khz')))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.endswith("OFFLINE")}
    environment |= {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert folder.name == REVISION
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert not any("pytorch_model.bin" in path for path in Hub.asked)
