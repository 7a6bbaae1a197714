"""The most telling figures of a report as one picture, by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from alm_cli.bench.pages import series_of
from alm_cli.bench.plots import COLOURS
from alm_cli.bench.quality import optional
from alm_cli.bench.reports import Cell, Column, Report, number, shown
from alm_cli.errors import InputError

# What is drawn as curves, the most telling first, and as bars where there are no curves.
_CURVES = ("pesq", "visqol", "stoi", "multi_mel", "dnsmos", "speaker")
_LESS_IS_BETTER = ("multi_mel",)
_BARS = ("wer", "p50_s", "rtfx", "first_sound_ms", "gap_p99_ms", "peak_mb", "tokens_per_minute")
_MOST = 6
_KBPS = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256)
_INCHES, _DPI = 3.3, 120


def picture(report: Report) -> bytes:
    """A PNG: quality against bitrate for codecs, else bars. ModelError: matplotlib is missing.

    InputError: nothing in the report can be drawn.
    """
    optional("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    used = {column.key: column for column in report.used}
    curves = [used[key] for key in _CURVES if key in used and series_of(report.rows, key)]
    chosen = (curves or [used[key] for key in _BARS if key in used])[:_MOST]
    if not chosen:
        raise InputError("nothing in this report can be drawn", hint="leave out --plot")
    wide = len(chosen) if len(chosen) < 4 else -(-len(chosen) // 2)
    high = -(-len(chosen) // wide)
    size = (_INCHES * wide * (1 if curves else 1.5), _INCHES * high + 0.4)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(high, wide, squeeze=False).flat
    for axes, column in zip(places, chosen, strict=False):
        if curves:
            _curve(axes, report.rows, column)
        else:
            axes.set_title(column.head)
            _bars(axes, report, column.key, column.digits)
    for axes in places[len(chosen) :]:
        axes.set_axis_off()
    if curves:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
    box = io.BytesIO()
    figure.savefig(box, format="png")
    return box.getvalue()


def _curve(axes: Any, rows: Sequence[Mapping[str, Cell]], column: Column) -> None:
    for place, (name, points) in enumerate(series_of(rows, column.key).items()):
        x, y, _ = zip(*sorted(points), strict=True)
        axes.plot(x, y, "os^Dv"[place % 5] + "-", color=COLOURS[place % 7], label=name)
    arrow = "less is better" if column.key in _LESS_IS_BETTER else "more is better"
    axes.set_title(f"{column.title}, {arrow}", fontsize="medium")
    axes.set_xscale("log")
    axes.set_xlabel("kbps, as stored")
    ticks = [tick for tick in _KBPS if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def _bars(axes: Any, report: Report, key: str, digits: int) -> None:
    rows = [row for row in report.rows if row.get(key) is not None]
    names = ["\n".join(str(row[name]) for name in report.keys if row.get(name)) for row in rows]
    cells = [row[key] for row in rows]
    heights = [number(cell) or 0.0 for cell in cells]
    made = axes.barh(names, heights, color=COLOURS[0])
    axes.bar_label(made, [shown(cell, digits, ranges=False) for cell in cells], padding=3)
    axes.margins(x=0.2)
    axes.invert_yaxis()
