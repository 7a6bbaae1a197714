"""docs/data-set.md tells the truth: its Python runs, and a folder holds what its table says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alm_cli.app import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "data-set.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set in `tokens/`."""
    folder = tmp_path_factory.mktemp("page")
    item = {"path": str(ROOT / "sample_audio" / "speech.wav"), "id": "speech", "duration": 0.5}
    words = ["encode", "--manifest", "-", "-qo", str(folder / "tokens"), "--shards", "1"]
    assert CliRunner().invoke(app, words, input=json.dumps(item)).exit_code == 0
    return folder


def test_the_folder_holds_what_the_page_says(folder: Path) -> None:
    told = re.findall(r"^\| `([\w.-]+)` \|", PAGE, re.M)
    found = {path.name for path in (folder / "tokens").iterdir() if path.name[0] != "."}
    assert set(told) == found


def test_the_example_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    monkeypatch.chdir(folder)
    exec(block, {})
    assert "speech (1, 32," in capsys.readouterr().out
