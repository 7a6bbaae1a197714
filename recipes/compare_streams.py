"""Measure Mimi frame by frame, as live audio comes, against the package `moshi`, side by side.

    python recipes/compare_streams.py            # 20 s of noise, a frame of 80 ms at a time

The weights are the same on both sides, random at the published size, in the layout that the
package writes. Runs alternate (A B A B) after one that warms up; figures are medians (least to
most). Markdown and one line of JSON go to standard output. Run it on an otherwise idle machine
that has `moshi` (it brings a torch of its own: an environment apart is best).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from moshi.models import loaders  # type: ignore[import-not-found]
from safetensors.torch import save_file
from torch import Tensor

from alm_cli.checkpoints.load import load
from alm_cli.nn.state import State
from recipes.timing import Sides, alternate, spread

HOP, RATE = 1920, 24_000


def reference(codebooks: int) -> Any:
    """The package's model with random weights and filled codebooks."""
    torch.manual_seed(0)
    model = loaders.get_mimi(None, device="cpu", num_codebooks=codebooks)
    for name, buffer in model.named_buffers():
        if name.endswith("embedding_sum"):
            buffer.normal_()
        if name.endswith(("_initialized", "cluster_usage")):
            buffer.fill_(1)
    return model.eval()


def published(model: Any) -> dict[str, Tensor]:
    """The weights under the names of the published file, which the package renames as it loads."""
    renamed = {".in_projs.0.weight": ".in_proj_weight", ".out_projs.0.weight": ".out_proj.weight"}
    weights = {}
    for name, tensor in model.state_dict().items():
        for new, old in renamed.items():
            name = name.replace(new, old)
        weights[name] = tensor.contiguous()
    return weights


def encoded(model: Any, wave: Tensor, codebooks: int) -> Tensor:
    """wave [1, 1, T] -> codes [1, K, F], frame by frame."""
    state, made = State(), []
    frames = wave.split(HOP, -1)
    for index, frame in enumerate(frames, 1):
        state.last = index == len(frames)
        made.append(model.encode(frame, codebooks, state))
    return torch.cat(made, -1)


def decoded(model: Any, codes: Tensor) -> Tensor:
    """codes [1, K, F] -> wave [1, 1, T], frame by frame."""
    state, made = State(), []
    for index, frame in enumerate(codes.split(1, -1), 1):
        state.last = index == codes.shape[-1]
        made.append(model.decode(frame, state))
    return torch.cat(made, -1)


def their_encoded(model: Any, wave: Tensor) -> Tensor:
    """The same by the package."""
    with model.streaming(1):
        return torch.cat([model.encode(frame) for frame in wave.split(HOP, -1)], -1)


def their_decoded(model: Any, codes: Tensor) -> Tensor:
    """The same by the package."""
    with model.streaming(1):
        return torch.cat([model.decode(frame) for frame in codes.split(1, -1)], -1)


@torch.inference_mode()
def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--codebooks", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    ask = parser.parse_args()
    torch.set_num_threads(ask.threads)
    theirs = reference(ask.codebooks)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "mimi.safetensors")
        save_file(published(theirs), file)
        ours = load(file).model
    length = round(ask.seconds * RATE) // HOP * HOP
    wave = 0.1 * torch.randn(1, 1, length, generator=torch.Generator().manual_seed(0))
    codes, wanted = encoded(ours, wave, ask.codebooks), their_encoded(theirs, wave)
    back, their_back = decoded(ours, wanted), their_decoded(theirs, wanted)
    differences = {
        "encode": f"{int((codes != wanted).sum())} of {codes.numel()} codes differ",
        "decode": f"greatest difference {float((back - their_back).abs().max()):.1e}",
    }
    sides: dict[str, Sides] = {
        "encode": {
            "alm": partial(encoded, ours, wave, ask.codebooks),
            "moshi": partial(their_encoded, theirs, wave),
        },
        "decode": {
            "alm": partial(decoded, ours, wanted),
            "moshi": partial(their_decoded, theirs, wanted),
        },
    }
    records = []
    for work, works in sides.items():
        times = alternate(works, ask.runs)
        speeds = {side: [ask.seconds / s for s in times[side]] for side in times}
        records.append(
            {
                "work": f"Mimi, {work} {ask.seconds:g} s by frames of 80 ms",
                "alm, x real time": spread(speeds["alm"]),
                "moshi, x real time": spread(speeds["moshi"]),
                "alm / moshi": round(
                    statistics.median(speeds["alm"]) / statistics.median(speeds["moshi"]), 2
                ),
                "the same": differences[work],
            }
        )
    print("| " + " | ".join(records[0]) + " |\n" + "|---" * len(records[0]) + "|")
    for record in records:
        print("| " + " | ".join(str(value) for value in record.values()) + " |")
    versions = {name: importlib.metadata.version(name) for name in ("torch", "moshi", "numpy")}
    print("\n" + json.dumps({"threads": ask.threads, **versions, "records": records}))


if __name__ == "__main__":
    main()
