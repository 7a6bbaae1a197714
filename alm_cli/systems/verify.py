"""How far codes can be trusted: what survives decoding, cutting, perturbing, batching, streaming.

The slices and perturbations are those of "Analyzing and Mitigating Inconsistency in Discrete Audio
Tokens for Neural Codec Language Models" (arXiv:2409.19283): the same sound in other surroundings,
or changed by less than anyone hears, should have the same codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import lcm, pi, tan
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alm_cli.errors import InputError, ModelError
from alm_cli.nn.resample import resampled
from alm_cli.runtime import seeded
from alm_cli.systems.codec import Codec, DecodeAsk, noted
from alm_cli.systems.encode_stream import Channels
from alm_cli.systems.margins import Margins, Watch
from alm_cli.units import DURATIONS, repeat_tokens
from alm_cli.values import Audio, Latents, Origin, Tokens

Values = NDArray[Any]  # codes [S, K, F] or features [S, D, F]

SLICES_S = (0.2, 0.6, 1.8)
# At most so many slices of each length, spread over the recording.
_SLICES = 6
# How samples arrive and how long the segments are that they become, in seconds; a push of 997
# samples is in step with nothing.
_STREAMS: tuple[tuple[int | float, float], ...] = ((997, 0.08), (0.02, 0.48), (0.41, 1.0))
_GAIN_DB, _NOISE_DB, _TURN_HZ = -0.1, -60.0, 1000.0
# Features agree where they differ by no more than this part of the largest of them.
_ROUNDING = 1e-5


@dataclass(frozen=True, kw_only=True)
class Measure:
    """The share of equal codes in each codebook, of `frames` compared; or the reason for none.

    `kind` is what a threshold is for: several measures may be of one kind. Features have one share
    in all, of the frames that differ by no more than rounding.
    """

    kind: str
    name: str
    shares: tuple[float, ...] = ()
    frames: int = 0
    reason: str = ""
    first_difference: int | None = None

    @property
    def equal(self) -> float | None:
        """The share of equal codes, all codebooks together."""
        return sum(self.shares) / len(self.shares) if self.shares else None


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was measured on one recording or token file; `facts` say what else was found."""

    codec: str
    seconds: float
    frames: int
    codebooks: int
    measures: tuple[Measure, ...]
    margins: Margins | None = None
    margins_reason: str = ""
    facts: tuple[tuple[str, str], ...] = ()


def expected(codec: Codec) -> dict[str, float]:
    """What may be demanded without asking: in full precision on a processor codes are exact."""
    exact = codec.device.type == "cpu" and codec.dtype is torch.float32
    return dict.fromkeys(("batch", "stream", "source"), 1.0) if exact else {}


def verify_audio(
    codec: Codec,
    audio: Audio,
    *,
    codebooks: int | None = None,
    windowed: float | None = None,
    elsewhere: Codec | None = None,
) -> Verification:
    """Measure a codec on a recording; `elsewhere` is the same codec on another device.

    Raises InputError for a recording without samples, ModelError for what only decodes.
    """
    trial = Trial(codec, audio, codebooks, windowed)
    measures = (
        trial.idempotence(),
        *trial.slices(),
        *trial.perturbations(),
        trial.batch(),
        trial.stream(),
        trial.device(elsewhere),
    )
    return Verification(
        codec=codec.name,
        seconds=audio.seconds,
        frames=trial.codes.shape[2],
        codebooks=trial.codebooks,
        measures=measures,
        margins=trial.margins,
        margins_reason="" if trial.margins else trial.margins_reason,
    )


