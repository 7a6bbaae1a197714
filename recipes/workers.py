"""Programs that are compared in processes of their own, and the table of what they needed."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

Record = dict[str, Any]


class Worker:
    """A recipe that was started again as one engine: it answers lines with lines of JSON."""

    def __init__(
        self, recipe: str, options: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", recipe, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(self, work: str) -> Record:
        """What the engine answers to a work; seconds of None where it has ended."""
        # Threads that have nothing more to do look out for work for a while (OpenMP's of Intel for
        # 200 ms), and take the processor from the next engine.
        time.sleep(0.5)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{work}\n")
        self._process.stdin.flush()
        answer: Record = json.loads(self._process.stdout.readline() or '{"seconds": null}')
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def spread(values: list[float]) -> str:
    """`median (least to most)`, to the hundredth."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def show(records: list[Record], threads: int, packages: Sequence[str]) -> None:
    """Markdown, then everything as one line of JSON, with the versions of the packages."""
    print("| " + " | ".join(records[0]) + " |")
    print("|" + "---|" * len(records[0]))
    for record in records:
        print("| " + " | ".join(str(value) for value in record.values()) + " |")
    versions = {}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "-"
    setting: Record = {"threads": threads, "python": platform.python_version(), **versions}
    print("\n" + json.dumps({"setting": setting, "records": records}))
