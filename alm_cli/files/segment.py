"""What one segment of a token file means: container fields and tensors, both directions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from alm_cli import __version__
from alm_cli.errors import FormatError, InputError
from alm_cli.files.container import HEADER_LIMIT, Entry, Header, build, parse
from alm_cli.files.digits import few_enough
from alm_cli.files.entropy import MOST_PER_BYTE, squeeze
from alm_cli.files.packing import pack as pack_bits
from alm_cli.files.packing import packed_bytes
from alm_cli.files.priors import prior_for
from alm_cli.values import Latents, Origin, Tokens

Pack = Literal["bits", "entropy"]

LARGEST_VOCABULARY, LARGEST_STRIDE = 1 << 24, 64
FLOATS: Mapping[str, np.dtype[np.floating]] = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4")}
_MOST = 10**15 - 1
_DIGEST = "([0-9a-f]{64})?"
_SIDE = "side."
_NOTE = "note."
_PAYLOADS = {"tokens": "codes", "latents": "latents"}


@dataclass(frozen=True, slots=True)
class Segment:
    """A checked header in our terms; `rows` are the codebooks or dimensions of each stream.

    `prior` is the digest of what entropy-coded codes were expected by, or empty.
    """

    kind: str
    origin: Origin
    program: str
    streams: int
    rows: int
    frames: int
    payload: Entry
    sides: Mapping[str, Entry]
    pack: Pack = "bits"
    prior: str = ""

    def kinship(self) -> object:
        """What all segments of one stream have in common."""
        blank = {"source_length": 0, "source_sha256": "", "segment": 0, "final": True, "notes": {}}
        shapes = {name: entry.shape[1:] for name, entry in self.sides.items()}
        origin = replace(self.origin, **blank)  # type: ignore[arg-type]
        return self.kind, self.streams, self.rows, self.payload.dtype, origin, shapes


def describe(header: Header) -> Segment:
    """A header in our terms. FormatError: a field is missing, impossible or contradicted."""
    fields = header.metadata
    kind = fields.get("kind", "")
    if kind not in _PAYLOADS:
        raise FormatError(f"neither tokens nor latents, but {kind[:80]!r}")
    entries = dict(header.entries)
    payload = entries.pop(_PAYLOADS[kind], None)
    if payload is None:
        raise FormatError(f"no tensor {_PAYLOADS[kind]!r}")
    segment = Segment(
        kind=kind,
        origin=_origin(fields),
        program=_matching(fields, "program", ".{1,200}"),
        streams=_whole(fields, "streams", 1, 64),
        rows=0,
        frames=_whole(fields, "frames"),
        payload=payload,
        sides={_side_name(name, entry): entry for name, entry in entries.items()},
    )
    if fields["alm_format"] != "1":
        segment = _of_format_2(segment, fields)
    rows = _rows(segment)
    if not rows:
        raise FormatError(f"a tensor {_PAYLOADS[kind]!r} that contradicts the metadata")
    return replace(segment, rows=rows)


def _of_format_2(segment: Segment, fields: Mapping[str, str]) -> Segment:
    """What format 1 does not know: codebooks with strides, and entropy-coded codes."""
    if segment.kind != "tokens":
        raise FormatError(f"{segment.kind} in format {fields['alm_format']}, which is for tokens")
    strides = _strides(fields, len(segment.origin.vocabularies))
    # Only so do the codes of all segments together repeat as each segment's do.
    if not segment.origin.final and any(segment.frames % stride for stride in strides):
        raise FormatError("a segment that ends within the frames of one code")
    return replace(
        segment,
        origin=replace(segment.origin, strides=strides if max(strides, default=1) > 1 else ()),
        pack="entropy" if _matching(fields, "packing", "bits|entropy") == "entropy" else "bits",
        prior=_matching(fields, "prior", _DIGEST),
    )


def _rows(segment: Segment) -> int:
    """Codebooks or dimensions, or 0 where the tensor is not as large as it must be."""
    origin, payload = segment.origin, segment.payload
    if segment.kind == "latents":
        rows = payload.shape[1] if len(payload.shape) == 3 else 0
        fits = payload.shape == (segment.streams, rows, segment.frames) and rows <= 65_536
        return rows if fits and payload.dtype in FLOATS and not origin.vocabularies else 0
    books, size = len(origin.vocabularies), payload.end - payload.begin
    if payload.dtype != "U8" or len(payload.shape) != 1:
        return 0
    numbers = segment.streams * books * segment.frames
    if segment.pack == "entropy":
        fits = few_enough(origin.vocabularies)
    else:
        fits = size == packed_bytes(
            origin.vocabularies, segment.frames, origin.strides, segment.streams
        )
    return books if fits and numbers <= MOST_PER_BYTE * size else 0


def pieces(value: Tokens | Latents, pack: Pack = "bits") -> list[bytes]:
    """One segment as header and blocks of data. InputError: the format cannot hold this value.

    Codes are packed in bits also where entropy coding would not make them smaller.
    """
    tensors: dict[str, tuple[Entry, bytes]] = {}
    end = 0
    for name, dtype, shape, block in _sides(value):
        start, end = end, end + len(block)
        tensors[name] = Entry(dtype, shape, start, end), block
    # The codes come last, so that a part of a file has whole books.
    if isinstance(value, Latents):
        dtype, block = _floats(value)
        tensors["latents"] = Entry(dtype, value.values.shape, end, end + len(block)), block
        made = build(_metadata(value, {}), tensors)
    else:
        block, packing = _packed(value, pack)
        tensors["codes"] = Entry("U8", (len(block),), end, end + len(block)), block
        made = build(_metadata(value, packing), tensors)
    if len(made[0]) > HEADER_LIMIT:
        raise InputError(f"notes too long: a header has at most {HEADER_LIMIT} bytes")
    try:
        # What passes the reader's own checks can be read again.
        describe(parse(made[0]))
    except FormatError as error:
        raise InputError(f"tokens that cannot be stored: {error.message}") from None
    return made


def _origin(fields: Mapping[str, str]) -> Origin:
    return Origin(
        codec=_matching(fields, "codec", ".{1,200}"),
        weights_sha256=_matching(fields, "weights_sha256", _DIGEST),
        rate=_whole(fields, "rate", 1, 1_000_000),
        hop=_whole(fields, "hop", 1, 1_000_000),
        frame_rate=_frame_rate(fields),
        vocabularies=_vocabularies(fields),
        channels=_whole(fields, "channels", 1, 64),
        source_rate=_whole(fields, "source_rate", 1, 1_000_000),
        source_channels=_whole(fields, "source_channels", 1, 64),
        source_length=_whole(fields, "source_length"),
        source_sha256=_matching(fields, "source_sha256", _DIGEST),
        segment=_whole(fields, "segment"),
        final=_matching(fields, "final", "true|false") == "true",
        notes={key[len(_NOTE) :]: fields[key] for key in fields if key.startswith(_NOTE)},
    )


def _matching(fields: Mapping[str, str], key: str, pattern: str) -> str:
    text = fields.get(key)
    if text is None:
        raise FormatError(f"no {key} in the metadata")
    if not re.fullmatch(pattern, text):
        raise FormatError(f"an impossible {key}: {text[:80]!r}")
    return text


def _whole(fields: Mapping[str, str], key: str, low: int = 0, high: int = _MOST) -> int:
    number = int(_matching(fields, key, "0|[1-9][0-9]{0,14}"))
    if not low <= number <= high:
        raise FormatError(f"{key} is {number}, not {low} to {high}")
    return number


def _frame_rate(fields: Mapping[str, str]) -> float:
    text = _matching(fields, "frame_rate", r"[0-9]{1,20}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?")
    if not 0 < (frame_rate := float(text)) <= 1e6:
        raise FormatError(f"frame_rate is {text}, not above 0 and at most 1000000")
    return frame_rate


def _vocabularies(fields: Mapping[str, str]) -> tuple[int, ...]:
    codebooks = _whole(fields, "codebooks", 0, 256)
    return _sizes(fields, "vocabularies", codebooks, LARGEST_VOCABULARY)


def _strides(fields: Mapping[str, str], codebooks: int) -> tuple[int, ...]:
    return _sizes(fields, "strides", codebooks, LARGEST_STRIDE)


def _sizes(fields: Mapping[str, str], key: str, codebooks: int, most: int) -> tuple[int, ...]:
    """The text `4096,1024x7` -> eight sizes, as many as there are codebooks."""
    size = "[1-9][0-9]{0,7}(x[1-9][0-9]{0,2})?"
    text = _matching(fields, key, f"({size}(,{size}){{0,255}})?")
    sizes: list[int] = []
    for item in filter(None, text.split(",")):
        one, _, times = item.partition("x")
        sizes += [int(one)] * int(times or 1)
    if len(sizes) != codebooks or max(sizes, default=1) > most:
        raise FormatError(f"{key} {text[:80]!r} for {codebooks} codebooks")
    return tuple(sizes)


def _spelled(sizes: tuple[int, ...]) -> str:
    """Sizes -> the shortest text that `_sizes` reads."""
    runs = ((size, sum(1 for _ in run)) for size, run in groupby(sizes))
    return ",".join(f"{size}x{times}" if times > 1 else f"{size}" for size, times in runs)


def _side_name(name: str, entry: Entry) -> str:
    short = name.removeprefix(_SIDE)
    proper = short != name and re.fullmatch("[a-z][a-z0-9_]{0,63}", short)
    inner = entry.shape[1:]
    sized = 1 <= len(entry.shape) <= 3 and all(1 <= size <= 1 << 20 for size in inner)
    if not proper or not sized or entry.dtype != "F32":
        raise FormatError(f"an unknown or misshapen tensor {name[:80]!r}")
    return short


def _sides(value: Tokens | Latents) -> Iterator[tuple[str, str, tuple[int, ...], bytes]]:
    """Name, dtype, shape and bytes of all side information."""
    for name in sorted(value.side):
        array = np.asarray(value.side[name], "<f4")
        yield f"{_SIDE}{name}", "F32", array.shape, _finite(array)


def _floats(value: Latents) -> tuple[str, bytes]:
    """The type of latents and their bytes."""
    dtype = "F16" if value.values.dtype == np.float16 else "F32"
    return dtype, _finite(np.asarray(value.values, FLOATS[dtype]))


def _packed(value: Tokens, pack: Pack) -> tuple[bytes, dict[str, str]]:
    """The codes as bytes, and what is said of them where that needs format 2."""
    _check(value)
    sizes, strides = value.origin.vocabularies, value.origin.strides
    rows = value.codes.reshape(value.streams * value.codebooks, value.frames)
    block, prior, how = pack_bits(rows, sizes * value.streams, strides * value.streams), "", "bits"
    if pack == "entropy" and few_enough(sizes):
        steps = strides or (1,) * len(sizes)
        known = prior_for(value.origin.codec, sizes) if max(steps) == 1 else None
        squeezed = squeeze(value.codes, sizes, steps, known)
        if len(squeezed) < len(block):
            block, how, prior = squeezed, "entropy", known.digest if known else ""
    if how == "bits" and max(strides, default=1) == 1:
        return block, {}
    spelled = _spelled(strides or (1,) * len(sizes))
    return block, {"strides": spelled, "packing": how, "prior": prior}


def _check(value: Tokens) -> None:
    sizes, strides = value.origin.vocabularies, value.origin.strides
    if value.codes.ndim != 3 or value.codes.dtype.kind not in "iu":
        raise InputError("codes must be whole numbers in the shape [streams, codebooks, frames]")
    if len(sizes) != value.codebooks:
        raise InputError(f"{len(sizes)} vocabularies for {value.codebooks} codebooks")
    if not all(1 <= size <= LARGEST_VOCABULARY for size in sizes):
        raise InputError(f"a vocabulary that is not 1 to {LARGEST_VOCABULARY}")
    if strides and len(strides) != value.codebooks:
        raise InputError(f"{len(strides)} strides for {value.codebooks} codebooks")
    if not all(1 <= stride <= LARGEST_STRIDE for stride in strides):
        raise InputError(f"a stride that is not 1 to {LARGEST_STRIDE}")


def _finite(array: NDArray[np.floating]) -> bytes:
    if not np.isfinite(array).all():
        raise InputError("numbers that are infinite or not numbers cannot be stored")
    return array.tobytes()


def _metadata(value: Tokens | Latents, packing: Mapping[str, str]) -> dict[str, str]:
    origin = value.origin
    kind, shape = (
        ("latents", value.values.shape)
        if isinstance(value, Latents)
        else ("tokens", value.codes.shape)
    )
    if len(shape) != 3:
        raise InputError("latents must have the shape [streams, dimensions, frames]")
    return {
        "alm_format": "2" if packing else "1",
        "kind": kind,
        "codec": origin.codec,
        "weights_sha256": origin.weights_sha256,
        "rate": str(origin.rate),
        "hop": str(origin.hop),
        "frame_rate": repr(float(origin.frame_rate)),
        "codebooks": str(len(origin.vocabularies)),
        "vocabularies": _spelled(origin.vocabularies),
        **packing,
        "streams": str(shape[0]),
        "frames": str(shape[2]),
        "channels": str(origin.channels),
        "source_rate": str(origin.source_rate),
        "source_channels": str(origin.source_channels),
        "source_length": str(origin.source_length),
        "source_sha256": origin.source_sha256,
        "segment": str(origin.segment),
        "final": "true" if origin.final else "false",
        "program": f"alm {__version__}",
        **{f"{_NOTE}{key}": origin.notes[key] for key in sorted(origin.notes)},
    }
