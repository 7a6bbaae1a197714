"""The steps of `alm bench speak` and `alm bench music`: every model with every text."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alm_cli.commands.pace import Pace
from alm_cli.errors import InputError, UsageError

if TYPE_CHECKING:
    from alm_cli.bench.heard import HeardBench, HeardTrial
    from alm_cli.bench.reports import Column, Report


def given_lines(texts: list[str], file: Path | None, what: str) -> list[str]:
    """The texts given and those of the file. UsageError: both; InputError: it cannot be read."""
    if file is None:
        return texts
    if texts:
        raise UsageError(f"{what} and --file exclude each other")
    try:
        told = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read", hint="a text in UTF-8") from error
    return [line for line in map(str.strip, told.splitlines()) if line]


def heard_report(
    kind: str,
    trial: HeardTrial[Any],
    bench: HeardBench,
    columns: Sequence[Column],
    names: Sequence[str],
    *,
    texts: str,
    remark: str,
    cold: bool,
    device: str,
    dtype: str,
    say: Callable[[str], None],
) -> Report:
    """Measure everything, or what there is when interrupted; `say` tells how far it is."""
    from alm_cli.bench.environment import environment
    from alm_cli.bench.reports import Report
    from alm_cli.bench.timing import noise
    from alm_cli.commands.benching import measured_rows

    count = len(bench.texts)
    remarks = [f"{count} {texts}{remark}, {bench.runs} times each"]

    def measure() -> None:
        pace = Pace(say, count)
        for number, text in enumerate(bench.texts, 1):
            trial.say(text)
            pace.step(f"{number} of {count} {texts}", last=number == count)
        for place, name in enumerate(names):
            trial.once(place, cold=bench.cold(name) if cold else {})

    rows = measured_rows(measure, [trial], remarks)
    return Report(
        kind=kind,
        environment=environment(
            seed=bench.seed,
            warm_up=bench.warm_up,
            repetitions=bench.runs,
            device=device,
            dtype=dtype,
        ),
        columns=tuple(columns),
        rows=rows,
        skipped=bench.skipped,
        remarks=remarks + noise(trial.timings),
        data={"texts": hashlib.sha256("\n".join(bench.texts).encode()).hexdigest()},
        weights={name: model.weights_sha256 for name, model, _ in trial.models},
    )
