"""Measure `alm encode` as a pipe: memory and cost of hours of audio, the delay of a live stream.

    python recipes/measure_streams.py --hours 10            # peak memory, cost against a minute
    python recipes/measure_streams.py --live 20             # seconds of audio in real time: delays

`--model` is any codec, by name or path. Audio is 16-bit noise with silences, made on the fly.
Markdown goes to standard output. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from alm_cli.files.tokens import iter_tokens, probe_tokens
from alm_cli.systems.codec import load_codec


def blocks(rate: int, seconds: float, block_s: float) -> list[bytes]:
    """One minute of raw audio, repeated as long as is asked for, in blocks."""
    generator = np.random.default_rng(0)
    count = min(round(60 / block_s), round(seconds / block_s))
    size = round(block_s * rate)
    loud = generator.random((count, 1)) > 0.1
    noise = generator.normal(scale=3000, size=(count, size)) * loud
    return [row.astype("<i2").tobytes() for row in noise]


def encoder(model: str, rate: int, output: str, *options: str) -> subprocess.Popen[bytes]:
    """`alm encode` that reads raw audio from a pipe."""
    command = [sys.executable, "-m", "alm_cli", "encode", "-", "-o", output, "--model", model]
    command += ["--raw", "s16le", "--rate", str(rate), "--quiet", *options]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def fed(model: str, rate: int, seconds: float, folder: Path) -> tuple[float, float]:
    """Encode so much audio as fast as it goes -> processor seconds, peak megabytes."""
    target = folder / f"{seconds:g}.alm"
    child = encoder(model, rate, str(target), "--overwrite")
    minute = blocks(rate, seconds, 1.0)
    assert child.stdin is not None
    for index in range(round(seconds)):
        child.stdin.write(minute[index % len(minute)])
    child.stdin.close()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"alm encode ended with {status}")
    assert abs(probe_tokens(target).origin.seconds - seconds) < 0.01
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def long(model: str, rate: int, hours: float) -> None:
    """Cost and memory of hours against those of a minute, start-up taken away."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        started = min(fed(model, rate, 1, folder)[0] for _ in range(3))
        minute = statistics.median(fed(model, rate, 61, folder)[0] for _ in range(3)) - started
        whole, peak = fed(model, rate, 1 + hours * 3600, folder)
    ratio = (whole - started) / (hours * 60) / minute
    print("| model | hours | peak MB | cost of a second, against a 1-minute file |")
    print("|---|---|---|---|")
    print(f"| {model} | {hours:g} | {peak:.0f} | {ratio:.3f} |")


def live(model: str, rate: int, hop: int, seconds: float) -> None:
    """How long after the last sample of a frame its tokens leave the pipe."""
    child = encoder(model, rate, "-", "--stream", "--segment-frames", "1")
    assert child.stdin is not None and child.stdout is not None
    sent: list[float] = []
    got: list[float] = []

    def listen() -> None:
        for tokens in iter_tokens(child.stdout):  # type: ignore[arg-type]
            got.extend([time.perf_counter()] * tokens.frames)

    ear = threading.Thread(target=listen)
    ear.start()
    minute = blocks(rate, seconds, hop / rate)
    child.stdin.write(b"")
    time.sleep(6)  # until the model is loaded
    begin = time.perf_counter()
    for index in range(int(seconds * rate / hop)):
        time.sleep(max(0.0, begin + (index + 1) * hop / rate - time.perf_counter()))
        child.stdin.write(minute[index % len(minute)])
        child.stdin.flush()
        sent.append(time.perf_counter())
    child.stdin.close()
    ear.join()
    waits = [1000 * (after - before) for before, after in zip(sent, got, strict=False)][10:-10]
    print("| model | frame ms | ms from the end of a frame to its tokens: median, 95 %, most |")
    print("|---|---|---|")
    middle, high = np.percentile(waits, [50, 95])
    print(f"| {model} | {1000 * hop / rate:g} | {middle:.0f}, {high:.0f}, {max(waits):.0f} |")


def main() -> None:
    """Measure what was asked for."""
    manner = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=manner)
    parser.add_argument("--model", default="alm-codec")
    parser.add_argument("--hours", type=float, default=0)
    parser.add_argument("--live", type=float, default=0, metavar="SECONDS")
    ask = parser.parse_args()
    codec = load_codec(ask.model, device="cpu")
    if ask.hours:
        long(ask.model, codec.rate, ask.hours)
    if ask.live:
        live(ask.model, codec.rate, codec.hop, ask.live)


if __name__ == "__main__":
    main()
