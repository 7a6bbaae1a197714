"""The header of a `.npy` file, believed no further than its bytes go."""

from __future__ import annotations

from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as numpy_format

from alm_cli.errors import FormatError

NPY_MAGIC = numpy_format.MAGIC_PREFIX


class NpyParts(NamedTuple):
    """What a header says, and the bytes behind it; `turned` where the first axis runs fastest."""

    shape: tuple[int, ...]
    turned: bool
    kind: np.dtype[Any]
    body: bytes


def npy_parts(data: bytes) -> NpyParts:
    """A whole `.npy` file in its parts. FormatError: it has no header of version 1 or 2."""
    file = BytesIO(data)
    readers = {
        (1, 0): numpy_format.read_array_header_1_0,
        (2, 0): numpy_format.read_array_header_2_0,
    }
    try:
        shape, turned, kind = readers[numpy_format.read_magic(file)](file)
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise FormatError("not a .npy file of version 1 or 2", "copy it again") from None
    return NpyParts(shape, turned, kind, data[file.tell() :])
