"""One safetensors container per segment: framing, strict checks, a checksum over every byte."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from alm_cli.errors import FormatError

HEADER_LIMIT = 65_536
NEWEST_FORMAT = 2
_BLOCK = 1 << 20
_WIDTHS = {"U8": 1, "F16": 2, "F32": 4}
_MOST_AXES = 4
_BLANK = "0" * 64
_PLAIN = re.compile("[^\x00-\x1f\x7f-\x9f]*")
_FOREIGN = "token files are made by `alm encode`"


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor of the data section: bytes `begin` to `end`, as many as its shape needs."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header: its bytes with their length, and what they say."""

    raw: bytes
    metadata: Mapping[str, str]
    entries: Mapping[str, Entry]

    @property
    def data_bytes(self) -> int:
        return max((entry.end for entry in self.entries.values()), default=0)


def build(metadata: Mapping[str, str], tensors: Mapping[str, tuple[Entry, bytes]]) -> list[bytes]:
    """Metadata and tensors in their order -> the pieces of a segment, whose checksum is set."""
    fields = {**metadata, "checksum": _BLANK}
    table: dict[str, object] = {"__metadata__": fields}
    for name, (entry, _) in tensors.items():
        offsets = [entry.begin, entry.end]
        table[name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": offsets}
    spelled = json.dumps(table, ensure_ascii=False, separators=(",", ":"))
    # Half a surrogate pair is let through here for `parse` to refuse.
    text = spelled.encode("utf-8", "surrogatepass")
    text += b" " * (-len(text) % 8)
    raw = len(text).to_bytes(8, "little") + text
    data = [block for _, block in tensors.values()]
    digest = hashlib.sha256(raw)
    for block in data:
        digest.update(block)
    # Quotes inside a JSON string are escaped, so this is found at the key and nowhere else.
    key = '"checksum":"'
    blank, filled = (f"{key}{digits}".encode() for digits in (_BLANK, digest.hexdigest()))
    return [raw.replace(blank, filled), *data]


class Source:
    """Reads segments from a file or a pipe and believes no length before the bytes are there."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._left = _remaining(stream)

    def header(self) -> Header | None:
        """The next segment's header, or None at the end. FormatError: it is not a valid one."""
        prefix = self._read(8)
        if not prefix:
            return None
        if len(prefix) < 8:
            raise FormatError("ends within the first 8 bytes of a segment")
        size = int.from_bytes(prefix, "little")
        if not 2 <= size <= HEADER_LIMIT:
            raise FormatError("not a token file (a header of impossible length)", _FOREIGN)
        text = self._read(size)
        if text and not text.startswith(b"{"):
            raise FormatError("not a token file (no header)", _FOREIGN)
        if len(text) < size:
            raise FormatError("ends within the header of a segment")
        return parse(bytes(prefix + text))

    def data(self, header: Header) -> memoryview:
        """The data that follow `header`. FormatError: they are cut off or a bit is wrong."""
        self._expect(header.data_bytes)
        data = self._read(header.data_bytes)
        if len(data) < header.data_bytes:
            raise FormatError("ends within the data of a segment")
        digits = header.metadata["checksum"].encode()
        digest = hashlib.sha256(header.raw.replace(digits, _BLANK.encode()))
        digest.update(data)
        if digest.hexdigest().encode() != digits:
            raise FormatError("a segment is corrupted (its checksum differs)")
        return memoryview(data)

    def skip(self, header: Header) -> None:
        """Pass over the data that follow `header`; only for sources of known length."""
        assert self._left is not None
        self._expect(header.data_bytes)
        self._stream.seek(header.data_bytes, 1)
        self._left -= header.data_bytes

    def _expect(self, size: int) -> None:
        if self._left is not None and size > self._left:
            raise FormatError("ends within the data of a segment")

    def _read(self, size: int) -> bytearray:
        """The next `size` bytes, or all that are left: memory grows as they arrive."""
        data = bytearray()
        while len(data) < size:
            block = self._stream.read(min(size - len(data), _BLOCK))
            if not block:
                break
            data += block
        if self._left is not None:
            self._left -= len(data)
        return data


def parse(raw: bytes) -> Header:
    """A header with its length -> its checked contents. FormatError: anything is not as it must."""
    table = _json(raw[8:])
    metadata = table.pop("__metadata__", None)
    if not isinstance(metadata, dict):
        raise FormatError("a safetensors file without metadata, not a token file", _FOREIGN)
    strings = [text for pair in metadata.items() for text in pair]
    if not all(type(text) is str for text in strings):
        raise FormatError("metadata that are not strings")
    version = metadata.get("alm_format", "")
    if not re.fullmatch("[1-9][0-9]{0,8}", version):
        raise FormatError("a safetensors file, but not of tokens (no alm_format)", _FOREIGN)
    if int(version) > NEWEST_FORMAT:
        hint = "update alm (pip install --upgrade alm-cli)"
        known = f"newer than this program's format {NEWEST_FORMAT}"
        raise FormatError(f"made in format {version}, {known}", hint)
    # Control characters would reach the terminal of whoever asks what the file is.
    if not all(_PLAIN.fullmatch(text) for text in strings):
        raise FormatError("control characters in the metadata")
    checksum = metadata.get("checksum", "")
    if not re.fullmatch("[0-9a-f]{64}", checksum) or raw.count(checksum.encode()) != 1:
        raise FormatError("a header without its checksum")
    entries = {name: _entry(name, described) for name, described in table.items()}
    end = 0
    for entry in sorted(entries.values(), key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != end:
            raise FormatError("tensors that overlap or leave gaps")
        end = entry.end
    return Header(raw, metadata, entries)


def _entry(name: str, described: object) -> Entry:
    """{"dtype", "shape", "data_offsets"} -> Entry whose bytes are as many as its shape needs."""
    match described:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end], **rest}:
            numbers = [*shape, begin, end]
            plain = all(type(number) is int and number >= 0 for number in numbers)
            known = dtype in _WIDTHS and len(shape) <= _MOST_AXES and not rest
            if plain and known and math.prod(shape) * _WIDTHS[dtype] == end - begin:
                return Entry(dtype, tuple(shape), begin, end)
    raise FormatError(f"an impossible description of the tensor {name[:80]!r}")


def _json(text: bytes) -> dict[str, object]:
    """One JSON object, spaces after it allowed: no key twice, only whole numbers, valid text."""
    if not text.rstrip(b" ").endswith(b"}"):
        raise FormatError("a header that is not one JSON object")
    try:
        table = json.loads(
            text.decode(),
            object_pairs_hook=_unique,
            parse_float=_refuse,
            parse_constant=_refuse,
        )
        # Escapes can spell half a surrogate pair, which no terminal or file could show.
        json.dumps(table, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise FormatError("a header that is not valid JSON") from None
    assert isinstance(table, dict)
    return table


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key appears twice")
    return table


def _refuse(number: str) -> object:
    raise ValueError(f"{number} is not a whole number")


def _remaining(stream: BinaryIO) -> int | None:
    """Bytes from here to the end, or None for a pipe."""
    try:
        here = stream.tell()
        end = stream.seek(0, 2)
        stream.seek(here)
    except (OSError, ValueError, AttributeError):
        return None
    return end - here
