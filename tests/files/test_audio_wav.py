"""WAV headers: every kind that people have, the placeholders of streams, and hostile ones."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_cli.errors import AlmError, FormatError, InputError
from alm_cli.files.audio import RawFormat, open_audio, probe_audio, read_audio
from alm_cli.files.streams import ByteStream
from alm_cli.files.wav import needs_rf64, read_wav_header, wav_header

FORM = RawFormat("s16le", 16000, 1)
SOUND = np.arange(-500, 500, dtype="<i2").tobytes()
UNKNOWN = 0xFFFFFFFF


def chunk(tag: bytes, body: bytes, size: int | None = None) -> bytes:
    return tag + struct.pack("<I", len(body) if size is None else size) + body


def riff(*chunks: bytes, size: int | None = None, tag: bytes = b"RIFF") -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return tag + struct.pack("<I", len(body) if size is None else size) + body


def form(code: int = 1, channels: int = 1, rate: int = 16000, width: int = 2) -> bytes:
    align = channels * width & 0xFFFF
    return chunk(
        b"fmt ",
        struct.pack("<HHIIHH", code, channels, rate, rate * align & UNKNOWN, align, 8 * width),
    )


def samples(data: bytes) -> list[float]:
    return (read_audio(io.BytesIO(data)).samples[0] * 32768).tolist()


RAMP = list(range(-500, 500))


@pytest.mark.parametrize(
    ("subtype", "bits"),
    [("PCM_U8", 8), ("PCM_16", 16), ("PCM_24", 24), ("PCM_32", 32), ("FLOAT", 32), ("DOUBLE", 64)],
)
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_every_width_equals_libsndfile(
    subtype: str, bits: int, container: str, channels: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    wave = np.random.default_rng(bits).uniform(-1, 1, (997, channels))
    sf.write(path, wave, 22050, format=container, subtype=subtype)
    expected, _ = sf.read(path, dtype="float32", always_2d=True)
    with open_audio(path) as reader:
        assert (reader.container, reader.rate, reader.length) == ("wav", 22050, 997)
        np.testing.assert_array_equal(next(reader.blocks(1000)), expected.T)
        assert not reader.truncated


def test_chunks_around_the_sound_are_stepped_over() -> None:
    odd = chunk(b"LIST", b"odd") + b"\0"
    data = riff(odd, chunk(b"bext", bytes(602)), form(), odd, chunk(b"data", SOUND), odd)
    assert samples(data) == RAMP


@pytest.mark.parametrize("placeholder", [UNKNOWN, UNKNOWN - 36, 0x7FFFF000, 0x80000000, 0])
@pytest.mark.parametrize("riff_size", [UNKNOWN, 0, 0x7FFFF024, 36])
def test_placeholders_mean_until_the_end(placeholder: int, riff_size: int, tmp_path: Path) -> None:
    data = riff(form(), chunk(b"data", SOUND, placeholder), size=riff_size)
    path = tmp_path / "stream.wav"
    path.write_bytes(data)
    with open_audio(io.BytesIO(data)) as pipe, open_audio(path) as file:
        assert (pipe.length, file.length) == (None, 1000)
        assert len(RAMP) == sum(block.shape[1] for block in pipe.blocks(64))
        assert (pipe.truncated, file.truncated) == (False, False)


def test_an_empty_recording_before_other_chunks_is_empty() -> None:
    assert samples(riff(form(), chunk(b"data", b""), chunk(b"LIST", b"more"))) == []
    assert samples(riff(form(), chunk(b"data", b""))) == []


def test_sixty_four_bit_sizes_count() -> None:
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, len(SOUND), 1000, 0))
    tail = chunk(b"LIST", b"more")
    data = riff(sizes, form(), chunk(b"data", SOUND, UNKNOWN), tail, size=UNKNOWN, tag=b"RF64")
    assert samples(data) == RAMP


@pytest.mark.parametrize("cut", [1, 2, 999, 1999])
def test_a_file_cut_short_is_read_to_its_end_and_says_so(cut: int, tmp_path: Path) -> None:
    data = riff(form(), chunk(b"data", SOUND))[:-cut]
    path = tmp_path / "cut.wav"
    path.write_bytes(data)
    left = RAMP[: (2000 - cut) // 2]
    with open_audio(path) as file, open_audio(io.BytesIO(data)) as pipe:
        assert (file.length, file.truncated) == (len(left), True)
        for reader in (file, pipe):
            blocks = [block[0] * 32768 for block in reader.blocks(7)]
            assert (np.concatenate(blocks).tolist() if blocks else []) == left
            assert reader.truncated


def test_a_sample_cut_in_two_at_an_open_end_is_reported() -> None:
    data = riff(form(), chunk(b"data", SOUND[:-1], UNKNOWN), size=UNKNOWN)
    with open_audio(io.BytesIO(data)) as reader:
        assert [block.shape[1] for block in reader.blocks(600)] == [600, 399]
        assert reader.truncated


def test_writers_that_leave_the_frame_size_at_zero_are_understood() -> None:
    described = struct.pack("<HHIIHH", 1, 1, 16000, 0, 0, 16)
    assert samples(riff(chunk(b"fmt ", described), chunk(b"data", SOUND))) == RAMP


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (riff(form()), "ends before its sound"),
        (riff(), "ends before its sound"),
        (riff(chunk(b"data", SOUND)), "without a description"),
        (riff(chunk(b"fmt ", b"\1\0"), chunk(b"data", SOUND)), "damaged description"),
        (riff(chunk(b"junk", b"", 0xFFFFFFF0)), "ends before its sound"),
        (riff(*[chunk(b"null", b"")] * 5000), "4096 chunks"),
    ],
)
def test_headers_that_lead_nowhere_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        open_audio(io.BytesIO(data))


@pytest.mark.parametrize(
    ("described", "words"),
    [
        (form(rate=0), "0 Hz"),
        (form(rate=3999), "3999 Hz"),
        (form(rate=384_001), "384001 Hz"),
        (form(channels=0), "compressed or unusual|0 channels"),
        (form(channels=9), "9 channels"),
        (form(channels=65535), "channels|unusual"),
        (form(code=2), "compressed or unusual"),
    ],
)
def test_impossible_sounds_are_refused(described: bytes, words: str, tmp_path: Path) -> None:
    data = riff(described, chunk(b"data", SOUND))
    with pytest.raises(InputError, match=words):
        open_audio(io.BytesIO(data))
    path = tmp_path / "impossible.wav"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"impossible\.wav"):
        open_audio(path)


@pytest.mark.parametrize("rate", [4000, 384_000])
@pytest.mark.parametrize("channels", [1, 8])
def test_the_limits_themselves_are_possible(rate: int, channels: int) -> None:
    sound = chunk(b"data", SOUND[:160])
    audio = read_audio(io.BytesIO(riff(form(channels=channels, rate=rate), sound)))
    assert (audio.rate, audio.channels, audio.length) == (rate, channels, 80 // channels)


def test_compressed_wav_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "adpcm.wav"
    sf.write(path, np.sin(np.arange(4000) / 9) / 2, 16000, subtype="MS_ADPCM")
    expected, _ = sf.read(path, dtype="float32")
    np.testing.assert_array_equal(read_audio(path).samples[0], expected)
    with path.open("rb") as pipe, pytest.raises(InputError, match="cannot come from a pipe"):
        open_audio(pipe)


def test_no_mutation_raises_anything_but_our_errors_or_needs_memory(tmp_path: Path) -> None:
    dice = random.Random(1)
    valid = riff(chunk(b"LIST", b"odd") + b"\0", form(), chunk(b"data", SOUND))
    path = tmp_path / "mutant.wav"
    tracemalloc.start()
    try:
        for _ in range(400):
            mutant = bytearray(valid[: dice.choice([len(valid), dice.randrange(len(valid))])])
            for _ in range(dice.randrange(1, 4)):
                place = dice.randrange(12, min(80, len(mutant))) if len(mutant) > 12 else 0
                mutant[place : place + 1] = dice.choice([b"\xff", b"\0", dice.randbytes(1)])
            path.write_bytes(mutant)
            for source in (path, io.BytesIO(mutant)):
                try:
                    audio = read_audio(source)
                    assert audio.samples.size <= len(mutant)
                except AlmError as error:
                    assert str(error)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"fmt ", b"data", b"ds64", b"LIST", b"\0\0\0\0"]),
            st.integers(0, UNKNOWN),
            st.binary(max_size=48),
        ),
        max_size=6,
    ),
    st.sampled_from([b"RIFF", b"RF64"]),
    st.integers(0, UNKNOWN),
)
def test_any_chunks_are_a_sound_or_an_error(
    chunks: list[tuple[bytes, int, bytes]], tag: bytes, size: int
) -> None:
    data = riff(*[chunk(name, body, length) for name, length, body in chunks], size=size, tag=tag)
    try:
        with open_audio(io.BytesIO(data)) as reader:
            for block in reader.blocks(5):
                assert block.shape[0] == reader.channels
    except AlmError as error:
        assert str(error)


@pytest.mark.parametrize("encoding", ["s16le", "s24le", "f32le"])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("frames", [0, 1, 997, None, 1 << 31])
@pytest.mark.parametrize("rf64", [False, True])
def test_our_header_says_what_we_read(
    encoding: str, channels: int, frames: int | None, rf64: bool
) -> None:
    made = RawFormat(encoding, 24000, channels)
    data = wav_header(made, frames, rf64=rf64)
    stream = ByteStream(io.BytesIO(data), "made")
    header = read_wav_header(stream)
    assert (header.encoding, header.rate, header.channels) == (encoding, 24000, channels)
    assert stream.position == len(data)
    fits = frames is not None and (rf64 or not needs_rf64(made, frames))
    assert header.size == (frames * made.frame_bytes if frames and fits else None)
    assert len(data) == len(wav_header(made, 5, rf64=rf64)) or frames is None


def test_probing_reads_the_header_only(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    form_10h = RawFormat("s16le", 24000, 1)
    frames = 10 * 3600 * 24000
    with path.open("wb") as file:
        file.write(wav_header(form_10h, frames))
        file.truncate(44 + 2 * frames)  # a hole on the disk
    info = probe_audio(path)
    assert (info.length, info.seconds, info.bytes) == (frames, 36000.0, 44 + 2 * frames)
    assert (info.rate, info.channels, info.container) == (24000, 1, "wav")
