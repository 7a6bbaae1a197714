"""Plain values and numpy arrays out of a pickle, without unpickling it.

A pickle is a program. This one is not run: its instructions are read one by one, and only those
that make plain values are known. Where it asks for a function or a class, four names of numpy are
understood, for each of which something here is done; the names themselves are never looked up.
Anything else is refused. Nothing is imported, and nothing that the file names is called.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import FormatError

# A codec's file has about a hundred; each can make an object that is larger than itself.
_MOST_STEPS = 10_000
_VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
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


def plain_values(data: bytes) -> object:
    """The value of a pickle: None, truths, numbers, texts, bytes, tuples, lists, dicts, arrays.

    FormatError: it is damaged, or holds anything else.
    """
    machine = _Machine()
    try:
        for step, (opcode, given, _) in enumerate(pickletools.genops(data)):
            if step == _MOST_STEPS:
                raise FormatError("a pickle of too many parts")
            if opcode.name == "STOP":
                return machine.result()
            machine.follow(opcode.name, given)
    except (ValueError, IndexError, TypeError, KeyError):
        raise FormatError("a damaged pickle") from None
    raise FormatError("a pickle without an end")


class _Machine:
    """The stack and the memory of a pickle, and the few instructions that are followed."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memory: dict[int, Any] = {}

    def result(self) -> object:
        """The one value that is left."""
        (value,) = self._stack
        return value

    def follow(self, name: str, given: Any) -> None:
        """Do one instruction. FormatError: it is not one of plain values."""
        if name in _VALUES:
            self._stack.append(given)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            self._stack.append(tuple(self._last(_TUPLES[name])))
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memory[len(self._memory) if given is None else given] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memory[given])
        elif name not in ("PROTO", "FRAME"):
            self._build(name, given)

    def _build(self, name: str, given: Any) -> None:
        match name:
            case "MARK":
                self._stack.append(_MARK)
            case "EMPTY_LIST":
                self._stack.append([])
            case "EMPTY_DICT":
                self._stack.append({})
            case "TUPLE":
                self._stack.append(tuple(self._marked()))
            case "APPEND":
                self._extend(self._last(1))
            case "APPENDS":
                self._extend(self._marked())
            case "SETITEM":
                self._set(self._last(2))
            case "SETITEMS":
                self._set(self._marked())
            case "GLOBAL":
                self._stack.append(_name(*given.split(" ")))
            case "STACK_GLOBAL":
                self._stack.append(_name(*self._last(2)))
            case "REDUCE":
                self._stack.append(_made(*self._last(2)))
            case "BUILD":
                target, state = self._last(2)
                self._replace(target, _filled(target, state))
            case _:
                raise FormatError(f"a pickle with the instruction {name}, which plain values lack")

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
        target.extend(values)

    def _set(self, values: list[Any]) -> None:
        target, keys = self._stack[-1], values[::2]
        if type(target) is not dict or not all(type(key) is str for key in keys):
            raise ValueError
        target.update(zip(keys, values[1::2], strict=True))


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
