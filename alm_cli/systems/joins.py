"""Pieces of speech joined: exact pauses, no clicks, and the same whatever chunks they come in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

_FRAME_S = 0.005
# A frame is quiet that is so much weaker than the loudest one so far, or that nobody would hear.
_RATIO, _FLOOR = 0.01, 0.001
# What stays of the quiet on either side of a pause, and is a part of it; fades are within it.
_MARGIN_S, _FADE_S = 0.03, 0.005


class Joiner:
    """Takes pieces one after the other, in chunks of any size, and gives the joined samples [n].

    The quiet at the beginning and end of pieces makes way for the pauses between them, which are
    from the last sample that is not quiet to the first. Nothing of the very first piece's beginning
    and of the last one's end is changed.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._frame = max(1, round(_FRAME_S * rate))
        self._margin, self._fade = round(_MARGIN_S * rate), round(_FADE_S * rate)
        self._peak = 0.0  # of the frames so far, as root mean square
        self._given = 0  # samples that left
        self._first = True
        self._pause: int | None = None  # still to be made, samples
        self._kept = 0  # quiet samples at the end of what left, which belong to it

    @property
    def length(self) -> int:
        """How many samples were given so far."""
        return self._given

    def pause(self, samples: int) -> None:
        """Let a pause precede the next piece, or end the whole; several add up."""
        self._pause = (self._pause or 0) + samples

    def begin(self) -> None:
        """A piece begins; `offset` is where its first sample comes to lie, once it is known."""
        self._begun = self._first and self._pause is None
        self._first = False
        self._held = np.zeros(0, np.float32)
        self._seen = 0  # samples of the held ones that were looked at
        self._loud = 0  # up to where the held ones, without quiet after it, are loud
        self.offset = self._given

    def push(self, samples: Samples) -> Samples:
        """The next samples of the piece -> those that are certain."""
        self._held = np.concatenate([self._held, samples])
        count = (len(self._held) - self._seen) // self._frame
        frames = self._held[self._seen : self._seen + count * self._frame]
        power = np.mean(np.square(frames.reshape(count, self._frame), dtype=np.float64), axis=1)
        peaks = np.maximum.accumulate(np.append(self._peak, np.sqrt(power)))
        self._peak = float(peaks[-1])
        loud = np.flatnonzero(np.sqrt(power) > np.maximum(_FLOOR, _RATIO * peaks[1:]))
        seen, self._seen = self._seen, self._seen + count * self._frame
        if not len(loud):
            return self._out([])
        given = [] if self._begun else [self._onset(seen + int(loud[0]) * self._frame)]
        # The last loud frame itself waits: what follows may be the end.
        first = self._seen - (count - int(loud[-1])) * self._frame
        self._loud = self._frame
        return self._out([*given, self._take(first)])

    def end(self, *, last: bool) -> Samples:
        """The piece ends; the `last` one with all that it has, others where they fall quiet."""
        if not self._begun:
            return self._out([])  # only quiet: the pause goes on
        if last:
            self._kept = 0
            return self._out([self._take(len(self._held))])
        size = min(len(self._held), self._loud + self._margin)
        tail = self._held[:size].copy()
        fade = min(self._fade, size)
        tail[size - fade :] *= _falling(fade)
        self._kept = size - self._loud
        return self._out([tail])

    def finish(self) -> Samples:
        """What is left of a pause at the end."""
        return self._out([self._silence(0)])

    def _onset(self, place: int) -> Samples:
        """The pause and the quiet just before the first loud frame, which is at `place`."""
        head = min(place, self._margin, max(0, (self._pause or 0) - self._kept))
        lead = self._held[place - head : place].copy()
        fade = min(self._fade, head)
        lead[:fade] *= _falling(fade)[::-1]
        silence = self._silence(head)
        self.offset = self._given + len(silence) + head - place
        self._take(place)
        self._begun = True
        return np.concatenate([silence, lead])

    def _silence(self, head: int) -> Samples:
        """What a pause lacks beside the quiet that was kept before it, and `head` after it."""
        lacking = max(0, (self._pause or 0) - self._kept - head)
        self._pause, self._kept = None, 0
        return np.zeros(lacking, np.float32)

    def _take(self, count: int) -> Samples:
        taken, self._held = self._held[:count], self._held[count:]
        self._seen -= count
        return taken

    def _out(self, parts: list[Samples]) -> Samples:
        samples = np.concatenate([np.zeros(0, np.float32), *parts])
        self._given += len(samples)
        return samples


def _falling(count: int) -> Samples:
    """A fade from 1 to 0 over `count` samples."""
    return (0.5 + 0.5 * np.cos(np.pi * (np.arange(count) + 1) / count)).astype(np.float32)
