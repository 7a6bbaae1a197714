"""Tokens of any program that is known, told apart by the first bytes of the file."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from alm_cli.errors import FormatError, InputError
from alm_cli.files.exports import from_npy, from_units
from alm_cli.files.imports import DAC_CODECS, ECDC_MAGIC, read_dac, read_ecdc
from alm_cli.files.jsonl import from_jsonl
from alm_cli.files.npy import NPY_MAGIC, npy_parts
from alm_cli.files.tokens import TOKEN_SUFFIX, read_tokens
from alm_cli.values import Latents, Origin, Tokens

FOREIGN_SUFFIXES = (".ecdc", ".dac", ".npy", ".jsonl", ".units")
KNOWN_SUFFIXES = (TOKEN_SUFFIX, *FOREIGN_SUFFIXES)
_UNITS = b"0123456789"


def read_any(source: Path | BinaryIO, name: str, like: Origin | None = None) -> Tokens | Latents:
    """Tokens from a file or a pipe, called `name`, of any kind with one of `KNOWN_SUFFIXES`.

    Codes without their codec become those of `like`. FormatError: it is none of these, or damaged,
    or there is no `like`. InputError: it cannot be read.
    """
    try:
        data = source.read_bytes() if isinstance(source, Path) else source.read()
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or error})") from error
    try:
        return _read(data, like)
    except FormatError as error:
        # Those of token files say their name already.
        told = error.message.removeprefix("<stream>: ")
        hint = error.hint or "the file is damaged: copy it again"
        raise FormatError(f"{name}: {told}", hint) from None


def _read(data: bytes, like: Origin | None) -> Tokens | Latents:
    if data.startswith(ECDC_MAGIC):
        return read_ecdc(data)
    if data.startswith(NPY_MAGIC) and npy_parts(data).kind.hasobject:
        return read_dac(data, like.codec if like and like.codec in DAC_CODECS else None)
    if data[8:9] == b"{" and data[4:8] == bytes(4):
        return read_tokens(BytesIO(data))
    if data.startswith(b"{"):
        return from_jsonl(data)
    if data.startswith(NPY_MAGIC):
        return from_npy(data, _given(like))
    if data[:1] in _UNITS and data[:1]:
        return from_units(data, _given(like))
    hint = f"known are {', '.join(KNOWN_SUFFIXES)}"
    raise FormatError("not a file of tokens" if data else "is empty", hint)


def _given(like: Origin | None) -> Origin:
    if like is None:
        hint = "--model names it, or a token file of it"
        raise FormatError("holds codes, but not of which codec", hint)
    return like
