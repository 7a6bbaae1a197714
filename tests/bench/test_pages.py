"""A page that needs nothing else, and pictures that show what they should."""

from __future__ import annotations

import base64
import io
import re
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

from alm_cli.bench.environment import environment
from alm_cli.bench.pages import reply_to_html, to_html
from alm_cli.bench.plots import curves, png, spectrogram
from alm_cli.bench.reports import Column, Report
from alm_cli.bench.statistics import spread
from alm_cli.bench.timeline import Reply
from alm_cli.values import Audio

VOID = {"meta", "img", "line", "circle", "polyline", "polygon"}


class Balanced(HTMLParser):
    """Notes elements that are not closed in order, and everything that points elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.problems: list[str] = []
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href") and not (value or "").startswith("data:"):
                self.problems.append(f"{tag} {name}={value}")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag] * (not any(name == "hidden" for name, _ in attrs))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}>")


def tone(seconds: float = 0.5, rate: int = 24_000) -> Audio:
    """1 kHz."""
    times = np.arange(round(seconds * rate)) / rate
    return Audio(np.sin(2000 * np.pi * times).astype(np.float32)[None] / 2, rate)


def page() -> str:
    """Two points of one codec, whose name must not become markup."""
    rows = [
        {"codec": "<b>&", "kbps_disk": kbps, "pesq": spread([kbps, kbps + 1])}
        for kbps in (1.0, 4.0)
    ]
    columns = (
        Column(key="codec", title="codec"),
        Column(key="kbps_disk", title="on disk", unit="kbps"),
        Column(key="pesq", title="PESQ"),
    )
    where = environment(seed=0, warm_up=1, repetitions=5)
    report = Report(kind="codec", environment=where, columns=columns, rows=rows)
    return to_html(report, {"talk <1>": [("original", tone()), ("<b>& 4", tone())]})


def test_the_page_is_whole_and_points_nowhere() -> None:
    text, parser = page(), Balanced()
    parser.feed(text)
    assert parser.problems == [] and parser.open == []
    assert parser.found.count("audio") == parser.found.count("img") == 2
    assert parser.found.count("svg") == 1 and "b" not in parser.found


def test_the_players_play_the_recordings() -> None:
    sounds = re.findall(r"data:audio/flac;base64,([^']+)", page())
    wave, rate = soundfile.read(io.BytesIO(base64.b64decode(sounds[0])))
    assert rate == 24_000
    assert np.abs(wave - tone().samples[0]).max() < 1e-4


def test_curves_rise_where_values_do() -> None:
    line = [(1.0, 1.0, "low"), (10.0, 3.0, "high")]
    svg = curves({"codec": line}, "kbps", "PESQ")
    points = re.search(r'polyline points="([^"]+)"', svg)
    assert points is not None
    (x0, y0), (x1, y1) = (map(float, pair.split(",")) for pair in points[1].split())
    assert x0 < x1 and y0 > y1  # upwards on a screen is less
    assert "codec: low" in svg and curves({}, "x", "y") == ""


def reply() -> str:
    """A cascade whose stages and names are known."""
    known = Reply(asr_s=0.3, llm_first_s=0.5, llm_token_s=0.03, tokens=50, tts_s=0.2)
    tracks = {"one after another": known.in_turn(), "<streamed>": known.streamed()}
    return reply_to_html(tracks, ["first sound: 1.000 s <"], {"runs": 1})


def test_a_timeline_has_a_bar_for_each_stage_and_the_gap_of_people() -> None:
    text, parser = reply(), Balanced()
    parser.feed(text)
    assert parser.problems == [] and parser.open == []
    assert parser.found.count("rect") == 8 and "streamed" not in parser.found
    assert "people: 200 ms" in text and "speak: 0.800 to 1.000 s" in text
    bars = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', text)
    hear, think = ((float(x), float(wide)) for x, wide in bars[:2])
    assert hear[0] + hear[1] == pytest.approx(think[0], abs=0.2)
    assert think[1] / hear[1] == pytest.approx(0.5 / 0.3, rel=0.01)


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0], [-30.0, -3.5], [1e-5, 3e-5]])
def test_any_values_get_round_numbers(values: list[float]) -> None:
    line = [(2.0**place, value, "") for place, value in enumerate(values)]
    labels = re.findall(r'text-anchor="end">([^<]+)<', curves({"a": line}, "kbps", "y"))
    numbers = [float(label) for label in labels if label != "a"]
    assert min(numbers) <= min(values) and max(numbers) >= max(values)
    assert 2 <= len(numbers) <= 8


def test_a_spectrogram_is_dark_where_the_tone_is() -> None:
    data = spectrogram(tone())
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    begin = data.index(b"IDAT") + 4
    rows = zlib.decompressobj().decompress(data[begin:])
    grey = np.frombuffer(rows, np.uint8).reshape(height, width + 1)[:, 1:]
    loudest = 79 - grey[:, width // 2].argmin()  # band 0 is the lowest row
    assert 23 <= loudest <= 30  # 1 kHz on Slaney's scale of 80 bands up to 12 kHz
    assert grey[:, width // 2].max() > 200


def test_a_png_begins_as_one() -> None:
    assert png(np.zeros((2, 3), np.uint8)).startswith(b"\x89PNG\r\n\x1a\n")
