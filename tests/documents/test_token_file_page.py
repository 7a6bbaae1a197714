"""docs/token-file.md tells the truth: its example is what we write, its reader reads it."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alm_cli.files import container, segment
from alm_cli.files.tokens import read_tokens, to_bytes
from alm_cli.values import Origin, Tokens

PAGE = Path(__file__).parents[2] / "docs" / "token-file.md"

EXAMPLE = Tokens(
    np.array([[[1, 2, 15], [7, 0, 5]]], np.int32),
    Origin(
        codec="example",
        weights_sha256=hashlib.sha256(b"weights").hexdigest(),
        rate=24_000,
        hop=960,
        frame_rate=25.0,
        vocabularies=(16, 8),
        channels=1,
        source_rate=24_000,
        source_channels=1,
        source_length=2_500,
        source_sha256=hashlib.sha256(b"").hexdigest(),
        notes={"take": "2"},
    ),
)


def block(language: str) -> str:
    found = re.search(f"```{language}\n(.*?)\n```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"the page has no {language} block"
    return found[1]


def dump(data: bytes) -> str:
    """Sixteen bytes to a line: offset, hexadecimal, text."""
    lines = []
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:04x}  {row.hex(' '):47}  {text}".rstrip())
    return "\n".join(lines)


def test_the_example_is_what_we_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "__version__", "0.1.0")
    made = to_bytes(EXAMPLE)
    assert made.endswith(bytes.fromhex("21 7f 14"))
    assert block("hex") == dump(made)


def test_the_example_is_read_as_described() -> None:
    rows = [line[6:53] for line in block("hex").splitlines()]
    value = read_tokens(io.BytesIO(bytes.fromhex("".join(rows))))
    assert isinstance(value, Tokens)
    assert np.array_equal(value.codes, EXAMPLE.codes)
    assert value.origin == EXAMPLE.origin


def test_the_reader_of_the_page_reads_what_we_write() -> None:
    names: dict[str, Any] = {}
    exec(compile(block("python"), str(PAGE), "exec"), names)
    sizes = (4096, 1000, 1000, 2)
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, size, (2, 13)) for size in sizes], axis=1)
    origin = replace(EXAMPLE.origin, vocabularies=sizes)
    side = {"scale": np.ones((1, 2), np.float32)}
    stream = io.BytesIO(to_bytes(Tokens(codes.astype(np.int32), origin, side)) * 2)
    for _ in range(2):
        read, fields = names["read_segment"](stream)
        assert read == codes.tolist()
        assert fields["codec"] == "example"
    assert not stream.read()


def test_every_field_and_no_other_is_specified() -> None:
    made = to_bytes(EXAMPLE)
    metadata = container.parse(made[: -len(b"\x21\x7f\x14")]).metadata
    table = PAGE.read_text(encoding="utf-8").split("## 3. Metadata")[1].split("## 4.")[0]
    specified = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert specified == [key for key in metadata if not key.startswith("note.")]


def test_the_limits_are_those_of_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8").replace(" ", "")
    for limit in (container.HEADER_LIMIT, segment.LARGEST_VOCABULARY):
        assert f"{limit}" in text
