"""The most telling figures of a report as one picture, by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from alm_cli.bench.pages import QUALITY, series_of
from alm_cli.bench.plots import COLOURS
from alm_cli.bench.quality import optional
from alm_cli.bench.reports import Cell, Report, shown
from alm_cli.bench.statistics import Estimate, Spread
from alm_cli.errors import InputError

# What is drawn as bars, of reports without curves; of each as many as were measured.
_BARS = ("wer", "p50_s", "rtfx", "first_sound_ms", "gap_p99_ms", "peak_mb", "tokens_per_minute")
_INCHES, _DPI = 4.2, 144


def picture(report: Report) -> bytes:
    """A PNG: quality against bitrate for codecs, else bars. ModelError: matplotlib is missing.

    InputError: nothing in the report can be drawn.
    """
    optional("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = [c for c in report.used if c.key in QUALITY and series_of(report.rows, c.key)]
    bars = [c for c in report.used if c.key in _BARS]
    chosen = curves or bars
    if not chosen:
        raise InputError("nothing in this report can be drawn", hint="leave out --plot")
    figure = Figure(figsize=(_INCHES * len(chosen), _INCHES), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, column in zip(figure.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
        axes.set_title(column.head)
        if curves:
            _curve(axes, report.rows, column.key)
        else:
            _bars(axes, report, column.key, column.digits)
    box = io.BytesIO()
    figure.savefig(box, format="png")
    return box.getvalue()


def _curve(axes: Any, rows: Sequence[Mapping[str, Cell]], key: str) -> None:
    for number, (name, points) in enumerate(series_of(rows, key).items()):
        x, y, _ = zip(*sorted(points), strict=True)
        axes.plot(x, y, "os^Dv"[number % 5] + "-", color=COLOURS[number % 7], label=name)
    axes.set_xscale("log")
    axes.set_xlabel("kbps, as stored")
    axes.grid(alpha=0.3)
    axes.legend()


def _bars(axes: Any, report: Report, key: str, digits: int) -> None:
    rows = [row for row in report.rows if row.get(key) is not None]
    names = ["\n".join(str(row[name]) for name in report.keys if row.get(name)) for row in rows]
    cells = [row[key] for row in rows]
    heights = [_height(cell) for cell in cells]
    made = axes.barh(names, heights, color=COLOURS[0])
    axes.bar_label(made, [shown(cell, digits, ranges=False) for cell in cells], padding=3)
    axes.margins(x=0.2)
    axes.invert_yaxis()


def _height(cell: Cell) -> float:
    if isinstance(cell, Spread):
        return cell.median
    if isinstance(cell, Estimate):
        return cell.value
    return float(cell) if isinstance(cell, int | float) else 0.0
