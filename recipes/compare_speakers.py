"""Measure speaking models here against the programs of their authors, side by side.

    python -m recipes.compare_speakers                       # pocket-tts, float32 and int8
    python -m recipes.compare_speakers --model pocket-tts-2m --runs 5 --engines alm pocket-tts

Run it with an interpreter that has the peer's package too (`pip install pocket-tts`). All engines
have the same weights, random at the published sizes, the same voice, text and seed, and say the
same number of frames. Each has a process of its own, all alive at once, and only one works at a
time: rounds go through all of them (A B C A B C), after one that warms up; every figure is a median
(least to most). `first` is when the first samples were there, `error` how far the samples are below
those of the first other program of the same number type. Markdown and one line of JSON go to
standard output. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from recipes.speaker_peers import MODELS, missing
from recipes.workers import Record, Worker, show, spread

_TEXT = "The quick brown fox jumps over the lazy dog, and nobody knows why it does so."
_PACKAGES = ("torch", "pocket-tts", "transformers")


def started(name: str, folder: Path, ask: argparse.Namespace) -> Worker:
    """An engine in a process of its own."""
    options = ["--worker", name, "--model", ask.model[0], "--folder", str(folder)]
    options += ["--threads", str(ask.threads), "--text", ask.text]
    return Worker("recipes.compare_speakers", options)


def serve(name: str, ask: argparse.Namespace) -> None:
    """One engine: answer every line of standard input with one of JSON."""
    load, kind = MODELS[ask.model[0]].programs[name]
    torch.set_num_threads(ask.threads)
    began = time.perf_counter()
    say = load(ask.folder, kind)
    loaded = time.perf_counter() - began
    for _ in sys.stdin:
        began, first, parts = time.perf_counter(), None, []
        for samples in say(ask.text, 0):
            first = first or time.perf_counter() - began
            parts.append(samples)
        seconds = time.perf_counter() - began
        whole = np.concatenate(parts)
        np.save(ask.folder / f"{name}.npy", whole)
        answer = {"seconds": seconds, "first": first, "samples": len(whole), "loaded": loaded}
        print(json.dumps(answer), flush=True)


def compare(ask: argparse.Namespace, root: Path) -> Iterator[Record]:
    """A record for every engine."""
    model = MODELS[ask.model[0]]
    folder = model.build(root)
    names = ask.engines or list(model.programs)
    workers = {name: started(name, folder, ask) for name in names}
    rounds = [{n: worker.run("say") for n, worker in workers.items()} for _ in range(ask.runs + 1)]
    for worker in workers.values():
        worker.close()
    for name in names:
        runs = [one[name] for one in rounds[1:]]
        audio = runs[0]["samples"] / model.rate
        record: Record = {"model": ask.model[0], "engine": name}
        record["load s"] = round(runs[0]["loaded"], 2)
        record["audio s"] = round(audio, 2)
        record["s"] = spread([run["seconds"] for run in runs])
        record["x real time"] = spread([audio / run["seconds"] for run in runs])
        record["first, ms"] = spread([1000 * run["first"] for run in runs])
        kind = model.programs[name][1]
        others = [n for n in names if model.programs[n][1] == kind and n.split()[0] != "alm"]
        if others:
            record["error, dB"] = round(_error(*(folder / f"{n}.npy" for n in (name, others[0]))))
        yield record


def _error(found: Path, wanted: Path) -> float:
    """How far the difference lies below what is wanted; programs may fade their beginnings."""
    a, b = (np.load(file).astype(np.float64)[2400:] for file in (found, wanted))
    length = min(len(a), len(b))
    power = np.square(a[:length] - b[:length]).sum()
    return float(10 * np.log10(power / np.square(b[:length]).sum() + 1e-30))


def parsed() -> argparse.Namespace:
    """The command line."""
    assert __doc__
    manner = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=manner)
    parser.add_argument("--model", nargs="+", choices=MODELS, default=["pocket-tts"])
    parser.add_argument("--engines", nargs="+")
    parser.add_argument("--text", default=_TEXT)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure what was asked for."""
    ask = parsed()
    if ask.worker:
        serve(ask.worker, ask)
        return
    records: list[Record] = []
    for name in ask.model:
        ask.model = [name]
        if lacking := missing(MODELS[name]):
            sys.exit(f"{name}: {lacking} is not installed for {sys.executable}")
        with tempfile.TemporaryDirectory() as root:
            records += compare(ask, Path(root))
    show(records, ask.threads, _PACKAGES)


if __name__ == "__main__":
    main()
