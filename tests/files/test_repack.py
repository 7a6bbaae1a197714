"""Cut, split and joined tokens are the same frames, and know how long they are."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_cli.errors import InputError
from alm_cli.files.repack import cut, join, split
from alm_cli.files.tokens import read_tokens, to_bytes
from alm_cli.values import Latents, Origin, Tokens


def make_tokens(
    frames: int, *, length: int | None = None, seed: int = 0, **changes: object
) -> Tokens:
    """Random codes of a codec with frames of 40 ms, of a recording at 44.1 kHz."""
    origin = Origin(
        codec="plain",
        weights_sha256="",
        rate=24_000,
        hop=960,
        frame_rate=25.0,
        vocabularies=(1024, 16),
        channels=1,
        source_rate=44_100,
        source_channels=1,
        source_length=frames * 1764 if length is None else length,
        source_sha256="ab" * 32,
        notes={"channels": "mono"},
    )
    origin = replace(origin, **changes)  # type: ignore[arg-type]
    codes = np.random.default_rng(seed).integers(0, 16, (1, 2, frames), dtype=np.int32)
    for book, stride in enumerate(origin.strides):
        codes[:, book] = np.repeat(codes[:, book, ::stride], stride, axis=1)[:, :frames]
    return Tokens(codes, origin)


def assert_same(value: Tokens | Latents, expected: Tokens) -> None:
    assert isinstance(value, Tokens)
    assert np.array_equal(value.codes, expected.codes)
    assert value.origin == expected.origin
    assert {name: array.tolist() for name, array in value.side.items()} == {
        name: array.tolist() for name, array in expected.side.items()
    }


def storable(value: Tokens | Latents) -> None:
    """It can be written and read again."""
    assert read_tokens(io.BytesIO(to_bytes(value))).origin == value.origin


@pytest.mark.parametrize(
    ("start_s", "end_s", "frames", "length"),
    [
        (0.0, None, slice(0, 100), 176_000),
        (0.4, 0.8, slice(10, 20), 17_640),
        (0.41, 0.79, slice(10, 20), 17_640),
        (0.39, 0.81, slice(9, 21), 21_168),
        (0.0, 0.04, slice(0, 1), 1764),
        (3.96, None, slice(99, 100), 176_000 - 99 * 1764),
        (3.96, 99.0, slice(99, 100), 176_000 - 99 * 1764),
        (0.57, 0.6, slice(14, 15), 1764),
        (0.28, 0.32, slice(7, 8), 1764),
    ],
)
def test_a_cut_has_the_frames_that_hold_the_time(
    start_s: float, end_s: float | None, frames: slice, length: int
) -> None:
    whole = make_tokens(100, length=176_000)
    part = cut(whole, start_s, end_s)
    assert np.array_equal(part.codes, whole.codes[:, :, frames])
    assert part.origin.source_length == length
    assert part.origin.source_sha256 == (
        whole.origin.source_sha256
        if end_s is start_s
        else ("" if (frames.start, frames.stop) != (0, 100) else "ab" * 32)
    )
    assert part.origin.notes == whole.origin.notes
    storable(part)


@pytest.mark.parametrize(
    ("start_s", "end_s"),
    [
        (4.0, None),
        (5.0, 6.0),
        (1.0, 1.0),
        (2.0, 1.0),
        (-1.0, 1.0),
        (float("nan"), 1.0),
        (float("inf"), None),
        (0.0, float("nan")),
        (0.0, 0.0),
    ],
)
def test_where_nothing_lies_nothing_is_cut(start_s: float, end_s: float | None) -> None:
    with pytest.raises(InputError, match="no time|nothing from"):
        cut(make_tokens(100, length=176_000), start_s, end_s)


@settings(deadline=None, max_examples=100)
@given(
    frames=st.integers(0, 60),
    short=st.integers(0, 1763),
    seconds=st.floats(0.001, 4.0),
    source_rate=st.sampled_from([8_000, 24_000, 44_100]),
    kind=st.sampled_from(["plain", "alm-codec", "slow", "latents"]),
)
def test_pieces_joined_are_the_whole(
    frames: int, short: int, seconds: float, source_rate: int, kind: str
) -> None:
    length = max(0, frames * 960 * source_rate // 24_000 - short * source_rate // 44_100)
    changes: dict[str, object] = {"source_rate": source_rate}
    if kind == "alm-codec":
        # Its audio lags by 720 samples, so there are frames for so much more.
        length, changes["codec"] = max(0, length - 720 * source_rate // 24_000), kind
    if kind == "slow":
        changes["strides"] = (4, 1)
    whole: Tokens | Latents = make_tokens(frames, length=length, **changes)
    if kind == "latents":
        origin = replace(whole.origin, vocabularies=())
        whole = Latents(np.ones((1, 3, frames), np.float32), origin)
    pieces = list(split(whole, seconds))
    assert sum(piece.frames for piece in pieces) == frames
    for piece in pieces:
        assert piece.origin.source_length > 0 or len(pieces) == 1
        storable(piece)
    again = join(pieces)
    assert again.origin == replace(
        whole.origin, source_sha256=whole.origin.source_sha256 if len(pieces) == 1 else ""
    )
    array = [v.codes if isinstance(v, Tokens) else v.values for v in (again, whole)]
    assert np.array_equal(*array)


def test_pieces_are_as_long_as_whole_frames_can_be() -> None:
    whole = make_tokens(100)
    assert [piece.frames for piece in split(whole, 1.0)] == [25] * 4
    assert [piece.frames for piece in split(whole, 1.01)] == [25] * 4
    assert [piece.frames for piece in split(whole, 0.001)] == [1] * 100
    assert [piece.frames for piece in split(whole, 3.0)] == [75, 25]
    assert [piece.frames for piece in split(whole, 99.0)] == [100]
    assert next(split(whole, 99.0)).origin == whole.origin
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="pieces of"):
            list(split(whole, wrong))


def test_slow_codebooks_are_cut_where_all_codes_begin() -> None:
    whole = make_tokens(40, strides=(4, 1))
    part = cut(whole, 0.2, 0.21)  # within frame 5
    assert np.array_equal(part.codes, whole.codes[:, :, 4:8])
    assert [piece.frames for piece in split(whole, 0.25)] == [8] * 5
    with pytest.raises(InputError, match="within 4 frames that go together"):
        join([make_tokens(6, strides=(4, 1)), whole])


def test_lagging_audio_needs_frames_behind_it() -> None:
    """alm-codec: 720 samples, so the last 30 ms of a frame come with the next one."""
    whole = make_tokens(100, length=176_000, codec="alm-codec")
    part = cut(whole, 1.0, 2.0)
    assert part.frames == 26
    assert part.origin.source_length == 44_100 + (960 - 720) * 44_100 // 24_000
    # A last frame that only ends the audio before it is no piece of its own.
    tail = make_tokens(26, length=44_100, codec="alm-codec")
    assert [piece.frames for piece in split(tail, 1.0)] == [26]
    with pytest.raises(InputError, match="nothing"):
        cut(tail, 1.0)


def stereo(segments: int, last: int = 150) -> Tokens:
    """EnCodec at 48 kHz: segments of 150 frames, which begin every 47 520 samples."""
    frames = (segments - 1) * 150 + last
    length = (segments - 1) * 47_520 + last * 320
    whole = make_tokens(
        frames,
        length=length,
        codec="encodec-48khz",
        rate=48_000,
        source_rate=48_000,
        hop=320,
        channels=2,
    )
    return replace(whole, side={"scale": np.arange(segments, dtype=np.float32)[:, None]})


def test_segments_stay_whole_and_keep_their_loudness() -> None:
    whole = stereo(5, 33)
    part = cut(whole, 1.0, 2.0)
    assert np.array_equal(part.codes, whole.codes[:, :, 150:450])
    assert part.side["scale"].tolist() == [[1], [2]]
    assert part.origin.source_length == 2 * 47_520
    pieces = list(split(whole, 2.0))
    assert [piece.frames for piece in pieces] == [300, 300, 33]
    assert [piece.origin.source_length for piece in pieces] == [95_040, 95_040, 33 * 320]
    again = join(pieces)
    assert_same(again, replace(whole, origin=replace(whole.origin, source_sha256="")))
    with pytest.raises(InputError, match="within 150 frames"):
        join([whole, whole])


def test_two_short_segments_at_the_end_keep_their_loudness() -> None:
    """Trap: of 95 100 samples the second segment has 149 frames, and a third one has one."""
    whole = stereo(2, 150)
    origin = replace(whole.origin, source_length=95_100)
    whole = replace(whole, origin=origin, side={"scale": np.arange(3, dtype=np.float32)[:, None]})
    first, second = split(whole, 1.0)
    assert first.side["scale"].tolist() == [[0]]
    assert second.side["scale"].tolist() == [[1], [2]]
    assert_same(join([first, second]), replace(whole, origin=replace(origin, source_sha256="")))
    more = replace(whole, side={"scale": np.zeros((4, 1), np.float32)})
    with pytest.raises(InputError, match="unknown stretches"):
        cut(more, 1.0)


def test_side_information_of_unknown_stretches_is_not_cut() -> None:
    whole = replace(make_tokens(100), side={"loudness": np.ones((7, 1), np.float32)})
    for work in (lambda: cut(whole, 1.0), lambda: list(split(whole, 1.0)), lambda: join([whole])):
        with pytest.raises(InputError, match="unknown stretches"):
            work()


def test_overlapping_windows_cannot_be_cut() -> None:
    """Trap: the frames of DAC's windows stand for less than a hop each."""
    whole = make_tokens(100, notes={"windowed": "5.0"})
    for work in (lambda: cut(whole, 1.0), lambda: list(split(whole, 1.0)), lambda: join([whole])):
        with pytest.raises(InputError, match="overlapping windows"):
            work()


