"""What is known of a codec's codes before any is read: small tables of integers in the package.

Made by `recipes/entropy_priors.py`; docs/token-file.md says how they are used. A file names its
prior by a digest, so a prior that files were written with must stay in the package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import FormatError

Integers = NDArray[np.int64]

FOLDER = Path(__file__).parents[1] / "assets" / "priors"
# Fixed points: vectors are 64ths, matrices 1024ths, biases eighths of an octave.
_VECTOR, _MATRIX, _BIAS = 6, 10, 13


@dataclass(frozen=True, eq=False)
class Prior:
    """Log-bilinear scores: own biases `bias` [K, V], and vectors [K, V, D] times what is asked.

    What is asked is a linear function of three sums of C numbers: what the codes of the two frames
    before `told` [K, V, C], and what those before in this frame have `shown` [K, V, C].
    """

    digest: str
    bias: Integers
    vectors: Integers
    told: Integers
    shown: Integers
    past: Integers  # [K, D, 2 C]
    now: Integers  # [K, D, C]
    always: Integers  # [K, D]
    nothing: Integers  # [C]

    @property
    def codebooks(self) -> int:
        return int(self.bias.shape[0])

    @property
    def vocabulary(self) -> int:
        return int(self.bias.shape[1])

    def suits(self, vocabularies: tuple[int, ...]) -> bool:
        """Whether codes of these codebooks are those that it knows, or the first of them."""
        return vocabularies == (self.vocabulary,) * min(len(vocabularies), self.codebooks)

    def asked_by(self, one: Integers, two: Integers) -> Integers:
        """Sums of one and two frames ago [C] -> their part in what is asked [K, D]."""
        return self.past @ np.concatenate([one, two]) + self.always

    def scores(self, book: int, asked: Integers, shown: Integers) -> Integers:
        """What is asked by past frames [K, D], and shown in this one [C] -> scores [V]."""
        return self.vectors[book] @ (asked[book] + self.now[book] @ shown >> _MATRIX)


@lru_cache(maxsize=8)
def _loaded(path: Path) -> Prior:
    data = path.read_bytes()
    with np.load(BytesIO(data), allow_pickle=False) as stored:
        tables = {name: stored[name].astype(np.int64) for name in stored.files}
    return prior_of(tables, hashlib.sha256(data).hexdigest())


def prior_of(tables: Mapping[str, Integers], digest: str) -> Prior:
    """The published tables, made ready."""
    vectors, heard = tables["vector"], tables["heard"].swapaxes(1, 2)
    size = tables["told"].shape[2]
    return Prior(
        digest=digest,
        bias=tables["bias"] << _BIAS,
        vectors=vectors,
        told=vectors @ tables["told"] >> _VECTOR,
        shown=vectors @ tables["shown"] >> _VECTOR,
        past=heard[:, :, : 2 * size].copy(),
        now=heard[:, :, 2 * size :].copy(),
        always=tables["always"] << _MATRIX,
        nothing=np.zeros(size, np.int64),
    )


def prior_for(codec: str, vocabularies: tuple[int, ...]) -> Prior | None:
    """The prior that the package has for codes of this codec, if any."""
    path = FOLDER / f"{codec}.npz"
    if not _plain(codec) or not path.is_file():
        return None
    prior = _loaded(path)
    return prior if prior.suits(vocabularies) else None


def prior_named(digest: str) -> Prior:
    """The prior of a file. FormatError: the package lacks it."""
    for path in sorted(FOLDER.glob("*.npz")):
        if _loaded(path).digest == digest:
            return _loaded(path)
    hint = "update alm (pip install --upgrade alm-cli)"
    raise FormatError(
        f"entropy-coded with a prior that this program lacks ({digest[:12]}...)", hint
    )


def _plain(codec: str) -> bool:
    return codec.replace("-", "").replace("_", "").isalnum()
