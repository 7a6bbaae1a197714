"""The manifest of a batch of texts: a line of JSON for each, in the order of the list."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from alm_cli.errors import InputError
from alm_cli.jobs.sinks import Existing, fresh_file, occupied
from alm_cli.jobs.task import Outcome

NAME = "manifest.jsonl"
_LONGEST_LINE = 1 << 23


class Manifest:
    """Lines are added as texts end, and brought into order when all have.

    A text is called `what` in them, and has those of its `facts` that are known. Where `existing`
    outputs are skipped, what an earlier run has noted stays for their texts, and `seed` is the one
    that it used, if it tells. InputError: there is one that is to stay.
    """

    def __init__(
        self, folder: Path, existing: Existing, *, what: str, facts: Sequence[str]
    ) -> None:
        self._path, self._what, self._facts = folder / NAME, what, facts
        problem = occupied(self._path, frozenset(), existing)
        if problem is not None:
            raise InputError(
                problem, hint="--skip-existing goes on with it, --overwrite begins anew"
            )
        resume = existing == "skip"
        self._lines: dict[str, dict[str, Any]] = self._read() if resume else {}
        self.seed: int | None = next(
            (line["batch_seed"] for line in self._lines.values() if _told(line)), None
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not resume:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: {error.strerror}", hint="choose another -o") from error

    def note(self, outcome: Outcome, text: str) -> None:
        """Add what became of a text; skipped ones keep the line that they have."""
        task = outcome.task
        id = str(task.facts["id"])
        if outcome.status == "skipped" and id in self._lines:
            return
        line: dict[str, Any] = {"id": id, self._what: text, "status": outcome.status}
        line["file"] = None if task.target is None else task.target.name
        if outcome.status == "done":
            line["duration"] = round(task.seconds, 6)
            line |= {key: task.facts[key] for key in self._facts if key in task.facts}
        line["error"] = None if outcome.error is None else outcome.error.message
        if task.warnings:
            line["warnings"] = task.warnings
        line["batch_seed"] = self.seed
        self._lines[id] = line
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def finish(self, ids: Sequence[str]) -> None:
        """Write all lines anew, in the order of the texts."""
        with fresh_file(self._path) as path, path.open("w", encoding="utf-8") as file:
            for id in dict.fromkeys(ids):
                if id in self._lines:
                    file.write(json.dumps(self._lines[id]) + "\n")

    def _read(self) -> dict[str, dict[str, Any]]:
        """The lines of an earlier run; those that make no sense say nothing."""
        found: dict[str, dict[str, Any]] = {}
        with suppress(OSError), self._path.open("rb") as file:
            while raw := file.readline(_LONGEST_LINE):
                with suppress(ValueError, RecursionError):
                    line = json.loads(raw)
                    if isinstance(line, dict) and isinstance(line.get("id"), str):
                        found[line["id"]] = line
        return found


def _told(line: dict[str, Any]) -> bool:
    """Whether a line tells the seed of its run."""
    return type(line.get("batch_seed")) is int and 0 <= line["batch_seed"] < 2**32
