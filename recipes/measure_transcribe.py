"""Measure the laws of `alm transcribe` through its command line, and say which do not hold.

    python -m recipes.measure_transcribe memory --hours 10     # at most 50 MB more than 10 minutes
    python -m recipes.measure_transcribe repeats --runs 20     # one seed, every batch size
    python -m recipes.measure_transcribe kill                  # kill -9, and go on
    python -m recipes.measure_transcribe cold                  # 5 s of speech within 2.5 s

With alm-asr and with a tiny random Whisper, which writes nonsense in the time of a real one of its
size. A table in Markdown goes to standard output. Needs the extra `test`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

from recipes.whisper_peers import build

SPEECH = Path("sample_audio/speech.wav")
# One attempt for each window: a random model passes no threshold.
ONCE = ("--language", "en", "--temperature-increment-on-fallback", "None", "--beam-size", "None")
MOST_MORE_MB = 50
COLD_S = 2.5
Row = tuple[str, str, bool]  # what, what was found, whether the law holds


def alm(*words: object) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "alm_cli", *map(str, words)]


def recording(path: Path, seconds: float) -> Path:
    """Speech and pauses with noise, never twice the same, written a minute at a time."""
    said, rate = soundfile.read(SPEECH, dtype="float32")
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16") as file:
        draw = np.random.default_rng(0)
        left = round(seconds * rate)
        while left > 0:
            pause = np.zeros(int(draw.uniform(0.2, 3) * rate), np.float32)
            piece = np.concatenate((said * draw.uniform(0.3, 1), pause))[:left]
            file.write(piece + 0.002 * draw.standard_normal(len(piece)).astype(np.float32))
            left -= len(piece)
    return path


def models(folder: Path, only: str | None) -> Iterator[tuple[str, list[object]]]:
    """Names, and the options that choose them."""
    if only in (None, "alm-asr"):
        yield "alm-asr", ["-m", "alm-asr"]
    if only != "alm-asr":
        build("nano", folder)
        yield "random Whisper", ["-m", folder / "hub", *ONCE]


def peak_mb(words: Sequence[str]) -> float:
    """The most memory that a command had, in megabytes; it must not fail."""
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        told = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(told.decode())
    return usage.ru_maxrss / 1024


def memory(ask: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """A long recording against a short one."""
    lengths = {f"{ask.minutes:g} min": 60 * ask.minutes, f"{ask.hours:g} h": 3600 * ask.hours}
    files = {
        name: recording(folder / f"{place}.wav", seconds)
        for place, (name, seconds) in enumerate(lengths.items())
    }
    for name, words in models(folder, ask.only):
        used, told = [], []
        for length, file in files.items():
            began = time.perf_counter()
            used.append(peak_mb(alm("transcribe", file, *words, "-f", "all", "-o", f"{folder}/o/")))
            took = time.perf_counter() - began
            told.append(f"{length}: {used[-1]:.0f} MB in {took:.0f} s")
        more = used[1] - used[0]
        yield f"memory, {name}", f"{', '.join(told)}; {more:+.0f} MB", more <= MOST_MORE_MB


def repeats(ask: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """The same bytes in every run with one seed, whatever the batch."""
    files = [recording(folder / f"{n}.wav", 20 + 25 * n) for n in range(3)]
    for name, words in models(folder, ask.only):
        # Sampled, where the model samples.
        words = [*words, "--seed", 1, "--temperature", 0.4]
        found: dict[str, bytes] = {}
        for run in range(ask.runs):
            batch = (1, 2, 3, 8)[run % 4]
            out = folder / f"{name}-{run}"
            line = alm("transcribe", *files, *words, "-f", "jsonl", "-o", f"{out}/", "-q")
            subprocess.run([*line, "--batch-size", str(batch)], check=True)
            data = b"".join(path.read_bytes() for path in sorted(out.glob("[!.]*.jsonl")))
            found.setdefault(hashlib.sha256(data).hexdigest(), data)
        told = f"{ask.runs} runs, batches of 1, 2, 3 and 8: {len(found)} results"
        if len(found) > 1:
            one, other = [data.splitlines() for data in list(found.values())[:2]]
            differ = next(pair for pair in zip(one, other, strict=False) if pair[0] != pair[1])
            sys.stderr.write("".join(f"{line.decode()}\n" for line in differ))
        yield f"repeats, {name}", told, len(found) == 1


def kill(ask: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Killed three times, the transcript is that of a run that was not; no window is lost twice."""
    file = recording(folder / "a.wav", 60 * ask.minutes)
    for name, words in models(folder, ask.only):
        whole, out = folder / f"{name}-whole", folder / f"{name}-out"
        line = alm("transcribe", file, *words, "-f", "all", "-q", "-o")
        subprocess.run([*line, f"{whole}/"], check=True)
        kept = [0]
        for _ in range(3):
            _kill_later([*line, f"{out}/"], out, kept[-1] + ask.segments)
            kept.append(_segments(out))
        subprocess.run([*line, f"{out}/"], check=True)
        same = all((out / p.name).read_bytes() == p.read_bytes() for p in whole.glob("a.*"))
        grows = all(after >= before for before, after in zip(kept, kept[1:], strict=False))
        told = f"segments kept after each kill: {kept[1:]}; the end is {'' if same else 'NOT '}same"
        yield f"kill -9, {name}", told, same and grows


def cold(ask: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """A short clip, from a process that does not exist yet."""
    line = alm("transcribe", recording(folder / "a.wav", 5), "-m", "alm-asr", "-o", "-", "-q")
    found = []
    for _ in range(min(ask.runs, 7)):
        began = time.perf_counter()
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
        found.append(time.perf_counter() - began)
    middle = statistics.median(found)
    yield (
        "5 s from nothing",
        f"{middle:.2f} s ({min(found):.2f} to {max(found):.2f})",
        middle <= COLD_S,
    )


def _kill_later(words: Sequence[str], folder: Path, segments: int) -> None:
    """Kill a run once its journal has so many segments, or let it end."""
    with subprocess.Popen(words) as process:
        while process.poll() is None and _segments(folder) < segments:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)


def _segments(folder: Path) -> int:
    """Segments in the journals of a folder; their first line is none."""
    journals = folder.glob(".*.journal")
    return sum(max(0, path.read_bytes().count(b"\n") - 1) for path in journals)


def main() -> None:
    """Measure what was asked for."""
    assert __doc__
    manner = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=manner)
    works = {"memory": memory, "repeats": repeats, "kill": kill, "cold": cold}
    parser.add_argument("works", nargs="+", choices=works)
    parser.add_argument("--hours", type=float, default=10)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--only", choices=("alm-asr", "whisper"))
    parser.add_argument("--segments", type=int, default=5, help="between two kills")
    ask = parser.parse_args()
    print("| law | found | |\n|---|---|---|")
    for work in ask.works:
        with tempfile.TemporaryDirectory() as folder:
            for what, found, holds in works[work](ask, Path(folder)):
                print(f"| {what} | {found} | {'' if holds else 'BROKEN'} |", flush=True)


if __name__ == "__main__":
    main()
