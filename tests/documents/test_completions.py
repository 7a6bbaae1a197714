"""The completion scripts are current, and what they ask is answered without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alm_cli.app import app
from alm_cli.catalog import CATALOG

FOLDER = Path(__file__).parents[2] / "completions"
FILES = {"bash": "alm.bash", "zsh": "_alm", "fish": "alm.fish"}


@pytest.mark.parametrize("shell", FILES)
def test_scripts_are_current(shell: str) -> None:
    made = CliRunner().invoke(app, ["completions", shell])
    assert made.exit_code == 0
    written = (FOLDER / FILES[shell]).read_text(encoding="utf-8")
    assert written == made.stdout, f"alm completions {shell} > completions/{FILES[shell]}"


def test_there_are_no_other_scripts() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(FILES.values())


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_models_from_the_catalogue_without_torch(tmp_path: Path) -> None:
    program = tmp_path / "alm"
    check = "sys.exit('torch' in sys.modules)"
    line = f"import atexit, sys; atexit.register(lambda: {check}); from alm_cli.app import main"
    program.write_text(f"#!{sys.executable}\n{line}; main()\n", encoding="utf-8")
    program.chmod(0o755)
    script = (
        f"source {FOLDER / 'alm.bash'}\n"
        "COMP_WORDS=(alm encode --model '') COMP_CWORD=3\n"
        "_alm_completion alm && printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    root = str(FOLDER.parent)
    found = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": root}
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=os.environ | found,
    )
    assert done.stdout.split() == [card.name for card in CATALOG]
