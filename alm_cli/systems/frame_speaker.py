"""Speakers whose models say frame after frame of codes, those of several lines in turn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from alm_cli.systems.past_speech import Codes
from alm_cli.systems.speaker import Line, Spoken
from alm_cli.systems.spoken_codes import Sound, spoken_origin
from alm_cli.values import Tokens

Samples = NDArray[np.float32]
# The number of a line, codes [K, F] of some frames, and their samples.
Said = tuple[int, Codes, Samples]


class FrameSpeaker(ABC):
    """What such speakers share; `sha256` are the digests of the model and of its codec."""

    def __init__(
        self, name: str, codec: Sound, codec_name: str, books: int, sha256: tuple[str, str]
    ) -> None:
        self.name, self.rate = name, codec.rate
        self.weights_sha256, self._codec_sha256 = sha256
        self._sound, self._codec_name, self._books = codec, codec_name, books

    def say(self, lines: Sequence[Line]) -> list[Spoken]:
        """Lines together, as a batch; each sounds as it does alone. InputError: see `Speaker`."""
        said: list[list[Said]] = [[] for _ in lines]
        for one in self._said(lines):
            said[one[0]].append(one)
        return [self._spoken(line, parts) for line, parts in zip(lines, said, strict=True)]

    def stream(self, line: Line) -> Generator[Samples, None, Spoken]:
        """The samples of a line, some frames at a time; together, those of `say`."""
        # What cannot be said is refused at once, not with the first samples.
        return self._streamed(line, self._said([line]))

    @abstractmethod
    def _said(self, lines: Sequence[Line]) -> Iterator[Said]:
        """Some frames of a line at a time, in order; of several lines in turn."""

    @abstractmethod
    def _notes(self, line: Line) -> Mapping[str, str]:
        """What whoever goes on from a line has to know of it."""

    def _streamed(self, line: Line, said: Iterator[Said]) -> Generator[Samples, None, Spoken]:
        parts: list[Said] = []
        for one in said:
            parts.append(one)
            yield one[2]
        return self._spoken(line, parts)

    def _spoken(self, line: Line, said: Sequence[Said]) -> Spoken:
        none = np.zeros((self._books, 0), np.int32)
        codes = np.concatenate([none, *(part for _, part, _ in said)], 1)
        whole = np.concatenate([np.zeros(0, np.float32), *(wave for _, _, wave in said)])
        origin = spoken_origin(
            self._sound,
            self._codec_name,
            self._codec_sha256,
            books=self._books,
            length=len(whole),
            notes=self._notes(line),
        )
        return Spoken(samples=whole, tokens=Tokens(codes[None], origin))
