"""How many codes are the same in reduced precision as in float32, measured on what is encoded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alm_cli.systems.encode_stream import EncodeAsk, EncodeStream
from alm_cli.values import Tokens

if TYPE_CHECKING:
    from alm_cli.systems.codec import Codec

# So much of the beginning of a recording is encoded again.
SECONDS = 10.0


class Agreement:
    """Listens to the beginning of a recording and encodes it again, both ways.

    `ask` says how; segments make no difference.
    """

    def __init__(self, codec: Codec, rate: int, channels: int, ask: EncodeAsk) -> None:
        self._codec, self._rate, self._channels = codec, rate, channels
        self._ask = replace(ask, segment_frames=None)
        self._heard: list[NDArray[np.float32]] = []
        self._left = round(SECONDS * rate)

    def push(self, samples: NDArray[np.float32]) -> None:
        """samples [C, n], the next of the recording."""
        if self._left:
            self._heard.append(samples[:, : self._left])
            self._left -= self._heard[-1].shape[1]

    def share(self) -> float:
        """Codes of all that are equal, from 0 to 1; of nothing, 1."""
        reduced, exact = self._encoded(self._codec), self._encoded(self._codec.in_float32())
        return float((reduced == exact).mean()) if exact.size else 1.0

    def _encoded(self, codec: Codec) -> NDArray[np.int32]:
        stream = EncodeStream(codec, self._rate, self._channels, self._ask)
        for samples in self._heard:
            stream.push(samples)
        (tokens,) = stream.finish()
        assert isinstance(tokens, Tokens)
        return tokens.codes
