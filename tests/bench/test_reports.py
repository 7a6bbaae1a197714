"""Reports as tables, lines and objects, and what may not have changed since an earlier one."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from alm_cli.bench.environment import environment
from alm_cli.bench.reports import (
    Column,
    Report,
    condition,
    failures,
    read_baseline,
    shown,
    to_csv,
    to_json,
    to_markdown,
)
from alm_cli.bench.statistics import spread
from alm_cli.errors import FormatError, InputError, UsageError

COLUMNS = (
    Column(key="codec", title="codec"),
    Column(key="kbps", title="nominal", unit="kbps"),
    Column(key="pesq", title="PESQ"),
    Column(key="nothing", title="nothing"),
)


def report(**changes: object) -> Report:
    """Two rows: one with a spread, one with a figure that is not a number."""
    rows = [
        {"codec": "a|b", "kbps": 3.0, "pesq": spread([1.0, 2.0, 4.0])},
        {"codec": "opus", "kbps": float("nan"), "pesq": None},
    ]
    values = {"kind": "codec", "columns": COLUMNS, "rows": rows, "skipped": {"stoi": "no package"}}
    where = environment(seed=0, warm_up=1, repetitions=5)
    return Report(**({"environment": where} | values | changes))  # type: ignore[arg-type]


def test_markdown_has_a_line_for_each_row_and_says_what_is_missing() -> None:
    lines = to_markdown(report()).splitlines()
    assert lines[0] == "| codec | nominal [kbps] | PESQ |"
    assert lines[2] == "| a\\|b | 3.00 | 2.00 (1.50 to 3.00) |"
    assert lines[3].endswith("| - |")
    assert any(line == "- stoi: not measured, no package" for line in lines)
    assert any("5 runs in turn after 1 that do not count" in line for line in lines)


def test_csv_has_a_column_for_each_part_of_a_spread() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(report()))))
    assert rows[0]["pesq"] == "2.0" and rows[0]["pesq_p25"] == "1.5" and rows[0]["pesq_n"] == "3"
    assert rows[1]["pesq"] == ""


def test_json_is_strict_and_comes_back(tmp_path: Path) -> None:
    text = to_json(report())
    assert "NaN" not in text
    value = json.loads(text)
    assert value["rows"][0]["pesq"]["median"] == 2.0 and value["rows"][1]["kbps"] is None
    assert value["environment"]["versions"]["torch"]
    (tmp_path / "old.json").write_text(text)
    assert read_baseline(tmp_path / "old.json") == value["rows"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"version": 1, "rows": [1]}', '{"rows": []}']
)
def test_a_baseline_that_is_no_report_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(FormatError, match="old.json"):
        read_baseline(path)
    with pytest.raises(InputError, match="No such file"):
        read_baseline(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("text", "before", "now", "broken"),
    [
        ("rtf>+5%", 1.0, 1.04, False),
        ("rtf>+5%", 1.0, 1.06, True),
        ("rtf>+5%", 1.0, 0.5, False),
        ("pesq<-2%", 2.0, 1.97, False),
        ("pesq<-2%", 2.0, 1.95, True),
        ("pesq < -2", 2.0, 3.0, False),
        ("si_sdr<-10%", -10.0, -12.0, True),
        ("si_sdr<-10%", -10.0, -8.0, False),
        ("errors>+0%", 0.0, 1.0, True),
    ],
)
def test_conditions(text: str, before: float, now: float, broken: bool) -> None:
    assert condition(text).broken(before, now) is broken


@pytest.mark.parametrize("text", ["", "rtf", ">5%", "rtf>x%", "rtf>-5%", "pesq<+2%", "rtf>nan%"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--fail-on"):
        condition(text)


def test_rows_are_compared_with_those_of_the_same_name() -> None:
    before = json.loads(to_json(report()))["rows"]
    worse = report(
        rows=[
            {"codec": "a|b", "kbps": 3.0, "pesq": 1.0},
            {"codec": "new", "kbps": 9.0, "pesq": 0.0},
        ]
    )
    told = failures(worse.rows, before, [condition("pesq<-5%")], ["codec"])
    assert told == ["a|b: pesq was 2 and is 1"]
    gone = failures([{"codec": "a|b"}], before, [condition("pesq<-5%")], ["codec"])
    assert gone == ["a|b: pesq was not measured both times"]


def test_cells_as_people_read_them() -> None:
    assert shown(None, 2) == "-"
    assert shown(3, 2) == "3" and shown(3.14159, 2) == "3.14"
    assert shown(spread([1.0, 3.0]), 1, ranges=False) == "2.0"


def test_a_gate_that_compares_nothing_is_shut() -> None:
    """Another model, or a report of before its rows had a name more."""
    before = json.loads(to_json(report()))["rows"]
    rows = [{"codec": "other", "pesq": 9.0}]
    (told,) = failures(rows, before, [condition("pesq<-5%")], ["codec"])
    assert "no row of the baseline" in told
    assert failures(rows, before, [], ["codec"]) == []


def test_a_report_says_with_what_it_was_measured() -> None:
    where = environment(seed=0, warm_up=1, repetitions=5, device="cpu", dtype="bfloat16")
    whole = report(environment=where, weights={"a|b": "ab" * 32}, data={"talk.wav": "cd" * 32})
    value = json.loads(to_json(whole))
    assert value["weights"] == {"a|b": "ab" * 32} and value["data"] == {"talk.wav": "cd" * 32}
    facts = value["environment"]
    assert {"processor", "threads", "versions", "seed", "warm_up", "repetitions"} <= facts.keys()
    assert facts["dtype"] == "bfloat16" and "bfloat16" in to_markdown(whole)