def test_recordings_are_joined_frame_by_frame() -> None:
    one, two = make_tokens(10, length=17_000, seed=1), make_tokens(5, length=8_000, seed=2)
    both = join([one, two])
    assert np.array_equal(both.codes, np.concatenate([one.codes, two.codes], axis=2))
    # The second begins with its first frame, wherever the first one ended.
    assert both.origin.source_length == 17_640 + 8_000
    assert both.origin.source_sha256 == ""
    storable(both)
    assert_same(join([one]), one)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"codec": "other"}, "codec"),
        ({"weights_sha256": "cd" * 32}, "weights_sha256"),
        ({"rate": 16_000}, "rate"),
        ({"hop": 480}, "hop"),
        ({"vocabularies": (1024, 1024)}, "vocabularies"),
        ({"strides": (2, 1)}, "strides"),
        ({"source_rate": 48_000}, "source_rate"),
        ({"source_channels": 2}, "source_channels"),
        ({"notes": {"gain_db": "3.0"}}, "gain_db"),
    ],
)
def test_strangers_are_not_joined(change: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=f"recording 2 differs from the first: .*{named}"):
        join([make_tokens(4), make_tokens(4, **change), make_tokens(4)])


def test_shapes_and_side_information_must_be_alike() -> None:
    one = make_tokens(4)
    with pytest.raises(InputError, match="streams"):
        join([one, replace(one, codes=np.repeat(one.codes, 2, axis=0))])
    sided = replace(one, side={"scale": np.ones((4, 1), np.float32)})
    with pytest.raises(InputError, match="side information"):
        join([one, sided])
