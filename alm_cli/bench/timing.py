"""Times of works that are to be compared: taken in turn, and whether anybody else was working."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# So many processors' worth of work by others is noise that shows in the figures.
NOISE = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Wall seconds of each run, and how many processors others kept busy meanwhile."""

    seconds: tuple[float, ...]
    others: float | None

    @property
    def noisy(self) -> bool:
        return self.others is not None and self.others > NOISE


def interleaved(
    works: Mapping[str, Callable[[], object]], *, runs: int, warm_up: int = 1
) -> dict[str, Timing]:
    """Every work in turn (A B A B), after runs that warm up and do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    busy: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(warm_up + runs):
        for name, work in works.items():
            others, began = _others_ticks(), time.perf_counter()
            work()
            took = time.perf_counter() - began
            if turn >= warm_up:
                seconds[name].append(took)
                if others is not None:
                    busy[name].append(max(0.0, (_others_ticks() or 0.0) - others) / took)
    return {
        name: Timing(
            seconds=tuple(seconds[name]),
            others=sum(busy[name]) / len(busy[name]) if busy[name] else None,
        )
        for name in works
    }


def _others_ticks() -> float | None:
    """Processor seconds that all other processes have used; None where the system does not tell."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
    except OSError:
        return None
    user, nice, system = map(int, first[1:4])
    mine = os.times()
    ours = mine.user + mine.system + mine.children_user + mine.children_system
    return (user + nice + system) / os.sysconf("SC_CLK_TCK") - ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A command from a cold start to its end."""

    seconds: float
    peak_bytes: int
    exit_code: int


def run_alone(arguments: Sequence[str]) -> Process:
    """`alm` with these arguments in a process of its own, its output thrown away."""
    return run_command([sys.executable, "-m", "alm_cli", *arguments])


def run_command(command: Sequence[str]) -> Process:
    """A command from its start to its end, its output thrown away."""
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes on Linux
    return Process(
        seconds=time.perf_counter() - began,
        peak_bytes=usage.ru_maxrss * unit,
        exit_code=child.returncode,
    )
