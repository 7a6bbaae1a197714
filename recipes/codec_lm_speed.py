"""Measure CSM and Dia against `transformers`, side by side, at their published widths.

    python -m recipes.codec_lm_speed                       # CSM, both sides, 8 frames, all layers
    python -m recipes.codec_lm_speed --model dia
    python -m recipes.codec_lm_speed --rows 4 --dtype int8 # ours only in 8 bits

The weights are random: speed does not depend on their values. Ours is the network as the speaker
drives it, without the codec, on as many rows as a processor always computes. With `--layers N` both
sides have N layers in every stack, for machines with little memory. Every figure is the median of
the frames after the first, with the most and the least; one line of JSON goes to standard output.
Run it on an otherwise idle machine; needs the extra `test`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from alm_cli.checkpoints.load import load
from alm_cli.lm.csm import Csm
from alm_cli.lm.dia import Dia
from alm_cli.nn.llama import Streams
from alm_cli.nn.packed import pack_int8
from alm_cli.nn.state import State

# Rows that are computed together, see the speakers.
ROWS = 4


def csm(layers: int) -> Any:
    """The library's CSM, with as many layers, and a codec that is not used."""
    from transformers import CsmConfig, CsmForConditionalGeneration

    small = {"num_filters": 4, "hidden_size": 16, "upsample_groups": 16, "num_hidden_layers": 1}
    depth = {"num_hidden_layers": min(layers, 4)}
    config = CsmConfig(
        num_hidden_layers=layers,
        depth_decoder_config=depth,
        codec_config={"model_type": "mimi", **small},
    )
    return CsmForConditionalGeneration(config).eval()


def dia(layers: int) -> Any:
    """The library's Dia, with as many layers."""
    from transformers import DiaConfig, DiaForConditionalGeneration

    halves = {"encoder_config": {"num_hidden_layers": 1}, "decoder_config": {}}
    halves["decoder_config"] = {"num_hidden_layers": layers}
    return DiaForConditionalGeneration(DiaConfig(**halves)).eval()


def times(step: Callable[[], object], count: int) -> Iterator[float]:
    """Seconds of each step after the first."""
    step()
    for _ in range(count):
        begin = time.perf_counter()
        step()
        yield time.perf_counter() - begin


def ours_csm(model: Csm, rows: int) -> Callable[[], object]:
    """A frame of each row."""
    states = [State() for _ in range(rows)]
    read = [model.read(model.text(torch.arange(1, 30)[None]), state) for state in states]
    vectors = [torch.cat([*read, torch.zeros(ROWS - rows, read[0].shape[1])])]

    def step() -> None:
        codes = model.frame(vectors[0], lambda logits: logits.argmax(-1))
        vectors[0] = model.read(model.frames(codes[:, None]), Streams(states))

    return step


def ours_dia(model: Dia, rows: int) -> Callable[[], object]:
    """A step of each row, which guidance makes two."""
    states, tokens = [State() for _ in range(rows)], torch.arange(1, 60)[None]
    heard = [model.read(tokens) for _ in states]
    codes = torch.zeros(ROWS, 1, len(model.lags), dtype=torch.long)
    return lambda: model.speak(codes, heard, Streams(states))


def theirs(model: Any, name: str, rows: int, count: int) -> float:
    """Seconds a frame, of so many; what does not grow with them is taken off."""
    text = torch.arange(1, 30).repeat(rows, 1)
    # Tokens of ends are what random weights do not say.
    ask = {"do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    if name == "dia":
        ask |= {"guidance_scale": 3.0, "top_k": 45, "eos_token_id": 1024, "bos_token_id": 1026}
        ask |= {"pad_token_id": 1025, "decoder_start_token_id": 1026}

    def seconds(frames: int) -> float:
        begin = time.perf_counter()
        model.generate(input_ids=text, max_new_tokens=frames, **ask)
        return time.perf_counter() - begin

    few = 2 if name == "csm" else 20
    seconds(few)
    return (seconds(few + count) - seconds(few)) / count


def main() -> None:
    """Measure, and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", choices=("csm", "dia"), default="csm")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--rows", type=int, default=1, choices=range(1, ROWS + 1))
    parser.add_argument("--dtype", choices=("float32", "int8"), default="float32")
    asked = parser.parse_args()
    reference = (csm if asked.model == "csm" else dia)(asked.layers)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        reference.save_pretrained(folder)
        peer = theirs(reference, asked.model, asked.rows, asked.frames)
        del reference
        model: Any = load(Path(folder)).model.eval()
        if asked.dtype == "int8":
            pack_int8(model)
        rows = asked.rows if asked.model == "csm" else min(ROWS, 2 * asked.rows)
        step = (ours_csm if asked.model == "csm" else ours_dia)(model, rows)
        found = sorted(times(step, asked.frames))
    rate = 12.5 if asked.model == "csm" else 44_100 / 512
    middle = statistics.median(found)
    record = {
        **vars(asked),
        "threads": torch.get_num_threads(),
        "seconds_a_frame": middle,
        "least": found[0],
        "most": found[-1],
        "transformers": peer,
        "ratio": peer / middle,
        "times_real_time": asked.rows / rate / middle,
    }
    sys.stdout.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
