"""Arrays from `.npz` and `.npy` files of others: nothing is unpickled, nothing large unpacked."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import FormatError, InputError

_MOST_BYTES = 1 << 24


def read_npy(path: Path) -> NDArray[Any]:
    """The array in a `.npy` file. InputError: the file is missing, damaged or too large."""
    found = _opened(path, None)
    assert isinstance(found, np.ndarray)
    return found


def read_npz(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays of these names in a `.npz` file; those that it lacks are left out.

    InputError: the file is missing, damaged or too large.
    """
    found = _opened(path, names)
    assert isinstance(found, dict)
    return found


def _opened(path: Path, names: Sequence[str] | None) -> NDArray[Any] | dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file:
            if path.stat().st_size > _MOST_BYTES:
                raise FormatError(f"{path}: larger than what it should hold")
            if names is None:
                array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
                return array
            # A small file can hold a large array: sizes are looked at before it is unpacked.
            with zipfile.ZipFile(file) as archive:
                sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
            if max(sizes.values(), default=0) > _MOST_BYTES:
                raise FormatError(f"{path}: holds more than it should")
            file.seek(0)
            with np.load(file, allow_pickle=False) as opened:
                return {name: opened[name] for name in names if f"{name}.npy" in sizes}
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or 'cannot be read'}") from error
    # Garbage fails in the readers of two formats in any way that its bytes suggest.
    except Exception as error:
        kind = "array" if names is None else ".npz file of arrays"
        raise FormatError(f"{path}: no {kind} that can be read without running code") from error
