"""What is exported comes back: arrays, JSON lines and units; what is something else is refused."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_cli.errors import FormatError, InputError
from alm_cli.files.exports import from_npy, from_units, to_npy, to_units
from alm_cli.files.jsonl import from_jsonl, to_jsonl
from alm_cli.files.recognise import KNOWN_SUFFIXES, read_any
from alm_cli.files.tokens import to_bytes
from alm_cli.values import Latents, Origin, Tokens

ORIGIN = Origin(
    codec="some-codec",
    weights_sha256="ab" * 32,
    rate=24_000,
    hop=512,
    frame_rate=24_000 / 512,
    vocabularies=(4096, 1000, 5),
    channels=2,
    source_rate=44_100,
    source_channels=2,
    source_length=9_000,
    source_sha256="cd" * 32,
    notes={"take": "zwölf", "gain_db": "1.5"},
    strides=(4, 2, 1),
)


def make_tokens(frames: int = 11, streams: int = 2, books: int = 3, *, slow: bool = True) -> Tokens:
    rng = np.random.default_rng(frames)
    strides = ORIGIN.strides[:books] if slow else ()
    codes = np.empty((streams, books, frames), np.int32)
    for book in range(books):
        stride = strides[book] if strides else 1
        once = rng.integers(0, ORIGIN.vocabularies[book], (streams, -(-frames // stride)))
        codes[:, book] = np.repeat(once, stride, axis=1)[:, :frames]
    origin = replace(ORIGIN, vocabularies=ORIGIN.vocabularies[:books], strides=strides)
    side = {"scale": rng.random((2, streams)).astype(np.float32)}
    return Tokens(codes, origin, side)


@settings(deadline=None, max_examples=50)
@given(
    frames=st.integers(0, 30),
    streams=st.integers(1, 3),
    books=st.integers(1, 3),
    slow=st.booleans(),
)
def test_all_forms_round_trip(frames: int, streams: int, books: int, slow: bool) -> None:
    tokens = make_tokens(frames, streams, books, slow=slow)
    whole = from_jsonl(to_jsonl(tokens))
    assert to_bytes(whole) == to_bytes(tokens)
    if frames:
        for again in (
            from_npy(to_npy(tokens), ORIGIN),
            from_units(to_units(tokens), ORIGIN),
        ):
            assert np.array_equal(again.codes, tokens.codes)
            assert again.origin.source_length == frames * 512
            assert (again.origin.source_rate, again.origin.notes) == (24_000, {})
    if books == 1 and frames:
        merged = from_units(to_units(tokens, merged=True), ORIGIN)
        assert np.array_equal(merged.codes, tokens.codes)


def test_a_line_of_json_is_what_it_says() -> None:
    line = to_jsonl(make_tokens(6))
    assert line.endswith(b"}\n")
    said = json.loads(line)
    assert (said["codec"], said["frame_rate"], said["frames"]) == ("some-codec", 46.875, 6)
    assert [len(book) for book in said["codes"][0]] == [2, 3, 6]


def test_the_least_line_of_json_is_enough() -> None:
    line = {"codec": "c", "rate": 24_000, "hop": 320, "vocabularies": [8, 8]}
    tokens = from_jsonl(json.dumps(line | {"codes": [[[1, 2, 3], [7, 0, 7]]]}).encode())
    assert tokens.codes.tolist() == [[[1, 2, 3], [7, 0, 7]]]
    assert (tokens.origin.source_length, tokens.origin.source_rate) == (960, 24_000)
    assert tokens.origin.frame_rate == 75.0
    to_bytes(tokens)


GOOD = json.loads(to_jsonl(make_tokens()))


@pytest.mark.parametrize(
    "change",
    [
        {"alm_json": 2},
        {"codec": 5},
        {"codec": None},
        {"rate": "24000"},
        {"rate": True},
        {"hop": 0},
        {"hop": 1.5},
        {"vocabularies": []},
        {"vocabularies": [4096, 1000, "5"]},
        {"vocabularies": [4096, 1000]},
        {"vocabularies": {"a": "b"}},
        {"strides": [4, 2]},
        {"strides": [4, 2, 10**9]},
        {"strides": [4, 2, 0]},
        {"frames": 12.0},
        {"frames": "11"},
        {"frames": True},
        {"frames": 10**12},
        {"frames": -1},
        {"frames": 16},
        {"codes": None},
        {"codes": []},
        {"codes": [[]]},
        {"codes": [[[1, 2, 3]]]},
        {"codes": [[[1.5] * 3, [1] * 6, [1] * 11]]},
        {"codes": [[["1"] * 3, [1] * 6, [1] * 11]]},
        {"codes": [[[[1]] * 3, [1] * 6, [1] * 11]]},
        {"codes": [[[-1] * 3, [1] * 6, [1] * 11]]},
        {"codes": [[[1] * 3, [1] * 6, [5] * 11]]},
        {"codes": [[[10**30] * 3, [1] * 6, [1] * 11]]},
        {"codes": [[[1] * 3, [1] * 6, [1] * 11], [[1] * 3]]},
        {"codes": {"0": [1]}},
        {"side": [1]},
        {"side": {"scale": [["x"]]}},
        {"side": {"scale": [[1], [2, 3]]}},
        {"notes": {"a": 1}},
        {"notes": ["a"]},
        {"source_length": "1"},
    ],
)
def test_lines_of_json_that_lie_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(FormatError) as caught:
        from_jsonl(json.dumps(GOOD | change).encode())
    assert caught.value.hint


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"3", b"{}", b"[" * 100_000, b"\xff", b'{"alm_json":1}']
)
def test_other_json_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        from_jsonl(data)


def test_several_lines_are_told_apart() -> None:
    line = to_jsonl(make_tokens())
    with pytest.raises(FormatError, match="more than one line") as caught:
        from_jsonl(line * 2)
    assert "split" in str(caught.value.hint)


def npy(array: object, **options: bool) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array), **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["<i4", ">i8", "<u2", "|u1"])
def test_arrays_of_any_whole_numbers_and_axes(kind: str) -> None:
    codes = make_tokens(slow=False).codes % 5
    for array in (codes, np.asfortranarray(codes), codes[0], codes[0, 0]):
        again = from_npy(npy(array.astype(kind)), ORIGIN)
        assert np.array_equal(again.codes.reshape(array.shape), array)
    assert from_npy(npy(codes[0, 0].astype(kind)), ORIGIN).codes.shape == (1, 1, 11)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        npy(np.ones((1, 3, 4))),
        npy(np.ones((1, 1, 3, 4), int)),
        npy(np.int64(3)),
        npy(np.full((1, 3, 4), 4096)),
        npy(np.full((1, 3, 4), -1)),
        npy(np.ones((1, 4, 4), int)),
        npy(np.ones((1, 0, 4), int)),
        npy(np.ones((1, 3, 4), int))[:-1],
        npy(np.ones((1, 3, 4), int)) + b"\0",
        npy(np.zeros((1, 3, 4), [("a", "i4")])),
        npy({"a": 1}, allow_pickle=True),
        npy(np.ones((1, 3, 4), int)).replace(b"(1, 3, 4)", b"(9999999999, 3, 4)"),
        npy(np.ones((1, 3, 4), int)).replace(b"(1, 3, 4)", b"(1, 3, -4)"),
        npy(np.ones((1, 3, 4), int)).replace(b"'descr'", b"'DESCR'"),
        npy(np.ones((1, 3, 4), int)).replace(b"(1, 3, 4)", b"(exit(1))"),
        npy(np.ones((1, 3, 4), int)).replace(b"<i8", b"<Z9"),
    ],
)
def test_arrays_that_are_not_codes_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        from_npy(data, ORIGIN)


def test_latents_are_exported_as_they_are() -> None:
    latents = Latents(np.arange(12, dtype=np.float32).reshape(1, 3, 4), ORIGIN)
    assert np.array_equal(np.load(io.BytesIO(to_npy(latents))), latents.values)


def test_units_are_a_line_for_each_stream() -> None:
    origin = replace(ORIGIN, vocabularies=(100,), strides=())
    tokens = Tokens(np.array([[[12, 85, 85, 3]], [[7, 7, 7, 7]]], np.int32), origin)
    assert to_units(tokens) == b"12 85 85 3\n7 7 7 7\n"
    assert to_units(tokens, merged=True) == b"12 85 3\t1 2 1\n7\t4\n"
    two = Tokens(np.array([[[1, 2], [3, 4]]], np.int32), replace(ORIGIN, vocabularies=(9, 9)))
    assert to_units(two) == b"1,3 2,4\n"
    with pytest.raises(InputError, match="only those of one"):
        to_units(two, merged=True)


@pytest.mark.parametrize(
    "data",
    [
        b"1 2 x\n",
        b"1  2\n",
        b" 1\n",
        b"1,2 3\n",
        b"1,\n",
        b"-1\n",
        b"1.5\n",
        b"1 2\n3\n",
        b"1 2\r\n",
        b"1 2\n\n",
        b"1\t2\t3\n",
        b"1 2\t3\n",
        b"1\t\n",
        b"1\t99999999\n",
        b"1 2\t0 0\n",
        b"5000\n",
        b"1,1,1,1\n",
        b"999999999\n",
        "١\n".encode(),
    ],
)
def test_text_that_is_not_units_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        from_units(data, replace(ORIGIN, strides=()))


def test_every_kind_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    tokens = make_tokens(slow=False)
    forms = {
        ".alm": to_bytes(tokens),
        ".npy": to_npy(tokens),
        ".jsonl": to_jsonl(tokens),
        ".units": to_units(tokens),
    }
    for suffix, data in forms.items():
        assert suffix in KNOWN_SUFFIXES
        path = tmp_path / "any"
        path.write_bytes(data)
        for source in (path, io.BytesIO(data)):
            value = read_any(source, "any", ORIGIN)
            assert isinstance(value, Tokens)
            assert np.array_equal(value.codes, tokens.codes)
    for suffix in (".npy", ".units"):
        with pytest.raises(FormatError, match="any: holds codes, but not of which codec"):
            read_any(io.BytesIO(forms[suffix]), "any")
    for data in (b"", b"RIFF", b"hello", bytes(100), b"{", b"PK\x03\x04"):
        with pytest.raises(FormatError, match="^any: ") as caught:
            read_any(io.BytesIO(data), "any", ORIGIN)
        assert caught.value.hint
    with pytest.raises(InputError, match="none: cannot be read"):
        read_any(tmp_path / "none", "none")
