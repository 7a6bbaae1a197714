"""Reports: what people and programs are told, on a terminal and elsewhere."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path, PurePath

import pytest

from alm_cli.errors import InputError
from alm_cli.jobs.report import (
    LogReport,
    PlainReport,
    Report,
    TerminalReport,
    duration,
    json_line,
    make_report,
    printable,
    weight,
)
from alm_cli.jobs.sources import Item
from alm_cli.jobs.task import Outcome, Summary, Task


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def task_of(name: str) -> Task:
    """A task of ten seconds."""
    return Task(Item(Path(name), PurePath(name), size=100), Path(f"{name}.alm"), length_s=10.0)


def outcomes() -> list[Outcome]:
    """One of each kind."""
    done = task_of("a.wav")
    done.seconds, done.facts = 10.0, {"frames": 250, "kbps": 2.0}
    done.warnings.append("2 channels were mixed to one")
    error = InputError("b.wav: empty", hint="record again")
    return [
        Outcome(task=done, status="done", wall_s=0.5),
        Outcome(task=task_of("b.wav"), status="failed", error=error, details="Traceback"),
        Outcome(task=task_of("c.wav"), status="skipped", reason="still valid"),
    ]


def told(report: Report, words: io.StringIO) -> str:
    """What a report says of a whole job."""
    found = outcomes()
    summary = Summary(wall_s=0.5)
    report.start(len(found), sum(weight(outcome.task) for outcome in found))
    report.tick([found[0].task])
    for outcome in found:
        summary.add(outcome)
        report.ended(outcome)
    report.finish(summary)
    return words.getvalue()


def test_plain_lines_tell_everything() -> None:
    words = io.StringIO()
    assert told(PlainReport("encode", words), words).splitlines() == [
        "a.wav -> a.wav.alm  10.0 s, 250 frames, 2.0 kbps, 20.0 x real time",
        "warning: a.wav: 2 channels were mixed to one",
        "failed: b.wav: empty (record again)",
        "skipped: c.wav: still valid",
        "1 done, 1 skipped, 1 failed; 10.0 s of audio in 0.5 s (20.0 x real time)",
    ]


def test_many_items_make_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alm_cli.jobs.report._PULSE_S", 0)
    words = io.StringIO()
    lines = told(LogReport("encode", words), words).splitlines()
    assert re.match(r"0/3: 0 done$", lines[0])
    assert re.match(r"1/3: 1 done; 10.0 s of audio in 0.0 s .*, about 0.0 s left$", lines[1])
    assert [line for line in lines if "/3: " not in line] == [
        "failed: b.wav: empty (record again)",
        "skipped: c.wav: still valid",
        "1 done, 1 skipped, 1 failed; 10.0 s of audio in 0.5 s (20.0 x real time)",
    ]
    report = LogReport("encode", io.StringIO())
    report.verbose = True
    assert "mixed to one" in told(report, report._words)  # type: ignore[arg-type]


def test_the_quiet_report_tells_only_what_failed() -> None:
    words = io.StringIO()
    assert told(Report("encode", words), words) == "failed: b.wav: empty (record again)\n"


def test_the_terminal_has_a_bar_and_lines_for_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alm_cli.jobs.report._REFRESH_S", 0)
    words = Terminal()
    text = told(TerminalReport("encode", words), words)
    assert "0/3 files" in text
    assert "3/3 files" in text
    assert "10.0 s of audio" in text
    assert "failed: b.wav: empty" in text
    assert "warning: a.wav" in text
    assert "a.wav -> " not in text
    assert text.rstrip().endswith("(20.0 x real time)")


def test_the_report_fits_the_stream() -> None:
    def kind(words: io.StringIO, *, quiet: bool) -> type[Report]:
        return type(make_report("encode", words, None, quiet=quiet, verbose=False))

    assert kind(Terminal(), quiet=False) is TerminalReport
    assert kind(Terminal(), quiet=True) is Report
    assert kind(io.StringIO(), quiet=False) is PlainReport
    many = make_report("encode", io.StringIO(), None, quiet=False, verbose=False, many=True)
    assert type(many) is LogReport


def test_details_are_for_the_verbose() -> None:
    words = io.StringIO()
    report = make_report("encode", words, None, quiet=True, verbose=True)
    assert "Traceback" in told(report, words)


def test_each_outcome_is_a_line_of_json() -> None:
    done, failed, skipped = (json.loads(json_line("encode", outcome)) for outcome in outcomes())
    assert done == {
        "version": 1,
        "command": "encode",
        "input": "a.wav",
        "output": "a.wav.alm",
        "status": "done",
        "seconds": 10.0,
        "wall_s": 0.5,
        "frames": 250,
        "kbps": 2.0,
        "warnings": ["2 channels were mixed to one"],
    }
    assert (failed["error"], failed["hint"]) == ("b.wav: empty", "record again")
    assert skipped["reason"] == "still valid"


def test_json_and_words_survive_any_file_name() -> None:
    name = "a\n\x1b[31m\udcff[red]é.wav"
    outcome = Outcome(task=task_of(name), status="failed", error=InputError(f"{name}: bad"))
    line = json_line("encode", outcome)
    assert line.isascii()
    assert json.loads(line)["input"] == name
    for words in (io.StringIO(), Terminal()):
        report = make_report("encode", words, None, quiet=False, verbose=False)
        report.start(1, weight(outcome.task))
        report.ended(outcome)
        report.abandon(None)
        assert "a\\n\\x1b[31m\\udcff[red]é.wav: bad" in words.getvalue()
    assert printable(name).isprintable()


def test_durations_are_said_as_people_say_them() -> None:
    said = [duration(seconds) for seconds in (0, 4.25, 99.9, 100, 200, 5999, 6000, 36_000)]
    assert said == [
        "0.0 s", "4.2 s", "99.9 s", "1 min 40 s", "3 min 20 s", "99 min 59 s", "1 h 40 min",
        "10 h 00 min",
    ]  # fmt: skip
