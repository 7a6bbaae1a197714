"""Measure EnCodec 24 kHz here against `transformers`, with the same weights, side by side.

    python recipes/compare_speed.py              # encode and decode, 30 s clips, batch 1 and 8
    python recipes/compare_speed.py --memory     # peak memory of a 5-minute file, one process each
    python recipes/compare_speed.py --clips      # `alm encode` of 200 clips: share of model work

The weights are random at the published size: speed does not depend on their values. Ours is what
`load_codec` offers, clip by clip; the reference gets the batch as one tensor. Runs alternate
(A B A B) after one that warms up; every figure is a median (least to most). Markdown and one line
of JSON go to standard output. Run it on an otherwise idle machine; needs the extra `test`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor
from transformers import EncodecConfig, EncodecModel

from alm_cli.app import app
from alm_cli.codecs.alm_codec import AlmCodec
from alm_cli.systems.codec import load_codec
from alm_cli.values import Audio

RATE, KBPS, CODEBOOKS = 24_000, 6.0, 8
Record = dict[str, Any]
Sides = dict[str, Callable[[], object]]


def random_checkpoint(folder: Path) -> Path:
    """EnCodec 24 kHz with random weights and codebooks, as `transformers` writes it."""
    torch.manual_seed(0)
    model = EncodecModel(EncodecConfig())
    for name, buffer in model.named_buffers():
        if name.endswith("codebook.embed"):  # they start as zeros, and no code would differ
            buffer.normal_()
    model.save_pretrained(folder)
    return folder


def published(folder: Path) -> Any:
    """The same checkpoint as `transformers` loads it, ready for inference."""
    return EncodecModel.from_pretrained(folder).train(False)


def noise(batch: int, seconds: float) -> Tensor:
    """wave [B, 1, T], the same on every call."""
    shape = (batch, 1, round(seconds * RATE))
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def each(work: Callable[[Any], object], values: list[Any]) -> list[object]:
    """One after another."""
    return [work(value) for value in values]


def alternate(works: Sides, runs: int) -> dict[str, list[float]]:
    """Seconds of every work, in turn; the first round warms up and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - began)
    return {name: times[1:] for name, times in seconds.items()}


def compare(checkpoint: Path, ask: argparse.Namespace) -> Iterator[Record]:
    """Encode and decode at every batch size, and whether both give the same codes."""
    ours = load_codec(str(checkpoint), device="cpu", threads=ask.threads)
    reference = published(checkpoint)
    for batch in ask.batch:
        wave = noise(batch, ask.seconds)
        clips = [Audio(clip.numpy(), RATE) for clip in wave]
        encode = partial(ours.encode, codebooks=CODEBOOKS)
        tokens = [encode(clip) for clip in clips]
        codes = reference.encode(wave, bandwidth=KBPS).audio_codes
        works: dict[str, Sides] = {
            "encode": {
                "alm": partial(each, encode, clips),
                "transformers": partial(reference.encode, wave, bandwidth=KBPS),
            },
            "decode": {
                "alm": partial(each, ours.decode, tokens),
                "transformers": partial(reference.decode, codes, [None]),
            },
        }
        found = np.concatenate([one.codes for one in tokens])
        differing = int((found != codes[0].numpy()).sum())
        for work, sides in works.items():
            times = alternate(sides, ask.runs)
            speeds = {name: [batch * ask.seconds / s for s in times[name]] for name in sides}
            ratio = statistics.median(times["transformers"]) / statistics.median(times["alm"])
            yield {
                "work": f"{work}, batch {batch}",
                "alm, x real time": spread(speeds["alm"]),
                "transformers, x real time": spread(speeds["transformers"]),
                "alm / transformers": round(ratio, 2),
                "differing codes": f"{differing} of {found.size}",
            }


def spread(values: list[float]) -> str:
    """`median (least to most)`."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def peak_megabytes(command: list[str]) -> float:
    """Run a command alone and return its largest resident set."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(command)}")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes on Linux
    return usage.ru_maxrss * unit / 1e6


