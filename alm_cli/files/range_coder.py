"""A range coder in whole numbers: shares of an interval become bytes, and bytes shares again."""

from __future__ import annotations

from alm_cli.errors import FormatError

# The interval is kept between these; totals stay below 2^28, so a share is never empty.
_WHOLE, _LEAST = 1 << 64, 1 << 40
_REST = (1 << 48) - 1
LARGEST_TOTAL = 1 << 28


class RangeEncoder:
    """Collects shares; `finish` gives the bytes."""

    def __init__(self) -> None:
        self._low, self._width = 0, _WHOLE
        self._bytes = bytearray()

    def put(self, start: int, share: int, total: int) -> None:
        """Take the part of the interval from `start` to `start + share` of `total`."""
        part = self._width // total
        self._add(start * part)
        self._width = share * part
        while self._width < _LEAST:
            self._bytes += (self._low >> 48).to_bytes(2, "big")
            self._low = (self._low & _REST) << 16
            self._width <<= 16

    def finish(self) -> bytes:
        """The shortest bytes within the interval; zeros follow them without end."""
        for bits in range(64, -1, -8):
            least = -self._low % (1 << bits)
            if least < self._width:
                self._add(least)
                break
        self._bytes += self._low.to_bytes(8, "big")
        return bytes(self._bytes.rstrip(b"\0"))

    def _add(self, amount: int) -> None:
        self._low += amount
        if self._low < _WHOLE:
            return
        self._low -= _WHOLE
        # The carry runs through bytes that are full; there is one that is not, as the sum of all
        # shares is less than the first interval.
        place = len(self._bytes) - 1
        while self._bytes[place] == 255:
            self._bytes[place] = 0
            place -= 1
        self._bytes[place] += 1


class RangeDecoder:
    """Gives the shares back: `find` where the next one lies, then `take` it."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._place = data, 8
        self._value = int.from_bytes(bytes(data[:8]).ljust(8, b"\0"), "big")
        self._width, self._part = _WHOLE, 1

    def find(self, total: int) -> int:
        """A number below `total` that lies in the next share. FormatError: there is none."""
        self._part = self._width // total
        found = self._value // self._part
        if found >= total:
            raise FormatError("entropy-coded codes that no writer makes")
        return found

    def take(self, start: int, share: int) -> None:
        """The share that `find` fell into was `start` to `start + share`."""
        self._value -= start * self._part
        self._width = share * self._part
        while self._width < _LEAST:
            chunk = self._data[self._place : self._place + 2]
            self._place += 2
            self._value = self._value << 16 | int.from_bytes(bytes(chunk).ljust(2, b"\0"), "big")
            self._width <<= 16
