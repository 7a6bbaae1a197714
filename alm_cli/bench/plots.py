"""Pictures without a plotting library: curves as SVG, spectrograms as PNG."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import product
from math import ceil, floor, log10

import numpy as np
import torch
from numpy.typing import NDArray

from alm_cli.bench.quality import log_mel
from alm_cli.bench.timeline import Stage
from alm_cli.values import Audio

# Little larger than on a phone, so that letters are not much smaller there than around them.
WIDTH, HEIGHT, MARGIN = 380, 250, 46
# Distinguishable also without colours: each series has its own marker besides.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKERS = ("circle", "square", "up", "diamond", "down")

Point = tuple[float, float, str]  # x, y and what it says when pointed at


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """Where values lie in a picture: x between powers of ten, y between round numbers."""

    left: float
    right: float
    low: float
    high: float

    def x(self, value: float) -> float:
        share = (log10(value) - self.left) / max(self.right - self.left, 0.1)
        return MARGIN + (WIDTH - MARGIN - 16) * (0.04 + 0.92 * share)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return HEIGHT - MARGIN + 12 - (HEIGHT - MARGIN) * share


def curves(series: Mapping[str, Sequence[Point]], x_title: str, y_title: str) -> str:
    """Lines through the points of each series as SVG; x on a logarithmic scale."""
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    low, high = _nice(min(y for _, y, _ in points), max(y for _, y, _ in points))
    places = [log10(x) for x, _, _ in points]
    scale = _Scale(left=min(places), right=max(places), low=low, high=high)
    key, tall = _key(list(series))
    parts = [f'<svg viewBox="0 0 {WIDTH} {tall}" role="img" aria-label="{escape(y_title)}">', key]
    parts += _axes(scale, x_title, y_title)
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        spots = [(scale.x(x), scale.y(y)) for x, y, _ in sorted(line)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (x, y), (_, _, told) in zip(spots, sorted(line), strict=True):
            mark = _mark(_MARKERS[number % len(_MARKERS)], x, y, colour)
            parts.append(f"<g>{mark}<title>{escape(f'{name}: {told}')}</title></g>")
    return "".join(parts) + "</svg>"


def _key(names: Sequence[str]) -> tuple[str, int]:
    """What marks and colours mean, in lines below the picture; its height with them."""
    parts, x, y = [], 10.0, HEIGHT + 14
    for number, name in enumerate(names):
        wide = 30 + 6.8 * len(name)  # of letters nothing is known but their number
        if x > 10 and x + wide > WIDTH:
            x, y = 10.0, y + 18
        colour = COLOURS[number % len(COLOURS)]
        mark = _mark(_MARKERS[number % len(_MARKERS)], x, y - 4, colour)
        parts.append(f'{mark}<text x="{x + 10:.1f}" y="{y}">{escape(name)}</text>')
        x += wide
    return "".join(parts), y + 10


def timeline(tracks: Mapping[str, Sequence[Stage]], marks: Mapping[str, float]) -> str:
    """A bar for each stage of each track, on one axis of seconds; `marks` are upright lines."""
    left, bar = 66, 22
    ends = [stage.end_s for track in tracks.values() for stage in track]
    most = max((*ends, *marks.values(), 1e-3))
    scale = (WIDTH - left - 60) / most
    rows = sum(len(track) + 1 for track in tracks.values())
    base = 24 + bar * rows
    parts = [f'<svg viewBox="0 0 {WIDTH} {base + 36}" role="img" aria-label="timeline">']
    step = _step(most)
    for number in range(int(most / step) + 1):
        x = left + scale * step * number
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="20" y2="{base}" class="grid"/>')
        label = f"{step * number:.4g}"
        parts.append(f'<text x="{x:.1f}" y="{base + 16}" text-anchor="middle">{label}</text>')
    parts.append(f'<text x="{WIDTH - 8}" y="{base + 32}" text-anchor="end">seconds</text>')
    y = 24.0
    for name, track in tracks.items():
        parts.append(f'<text x="4" y="{y + 16:.1f}" class="title">{escape(name)}</text>')
        y += bar
        for number, stage in enumerate(track):
            x, wide = left + scale * stage.begin_s, max(1.5, scale * stage.seconds)
            parts += _bar(stage, COLOURS[number % len(COLOURS)], (left - 6, x, wide, y, bar - 6))
            y += bar
    for name, second in marks.items():
        x = left + scale * second
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="18" y2="{base}" class="mark"/>'
            f'<text x="{x:.1f}" y="13" text-anchor="middle">{escape(name)}</text>'
        )
    return "".join(parts) + "</svg>"


def _bar(
    stage: Stage, colour: str, place: tuple[float, float, float, float, float]
) -> Iterator[str]:
    """Its name, which ends at the first number of `place`, a bar x, width, y, height, its time."""
    named, x, wide, y, high = place
    told = f"{stage.name}: {stage.begin_s:.3f} to {stage.end_s:.3f} s"
    yield f'<text x="{named:.1f}" y="{y + 14:.1f}" text-anchor="end">{escape(stage.name)}</text>'
    yield f'<rect x="{x:.1f}" y="{y + 3:.1f}" width="{wide:.1f}" height="{high}" fill="{colour}">'
    yield f"<title>{escape(told)}</title></rect>"
    yield f'<text x="{x + wide + 4:.1f}" y="{y + 14:.1f}">{1000 * stage.seconds:.0f} ms</text>'


def _nice(low: float, high: float) -> tuple[float, float]:
    """Bounds around two values that are round numbers."""
    step = _step(max(high - low, abs(high) * 1e-3, 1e-9))
    return floor(low / step) * step, max(ceil(high / step), floor(low / step) + 1) * step


def _step(size: float) -> float:
    """A round step that fits about five times into a size."""
    power = 10.0 ** floor(log10(size / 5))
    return next(power * factor for factor in (1, 2, 5, 10) if size / (power * factor) <= 5)


def _axes(scale: _Scale, x_title: str, y_title: str) -> Iterator[str]:
    """Lines and numbers at round values."""
    step, base = _step(scale.high - scale.low), HEIGHT - MARGIN + 12
    for number in range(round((scale.high - scale.low) / step) + 1):
        value = scale.low + number * step
        y = scale.y(value)
        yield f'<line x1="{MARGIN}" x2="{WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        yield f'<text x="{MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>'
    for power, factor in product(range(floor(scale.left), ceil(scale.right) + 1), (1, 2, 5)):
        value = factor * 10.0**power
        if scale.left - 1e-9 <= log10(value) <= scale.right + 1e-9:
            x = scale.x(value)
            yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="12" y2="{base}" class="grid"/>'
            yield f'<text x="{x:.1f}" y="{base + 16}" text-anchor="middle">{value:g}</text>'
    yield f'<text x="{WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_title)}</text>'
    yield f'<text x="{MARGIN}" y="10" class="title">{escape(y_title)}</text>'


def _mark(kind: str, x: float, y: float, colour: str) -> str:
    shapes = {
        "square": [(-4, -4), (4, -4), (4, 4), (-4, 4)],
        "up": [(0, -5), (5, 4), (-5, 4)],
        "down": [(0, 5), (5, -4), (-5, -4)],
        "diamond": [(0, -6), (6, 0), (0, 6), (-6, 0)],
    }
    if kind == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>'
    path = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in shapes[kind])
    return f'<polygon points="{path}" fill="{colour}"/>'


def spectrogram(audio: Audio) -> bytes:
    """The first channel's log-mel spectrogram as a grey PNG, dark where it is loud, low below."""
    bands = log_mel(audio)[0]
    loud = (bands - bands.max() + 8) / 8  # natural logarithms: a range of 70 dB
    grey = 255 - (255 * loud.clamp(0, 1)).round().to(torch.uint8).flip(0).numpy()
    return png(grey)


def png(grey: NDArray[np.uint8]) -> bytes:
    """grey [H, W] -> a PNG file (ISO/IEC 15948)."""
    height, width = grey.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), grey], axis=1)
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, 0, 0, 0, 0))
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
