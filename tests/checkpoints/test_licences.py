"""Licences of restricted weights: asked for once, remembered, and asked again when they change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from alm_cli.catalog import CATALOG, find_card
from alm_cli.checkpoints.licences import accept, is_accepted, require
from alm_cli.checkpoints.load import load
from alm_cli.errors import ModelError

FREE = find_card("alm-codec")
BOUND = replace(FREE, restricted=True, licence="MIT for the code; CC-BY-NC-4.0 for the weights")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("ALM_ACCEPT_LICENSE", raising=False)
    return tmp_path


def test_free_weights_need_nothing(home: Path) -> None:
    require(FREE)
    accept(FREE)
    assert not list(home.iterdir())


def test_restricted_weights_are_refused_until_accepted(home: Path) -> None:
    for attempt in (require, load):
        with pytest.raises(ModelError, match="CC-BY-NC") as caught:
            attempt(BOUND)
        assert "--accept-license" in (caught.value.hint or "")
    accept(BOUND)
    accept(BOUND)
    require(BOUND)
    assert load(BOUND).name == FREE.name
    assert (home / "alm" / "accepted-licences").read_text().count("\n") == 1


def test_another_licence_or_model_is_asked_for_again() -> None:
    accept(BOUND)
    assert not is_accepted(replace(BOUND, licence="another"))
    assert not is_accepted(replace(BOUND, name="another"))


@pytest.mark.parametrize(("said", "taken"), [("1", 1), ("alm-codec,x", 1), ("x", 0), ("0", 0)])
def test_the_environment_accepts(said: str, taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALM_ACCEPT_LICENSE", said)
    assert is_accepted(BOUND) == bool(taken)


def test_a_folder_that_cannot_be_written_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "file"))
    assert not is_accepted(BOUND)
    with pytest.raises(ModelError, match="cannot be written"):
        accept(BOUND)


def test_a_damaged_note_accepts_nothing(home: Path) -> None:
    (home / "alm").mkdir()
    (home / "alm" / "accepted-licences").write_bytes(b"\xff\xfe" + BOUND.name.encode())
    assert not is_accepted(BOUND)


def test_what_is_restricted_says_why() -> None:
    """A licence without a word for it would be accepted blindly."""
    for card in CATALOG:
        if card.restricted:
            assert len(card.licence) > 3 and not card.asset
