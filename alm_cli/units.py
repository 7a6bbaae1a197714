"""Runs of equal units: counted for language models, and spelt out again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import InputError
from alm_cli.values import Tokens

# Under this name a token file without repetitions says how many frames each unit lasts.
DURATIONS = "durations"


def dedup(units: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """units [F] -> the first of each run [N], and how many frames each run lasts [N]."""
    begins = np.flatnonzero(np.diff(units, prepend=units[:1] - 1))
    durations = np.diff(begins, append=len(units))
    return units[begins], durations.astype(np.int32)


def repeat(units: NDArray[np.int32], durations: NDArray[np.int32]) -> NDArray[np.int32]:
    """units [N] that last so many frames each, durations [N] -> units [F]: undoes `dedup`.

    InputError: they differ in length, or a duration is negative.
    """
    if len(units) != len(durations) or (durations < 0).any():
        raise InputError("durations that do not belong to these units")
    return np.repeat(units, durations)


def dedup_tokens(tokens: Tokens) -> Tokens:
    """One stream of one codebook without repetitions; `side` has the durations [N, 1].

    InputError: there are more of them. Runs end where a segment ends.
    """
    if tokens.streams != 1 or tokens.codebooks != 1:
        found = f"{tokens.streams} streams of {tokens.codebooks} codebooks"
        raise InputError(f"{found} do not repeat together", hint="runs are those of single units")
    units, durations = dedup(tokens.codes[0, 0])
    side = {**tokens.side, DURATIONS: durations[:, None].astype(np.float32)}
    return replace(tokens, codes=units[None, None], side=side)


def repeat_tokens(tokens: Tokens) -> Tokens:
    """A code for every frame again: undoes `dedup_tokens`. InputError: there are no durations."""
    durations = tokens.side.get(DURATIONS)
    if durations is None or durations.shape != (tokens.frames, 1):
        raise InputError("no durations, one for each unit")
    units = repeat(tokens.codes[0, 0], np.rint(durations[:, 0]).astype(np.int32))
    side = {name: values for name, values in tokens.side.items() if name != DURATIONS}
    return replace(tokens, codes=units[None, None], side=side)
