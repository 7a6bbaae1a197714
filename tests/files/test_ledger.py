"""The ledger of a folder: what is still as it was made, and what would be made otherwise today."""

from __future__ import annotations

from pathlib import Path

import pytest

from alm_cli.files.ledger import NAME, Ledger

MADE = {"model": "small", "source": [3, 4], "temperature": (0.0, 0.2)}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """An output that was noted."""
    path = tmp_path / "talk.txt"
    path.write_text("Hello.\n", encoding="utf-8")
    Ledger().note(path, MADE)
    return path


def test_it_tells_what_is_still_valid(target: Path, tmp_path: Path) -> None:
    assert Ledger().state(target, MADE) == "current"
    assert Ledger().state(target, {**MADE, "model": "other"}) == "outdated"
    assert Ledger().state(tmp_path / "none.txt", MADE) == "missing"


def test_what_people_wrote_or_changed_is_foreign(target: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert Ledger().state(tmp_path / "notes.txt", MADE) == "foreign"
    target.write_text("Hello!\n\n", encoding="utf-8")
    assert Ledger().state(target, MADE) == "foreign"


def test_the_last_note_counts(target: Path) -> None:
    ledger = Ledger()
    ledger.note(target, {"model": "other"})
    for one in (ledger, Ledger()):
        assert one.state(target, {"model": "other"}) == "current"
        assert one.state(target, MADE) == "outdated"


def test_damaged_ledgers_say_nothing(target: Path) -> None:
    path = target.parent / NAME
    good = path.read_bytes()
    for junk in (b"\xff\xff\n", b"[" * 100_000 + b"\n", b"{}\n", b'{"name": 5}\n', b"7\n" * 9):
        path.write_bytes(junk + good)
        assert Ledger().state(target, MADE) == "current"
        path.write_bytes(junk)
        assert Ledger().state(target, MADE) == "foreign"


def test_a_ledger_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    target, precious = tmp_path / "talk.txt", tmp_path / "precious"
    target.touch(), precious.touch()
    (tmp_path / NAME).symlink_to(precious)
    ledger = Ledger()
    ledger.note(target, MADE)
    assert ledger.state(target, MADE) == "current"
    assert Ledger().state(target, MADE) == "foreign"
    assert precious.read_bytes() == b""
