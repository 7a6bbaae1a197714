"""Lists of texts to be spoken: JSON lines, tables, or a text in each line."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alm_cli.errors import AlmError, FormatError, InputError

SUFFIXES = (".jsonl", ".csv", ".tsv", ".txt")
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_LONGEST_LINE = 1 << 22
_LONGEST_NAME = 100


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a record may say besides `id`: its text, by one of these names, and what is asked."""

    text: tuple[str, ...]
    numbers: Mapping[str, Callable[[Any], float]]
    names: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


_DRAWING = {"seed": int, "duration": float, "temperature": float, "top_k": int, "top_p": float}
SPEECH = Form(
    text=("text",), numbers={**_DRAWING, "speed": float, "pause": float}, names=("voice",)
)
MUSIC = Form(
    text=("prompt", "text"),
    numbers={**_DRAWING, "guidance": float},
    names=("melody", "continue"),
    flags=("loop",),
)


@dataclass(frozen=True)
class Record:
    """A text with its ID and what is asked for it alone; or what is wrong with it.

    `number` counts those that are made of one text, from 1.
    """

    id: str
    text: str
    asked: Mapping[str, Any] = field(default_factory=dict)
    problem: AlmError | None = None
    number: int = 1

    @property
    def file_name(self) -> str:
        """The ID as a part of a file's name, which leads nowhere else."""
        return re.sub(r"^\.|[^\w.-]", "_", self.id)[:_LONGEST_NAME] or "_"


def read_text(path: Path) -> str:
    """All of a text file. InputError: it is unreadable or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text, at byte {error.start}") from error


def read_records(path: Path, form: Form = SPEECH) -> list[Record]:
    """The records of a list; a line that makes no sense is one with a problem.

    The keys of JSON lines and the columns of a table (`.csv` with commas, `.tsv` with tabs) are
    those of the form, and `id`; all but the text may be missing, others are ignored. InputError:
    the file is unreadable, has no such suffix, or has no texts at all.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: lists of texts end in {', '.join(SUFFIXES)}")
    text = read_text(path)
    tabular = suffix in (".csv", ".tsv")
    lines = _tabular(text, suffix, path, form) if tabular else _lines(text, suffix, form)
    records = [_record(number, said, form) for number, said in lines]
    if not records:
        raise InputError(f"{path}: there are no texts in it")
    return _distinct(records)


def _lines(text: str, suffix: str, form: Form) -> Iterator[tuple[int, object]]:
    """The number of each line that is not empty, and what it says."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        if suffix == ".txt":
            yield number, {form.text[0]: line.strip()}
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError):
            yield number, FormatError(f"line {number}: not JSON")


def _tabular(text: str, suffix: str, path: Path, form: Form) -> Iterator[tuple[int, object]]:
    """The number of each row, and its cells by the names of the columns."""
    rows = csv.reader(text.splitlines(keepends=True), delimiter="\t" if suffix == ".tsv" else ",")
    try:
        names = [name.strip().lower() for name in next(rows, [])]
        if not set(names) & set(form.text):
            raise InputError(f"{path}: the first line names no column `{form.text[0]}`")
        for cells in rows:
            if len(cells) == len(names):
                yield rows.line_num, dict(zip(names, cells, strict=True))
            elif cells:
                many = f"{len(cells)} columns, not {len(names)}"
                yield rows.line_num, FormatError(f"line {rows.line_num}: {many}")
    except csv.Error as error:
        raise InputError(f"{path}, line {rows.line_num}: {error}") from error


def _record(number: int, said: object, form: Form) -> Record:
    """What a line says; its number is the ID of what has none."""
    id = f"{number:04d}"
    if isinstance(said, AlmError):
        return Record(id, "", problem=said)
    if not isinstance(said, dict):
        return Record(id, "", problem=FormatError(f"line {number}: not a JSON object"))
    given = said.get("id")
    if isinstance(given, str | int) and not isinstance(given, bool) and str(given).strip():
        id = str(given).strip()
    text = next((said[name] for name in form.text if name in said), None)
    try:
        if not isinstance(text, str) or len(text) > _LONGEST_LINE:
            raise FormatError(f"no {form.text[0]}")
        return Record(id, text, _asked(said, form))
    except FormatError as error:
        told = FormatError(f"line {number}: {error.message}")
        return Record(id, text if isinstance(text, str) else "", problem=told)


def _asked(said: Mapping[str, Any], form: Form) -> Mapping[str, Any]:
    asked: dict[str, Any] = {}
    for name, kind in form.numbers.items():
        value = said.get(name)
        if value is None or value == "":
            continue
        try:
            number = kind(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number) or number < 0:
            raise FormatError(f"{name} is {value!r:.40}, not a number from 0")
        asked[name] = number
    for name in form.names:
        value = said.get(name)
        if value not in (None, ""):
            if not isinstance(value, str) or "\0" in value:
                raise FormatError(f"{name} is {value!r:.40}, not a name")
            asked[name] = value
    for name in form.flags:
        value = said.get(name)
        if value not in (None, ""):
            flag = value if isinstance(value, bool) else _FLAGS.get(str(value).lower())
            if flag is None:
                raise FormatError(f"{name} is {value!r:.40}, not true or false")
            asked[name] = flag
    return asked


def _distinct(records: list[Record]) -> list[Record]:
    """The records, those with a problem that would be written where an earlier one is."""
    seen: set[str] = set()
    found: list[Record] = []
    for record in records:
        # Case is folded because some file systems hold a.wav and A.wav to be one file.
        name = record.file_name.casefold()
        if name in seen and record.problem is None:
            problem = InputError(f"the ID {record.id!r} is that of another text, as a file name")
            record = Record(f"{record.id}~{len(found) + 1}", record.text, problem=problem)
        seen.add(name)
        found.append(record)
    return found
