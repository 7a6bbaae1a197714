"""The settings in checkpoints of AudioCraft: as YAML means them, and never more than that."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from alm_cli.checkpoints.audiocraft import audiocraft_settings
from tests.lm.magnets import cfg


def flat(tree: dict[str, object], prefix: str = "") -> dict[str, object]:
    """By whole names, blocks themselves as nothing."""
    found: dict[str, object] = {}
    for key, value in tree.items():
        inner = isinstance(value, dict) and value
        found[prefix + key] = None if inner else value
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
    return found


def test_it_is_what_yaml_means_with_references_resolved() -> None:
    text = cfg()
    wanted = flat(yaml.safe_load(text))
    wanted["generate.audio.sample_rate"] = wanted["sample_rate"]
    assert audiocraft_settings({"xp.cfg": text}) == wanted


NAMES = st.from_regex(r"[a-z_][a-z_0-9]{0,8}", fullmatch=True).filter(
    lambda word: word not in {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
)
VALUES = (
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | NAMES
    | st.floats(0.001, 1000).map(lambda x: round(x, 6)) | st.lists(st.integers(0, 99) | NAMES)
)  # fmt: skip


@given(st.dictionaries(NAMES, VALUES | st.dictionaries(NAMES, VALUES), max_size=8))
def test_what_yaml_writes_in_blocks_is_read(tree: dict[str, object]) -> None:
    text = yaml.safe_dump(tree, default_flow_style=False, sort_keys=False)
    assert audiocraft_settings({"xp.cfg": text}) == flat(tree)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "a: !!python/object/apply:os.system [ls]\n",
            {"a": "!!python/object/apply:os.system [ls]"},
        ),
        ("a: &x [1]\nb: *x\n", {"a": "&x [1]", "b": "*x"}),
        ("a: ${b}\nb: ${a}\n", {"a": "${b}", "b": "${a}"}),
        ("a: ${oc.env:HOME}\n", {"a": "${oc.env:HOME}"}),
        ("a: ${nowhere}\n", {"a": None}),
        ("- 1\n- 2\n", {}),
        ("a:\n- b: 1\n", {"a": None}),
        ("\t\x00{[", {}),
        ("a: 99999999999999999999\n", {"a": 99999999999999999999.0}),
    ],
)
def test_what_is_more_than_values_means_nothing(text: str, wanted: dict[str, object]) -> None:
    found = audiocraft_settings({"xp.cfg": text})
    assert {key: value for key, value in found.items() if "." not in key} == wanted


@pytest.mark.parametrize(
    "said", [{}, {"xp.cfg": 3}, {"xp.cfg": None}, {"xp.cfg": "a: 1\n" * 10**6}]
)
def test_without_a_text_of_a_size_there_are_no_settings(said: dict[str, object]) -> None:
    assert audiocraft_settings(said) == {}


@given(st.text(max_size=300))
def test_no_text_breaks_it(text: str) -> None:
    audiocraft_settings({"xp.cfg": text})


def test_depth_costs_no_stack() -> None:
    text = "".join(f"{' ' * depth}k:\n" for depth in range(900))
    found = audiocraft_settings({"xp.cfg": text})
    assert len(found) == 900
