"""Token files of other programs: EnCodec's `.ecdc` and DAC's `.dac`, read without running anything.

Neither says which weights made it, so the digest of the tokens is unknown (empty).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import FormatError
from alm_cli.files.npy import npy_parts
from alm_cli.files.packing import packed_bytes, unpack
from alm_cli.files.pickled import plain_values
from alm_cli.values import Origin, Tokens

ECDC_MAGIC = b"ECDC"
_ENTRIES = 1024
_HEADER_LIMIT = 65_536
# Lengths beyond this are lies; below it all that is computed is exact.
_LONGEST = 1 << 40
_DAMAGED = "the file is damaged or incomplete"
# The loudness that DAC's program gives recordings before it encodes them; files do not repeat it.
_DAC_LUFS = -16.0


@dataclass(frozen=True, kw_only=True)
class _Model:
    """What a file takes for granted of the model that made it; EnCodec's are called `known_as`.

    EnCodec's segments begin every `stride` samples and are `segment` long. DAC's windows lose
    `lost_frames` on the way to codes and `lost` samples on the way to audio.
    """

    codec: str
    rate: int
    codebooks: int
    hop: int = 320
    channels: int = 1
    known_as: str = ""
    segment: int = 0
    stride: int = 0
    lost_frames: int = 0
    lost: int = 0


_ENCODECS = (
    _Model(codec="encodec-24khz", known_as="encodec_24khz", rate=24_000, codebooks=32),
    _Model(
        codec="encodec-48khz",
        known_as="encodec_48khz",
        rate=48_000,
        channels=2,
        codebooks=16,
        segment=48_000,
        stride=47_520,
    ),
)
_DACS = (
    _Model(codec="dac-44khz", rate=44_100, codebooks=9, hop=512, lost_frames=15, lost=16_022),
    _Model(codec="dac-24khz", rate=24_000, codebooks=32, lost_frames=16, lost=10_654),
    _Model(codec="dac-16khz", rate=16_000, codebooks=12, lost_frames=16, lost=10_654),
)
DAC_CODECS = tuple(model.codec for model in _DACS)


def read_ecdc(data: bytes) -> Tokens:
    """The tokens of a whole `.ecdc` file. FormatError: it is damaged, or coded with a network.

    EnCodec's entropy coder takes its chances from a network in floating point, which another
    machine computes otherwise: such files cannot be read reliably anywhere, and here not at all.
    """
    magic, version, size = struct.unpack_from("!4sBI", data.ljust(9, b"\0"))
    if magic != ECDC_MAGIC or version or size > min(_HEADER_LIMIT, len(data) - 9):
        raise FormatError("not an .ecdc file of version 0", _DAMAGED)
    model, length, codebooks = _ecdc_header(data[9 : 9 + size])
    body, sizes = memoryview(data)[9 + size :], (_ENTRIES,) * codebooks
    scaled = 4 if model.segment else 0
    # What the header claims is compared with what is there before anything is made of it.
    parts = list(_segments(model, length, most=len(body) + 1))
    needed = sum(scaled + packed_bytes(sizes, frames) for frames in parts)
    if needed != len(body):
        raise FormatError(f"{len(body)} bytes of codes where there should be {needed}", _DAMAGED)
    codes = np.empty((1, codebooks, sum(parts)), np.int32)
    scales: list[float] = []
    frame = 0
    for frames in parts:
        scales += struct.unpack_from("!f", body) if scaled else ()
        end = scaled + packed_bytes(sizes, frames)
        # The codes of a frame stand together, so all of them are one row to our packing.
        row = np.empty((1, frames * codebooks), np.int32)
        unpack(body[scaled:end], (_ENTRIES,), row)
        codes[0, :, frame : frame + frames] = row.reshape(frames, codebooks).T
        body, frame = body[end:], frame + frames
    scale = np.array(scales, np.float32)[:, None]
    if not np.isfinite(scale).all():
        raise FormatError("a loudness that is not a number", _DAMAGED)
    origin = _origin(model, codebooks, model.rate, model.channels, length, {})
    return Tokens(codes, origin, {"scale": scale} if scaled else {})


def _ecdc_header(text: bytes) -> tuple[_Model, int, int]:
    """The model, the samples and the codebooks of a file."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    match header:
        case {"m": str(), "al": int(), "nc": int(), "lm": True}:
            hint = "decode it with encodec, and encode the audio again"
            raise FormatError("coded with EnCodec's language model (its option --lm)", hint)
        case {"m": name, "al": int(length), "nc": int(codebooks), "lm": False}:
            for model in _ENCODECS:
                fits = 0 < length < _LONGEST and 1 <= codebooks <= model.codebooks
                if model.known_as == name and fits:
                    return model, length, codebooks
    raise FormatError(f"an .ecdc header that says {text[:80]!r}", _DAMAGED)


