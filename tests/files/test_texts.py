"""Lists of texts: three forms, and lines that make no sense."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alm_cli.errors import InputError
from alm_cli.files.texts import Record, read_records, read_text


def records(tmp_path: Path, text: str, suffix: str = ".jsonl") -> list[Record]:
    path = tmp_path / f"list{suffix}"
    path.write_text(text, encoding="utf-8", newline="")
    return read_records(path)


def test_lines_of_json_say_what_is_asked(tmp_path: Path) -> None:
    line = {"text": "hi", "id": 7, "voice": "low", "seed": 3, "speed": 1.5, "other": [1]}
    (record,) = records(tmp_path, "\n" + json.dumps(line) + "\n\n")
    assert (record.id, record.text) == ("7", "hi")
    assert record.asked == {"voice": "low", "seed": 3, "speed": 1.5}


@pytest.mark.parametrize(
    "line",
    ["{", "[1]", '"hi"', "null", "{}", '{"text": 5}', '{"text": "a", "speed": "fast"}']
    + ['{"text": "a", "speed": -1}', '{"text": "a", "seed": true}', '{"text": "a", "voice": 5}']
    + ['{"text": "a", "speed": NaN}', '{"text": "a", "seed": 1e999}', "[" * 100_000],
)
def test_lines_without_sense_are_records_with_a_problem(tmp_path: Path, line: str) -> None:
    good, bad, other = records(tmp_path, f'{{"text": "a"}}\n{line}\n{{"text": "b"}}\n')
    assert good.problem is other.problem is None
    assert bad.id == "0002" and bad.problem is not None and "line 2" in bad.problem.message


def test_tables_and_plain_lines(tmp_path: Path) -> None:
    rows = records(tmp_path, 'text,id\r\n"two\r\nlines, yes",x\r\nb,\r\n', ".csv")
    assert [(row.id, row.text) for row in rows] == [("x", "two\nlines, yes"), ("0004", "b")]
    rows = records(tmp_path, "id\ttext\nx\ta, b\n", ".tsv")
    assert [(row.id, row.text) for row in rows] == [("x", "a, b")]
    rows = records(tmp_path, "\ufeffone\n\n two \n", ".txt")
    assert [(row.id, row.text) for row in rows] == [("0001", "one"), ("0003", "two")]


@pytest.mark.parametrize(
    ("id", "name"),
    [("a/b", "a_b"), ("../x", "_._x"), (".hidden", "_hidden"), ("\u00e9 1", "\u00e9_1")]
    + [("x" * 300, "x" * 100), ("con\0trol", "con_trol")],
)
def test_names_of_files_lead_nowhere_else(tmp_path: Path, id: str, name: str) -> None:
    (record,) = records(tmp_path, json.dumps({"id": id, "text": "a"}))
    assert record.file_name == name and "/" not in name


def test_what_would_be_written_twice_is_a_problem(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"id": id, "text": "a"}) + "\n" for id in ("a", "A", "b/c", "b_c"))
    found = records(tmp_path, lines)
    assert [record.problem is None for record in found] == [True, False, True, False]
    assert len({record.id for record in found}) == 4


def test_unreadable_lists_are_refused(tmp_path: Path) -> None:
    for text, suffix in (("", ".txt"), ("a", ".md"), ("id\n1\n", ".csv")):
        with pytest.raises(InputError):
            records(tmp_path, text, suffix)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match="not UTF-8 text, at byte 3"):
        read_text(tmp_path / "latin.txt")
    with pytest.raises(InputError):
        read_text(tmp_path / "none.txt")
