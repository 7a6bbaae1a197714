"""The catalogue: complete cards, near names, and nothing heavy."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module

import pytest

from alm_cli.catalog import CATALOG, ModelCard, family_of, find_card
from alm_cli.checkpoints.family import Family
from alm_cli.errors import ModelError

CARDS = pytest.mark.parametrize("card", CATALOG, ids=lambda card: card.name)


@CARDS
def test_a_card_is_complete(card: ModelCard) -> None:
    assert re.fullmatch(r"[a-z0-9]+([-.][a-z0-9]+)*", card.name)
    assert card.note and card.licence
    assert bool(card.vocabularies) != bool(card.dimension)
    assert bool(card.parameters) == bool(card.source)
    assert card.frame_rate > 0
    assert find_card(card.name) is card
    assert all(find_card(name).source and not find_card(name).needs for name in card.needs)
    assert isinstance(import_module(card.family).FAMILY, Family)


@CARDS
def test_what_is_fetched_is_pinned_to_a_commit(card: ModelCard) -> None:
    if card.asset:
        assert "/" not in card.asset
    elif card.source:
        repository, revision = card.repository
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", repository)
        assert re.fullmatch(r"[0-9a-f]{40}", revision)


def test_names_are_unique() -> None:
    assert len({card.name for card in CATALOG}) == len(CATALOG)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("encodec", "encodec-24khz"), ("EnCodec-24kHz", "encodec-24khz"), ("alm-codek", "alm-codec")],
)
def test_a_wrong_name_gets_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(ModelError) as caught:
        find_card(wrong)
    assert caught.value.hint is not None and right in caught.value.hint


def test_a_name_like_no_other_gets_all() -> None:
    with pytest.raises(ModelError) as caught:
        find_card("zzz")
    assert all(card.name in str(caught.value) for card in CATALOG)


def test_families_are_found_by_the_type_in_the_config() -> None:
    assert family_of("encodec") == "alm_cli.codecs.encodec"
    assert family_of("alm-codec") == family_of("alm_codec") == "alm_cli.codecs.alm_codec"
    assert family_of("bert") is None


def test_the_catalogue_imports_nothing_heavy() -> None:
    program = "import sys, alm_cli.catalog; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
