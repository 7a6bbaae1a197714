"""Times of works that are to be compared: taken in turn, and whether anybody else was working."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

# So many processors' worth of work by others is noise that shows in the figures.
NOISE = 0.15
# On a quiet machine medians of the same work differ by less.
STEADY = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Wall seconds of each run, and how many processors others kept busy meanwhile."""

    seconds: tuple[float, ...]
    others: float | None


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


def drift(timings: Sequence[Timing]) -> float | None:
    """By what share p50 of the earlier and of the later runs differ, as of two commands.

    Of several works the runs of all are taken together; None where there was one run of each.
    """
    earlier = [s for one in timings for s in one.seconds[: len(one.seconds) // 2]]
    later = [s for one in timings for s in one.seconds[(len(one.seconds) + 1) // 2 :]]
    if not earlier:
        return None
    first, second = median(earlier), median(later)
    return abs(first - second) / min(first, second)


def noise(groups: Sequence[Sequence[Timing]]) -> list[str]:
    """What must be said of a machine that was not quiet; of one that was, nothing.

    A group are the works whose times are told as one p50.
    """
    told = []
    busy = [one.others for group in groups for one in group if one.others is not None]
    if busy and max(busy) > NOISE:
        told.append(
            f"the machine was busy with other work, up to {max(busy):.1f} processors: "
            "the speeds are too low"
        )
    apart = max((found for group in groups if (found := drift(group)) is not None), default=0.0)
    if apart > STEADY:
        told.append(
            f"the machine was noisy: p50 of earlier and of later runs differ by {100 * apart:.0f} "
            f"%, more than {100 * STEADY:.0f} %"
        )
    return told


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


# A process counts as its own what the one that started it had in memory, until it was replaced by
# the command: a small one between them does not.
_BETWEEN = """
import os, sys
null = os.open(os.devnull, os.O_WRONLY)
told = [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=told)
_, status, usage = os.wait4(child, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""


def run_command(command: Sequence[str]) -> Process:
    """A command from its start to its end, its output thrown away."""
    began = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _BETWEEN, *command],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    exit_code, peak = map(int, ran.stdout.split())
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes on Linux
    return Process(seconds=time.perf_counter() - began, peak_bytes=peak * unit, exit_code=exit_code)
