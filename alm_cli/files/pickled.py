"""Plain values and numpy arrays out of a pickle, without unpickling it.

A pickle is a program. This one is not run: its instructions are read one by one, and only those
that make plain values are known. Where it asks for a function or a class, four names of numpy are
understood, for each of which something here is done; the names themselves are never looked up.
Anything else is refused. Nothing is imported, and nothing that the file names is called.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import FormatError

# A codec's file has about a hundred; each can make an object that is larger than itself.
_MOST_STEPS = 10_000
# Instructions by their byte: those without an argument, with a number (bytes, signed), with so many
# bytes as a number before them says. A pickle has more, which plain values do not need.
_ALONE = {
    **{b"(": "MARK", b".": "STOP", b"N": "NONE", b"\x88": "NEWTRUE", b"\x89": "NEWFALSE"},
    **{b")": "EMPTY_TUPLE", b"\x85": "TUPLE1", b"\x86": "TUPLE2", b"\x87": "TUPLE3", b"t": "TUPLE"},
    **{b"]": "EMPTY_LIST", b"a": "APPEND", b"e": "APPENDS"},
    **{b"}": "EMPTY_DICT", b"s": "SETITEM", b"u": "SETITEMS"},
    **{b"\x94": "MEMOIZE", b"\x93": "STACK_GLOBAL", b"R": "REDUCE", b"b": "BUILD"},
}
_NUMBERS = {
    **{b"K": ("INT", 1), b"M": ("INT", 2), b"J": ("SIGNED", 4), b"G": ("FLOAT", 8)},
    **{b"q": ("PUT", 1), b"r": ("PUT", 4), b"h": ("GET", 1), b"j": ("GET", 4)},
    **{b"\x80": ("PROTO", 1), b"\x95": ("FRAME", 8)},
}
_COUNTED = {
    **{b"\x8c": ("TEXT", 1), b"X": ("TEXT", 4), b"\x8a": ("LONG", 1)},
    **{b"C": ("BYTES", 1), b"B": ("BYTES", 4), b"\x8e": ("BYTES", 8)},
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MODULES = {"numpy", "numpy.core.multiarray", "numpy._core.multiarray"}
_NAMES = {"ndarray", "dtype", "_reconstruct", "scalar"}
_TYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "O8"}
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """What numpy calls something: a word, nothing else."""

    text: str


@dataclass(frozen=True, eq=False)
class _Type:
    """The type of an array's numbers; at first without its byte order."""

    code: str
    order: str = "<"


@dataclass(frozen=True, eq=False)
class _Array:
    """An array whose contents have not come yet."""


class _Words(tuple[Any, ...]):
    """A tuple with any of these in it, which is no value either."""


def plain_values(data: bytes) -> object:
    """The value of a pickle: None, truths, numbers, texts, bytes, tuples, lists, dicts, arrays.

    FormatError: it is damaged, or holds anything else.
    """
    machine = _Machine()
    try:
        for step, (name, given) in enumerate(_instructions(data)):
            if step == _MOST_STEPS:
                raise FormatError("a pickle of too many parts")
            if name == "STOP":
                return machine.result()
            machine.follow(name, given)
    except (ValueError, IndexError, TypeError, KeyError):
        raise FormatError("a damaged pickle") from None
    raise FormatError("a pickle without an end")


def _instructions(data: bytes) -> Iterator[tuple[str, Any]]:
    """Each instruction with its argument. FormatError: another one. ValueError: it is cut off."""
    place = 0

    def taken(count: int) -> bytes:
        nonlocal place
        if count > len(data) - place:
            raise ValueError
        place += count
        return data[place - count : place]

    while place < len(data):
        byte = taken(1)
        if byte in _ALONE:
            yield _ALONE[byte], None
        elif byte in _NUMBERS:
            name, size = _NUMBERS[byte]
            yield name, taken(size)
        elif byte in _COUNTED:
            name, size = _COUNTED[byte]
            yield name, taken(int.from_bytes(taken(size), "little"))
        elif byte == b"c":
            end = data.index(b"\n", data.index(b"\n", place) + 1) + 1
            yield "GLOBAL", taken(end - place).decode().split("\n")[:2]
        else:
            raise FormatError(f"a pickle with the instruction {byte!r}, which plain values lack")


