"""The page in a headless browser: no errors, and nothing wider than a phone's screen."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from html import escape
from pathlib import Path

import pytest

from alm_cli.bench.adapters import COLUMNS, Budget, language_model
from alm_cli.bench.environment import environment
from alm_cli.bench.pages import to_html
from alm_cli.bench.reports import Report
from tests.bench.test_pages import page, reply

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PHONE = 380  # pixels


def adapters() -> str:
    """Many columns with long names."""
    rows = Budget(model=language_model("qwen-7b")).rows()
    where = environment(seed=0, warm_up=0, repetitions=0)
    return to_html(Report(kind="adapters", environment=where, columns=COLUMNS, rows=rows), {})


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    return found


@pytest.mark.parametrize("make", [page, adapters, reply])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(
    make: Callable[[], str], browser: str, tmp_path: Path
) -> None:
    """In a frame as wide as a phone, as browsers without a screen have a least width."""
    script = (
        "const frame = document.querySelector('iframe'), root = frame.contentDocument;"
        "const seen = [...root.querySelectorAll('audio, img')];"
        "document.title = JSON.stringify([root.documentElement.scrollWidth, seen.length,"
        " seen.filter(one => one.error || one.naturalWidth === 0).length]);"
    )
    frame = f"<iframe style='width:{PHONE}px;height:800px;border:0' srcdoc='{escape(make())}'>"
    path = tmp_path / "frame.html"
    path.write_text(
        f"<!doctype html><meta charset=utf-8><title></title>{frame}</iframe>"
        f"<script>window.onload = () => {{ {script} }}</script>",
        encoding="utf-8",
    )
    switches = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    where = [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
    ran = subprocess.run([browser, *switches, *where], capture_output=True, text=True, timeout=120)
    told = re.search(r"<title>\[(\d+),(\d+),(\d+)\]</title>", ran.stdout)
    assert told is not None, ran.stderr[-2000:]
    width, media, broken = map(int, told.groups())
    assert width <= PHONE
    assert media == make().count("<audio") + make().count("<img")
    assert broken == 0
    assert "CONSOLE" not in ran.stderr