def memory(checkpoint: Path, folder: Path, ask: argparse.Namespace) -> Iterator[Record]:
    """Peak memory of encoding and decoding a long file, each in a process of its own."""
    source, tokens = folder / "long.wav", folder / "long.alm"
    soundfile.write(source, noise(1, ask.minutes * 60)[0, 0].numpy(), RATE)
    program = [sys.executable, "-m", "alm_cli"]
    options = ["--model", str(checkpoint), "--threads", str(ask.threads), "--quiet"]
    books = ["--codebooks", str(CODEBOOKS)]
    commands = {
        "encode": [*program, "encode", str(source), "-o", str(tokens), *options, *books],
        "decode": [*program, "decode", str(tokens), "-o", str(folder / "back.wav"), *options],
    }
    for work, command in commands.items():
        mine = [peak_megabytes(command + ["--overwrite"]) for _ in range(ask.runs)]
        whole = [sys.executable, __file__, "--reference", work, "--threads", str(ask.threads)]
        whole += ["--folder", str(folder)]
        theirs = [peak_megabytes(whole) for _ in range(ask.runs)]
        ratio = statistics.median(mine) / statistics.median(theirs)
        yield {
            "work": f"{work} {ask.minutes:g} min",
            "alm MB": spread(mine),
            "transformers MB": spread(theirs),
            "alm / transformers": round(ratio, 2),
        }


def reference(work: str, folder: Path) -> None:
    """One side of `memory`: the same file through `transformers`, codes kept beside it."""
    model = published(folder / "encodec")
    codes = folder / "codes.npy"
    if work == "encode":
        wave, _ = soundfile.read(folder / "long.wav", dtype="float32")
        encoded = model.encode(torch.from_numpy(wave)[None, None], bandwidth=KBPS).audio_codes
        np.save(codes, encoded.numpy())
    else:
        wave = model.decode(torch.from_numpy(np.load(codes)), [None]).audio_values
        soundfile.write(folder / "reference.wav", wave[0, 0].numpy(), RATE)


def clips(folder: Path, ask: argparse.Namespace) -> Iterator[Record]:
    """The whole command on many short files, from the model's first call to the end."""
    sources = folder / "clips"
    sources.mkdir()
    wave = noise(ask.files, 5).numpy()
    for index, clip in enumerate(wave):
        soundfile.write(sources / f"{index:03}.wav", clip[0], RATE)
    calls: list[tuple[float, float]] = []
    encode = AlmCodec.encode

    def timed(*values: Any, **options: Any) -> Tensor:
        began = time.perf_counter()
        codes = encode(*values, **options)
        calls.append((began, time.perf_counter()))
        return codes

    AlmCodec.encode = timed  # type: ignore[method-assign]
    command = ["encode", str(sources), "-o", f"{folder / 'tokens'}/", "--quiet"]
    with contextlib.suppress(SystemExit):
        app([*command, "--threads", str(ask.threads), "--device", "cpu"])
    wall = time.perf_counter() - calls[0][0]
    made = len(list((folder / "tokens").rglob("*.alm")))
    model = sum(ended - began for began, ended in calls)
    yield {
        "work": f"alm encode, {ask.files} clips of 5 s",
        "files made": made,
        "seconds after start-up": round(wall, 2),
        "seconds in the model": round(model, 2),
        "share of model work": f"{100 * model / wall:.0f} %",
    }


def show(records: list[Record], threads: int) -> None:
    """Markdown, then everything as one line of JSON."""
    packages = ("torch", "transformers", "numpy", "alm-cli")
    versions = {name: importlib.metadata.version(name) for name in packages}
    print("| " + " | ".join(records[0]) + " |")
    print("|" + "---|" * len(records[0]))
    for record in records:
        print("| " + " | ".join(str(value) for value in record.values()) + " |")
    setting = {"threads": threads, "python": platform.python_version(), **versions}
    print("\n" + json.dumps({"setting": setting, "records": records}))


def parsed() -> argparse.Namespace:
    """The command line."""
    assert __doc__
    manner = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=manner)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--clips", action="store_true")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--reference", choices=("encode", "decode"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


@torch.inference_mode()
def main() -> None:
    """Measure what was asked for."""
    ask = parsed()
    torch.set_num_threads(ask.threads)
    if ask.reference:
        reference(ask.reference, ask.folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if ask.clips:
            records = list(clips(folder, ask))
        else:
            checkpoint = random_checkpoint(folder / "encodec")
            measure = memory(checkpoint, folder, ask) if ask.memory else compare(checkpoint, ask)
            records = list(measure)
        show(records, ask.threads)


if __name__ == "__main__":
    main()
