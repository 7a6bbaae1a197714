"""Sample encodings: exact round trips, scales, rounding and the two companding laws."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from alm_cli.errors import UsageError
from alm_cli.files.audio import RawFormat, read_audio
from alm_cli.files.pcm import ENCODINGS, pack, quantise, unpack

LINEAR = sorted(name for name in ENCODINGS if not name.endswith("law"))


@pytest.mark.parametrize("encoding", LINEAR)
def test_bytes_survive_unpacking_and_packing(encoding: str) -> None:
    kind, width = ENCODINGS[encoding]
    if np.dtype(kind).kind == "f":
        data = np.linspace(-2, 2, 999, dtype=np.float32).astype(kind).tobytes()
    else:
        data = np.random.default_rng(0).bytes(999 * width)
    if encoding.startswith("s32"):  # float32 holds 24 of its bits
        low = 0 if encoding == "s32le" else 3
        data = bytes(0 if i % 4 == low else byte for i, byte in enumerate(data))
    assert pack(unpack(data, encoding), encoding) == data


@pytest.mark.parametrize("encoding", LINEAR)
def test_half_scale_is_a_half(encoding: str) -> None:
    samples = np.array([0.5, -0.5, 0, -1], np.float32)
    assert unpack(pack(samples, encoding), encoding).tolist() == samples.tolist()


def test_little_and_big_end_are_mirrored() -> None:
    samples = np.array([0.1234567, -0.7654321], np.float32)
    for name in ("s16", "s24", "s32", "f32", "f64"):
        little, big = pack(samples, f"{name}le"), pack(samples, f"{name}be")
        width = len(little) // 2
        assert big == little[:width][::-1] + little[width:][::-1]


def test_rounding_is_half_to_even_and_has_no_bias() -> None:
    assert quantise(np.array([0.5, 1.5, 2.5, -0.5, -1.5]) / 128, 8).tolist() == [0, 2, 2, 0, -2]
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 200_000).astype(np.float32)
    error = quantise(noise, 16) / 32768 - noise
    assert abs(error.mean()) < 5 * error.std() / np.sqrt(error.size)


def test_integers_end_at_full_scale() -> None:
    loud = np.array([1, 2, -2, 1e30], np.float32)
    assert quantise(loud, 16).tolist() == [32767, 32767, -32768, 32767]
    assert quantise(loud, 32).tolist() == [2**31 - 1, 2**31 - 1, -(2**31), 2**31 - 1]


def test_numbers_too_large_for_float32_become_infinite_without_a_warning() -> None:
    assert unpack(struct.pack("<2d", 1e300, -1e300), "f64le").tolist() == [np.inf, -np.inf]


@pytest.mark.parametrize(("encoding", "code"), [("alaw", 6), ("mulaw", 7)])
def test_companded_values_are_those_of_libsndfile(encoding: str, code: int, tmp_path: Path) -> None:
    form = struct.pack("<HHIIHH", code, 1, 8000, 8000, 1, 8)
    head = b"RIFF\x24\1\0\0WAVEfmt \x10\0\0\0" + form + b"data\0\1\0\0"
    path = tmp_path / "law.wav"
    path.write_bytes(head + bytes(range(256)))
    expected, _ = sf.read(path, dtype="float32")
    assert read_audio(path).samples[0].tolist() == expected.tolist()
    raw = RawFormat(encoding, 8000, 1)
    assert read_audio(io.BytesIO(bytes(range(256))), raw=raw).samples[0].tolist() == (
        expected.tolist()
    )


def test_an_unknown_encoding_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="s20le.*s16le"):
        RawFormat("s20le", 16000, 1)
