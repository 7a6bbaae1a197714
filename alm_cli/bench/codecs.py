"""What a codec costs and what it keeps: bits, codebooks, quality, speed, memory, stability."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alm_cli.bench.classical import Classical
from alm_cli.bench.quality import (
    code_entropy,
    dnsmos,
    estoi,
    log_mel_distance,
    pesq_wb,
    si_sdr,
    stoi,
    visqol,
)
from alm_cli.bench.reports import Cell, Column
from alm_cli.bench.statistics import ratio, spread
from alm_cli.bench.timing import Timing, interleaved, run_alone
from alm_cli.bench.words import compared
from alm_cli.errors import InputError, ModelError
from alm_cli.files.tokens import to_bytes
from alm_cli.planning import TokenRate
from alm_cli.systems.codec import Codec
from alm_cli.systems.verify import verify_audio
from alm_cli.values import Audio, Tokens

Measure = Callable[[Audio, Audio], float]
MEASURES: Mapping[str, Measure] = {
    "pesq": pesq_wb,
    "stoi": stoi,
    "estoi": estoi,
    "visqol": visqol,
    "dnsmos": dnsmos,
    "si_sdr": si_sdr,
    "log_mel": log_mel_distance,
}

# Recordings that can be listened to, and how much of them.
_KEPT, _KEPT_S = 2, 8.0

COLUMNS = (
    Column(key="codec", title="codec"),
    Column(key="codebooks", title="codebooks"),
    Column(key="kbps", title="nominal", unit="kbps", meaning="bits of the codes, in whole bits"),
    Column(key="kbps_disk", title="on disk", unit="kbps", meaning="the token file, headers too"),
    Column(key="kbps_entropy", title="entropy", unit="kbps", meaning="bits that codes really use"),
    Column(key="tokens_per_second", title="tokens", unit="1/s", digits=1),
    Column(key="compression", title="compression", unit="x", digits=0, meaning="of 16 bit PCM"),
    Column(key="least_used", title="least used book", unit="%", digits=0),
    Column(key="perplexity", title="perplexity", digits=0, meaning="median over codebooks"),
    Column(key="pesq", title="PESQ-WB", meaning="1 to 4.64, for speech only"),
    Column(key="stoi", title="STOI", digits=3, meaning="0 to 1, intelligibility of speech"),
    Column(key="estoi", title="ESTOI", digits=3, meaning="0 to 1, also in changing noise"),
    Column(key="visqol", title="ViSQOL", meaning="1 to 4.73, audio mode, for any sound"),
    Column(key="dnsmos", title="DNSMOS", meaning="1 to 5, guessed without the original"),
    Column(key="rewritten", title="words lost", unit="%", digits=1, meaning="recognised again"),
    Column(key="si_sdr", title="SI-SDR", unit="dB", digits=1, meaning="punishes changed phases"),
    Column(key="log_mel", title="log-mel distance", digits=3, meaning="0 is best"),
    Column(key="encode_rtf", title="encode rtf", digits=4, meaning="seconds per second of audio"),
    Column(key="encode_rtfx", title="encode rtfx", digits=1, meaning="times real time"),
    Column(key="decode_rtf", title="decode rtf", digits=4),
    Column(key="decode_rtfx", title="decode rtfx", digits=1),
    Column(key="load_s", title="load", unit="s"),
    Column(key="first_frame_ms", title="first frame", unit="ms", digits=0),
    Column(key="cold_s", title="alm encode, cold", unit="s"),
    Column(key="peak_mb", title="peak memory", unit="MB", digits=0),
    Column(key="idempotence", title="idempotence", digits=3, meaning="codes that survive decoding"),
    Column(key="slices", title="slices", digits=3, meaning="codes of slices encoded alone"),
    Column(key="perturbation", title="perturbation", digits=3, meaning="after inaudible changes"),
    Column(key="batch", title="batch", digits=3),
    Column(key="stream", title="stream", digits=3),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Mono audio, and the file that it comes from."""

    name: str
    path: Path
    audio: Audio


