"""Classical codecs on the same recordings: Opus and MP3, of the FFmpeg libraries in PyAV."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from alm_cli.bench.quality import at_rate
from alm_cli.errors import InputError, UsageError
from alm_cli.values import Audio

_KINDS = {"opus": ("libopus", "ogg"), "mp3": ("libmp3lame", "mp3")}
# What the encoders take; others are resampled.
_RATES = {"opus": (8000, 12_000, 16_000, 24_000, 48_000), "mp3": (16_000, 22_050, 24_000, 44_100)}


@dataclass(frozen=True, slots=True)
class Classical:
    """One codec at one bitrate."""

    kind: str
    kbps: float

    @property
    def name(self) -> str:
        return f"{self.kind} {self.kbps:g}"

    @property
    def library(self) -> str:
        """What encodes."""
        return _KINDS[self.kind][0]

    def through(self, audio: Audio) -> tuple[Audio, int]:
        """Mono audio there and back, as long as it was, and the bytes of its packets."""
        rates = _RATES[self.kind]
        rate = next((rate for rate in rates if rate >= audio.rate), rates[-1])
        encoder, container = _KINDS[self.kind]
        box, size = io.BytesIO(), 0
        with av.open(box, "w", format=container) as writer:
            stream = writer.add_stream(encoder, rate=rate, layout="mono")
            assert isinstance(stream, av.AudioStream)
            stream.bit_rate = round(1000 * self.kbps)
            for packet in _packets(stream, at_rate(audio, rate)):
                size += packet.size
                writer.mux(packet)
        box.seek(0)
        with av.open(box, "r") as reader:
            made_rate = reader.streams.audio[0].rate
            blocks = [frame.to_ndarray() for frame in reader.decode(audio=0)]
        made = np.concatenate([block.reshape(1, -1) for block in blocks], axis=1)
        if made.dtype.kind == "i":
            made = made / np.float32(np.iinfo(made.dtype).max + 1)
        decoded = at_rate(Audio(made.astype(np.float32), made_rate), audio.rate).samples
        return Audio(_aligned(audio.samples, decoded), audio.rate), size


def classical(text: str) -> Classical:
    """`opus`, `opus:12` or `mp3:64`, kilobits a second. UsageError: it is neither."""
    kind, _, rate = text.partition(":")
    if kind not in _KINDS or not re.fullmatch(r"(\d+(\.\d+)?)?", rate):
        raise UsageError(f"--against {text!r}", hint="opus:6, opus:12 or mp3:64, in kbps")
    return Classical(kind, float(rate) if rate else {"opus": 12.0, "mp3": 64.0}[kind])


def _packets(stream: av.AudioStream, audio: Audio) -> list[Any]:
    samples = np.rint(audio.samples.clip(-1, 1) * 32767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
    frame.sample_rate = audio.rate
    converter = av.AudioResampler(stream.format, "mono", audio.rate, stream.frame_size or None)
    frames = [*converter.resample(frame), *converter.resample(None)]
    return [packet for one in (*frames, None) for packet in stream.encode(one)]


def _aligned(wanted: np.ndarray, made: np.ndarray) -> np.ndarray:
    """made [1, N] -> [1, T] where it is most like `wanted` [1, T].

    Encoders delay by what containers tell or do not tell: the peak of the correlation decides.
    """
    length = wanted.shape[1]
    if not made.shape[1]:
        raise InputError("the classical codec returned nothing")
    size = 1 << (length + made.shape[1]).bit_length()
    spectra = np.fft.rfft(made[0], size) * np.fft.rfft(wanted[0], size).conj()
    lags = np.fft.irfft(spectra, size)
    most = min(length, 8192)  # more than any delay of these codecs
    near = np.concatenate((lags[-most:], lags[: most + 1]))
    lag = int(near.argmax()) - most if wanted.any() else 0
    shifted = made[:, lag:] if lag >= 0 else np.pad(made, ((0, 0), (-lag, 0)))
    return np.pad(shifted, ((0, 0), (0, max(0, length - shifted.shape[1]))))[:, :length]
