"""What a job tells: words on standard error, JSON lines on standard output."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from alm_cli.jobs.sinks import STDOUT
from alm_cli.jobs.task import Outcome, Summary, Task

if TYPE_CHECKING:
    from rich.progress import Progress

JSON_VERSION = 1


# The facts that a plain line shows, in this order.
_SHOWN = (("frames", "frames"), ("codebooks", "codebooks"), ("kbps", "kbps"))
_REFRESH_S = 0.1
# How often a job that nobody watches tells how far it is.
_PULSE_S = 30.0


class Report:
    """The quiet report: what failed, and with `lines` one JSON line for every item."""

    def __init__(self, command: str, words: TextIO, lines: TextIO | None = None) -> None:
        self._command = command
        self._words = words
        self._lines = lines
        self.verbose = False

    def start(self, items: int, weight: int) -> None:
        """The job begins; `weight` is the sum of the items' weights, for the bar."""

    def tick(self, active: Sequence[Task]) -> None:
        """Some time passed; `active` are being worked on."""

    def ended(self, outcome: Outcome) -> None:
        """An item is done, skipped or failed."""
        if self._lines is not None:
            self._lines.write(json_line(self._command, outcome) + "\n")
            self._lines.flush()
        if outcome.error is not None:
            self.say(f"failed: {_named(outcome)}")
            if self.verbose and outcome.details:
                self.say(outcome.details.rstrip())

    def finish(self, summary: Summary) -> None:
        """All items have ended."""

    def abandon(self, summary: Summary | None) -> None:
        """The job was broken off; with a summary by the user."""

    def say(self, text: str) -> None:
        """One line for people."""
        self._words.write(f"{text}\n")
        self._words.flush()


class PlainReport(Report):
    """A line for each item and for each thing worth knowing about it, and a last line."""

    def ended(self, outcome: Outcome) -> None:
        super().ended(outcome)
        task = outcome.task
        if outcome.status == "done":
            self._done(outcome)
        elif outcome.status == "skipped":
            self.say(f"skipped: {printable(task.item.name)}: {outcome.reason}")
        self._warn(task)

    def finish(self, summary: Summary) -> None:
        self.say(_total(summary))
        if self.verbose and summary.wall_s:
            self.say(f"the model worked {100 * summary.model_s / summary.wall_s:.0f} % of the time")

    def abandon(self, summary: Summary | None) -> None:
        if summary is not None:
            self.say(f"interrupted: {_total(summary)}")

    def _done(self, outcome: Outcome) -> None:
        task = outcome.task
        target = STDOUT if task.target is None else str(task.target)
        words = [duration(task.seconds)]
        words += [f"{task.facts[key]} {unit}" for key, unit in _SHOWN if key in task.facts]
        if outcome.wall_s:
            words.append(f"{task.seconds / outcome.wall_s:.1f} x real time")
        self.say(f"{printable(task.item.name)} -> {printable(target)}  {', '.join(words)}")

    def _warn(self, task: Task) -> None:
        for warning in task.warnings:
            self.say(f"warning: {printable(task.item.name)}: {printable(warning)}")


class LongReport(PlainReport):
    """For items that take long: also a line now and then of how far they are."""

    def __init__(self, command: str, words: TextIO, lines: TextIO | None = None) -> None:
        super().__init__(command, words, lines)
        self._shown = time.monotonic()

    def tick(self, active: Sequence[Task]) -> None:
        if time.monotonic() - self._shown < _PULSE_S:
            return
        self._shown = time.monotonic()
        for task in active:
            if task.seconds and task.length_s:
                speed = task.seconds / max(1e-9, time.perf_counter() - task.began)
                done = f"{duration(task.seconds)} of {duration(task.length_s)}"
                left = duration(max(0.0, task.length_s - task.seconds) / speed)
                name = printable(task.item.name)
                self.say(f"{name}: {done}, {speed:.1f} x real time, about {left} left")


class LogReport(PlainReport):
    """For many items: a line now and then of how far the job is, and a line for each failure."""

    def __init__(self, command: str, words: TextIO, lines: TextIO | None = None) -> None:
        super().__init__(command, words, lines)
        self._items = 0
        self._so_far = Summary()
        self._began = self._shown = 0.0

    def start(self, items: int, weight: int) -> None:  # noqa: ARG002 - items weigh the same here
        self._items = items
        self._began = self._shown = time.monotonic()

    def tick(self, active: Sequence[Task]) -> None:  # noqa: ARG002 - what is done counts
        now = time.monotonic()
        if now - self._shown >= _PULSE_S:
            self._shown, self._so_far.wall_s = now, now - self._began
            ended = self._so_far.done + self._so_far.failed
            left = self._so_far.wall_s * (self._items - ended) / max(1, ended)
            rest = f", about {duration(left)} left" if ended else ""
            self.say(f"{ended}/{self._items}: {_total(self._so_far)}{rest}")

    def ended(self, outcome: Outcome) -> None:
        self._so_far.add(outcome)
        super().ended(outcome)
        self.tick(())

    def _done(self, outcome: Outcome) -> None:
        if self.verbose:
            super()._done(outcome)

    def _warn(self, task: Task) -> None:
        if self.verbose:
            super()._warn(task)