def verify_tokens(
    codec: Codec, tokens: Tokens | Latents, source: Audio | None = None
) -> Verification:
    """Decode stored tokens and encode them again; encode `source` and compare, if it is given.

    Raises ModelError where other weights made the tokens, InputError where they are damaged.
    """
    origin, weights = tokens.origin, "the same"
    if codec.weights_sha256 and not origin.weights_sha256:
        # So it is with tokens that were imported from another program.
        weights, origin = "unknown", replace(origin, weights_sha256=codec.weights_sha256)
        tokens = replace(tokens, origin=origin)
    if isinstance(tokens, Tokens):
        tokens = repeat_tokens(tokens) if DURATIONS in tokens.side else tokens
        codec.check(tokens, DecodeAsk())
    elif (origin.codec, origin.weights_sha256) != (codec.name, codec.weights_sha256):
        raise ModelError(f"these features were made by other weights or by {origin.codec}")
    measures, facts = [_again(codec, tokens)], [("checksum", "right"), ("weights", weights)]
    if source is not None:
        found, measure = _anew(codec, tokens, source)
        measures.append(measure)
        if origin.source_sha256:
            same = found.source_sha256 == origin.source_sha256
            facts.append(("source", "the same samples" if same else "other samples"))
    return Verification(
        codec=codec.name,
        seconds=origin.seconds,
        frames=tokens.frames,
        codebooks=tokens.codebooks,
        measures=tuple(measures),
        facts=tuple(facts),
    )


class Trial:
    """A recording at the codec's rate and its codes, with which everything else is compared."""

    def __init__(
        self, codec: Codec, audio: Audio, codebooks: int | None, windowed: float | None
    ) -> None:
        if not hasattr(codec.model, "encode"):
            raise ModelError(f"{codec.name} cannot encode", hint="it only decodes")
        if not audio.length:
            raise InputError("holds no audio")
        self._codec, self._model = codec, codec.variant(windowed)
        self._samples = _at_rate(codec, audio)
        mode: Channels = "native" if len(self._samples) > 1 else "mono"
        self._ask: dict[str, Any] = {"codebooks": codebooks, "channels": mode, "windowed": windowed}
        with Watch(codec.vocabularies) as watch:
            self._whole = self._encoded(self._samples)
        self.codes, self.codebooks = values_of(self._whole), self._whole.codebooks
        self.margins = watch.margins(self.codes, codec.strides) if self.codebooks else None
        quantised = "the quantiser shows no distances"
        self.margins_reason = quantised if self.codebooks else "features are not quantised"

    def idempotence(self) -> Measure:
        """The codes of decoded audio against those that were decoded."""
        return _again(self._codec, self._whole)

    def slices(self) -> Iterator[Measure]:
        """Slices encoded alone against the same frames of the whole, for each length."""
        for seconds in SLICES_S:
            yield self._sliced(f"slices of {seconds} s", round(seconds * self._codec.frame_rate))

    def perturbations(self) -> Iterator[Measure]:
        """The recording changed by less than anyone hears."""
        changed = {
            f"gain of {_GAIN_DB} dB": self._samples * 10 ** (_GAIN_DB / 20),
            "phases turned": all_pass(self._samples, self._codec.rate),
            f"noise at {_NOISE_DB:g} dB": _noisy(self._samples),
        }
        for name, samples in changed.items():
            if self.codebooks:
                yield self._compared("perturbation", name, values_of(self._encoded(samples)))
            else:
                reason = "features follow every change"
                yield Measure(kind="perturbation", name=name, reason=reason)

    def batch(self) -> Measure:
        """The recording first and last among others of its length, against itself alone."""
        codec = self._codec
        wave = self._samples.expand(codec.channels, -1)
        rows = torch.stack([wave, wave.flip(-1), _noisy(wave, 0.0), wave]).to(codec.device)
        books = self.codebooks or None
        with codec.computing():
            alone = _numbers(self._model.encode(rows[:1], books, None))
            made = _numbers(self._model.encode(rows, books, None))
        found = [self._measure("batch", "batch of 4", alone, made[row : row + 1]) for row in (0, 3)]
        return _worst(found)

    def stream(self) -> Measure:
        """Pieces of several sizes, and one call of the model, against the whole."""
        found = [self._compared("stream", "stream", self._at_once())]
        for push, segment_s in _STREAMS:
            size = push if isinstance(push, int) else round(push * self._codec.rate)
            frames = max(1, round(segment_s * self._codec.frame_rate))
            found.append(self._compared("stream", "stream", self._pushed(size, frames)))
        return _worst(found)

    def device(self, elsewhere: Codec | None) -> Measure:
        """The same codec on another device."""
        if elsewhere is None:
            return Measure(kind="device", name="device", reason="no CUDA device here")
        name = f"{self._codec.device.type} and {elsewhere.device.type}"
        codes = values_of(self._encoded(self._samples, elsewhere))
        return self._compared("device", name, codes)

    def _sliced(self, name: str, frames: int) -> Measure:
        hop, group = self._codec.hop, getattr(self._model, "frame_multiple", 1)
        # Groups of frames may overlap; and where codebooks share frames, slices begin where all do.
        advance = getattr(self._model, "group_samples", group * hop)
        groups = lcm(group, *self._codec.strides) // group
        last = (self._samples.shape[1] - frames * hop) // (groups * advance)
        reason = "the recording is too short" if last < 1 else ""
        reason = "frames are longer" if not frames else reason
        if self._ask["windowed"] is not None:
            reason = "the windows of slices lie elsewhere"
        if reason:
            return Measure(kind="slice", name=name, reason=reason)
        ours, theirs = [], []
        for place in sorted({round(place) for place in np.linspace(1, last, _SLICES)}):
            begin, first = place * groups * advance, place * groups * group
            cut = self._samples[:, begin : begin + frames * hop]
            made = values_of(self._encoded(cut))[:, :, :frames]
            # Its last frames may lack, as the last ones of the whole do.
            known = self.codes[:, :, first : first + made.shape[2]]
            ours.append(known)
            theirs.append(made[:, :, : known.shape[2]])
        return self._measure("slice", name, np.concatenate(ours, 2), np.concatenate(theirs, 2))

    def _at_once(self) -> Values:
        """The codes of one call without a state."""
        codec = self._codec
        wave = torch.nn.functional.pad(self._samples, (0, codec.delay)).expand(codec.channels, -1)
        with codec.computing():
            codes = self._model.encode(wave[None].to(codec.device), self.codebooks or None, None)
        return _numbers(codes)

    def _pushed(self, size: int, segment_frames: int) -> Values:
        """The codes of a stream that is fed `size` samples at a time."""
        rows = self._samples.numpy()
        stream = self._codec.encoder(
            self._codec.rate, len(rows), segment_frames=segment_frames, **self._ask
        )
        found = []
        for start in range(0, rows.shape[1], size):
            found += stream.push(rows[:, start : start + size])
        return np.concatenate(list(map(values_of, [*found, *stream.finish()])), 2)

    def _encoded(self, samples: Tensor, codec: Codec | None = None) -> Tokens | Latents:
        audio = Audio(samples.numpy(), self._codec.rate)
        return _encode(codec or self._codec, audio, **self._ask)

    def _compared(self, kind: str, name: str, codes: Values) -> Measure:
        return self._measure(kind, name, self.codes, codes)

    def _measure(self, kind: str, name: str, known: Values, codes: Values) -> Measure:
        return compare(kind, name, known, codes, self._codec.strides)


