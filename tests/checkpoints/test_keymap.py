"""The map of names: its five verbs, and that it is total and exact."""

from __future__ import annotations

import pytest
import torch

from alm_cli.checkpoints.keymap import (
    KeyMap,
    Shape,
    collapse,
    drop,
    fold_weight_norm,
    folded,
    merge,
    rename,
    tie,
)
from alm_cli.errors import ModelError

KEYS = KeyMap(
    rename("layers.{i}.attn.{part:q,k,v}_proj.weight", "blocks.{i}.attention.{part}.weight"),
    merge(["books.{i}.sum", "books.{i}.count"], "quantizer.{i}.vectors", torch.div),
    fold_weight_norm("{half:up,down}.conv", "{half}.weight"),
    rename("{name:*}.bias", "{name}.bias"),
    rename("embed", "embedding.weight"),
    tie("output.weight", "embedding.weight"),
    drop("*.initialized"),
)
THEIRS: dict[str, Shape] = {
    "layers.0.attn.q_proj.weight": (4, 4),
    "layers.11.attn.v_proj.weight": (4, 4),
    "books.2.sum": (8, 3),
    "books.2.count": (8, 1),
    "books.2.initialized": (),
    "up.conv.weight_g": (3, 1, 1),
    "up.conv.weight_v": (3, 2, 5),
    "down.conv.parametrizations.weight.original0": (2, 1, 1),
    "down.conv.parametrizations.weight.original1": (2, 2, 5),
    "some.deep.bias": (7,),
    "embed": (9, 4),
}
OURS: dict[str, Shape] = {
    "blocks.0.attention.q.weight": (4, 4),
    "blocks.11.attention.v.weight": (4, 4),
    "quantizer.2.vectors": (8, 3),
    "up.weight": (3, 2, 5),
    "down.weight": (2, 2, 5),
    "some.deep.bias": (7,),
    "embedding.weight": (9, 4),
    "output.weight": (9, 4),
}


def complaint(theirs: dict[str, Shape], ours: dict[str, Shape], keys: KeyMap = KEYS) -> str:
    with pytest.raises(ModelError) as caught:
        keys.plan(theirs, ours)
    return caught.value.message


def test_all_verbs_at_once() -> None:
    steps = {step.target: step for step in KEYS.plan(THEIRS, OURS)}
    assert set(steps) == set(OURS)
    assert steps["blocks.11.attention.v.weight"].sources == ("layers.11.attn.v_proj.weight",)
    vectors = steps["quantizer.2.vectors"]
    assert vectors.sources == ("books.2.sum", "books.2.count")
    assert vectors.combine(torch.ones(8, 3), torch.full((8, 1), 2.0)).unique().item() == 0.5
    assert steps["output.weight"].sources == steps["embedding.weight"].sources == ("embed",)


def test_the_order_of_the_tensors_does_not_matter() -> None:
    def facts(theirs: dict[str, Shape]) -> set[tuple[str, tuple[str, ...]]]:
        return {(step.target, step.sources) for step in KEYS.plan(theirs, OURS)}

    assert facts(dict(reversed(THEIRS.items()))) == facts(THEIRS)


def test_a_tied_parameter_that_the_checkpoint_brings_is_its_own() -> None:
    keys = KeyMap(rename("a", "a"), rename("b", "b"), tie("b", "a"))
    steps = {
        step.target: step.sources
        for step in keys.plan({"a": (1,), "b": (1,)}, dict(a=(1,), b=(1,)))
    }
    assert steps == {"a": ("a",), "b": ("b",)}


def test_weight_norm_folds_over_all_dimensions_but_the_first() -> None:
    for module in (torch.nn.Conv1d(3, 5, 4), torch.nn.ConvTranspose1d(3, 5, 4)):
        normed = torch.nn.utils.parametrizations.weight_norm(module)
        parts = normed.parametrizations.weight
        with torch.no_grad():
            parts.original0.mul_(3)
            weight = folded(parts.original0, parts.original1)
        torch.testing.assert_close(weight, normed.weight, atol=1e-6, rtol=1e-6)


def test_weight_norm_of_half_precision_is_folded_in_float32() -> None:
    direction = torch.randn(4, 3, 7).bfloat16()
    weight = folded(torch.ones(4, 1, 1).bfloat16(), direction)
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight.flatten(1).norm(dim=1), torch.ones(4), atol=1e-6, rtol=0)


def test_everything_that_misfits_is_said_at_once_with_layers_collapsed() -> None:
    theirs = {
        **THEIRS,
        **{f"layers.{layer}.mlp.up.weight": (4, 4) for layer in range(32)},
        "layers.3.attn.q_proj.weight": (4, 4),
        "some.deep.bias": (6,),
    }
    del theirs["up.conv.weight_g"], theirs["embed"]
    message = complaint(theirs, {**OURS, "blocks.0.gate": (2,), "blocks.1.gate": (2,)})
    assert message.splitlines()[1:] == [
        "  layers.{0..31}.mlp.up.weight: unknown, 4x4",
        "  up.conv.weight_v: alone, where 2 tensors make one",
        "  some.deep.bias: 6, where the model has 7",
        "  layers.3.attn.q_proj.weight: has no place in the model",
        "  embedding.weight: missing, 9x4",
        "  output.weight: missing, 9x4",
        "  blocks.{0,1}.gate: missing, 2",
    ]


def test_a_tensor_that_two_rules_take_is_refused() -> None:
    keys = KeyMap(rename("a.{i}", "a.{i}"), rename("a.{name:*}", "b.{name}"))
    assert "a.1: taken by several rules" in complaint({"a.1": (1,)}, {"a.1": (1,)}, keys)


def test_a_parameter_that_two_tensors_fill_is_refused() -> None:
    keys = KeyMap(rename("old.{i}", "x"), rename("new", "x"))
    assert "x: filled twice" in complaint({"old.1": (1,), "new": (1,)}, {"x": (1,)}, keys)
    assert "one of two tensors" in complaint({"old.1": (1,), "old.2": (1,)}, {"x": (1,)}, keys)


def test_parts_that_cannot_be_combined_are_refused() -> None:
    theirs = {**THEIRS, "up.conv.weight_g": (4, 1, 1)}
    assert "cannot be combined, 4x1x1 with 3x2x5" in complaint(theirs, OURS)


def test_a_flood_of_problems_is_cut_short() -> None:
    message = complaint({f"{name}x": (1,) for name in map(str, range(5000))}, {})
    assert message.count("\n") == 25 and message.endswith("and 4976 more")


@pytest.mark.parametrize(
    ("names", "collapsed"),
    [
        (["a.0.b", "a.1.b", "a.2.b"], ["a.{0..2}.b"]),
        (["a.0.b", "a.5.b"], ["a.{0,5}.b"]),
        (["a.7.b"], ["a.7.b"]),
        (["0.b", "1.b", "2.b"], ["{0..2}.b"]),
        (["a.0.b.1", "a.0.b.2", "a.1.b.1", "a.1.b.2"], ["a.{0,1}.b.{1,2}"]),
        (["a.0.b.1", "a.1.b.1", "a.1.b.2"], ["a.0.b.1", "a.1.b.{1,2}"]),
        (["a", "b.c"], ["a", "b.c"]),
        ([], []),
    ],
)
def test_collapsing_invents_no_name(names: list[str], collapsed: list[str]) -> None:
    assert collapse(names) == collapsed
