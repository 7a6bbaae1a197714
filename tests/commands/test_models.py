"""`alm models`: the catalogue, read without loading anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from alm_cli.catalog import CATALOG

Alm = Callable[..., Result]


def test_the_list_has_a_line_for_each_model(alm: Alm) -> None:
    plain = alm("models")
    assert plain.exit_code == 0
    assert plain.stdout == alm("models", "list").stdout
    names = [line.split()[0] for line in plain.stdout.splitlines()]
    assert names == [card.name for card in CATALOG]
    for words in (("models", "--json"), ("models", "list", "--json")):
        lines = [json.loads(line) for line in alm(*words).stdout.splitlines()]
        assert [line["name"] for line in lines] == names


def test_a_card_is_shown(alm: Alm) -> None:
    shown = alm("models", "show", "encodec-24khz")
    assert shown.exit_code == 0
    assert "75.0 Hz" in shown.stdout
    found = json.loads(alm("models", "show", "encodec-24khz", "--json").stdout)
    assert (found["frame_rate"], found["version"]) == (75.0, 1)


def test_the_bundled_model_is_here(alm: Alm) -> None:
    result = alm("models", "path", "alm-codec")
    assert result.exit_code == 0
    assert (Path(result.stdout.strip()) / "config.json").is_file()
    assert alm("models", "pull", "alm-codec").stdout == result.stdout


def test_what_is_elsewhere_is_said_to_be(
    alm: Alm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("ALM_OFFLINE", "1")
    result = alm("models", "path", "encodec-24khz")
    assert result.exit_code == 3
    assert "alm models pull encodec-24khz" in result.stderr
    result = alm("models", "pull", "encodec-24khz")
    assert result.exit_code == 3
    assert "offline" in result.stderr


@pytest.mark.parametrize("command", ["show", "path", "pull"])
def test_unknown_names_are_refused_with_suggestions(alm: Alm, command: str) -> None:
    result = alm("models", command, "encodek")
    assert result.exit_code == 3
    assert "encodec-24khz" in result.stderr
