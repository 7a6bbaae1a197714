"""Format 2: slow codebooks and entropy-coded codes, written, read, and lied about."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from alm_cli.errors import FormatError, InputError
from alm_cli.files.segment import Pack
from alm_cli.files.tokens import (
    iter_tokens,
    narrow,
    probe_tokens,
    read_tokens,
    to_bytes,
    write_tokens,
)
from alm_cli.values import Latents, Origin, Tokens

Table = dict[str, Any]

# Beyond the file and the arrays: blocks, the header, and the tables of entropy coding.
ALLOWANCE = (3 + 24) << 20


def make_tokens(
    frames: int = 24,
    sizes: tuple[int, ...] = (4096, 4096, 4096),
    strides: tuple[int, ...] = (4, 2, 1),
    *,
    streams: int = 1,
    seed: int = 0,
    alike: float = 0.0,
    **changes: object,
) -> Tokens:
    """Random codes that repeat by strides; a share of them `alike`."""
    rng = np.random.default_rng(seed)
    books = []
    for size, stride in zip(sizes, strides or (1,) * len(sizes), strict=True):
        once = rng.integers(0, size, (streams, -(-frames // stride)))
        once *= rng.random(once.shape) >= alike
        books.append(np.repeat(once, stride, axis=1)[:, :frames])
    origin = Origin(
        codec="snac",
        weights_sha256="",
        rate=24_000,
        hop=512,
        frame_rate=24_000 / 512,
        vocabularies=sizes,
        channels=1,
        source_rate=24_000,
        source_channels=1,
        source_length=frames * 512,
        source_sha256="",
        strides=strides,
    )
    codes = np.stack(books, axis=1).astype(np.int32)
    return Tokens(codes, replace(origin, **changes))  # type: ignore[arg-type]


def read(data: bytes) -> Tokens:
    value = read_tokens(io.BytesIO(data))
    assert isinstance(value, Tokens)
    return value


def assert_same(value: Tokens, expected: Tokens) -> None:
    assert value.codes.dtype == np.int32
    assert np.array_equal(value.codes, expected.codes)
    assert value.origin == expected.origin


def taken_apart(raw: bytes) -> tuple[Table, bytes]:
    size = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


def forged(table: Table, data: bytes) -> bytes:
    """A segment with this header and a right checksum."""
    table["__metadata__"]["checksum"] = "0" * 64
    text = json.dumps(table).encode()
    raw = len(text).to_bytes(8, "little") + text
    return raw.replace(b"0" * 64, hashlib.sha256(raw + data).hexdigest().encode()) + data


@settings(deadline=None, max_examples=40)
@given(
    strides=st.lists(st.sampled_from([1, 2, 3, 4, 8, 64]), min_size=1, max_size=4).map(tuple),
    frames=st.integers(0, 70),
    streams=st.integers(1, 2),
    pack=st.sampled_from(["bits", "entropy"]),
)
def test_slow_codebooks_are_read_as_written(
    strides: tuple[int, ...], frames: int, streams: int, pack: Pack
) -> None:
    sizes = (1000, 16, 4096, 2)[: len(strides)]
    value = make_tokens(frames, sizes, strides, streams=streams, alike=0.6)
    try:
        data = to_bytes(value, pack)
    except InputError as error:
        # Hardly any bytes for very many repeats: section 8 of docs/token-file.md forbids that.
        assert "contradicts" in error.message
        assert min(strides) >= 8
        return
    again = read(data)
    assert np.array_equal(again.codes, value.codes)
    plain = max(strides) == 1
    assert again.origin == replace(value.origin, strides=() if plain else strides)


def test_a_code_is_stored_once_for_all_its_frames(tmp_path: Path) -> None:
    """SNAC: levels of different lengths; 23 frames have 6, 12 and 23 codes of 12 bits."""
    value = make_tokens(23)
    write_tokens(tmp_path / "a.alm", value)
    info = probe_tokens(tmp_path / "a.alm")
    assert info.payload_bytes == -(-(6 + 12 + 23) * 12 // 8)
    assert (info.frames, info.codebooks, info.origin.strides) == (23, 3, (4, 2, 1))
    with safe_open(tmp_path / "a.alm", "numpy") as file:
        assert file.metadata()["strides"] == "4,2,1"
        bits = np.unpackbits(file.get_tensor("codes"), bitorder="little")
    codes = bits[: 41 * 12].reshape(-1, 12) @ (1 << np.arange(12))
    levels = np.split(codes, [6, 18])
    for level, book, stride in zip(levels, value.codes[0], (4, 2, 1), strict=True):
        assert np.array_equal(level, book[::stride])


def test_format_2_is_only_where_it_is_needed() -> None:
    plain = make_tokens(strides=())
    assert taken_apart(to_bytes(plain))[0]["__metadata__"]["alm_format"] == "1"
    ones = replace(plain, origin=replace(plain.origin, strides=(1, 1, 1)))
    assert to_bytes(ones) == to_bytes(plain)
    fields = taken_apart(to_bytes(make_tokens()))[0]["__metadata__"]
    assert [fields[key] for key in ("alm_format", "packing", "prior")] == ["2", "bits", ""]
    assert not {"strides", "packing", "prior"} & set(
        taken_apart(to_bytes(plain))[0]["__metadata__"]
    )
    # Strides that version 1 does not know are like any unknown key there.
    table, data = taken_apart(to_bytes(plain))
    table["__metadata__"]["strides"] = "4,2,1"
    assert_same(read(forged(table, data)), plain)


@pytest.mark.parametrize(("book", "frame"), [(0, 5), (0, 23), (1, 1), (1, 7)])
def test_codes_that_are_not_repeats_are_not_written(book: int, frame: int) -> None:
    value = make_tokens(streams=2)
    codes = value.codes.copy()
    codes[1, book, frame] ^= 1
    for pack in ("bits", "entropy"):
        with pytest.raises(InputError, match="one for several frames"):
            to_bytes(replace(value, codes=codes), pack)  # type: ignore[arg-type]


@pytest.mark.parametrize("strides", [(4, 2), (0, 2, 1), (-1, 2, 1), (65, 1, 1), (4, 2, 1, 1)])
def test_impossible_strides_are_not_written(strides: tuple[int, ...]) -> None:
    value = make_tokens(strides=())
    with pytest.raises(InputError, match="stride"):
        to_bytes(replace(value, origin=replace(value.origin, strides=strides)))


def test_narrow_keeps_the_strides_of_the_first_books() -> None:
    value = make_tokens()
    two = narrow(value, 2)
    assert two.origin.strides == (4, 2)
    assert_same(read(to_bytes(two)), two)


def test_latents_are_never_of_format_2() -> None:
    latents = Latents(np.ones((1, 3, 4), np.float32), make_tokens().origin)
    latents = replace(latents, origin=replace(latents.origin, vocabularies=(), strides=()))
    assert to_bytes(latents, "entropy") == to_bytes(latents)
    table, data = taken_apart(to_bytes(latents))
    table["__metadata__"] |= {"alm_format": "2", "strides": "", "packing": "bits", "prior": ""}
    with pytest.raises(FormatError, match="latents in format 2"):
        read_tokens(io.BytesIO(forged(table, data)))


def segments(whole: Tokens, ends: list[int]) -> list[Tokens]:
    made = []
    for number, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        last = number == len(ends) - 1
        length = whole.origin.source_length if last else 0
        origin = replace(whole.origin, segment=number, final=last, source_length=length)
        made.append(Tokens(whole.codes[:, :, start:end], origin))
    return made


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("packs", [("bits",), ("entropy",), ("bits", "entropy")])
def test_segments_join_whatever_their_packing(packs: tuple[Pack, ...], streams: int) -> None:
    whole = make_tokens(97, streams=streams, alike=0.8)
    parts = segments(whole, [40, 44, 44, 92, 97])
    data = b"".join(to_bytes(part, packs[n % len(packs)]) for n, part in enumerate(parts))
    assert_same(read(data), whole)
    for one, other in zip(iter_tokens(io.BytesIO(data)), parts, strict=True):
        assert isinstance(one, Tokens)
        assert_same(one, other)


def test_a_segment_does_not_end_within_a_code() -> None:
    for ends in ([6, 24], [10, 24], [1, 24]):
        with pytest.raises(InputError, match="within the frames of one code"):
            [to_bytes(part) for part in segments(make_tokens(), ends)]


def test_segments_of_other_strides_are_of_another_stream() -> None:
    one, two = segments(make_tokens(), [12, 24])
    codes = np.repeat(two.codes[:, :, ::4], 4, axis=2)
    other = replace(two, codes=codes, origin=replace(two.origin, strides=(4, 4, 1)))
    with pytest.raises(FormatError, match="another stream"):
        read(to_bytes(one) + to_bytes(other))


def squeezed() -> bytes:
    """One hundred frames of three codebooks, entropy-coded."""
    return to_bytes(make_tokens(100, (1000, 16, 300), (), alike=0.8), "entropy")


def test_a_probe_tells_the_packing(tmp_path: Path) -> None:
    (tmp_path / "a.alm").write_bytes(squeezed())
    assert probe_tokens(tmp_path / "a.alm").pack == "entropy"
    write_tokens(tmp_path / "b.alm", make_tokens(), pack="entropy")
    assert probe_tokens(tmp_path / "b.alm").pack == "bits"  # random codes do not shrink


def test_every_flipped_bit_of_the_codes_is_noticed() -> None:
    raw = squeezed()
    start = len(raw) - len(taken_apart(raw)[1])
    for place in range(start, len(raw)):
        for bit in range(8):
            damaged = bytearray(raw)
            damaged[place] ^= 1 << bit
            with pytest.raises(FormatError, match="checksum"):
                read_tokens(io.BytesIO(damaged))
        with pytest.raises(FormatError, match="ends within"):
            read_tokens(io.BytesIO(raw[:place]))


@pytest.mark.parametrize("seed", range(3))
def test_any_codes_with_a_right_checksum_are_read_or_refused(seed: int) -> None:
    rng = random.Random(seed)
    table, data = taken_apart(squeezed())
    read_all = 0
    for _ in range(25):
        damaged = bytearray(data)
        for _ in range(rng.randrange(1, 5)):
            damaged[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.2:
            damaged[:] = rng.randbytes(len(data))
        try:
            value = read(forged(table, bytes(damaged)))
        except FormatError as error:
            assert error.message.isprintable()
            continue
        read_all += 1
        sizes = np.array(value.origin.vocabularies)[:, None]
        assert ((value.codes >= 0) & (value.codes < sizes)).all()
    assert read_all


def meta(**changes: str | None) -> Callable[[Table], None]:
    def edit(table: Table) -> None:
        for key, value in changes.items():
            if value is None:
                del table["__metadata__"][key]
            else:
                table["__metadata__"][key] = value

    return edit


def resized(size: int) -> Callable[[Table], None]:
    def edit(table: Table) -> None:
        table["codes"] |= {"shape": [size], "data_offsets": [0, size]}

    return edit


# The codes of `squeezed` take about 130 bytes, so 64 times that is more than its 300 numbers.
LIES: dict[str, tuple[Callable[[Table], None], str]] = {
    "no strides": (meta(strides=None), "no strides"),
    "no packing": (meta(packing=None), "no packing"),
    "no prior": (meta(prior=None), "no prior"),
    "packing": (meta(packing="zip"), "impossible packing"),
    "prior": (meta(prior="alm-codec"), "impossible prior"),
    "unknown prior": (meta(prior="ab" * 32), "lacks"),
    "zero": (meta(strides="0x3"), "impossible strides"),
    "few": (meta(strides="1x2"), "strides '1x2' for 3"),
    "many": (meta(strides="1x4"), "strides '1x4' for 3"),
    "too slow": (meta(strides="65,1,1"), "strides"),
    "absurd": (meta(strides="99999999x3"), "strides"),
    "bits": (meta(packing="bits"), "contradicts"),
    "frames": (meta(frames="9000"), "contradicts"),
    "terabytes": (meta(frames="999999999999999"), "contradicts"),
    "streams": (meta(streams="64"), "contradicts"),
    "alphabet": (meta(codebooks="256", vocabularies="4096x256", strides="1x256"), "contradicts"),
    "book": (meta(vocabularies="1000,16"), "vocabularies"),
    "short": (resized(1), "contradicts"),
    "empty": (resized(0), "contradicts"),
    "long": (resized(10**12), "ends within the data"),
    "unended": (meta(final="false", strides="1,1,64"), "within the frames of one code"),
}


@pytest.mark.parametrize("name", LIES)
def test_every_lie_is_refused(name: str) -> None:
    edit, reason = LIES[name]
    table, data = taken_apart(squeezed())
    edit(table)
    raw = forged(table, data)
    tracemalloc.start()
    with pytest.raises(FormatError, match=reason) as caught:
        read_tokens(io.BytesIO(raw))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.hint
    assert peak < ALLOWANCE


def test_the_prior_of_other_codebooks_is_refused() -> None:
    from alm_cli.files.priors import prior_for

    prior = prior_for("alm-codec", (1024,))
    assert prior is not None
    for vocabularies, strides in (("1000,16,300", "1x3"), ("1024x3", "2,1,1")):
        table, data = taken_apart(squeezed())
        table["__metadata__"] |= {"vocabularies": vocabularies, "strides": strides}
        table["__metadata__"]["prior"] = prior.digest
        with pytest.raises(FormatError, match="prior of other codebooks"):
            read(forged(table, data))


@pytest.mark.parametrize(
    ("frames", "sizes", "strides", "pack"),
    [
        (300_000, (2, 2), (8, 1), "bits"),
        (20_000, (1024,) * 3, (8, 4, 1), "bits"),
        (60, (1024,) * 32, (), "entropy"),
        (8, (1024,) * 256, (), "entropy"),
        (500, (65_536,), (), "entropy"),
    ],
)
def test_memory_is_bounded_by_what_is_there(
    frames: int, sizes: tuple[int, ...], strides: tuple[int, ...], pack: Pack
) -> None:
    """The law of docs/token-file.md for version 2."""
    data = to_bytes(make_tokens(frames, sizes, strides, alike=0.95), pack)
    tracemalloc.start()
    value = read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert value.codes.nbytes <= 256 * len(data)
    assert peak <= 1.2 * len(data) + value.codes.nbytes + ALLOWANCE
