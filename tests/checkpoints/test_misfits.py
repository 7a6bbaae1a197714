"""Whatever is wrong with a checkpoint arrives in one message: tensors and settings alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from alm_cli.checkpoints.family import Settings, SettingsError
from alm_cli.checkpoints.load import load
from alm_cli.codecs.alm_codec import AlmCodec, AlmCodecConfig
from alm_cli.errors import ModelError

SIZES = {"fine_hop": 48, "synthesis_hop": 24, "window": 96, "codebooks": 2, "vocabulary": 8}
WIDTHS = {"latent": 4, "encoder_width": 8, "context_width": 8, "decoder_width": 8}


def model(folder: Path, *, fitting: bool = False, **settings: object) -> Path:
    """A small codec; unless fitting, it lacks a tensor, has a strange one and one misshapen."""
    torch.manual_seed(0)
    weights = dict(AlmCodec(AlmCodecConfig(**SIZES, **WIDTHS)).state_dict())
    if not fitting:
        weights |= {"stranger.weight": torch.ones(3), "gather.weight": torch.ones(5, 5)}
        del weights["bottleneck.bias"]
    save_file({name: tensor.clone() for name, tensor in weights.items()}, folder / "m.safetensors")
    config = {"model_type": "alm_codec", **SIZES, **WIDTHS, **settings}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


MISFITS = (
    "bottleneck.bias: missing, 4",
    "stranger.weight: has no place in the model",
    "gather.weight: 5x5, where the model has 8x16",
)


def test_tensors_that_lack_or_surprise_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load(model(tmp_path))
    assert all(misfit in caught.value.message for misfit in MISFITS)
    assert caught.value.hint


def test_settings_and_tensors_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load(model(tmp_path, delay="long", attention_heads=4))
    told = caught.value.message
    assert "delay is 'long'" in told and "attention_heads: unknown setting" in told
    assert all(misfit in told for misfit in MISFITS)


def test_other_sizes_are_told_as_other_shapes(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load(model(tmp_path, latent=6))
    told = caught.value.message
    assert "project.weight: 4x" in told and "where the model has 6x" in told
    assert "stranger.weight" in told


def test_settings_alone_are_told_where_the_tensors_fit(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(model(tmp_path, fitting=True, mystery=1))
    assert caught.value.message == "config.json: mystery: unknown setting"


def test_settings_whose_defaults_do_not_go_together_are_told_alone(tmp_path: Path) -> None:
    # Without its window the model cannot even be laid out.
    with pytest.raises(ModelError, match="window is 'wide'") as caught:
        load(model(tmp_path, window="wide", synthesis_hop=7, fine_hop=7))
    assert "synthesis_hop" not in caught.value.message.partition("\n")[0]


def test_many_problems_are_cut_and_counted() -> None:
    settings = Settings({f"key{number}": 1 for number in range(30)})
    with pytest.raises(SettingsError, match="key9: unknown setting") as caught:
        Settings({f"key{number}": 1 for number in range(10)}).finish()
    assert len(caught.value.keys) == 10
    with pytest.raises(SettingsError, match="; and 10 more ") as caught:
        settings.finish()
    assert len(caught.value.keys) == 30
