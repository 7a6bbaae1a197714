"""Shards: many recordings' tokens in a tar file, and beside it an index of JSON lines.

A tar, because that is what data sets for training travel in: WebDataset reads `ID.alm` members as
they are (`sample["alm"]`), `tar tf` lists them and `tar xf` gives plain token files, and names stay
with the data when an index is lost. Reading needs no seek; with the index one seek gives any item.
Its price is about 800 bytes an item. Every byte is a function of the items: no times, no owners.
"""

from __future__ import annotations

import io
import json
import tarfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal
from urllib.parse import quote, unquote

from alm_cli.errors import FormatError, InputError

if TYPE_CHECKING:
    from alm_cli.values import Latents, Tokens

# As TOKEN_SUFFIX; but numpy, which comes with it, is not needed to know names.
_MEMBER_SUFFIX = ".alm"
SHARD_SUFFIX, INDEX_SUFFIX = ".tar", ".jsonl"
BLOCK = tarfile.BLOCKSIZE
# Two empty blocks: the end of an archive.
END = bytes(2 * BLOCK)
FAILED = b'"status":"failed"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of an index: what became of an item, and where its token file lies in the shard.

    `offset` and `bytes` are those of the token file, `crc32` is of its bytes, `seconds` the length
    of what was encoded. Where only a part of the recording was asked for, it begins at `start`
    seconds and is `duration` long. A failed item has an `error` and no place.
    """

    id: str
    path: str
    status: Literal["done", "failed"] = "done"
    start: float | None = None
    duration: float | None = None
    offset: int | None = None
    bytes: int | None = None
    crc32: int | None = None
    frames: int | None = None
    seconds: float | None = None
    error: str | None = None

    def line(self) -> str:
        """One line of JSON; what is None is left out."""
        said = {key: value for key, value in asdict(self).items() if value is not None}
        return json.dumps(said, separators=(",", ":")) + "\n"

    @classmethod
    def parse(cls, line: str) -> Row:
        """The row of a line. FormatError: it is not one."""
        try:
            row = cls(**json.loads(line))
        except (TypeError, ValueError, RecursionError):
            raise FormatError("a line that is no row of an index") from None
        places = (row.offset, row.bytes, row.crc32)
        placed = all(type(number) is int and number >= 0 for number in places)
        if type(row.id) is not str or (placed is not (row.status == "done")):
            raise FormatError(f"a row without its place: {row.id!r:.80}")
        return row


def member_name(id: str) -> str:
    """The name of an item in the tar: `ID.alm`.

    Dots are written %2E, for WebDataset ends its keys at the first dot of a name: `a.1` and `a.2`
    would become one sample. So are `%` itself, control characters and slashes at either end.
    """
    inner = id.strip("/")
    before, after = len(id) - len(id.lstrip("/")), len(id) - len(id.rstrip("/"))
    safe = "".join(c if c not in "%.\\" and c.isprintable() else _escaped(c) for c in inner)
    return f"{before * _escaped('/')}{safe}{after * _escaped('/')}{_MEMBER_SUFFIX}"


def member_id(name: str) -> str:
    """The ID of the item with this name in the tar."""
    return unquote(name.removesuffix(_MEMBER_SUFFIX), errors="surrogateescape")


def member_header(id: str, size: int) -> bytes:
    """What stands in the tar before the `size` bytes of an item: POSIX pax, the same every time."""
    info = tarfile.TarInfo(member_name(id))
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)


def padding(size: int) -> bytes:
    """What follows `size` bytes in a tar, up to a whole block."""
    return bytes(-size % BLOCK)


def index_of(shard: Path) -> Path:
    """Where the index of a shard lies."""
    return shard.with_suffix(INDEX_SUFFIX)


def read_index(path: Path) -> Iterator[Row]:
    """The rows of an index, in the order of the items. InputError, FormatError: as for tokens."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield Row.parse(line)
                except FormatError as error:
                    raise FormatError(f"{path}, line {number}: {error.message}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def read_shard(shard: Path | str | BinaryIO) -> Iterator[tuple[str, Tokens | Latents]]:
    """Each item's ID and tokens, in order, from a path or a pipe; no index is needed.

    FormatError: not a shard, or damaged. InputError: it cannot be read.
    """
    given = str(shard) if isinstance(shard, (Path, str)) else getattr(shard, "name", "<stream>")
    try:
        if isinstance(shard, (Path, str)):
            with open(shard, "rb") as file:
                yield from _members(file, given)
        else:
            yield from _members(shard, str(given))
    except tarfile.TarError as error:
        raise FormatError(f"{given}: not a shard, or damaged ({error})") from error
    except OSError as error:
        raise InputError(f"{given}: cannot be read ({error.strerror or error})") from error


def open_shards(place: Path | str | Sequence[Path | str]) -> Shards:
    """The shards of a folder, or those that are named, for reading any item at once."""
    if isinstance(place, (Path, str)):
        folder = Path(place)
        whole = folder.is_dir()
        found = sorted(folder.glob(f"shard-*{SHARD_SUFFIX}")) if whole else [folder]
        # A shard without its index is still being put in place.
        shards = [shard for shard in found if index_of(shard).is_file() or not whole]
    else:
        shards = [Path(name) for name in place]
    if not shards:
        raise InputError(
            f"{place}: no shards in this folder", hint="alm encode --shards makes some"
        )
    return Shards(shards)


class Shards:
    """The finished items of many shards as one sequence: by number, by ID, or in order.

    It holds a hundred bytes and an ID for each, no open file, and can be sent to other processes.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        self.paths = tuple(shards)
        self.ids: list[str] = []
        self._shard, self._offset, self._bytes = array("I"), array("Q"), array("Q")
        self._numbers: dict[str, int] | None = None
        for number, shard in enumerate(self.paths):
            for row in read_index(index_of(shard)):
                if row.status == "done":
                    assert row.offset is not None
                    assert row.bytes is not None
                    self.ids.append(row.id)
                    self._shard.append(number)
                    self._offset.append(row.offset)
                    self._bytes.append(row.bytes)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, item: int | str) -> Tokens | Latents:
        """The tokens of an item by its number or its ID. IndexError, KeyError: there is none."""
        number = range(len(self))[item] if isinstance(item, int) else self._number(item)
        shard = self.paths[self._shard[number]]
        try:
            with shard.open("rb") as file:
                file.seek(self._offset[number])
                data = file.read(self._bytes[number])
        except OSError as error:
            raise InputError(f"{shard}: cannot be read ({error.strerror})") from error
        return _tokens(data, f"{shard}: {self.ids[number]}")

    def __iter__(self) -> Iterator[tuple[str, Tokens | Latents]]:
        for shard in self.paths:
            yield from read_shard(shard)

    def rows(self) -> Iterator[Row]:
        """The rows of all indexes, failed items among them."""
        for shard in self.paths:
            yield from read_index(index_of(shard))

    def _number(self, id: str) -> int:
        if self._numbers is None:
            self._numbers = {name: number for number, name in enumerate(self.ids)}
        return self._numbers[id]


def _members(file: BinaryIO, name: str) -> Iterator[tuple[str, Tokens | Latents]]:
    # "r|" never seeks: what is read is a pipe as well as a file.
    with tarfile.open(fileobj=file, mode="r|", tarinfo=_Member) as tar:
        for member in tar:
            id = member_id(member.name)
            content = tar.extractfile(member) if member.isreg() else None
            if content is None or not member.name.endswith(_MEMBER_SUFFIX):
                raise FormatError(f"{name}: holds {member.name[:80]!r}, which is no token file")
            data = content.read()
            if len(data) < member.size:
                raise FormatError(f"{name}: ends within {id[:80]!r}")
            yield id, _tokens(data, f"{name}: {id}")


class _Member(tarfile.TarInfo):
    """A member of an archive that must go on to its end mark.

    tarfile takes any damaged header, and the end of the file too, for the end of the archive.
    """

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Member:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


class _Named(io.BytesIO):
    """Bytes whose errors say where they come from."""

    name = ""


def _tokens(data: bytes, name: str) -> Tokens | Latents:
    from alm_cli.files.tokens import read_tokens

    stream = _Named(data)
    stream.name = name
    return read_tokens(stream)


def _escaped(character: str) -> str:
    # `quote` leaves dots alone.
    return quote(character, safe="", errors="surrogateescape").replace(".", "%2E")
