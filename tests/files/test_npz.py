"""Arrays of others: read without running code, and without unpacking what is too large."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alm_cli.errors import FormatError, InputError
from alm_cli.files.npz import read_npy, read_npz


def test_arrays_by_their_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.arange(3), b=np.ones((2, 2)), c=np.int32(4))
    found = read_npz(tmp_path / "x.npz", ["a", "c", "d"])
    assert set(found) == {"a", "c"}
    assert found["a"].tolist() == [0, 1, 2] and found["c"] == 4
    np.save(tmp_path / "x.npy", np.arange(6).reshape(2, 3))
    assert read_npy(tmp_path / "x.npy").tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\0", b"\x80\x04K\x01."])
def test_garbage_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    for read in (read_npy, lambda path: read_npz(path, ["a"])):
        with pytest.raises(FormatError, match="without running code"):
            read(tmp_path / "x")


def test_what_would_have_to_be_unpickled_is_refused(tmp_path: Path) -> None:
    harmful = np.array([{"a": 1}], object)
    np.save(tmp_path / "x.npy", harmful)
    np.savez(tmp_path / "x.npz", a=harmful)
    with pytest.raises(FormatError):
        read_npy(tmp_path / "x.npy")
    with pytest.raises(FormatError):
        read_npz(tmp_path / "x.npz", ["a"])


def test_what_is_too_large_is_not_unpacked(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(1 << 22))
    assert (tmp_path / "x.npz").stat().st_size < 1 << 20
    with pytest.raises(FormatError, match="holds more than it should"):
        read_npz(tmp_path / "x.npz", ["a"])
    (tmp_path / "x.npy").write_bytes(bytes((1 << 24) + 1))
    with pytest.raises(FormatError, match="larger than"):
        read_npy(tmp_path / "x.npy")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="x.npz: No such file"):
        read_npz(tmp_path / "x.npz", ["a"])
