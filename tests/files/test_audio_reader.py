"""Reading recordings: every format, any blocks, what is wrong with a file, and in which words."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from alm_cli.errors import AlmError, InputError
from alm_cli.files.audio import (
    AUDIO_SUFFIXES,
    RawFormat,
    open_audio,
    open_writer,
    probe_audio,
    read_audio,
)

FFMPEG = shutil.which("ffmpeg")
needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="needs ffmpeg to make the file")


def tones(channels: int, length: int, rate: int) -> NDArray[np.float32]:
    """[C, T]: channel c is a tone of 300 + 200 c hertz."""
    times = np.arange(length) / rate
    tone = [np.sin(2 * np.pi * (300 + 200 * c) * times) / 3 for c in range(channels)]
    return np.stack(tone).astype(np.float32)


def order(samples: NDArray[np.float32], rate: int) -> list[int]:
    """Which tone each channel holds."""
    peaks = np.abs(np.fft.rfft(samples)).argmax(axis=1) * rate / samples.shape[1]
    return [round((float(peak) - 300) / 200) for peak in peaks]


def convert(source: Path, target: Path, *options: str) -> Path:
    """`source` as ffmpeg makes it."""
    command = [str(FFMPEG), "-v", "error", "-y", "-i", str(source), *options, str(target)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return target


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two channels of tones, 1.5 s at 44.1 kHz."""
    path = tmp_path_factory.mktemp("audio") / "tones.wav"
    sf.write(path, tones(2, 66_150, 44_100).T, 44_100)
    return path


@needs_ffmpeg
@pytest.mark.parametrize(
    ("suffix", "options", "container", "extra"),
    [
        ("flac", "", "flac", 0),
        ("aiff", "", "aiff", 0),
        ("au", "", "au", 0),
        ("caf", "-c:a pcm_s16le", "caf", 0),
        ("oga", "-c:a flac", "ogg", 0),
        ("m4a", "-c:a alac", "m4a", 0),
        ("mka", "-c:a flac", "matroska", 0),
        ("wv", "", "wv", 0),
        ("tta", "", "tta", 0),
        ("mp3", "", "mp3", 0),
        ("ogg", "-c:a libvorbis", "ogg", 0),
        ("m4a", "-c:a aac", "m4a", 1024),
        ("mp4", "-f lavfi -i testsrc=d=1:s=64x64 -map 1:v -map 0:a -c:a aac", "mp4", 1024),
        ("mkv", "-f lavfi -i testsrc=d=1:s=64x64 -map 1:v -map 0:a -c:a ac3", "matroska", 1536),
        ("aac", "-c:a aac", "aac", 2048),
        ("webm", "-c:a libvorbis", "webm", 1024),
        ("wma", "-c:a wmav2", "asf", 4096),
        ("mp2", "", "mp3", 1152),
    ],
)
def test_every_format_gives_the_tones(
    suffix: str, options: str, container: str, extra: int, wav: Path, tmp_path: Path
) -> None:
    path = convert(wav, tmp_path / f"tones.{suffix}", *options.split())
    info = probe_audio(path)
    audio = read_audio(path)
    assert (info.rate, info.channels, info.container) == (44_100, 2, container)
    assert (audio.rate, order(audio.samples, audio.rate)) == (44_100, [0, 1])
    assert abs(audio.length - 66_150) <= extra
    assert info.length in (None, audio.length)
    assert info.seconds == pytest.approx(1.5, abs=0.1)
    if not extra and suffix not in ("mp3", "ogg"):
        np.testing.assert_array_equal(audio.samples, read_audio(wav).samples)


@needs_ffmpeg
def test_opus_has_its_length_at_48_khz(wav: Path, tmp_path: Path) -> None:
    for suffix in ("opus", "webm"):
        audio = read_audio(convert(wav, tmp_path / f"a.{suffix}", "-c:a", "libopus"))
        assert (audio.rate, order(audio.samples, 48_000)) == (48_000, [0, 1])
        assert abs(audio.length - 72_000) <= 1


