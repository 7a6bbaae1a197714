"""Tokens that are heard again: those of codecs without a card are told how they can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alm_cli.errors import ModelError
from alm_cli.files.tokens import write_tokens
from alm_cli.systems.continuing import heard_again
from alm_cli.values import Origin, Tokens


@pytest.mark.parametrize(
    ("codec", "told"),
    [("encodec-32khz", "facebook/encodec_32khz"), ("../../somewhere", "--model FOLDER")],
)
def test_who_has_no_card_is_decoded_by_its_folder(tmp_path: Path, codec: str, told: str) -> None:
    origin = Origin(
        codec=codec,
        weights_sha256="",
        rate=32_000,
        hop=640,
        frame_rate=50.0,
        vocabularies=(2048,) * 4,
        channels=1,
        source_rate=32_000,
        source_channels=1,
        source_length=1280,
        source_sha256="",
    )
    write_tokens(tmp_path / "a.alm", Tokens(np.zeros((1, 4, 2), np.int32), origin))
    with pytest.raises(ModelError, match="which alm does not know") as refusal:
        heard_again(tmp_path / "a.alm", "cpu")
    hint = str(refusal.value.hint)
    assert "alm decode" in hint and "--model FOLDER --force" in hint and told in hint