def _segments(model: _Model, length: int, most: int) -> Iterator[int]:
    """The frames of each segment, of `most` segments at most."""
    stride, segment = model.stride or length, model.segment or length
    for begin in islice(range(0, length, stride), most):
        yield -(-min(length - begin, segment) // model.hop)


def read_dac(data: bytes, codec: str | None = None) -> Tokens:
    """The tokens of a whole `.dac` file, whose pickle is read and never run (`pickled`).

    The file does not name its model: of those that could have made so many frames of the recording
    it must be the only one, or `codec`. FormatError: it is damaged, or of no known model.
    """
    match plain_values(_npy_object(data)):
        case {"codes": np.ndarray() as codes, "metadata": dict(said)}:
            pass
        case _:
            raise FormatError("not a .dac file (no codes)", _DAMAGED)
    if codes.dtype.kind != "u" or codes.ndim != 3 or not 1 <= codes.shape[1] <= 32:
        raise FormatError("codes of another shape than .dac files have", _DAMAGED)
    if codes.size and int(codes.max()) >= _ENTRIES:
        raise FormatError(f"a code outside 0..{_ENTRIES - 1}", _DAMAGED)
    match said:
        case {
            "dac_version": str(),
            "original_length": int(length),
            "sample_rate": int(rate),
            "channels": int(channels),
            "chunk_length": int(chunk),
            "padding": bool(padded),
        } if 0 < length < _LONGEST and 0 < rate <= 1_000_000 and chunk > 0:
            pass
        case _:
            raise FormatError("metadata that .dac files lack, or none", _DAMAGED)
    if codes.shape[0] != channels:
        raise FormatError(f"{channels} channels, but codes of {codes.shape[0]}", _DAMAGED)
    model = _dac_model(codec, codes, rate, length, None if padded else chunk)
    notes = {"channels": "dual" if channels > 1 else "mono"}
    if not padded:
        notes["windowed"] = repr((chunk + model.lost_frames) * model.hop / model.rate)
    loudness = _number(said.get("input_db"))
    if loudness is not None:
        notes["gain_db"] = repr(_DAC_LUFS - loudness)
    origin = _origin(model, codes.shape[1], rate, channels, length, notes)
    return Tokens(np.ascontiguousarray(codes, np.int32), origin)


def _dac_model(
    codec: str | None, codes: NDArray[Any], rate: int, length: int, chunk: int | None
) -> _Model:
    """The model that makes so many frames of so many samples."""
    _, codebooks, frames = codes.shape
    able = [model for model in _DACS if codec in (None, model.codec)]
    able = [model for model in able if codebooks <= model.codebooks]
    able = [model for model in able if frames in _dac_frames(model, rate, length, chunk)]
    if len(able) == 1:
        return able[0]
    names = " or ".join(model.codec for model in able or _DACS)
    if not able:
        told = f"{frames} frames of {codebooks} codebooks for {length} samples at {rate} Hz"
        raise FormatError(f"{told} come of no known model ({names})", _DAMAGED)
    raise FormatError(f"made by {names}: the file does not say which", "name it with --model")


def _dac_frames(model: _Model, rate: int, length: int, chunk: int | None) -> set[int]:
    """How many frames the recording has; resampling may round its length either way."""
    exact = length * model.rate // rate
    samples = range(max(1, exact - 1), exact + 3)
    if chunk is None:
        return {-(-count // model.hop) for count in samples}
    step = (chunk + model.lost_frames) * model.hop - model.lost
    return {-(-count // step) * chunk for count in samples} if step > 0 else set()


def _npy_object(data: bytes) -> bytes:
    """The pickle inside a `.npy` file of one object."""
    shape, _, kind, body = npy_parts(data)
    if shape != () or not kind.hasobject:
        raise FormatError("not a .dac file (an array of numbers)", "name the codec with --model")
    return body


def _number(value: object) -> float | None:
    """The one finite number that it is, or None."""
    array = np.asarray(value) if isinstance(value, int | float | np.ndarray) else np.zeros(0)
    if array.size != 1 or array.dtype.kind not in "fi" or not np.isfinite(array).all():
        return None
    return float(array.reshape(()))


def _origin(
    model: _Model, codebooks: int, rate: int, channels: int, length: int, notes: dict[str, str]
) -> Origin:
    return Origin(
        codec=model.codec,
        weights_sha256="",
        rate=model.rate,
        hop=model.hop,
        frame_rate=model.rate / model.hop,
        vocabularies=(_ENTRIES,) * codebooks,
        channels=model.channels,
        source_rate=rate,
        source_channels=channels,
        source_length=length,
        source_sha256="",
        notes=notes,
    )