class _Machine:
    """The stack and the memory of a pickle, and the few instructions that are followed."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memory: dict[int, Any] = {}

    def result(self) -> object:
        """The one value that is left."""
        (value,) = _values(self._stack)
        return value

    def follow(self, name: str, given: Any) -> None:
        """Do one instruction. FormatError: it does not make plain values."""
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            self._stack.append(_tuple(self._last(_TUPLES[name])))
        elif name == "MEMOIZE":
            self._memory[len(self._memory)] = self._stack[-1]
        elif name == "PUT":
            self._memory[int.from_bytes(given, "little")] = self._stack[-1]
        elif name == "GET":
            self._stack.append(self._memory[int.from_bytes(given, "little")])
        elif name not in ("PROTO", "FRAME"):
            self._build(name, given)

    def _build(self, name: str, given: Any) -> None:
        match name:
            case "INT":
                self._stack.append(int.from_bytes(given, "little"))
            case "SIGNED" | "LONG":
                self._stack.append(int.from_bytes(given, "little", signed=True))
            case "FLOAT":
                self._stack.append(struct.unpack(">d", given)[0])
            case "TEXT":
                self._stack.append(given.decode("utf-8", "surrogatepass"))
            case "BYTES":
                self._stack.append(given)
            case "MARK":
                self._stack.append(_MARK)
            case "EMPTY_LIST":
                self._stack.append([])
            case "EMPTY_DICT":
                self._stack.append({})
            case "TUPLE":
                self._stack.append(_tuple(self._marked()))
            case "APPEND":
                self._extend(self._last(1))
            case "APPENDS":
                self._extend(self._marked())
            case "SETITEM":
                self._set(self._last(2))
            case "SETITEMS":
                self._set(self._marked())
            case "GLOBAL":
                self._stack.append(_name(*given))
            case "STACK_GLOBAL":
                self._stack.append(_name(*self._last(2)))
            case "REDUCE":
                self._stack.append(_made(*self._last(2)))
            case "BUILD":
                target, state = self._last(2)
                self._replace(target, _filled(target, state))

    def _last(self, count: int) -> list[Any]:
        start = len(self._stack) - count
        if start < 0 or any(value is _MARK for value in self._stack[start:]):
            raise ValueError
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _marked(self) -> list[Any]:
        place = len(self._stack)
        while self._stack[place - 1] is not _MARK:
            place -= 1
        values = self._stack[place:]
        del self._stack[place - 1 :]
        return values

    def _replace(self, before: object, after: object) -> None:
        self._stack.append(after)
        for key, value in self._memory.items():
            if value is before:
                self._memory[key] = after

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise ValueError
        target.extend(_values(values))

    def _set(self, values: list[Any]) -> None:
        target, keys = self._stack[-1], values[::2]
        if type(target) is not dict or not all(type(key) is str for key in keys):
            raise ValueError
        target.update(zip(keys, _values(values[1::2]), strict=True))


def _is_value(thing: object) -> bool:
    return thing is not _MARK and not isinstance(thing, _Name | _Type | _Array | _Words)


def _values(things: list[Any]) -> list[Any]:
    """The same, if all of them are values."""
    if not all(map(_is_value, things)):
        raise FormatError("a pickle of something that is not a plain value")
    return things


def _tuple(things: list[Any]) -> tuple[Any, ...]:
    return tuple(things) if all(map(_is_value, things)) else _Words(things)


def _name(module: object, name: object) -> _Name:
    if module not in _MODULES or name not in _NAMES:
        told = f"{module}.{name}"[:80]
        raise FormatError(f"a pickle that asks for {told}, which may run anything: refused")
    return _Name(str(name))


def _made(name: object, given: object) -> object:
    """What numpy would make of these words."""
    match name, given:
        case _Name("dtype"), (str(code), *_) if code in _TYPES:
            return _Type(code)
        case _Name("_reconstruct"), (_Name("ndarray"), tuple(), bytes()):
            return _Array()
        case _Name("scalar"), (_Type() as kind, bytes(data)):
            return _numbers(kind, (), data).item()
    raise FormatError("a pickle of something that is not an array")


def _filled(target: object, state: object) -> object:
    """A type with its byte order, or the array; for an array of one object that object."""
    match target, state:
        case _Type(code), (int(), ("<" | ">" | "|") as order, *_):
            return _Type(code, "<" if order == "|" else order)
        case _Array(), (int(), (), _Type("O8"), bool(), [value]):
            return value
        case _Array(), (int(), tuple(shape), _Type() as kind, bool(turned), bytes(data)):
            return _numbers(kind, shape, data, "F" if turned else "C")
    raise FormatError("a pickle of something that is not an array")


def _numbers(
    kind: _Type, shape: tuple[Any, ...], data: bytes, axes: Literal["C", "F"] = "C"
) -> NDArray[Any]:
    plain = all(type(size) is int and size >= 0 for size in shape) and len(shape) <= 8
    if kind.code == "O8" or not plain:
        raise ValueError
    number = np.dtype(f"{kind.order}{kind.code}")
    if prod(shape) * number.itemsize != len(data):
        raise ValueError
    return np.frombuffer(data, number).reshape(shape, order=axes)
