"""Laws of the token file: what is written is read, pieces join, headers tell the truth."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import threading
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from alm_cli.errors import FormatError, InputError
from alm_cli.files import tokens as tokens_module
from alm_cli.files.tokens import (
    iter_tokens,
    narrow,
    probe_tokens,
    read_tokens,
    to_bytes,
    write_tokens,
)
from alm_cli.values import Latents, Origin, Tokens

SIXTY_FOUR = hashlib.sha256(b"x").hexdigest()


def make_origin(**changes: object) -> Origin:
    plain = Origin(
        codec="alm-codec",
        weights_sha256=SIXTY_FOUR,
        rate=24_000,
        hop=960,
        frame_rate=25.0,
        vocabularies=(1024,) * 4,
        channels=1,
        source_rate=44_100,
        source_channels=2,
        source_length=1_000,
        source_sha256=SIXTY_FOUR[::-1],
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def make_tokens(
    seed: int = 0,
    *,
    streams: int = 1,
    frames: int = 11,
    side: Mapping[str, NDArray[np.float32]] | None = None,
    **changes: object,
) -> Tokens:
    origin = make_origin(**changes)
    rng = np.random.default_rng(seed)
    books = [rng.integers(0, size, (streams, frames)) for size in origin.vocabularies]
    return Tokens(np.stack(books, axis=1).astype(np.int32), origin, side or {})


def make_latents(dtype: type[np.floating] = np.float32, **changes: object) -> Latents:
    values = np.random.default_rng(1).standard_normal((2, 5, 9)).astype(dtype)
    return Latents(values, make_origin(vocabularies=(), **changes))  # type: ignore[arg-type]


def cut(whole: Tokens, ends: list[int]) -> list[Tokens]:
    """A stream of segments that end at these frames, with side information per ten frames."""
    starts = [0, *ends[:-1]]
    made = []
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        last = number == len(ends) - 1
        origin = replace(
            whole.origin,
            segment=number,
            final=last,
            source_length=whole.origin.source_length if last else 0,
            source_sha256=SIXTY_FOUR if len(ends) > 1 else whole.origin.source_sha256,
            notes=whole.origin.notes if last else {},
        )
        side = {name: array[start // 10 : end // 10] for name, array in whole.side.items()}
        made.append(Tokens(whole.codes[:, :, start:end], origin, side))
    return made


def without_digest(value: Tokens) -> Tokens:
    return replace(value, origin=replace(value.origin, source_sha256=""))


def assert_same(one: Tokens | Latents, other: Tokens | Latents) -> None:
    assert type(one) is type(other)
    assert one.origin == other.origin
    mine = one.codes if isinstance(one, Tokens) else one.values
    theirs = other.codes if isinstance(other, Tokens) else other.values
    assert mine.shape == theirs.shape
    assert np.array_equal(mine, theirs)
    assert one.side.keys() == other.side.keys()
    for name in one.side:
        assert one.side[name].dtype == other.side[name].dtype == np.float32
        assert np.array_equal(one.side[name], other.side[name])


@settings(deadline=None, max_examples=60)
@given(
    vocabularies=st.lists(st.integers(1, 1 << 24), min_size=1, max_size=9),
    streams=st.integers(1, 3),
    frames=st.integers(0, 40),
    notes=st.dictionaries(
        st.text('abc.é"\\', max_size=4), st.text(st.characters(exclude_categories=["C"]))
    ),
    frame_rate=st.floats(1e-3, 1e6),
)
def test_what_is_written_is_read(
    vocabularies: list[int],
    streams: int,
    frames: int,
    notes: dict[str, str],
    frame_rate: float,
) -> None:
    value = make_tokens(
        streams=streams,
        frames=frames,
        vocabularies=tuple(vocabularies),
        notes=notes,
        frame_rate=frame_rate,
        side={"scale": np.arange(6, dtype=np.float32).reshape(3, 2)},
    )
    again = read_tokens(io.BytesIO(to_bytes(value)))
    assert isinstance(again, Tokens)
    assert again.codes.dtype == np.int32
    assert_same(again, value)
    assert to_bytes(again) == to_bytes(value)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_latents_are_read_as_written(dtype: type[np.floating]) -> None:
    value = make_latents(dtype)
    again = read_tokens(io.BytesIO(to_bytes(value)))
    assert isinstance(again, Latents)
    assert again.values.dtype == np.float32
    assert_same(again, value)


def test_a_file_opens_with_plain_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "a.alm"
    value = make_tokens(side={"scale": np.ones((2, 1), np.float32)}, notes={"take": "zwölf"})
    write_tokens(path, value)
    with safe_open(path, "numpy") as file:
        assert set(file.keys()) == {"codes", "side.scale"}
        assert file.metadata()["codec"] == "alm-codec"
        assert file.metadata()["vocabularies"] == "1024x4"
        assert file.metadata()["note.take"] == "zwölf"
        packed = file.get_tensor("codes")
        assert np.array_equal(file.get_tensor("side.scale"), value.side["scale"])
    bits = np.unpackbits(packed, bitorder="little")[: value.codes.size * 10].reshape(-1, 10)
    codes = bits @ (1 << np.arange(10))
    assert np.array_equal(codes.reshape(value.codes.shape), value.codes)


def test_a_file_of_no_frames_opens_too(tmp_path: Path) -> None:
    path = tmp_path / "a.alm"
    value = make_tokens(frames=0, side={"scale": np.ones((0, 1), np.float32)})
    write_tokens(path, value)
    with safe_open(path, "numpy") as file:
        assert file.get_tensor("codes").shape == (0,)
    assert_same(read_tokens(path), value)


@pytest.mark.parametrize("vocabularies", [(1024,) * 8, (4096, *(1024,) * 31), (1000,) * 4])
def test_sizes_stay_within_the_budget(tmp_path: Path, vocabularies: tuple[int, ...]) -> None:
    path = tmp_path / "a.alm"
    write_tokens(path, make_tokens(frames=501, vocabularies=vocabularies))
    info = probe_tokens(path)
    ideal_bits = sum(np.log2(size) for size in vocabularies) * 501
    assert info.payload_bytes * 8 <= 1.01 * ideal_bits
    assert info.file_bytes - info.payload_bytes - info.side_bytes <= 2048
    assert info.file_bytes == path.stat().st_size


def test_a_prefix_of_books_is_a_prefix_of_the_payload() -> None:
    value = make_tokens(frames=16)
    few, all_of_them = to_bytes(narrow(value, 2)), to_bytes(value)
    assert all_of_them[-80:-40] == few[-40:]


@settings(deadline=None, max_examples=30)
@given(ends=st.lists(st.integers(0, 97), max_size=6).map(sorted))
def test_segments_of_any_length_join_to_the_whole(ends: list[int]) -> None:
    side = {"scale": np.arange(18, dtype=np.float32).reshape(9, 2)}
    whole = make_tokens(streams=2, frames=97, side=side, notes={"clipped": "3"})
    segments = cut(whole, [*ends, 97])
    stream = b"".join(map(to_bytes, segments))
    assert_same(read_tokens(io.BytesIO(stream)), whole if not ends else without_digest(whole))
    for one, other in zip(iter_tokens(io.BytesIO(stream)), segments, strict=True):
        assert_same(one, other)


def test_latents_join_along_frames() -> None:
    whole = make_latents(np.float16, source_sha256="")
    origin = replace(whole.origin, source_length=0, final=False)
    first = Latents(whole.values[:, :, :4], origin)
    rest = Latents(whole.values[:, :, 4:], replace(whole.origin, segment=1))
    assert_same(read_tokens(io.BytesIO(to_bytes(first) + to_bytes(rest))), whole)


def test_lengths_of_segments_add_up() -> None:
    segments = cut(make_tokens(frames=30), [10, 20, 30])
    segments = [
        replace(one, origin=replace(one.origin, source_length=n))
        for one, n in zip(segments, (17_640, 17_641, 5), strict=True)
    ]
    joined = read_tokens(io.BytesIO(b"".join(map(to_bytes, segments))))
    assert joined.origin.source_length == 35_286
    assert (joined.origin.segment, joined.origin.final) == (0, True)


def refused(segments: list[Tokens]) -> str:
    stream = b"".join(map(to_bytes, segments))
    with pytest.raises(FormatError) as one:
        read_tokens(io.BytesIO(stream))
    if "more than one" not in one.value.message:
        with pytest.raises(FormatError) as other:
            list(iter_tokens(io.BytesIO(stream)))
        assert one.value.message.split(": ", 1)[1] == other.value.message.split(": ", 1)[1]
    assert one.value.hint
    return one.value.message


def test_missing_and_reordered_segments_are_refused() -> None:
    a, b, c = cut(make_tokens(), [3, 7, 11])
    assert "segment 2 stands where segment 1 should" in refused([a, c])
    assert "segment 1 stands where segment 0 should" in refused([b, c])
    assert "segment 0 stands where segment 1 should" in refused([a, a, b, c])
    assert "ends after segment 1, which is not the last" in refused([a, b])
    assert "it is empty" in refused([])


@pytest.mark.parametrize(
    "change",
    [
        {"codec": "other"},
        {"weights_sha256": ""},
        {"source_rate": 48_000},
        {"vocabularies": (1024, 1024, 1024, 2048)},
        {"hop": 480},
    ],
)
def test_segments_of_different_streams_are_refused(change: dict[str, object]) -> None:
    a, b = cut(make_tokens(), [3, 11])
    stranger = replace(b, origin=replace(b.origin, **change))  # type: ignore[arg-type]
    assert "segment 1 belongs to another stream" in refused([a, stranger])


def test_segments_of_different_shape_are_refused() -> None:
    a, b = cut(make_tokens(), [3, 11])
    twice = replace(b, codes=np.repeat(b.codes, 2, axis=0))
    assert "another stream" in refused([a, twice])
    sided = replace(b, side={"scale": np.ones((1, 1), np.float32)})
    assert "another stream" in refused([a, sided])
    latents = make_latents(segment=1)
    with pytest.raises(FormatError, match="another stream"):
        read_tokens(io.BytesIO(to_bytes(a) + to_bytes(latents)))


def test_streams_may_follow_one_another_in_a_pipe_but_not_in_a_file() -> None:
    one = cut(make_tokens(1), [3, 11])
    two = cut(make_tokens(2, vocabularies=(512,), codec="other"), [5, 11])
    assert "more than one recording" in refused([*one, *two])
    stream = io.BytesIO(b"".join(map(to_bytes, [*one, *two])))
    for value, expected in zip(iter_tokens(stream), [*one, *two], strict=True):
        assert_same(value, expected)


def test_a_length_that_the_frames_cannot_hold_is_refused() -> None:
    # 11 frames of 40 ms, and one second of grace.
    most = 44_100 * 11 * 960 // 24_000 + 44_100
    read_tokens(io.BytesIO(to_bytes(make_tokens(source_length=most))))
    assert "cannot hold" in refused([make_tokens(source_length=most + 1)])


def test_a_segment_leaves_the_pipe_with_its_last_byte() -> None:
    read_end, write_end = os.pipe()
    segments = cut(make_tokens(frames=30), [10, 20, 30])
    seen: list[int] = []
    with open(read_end, "rb") as reader, open(write_end, "wb") as writer:
        arriving = iter_tokens(reader)
        for segment in segments:
            # The pipe stays open: a reader that waited for more would never return.
            write_tokens(writer, segment)
            seen.append(run_with_limit(lambda: next(arriving)).origin.segment)
        writer.close()
        assert list(arriving) == []
    assert seen == [0, 1, 2]


def run_with_limit(work: Callable[[], Tokens | Latents]) -> Tokens | Latents:
    results: list[Tokens | Latents] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    thread.join(120)
    assert results, "still waiting"
    return results[0]


def test_the_memory_of_a_long_pipe_is_that_of_one_segment() -> None:
    segment = make_tokens(frames=2_000, source_length=0, final=False)
    read_end, write_end = os.pipe()

    def feed() -> None:
        with open(write_end, "wb") as writer:
            for number in range(60):
                origin = replace(segment.origin, segment=number, final=number == 59)
                write_tokens(writer, replace(segment, origin=origin))

    feeder = threading.Thread(target=feed, daemon=True)
    tracemalloc.start()
    with open(read_end, "rb") as reader:
        feeder.start()
        frames = sum(value.codes.shape[2] for value in iter_tokens(reader))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    feeder.join()
    assert frames == 120_000
    # All codes would be 1.9 MB; one segment is 32 kB of codes.
    assert peak < 700_000


def test_a_probe_tells_what_reading_tells(tmp_path: Path) -> None:
    path = tmp_path / "a.alm"
    side = {"scale": np.ones((9, 2), np.float32)}
    whole = make_tokens(streams=2, frames=97, side=side)
    path.write_bytes(b"".join(map(to_bytes, cut(whole, [40, 41, 97]))))
    info = probe_tokens(path)
    assert info.origin == read_tokens(path).origin == without_digest(whole).origin
    assert (info.kind, info.streams, info.codebooks, info.dimensions) == ("tokens", 2, 4, 0)
    assert (info.frames, info.segments, info.side_bytes) == (97, 3, 72)
    assert info.payload_bytes == (40 + 1 + 56) * 2 * 4 * 10 // 8
    assert info.program.startswith("alm")
    path.write_bytes(to_bytes(make_latents()))
    info = probe_tokens(path)
    assert (info.kind, info.codebooks, info.dimensions, info.frames) == ("latents", 0, 5, 9)


def test_a_probe_reads_no_data_but_misses_no_truncation(tmp_path: Path) -> None:
    path = tmp_path / "a.alm"
    data = to_bytes(make_tokens(frames=1000))
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert probe_tokens(path).frames == 1000
    path.write_bytes(data[:-1])
    with pytest.raises(FormatError, match=r"a\.alm: ends within the data"):
        probe_tokens(path)


def test_unreadable_paths_are_the_users_mistake(tmp_path: Path) -> None:
    for read in (read_tokens, probe_tokens):
        with pytest.raises(InputError, match="none.alm: cannot be read"):
            read(tmp_path / "none.alm")
        with pytest.raises(InputError, match=r"cannot be read|not a regular file"):
            read(tmp_path)


def test_narrow_keeps_the_first_books() -> None:
    whole = make_tokens(vocabularies=(4096, 1024, 1024))
    one = narrow(whole, 2)
    assert np.array_equal(one.codes, whole.codes[:, :2])
    assert one.origin.vocabularies == (4096, 1024)
    assert_same(read_tokens(io.BytesIO(to_bytes(one))), one)
    for impossible in (0, -1, 4):
        with pytest.raises(InputError, match="codebooks asked"):
            narrow(whole, impossible)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"vocabularies": (1024,) * 3}, "3 vocabularies for 4 codebooks"),
        ({"vocabularies": (1024, 1024, 1024, (1 << 24) + 1)}, "vocabulary"),
        ({"vocabularies": (1024, 1024, 1024, 0)}, "vocabulary"),
        ({"vocabularies": (1024, 1024, 1024, 2)}, "codes outside"),
        ({"codec": ""}, "codec"),
        ({"codec": "a\x1b[2J"}, "control characters"),
        ({"weights_sha256": "abc"}, "weights_sha256"),
        ({"frame_rate": float("nan")}, "frame_rate"),
        ({"frame_rate": float("inf")}, "frame_rate"),
        ({"frame_rate": 0.0}, "frame_rate"),
        ({"rate": -1}, "rate"),
        ({"source_length": -1}, "source_length"),
        ({"source_rate": 10**7}, "source_rate"),
        ({"notes": {"a": "x" * 70_000}}, "notes too long"),
        ({"notes": {"a": "\ud800"}}, "JSON|stored"),
    ],
)
def test_what_the_format_cannot_hold_is_not_written(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    value = make_tokens()
    value = replace(value, origin=replace(value.origin, **changes))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=reason):
        write_tokens(tmp_path / "a.alm", value)
    assert list(tmp_path.iterdir()) == []


def test_arrays_that_do_not_fit_are_not_written() -> None:
    value = make_tokens()
    bad_sides = {
        "Scale": np.ones(1, np.float32),
        "scale": np.full(1, np.nan, np.float32),
        "flat": np.float32(1) * np.ones((), np.float32),
        "deep": np.ones((1, 1, 1, 1), np.float32),
    }
    for name, array in bad_sides.items():
        with pytest.raises(InputError):
            to_bytes(replace(value, side={name: array}))
    with pytest.raises(InputError, match="whole numbers"):
        to_bytes(replace(value, codes=value.codes.astype(np.float32)))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="shape"):
        to_bytes(replace(value, codes=value.codes[0]))
    latents = make_latents()
    with pytest.raises(InputError, match="not numbers"):
        to_bytes(replace(latents, values=latents.values * np.float32(np.inf)))
    with pytest.raises(InputError, match="shape"):
        to_bytes(replace(latents, values=latents.values[0]))


def test_a_path_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.alm"
    write_tokens(path, make_tokens(1))
    before = path.read_bytes()

    def interrupted(source: Path, target: Path) -> None:
        assert Path(source).parent == Path(target).parent
        assert Path(source).stat().st_size > 0
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_tokens(path, make_tokens(2))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.alm"]
    assert path.read_bytes() == before


def test_an_existing_file_is_replaced_with_ordinary_permissions(tmp_path: Path) -> None:
    path, link = tmp_path / "a.alm", tmp_path / "b.alm"
    link.symlink_to(path)
    write_tokens(path, make_tokens(1))
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    write_tokens(str(link), make_tokens(2))
    assert link.is_symlink()
    assert_same(read_tokens(str(path)), make_tokens(2))


def test_devices_are_written_through(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reading = threading.Thread(target=lambda: seen.append(read_tokens(fifo)), daemon=True)
    seen: list[Tokens | Latents] = []
    reading.start()
    write_tokens(fifo, make_tokens(3))
    reading.join(120)
    assert_same(seen[0], make_tokens(3))
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_missing_folder_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_tokens(tmp_path / "none" / "a.alm", make_tokens())


def test_another_library_can_write_it() -> None:
    """The checksum can be set by hand after any safetensors writer has made the file."""
    value = make_tokens(side={"scale": np.ones((2, 1), np.float32)})
    raw = to_bytes(value)
    size = int.from_bytes(raw[:8], "little")
    fields = json.loads(raw[8 : 8 + size])["__metadata__"] | {"checksum": "0" * 64}
    blank = save(
        {"codes": np.frombuffer(raw[-55:], np.uint8), "side.scale": value.side["scale"]},
        metadata=fields,
    )
    made = blank.replace(b"0" * 64, hashlib.sha256(blank).hexdigest().encode())
    assert_same(read_tokens(io.BytesIO(made)), value)


def test_the_suffix_is_ours() -> None:
    assert tokens_module.TOKEN_SUFFIX == ".alm"
