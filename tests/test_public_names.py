"""The public names of `alm_cli`: all there, all lazy, none besides."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import alm_cli

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", alm_cli.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(alm_cli, name) is getattr(alm_cli, name)
    assert name in dir(alm_cli)


def test_the_names_are_these() -> None:
    assert set(alm_cli.__all__) == {
        *("Audio", "Latents", "Origin", "Tokens"),
        *("AlmError", "FormatError", "InputError", "ModelError", "UsageError"),
        *("open_audio", "open_writer", "read_audio"),
        *("open_shards", "read_shard"),
        *("iter_tokens", "read_tokens", "write_tokens"),
        *("Codec", "load_codec"),
        *("Segment", "Transcript", "Word"),
        *("TranscribeAsk", "Transcriber", "load_transcriber"),
        "__version__",
    }
    assert sorted(alm_cli.__all__) == alm_cli.__all__


def test_other_names_are_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'encode'"):
        alm_cli.encode  # noqa: B018
    with pytest.raises(ImportError):
        from alm_cli import nothing_of_this_name  # noqa: F401


def test_importing_imports_nothing() -> None:
    line = "import sys, alm_cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "alm_cli.values", "alm_cli.errors"} & set(done.stdout.split())


def test_the_version_is_that_of_the_project() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(rf'^version = "{re.escape(alm_cli.__version__)}"$', project, re.MULTILINE)