@needs_ffmpeg
@pytest.mark.parametrize("channels", [1, 4, 5, 6, 8])
@pytest.mark.parametrize("codec", ["flac", "libvorbis", "pcm_f32le"])
def test_channels_keep_their_order(channels: int, codec: str, tmp_path: Path) -> None:
    source = tmp_path / "many.wav"
    sf.write(source, tones(channels, 24_000, 48_000).T, 48_000)
    audio = read_audio(convert(source, tmp_path / "many.mka", "-c:a", codec))
    assert order(audio.samples, 48_000) == list(range(channels))


def test_one_utterance_in_eleven_formats_has_one_duration(shared: Path) -> None:
    folder = shared / "audio/speech/formats"
    paths = sorted(folder.glob("*.*"))
    assert len(paths) == 11
    reference = read_audio(folder / "audio-mono-16-bit-44100Hz.wav")
    for path in paths:
        audio, info = read_audio(path), probe_audio(path)
        assert (audio.length, info.length, audio.rate) == (121_052, 121_052, 44_100), path
        assert audio.channels == (2 if "stereo" in path.name else 1)
        if audio.channels == 1:  # apart from 8 bits and dither
            np.testing.assert_allclose(audio.samples, reference.samples, atol=0.02)


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".mp3", ".opus", ".wav"])
@pytest.mark.parametrize("wrong", [".wav", ".mp3", ".flac", ".txt", ".m4a", ""])
def test_the_suffix_is_not_believed(suffix: str, wrong: str, tmp_path: Path) -> None:
    right = tmp_path / f"right{suffix}"
    with open_writer(right, rate=48_000, channels=1) as writer:
        writer.write(tones(1, 9_000, 48_000))
    misnamed = right.rename(tmp_path / f"misnamed{wrong}")
    audio = read_audio(misnamed)
    assert (audio.rate, audio.length, order(audio.samples, 48_000)) == (48_000, 9_000, [0])


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_a_pipe_gives_the_samples_of_the_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    with open_writer(path, rate=24_000, channels=2) as writer:
        writer.write(tones(2, 12_347, 24_000))
    with open_audio(path) as file, open_audio(io.BytesIO(path.read_bytes())) as pipe:
        for one, other in zip(file.blocks(1000), pipe.blocks(1000), strict=True):
            np.testing.assert_array_equal(one, other)
        assert file.sha256 == pipe.sha256


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 700), st.integers(1, 3), st.lists(st.integers(1, 800), min_size=2))
def test_blocks_of_any_size_give_the_same_samples(
    length: int, channels: int, sizes: list[int]
) -> None:
    wave = np.random.default_rng(length).uniform(-1, 1, (length, channels)).astype("<f4")
    raw = RawFormat("f32le", 8_000, channels)
    for size in sizes:
        with open_audio(io.BytesIO(wave.tobytes()), raw=raw) as reader:
            blocks = list(reader.blocks(size))
            assert [block.shape for block in blocks[:-1]] == [(channels, size)] * (len(blocks) - 1)
            read = np.concatenate(blocks, axis=1) if blocks else np.zeros((channels, 0))
            np.testing.assert_array_equal(read, wave.T)
            assert reader.sha256 == hashlib.sha256(wave.tobytes()).hexdigest()
            assert all(block.flags.c_contiguous and block.flags.writeable for block in blocks)


def test_block_sizes_may_change_on_the_way() -> None:
    ramp = np.arange(1000, dtype="<i2")
    with open_audio(io.BytesIO(ramp.tobytes()), raw=RawFormat("s16le", 8_000, 1)) as reader:
        parts = [next(reader.blocks(size)) for size in (1, 17, 300)]
        parts.extend(reader.blocks(333))
    assert [part.shape[1] for part in parts] == [1, 17, 300, 333, 333, 16]
    assert (np.concatenate(parts, axis=1)[0] * 32768).tolist() == ramp.tolist()


