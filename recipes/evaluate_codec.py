"""Measure a codec against Opus on recordings of real people, music and sounds.

    python recipes/evaluate_codec.py                        # everything that has a bar
    python recipes/evaluate_codec.py --only speech --limit 20 --model path/to/checkpoint
    python recipes/evaluate_codec.py --lengths 5000         # also every length from 1 to 5000

Every file is mixed to mono at the codec's rate once; both codecs get that signal and are compared
with it. Opus is libopus inside the FFmpeg libraries that PyAV brings, so no program is needed; its
rate is that of its packets, without the container. A Markdown table goes to standard output, every
single figure to --json FILE. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from alm_cli.bench.classical import Classical
from alm_cli.bench.quality import at_rate, code_entropy, log_mel_distance, pesq_wb, si_sdr, stoi
from alm_cli.errors import InputError
from alm_cli.files.audio import AUDIO_SUFFIXES, read_audio
from alm_cli.systems.codec import Codec, load_codec
from alm_cli.values import Audio, Tokens

Measure = Callable[[Audio, Audio], float]
SPEECH: dict[str, Measure] = {"pesq": pesq_wb, "stoi": stoi}
ALWAYS: dict[str, Measure] = {"log_mel": log_mel_distance, "si_sdr": si_sdr}
OPUS_KBPS = (6, 8, 12)
OURS_KBPS = (3.0, 6.0)


@dataclass(frozen=True)
class Row:
    """One file through one codec; a figure is None where its measure cannot rate the file."""

    kind: str
    file: str
    codec: str
    kbps: float
    figures: dict[str, float | None]


@dataclass(frozen=True)
class Bar:
    """One thing that was promised, and whether it was measured."""

    promise: str
    measured: str
    met: bool


def figures(
    measures: dict[str, Measure], original: Audio, decoded: Audio
) -> dict[str, float | None]:
    """Every measure of one pair."""
    found: dict[str, float | None] = {}
    for name, measure in measures.items():
        try:
            found[name] = measure(original, decoded)
        except InputError:  # too short or without speech: named in the table by its smaller count
            found[name] = None
    return found


def rate_file(codec: Codec, kind: str, path: Path) -> tuple[list[Row], NDArray[np.int32]]:
    """One file through Opus and our codec at every rate, and all its codes [1, K, F]."""
    recording = read_audio(path)
    mono = Audio(recording.samples.mean(axis=0, keepdims=True), recording.rate)
    original = at_rate(mono, codec.rate)
    measures = {**SPEECH, **ALWAYS} if kind == "speech" else ALWAYS
    rows = []
    for asked in OPUS_KBPS:
        decoded, size = Classical("opus", asked).through(original)
        kbps = 8 * size / original.seconds / 1000
        found = figures(measures, original, decoded)
        rows.append(Row(kind, path.name, f"Opus {asked} kbps", kbps, found))
    tokens = codec.encode(original)
    for books in our_books(codec):
        found = figures(measures, original, codec.decode(tokens, codebooks=books))
        rows.append(Row(kind, path.name, our_name(codec, books), kbps_of(codec, books), found))
    return rows, tokens.codes


def our_books(codec: Codec) -> list[int]:
    """Numbers of codebooks worth a row: at most 3 kbps, at most 6 kbps, all."""
    chosen = {codec.codebooks_for(kbps) for kbps in OURS_KBPS} | {len(codec.vocabularies)}
    return sorted(chosen)


def kbps_of(codec: Codec, books: int) -> float:
    """Kilobits a second of the first `books` codebooks."""
    bits = sum((size - 1).bit_length() for size in codec.vocabularies[:books])
    return bits * codec.frame_rate / 1000


def our_name(codec: Codec, books: int) -> str:
    """How a row of ours is called."""
    return f"{codec.name}, {books} codebooks"


def recordings(folder: Path, limit: int | None) -> list[Path]:
    """Audio files below a folder; a limit keeps an even selection of them."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    if limit is None or limit >= len(found):
        return found
    return [found[index * len(found) // limit] for index in range(limit)]


def measured(rows: Iterable[Row], name: str) -> list[float]:
    """The figures of one measure that exist."""
    return [value for row in rows if (value := row.figures.get(name)) is not None]


def median(rows: Iterable[Row], name: str) -> float:
    """The middle figure, or NaN where there is none."""
    values = measured(rows, name)
    return statistics.median(values) if values else float("nan")


def table(rows: list[Row]) -> Iterator[str]:
    """Markdown: median (lower to upper quartile) of every measure, one line per codec."""
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    yield "| codec | kbps | files | " + " | ".join(names) + " |"
    yield "|---|---|---|" + "---|" * len(names)
    for codec in dict.fromkeys(row.codec for row in rows):
        mine = [row for row in rows if row.codec == codec]
        cells = [spread(measured(mine, name)) for name in names]
        rate = statistics.median(row.kbps for row in mine)
        counts = [len(measured(mine, name)) for name in names]
        yield f"| {codec} | {rate:.2f} | {min(counts)}-{max(counts)} | " + " | ".join(cells) + " |"


def spread(values: list[float]) -> str:
    """`median (lower quartile to upper quartile)`."""
    if len(values) < 2:
        return " ".join(f"{value:.3f}" for value in values) or "-"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def quality_bars(codec: Codec, rows: list[Row]) -> Iterator[Bar]:
    """What was promised for speech, music and sounds, as medians."""
    low, middle = (codec.codebooks_for(kbps) for kbps in OURS_KBPS)

    def of(kind: str, name: str, measure: str) -> float:
        return median([row for row in rows if (row.kind, row.codec) == (kind, name)], measure)

    def bar(promise: str, ours: float, needed: float, *, below: bool = False) -> Bar:
        met = ours < needed if below else ours >= needed
        return Bar(promise, f"{ours:.3f}, needed {needed:.3f}", met)

    kinds = {row.kind for row in rows}
    if "speech" in kinds:
        for measure, floor in (("pesq", 2.05), ("stoi", 0.90)):
            ours = of("speech", our_name(codec, low), measure)
            yield bar(f"{measure} at <= 3 kbps", ours, floor)
            yield bar(
                f"{measure} at <= 3 kbps, above Opus 6", ours, of("speech", "Opus 6 kbps", measure)
            )
            ours = of("speech", our_name(codec, middle), measure)
            yield bar(
                f"{measure} at <= 6 kbps, at least Opus 8",
                ours,
                of("speech", "Opus 8 kbps", measure),
            )
        ours = of("speech", our_name(codec, middle), "log_mel")
        needed = of("speech", "Opus 12 kbps", "log_mel")
        yield bar("speech log_mel at <= 6 kbps, below Opus 12", ours, needed, below=True)
    for kind in sorted(kinds - {"speech"}):
        ours, needed = (of(kind, name, "log_mel") for name in (our_name(codec, low), "Opus 6 kbps"))
        yield bar(f"{kind} log_mel at <= 3 kbps, below Opus 6", ours, needed, below=True)


def entropy_bar(codec: Codec, codes: list[NDArray[np.int32]]) -> Bar:
    """Bits used by the emptiest codebook over all speech."""
    bits = code_entropy(np.concatenate(codes, axis=2), codec.vocabularies)
    text = f"least {min(bits):.2f}, median {statistics.median(bits):.2f}, first {bits[0]:.2f} bits"
    return Bar("entropy of every codebook at least 9 bits", text, min(bits) >= 9)


def stream_bars(codec: Codec, audio: Audio) -> Iterator[Bar]:
    """Odd blocks and segments against the whole, and how long a sample is on its way."""
    whole = codec.encode(audio)
    encoder, decoder = codec.encoder(audio.rate, 1, segment_frames=7), codec.decoder()
    blocks = np.split(audio.samples, np.arange(997, audio.length, 997), axis=1)
    found = [piece for block in blocks for piece in encoder.push(block)] + encoder.finish()
    pieces = [piece for piece in found if isinstance(piece, Tokens)]
    codes = np.concatenate([piece.codes for piece in pieces], axis=2)
    same = codes.shape == whole.codes.shape
    differing = int((codes != whole.codes).sum()) if same else codes.size
    yield Bar("chunked encode equals the whole", f"{differing} differing codes", differing == 0)
    made = [block for piece in pieces for block in decoder.push(piece)]
    streamed, decoded = np.concatenate(made, axis=1), codec.decode(whole).samples
    worst = float(np.abs(streamed - decoded).max()) if streamed.shape == decoded.shape else np.inf
    yield Bar("streamed decode equals the whole", f"largest difference {worst:.1e}", worst <= 1e-5)
    # A sample waits for the end of its frame, and its sound comes out `delay` samples later.
    latency_ms = 1000 * (codec.hop + codec.delay) / codec.rate
    yield Bar("algorithmic latency at most 80 ms", f"{latency_ms:.1f} ms", latency_ms <= 80)


def length_bar(codec: Codec, longest: int) -> Bar:
    """Every length from 1 to `longest` comes back as it was."""
    noise = np.random.default_rng(0).normal(0, 0.1, (1, longest)).astype(np.float32)
    wrong = 0
    for length in tqdm(range(1, longest + 1), desc="lengths"):
        audio = Audio(noise[:, :length], codec.rate)
        wrong += codec.decode(codec.encode(audio, codebooks=1)).length != length
    return Bar(f"length kept, 1 to {longest} samples", f"{wrong} wrong", wrong == 0)


def speed_bar(codec: Codec, audio: Audio, runs: int = 5) -> Bar:
    """Encode + decode of one minute, all codebooks; the first run warms up and does not count."""
    count = -(-60 * audio.rate // audio.length)
    minute = Audio(np.tile(audio.samples, count)[:, : 60 * audio.rate], audio.rate)
    speeds = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        codec.decode(codec.encode(minute))
        speeds.append(minute.seconds / (time.perf_counter() - began))
    middle, low, high = statistics.median(speeds[1:]), min(speeds[1:]), max(speeds[1:])
    text = f"{middle:.1f} ({low:.1f} to {high:.1f}), {torch.get_num_threads()} threads"
    return Bar("encode + decode at least 40 x real time", text, middle >= 40)


def parsed() -> argparse.Namespace:
    """The command line."""
    assert __doc__
    manner = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=manner)
    for kind in ("speech", "music", "sounds"):
        folder = Path("../shared/audio") / kind
        parser.add_argument(f"--{kind}", type=Path, default=folder, help=f"default {folder}")
    parser.add_argument("--only", choices=("speech", "music", "sounds"))
    parser.add_argument("--model", default="alm-codec", help="catalogue name or checkpoint folder")
    parser.add_argument("--limit", type=int, help="files of each kind")
    parser.add_argument("--lengths", type=int, default=0, help="check every length up to this one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file for every single figure")
    return parser.parse_args()


def main() -> None:
    """Measure what was asked for and say it as Markdown."""
    ask = parsed()
    codec = load_codec(ask.model, device="cpu", threads=ask.threads)
    rows: list[Row] = []
    codes: list[NDArray[np.int32]] = []
    for kind in [ask.only] if ask.only else ["speech", "music", "sounds"]:
        paths = recordings(getattr(ask, kind), ask.limit)
        if not paths:
            sys.exit(f"no recordings in {getattr(ask, kind)}")
        for path in tqdm(paths, desc=kind):
            found, all_codes = rate_file(codec, kind, path)
            rows += found
            if kind == "speech":
                codes.append(all_codes)
        print(f"\n## {kind}\n", *table([row for row in rows if row.kind == kind]), sep="\n")
    speech = at_rate(read_audio(Path("sample_audio/speech.wav")), codec.rate)
    bars = [*quality_bars(codec, rows), *stream_bars(codec, speech), speed_bar(codec, speech)]
    bars += [entropy_bar(codec, codes)] if codes else []
    bars += [length_bar(codec, ask.lengths)] if ask.lengths else []
    print("\n| bar | measured | met |\n|---|---|---|")
    for bar in bars:
        print(f"| {bar.promise} | {bar.measured} | {'yes' if bar.met else 'no'} |")
    if ask.json:
        result = {"rows": [asdict(row) for row in rows], "bars": [asdict(bar) for bar in bars]}
        ask.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
