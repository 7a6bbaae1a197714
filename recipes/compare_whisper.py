"""Measure Whisper here against openai-whisper, transformers and faster-whisper, side by side.

    python recipes/compare_whisper.py                        # tiny, base and small; greedy, beam 5
    python recipes/compare_whisper.py --size base --beams 5 --runs 5
    python recipes/compare_whisper.py --batch 8              # windows together, as in batched mode

All have the same weights, random at the published sizes, hear the same 30 s and write the same
number of tokens (speed does not depend on what the weights say). Every engine has a process of its
own, all alive at once, and only one works at a time: rounds go through all of them (A B C A B C),
after one that warms up; every figure is a median (least to most). `error` is how far the encoder's
output is from that of openai-whisper, `same` how many tokens are equal before the first that is
not. Markdown and one line of JSON go to standard output. Run it on an otherwise idle machine, or
count the processor's seconds of one thread (`--cpu --threads 1`). Needs the extra `test`;
faster-whisper takes part where it is installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from recipes.whisper_peers import ENGINES, available, build, environment, spectrogram
from recipes.workers import Record, Worker, show, spread

_ORACLE = "openai-whisper"
_PACKAGES = ("torch", "openai-whisper", "transformers", "faster-whisper", "ctranslate2")


def started(name: str, folder: Path, ask: argparse.Namespace) -> Worker:
    """An engine in a process of its own."""
    options = ["--worker", name, "--folder", str(folder), "--threads", str(ask.threads)]
    options += ["--tokens", str(ask.tokens), "--batch", str(ask.batch)] + ["--cpu"] * ask.cpu
    return Worker("recipes.compare_whisper", options, environment(name))


def vectors(name: str, folder: Path) -> torch.Tensor:
    """What the engine's encoder made."""
    found: torch.Tensor = torch.load(folder / f"{name}.pt")
    return found


@torch.inference_mode()
def serve(name: str, ask: argparse.Namespace) -> None:
    """One engine: answer the works on standard input with lines of JSON."""
    torch.set_num_threads(ask.threads)
    load, kind, _ = ENGINES[name]
    clock = time.process_time if ask.cpu else time.perf_counter
    began = clock()
    engine = load(ask.folder, kind)
    loaded, mel = clock() - began, spectrogram(ask.batch)
    memory = engine.encode(mel)
    torch.save(engine.vectors(memory).clone(), ask.folder / f"{name}.pt")
    for line in sys.stdin:
        work, tokens = line.strip(), None
        began = clock()
        if work == "encode":
            memory = engine.encode(mel)
            engine.vectors(memory)  # some are lazy
        else:
            tokens = engine.decode(memory, int(work), ask.tokens)
        seconds = clock() - began
        print(json.dumps({"seconds": seconds, "tokens": tokens, "loaded": loaded}), flush=True)


def compare(size: str, folder: Path, ask: argparse.Namespace) -> Iterator[Record]:
    """A record for every engine."""
    build(size, folder)
    workers = {name: started(name, folder, ask) for name in ask.engines or available()}
    works = ["encode", *map(str, ask.beams)]
    rounds: list[dict[str, dict[str, Record]]] = []
    for _ in range(ask.runs + 1):
        rounds.append({n: {work: w.run(work) for work in works} for n, w in workers.items()})
    for worker in workers.values():
        worker.close()
    for name in workers:
        first = rounds[0][name]
        loaded = next(iter(first.values()))["loaded"]
        record: Record = {"size": size, "engine": name, "load s": round(loaded, 2)}
        sums: dict[str, float] = {}
        for work in works:
            seconds = [one[name][work]["seconds"] for one in rounds[1:]]
            sums[work] = statistics.median(seconds)
            label = work if work == "encode" else f"beam {work}, {ask.tokens} tokens"
            record[f"{label}, s"] = spread(seconds)
        for beams in works[1:]:
            record[f"x real time, beam {beams}"] = round(
                30 * ask.batch / (sums["encode"] + sums[beams]), 1
            )
        if _ORACLE in workers:
            wanted = vectors(_ORACLE, folder)
            found = vectors(name, folder)
            record["error"] = f"{float((found - wanted).norm() / wanted.norm()):.1e}"
            for beams in works[1:]:
                expected = rounds[0][_ORACLE][beams]["tokens"]
                record[f"same, beam {beams}"] = agreeing(first[beams]["tokens"], expected)
        yield record


def agreeing(found: list[int], expected: list[int]) -> str:
    """How many tokens are equal before the first that is not."""
    pairs = zip(found, expected, strict=False)
    same = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(found), len(expected)))
    return f"{same} of {len(expected)}"


def parsed() -> argparse.Namespace:
    """The command line."""
    assert __doc__
    manner = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=manner)
    parser.add_argument("--size", nargs="+", default=["tiny", "base", "small"])
    parser.add_argument("--engines", nargs="+", choices=ENGINES)
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--batch", type=int, default=1, help="windows of 30 s at a time")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--worker", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure what was asked for."""
    ask = parsed()
    torch.set_num_threads(ask.threads)
    if ask.worker:
        serve(ask.worker, ask)
        return
    records: list[Record] = []
    for size in ask.size:
        with tempfile.TemporaryDirectory() as folder:
            records += compare(size, Path(folder), ask)
    show(records, ask.threads, _PACKAGES)


if __name__ == "__main__":
    main()
