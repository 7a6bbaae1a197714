"""Writing recordings: every format read back, limits, clipping, headers of known length."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from numpy.typing import NDArray

from alm_cli.errors import InputError, UsageError
from alm_cli.files.audio import (
    WRITE_FORMATS,
    RawFormat,
    format_of,
    open_audio,
    open_writer,
    read_audio,
)
from alm_cli.files.pcm import ENCODINGS

LOSSY = ("ogg", "opus", "mp3")


def tones(channels: int, length: int, rate: int) -> NDArray[np.float32]:
    """[C, T]: channel c is a tone of 300 + 200 c hertz, the low-frequency one of 5.1 deeper."""
    times = np.arange(length) / rate
    pitch = [
        300 + 200 * c if (channels, c) not in ((6, 3), (7, 3), (8, 3)) else 50
        for c in range(channels)
    ]
    tone = [np.sin(2 * np.pi * hertz * times) / 3 for hertz in pitch]
    return np.stack(tone).astype(np.float32)


def raw_of(format: str, rate: int, channels: int) -> RawFormat | None:
    """How a raw file is read back."""
    return RawFormat(format, rate, channels) if format in ENCODINGS else None


@pytest.mark.parametrize("format", [name for name in WRITE_FORMATS if name not in LOSSY])
@pytest.mark.parametrize("channels", [1, 2, 3, 8])
def test_what_is_written_is_read(format: str, channels: int, tmp_path: Path) -> None:
    wave = np.random.default_rng(1).uniform(-0.98, 0.98, (channels, 4_001)).astype(np.float32)
    path = tmp_path / f"a{WRITE_FORMATS[format].suffix}"
    with open_writer(path, rate=24_000, channels=channels, format=format) as writer:
        for start in range(0, 4_001, 1_009):
            writer.write(wave[:, start : start + 1_009])
    audio = read_audio(path, raw=raw_of(format, 24_000, channels))
    width = ENCODINGS[WRITE_FORMATS[format].encoding or "s16le"][1]
    steps = 0 if WRITE_FORMATS[format].is_float else 2.0 ** (1 - 8 * width)
    assert (audio.rate, audio.samples.shape) == (24_000, wave.shape)
    assert np.abs(audio.samples - wave).max() <= max(steps / 2, 1e-7 * bool(steps)) * 1.0001
    assert (writer.clipped, writer.nonfinite) == (0, 0)


@pytest.mark.parametrize(
    ("format", "channels"),
    [(name, n) for name in LOSSY for n in range(1, WRITE_FORMATS[name].max_channels + 1)],
)
def test_lossy_formats_keep_length_channels_and_their_order(
    format: str, channels: int, tmp_path: Path
) -> None:
    wave = tones(channels, 24_007, 24_000)
    path = tmp_path / f"a{WRITE_FORMATS[format].suffix}"
    with open_writer(path, rate=24_000, channels=channels) as writer:
        writer.write(wave)
    audio = read_audio(path)
    assert audio.channels == channels
    # FFmpeg loses 24 samples where an Opus packet holds several streams.
    slack = 24 if format == "opus" and channels > 2 else 0
    assert 0 <= 24_007 * audio.rate // 24_000 - audio.length <= slack
    part = audio.samples[:, :: audio.rate // 24_000]
    for spectrum, original in zip(abs(np.fft.rfft(part)), abs(np.fft.rfft(wave)), strict=True):
        assert abs(int(spectrum.argmax()) - int(original.argmax())) <= 3


@pytest.mark.parametrize("format", LOSSY)
def test_lossy_formats_are_close_and_in_time(format: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(2).uniform(-0.5, 0.5, 48_000)
    wave = np.convolve(noise, np.ones(40) / 10, "same")[None].astype(np.float32)
    path = tmp_path / f"a{WRITE_FORMATS[format].suffix}"
    with open_writer(path, rate=48_000, channels=1) as writer:
        writer.write(wave)
    read = read_audio(path).samples[0, 4_000:-4_000]
    assert np.corrcoef(read, wave[0, 4_000:-4_000])[0, 1] > 0.97


@pytest.mark.parametrize("format", WRITE_FORMATS)
def test_blocks_of_any_size_write_the_same(format: str) -> None:
    wave = tones(2, 9_000, 24_000)
    written = []
    for size in (1_000, 9_000):
        target = io.BytesIO()
        with open_writer(target, rate=24_000, channels=2, format=format, length=9_000) as writer:
            for start in range(0, 9_000, size):
                writer.write(wave[:, start : start + size])
        raw = raw_of(format, 24_000, 2)
        written.append(read_audio(io.BytesIO(target.getvalue()), raw=raw).samples)
    np.testing.assert_array_equal(*written)


@pytest.mark.parametrize("format", ["wav", "flac", "s16le", "u8"])
def test_sixteen_bits_survive_reading_and_writing(format: str, tmp_path: Path) -> None:
    bits = 8 if format == "u8" else 16
    steps = np.arange(-(1 << (bits - 1)), 1 << (bits - 1)) / (1 << (bits - 1))
    path = tmp_path / f"a{WRITE_FORMATS[format].suffix}"
    with open_writer(path, rate=16_000, channels=1, format=format) as writer:
        writer.write(steps[None].astype(np.float32))
    audio = read_audio(path, raw=raw_of(format, 16_000, 1))
    np.testing.assert_array_equal(audio.samples[0], steps)


@pytest.mark.parametrize("format", ["wav", "wav24", "flac", "ogg", "mp3", "s16le"])
def test_integers_clip_and_count(format: str, tmp_path: Path) -> None:
    wave = np.array([[0.5, 1.0, -1.0, 1.5, -7.0, np.nan, np.inf]], np.float32)
    path = tmp_path / f"a{WRITE_FORMATS[format].suffix}"
    with open_writer(path, rate=16_000, channels=1, format=format) as writer:
        writer.write(wave)
    assert (writer.clipped, writer.nonfinite) == (2, 2)
    if format not in LOSSY:
        read = read_audio(path, raw=raw_of(format, 16_000, 1)).samples[0]
        np.testing.assert_allclose(read, [0.5, 1, -1, 1, -1, 0, 0], atol=1e-4)


@pytest.mark.parametrize("format", ["wavf", "f32le", "f64be"])
def test_floats_keep_what_is_beyond_full_scale(format: str) -> None:
    target = io.BytesIO()
    with open_writer(target, rate=16_000, channels=1, format=format) as writer:
        writer.write(np.array([[1.5, -2, np.nan]], np.float32))
    assert (writer.clipped, writer.nonfinite) == (0, 1)
    audio = read_audio(io.BytesIO(target.getvalue()), raw=raw_of(format, 16_000, 1))
    assert audio.samples.tolist() == [[1.5, -2, 0]]


@pytest.mark.parametrize("format", ["wav", "wav24", "wavf"])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("length", [0, 1, 997])
@pytest.mark.parametrize("promised", [None, 0, 997])
def test_a_wav_file_has_the_true_length_whatever_was_promised(
    format: str, channels: int, length: int, promised: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    with open_writer(path, rate=24_000, channels=channels, format=format, length=promised) as out:
        out.write(np.zeros((channels, length), np.float32))
    assert path.stat().st_size % 2 == 0
    found = sf.info(path)
    assert (found.frames, found.channels, found.samplerate) == (length, channels, 24_000)
    with open_audio(path) as reader:
        assert (reader.length, reader.truncated) == (length, False)
        assert sum(block.shape[1] for block in reader.blocks(100)) == length


def test_sounds_beyond_four_gigabytes_become_rf64(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    frames = (1 << 32) // 16 + 1_000
    with open_writer(path, rate=48_000, channels=8, length=frames) as writer:
        writer.write(np.full((8, 1_000), 0.5, np.float32))
        writer._sink._frames = frames  # type: ignore[attr-defined]
    with path.open("r+b") as file:
        file.truncate(frames * 16 + 104)  # a hole on the disk instead of the sound
    assert sf.info(path).frames == frames
    with open_audio(path) as reader:
        assert (reader.length, reader.truncated) == (frames, False)
        assert next(reader.blocks(10)).min() == 0.5


def test_the_suffix_decides_and_the_format_overrules(tmp_path: Path) -> None:
    names = {".wav": "wav", ".WAV": "wav", ".flac": "flac", ".oga": "ogg", ".opus": "opus"}
    names |= {".mp3": "mp3", ".raw": "s16le", ".pcm": "s16le", ".f32le": "f32le"}
    for suffix, format in names.items():
        assert format_of(Path(f"a{suffix}")) == format
    path = tmp_path / "a.part"
    with open_writer(path, rate=16_000, channels=1, format="flac") as writer:
        writer.write(np.zeros((1, 5), np.float32))
    assert path.read_bytes()[:4] == b"fLaC"
    with pytest.raises(InputError, match=r"x\.xyz.*\.flac.*\.wav"):
        format_of(Path("x.xyz"))


@pytest.mark.parametrize(
    ("format", "rate", "channels", "words"),
    [
        ("opus", 44_100, 1, "opus cannot have 44100 Hz.*8000, 12000, 16000, 24000, 48000 Hz"),
        ("mp3", 96_000, 1, "mp3 cannot have 96000 Hz.*44100, 48000 Hz"),
        ("mp3", 48_000, 3, "mp3 cannot have 3 channels.*up to 2"),
        ("ogg", 250_000, 1, "ogg cannot have 250000 Hz.*4000 to 192000 Hz"),
        ("flac", 100_003, 1, "flac cannot have 100003 Hz.*multiples of 10"),
        ("wav", 3_999, 1, "3999 Hz"),
        ("wav", 384_001, 1, "384001 Hz"),
        ("wav", 48_000, 9, "9 channels"),
        ("wav", 48_000, 0, "0 channels"),
    ],
)
def test_what_a_format_cannot_carry_is_refused_before_anything_is_written(
    format: str, rate: int, channels: int, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.out"
    with pytest.raises(InputError, match=words):
        open_writer(path, rate=rate, channels=channels, format=format)
    assert not path.exists()


@pytest.mark.parametrize("format", WRITE_FORMATS)
def test_every_rate_that_a_format_promises_can_be_written(format: str, tmp_path: Path) -> None:
    kind = WRITE_FORMATS[format]
    for rate in kind.rates or (4_000, 22_050, 65_535, 88_200, kind.max_rate):
        assert kind.takes(rate)
        path = tmp_path / f"a{kind.suffix}"
        with open_writer(path, rate=rate, channels=1, format=format) as writer:
            writer.write(tones(1, 2_000, rate))
        expected = 48_000 if format == "opus" else rate
        assert read_audio(path, raw=raw_of(format, rate, 1)).rate == expected


def test_an_unknown_format_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'aac'.*wav.*opus"):
        open_writer(io.BytesIO(), rate=16_000, channels=1, format="aac")


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    for place, words in [
        (tmp_path / "absent" / "a.wav", "no such folder"),
        (tmp_path, "folder"),
    ]:
        with pytest.raises(InputError, match=f"{re.escape(str(place))}: .*{words}"):
            open_writer(place, rate=16_000, channels=1, format="wav")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("format", ["wav", "s16le"])
def test_a_full_disk_is_reported(format: str) -> None:
    def fill() -> None:
        with open_writer(Path("/dev/full"), rate=16_000, channels=1, format=format) as writer:
            writer.write(np.zeros((1, 99_999), np.float32))

    with pytest.raises(InputError, match="/dev/full: cannot be written .*space"):
        fill()


def test_an_error_on_the_way_completes_nothing() -> None:
    target = io.BytesIO()

    def interrupted() -> None:
        with open_writer(target, rate=16_000, channels=1, format="flac") as writer:
            writer.write(np.zeros((1, 5), np.float32))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.getvalue() == b""


def test_one_huge_block_is_written_as_many_small_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    with open_writer(path, rate=8_000, channels=1) as writer:
        writer.write(np.zeros((1, 2_000_000), np.float32))
    assert read_audio(path).length == 2_000_000