def values_of(value: Tokens | Latents) -> Values:
    """Codes [S, K, F] or features [S, D, F]."""
    return value.codes if isinstance(value, Tokens) else value.values


def compare(
    kind: str, name: str, known: Values, found: Values, strides: Sequence[int] = ()
) -> Measure:
    """Codes or features [S, K, F] against others; frames that only one has are not equal."""
    frames = max(known.shape[2], found.shape[2])
    common = min(known.shape[2], found.shape[2])
    if not frames:
        return Measure(kind=kind, name=name, reason="there are no frames")
    known, found = known[:, :, :common], found[:, :, :common]
    if known.dtype.kind == "f":
        limit = _ROUNDING * np.abs(known).max(initial=0)
        equal = (np.abs(known - found) <= limit).all(1, keepdims=True)
    else:
        equal = known == found
    shares = []
    for row, stride in zip(equal.swapaxes(0, 1), strides or (1,) * equal.shape[1], strict=False):
        codes = row[:, ::stride]
        shares.append(float(codes.sum() / (codes.shape[0] * -(-frames // stride))))
    alike = equal.all((0, 1))
    differing = int(alike.argmin()) if not alike.all() else common if common < frames else None
    return Measure(
        kind=kind,
        name=name,
        shares=tuple(shares),
        frames=frames,
        first_difference=differing,
    )


def all_pass(samples: Tensor, rate: int) -> Tensor:
    """samples [C, T] -> [C, T] with the same magnitudes: a filter that turns 1 kHz by a quarter.

    No frequency is delayed by more than a third of a millisecond, which nobody hears.
    """
    ratio = tan(pi * _TURN_HZ / rate)
    pole = (ratio - 1) / (ratio + 1)
    size = samples.shape[1] + rate // 10  # what rings on has faded by then
    late = torch.polar(torch.ones(()), torch.linspace(0, -2 * pi, size + 1)[: size // 2 + 1])
    spectra = torch.fft.rfft(samples, size) * ((pole + late) / (1 + pole * late))
    return torch.fft.irfft(spectra, size)[:, : samples.shape[1]].contiguous()


def _noisy(samples: Tensor, noise_db: float = _NOISE_DB) -> Tensor:
    """samples [C, T] with white noise, `noise_db` against their mean power."""
    level = samples.square().mean().sqrt() * 10 ** (noise_db / 20)
    return samples + level * torch.randn(samples.shape, generator=seeded(0))


def _at_rate(codec: Codec, audio: Audio) -> Tensor:
    """The recording at the codec's rate, mixed unless it has the codec's channels: [C, T]."""
    samples = torch.from_numpy(audio.samples)
    if len(samples) != codec.channels:
        samples = samples.double().mean(0, keepdim=True).float()
    return resampled(samples, audio.rate, codec.rate)


def _encode(codec: Codec, audio: Audio, **ask: Any) -> Tokens | Latents:
    """The whole recording, tokens or features."""
    stream = codec.encoder(audio.rate, audio.channels, **ask)
    stream.push(audio.samples)
    return stream.finish()[0]


def _again(codec: Codec, tokens: Tokens | Latents) -> Measure:
    """Tokens decoded and encoded again, block by block."""
    name = "decoded and encoded again"
    if not isinstance(tokens, Tokens):
        return Measure(kind="idempotence", name=name, reason="nothing decodes features")
    decoder = codec.decoder(rate=codec.rate)
    try:
        blocks = decoder.push(replace(tokens, origin=replace(tokens.origin, segment=0, final=True)))
    except ModelError as error:
        return Measure(kind="idempotence", name=name, reason=error.message)
    wide = "native" if codec.channels > 1 else "mono"
    mode = "dual" if tokens.streams > 1 else wide
    encoder = codec.encoder(codec.rate, decoder.channels, **_as_noted(codec, tokens, mode))
    for samples in blocks:
        encoder.push(samples)
    found = encoder.finish()[0]
    return compare("idempotence", name, values_of(tokens), values_of(found), codec.strides)


def _anew(codec: Codec, tokens: Tokens | Latents, source: Audio) -> tuple[Origin, Measure]:
    """The recording that the tokens were made of, encoded as they say."""
    if not source.length:
        raise InputError("the source holds no audio")
    mode = tokens.origin.notes.get("channels", "mono")
    found = _encode(codec, source, **_as_noted(codec, tokens, mode))
    if found.streams != tokens.streams:
        raise InputError(f"{tokens.streams} streams of tokens, {found.streams} of the source")
    name = "source encoded again"
    made = compare("source", name, values_of(tokens), values_of(found), codec.strides)
    return found.origin, made


def _as_noted(codec: Codec, tokens: Tokens | Latents, mode: str) -> dict[str, Any]:
    """What `Codec.encoder` needs in order to do what was done for these tokens."""
    return {
        "codebooks": tokens.codebooks or None,
        "channels": mode,
        "gain_db": codec.gain_of(tokens.origin),
        "windowed": noted(tokens.origin, "windowed"),
    }


def _worst(measures: Sequence[Measure]) -> Measure:
    """Of several measures of one kind, in each codebook the lowest share."""
    made = [measure for measure in measures if measure.shares]
    if not made:
        return measures[0]
    shares = tuple(map(min, zip(*(measure.shares for measure in made), strict=True)))
    return replace(min(made, key=lambda measure: measure.equal or 0.0), shares=shares)


def _numbers(codes: Tensor) -> Values:
    """Codes [B, K, F] or features [B, D, F], as `values_of` gives them."""
    return (codes.float() if codes.is_floating_point() else codes).cpu().numpy()
