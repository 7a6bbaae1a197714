"""Hostile token files: any bytes give tokens or a FormatError, within a bounded memory."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_cli.errors import FormatError, InputError
from alm_cli.files.tokens import iter_tokens, probe_tokens, read_tokens, to_bytes
from alm_cli.values import Latents, Origin, Tokens

Table = dict[str, Any]

# What reading may take beyond the file and the decoded arrays: JSON of at most 64 KiB and blocks.
ALLOWANCE = 3 << 20


def make_origin(**changes: Any) -> Origin:
    fields: dict[str, Any] = {
        "codec": "c",
        "weights_sha256": "ab" * 32,
        "rate": 24_000,
        "hop": 960,
        "frame_rate": 25.0,
        "vocabularies": (1000, 16),
        "channels": 1,
        "source_rate": 16_000,
        "source_channels": 1,
        "source_length": 2_000,
        "source_sha256": "",
    }
    return Origin(**{**fields, **changes})


def small(**changes: Any) -> bytes:
    codes = np.random.default_rng(0).integers(0, 16, (1, 2, 5), dtype=np.int32)
    side = {"scale": np.array([[0.5], [2.0]], np.float32)}
    return to_bytes(Tokens(codes, make_origin(**{"notes": {"a": 'x"é'}, **changes}), side))


def taken_apart(raw: bytes) -> tuple[Table, bytes]:
    size = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


def framed(text: bytes, data: bytes) -> bytes:
    """A segment with this header, whose checksum (64 zeros in the text) is made right."""
    raw = len(text).to_bytes(8, "little") + text
    return raw.replace(b"0" * 64, hashlib.sha256(raw + data).hexdigest().encode()) + data


def forged(table: Table, data: bytes) -> bytes:
    metadata = table.get("__metadata__")
    if isinstance(metadata, dict) and "checksum" in metadata:
        table = {**table, "__metadata__": {**metadata, "checksum": "0" * 64}}
    return framed(json.dumps(table).encode(), data)


class Pipe(io.RawIOBase):
    """Bytes that come in small pieces and have no known length."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._data.readinto(memoryview(buffer)[:4093])


def outcome(data: bytes) -> str | None:
    """None when all ways of reading take these bytes, else the reason that all give."""
    reasons = set()
    for source in (io.BytesIO(data), io.BufferedReader(Pipe(data))):
        try:
            read_tokens(source)  # type: ignore[arg-type]
        except FormatError as error:
            assert error.hint
            assert len(error.message) < 300
            assert error.message.isprintable()
            reasons.add(error.message)
        else:
            reasons.add("")
    assert len(reasons) == 1, reasons
    return reasons.pop() or None


def refused(data: bytes) -> str:
    reason = outcome(data)
    assert reason is not None, "these bytes were accepted"
    return reason


def test_every_flipped_bit_and_every_replaced_byte_is_noticed() -> None:
    raw = small()
    assert outcome(raw) is None
    for place in range(len(raw)):
        for change in (1, 2, 4, 8, 16, 32, 64, 128, 255, raw[place], raw[place] ^ 0x20):
            if change:
                damaged = bytearray(raw)
                damaged[place] ^= change
                with pytest.raises(FormatError):
                    read_tokens(io.BytesIO(damaged))


