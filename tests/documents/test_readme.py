"""What the README shows is what happens: its examples run, its tables are the program's own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alm_cli.catalog import CATALOG

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [(kind, text) for kind, text in re.findall(r"^```(\w+)\n(.*?)^```", README, re.M | re.S)]
SHELL = [text for kind, text in BLOCKS if kind == "sh"]
INSTALLS = re.compile(r"python3 -m venv|pip install")
NEEDS = ("ffmpeg",)


def commands(block: str) -> str:
    """A block without the lines that install."""
    return "\n".join(line for line in block.splitlines() if not INSTALLS.search(line))


def run(block: str, kind: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """One example, with the programs of this environment first."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    shell = ["bash", "-euo", "pipefail", "-c"]
    return subprocess.run(
        [*(shell if kind == "sh" else [sys.executable, "-c"]), block],
        cwd=folder,
        env={**os.environ, "PATH": programs, "ALM_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the reader has it: the sample audio and what earlier examples made."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "sample_audio", folder / "sample_audio")
    return folder


def test_every_example_works(folder: Path) -> None:
    for number, (kind, block) in enumerate(BLOCKS):
        if kind not in ("sh", "python") or block == SHELL[1]:
            continue
        if any(need in block and shutil.which(need) is None for need in NEEDS):
            continue
        done = run(commands(block), kind, folder)
        assert done.returncode == 0, f"block {number}:\n{block}\n{done.stderr}"


def test_the_continuous_check_is_the_second_command() -> None:
    script = ROOT / ".ci" / "run"
    assert script.read_text(encoding="utf-8").endswith("\n\n" + SHELL[1])
    assert os.access(script, os.X_OK)


def test_every_model_has_its_row() -> None:
    table = README.partition("## Models")[2].partition("\n## ")[0]
    others, _, speakers = table.partition("| composer |")[0].partition("| speaker |")
    composers = table.partition("| composer |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `([^`]+)`", others, re.M)
    # Two tables: what makes and reads tokens, and what writes down speech.
    cards = sorted(CATALOG, key=lambda card: card.task == "recogniser")
    assert rows == [card.name for card in cards if card.task not in ("speaker", "composer")]
    # A third one, in which many languages share a row.
    firsts = [row.split("|")[1] for row in speakers.splitlines() if row.startswith("| ")]
    names = tuple(name for first in firsts for name in re.findall(r"`([^`]+)`", first))
    speaking = [card.name for card in CATALOG if card.task == "speaker"]
    assert [name for name in speaking if not name.startswith(names)] == []
    assert [name for name in names if not any(known.startswith(name) for known in speaking)
            and not name.startswith("-")] == []  # fmt: skip
    # A fourth one, where a row has several sizes of a model: `name-size`, `-size`.
    made = []
    for line in composers.splitlines():
        names = re.findall(r"`([^`]+)`", line.split("|")[1] if line.startswith("| ") else "")
        stem = names[0].rpartition("-")[0] if names else ""
        made += [stem + name if name.startswith("-") else name for name in names]
    assert sorted(made) == sorted(card.name for card in CATALOG if card.task == "composer")


def test_every_file_it_points_to_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    links += re.findall(r"(recipes/\w+\.py)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_planning_figures_are_those_of_the_specification(folder: Path) -> None:
    line = next(line for line in README.splitlines() if line.startswith("alm info --frame-rate"))
    shown = run(line, "sh", folder).stdout
    assert re.search(r"\b2(\.0+)? ?kbps", shown), shown
    assert re.search(r"\b12[, ]?000\b", shown), shown
