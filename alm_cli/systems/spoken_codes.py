"""Codes that a language model has written, as tokens of a codec and as sound."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from alm_cli.systems.codec import Codec
from alm_cli.values import Origin, Tokens


def spoken_tokens(codec: Codec, codes: NDArray[np.int64]) -> Tokens:
    """codes [K, F] as tokens of the codec that decodes them."""
    origin = Origin(
        codec=codec.name,
        weights_sha256=codec.weights_sha256,
        rate=codec.rate,
        hop=codec.hop,
        frame_rate=codec.frame_rate,
        vocabularies=codec.vocabularies[: len(codes)],
        channels=1,
        source_rate=codec.rate,
        source_channels=1,
        source_length=codes.shape[1] * codec.hop,
        source_sha256="",
    )
    return Tokens(codes.astype(np.int32)[None], origin)


def sound(codec: Codec, tokens: Tokens) -> Iterator[NDArray[np.float32]]:
    """The samples of a mono codec, block by block, the same for any number of threads.

    Convolutions round otherwise where they are shared among threads, so one does all of it; that
    is little beside what wrote the codes.
    """
    blocks = codec.decoder().push(tokens)
    while True:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            block = next(blocks, None)
        finally:
            torch.set_num_threads(threads)
        if block is None:
            return
        yield np.ascontiguousarray(block[0])


def whole(pieces: Iterator[NDArray[np.float32]]) -> NDArray[np.float32]:
    """All samples."""
    return np.concatenate([np.zeros(0, np.float32), *pieces])
