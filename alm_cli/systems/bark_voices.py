"""Bark's voices: what somebody said before, as the tokens of all three stages.

They are read from `.npz` files as Suno's program writes them, and from the three `.npy` files of
each voice that the hub's repositories have; nothing in them is unpickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import InputError
from alm_cli.files.npz import read_npy, read_npz
from alm_cli.lm.bark import Numbers

RANDOM = "random"
_PARTS = ("semantic_prompt", "coarse_prompt", "fine_prompt")
_FOLDER = "speaker_embeddings"
# A minute; published voices have a few seconds.
_MOST = 60 * 75


@dataclass(frozen=True, eq=False)
class BarkVoice:
    """What was said: semantic tokens [N], coarse codes [2, F] and fine codes [8, H]."""

    semantic: NDArray[np.int64]
    coarse: NDArray[np.int64]
    fine: NDArray[np.int64]


def preset_names(folder: Path) -> tuple[str, ...]:
    """The voices beside the weights, `v2/en_speaker_6`, by their files."""
    root, end = folder / _FOLDER, f"_{_PARTS[0]}.npy"
    found = (path.relative_to(root).as_posix().removesuffix(end) for path in root.rglob(f"*{end}"))
    return tuple(sorted(found))


def preset(folder: Path, name: str, numbers: Numbers) -> BarkVoice:
    """A voice beside the weights. InputError: its files are missing or damaged."""
    place = folder / _FOLDER
    arrays = {part: read_npy(place / f"{name}_{part}.npy") for part in _PARTS}
    return _voice(str(place / name), arrays, numbers)


def read_voice(path: Path, numbers: Numbers) -> BarkVoice:
    """The voice in a `.npz` file. InputError: it is none, or of another model."""
    return _voice(str(path), read_npz(path, _PARTS), numbers)


def _voice(where: str, arrays: dict[str, Any], numbers: Numbers) -> BarkVoice:
    """The arrays as a voice. InputError: what Suno's program would refuse, and what is too long."""
    for name in _PARTS:
        if name not in arrays:
            raise InputError(f"{where}: no {name}", hint="a voice of Bark has all three stages")
    for name, rows, most in (
        (_PARTS[0], (), numbers.semantics),
        (_PARTS[1], (2,), numbers.codes),
        (_PARTS[2], (numbers.books,), numbers.codes),
    ):
        array = arrays[name]
        fits = array.ndim == len(rows) + 1 and array.shape[:-1] == rows
        fits = fits and array.dtype.kind in "iu" and 0 < array.shape[-1] <= _MOST
        if not fits or not 0 <= array.min() <= array.max() < most:
            raise InputError(f"{where}: {name} is not an array of Bark's tokens")
    semantic, coarse, fine = (arrays[name].astype(np.int64) for name in _PARTS)
    if (
        round(coarse.shape[1] / len(semantic), 1) != round(numbers.ratio / 2, 1)
        or len(semantic) < 4
    ):
        raise InputError(
            f"{where}: semantic and coarse tokens are not of the same time",
            hint="take a voice as Bark saved it",
        )
    return BarkVoice(semantic, coarse, fine)
