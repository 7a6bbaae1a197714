"""A report: where it was measured, rows of figures, and what could not be measured and why."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path

from alm_cli.bench.statistics import Estimate, Spread
from alm_cli.errors import FormatError, InputError, UsageError

FORMAT = 1
NOTHING = "-"  # stands where a figure was not measured

Cell = str | int | float | bool | Spread | Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A figure of every row: what it is called, its unit, what it means, how many digits."""

    key: str
    title: str
    unit: str = ""
    digits: int = 2
    meaning: str = ""

    @property
    def head(self) -> str:
        """The title with the unit."""
        return f"{self.title} [{self.unit}]" if self.unit else self.title


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`rows` have a cell for each column, or none where it was not measured; `skipped` says why.

    The first column names a row; `names` are the columns that do so together, where it takes more.
    `data` and `weights` have the sha256 of what was measured on and with.
    """

    kind: str
    environment: Mapping[str, object]
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Cell]]
    skipped: Mapping[str, str] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    data: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    names: Sequence[str] = ()

    @property
    def keys(self) -> Sequence[str]:
        """The columns that tell rows apart."""
        return self.names or (self.columns[0].key,)

    @property
    def used(self) -> list[Column]:
        """The columns that any row has."""
        return [c for c in self.columns if any(row.get(c.key) is not None for row in self.rows)]


def shown(cell: Cell, digits: int, *, ranges: bool = True) -> str:
    """A cell as people read it; a spread as `median (quartiles)`, an estimate with its interval."""
    if cell is None:
        return NOTHING
    if isinstance(cell, Estimate):
        told = f"{cell.value:.{digits}f}"
        return f"{told} ({cell.lower:.{digits}f} to {cell.upper:.{digits}f})" if ranges else told
    if isinstance(cell, Spread):
        middle = f"{cell.median:.{digits}f}"
        if not ranges or cell.count < 2:
            return middle
        return f"{middle} ({cell.lower:.{digits}f} to {cell.upper:.{digits}f})"
    if isinstance(cell, bool) or not isinstance(cell, float):
        return str(cell)
    return f"{cell:.{digits}f}"


def to_markdown(report: Report) -> str:
    """A table, then what was skipped and on what it was measured."""
    columns = report.used
    lines = ["| " + " | ".join(column.head for column in columns) + " |"]
    lines.append("|" + "---|" * len(columns))
    for row in report.rows:
        cells = [shown(row.get(c.key), c.digits).replace("|", "\\|") for c in columns]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [""] + [f"- {text}" for text in notes(report)]
    return "\n".join(lines) + "\n"


def notes(report: Report) -> list[str]:
    """Everything that must be said beside the figures."""
    where = report.environment
    machine = f"{where['processor']}, {where['threads']} threads, {where['capability']}"
    if str(where["device"]).startswith("cuda"):
        machine = f"{where['gpu']}, {machine}"
    machine += f", {where['dtype']}"
    versions = where["versions"]
    assert isinstance(versions, Mapping)
    told = [f"measured on {machine}; " + ", ".join(f"{k} {v}" for k, v in versions.items())]
    told.append(f"{where['repetitions']} runs in turn after {where['warm_up']} that do not count")
    told += list(report.remarks)
    return told + [f"{name}: not measured, {reason}" for name, reason in report.skipped.items()]


def to_csv(report: Report) -> str:
    """A line for each row; spreads as four columns, estimates as three."""
    out = io.StringIO()
    flat = [_flat(row) for row in report.rows]
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in flat for key in row)))
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _flat(row: Mapping[str, Cell]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, cell in row.items():
        if isinstance(cell, Spread):
            parts = {"": cell.median, "_p25": cell.lower, "_p75": cell.upper, "_n": cell.count}
            found |= {key + end: value for end, value in parts.items()}
        elif isinstance(cell, Estimate):
            found |= {key: cell.value, f"{key}_low": cell.lower, f"{key}_high": cell.upper}
        else:
            found[key] = cell
    return found


def to_json(report: Report) -> str:
    """One object; what is not a finite number is null."""
    rows = [{key: _plain(cell) for key, cell in row.items()} for row in report.rows]
    value = {
        "version": FORMAT,
        "bench": report.kind,
        "environment": report.environment,
        "data": report.data,
        "weights": report.weights,
        "columns": [asdict(column) for column in report.used],
        "rows": rows,
        "skipped": report.skipped,
        "remarks": list(report.remarks),
    }
    return json.dumps(value, allow_nan=False)


def _plain(cell: Cell) -> object:
    if isinstance(cell, Spread | Estimate):
        return {key: _plain(value) for key, value in asdict(cell).items()}
    return cell if not isinstance(cell, float) or isfinite(cell) else None


def read_baseline(path: Path) -> list[dict[str, object]]:
    """The rows of a report that was stored as JSON. FormatError: it is none."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not JSON") from error
    rows = value.get("rows") if isinstance(value, dict) and value.get("version") == FORMAT else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise FormatError(f"{path}: not a report of alm bench --json")
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What must not have happened to a figure: to have grown, or fallen, by more than a share."""

    key: str
    grows: bool
    share: float

    def broken(self, before: float, now: float) -> bool:
        """Whether a figure changed by more, in the direction that is meant."""
        change = (now - before) / abs(before) if before else float(now != before)
        return change > self.share if self.grows else change < -self.share


def condition(text: str) -> Condition:
    """`encode_rtf>+5%` or `pesq<-2%`. UsageError: it is neither."""
    for sign, grows in ((">", True), ("<", False)):
        key, found, amount = text.partition(sign)
        number = amount.strip().removesuffix("%").strip()
        try:
            share = float(number) / 100
        except ValueError:
            continue
        if found and key.strip() and isfinite(share) and (share >= 0) == grows:
            return Condition(key=key.strip(), grows=grows, share=abs(share))
    raise UsageError(f"--fail-on {text!r}", hint="write KEY>+5% or KEY<-5%, a key of the --json")


def failures(
    rows: Iterable[Mapping[str, Cell]],
    baseline: Iterable[Mapping[str, object]],
    conditions: Sequence[Condition],
    names: Sequence[str],
) -> list[str]:
    """What broke a condition, against the row of the baseline that is named alike."""
    known = {tuple(row.get(name) for name in names): row for row in baseline}
    rows, told = list(rows), []
    # A gate that compares nothing must not stand open.
    if conditions and not any(tuple(row.get(key) for key in names) in known for row in rows):
        return [f"no row of the baseline has the {' and '.join(names)} of one measured now"]
    for row in rows:
        name = tuple(row.get(key) for key in names)
        before = known.get(name)
        for wanted in conditions if before else ():
            assert before is not None
            old, new = number(before.get(wanted.key)), number(row.get(wanted.key))
            if old is None or new is None:
                told.append(f"{_named(name)}: {wanted.key} was not measured both times")
            elif wanted.broken(old, new):
                told.append(f"{_named(name)}: {wanted.key} was {old:.4g} and is {new:.4g}")
    return told


def number(cell: object) -> float | None:
    """The figure of a cell, the middle one of several; None: it has none."""
    if isinstance(cell, Spread | Estimate):
        return cell.median if isinstance(cell, Spread) else cell.value
    if isinstance(cell, dict):
        cell = cell.get("median", cell.get("value"))
    return float(cell) if isinstance(cell, int | float) and not isinstance(cell, bool) else None


def _named(name: tuple[object, ...]) -> str:
    return ", ".join(str(part) for part in name if part is not None)
