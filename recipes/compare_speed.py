"""Measure codecs here against `transformers` and the authors' packages, side by side.

    python -m recipes.compare_speed              # encode and decode, 30 s clips, batch 1 and 8
    python -m recipes.compare_speed --memory     # peak memory of a 5-minute file, one process each
    python -m recipes.compare_speed --memory --codec mimi encodec-48khz dac-44khz --runs 3
    python -m recipes.compare_speed --codec dac-44khz encodec-48khz --batch 8 --seconds 30
    python -m recipes.compare_speed --clips      # `alm encode` of 200 clips: share of model work

`--codec` names one of those in `recipes/peers.py`. The weights are the same on both sides, random
at the published size: speed does not depend on their values. Ours is what `load_codec` offers, clip
by clip; the reference gets the batch as one tensor. Runs alternate
(A B A B) after one that warms up; every figure is a median (least to most). Markdown and one line
of JSON go to standard output. Run it on an otherwise idle machine; needs the extra `test`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from alm_cli.app import app
from alm_cli.bench.timing import run_command
from alm_cli.codecs.alm_codec import AlmCodec
from alm_cli.systems.codec import load_codec
from alm_cli.values import Audio
from recipes.peers import PEERS, Peer
from recipes.timing import Sides, alternate, spread

RATE = 24_000
Record = dict[str, Any]


def noise(peer: Peer, batch: int, seconds: float) -> Tensor:
    """wave [B, C, T], the same on every call."""
    shape = (batch, peer.channels, round(seconds * peer.rate))
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def each(work: Callable[[Any], object], values: list[Any]) -> list[object]:
    """One after another."""
    return [work(value) for value in values]


def compare(name: str, checkpoint: Path, ask: argparse.Namespace) -> Iterator[Record]:
    """Encode and decode at every length and batch size, and whether the codes are the same."""
    peer = PEERS[name]
    ours = load_codec(str(checkpoint), device="cpu", dtype=ask.dtype, threads=ask.threads)
    reference, original = peer.load(checkpoint), peer.original()
    encode = partial(ours.encode, codebooks=peer.codebooks, channels="native")
    for seconds, batch in product(ask.seconds, ask.batch):
        wave = noise(peer, batch, seconds)
        clips = [Audio(clip.numpy(), peer.rate) for clip in wave]
        tokens = [encode(clip) for clip in clips]
        theirs = peer.encode(reference, wave)
        sides: dict[str, Sides] = {
            "encode": {
                "alm": partial(each, encode, clips),
                "transformers": partial(peer.encode, reference, wave),
            },
            "decode": {
                "alm": partial(each, ours.decode, tokens),
                "transformers": partial(peer.decode, reference, theirs),
            },
        }
        if original is not None:
            sides["encode"][original.name] = partial(original.encode, wave)
            sides["decode"][original.name] = partial(original.decode, original.encode(wave))
        found = np.concatenate([one.codes for one in tokens])
        wanted = peer.codes(theirs).numpy()
        frames = min(found.shape[2], wanted.shape[2])
        differing = int((found[..., :frames] != wanted[..., :frames]).sum())
        for work, works in sides.items():
            times = alternate(works, ask.runs)
            speeds = {side: [batch * seconds / s for s in times[side]] for side in works}
            others = [statistics.median(times[side]) for side in works if side != "alm"]
            yield {
                "work": f"{name}, {work} {seconds:g} s, batch {batch}",
                "alm, x real time": spread(speeds["alm"]),
                "transformers, x real time": spread(speeds["transformers"]),
                "authors' package": spread(speeds[original.name]) if original else "-",
                "alm / the faster": round(min(others) / statistics.median(times["alm"]), 2),
                "differing codes": f"{differing} of {found[..., :frames].size}",
            }


def peak_megabytes(command: list[str]) -> float:
    """Run a command alone and return its largest resident set."""
    ran = run_command(command)
    if ran.exit_code:
        sys.exit(f"failed: {' '.join(command)}")
    return ran.peak_bytes / 1e6


def memory(name: str, checkpoint: Path, ask: argparse.Namespace) -> Iterator[Record]:
    """Peak memory of encoding and decoding a long file, each in a process of its own."""
    peer, folder = PEERS[name], checkpoint.parent
    source, tokens = folder / "long.wav", folder / "long.alm"
    soundfile.write(source, noise(peer, 1, ask.minutes * 60)[0].numpy().T, peer.rate)
    program = [sys.executable, "-m", "alm_cli"]
    options = ["--model", str(checkpoint), "--threads", str(ask.threads), "--quiet"]
    books = ["--codebooks", str(peer.codebooks), "--channels", "native"]
    commands = {
        "encode": [*program, "encode", str(source), "-o", str(tokens), *options, *books],
        "decode": [*program, "decode", str(tokens), "-o", str(folder / "back.wav"), *options],
    }
    for work, command in commands.items():
        mine = [peak_megabytes([*command, "--overwrite"]) for _ in range(ask.runs)]
        whole = [
            sys.executable,
            "-m",
            "recipes.compare_speed",
            "--reference",
            work,
            "--threads",
            str(ask.threads),
        ]
        whole += ["--codec", name, "--folder", str(folder)]
        theirs = [peak_megabytes(whole) for _ in range(ask.runs)]
        ratio = statistics.median(mine) / statistics.median(theirs)
        yield {
            "work": f"{name}, {work} {ask.minutes:g} min",
            "alm MB": spread(mine),
            "transformers MB": spread(theirs),
            "alm / transformers": round(ratio, 2),
        }


def reference(work: str, ask: argparse.Namespace) -> None:
    """One side of `memory`: the same file through `transformers`."""
    peer = PEERS[ask.codec[0]]
    model = peer.load(ask.folder / "checkpoint")
    wave, _ = soundfile.read(ask.folder / "long.wav", dtype="float32", always_2d=True)
    whole = torch.from_numpy(wave.T.copy())[None]
    if work == "encode":
        peer.encode(model, whole)
        return
    second = peer.encode(model, whole[..., : peer.rate])
    times = round(whole.shape[-1] / peer.rate)
    codes, scales = second.audio_codes, getattr(second, "audio_scales", None)
    if scales and scales[0] is not None:  # segments of a second, each with its loudness
        second.audio_codes = codes[:1].expand(times, -1, -1, -1)
        second.audio_scales = scales[:1] * times
    else:
        second.audio_codes = codes.repeat(*(1,) * (codes.ndim - 1), times)
    peer.decode(model, second)


def clips(folder: Path, ask: argparse.Namespace) -> Iterator[Record]:
    """The whole command on many short files, from the model's first call to the end."""
    sources = folder / "clips"
    sources.mkdir()
    wave = noise(PEERS["encodec-24khz"], ask.files, 5).numpy()
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
    parser.add_argument("--codec", nargs="+", choices=PEERS, default=["encodec-24khz"])
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--clips", action="store_true")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, nargs="+", default=[30])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--reference", choices=("encode", "decode"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


@torch.inference_mode()
def main() -> None:
    """Measure what was asked for."""
    ask = parsed()
    torch.set_num_threads(ask.threads)
    if ask.reference:
        reference(ask.reference, ask)
        return
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as temporary:
        if ask.clips:
            records += clips(Path(temporary), ask)
        for name in [] if ask.clips else ask.codec:
            (folder := Path(temporary, name)).mkdir()
            checkpoint = PEERS[name].write(folder / "checkpoint")
            records += (memory if ask.memory else compare)(name, checkpoint, ask)
    show(records, ask.threads)


if __name__ == "__main__":
    main()
