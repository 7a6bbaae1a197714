"""Measure Bark here against `transformers`, stage by stage, side by side.

    python -m recipes.compare_bark                       # bark-small, 5 s of speech, 2 threads
    python -m recipes.compare_bark --size large --seconds 3 --runs 1
    python -m recipes.compare_bark --batch 3             # our own batch against one after another

Both have the same weights, random at the published sizes (speed does not depend on their values),
draw by the rules of `transformers` from the same seed and say equally much; `same` tells whether
all tokens are equal. Rounds go through both (A B A B) after one that warms up; every figure is a
median (least to most) in seconds. Markdown and one line of JSON go to standard output. Run it on an
otherwise idle machine; needs the extra `test`, 3 GB of memory, 9 GB for the large model.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from alm_cli.checkpoints.load import build
from alm_cli.checkpoints.reader import Checkpoint
from alm_cli.lm.bark import FAMILY, Bark
from alm_cli.runtime import seeded
from alm_cli.systems.bark_stages import (
    coarse_codes,
    fine_codes,
    hub_manner,
    semantic_tokens,
)
from recipes.timing import alternate, spread

SIZES = {"small": (768, 12, 12), "large": (1024, 16, 24)}
_TOLD: dict[str, dict[str, Any]] = {
    "semantic_config": {"do_sample": True, "temperature": 0.7},
    "coarse_acoustics_config": {"do_sample": True, "temperature": 0.7},
    "fine_acoustics_config": {"temperature": 0.5},
}


def models(size: str) -> tuple[Any, Bark]:
    """The same weights twice."""
    from transformers import BarkConfig, BarkModel
    from transformers.models.bark.generation_configuration_bark import BarkGenerationConfig

    wide, heads, layers = SIZES[size]
    common = {"hidden_size": wide, "num_heads": heads, "num_layers": layers, "bias": False}
    config = BarkConfig(
        semantic_config={**common, "input_vocab_size": 129_600, "output_vocab_size": 10_048},
        coarse_acoustics_config={**common, "input_vocab_size": 12_096, "output_vocab_size": 12_096},
        fine_acoustics_config={**common, "input_vocab_size": 1056, "output_vocab_size": 1056},
        codec_config={"model_type": "encodec"},
    )
    torch.manual_seed(0)
    theirs = BarkModel(config).eval()
    # The end of speech is never likely: both say as much as was asked for.
    theirs.semantic.lm_head.weight.data[10_000] = 0
    theirs.generation_config = BarkGenerationConfig(**_TOLD)
    weights = theirs.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    raw = {**config.to_dict(), "generation_config.json": _TOLD}
    ours = build(FAMILY, FAMILY.read_config(raw), Checkpoint(shapes, (), weights.__getitem__))
    assert isinstance(ours, Bark)
    return theirs, ours


class Sides:
    """The stages of both, with what they read."""

    def __init__(self, theirs: Any, ours: Bark, seconds: float) -> None:
        self._theirs, self._ours = theirs, ours
        length = min(768, round(seconds * ours.numbers.semantic_rate))
        # How long it speaks is asked of both.
        ours.numbers = replace(ours.numbers, semantic_most=length)
        self._length, self._manner = length, hub_manner(ours.hub)
        self._ids = torch.arange(30)[None] * 997 % 100_000
        self.semantic = torch.arange(length) * 7919 % 10_000
        self.coarse = torch.arange(2 * int(length * 75 / 49.9)).view(-1, 2) * 37 % 1024
        config = theirs.generation_config
        self._told = config.semantic_config, config.coarse_acoustics_config
        self._fine = config.fine_acoustics_config

    def works(self) -> dict[str, dict[str, Callable[[], Tensor]]]:
        """Stage -> side -> the tokens that it makes."""
        return {
            "semantic": {"alm": self.our_semantic, "transformers": self.their_semantic},
            "coarse": {"alm": self.our_coarse, "transformers": self.their_coarse},
            "fine": {"alm": self.our_fine, "transformers": self.their_fine},
        }

    def our_semantic(self, rows: int = 1) -> Tensor:
        """Semantic tokens [N] of the first of some equal rows."""
        numbers = self._ours.numbers
        text = torch.full((rows, numbers.inputs), numbers.text_pad)
        text[:, : self._ids.shape[1]] = self._ids + numbers.text_offset
        history = torch.full_like(text, numbers.semantics)
        noise = [seeded(1) for _ in range(rows)]
        return semantic_tokens(self._ours, text, history, self._manner, noise)[0]

    def their_semantic(self) -> Tensor:
        """The same."""
        torch.manual_seed(1)
        made = self._theirs.semantic.generate(
            torch.nn.functional.pad(self._ids, (0, 226)),
            attention_mask=torch.nn.functional.pad(torch.ones_like(self._ids), (0, 226)),
            semantic_generation_config=self._told[0],
            max_new_tokens=self._length,
        )[0]
        return made[made != 10_000]

    def our_coarse(self, rows: int = 1) -> Tensor:
        """Coarse codes [2, F] of the first of some equal rows."""
        nothing = self.semantic[:0]
        rest = [(nothing, nothing)] * rows, self._manner, [seeded(2) for _ in range(rows)]
        return coarse_codes(self._ours, [self.semantic] * rows, *rest)[0]

    def their_coarse(self) -> Tensor:
        """The same."""
        torch.manual_seed(2)
        made = self._theirs.coarse_acoustics.generate(
            self.semantic[None].clone(),
            semantic_generation_config=self._told[0],
            coarse_generation_config=self._told[1],
        )[0]
        return ((made - 10_000) % 1024).view(-1, 2).mT

    def our_fine(self) -> Tensor:
        """All codes [8, F]."""
        return fine_codes(self._ours, self.coarse.mT, None, self._manner, seeded(3))

    def their_fine(self) -> Tensor:
        """The same."""
        torch.manual_seed(3)
        flat = (self.coarse + torch.tensor([10_000, 11_024])).flatten()[None]
        made: Tensor = self._theirs.fine_acoustics.generate(
            flat,
            semantic_generation_config=self._told[0],
            coarse_generation_config=self._told[1],
            fine_generation_config=self._fine,
            temperature=0.5,
        )[0]
        return made


def main() -> None:
    """Write the table."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1)
    ask = parser.parse_args()
    torch.set_num_threads(ask.threads)
    with torch.inference_mode():
        sides = Sides(*models(ask.size), ask.seconds)
        records = [compare(name, works, ask.runs) for name, works in sides.works().items()]
        if ask.batch > 1:
            records += batched(sides, ask)
    total = {side: sum(r[side] for r in records[:3]) for side in ("alm", "transformers")}
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
    print("| stage | alm | transformers | ratio | same |\n|---|---|---|---|---|")
    for r in records:
        print(
            f"| {r['stage']} | {r['alm s']} | {r['transformers s']} | {r['ratio']} | {r['same']} |"
        )
    ratio = total["transformers"] / total["alm"]
    print(f"| all | {total['alm']:.1f} | {total['transformers']:.1f} | {ratio:.2f} | |")
    print(json.dumps({"records": records, "ratio": ratio, **vars(ask), **versions}))


def compare(name: str, works: dict[str, Callable[[], Tensor]], runs: int) -> dict[str, Any]:
    """A record of one stage."""
    same = torch.equal(*(work() for work in works.values()))
    times = alternate(dict(works), runs)
    medians = {side: statistics.median(values) for side, values in times.items()}
    return {
        "stage": name,
        **medians,
        **{f"{side} s": spread(values) for side, values in times.items()},
        "ratio": round(medians["transformers"] / medians["alm"], 2),
        "same": same,
    }


def batched(sides: Sides, ask: argparse.Namespace) -> list[dict[str, Any]]:
    """Several rows together, and as many one after another (in the column of transformers)."""
    records = []
    for name, work in (("semantic", sides.our_semantic), ("coarse", sides.our_coarse)):

        def together(work: Callable[[int], Tensor] = work) -> Tensor:
            return work(ask.batch)

        def apart(work: Callable[[int], Tensor] = work) -> Tensor:
            return [work(1) for _ in range(ask.batch)][0]

        works = {"alm": together, "transformers": apart}
        records.append(compare(f"{name}, {ask.batch} rows or one by one", works, ask.runs))
    return records


if __name__ == "__main__":
    main()
