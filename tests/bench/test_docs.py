"""Every figure is explained: its unit, its meaning, and when it misleads."""

from __future__ import annotations

from pathlib import Path

import pytest

from alm_cli.bench import adapters, codecs, composers, recognisers, speakers

DOCS = Path(__file__).parents[2] / "docs" / "bench.md"


@pytest.mark.parametrize("module", [adapters, codecs, composers, recognisers, speakers])
def test_docs_name_every_key(module: object) -> None:
    text = DOCS.read_text(encoding="utf-8")
    spans = ("p90_s", "p95_s", "first_sound_p95_ms", "first_sound_p99_ms", "p99_s")
    names = {column.key for column in module.COLUMNS} - {"codec", "model", *spans}  # type: ignore[attr-defined]
    assert not {name for name in names if f"`{name}`" not in text}