class TerminalReport(PlainReport):
    """A progress bar with files, audio, speed and the time left; lines only for trouble."""

    def __init__(self, command: str, words: TextIO, lines: TextIO | None = None) -> None:
        super().__init__(command, words, lines)
        self._total = self._files = self._weight = 0
        self._audio_s = self._began = self._shown = 0.0
        self._bar: Progress | None = None

    def start(self, items: int, weight: int) -> None:
        # rich takes a quarter of a second to import, which nobody else should wait for.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._total, self._began = items, time.monotonic()
        self._bar = Progress(
            TextColumn("{task.fields[files]}"),
            BarColumn(),
            TextColumn("{task.fields[audio]}"),
            TimeRemainingColumn(),
            console=Console(file=self._words, highlight=False, markup=False),
            auto_refresh=False,
            transient=True,
        )
        # File sizes stand for the work, as lengths are not known before a file is opened.
        self._bar.add_task("", total=weight, files="", audio="")
        self._bar.start()

    def tick(self, active: Sequence[Task]) -> None:
        if self._bar is None or time.monotonic() - self._shown < _REFRESH_S:
            return
        self._shown = time.monotonic()
        audio_s = self._audio_s + sum(task.seconds for task in active)
        speed = audio_s / max(1e-9, self._shown - self._began)
        self._bar.update(
            self._bar.task_ids[0],
            completed=self._weight + sum(weight(task) * task.fraction for task in active),
            files=f"{self._files}/{self._total} files",
            audio=f"{duration(audio_s)} of audio, {speed:.1f} x real time",
            refresh=True,
        )

    def ended(self, outcome: Outcome) -> None:
        self._files += 1
        self._weight += weight(outcome.task)
        self._audio_s += outcome.task.seconds if outcome.status == "done" else 0.0
        super().ended(outcome)
        self.tick(())

    def finish(self, summary: Summary) -> None:
        self._close()
        super().finish(summary)

    def abandon(self, summary: Summary | None) -> None:
        self._close()
        super().abandon(summary)

    def say(self, text: str) -> None:
        if self._bar is None:
            super().say(text)
        else:
            self._bar.console.print(text, soft_wrap=True)

    def _done(self, outcome: Outcome) -> None:
        if self.verbose or self._total == 1:
            super()._done(outcome)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def make_report(
    command: str,
    words: TextIO,
    lines: TextIO | None,
    *,
    quiet: bool,
    verbose: bool,
    many: bool = False,
    long: bool = False,
    bar: bool = True,
) -> Report:
    """The report that suits: silent but for failures, a bar on a terminal, else plain lines.

    With `many` items there are only lines for failures, and now and then of how far the job is;
    with those that take `long`, now and then how far each of them is.
    """
    # A bar and JSON lines on one terminal would write into each other.
    bar = bar and words.isatty() and not (lines is not None and lines.isatty())
    plain = LogReport if many else LongReport if long else PlainReport
    kind = Report if quiet else TerminalReport if bar else plain
    report = kind(command, words, lines)
    report.verbose = verbose
    return report


def json_line(command: str, outcome: Outcome) -> str:
    """One item as one line of JSON, version 1."""
    task = outcome.task
    record: dict[str, object] = {
        "version": JSON_VERSION,
        "command": command,
        "input": task.item.name,
        "output": STDOUT if task.target is None else str(task.target),
        "status": outcome.status,
    }
    if outcome.status == "done":
        record |= {"seconds": round(task.seconds, 6), "wall_s": round(outcome.wall_s, 3)}
        record |= task.facts
    elif outcome.error is not None:
        record |= {key: task.facts[key] for key in ("id",) if key in task.facts}
        record |= {"error": outcome.error.message, "hint": outcome.error.hint}
    else:
        record["reason"] = outcome.reason
    return json.dumps(record | {"warnings": task.warnings})


def printable(text: str) -> str:
    """The text with control characters and broken characters escaped, safe for a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def duration(seconds: float) -> str:
    """Seconds as people say them: `4.2 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def weight(task: Task) -> int:
    """What a task counts for in the bar."""
    return task.item.size + 1


def _named(outcome: Outcome) -> str:
    """The reason of a failure, with the input's name unless the reason begins with it."""
    name, reason = outcome.task.item.name, printable(str(outcome.error))
    return reason if reason.startswith(printable(name)) else f"{printable(name)}: {reason}"


def _total(summary: Summary) -> str:
    counts = [("done", summary.done), ("skipped", summary.skipped), ("failed", summary.failed)]
    words = ", ".join(f"{count} {word}" for word, count in counts if count or word == "done")
    if not summary.audio_s or not summary.wall_s:
        return words
    speed = summary.audio_s / summary.wall_s
    spans = f"{duration(summary.audio_s)} of audio in {duration(summary.wall_s)}"
    return f"{words}; {spans} ({speed:.1f} x real time)"
