"""Measure how fast a model of ours renders, and how soon it is heard.

    python -m recipes.measure_speak                     # alm-tts: a look, a sentence, first audio
    python -m recipes.measure_speak --cold 5            # and the command line from nothing
    python -m recipes.measure_speak --batch 32          # short texts at once, and one by one
    python -m recipes.measure_speak --model alm-music   # a step

A step is that of the network alone, with as many steps behind it as half a sentence has: as it is
drawn on one core, and as the plain network would take it; a look is one at the frames of a late
stretch and those before that are seen again. Markdown goes to standard output. Run it on an
otherwise idle machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import torch

from alm_cli.checkpoints.load import load
from alm_cli.nn.renderer import Renderer
from alm_cli.nn.renderer_steps import RendererSteps
from alm_cli.nn.state import State
from alm_cli.systems.ahead import one_core_each
from alm_cli.systems.parallel_rendering import SEEN, STRETCHES
from alm_cli.systems.speaker import Line, load_speaker
from recipes.timing import alternate, spread

SHORT = "The cat is asleep on the warm roof."
LONG = (
    "The old mill stood beside the river for more than two hundred years, and nobody in the "
    "village could remember a time when its wheel did not turn."
)
STEPS = 120


def step_times(model: Renderer, runs: int) -> dict[str, list[float]]:
    """Milliseconds of a step: as it is drawn, and as the plain network takes it."""
    layout = RendererSteps(model)
    codes = torch.randint(1024, (STEPS, model.books))
    told, tone = torch.randn(STEPS, model.width), torch.randn(1, model.width)

    def drawn() -> None:
        row = layout.row(tone, STEPS)
        for one, condition in zip(codes, told, strict=True):
            row(one, condition)

    def plain() -> None:
        state = State()
        for one, condition in zip(codes, told, strict=True):
            model(one[None, :, None], condition[None, None], tone, state)

    with one_core_each(), torch.inference_mode():
        found = alternate({"a step": drawn, "a step of the plain network": plain}, runs)
    return {name: [1000 * s / STEPS for s in seconds] for name, seconds in found.items()}


def look_times(model: Renderer, runs: int) -> dict[str, list[float]]:
    """Milliseconds of a look at a stretch, for one codebook."""
    frames = SEEN + STRETCHES[-1]
    codes = torch.randint(1024, (1, model.books, frames))
    told, tone = torch.randn(1, frames, model.width), torch.randn(1, model.width)
    with one_core_each(), torch.inference_mode():
        look: dict[str, Callable[[], object]] = {
            f"a look at {frames} frames": partial(model.asked, 0, codes, told, tone)
        }
        found = alternate(look, 5 * runs)
    return {name: [1000 * s for s in seconds] for name, seconds in found.items()}


def speech_times(name: str, runs: int) -> tuple[list[float], list[float]]:
    """How many times real time a sentence is said, and milliseconds to the first of another."""
    speaker = load_speaker(name, device="cpu")
    rates, firsts = [], []
    for run in range(runs + 1):
        began = time.perf_counter()
        said = speaker.say([Line(text=LONG, seed=run)])[0]
        rates.append(len(said.samples) / speaker.rate / (time.perf_counter() - began))
        began = time.perf_counter()
        with closing(speaker.stream(Line(text=SHORT, seed=run))) as stream:
            next(stream)
            firsts.append(1000 * (time.perf_counter() - began))
    return rates[1:], firsts[1:]


def cold_times(name: str, runs: int) -> dict[str, list[float]]:
    """Seconds of `alm speak hello -o FILE`, and of importing torch alone."""
    with tempfile.TemporaryDirectory() as folder:
        target = str(Path(folder) / "x.wav")
        options = ["--model", name, "-o", target, "--overwrite", "--quiet"]
        spoken = [sys.executable, "-m", "alm_cli", "speak", "hello", *options]
        works: dict[str, Callable[[], object]] = {
            "`alm speak hello`": partial(subprocess.run, spoken, check=True),
            "`import torch`": partial(
                subprocess.run, [sys.executable, "-c", "import torch"], check=True
            ),
        }
        return alternate(works, runs)


def batch_times(name: str, size: int, runs: int) -> dict[str, list[float]]:
    """Seconds of one `alm speak --batch` of so many short texts, and of as many commands."""
    with tempfile.TemporaryDirectory() as folder:
        texts = [f"{SHORT} This is the sentence number {n}." for n in range(size)]
        listed = Path(folder) / "texts.txt"
        listed.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        speak = [sys.executable, "-m", "alm_cli", "speak", "--model", name, "--overwrite", "-q"]

        def singly() -> None:
            for text in texts:
                subprocess.run([*speak, text, "-o", str(Path(folder) / "x.wav")], check=True)

        together = [*speak, "--batch", str(listed), "-o", str(Path(folder) / "all")]
        works: dict[str, Callable[[], object]] = {
            f"a batch of {size}": partial(subprocess.run, together, check=True),
            f"{size} commands": singly,
        }
        return alternate(works, runs)


def main() -> None:
    """Measure what was asked for."""
    manner = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=manner)
    parser.add_argument("--model", default="alm-tts")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--cold", type=int, default=0, metavar="RUNS")
    parser.add_argument("--batch", type=int, default=0, metavar="TEXTS")
    parser.add_argument("--threads", type=int, default=2)
    ask = parser.parse_args()
    torch.set_num_threads(ask.threads)
    model = load(ask.model).model
    assert isinstance(model, Renderer), f"{ask.model} is not of the kind that renders"
    times = step_times if model.causal else look_times
    rows = {f"{name}, ms": spread(found) for name, found in times(model, ask.runs).items()}
    if ask.model == "alm-tts":
        rates, firsts = speech_times(ask.model, ask.runs)
        rows |= {"times real time": spread(rates), "first audio, ms": spread(firsts)}
    if ask.cold:
        found = cold_times(ask.model, ask.cold)
        rows |= {f"{name}, s": spread(seconds) for name, seconds in found.items()}
    if ask.batch:
        found = batch_times(ask.model, ask.batch, 2)
        rows |= {f"{name}, s": spread(seconds) for name, seconds in found.items()}
    sys.stdout.write(f"| {ask.model}, {ask.threads} cores | median (least to most) |\n|---|---|\n")
    sys.stdout.writelines(f"| {name} | {value} |\n" for name, value in rows.items())


if __name__ == "__main__":
    main()
