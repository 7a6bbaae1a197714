"""Beginning later: to the sample, in every format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alm_cli.files.audio import RawFormat, open_audio, open_writer, read_audio


@pytest.mark.parametrize("format", ["wav", "wavf", "flac", "mp3", "ogg", "opus"])
def test_what_is_skipped_is_the_beginning_and_nothing_else(tmp_path: Path, format: str) -> None:
    path = tmp_path / "a"
    noise = np.random.default_rng(0).standard_normal((2, 100_001))
    with open_writer(path, rate=48_000, channels=2, format=format) as writer:
        writer.write(0.1 * noise.astype(np.float32))
    whole = read_audio(path).samples
    length = whole.shape[1]
    for skipped in (0, 1, 4096, 65_537, length - 1, length, length + 7):
        with open_audio(path) as reader:
            reader.skip(skipped)
            found = [whole[:, :0], *reader.blocks(10_000)]
            assert np.array_equal(np.concatenate(found, 1), whole[:, skipped:]), skipped
            assert not reader.truncated
            assert (reader.clipped, reader.nonfinite) == (0, 0)


def test_raw_samples_can_be_skipped_too(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(np.arange(3000, dtype="<i2").tobytes())
    with open_audio(path, raw=RawFormat("s16le", 8000, 1)) as reader:
        reader.skip(1000)
        (block,) = reader.blocks(5000)
    assert np.array_equal(block[0] * 32_768, np.arange(1000, 3000))