def test_every_truncation_is_noticed() -> None:
    raw = small()
    for size in range(len(raw)):
        assert "end" in refused(raw[:size]) or size == 0
        with pytest.raises(FormatError):
            list(iter_tokens(io.BytesIO(raw[:size])))
    assert "after segment 0: ends within the first 8 bytes" in refused(raw + raw[:5])
    assert "after segment 0: not a token file" in refused(raw + bytes(100))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"RIFF\x24\x08\x00\x00WAVEfmt \x10\x00\x00\x00", "not a token file"),
        (b"ID3\x04\x00\x00\x00\x00\x00\x00", "not a token file"),
        (bytes(10_000), "not a token file"),
        (b"\xff" * 100, "not a token file"),
        ((1 << 62).to_bytes(8, "little") + b"{}", "impossible length"),
        ((65_537).to_bytes(8, "little") + b"{" + b" " * 65_536, "impossible length"),
        ((4).to_bytes(8, "little") + b" {} ", "no header"),
        ((2).to_bytes(8, "little") + b"{}", "without metadata"),
        ((20).to_bytes(8, "little") + b'{"__metadata__": {}}', "not of tokens"),
    ],
)
def test_other_files_are_told_apart(data: bytes, reason: str) -> None:
    assert reason in refused(data)


def test_a_newer_format_says_so() -> None:
    table, data = taken_apart(small())
    table["__metadata__"] = {"alm_format": "3", "new": "different"}
    table["novelty"] = {"dtype": "U8", "shape": [7], "data_offsets": [0, 7]}
    with pytest.raises(FormatError, match="made in format 3, newer") as caught:
        read_tokens(io.BytesIO(forged(table, data)))
    assert "update alm" in str(caught.value.hint)


def meta(**changes: str | int | None) -> Callable[[Table], None]:
    def edit(table: Table) -> None:
        for key, value in changes.items():
            if value is None:
                del table["__metadata__"][key]
            else:
                table["__metadata__"][key] = value

    return edit


def codes(**changes: object) -> Callable[[Table], None]:
    def edit(table: Table) -> None:
        table["codes"].update(changes)

    return edit


def tensor(name: str, **described: object) -> Callable[[Table], None]:
    def edit(table: Table) -> None:
        table[name] = described

    return edit


REQUIRED = sorted(set(taken_apart(small())[0]["__metadata__"]) - {"note.a"})