@dataclass
class Bench:
    """Measures codecs on the same recordings; `skipped` collects what could not be measured."""

    recordings: Sequence[Recording]
    runs: int = 5
    warm_up: int = 1
    measures: Mapping[str, Measure] = field(default_factory=lambda: dict(MEASURES))
    # Writes speech down, to tell what words a codec costs; what was said, by recording.
    write: Callable[[Audio], str] | None = None
    said: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    noisy: bool = False
    # For the first recordings, what was decoded last of every codec: (name, audio).
    heard: dict[str, list[tuple[str, Audio]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for one in self.recordings[:_KEPT]:
            self.heard[one.name] = [("original", _excerpt(one.audio))]

    def points(self, codec: Codec, books: Sequence[int] = ()) -> list[int]:
        """Numbers of codebooks worth a row: those asked for, or 1, 2, 4 ... and all."""
        most = len(codec.vocabularies)
        wanted = [number for number in books if number <= most] or [
            1 << power for power in range(most.bit_length()) if 1 << power < most
        ] + [most]
        return sorted(set(wanted))

    def codec(self, codec: Codec, books: Sequence[int] = ()) -> Iterator[dict[str, Cell]]:
        """A row for every number of codebooks, the last of them with speed and stability."""
        made = [codec.encode(one.audio) for one in self.recordings]
        points = self.points(codec, books)
        for count in points:
            row = self._rates(codec, made, count)
            decoded = [codec.decode(tokens, codebooks=count) for tokens in made]
            row |= self._quality(decoded)
            if count == points[-1]:
                self._keep(f"{codec.name}, {row['kbps']:.2f} kbps", decoded)
                row |= self._speed(codec, count) | self._stability(codec)
            yield row

    def classical(self, codec: Classical) -> dict[str, Cell]:
        """The row of a classical codec at one bitrate."""
        made = [codec.through(one.audio) for one in self.recordings]
        decoded = [audio for audio, _ in made]
        self._keep(f"{codec.name} kbps", decoded)
        bits, seconds = 8 * sum(size for _, size in made), sum(a.seconds for a in decoded)
        return {
            "codec": codec.name,
            "kbps": codec.kbps,
            "kbps_disk": bits / seconds / 1000,
            **self._quality(decoded),
        }

    @property
    def _longest(self) -> Recording:
        return max(self.recordings, key=lambda one: one.audio.seconds)

    def _rates(self, codec: Codec, made: Sequence[Tokens], count: int) -> dict[str, Cell]:
        """What the codes cost, all recordings together."""
        first = made[0]
        rate = TokenRate(
            frame_rate=codec.frame_rate,
            codebooks=count,
            vocabularies=codec.vocabularies[:count],
            strides=codec.strides[:count],
        )
        seconds = sum(tokens.origin.seconds for tokens in made)
        cut = [_first_books(tokens, count) for tokens in made]
        codes = np.concatenate([tokens.codes for tokens in cut], axis=2)
        entropies, used = code_entropy(codes, codec.vocabularies), _used(codes, codec.vocabularies)
        strides = codec.strides[:count] or (1,) * count
        entropy = sum(e / s for e, s in zip(entropies, strides, strict=True)) * codec.frame_rate
        return {
            "codec": codec.name,
            "codebooks": count,
            "kbps": rate.kbps,
            "kbps_disk": 8 * sum(len(to_bytes(tokens)) for tokens in cut) / seconds / 1000,
            "kbps_entropy": entropy / 1000,
            "tokens_per_second": rate.tokens_per_second,
            "compression": rate.pcm_ratio(first.origin.source_rate),
            "least_used": 100 * min(used),
            "perplexity": float(np.median([2**bits for bits in entropies])),
        }

    def _keep(self, label: str, decoded: Sequence[Audio]) -> None:
        for one, audio in zip(self.recordings[:_KEPT], decoded, strict=False):
            self.heard[one.name].append((label, _excerpt(audio)))

    def _quality(self, decoded: Sequence[Audio]) -> dict[str, Cell]:
        """Every measure over all recordings that it can rate."""
        cells: dict[str, Cell] = {}
        for name, measure in self.measures.items():
            values = []
            for one, audio in zip(self.recordings, decoded, strict=True):
                try:
                    values.append(measure(one.audio, audio))
                except ModelError as error:  # the package is not installed
                    self.skipped[name] = f"{error.message}: {error.hint}"
                    break
                except InputError:  # silence, or too short for it
                    continue
            cells[name] = spread(values)
        return cells | self._rewritten(decoded)

    def _rewritten(self, decoded: Sequence[Audio]) -> dict[str, Cell]:
        """Words that are recognised wrongly in what was decoded.

        Of the words said, where these are known, else of those recognised in the original.
        """
        if self.write is None:
            return {}
        pairs = []
        for one, audio in zip(self.recordings, decoded, strict=True):
            if one.name not in self.said:
                self.said[one.name] = self.write(one.audio)
            try:
                pairs.append(compared(self.said[one.name], self.write(audio)))
            except ModelError as error:
                self.skipped["rewritten"] = f"{error.message}: {error.hint}"
                return {}
        wrong, words = zip(*pairs, strict=True)
        return {"rewritten": ratio([100 * count for count in wrong], words)}

    def _speed(self, codec: Codec, count: int) -> dict[str, Cell]:
        """On the longest recording: in this process, and cold in one of its own."""
        one = self._longest
        tokens = codec.encode(one.audio, codebooks=count)
        works = {
            "encode": lambda: codec.encode(one.audio, codebooks=count),
            "decode": lambda: codec.decode(tokens),
        }
        cells: dict[str, Cell] = {"first_frame_ms": 1000 * _first_frame_s(codec, one.audio)}
        for name, timing in interleaved(works, runs=self.runs, warm_up=self.warm_up).items():
            cells |= self._factors(name, timing, one.audio.seconds)
        return cells

    def _factors(self, name: str, timing: Timing, seconds: float) -> dict[str, Cell]:
        self.noisy |= timing.noisy
        return {
            f"{name}_rtf": spread([s / seconds for s in timing.seconds]),
            f"{name}_rtfx": spread([seconds / s for s in timing.seconds]),
        }

    def cold(self, model: str) -> dict[str, Cell]:
        """`alm encode` of the longest recording in a process of its own."""
        arguments = ["encode", str(self._longest.path), "-o", "-", "--model", model, "--quiet"]
        ran = run_alone(arguments)
        if ran.exit_code:
            self.skipped["cold_s"] = f"alm encode ended with {ran.exit_code}"
            return {}
        return {"cold_s": ran.seconds, "peak_mb": ran.peak_bytes / 1e6}

    def _stability(self, codec: Codec) -> dict[str, Cell]:
        """`alm verify` on ten seconds of the longest recording."""
        audio = self._longest.audio
        start = Audio(audio.samples[:, : 10 * audio.rate], audio.rate)
        found: dict[str, list[float]] = {}
        for measure in verify_audio(codec, start).measures:
            if measure.equal is not None:
                found.setdefault(measure.kind, []).append(measure.equal)
        names = {"slice": "slices"}
        return {names.get(kind, kind): min(shares) for kind, shares in found.items()}


def _excerpt(audio: Audio) -> Audio:
    return Audio(audio.samples[:, : round(_KEPT_S * audio.rate)], audio.rate)


def _first_books(tokens: Tokens, count: int) -> Tokens:
    origin = replace(
        tokens.origin,
        vocabularies=tokens.origin.vocabularies[:count],
        strides=tokens.origin.strides[:count],
    )
    return replace(tokens, codes=np.ascontiguousarray(tokens.codes[:, :count]), origin=origin)


def _used(codes: NDArray[np.int32], vocabularies: Sequence[int]) -> list[float]:
    """The share of each codebook's entries that occur in codes [S, K, F]."""
    books = codes.swapaxes(0, 1)
    return [len(np.unique(book)) / size for book, size in zip(books, vocabularies, strict=False)]


def _first_frame_s(codec: Codec, audio: Audio) -> float:
    """From the first sample, in real time, to the first tokens: waiting for audio and computing."""
    stream = codec.encoder(audio.rate, audio.channels, segment_frames=1)
    size = max(1, round(0.02 * audio.rate))
    for begin in range(0, audio.length, size):
        began = time.perf_counter()
        if stream.push(audio.samples[:, begin : begin + size]):
            return min(begin + size, audio.length) / audio.rate + time.perf_counter() - began
    began = time.perf_counter()
    stream.finish()
    return audio.seconds + time.perf_counter() - began
