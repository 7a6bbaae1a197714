"""Codes that a language model has written, as tokens of a codec and as sound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from alm_cli.systems.ahead import one_core_each
from alm_cli.systems.codec import Codec
from alm_cli.values import Origin, Tokens

Notes = Mapping[str, str]


class Sound(Protocol):
    """What tokens tell of their codec."""

    @property
    def rate(self) -> int: ...
    @property
    def hop(self) -> int: ...
    @property
    def vocabularies(self) -> tuple[int, ...]: ...


def spoken_origin(
    codec: Sound, name: str, sha256: str, *, books: int, length: int, notes: Notes | None = None
) -> Origin:
    """Where `length` mono samples come from that nobody has recorded; `sha256` is the codec's."""
    return Origin(
        codec=name,
        weights_sha256=sha256,
        rate=codec.rate,
        hop=codec.hop,
        frame_rate=codec.rate / codec.hop,
        vocabularies=codec.vocabularies[:books],
        channels=1,
        source_rate=codec.rate,
        source_channels=1,
        source_length=length,
        source_sha256="",
        notes=notes or {},
    )


def spoken_tokens(codec: Codec, codes: NDArray[np.int64]) -> Tokens:
    """codes [K, F] as tokens of the codec that decodes them."""
    length = codes.shape[1] * codec.hop
    origin = spoken_origin(codec, codec.name, codec.weights_sha256, books=len(codes), length=length)
    return Tokens(codes.astype(np.int32)[None], origin)


def sound(codec: Codec, tokens: Tokens) -> Iterator[NDArray[np.float32]]:
    """The samples of a mono codec, block by block, the same for any number of threads.

    Convolutions round otherwise where they are shared among threads, so one does all of it; that
    is little beside what wrote the codes.
    """
    with one_core_each():
        for block in codec.decoder().push(tokens):
            yield np.ascontiguousarray(block[0])


def whole(pieces: Iterator[NDArray[np.float32]]) -> NDArray[np.float32]:
    """All samples."""
    return np.concatenate([np.zeros(0, np.float32), *pieces])
