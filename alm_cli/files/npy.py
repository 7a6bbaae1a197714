"""The header of a `.npy` file: as its writers spell it, evaluated by nobody."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from alm_cli.errors import FormatError

NPY_MAGIC = b"\x93NUMPY"
_SPELLED = re.compile(
    rb"\{'descr': '([<>|=]?[a-zA-Z][0-9]{0,3})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:[0-9]{1,18},? ?){0,8})\),? ?\} *\n"
)


class NpyParts(NamedTuple):
    """What a header says, and the bytes behind it; `turned` where the first axis runs fastest."""

    shape: tuple[int, ...]
    turned: bool
    kind: np.dtype[Any]
    body: bytes


def npy_parts(data: bytes) -> NpyParts:
    """A whole `.npy` file in its parts. FormatError: its header is not that of one array."""
    width = {1: 2, 2: 4}.get(data[6] if data.startswith(NPY_MAGIC) and data[7:8] == b"\0" else 0)
    if width is not None:
        begin = 8 + width
        end = begin + int.from_bytes(data[8:begin], "little")
        found = _SPELLED.fullmatch(data, begin, end) if end <= len(data) else None
        if found:
            descr, turned, sizes = found.groups()
            shape = tuple(map(int, re.findall(rb"[0-9]+", sizes)))
            try:
                kind = np.dtype(descr.decode())
            except TypeError:
                pass
            else:
                return NpyParts(shape, turned == b"True", kind, data[end:])
    raise FormatError("not a .npy file of one array", "np.save makes them")
