"""Tokens cut, split and joined without the model that made them.

What comes out is the same frames in another file. A decoder begins afresh with the first of them:
a piece sounds like the recording from which it was cut, but for what the decoder would have kept
in mind from the frames before (causal codecs) or seen of those behind (centred ones), which is a
fraction of a second at either end. Joined pieces decode as the frames in a row, so joining what was
split gives the first file's frames back, sample for sample. Keeping the first codebooks is
`alm_cli.files.tokens.narrow`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite, lcm
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import InputError
from alm_cli.values import Latents, Origin, Tokens

Value = TypeVar("Value", bound=Tokens | Latents)

# Notes that change what a decoder makes of the frames.
_DECODING = ("gain_db", "windowed")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pace:
    """What of a codec's time no file says.

    `group` frames belong together, stand for `samples` and have one row of side information;
    decoded audio lags by `delay` samples.
    """

    group: int = 1
    samples: int | None = None
    delay: int = 0


# Segments of a second overlap in EnCodec 48 kHz, so that their frames stand for less than a hop.
_PACES = {
    "alm-codec": _Pace(delay=720),
    "encodec-48khz": _Pace(group=150, samples=47_520),
}


def cut(value: Value, start_s: float = 0.0, end_s: float | None = None) -> Value:
    """The frames that hold the time from `start_s` to `end_s`, in seconds of the recording.

    Both ends move outwards to where frames can be parted; the length is that of the audio that
    these frames give, which begins at the first of them. InputError: nothing lies there.
    """
    time, most = _Time(value), float("inf") if end_s is None else end_s
    if not 0 <= start_s < most or not isfinite(start_s):
        raise InputError(f"from {start_s:g} s to {most:g} s there is no time")
    first = time.before(start_s)
    last = value.frames if end_s is None else min(value.frames, time.after(end_s))
    if first >= last or not time.length(first, last):
        raise InputError(f"nothing from {start_s:g} s on: {value.origin.seconds:.3f} s are there")
    return time.piece(value, first, last)


def split(value: Value, seconds: float) -> Iterator[Value]:
    """Pieces of `seconds`, or of the nearest length that whole frames have; the last has the rest.

    InputError: it is no length.
    """
    if not 0 < seconds < float("inf"):
        raise InputError(f"pieces of {seconds:g} s")
    time = _Time(value)
    step = time.nearest(seconds)
    first = 0
    while True:
        last = min(first + step, value.frames)
        # What only ends the audio of the frames before it belongs to their piece.
        if not time.length(last, value.frames):
            last = value.frames
        yield time.piece(value, first, last)
        if last == value.frames:
            return
        first = last


def join(values: Sequence[Value]) -> Value:
    """One recording of the frames of all in a row; their notes are those of the first.

    A recording that does not fill its last frame is followed by what the frame holds beyond it,
    less than a frame. InputError: they differ in codec, shape or rates, or cannot be joined.
    """
    first, last, others = values[0], values[-1], values[1:]
    time, before = _Time(first), 0
    for number, value in enumerate(others, 2):
        if differing := _differing(first, value):
            raise InputError(f"recording {number} differs from the first: {', '.join(differing)}")
        _Time(value)
    for number, value in enumerate(values[:-1], 1):
        before += value.frames
        if value.frames % time.unit:
            told = f"recording {number} ends within {time.unit} frames that go together"
            raise InputError(told, hint="only the last one may")
    origin = first.origin
    if others:
        length = time.place(before) + last.origin.source_length
        origin = replace(origin, source_length=length, source_sha256="")
    side = {name: np.concatenate([value.side[name] for value in values]) for name in first.side}
    return _remade(first, np.concatenate([_array(value) for value in values], 2), origin, side)


class _Time:
    """Between the frames of a recording, in units that cannot be parted, and its samples."""

    def __init__(self, value: Tokens | Latents) -> None:
        self._origin, pace = value.origin, _PACES.get(value.origin.codec, _Pace())
        if "windowed" in self._origin.notes:
            raise InputError(
                "codes of overlapping windows can be neither cut nor joined",
                hint="cut the recording and encode it again",
            )
        self.group, self._delay = pace.group, pace.delay
        self.samples = pace.samples or pace.group * self._origin.hop
        self.unit = lcm(pace.group, *self._origin.strides)
        self._frames = value.frames
        rows = -(-value.frames // self.group)
        # Two short stretches at the end may together have as many frames as a whole one.
        most = rows + (self.group > 1 and value.frames % self.group == 0)
        if any(not rows <= len(array) <= most for array in value.side.values()):
            raise InputError(f"side information of {self._origin.codec} for unknown stretches")

    def before(self, seconds: float) -> int:
        """The last frame not after this time at which a unit begins."""
        return self._sample(seconds) // self._unit_samples * self.unit

    def after(self, seconds: float) -> int:
        """The first frame that is not needed for the audio up to this time."""
        return -(-(self._sample(seconds) + self._delay) // self._unit_samples) * self.unit

    def nearest(self, seconds: float) -> int:
        """As many frames as come nearest to this long, at least one unit."""
        return max(1, round(self._sample(seconds) / self._unit_samples)) * self.unit

    def length(self, first: int, last: int) -> int:
        """Samples of the recording that the frames from `first` to `last` give."""
        whole = self._origin.source_length
        end = whole if last >= self._frames else self.place(last, self._delay)
        return max(0, min(end, whole) - self.place(first))

    def piece(self, value: Value, first: int, last: int) -> Value:
        """The frames from `first` to `last` as a recording."""
        all_of_it = (first, last) == (0, value.frames)
        origin = replace(
            value.origin,
            source_length=self.length(first, last),
            source_sha256=value.origin.source_sha256 if all_of_it else "",
        )
        rows = slice(first // self.group, None if last >= self._frames else last // self.group)
        side = {name: array[rows] for name, array in value.side.items()}
        return _remade(value, _array(value)[:, :, first:last], origin, side)

    @property
    def _unit_samples(self) -> int:
        return self.unit // self.group * self.samples

    def _sample(self, seconds: float) -> int:
        """The codec's sample nearest to this time: 0.57 s are sample 9120 of 16000 a second."""
        return round(min(seconds, 1e9) * self._origin.rate)

    def place(self, frame: int, delay: int = 0) -> int:
        """The sample of the recording that a frame begins with, where it begins a group."""
        at_codec = max(0, frame // self.group * self.samples - delay)
        return at_codec * self._origin.source_rate // self._origin.rate


def _differing(one: Tokens | Latents, other: Tokens | Latents) -> list[str]:
    """In what two recordings differ that ought not to where they are joined."""
    fields = ["codec", "weights_sha256", "rate", "hop", "vocabularies", "strides", "channels"]
    fields += ["source_rate", "source_channels"]
    found = [name for name in fields if getattr(one.origin, name) != getattr(other.origin, name)]
    noted = [
        note for note in _DECODING if one.origin.notes.get(note) != other.origin.notes.get(note)
    ]
    if _array(one).shape[:2] != _array(other).shape[:2]:
        found.append("streams or codebooks")
    one_side, other_side = (
        {name: array.shape[1:] for name, array in value.side.items()} for value in (one, other)
    )
    return found + noted + (["side information"] if one_side != other_side else [])


def _array(value: Tokens | Latents) -> NDArray[Any]:
    return value.codes if isinstance(value, Tokens) else value.values


def _remade(
    value: Value, array: NDArray[Any], origin: Origin, side: dict[str, NDArray[np.float32]]
) -> Value:
    kind = type(value)
    return kind(array, origin, side)
