"""Tensors of a checkpoint that hold several of ours."""

from __future__ import annotations

import pytest
import torch

from alm_cli.checkpoints.keymap import merge, rename
from alm_cli.checkpoints.split import SplitKeyMap
from alm_cli.errors import ModelError

KEYS = SplitKeyMap(
    {"in_proj": ("q", "k")},
    rename("{i}.in_proj.{part:q,k}", "blocks.{i}.{part}"),
    rename("out", "out"),
)
OURS = {"blocks.0.q": (2, 3), "blocks.0.k": (2, 3), "out": (5,)}


def test_parts_become_parameters_of_their_own() -> None:
    theirs = {"0.in_proj": torch.arange(12.0).view(4, 3), "out": torch.ones(5)}
    plan = KEYS.plan({name: tuple(tensor.shape) for name, tensor in theirs.items()}, OURS)
    made = {step.target: step.combine(*(theirs[name] for name in step.sources)) for step in plan}
    assert torch.equal(made["blocks.0.q"], theirs["0.in_proj"][:2])
    assert torch.equal(made["blocks.0.k"], theirs["0.in_proj"][2:])
    assert torch.equal(made["out"], theirs["out"])
    assert made["blocks.0.q"].untyped_storage().nbytes() == 24, "a copy, not a view of the whole"


def test_parts_may_be_merged_with_other_tensors() -> None:
    keys = SplitKeyMap({"both": ("a", "b")}, merge(("both.a", "both.b"), "sum", torch.add))
    (step,) = keys.plan({"both": (4,)}, {"sum": (2,)})
    assert step.combine(*(torch.arange(4.0) for _ in step.sources)).tolist() == [2, 4]


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        ({"0.in_proj": (5, 3), "out": (5,)}, "0.in_proj: unknown, 5x3"),
        ({"0.in_proj": (), "out": (5,)}, "0.in_proj: unknown"),
        ({"0.in_proj": (8, 3), "out": (5,)}, "0.in_proj.q: 4x3, where the model has 2x3"),
        ({"out": (5,)}, "blocks.0.q: missing"),
    ],
)
def test_what_misfits_is_told(theirs: dict[str, tuple[int, ...]], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        KEYS.plan(theirs, OURS)
    assert words in str(caught.value)