# The small file has 8 bytes of side information and then 9 bytes of codes.
HOSTILE: list[Callable[[Table], None]] = [
    *(meta(**{key: None}) for key in REQUIRED),
    *(meta(**{key: 1}) for key in REQUIRED if key != "checksum"),
    *(meta(**{key: "?" * 300}) for key in REQUIRED if key != "checksum"),
    meta(frames="4"),
    meta(frames="999999999999999"),
    meta(frames="9" * 4000),
    meta(frames="-5"),
    meta(frames="5.0"),
    meta(frames=" 5"),
    meta(frames="٥"),
    meta(frames="1_0"),
    meta(streams="2"),
    meta(streams="0"),
    meta(streams="65"),
    meta(codebooks="3"),
    meta(codebooks="257", vocabularies="16x257"),
    meta(vocabularies="1000,16777217"),
    meta(vocabularies="0,16"),
    meta(vocabularies="16x999,16x999"),
    meta(vocabularies="16x99999999999999"),
    meta(vocabularies=",".join(["16"] * 10_000)),
    meta(vocabularies="1000,16,"),
    meta(codebooks="0", vocabularies=""),
    meta(kind="latents"),
    meta(kind="music"),
    meta(frame_rate="nan"),
    meta(frame_rate="inf"),
    meta(frame_rate="1e999"),
    meta(frame_rate="-25.0"),
    meta(frame_rate="0.0"),
    meta(rate="0"),
    meta(hop="0"),
    meta(source_rate="0"),
    meta(source_length="999999999999999"),
    meta(codec="\x1b[2J"),
    meta(codec="\ud800"),
    meta(**{"note.a": "a\nb"}),
    meta(**{"note.\x07": "bell"}),
    meta(final="yes"),
    meta(weights_sha256="AB" * 32),
    meta(alm_format="01"),
    meta(alm_format="1.0"),
    codes(shape=[8]),
    codes(shape=[3, 3]),
    codes(shape=[]),
    codes(shape=[9, 1]),
    codes(shape=[True]),
    codes(shape=[-9]),
    codes(shape=[9.0]),
    codes(shape="9"),
    codes(shape=[10**30]),
    codes(shape=[1] * 10_000 + [9]),
    codes(dtype="I64"),
    codes(dtype="F32"),
    codes(dtype=None),
    codes(data_offsets=[0, 9]),
    codes(data_offsets=[9, 18]),
    codes(data_offsets=[17, 8]),
    codes(data_offsets=[-1, 8]),
    codes(data_offsets=[8]),
    codes(data_offsets=[8, 17, 17]),
    codes(data_offsets=[8, 10**18], shape=[10**18 - 8]),
    codes(data_offsets=[8, 1 << 70], shape=[(1 << 70) - 8]),
    codes(extra=1),
    tensor("codes"),
    tensor("side.scale", dtype="F32", shape=[0, 1 << 62, 1 << 62], data_offsets=[8, 8]),
    tensor("side.zero", dtype="F32", shape=[0, 1 << 21], data_offsets=[8, 8]),
    tensor("side.zero", dtype="F32", shape=[0, 0], data_offsets=[8, 8]),
    tensor("side.UPPER", dtype="F32", shape=[0], data_offsets=[8, 8]),
    tensor("side.", dtype="F32", shape=[0], data_offsets=[8, 8]),
    tensor("zero", dtype="F32", shape=[0], data_offsets=[8, 8]),
    tensor("side.half", dtype="F16", shape=[0], data_offsets=[8, 8]),
    tensor("side.gap", dtype="F32", shape=[1], data_offsets=[18, 22]),
    tensor("side.over", dtype="F32", shape=[1], data_offsets=[4, 8]),
    tensor("latents", dtype="F32", shape=[0], data_offsets=[17, 17]),
    lambda table: table.pop("codes"),
    lambda table: table.pop("__metadata__"),
    lambda table: table.update(__metadata__=[]),
    lambda table: table.update(codes=3),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_every_lie_in_the_header_is_refused(number: int, tmp_path: Path) -> None:
    table, data = taken_apart(small())
    HOSTILE[number](table)
    raw = forged(table, data)
    tracemalloc.start()
    refused(raw)
    path = tmp_path / "a.alm"
    path.write_bytes(raw)
    if len(raw) < 65_536:
        with pytest.raises(FormatError, match=r"a\.alm: "):
            probe_tokens(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < ALLOWANCE


def bombs() -> dict[str, bytes]:
    many = ",".join(f'"k{number}":"v"' for number in range(4_000))
    tensors = ",".join(
        f'"side.a{number}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
        for number in range(1_000)
    )
    return {
        "deep lists": b'{"a":' + b"[" * 60_000 + b"]" * 5_000 + b"}",
        "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        "long number": b'{"a":' + b"9" * 65_000 + b"}",
        "many keys": b'{"__metadata__":{' + many.encode() + b"}}",
        "many tensors": b'{"__metadata__":{"alm_format":"1"},' + tensors.encode() + b"}",
        "long string": b'{"' + b"a" * 65_000 + b'":1}',
        "not UTF-8": b'{"a":"\xff"}',
        "twice": b'{"__metadata__":{"alm_format":"1","alm_format":"1"}}',
        "not a number": b'{"a":NaN}',
        "fraction": b'{"a":1.5}',
        "list": b"[1]",
        "two": b"{}{}",
        "tab": b"{}\t",
    }


@pytest.mark.parametrize("name", bombs())
def test_json_bombs_are_refused_within_bounds(name: str) -> None:
    text = bombs()[name]
    assert len(text) <= 65_536
    tracemalloc.start()
    refused(len(text).to_bytes(8, "little") + text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < ALLOWANCE


def test_millions_of_keys_are_refused_unread() -> None:
    text = b'{"__metadata__":{' + b",".join(b'"%d":""' % n for n in range(2_000_000)) + b"}}"
    raw = len(text).to_bytes(8, "little") + text
    tracemalloc.start()
    assert "impossible length" in refused(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(raw) + ALLOWANCE


@pytest.mark.parametrize("kind", ["codes", "latents"])
def test_a_claim_of_terabytes_allocates_nothing(kind: str) -> None:
    frames = 10**12
    table, data = taken_apart(small())
    size = frames * 14 // 8 if kind == "codes" else frames * 12
    fields = {"frames": str(frames), "kind": "tokens"}
    if kind == "latents":
        del table["codes"]
        fields |= {"kind": "latents", "codebooks": "0", "vocabularies": ""}
    table["__metadata__"].update(fields)
    shape = [size] if kind == "codes" else [1, 3, frames]
    dtype = "U8" if kind == "codes" else "F32"
    table[kind] = {"dtype": dtype, "shape": shape, "data_offsets": [8, 8 + size]}
    tracemalloc.start()
    assert "ends within the data" in refused(forged(table, data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < ALLOWANCE


def test_a_code_beyond_its_vocabulary_is_refused() -> None:
    table, data = taken_apart(small())
    assert "outside 0..999" in refused(forged(table, data[:8] + b"\xff\xff" + data[10:]))
    assert "outside 0..999" in refused(forged(table, data[:8] + b"\xff" * 9))
    table["__metadata__"]["vocabularies"] = "1024,16"
    assert "after the last code" in refused(forged(table, data[:8] + b"\xff" * 9))


def test_side_information_is_finite() -> None:
    table, data = taken_apart(small())
    for bad in (np.nan, np.inf, -np.inf):
        side = np.array([bad, 1], "<f4").tobytes()
        assert "not numbers" in refused(forged(table, side + data[8:]))


def test_unknown_metadata_are_ignored() -> None:
    table, data = taken_apart(small())
    table["__metadata__"]["colour"] = "blue"
    value = read_tokens(io.BytesIO(forged(table, data)))
    assert value.origin.notes == {"a": 'x"é'}


def mutated(rng: random.Random, raw: bytes, other: bytes) -> bytes:
    """One of the things that disks, networks and attackers do."""
    damaged = bytearray(raw)
    place, length = rng.randrange(len(raw)), rng.randrange(1, 40)
    how = rng.randrange(7)
    if how == 0:
        for _ in range(rng.randrange(1, 6)):
            damaged[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    elif how == 1:
        del damaged[place:]
    elif how == 2:
        del damaged[place : place + length]
    elif how == 3:
        damaged[place:place] = rng.randbytes(length)
    elif how == 4:
        damaged[place:] = other[rng.randrange(len(other)) :]
    elif how == 5:
        damaged[place : place + length] = damaged[: rng.randrange(1, 40)]
    else:
        digits = [i for i, byte in enumerate(raw) if 48 <= byte < 58]
        damaged[rng.choice(digits)] = rng.choice(b"0123456789-+.eE ")
    return bytes(damaged)


@pytest.mark.parametrize("seed", range(4))
def test_damage_of_any_kind_is_noticed(seed: int) -> None:
    rng = random.Random(seed)
    one = small(segment=0, final=False) + small(segment=1)
    other = small(codec="other")
    whole = read_tokens(io.BytesIO(one))
    for _ in range(1_500):
        damaged = mutated(rng, one, other)
        try:
            value = read_tokens(io.BytesIO(damaged))
        except FormatError:
            continue
        # A splice can restore the file, and a cut can leave one that was whole before.
        assert damaged in (one, other)
        assert value.origin in (whole.origin, read_tokens(io.BytesIO(other)).origin)


def scrambled(rng: random.Random, table: Table) -> Table:
    """The header with some of its values replaced, moved, doubled or gone."""
    table = deepcopy(table)
    values = ["", "0", "1", "5", "16", "65536", "1" * 15, "true", "1000,16", "x", 0, -1, 9, 1 << 64]
    values += [[], [0], [9], [1, 2, 5], {}, None, True, "latents", "U8", "F32", [0, 9], [8, 17]]
    for _ in range(rng.randrange(1, 4)):
        inside = rng.choice([table, table.get("__metadata__"), table.get("codes")])
        if not isinstance(inside, dict) or not inside:
            continue
        key = rng.choice(list(inside))
        how = rng.randrange(4)
        if how == 0:
            del inside[key]
        elif how == 1:
            inside[key] = inside[rng.choice(list(inside))]
        else:
            inside[key] = rng.choice(values)
    return table


@pytest.mark.parametrize("seed", range(3))
def test_scrambled_headers_with_right_checksums_stay_in_bounds(seed: int) -> None:
    rng = random.Random(seed)
    table, data = taken_apart(small())
    accepted = 0
    tracemalloc.start()
    for _ in range(700):
        raw = forged(scrambled(rng, table), data)
        accepted += outcome(raw) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < ALLOWANCE
    # Some scrambles are harmless (another segment's hop, an empty source_sha256).
    assert 0 < accepted < 350


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    refused(noise)
    refused(b"\x02" + bytes(7) + noise)
    framed_noise = len(noise).to_bytes(8, "little") + noise
    refused(framed_noise)


@settings(deadline=None, max_examples=200)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text(max_size=5) | st.just("__metadata__"), inner, max_size=4)
        ),
        max_leaves=12,
    ),
    st.binary(max_size=30),
)
def test_json_noise_is_refused(table: Any, data: bytes) -> None:
    text = json.dumps({"__metadata__": table, "codes": table}).encode()
    refused(framed(text, data))


def peak_of(data: bytes) -> tuple[int, int]:
    """Bytes that reading takes at its peak, and bytes of the decoded arrays."""
    source = io.BytesIO(data)
    tracemalloc.start()
    value = read_tokens(source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    array = value.codes if isinstance(value, Tokens) else value.values
    return peak, array.nbytes + sum(side.nbytes for side in value.side.values())


def stream(count: int, frames: int, vocabulary: int, *, sides: int = 0) -> bytes:
    whole = np.random.default_rng(0).integers(0, vocabulary, (1, 4, frames), dtype=np.int32)
    side = {"scale": np.ones((sides, 1), np.float32)} if sides else {}
    made = []
    for number in range(count):
        origin = make_origin(
            vocabularies=(vocabulary,) * 4,
            segment=number,
            final=number == count - 1,
            source_length=0,
        )
        made.append(to_bytes(Tokens(whole, origin, side)))
    return b"".join(made)


@pytest.mark.parametrize(
    ("count", "frames", "vocabulary", "sides"),
    [(1, 400_000, 1024, 0), (1, 4_000_000, 2, 0), (40, 20_000, 1024, 9_000), (1_000, 1, 2, 0)],
)
def test_memory_is_the_file_and_the_codes(
    count: int, frames: int, vocabulary: int, sides: int
) -> None:
    """The law of docs/token-file.md: 1.2 times the file, and the arrays that it holds."""
    data = stream(count, frames, vocabulary, sides=sides)
    peak, decoded = peak_of(data)
    assert decoded <= 33 * len(data)
    assert peak <= 1.2 * len(data) + decoded + ALLOWANCE


def test_memory_of_half_precision_latents() -> None:
    values = np.ones((1, 64, 50_000), np.float16)
    data = to_bytes(Latents(values, make_origin(vocabularies=())))  # type: ignore[arg-type]
    peak, decoded = peak_of(data)
    assert peak <= 1.2 * len(data) + 1.25 * decoded + ALLOWANCE


def test_only_our_errors_ever_leave() -> None:
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            raise OSError(5, f"no {len(buffer)} bytes: input/output error")

    with pytest.raises(InputError, match="cannot be read"):
        read_tokens(io.BufferedReader(Broken()))
    with pytest.raises(InputError, match="wire: cannot be read"):
        next(iter_tokens(io.BufferedReader(Broken()), name="wire"))
