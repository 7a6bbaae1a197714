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

from alm_cli.files import container, entropy, priors, segment
from alm_cli.files.chances import Contexts, Expected
from alm_cli.files.digits import LARGEST_ALPHABET
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
SECOND = replace(
    EXAMPLE,
    codes=np.array([[[9] * 32, [3] * 16 + [*range(8)] * 2]], np.int32),
    origin=replace(EXAMPLE.origin, strides=(2, 1), source_length=30_000),
)


def block(language: str, number: int = 0) -> str:
    found = re.findall(f"```{language}\n(.*?)\n```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(found) > number, f"the page has no {language} block {number}"
    return str(found[number])


def page_reader() -> dict[str, Any]:
    """What the page's program defines."""
    names: dict[str, Any] = {}
    exec(compile(block("python"), str(PAGE), "exec"), names)
    return names


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


def test_the_second_example_is_what_we_write_and_the_page_reads() -> None:
    payload = bytes.fromhex(block("hex", 1))
    made = to_bytes(SECOND, "entropy")
    assert made.endswith(payload)
    fields = container.parse(made[: -len(payload)]).metadata
    said = [fields[key] for key in ("alm_format", "strides", "packing", "prior")]
    assert said == ["2", "2,1", "entropy", ""]
    read, _ = page_reader()["read_segment"](io.BytesIO(made))
    assert read == [[[9] * 16, SECOND.codes[0, 1].tolist()]]
    value = read_tokens(io.BytesIO(made))
    assert isinstance(value, Tokens)
    assert np.array_equal(value.codes, SECOND.codes)
    assert value.origin == SECOND.origin


def test_the_reader_of_the_page_reads_what_we_write() -> None:
    names = page_reader()
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


@pytest.mark.parametrize(
    ("sizes", "strides"),
    [
        ((1000, 30_000, 5), (4, 2, 1)),
        ((65_536,), (1,)),
        ((2, 3, 4097, 1), (1, 1, 1, 1)),
        ((4096,), (3,)),
    ],
)
@pytest.mark.parametrize("pack", ["bits", "entropy"])
def test_the_page_decodes_every_kind_of_codes(
    sizes: tuple[int, ...], strides: tuple[int, ...], pack: segment.Pack
) -> None:
    rng = np.random.default_rng(1)
    books = []
    for size, stride in zip(sizes, strides, strict=True):
        # Half of the codes are alike, so that entropy coding gains.
        once = rng.integers(0, size, (2, -(-37 // stride))) * (rng.random(-(-37 // stride)) < 0.5)
        books.append(np.repeat(once, stride, axis=1)[:, :37])
    codes = np.stack(books, axis=1).astype(np.int32)
    origin = replace(EXAMPLE.origin, vocabularies=sizes, strides=strides)
    made = to_bytes(Tokens(codes, origin), pack)
    read, fields = page_reader()["read_segment"](io.BytesIO(made))
    slow = max(strides) > 1
    assert fields["alm_format"] == ("2" if slow or pack == "entropy" else "1")
    assert fields.get("packing", "bits") == pack
    assert read == [
        [book[::stride].tolist() for book, stride in zip(stream, strides, strict=True)]
        for stream in codes
    ]


def test_the_page_decodes_with_a_prior() -> None:
    path = priors.FOLDER / "alm-codec.npz"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with np.load(path) as stored:
        tables = {name: stored[name].tolist() for name in stored.files}
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 1024, (1, 5, 4), dtype=np.int32)
    prior = priors.prior_for("alm-codec", (1024,) * 5)
    assert prior is not None
    assert prior.digest == digest
    made = entropy.squeeze(codes, (1024,) * 5, (1,) * 5, prior)
    read = page_reader()["decode"](made, 1, 4, [1024] * 5, [1] * 5, tables)
    assert read == codes.tolist()


def test_every_field_and_no_other_is_specified() -> None:
    made = to_bytes(SECOND, "entropy")
    metadata = container.parse(made[:-11]).metadata
    table = PAGE.read_text(encoding="utf-8").split("## 3. Metadata")[1].split("## 4.")[0]
    specified = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    of_version_1 = container.parse(to_bytes(EXAMPLE)[:-3]).metadata
    more = ["strides", "packing", "prior"]
    assert specified[-3:] == more
    assert specified[:-3] == [key for key in of_version_1 if not key.startswith("note.")]
    assert set(specified) == {key for key in metadata if not key.startswith("note.")}


def test_the_limits_are_those_of_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8").replace(" ", "")
    limits = [container.HEADER_LIMIT, segment.LARGEST_VOCABULARY, segment.LARGEST_STRIDE]
    limits += [LARGEST_ALPHABET, entropy.MOST_PER_BYTE, Contexts.rate, Expected.rate]
    for limit in limits:
        assert f"{limit}" in text
