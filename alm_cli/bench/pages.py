"""A report as one page that needs nothing else: tables, curves, players, spectrograms."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

import soundfile

from alm_cli.bench.plots import Point, curves, spectrogram, timeline
from alm_cli.bench.reports import Cell, Report, notes, number, shown
from alm_cli.bench.timeline import TURN_GAP_S, Stage
from alm_cli.values import Audio

QUALITY = (
    *("pesq", "stoi", "estoi", "visqol", "dnsmos", "speaker", "rewritten"),
    *("si_sdr", "log_mel", "multi_mel"),
)

_STYLE = """
:root { color-scheme: light dark; --line: #8885; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: right }
thead th { white-space: nowrap }
th:first-child { text-align: left; position: sticky; left: 0; background: Canvas }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 1rem }
svg { width: 100%; height: auto; font-size: 12px } svg text { fill: currentColor }
svg .grid { stroke: var(--line); stroke-width: .5 }
svg .mark { stroke: currentColor; stroke-dasharray: 4 3 } svg .title { font-weight: bold }
figure { margin: 0 } figure img { width: 100%; height: 5rem; background: #fff }
audio { width: 100% } .time { max-width: 36rem } small { opacity: .8 }
"""


def to_html(report: Report, heard: Mapping[str, Sequence[tuple[str, Audio]]]) -> str:
    """One page; `heard` has for some recordings the original and what codecs made of it."""
    facts = {"environment": report.environment, "weights": report.weights, "data": report.data}
    return _page(
        report.kind,
        ["<h2>Figures</h2>", *_table(report), *_curves(report), *_players(heard)],
        notes(report),
        facts,
    )


def reply_to_html(
    tracks: Mapping[str, Sequence[Stage]], told: Sequence[str], facts: Mapping[str, object]
) -> str:
    """One page with the timelines of a spoken reply, and what was `told` of it."""
    drawn = timeline(tracks, {f"people: {1000 * TURN_GAP_S:.0f} ms": TURN_GAP_S})
    return _page(
        "latency", ["<h2>Until the first sound</h2><div class=time>", drawn, "</div>"], told, facts
    )


def _page(kind: str, body: Iterable[str], told: Iterable[str], facts: Mapping[str, object]) -> str:
    """A page that needs nothing else, with how it was measured at its end."""
    title = f"alm bench {kind}"
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>",
        *body,
        "<h2>How it was measured</h2><ul>",
        *(f"<li>{escape(text)}</li>" for text in told),
        "</ul><details><summary>Environment and data</summary><pre>",
        escape(json.dumps(facts, indent=1)),
        "</pre></details></body></html>\n",
    ]
    return "".join(parts)


def _table(report: Report) -> Iterator[str]:
    """A line for each figure, a column for each row of the report."""
    yield "<div class=wide><table><thead><tr><th></th>"
    name = report.columns[0].key
    yield from (f"<th>{escape(shown(row.get(name), 0))}</th>" for row in report.rows)
    yield "</tr></thead><tbody>"
    for column in report.used[1:]:
        yield f"<tr><th title='{escape(column.meaning)}'>{escape(column.head)}</th>"
        for row in report.rows:
            cell = row.get(column.key)
            full = escape(shown(cell, column.digits))
            yield f"<td title='{full}'>{escape(shown(cell, column.digits, ranges=False))}</td>"
        yield "</tr>"
    yield "</tbody></table></div>"


def _curves(report: Report) -> Iterator[str]:
    """Quality against bitrate, where there are any."""
    drawn = [
        f"<div>{curves(series, 'kbps, as stored', column.head)}</div>"
        for column in report.used
        if column.key in QUALITY and (series := series_of(report.rows, column.key))
    ]
    if drawn:
        yield "<h2>Quality and bitrate</h2><div class=curves>"
        yield from (*drawn, "</div>")


def series_of(rows: Sequence[Mapping[str, Cell]], key: str) -> dict[str, list[Point]]:
    """The points of each codec: kilobits a second on disk, and the median."""
    found: dict[str, list[Point]] = {}
    for row in rows:
        cell, kbps = row.get(key), row.get("kbps_disk")
        value = number(cell)
        if value is not None and isinstance(kbps, float) and kbps > 0:
            # Opus at 6 and at 12 kbps is one codec.
            name = str(row["codec"]).split(" ")[0]
            found.setdefault(name, []).append((kbps, value, f"{kbps:.2f} kbps, {shown(cell, 3)}"))
    return found


def _players(heard: Mapping[str, Sequence[tuple[str, Audio]]]) -> Iterator[str]:
    for name, versions in heard.items():
        yield f"<h2>{escape(name)}</h2><div class=curves>"
        for label, audio in versions:
            picture = "data:image/png;base64," + base64.b64encode(spectrogram(audio)).decode()
            sound = "data:audio/flac;base64," + _flac(audio)
            yield f"<figure><figcaption>{escape(label)}</figcaption>"
            yield f"<img alt='spectrogram of {escape(label)}' src='{picture}'>"
            yield f"<audio controls preload=none src='{sound}'></audio>"
            yield "</figure>"
        yield "</div>"


def _flac(audio: Audio) -> str:
    box = io.BytesIO()
    soundfile.write(box, audio.samples.T.clip(-1, 1), audio.rate, format="FLAC")
    return base64.b64encode(box.getvalue()).decode()