@pytest.mark.parametrize("length", [0, 1, 2, 17, 1151, 4001, 10_007, 65_537])
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus"])
def test_edge_lengths_are_exact(length: int, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"edge{suffix}"
    with open_writer(path, rate=24_000, channels=1) as writer:
        writer.write(tones(1, length, 24_000))
    audio = read_audio(path)
    # FLAC and Opus without a sample would be files without a header.
    expected = max(length, 1) if suffix in (".flac", ".opus") else length
    assert audio.length * 24_000 == expected * audio.rate


def test_what_is_not_a_number_becomes_silence_and_is_counted() -> None:
    values = [0.5, np.nan, np.inf, -np.inf, 1.5, -2.0, 1.0, -1.0]
    data = np.array(values, "<f4").tobytes()
    with open_audio(io.BytesIO(data), raw=RawFormat("f32le", 16_000, 2)) as reader:
        block = next(reader.blocks(10))
        assert block.T.ravel().tolist() == [0.5, 0, 0, 0, 1.5, -2.0, 1.0, -1.0]
        assert (reader.nonfinite, reader.clipped) == (3, 2)
        mended = np.array([0.5, 0, 0, 0, 1.5, -2, 1, -1], "<f4")
        assert list(reader.blocks(10)) == []
        assert reader.sha256 == hashlib.sha256(mended.tobytes()).hexdigest()


def test_a_raw_stream_that_ends_within_a_sample_says_so() -> None:
    with open_audio(io.BytesIO(bytes(7)), raw=RawFormat("s16le", 16_000, 2)) as reader:
        assert [block.shape for block in reader.blocks(9)] == [(2, 1)]
        assert reader.truncated


def test_a_raw_file_knows_its_length(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(4000))
    with open_audio(path, raw=RawFormat("s16le", 16_000, 2)) as reader:
        assert (reader.length, reader.seconds, reader.container) == (1000, 0.0625, "raw")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (RawFormat("s16le", 0, 1), "sample rate of 0 Hz"),
        (RawFormat("s16le", 16_000, 0), "0 channels"),
        (RawFormat("s16le", 500_000, 1), "4000 to 384000"),
    ],
)
def test_impossible_raw_formats_are_refused(raw: RawFormat, words: str) -> None:
    with pytest.raises(InputError, match=words):
        open_audio(io.BytesIO(bytes(99)), raw=raw)


def test_files_that_are_no_recordings_are_refused_in_useful_words(tmp_path: Path) -> None:
    text, empty, noise, token = (
        tmp_path / f"{name}.wav" for name in ["text", "empty", "noise", "token"]
    )
    text.write_text("Dear reader,\nthis is not a recording.\n" * 50)
    empty.write_bytes(b"")
    noise.write_bytes(np.random.default_rng(0).bytes(5000))
    token.write_bytes(b"\x40\0\0\0\0\0\0\0" + b'{"codes":{}}' + bytes(100))
    cases = [
        (tmp_path / "absent.wav", "absent.wav: there is no such file"),
        (tmp_path, "a folder, not a recording"),
        (text, "text.wav: not a recording.*looks like text"),
        (empty, "empty.wav: empty"),
        (noise, "noise.wav: not a recording"),
        (token, "token.wav.*alm decode"),
        (Path("a\0b.wav"), "cannot be read"),
    ]
    for path, words in cases:
        with pytest.raises(InputError, match=words):
            open_audio(path)
        with pytest.raises(InputError, match=words):
            probe_audio(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    path = tmp_path / "secret.wav"
    path.write_bytes(b"RIFF")
    path.chmod(0)
    with pytest.raises(InputError, match="secret.wav: cannot be read .*[Pp]ermission"):
        open_audio(path)


def test_a_read_that_fails_is_reported_as_such() -> None:
    class Broken(io.RawIOBase):
        def read(self, _: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(InputError, match="Input/output error"):
        open_audio(Broken())  # type: ignore[arg-type]


def test_a_playlist_reaches_no_other_file(tmp_path: Path, wav: Path) -> None:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:9", "#EXTINF:2,", wav.as_uri(), "#EXT-X-ENDLIST"]
    for name, text in [
        ("list.m3u8", "\n".join(lines)),
        ("list.ffconcat", f"ffconcat version 1.0\nfile {wav}\n"),
    ]:
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(InputError, match="not a recording"):
            open_audio(path)


def cut_and_spoil(path: Path) -> tuple[Path, Path]:
    """The first 60 % of a file; the whole with 300 spoilt bytes in the middle."""
    data = path.read_bytes()
    cut, spoilt = path.with_stem("cut"), path.with_stem("spoilt")
    cut.write_bytes(data[: len(data) * 6 // 10])
    middle = len(data) // 2
    junk = np.random.default_rng(3).bytes(300)
    spoilt.write_bytes(data[:middle] + junk + data[middle + 300 :])
    return cut, spoilt


def test_a_damaged_flac_is_named_with_the_place(tmp_path: Path) -> None:
    path = tmp_path / "noise.flac"
    with open_writer(path, rate=16_000, channels=1) as writer:
        writer.write(np.random.default_rng(0).uniform(-0.5, 0.5, (1, 160_000)))
    for broken in cut_and_spoil(path):
        with pytest.raises(InputError, match=rf"{broken.name}: damaged after [3-6]\.\d\d s"):
            read_audio(broken)


def test_mp3_cut_short_is_read_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "noise.mp3"
    with open_writer(path, rate=16_000, channels=1) as writer:
        writer.write(np.random.default_rng(0).uniform(-0.5, 0.5, (1, 160_000)))
    cut, spoilt = cut_and_spoil(path)
    for damaged, complete in ((path, True), (cut, False)):
        with open_audio(damaged) as reader:
            length = sum(block.shape[1] for block in reader.blocks(999))
            assert (length == 160_000, reader.truncated) == (complete, not complete)
    with pytest.raises(InputError, match=r"spoilt.mp3: damaged after \d"):
        read_audio(spoilt)


@needs_ffmpeg
def test_m4a_cut_short_is_read_or_refused_but_never_silently_shorter(
    wav: Path, tmp_path: Path
) -> None:
    fast = convert(wav, tmp_path / "a.m4a", "-c:a", "aac", "-movflags", "faststart")
    cut, spoilt = cut_and_spoil(fast)
    with open_audio(cut) as reader:
        assert 20_000 < sum(block.shape[1] for block in reader.blocks(999)) < 60_000
        assert reader.truncated
    with pytest.raises(InputError, match=r"spoilt.m4a: damaged after \d"):
        read_audio(spoilt)
    with pytest.raises(InputError, match="not a recording"):  # its index stands at the end
        read_audio(cut_and_spoil(convert(wav, tmp_path / "b.m4a", "-c:a", "aac"))[0])


@needs_ffmpeg
def test_flac_of_unknown_length_is_read_to_its_end(wav: Path, tmp_path: Path) -> None:
    command = [str(FFMPEG), "-v", "error", "-i", str(wav), "-f", "flac", "-"]
    path = tmp_path / "piped.flac"
    path.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    np.testing.assert_array_equal(read_audio(path).samples, read_audio(wav).samples)


def test_chained_ogg_is_read_through_all_its_links(tmp_path: Path) -> None:
    path = tmp_path / "link.ogg"
    with open_writer(path, rate=24_000, channels=1) as writer:
        writer.write(tones(1, 48_000, 24_000))
    path.write_bytes(path.read_bytes() * 3)
    # The seams are not cut to the sample.
    assert read_audio(path).length == pytest.approx(3 * 48_000, abs=3 * 1024)


@needs_ffmpeg
def test_a_rate_that_changes_on_the_way_is_an_error(wav: Path, tmp_path: Path) -> None:
    slow = convert(wav, tmp_path / "slow.mp3", "-ar", "22050", "-write_xing", "0")
    fast = convert(wav, tmp_path / "fast.mp3", "-write_xing", "0", "-id3v2_version", "0")
    both = tmp_path / "both.mp3"
    both.write_bytes(slow.read_bytes() + fast.read_bytes())
    with pytest.raises(InputError, match="both.mp3: damaged after"):
        read_audio(both)


@needs_ffmpeg
def test_tags_in_any_character_set_do_no_harm(wav: Path, tmp_path: Path) -> None:
    path = convert(wav, tmp_path / "a.mp3", "-metadata", "title=XXXX", "-id3v2_version", "0")
    path.write_bytes(path.read_bytes() + b"TAG" + b"\xe4\xf6\xfc\xff" * 31 + b"\0")
    assert read_audio(path).length == 66_150


def test_mutants_of_compressed_files_raise_only_our_errors(tmp_path: Path) -> None:
    dice = np.random.default_rng(5)
    for suffix in (".flac", ".ogg", ".opus", ".mp3"):
        path = tmp_path / f"a{suffix}"
        with open_writer(path, rate=16_000, channels=1) as writer:
            writer.write(dice.uniform(-0.5, 0.5, (1, 8_000)).astype(np.float32))
        whole = path.read_bytes()
        for _ in range(12):
            mutant = bytearray(whole)
            for place in dice.integers(0, min(len(mutant), 400), 3):
                mutant[place] = dice.integers(256)
            path.write_bytes(mutant)
            try:
                assert read_audio(path).rate >= 4_000
            except AlmError as error:
                assert path.name in str(error)


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """A fresh interpreter at the root of the repository."""
    command = [sys.executable, "-c", code, *arguments]
    root = Path(__file__).parents[2]
    return subprocess.run(command, capture_output=True, cwd=root, check=False)


def test_nothing_is_said_on_standard_error_about_odd_files(tmp_path: Path) -> None:
    path, impossible = tmp_path / "odd.mp3", tmp_path / "odd.caf"
    with open_writer(path, rate=24_000, channels=1) as writer:
        writer.write(np.random.default_rng(0).uniform(-0.5, 0.5, (1, 24_000)))
    path.write_bytes(b"\0" * 700 + path.read_bytes() + b"junk" * 99)
    # After its description (52 bytes) a chunk so large that no file can have a place behind it.
    sf.write(impossible, np.zeros(99), 16_000)
    data = impossible.read_bytes()
    impossible.write_bytes(data[:52] + b"free\0\xb5" + bytes(6) + data[52:])
    code = (
        "import sys; from pathlib import Path\n"
        "from alm_cli.files.audio import read_audio\n"
        "print([read_audio(Path(path)).length >= 24000 for path in sys.argv[1:]])"
    )
    # Twice, as it is the second exception that makes PyAV speak of the first.
    done = run(code, str(path), str(impossible), str(impossible))
    assert (done.stdout, done.stderr) == (b"[True, False, False]\n", b"")


def test_a_refused_recording_is_not_left_open(tmp_path: Path) -> None:
    path = tmp_path / "slow.aiff"
    sf.write(path, np.zeros(99), 1_000)
    with pytest.raises(InputError, match="1000 Hz"):
        open_audio(path)
    gc.collect()  # a file left open would be a warning here, and so an error


def test_wav_needs_neither_of_the_decoders() -> None:
    code = (
        "import io, sys; from alm_cli.files.audio import open_writer, read_audio\n"
        "with open_writer(io.BytesIO(), rate=8000, channels=1) as writer: pass\n"
        "read_audio(io.BytesIO(writer._sink._target.getvalue()))\n"
        "print(sorted({'av', 'soundfile', 'torch'} & set(sys.modules)))"
    )
    assert run(code).stdout == b"[]\n"


def test_recordings_in_folders_are_known_by_suffix() -> None:
    assert {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".m4a", ".webm"} <= AUDIO_SUFFIXES
    assert not {".ts", ".txt", ".alm", ".raw", ""} & AUDIO_SUFFIXES
