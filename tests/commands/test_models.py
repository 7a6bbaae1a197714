"""`alm models`: the catalogue, read without loading anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import Result

from alm_cli.catalog import CATALOG, ModelCard, find_card
from alm_cli.files.tokens import read_tokens

Alm = Callable[..., Result]


def test_the_list_has_a_line_for_each_model(alm: Alm) -> None:
    plain = alm("models")
    assert plain.exit_code == 0
    assert plain.stdout == alm("models", "list").stdout
    names = [line.split()[0] for line in plain.stdout.splitlines()]
    assert names == [card.name for card in CATALOG]
    for words in (("models", "--json"), ("models", "list", "--json")):
        lines = [json.loads(line) for line in alm(*words).stdout.splitlines()]
        assert [line["name"] for line in lines] == names


def test_a_card_is_shown(alm: Alm) -> None:
    shown = alm("models", "show", "encodec-24khz")
    assert shown.exit_code == 0
    assert "75.0 Hz" in shown.stdout
    found = json.loads(alm("models", "show", "encodec-24khz", "--json").stdout)
    assert (found["frame_rate"], found["version"]) == (75.0, 1)


def test_the_bundled_model_is_here(alm: Alm) -> None:
    result = alm("models", "path", "alm-codec")
    assert result.exit_code == 0
    assert (Path(result.stdout.strip()) / "config.json").is_file()
    assert alm("models", "pull", "alm-codec").stdout == result.stdout


def test_what_is_elsewhere_is_said_to_be(
    alm: Alm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("ALM_OFFLINE", "1")
    result = alm("models", "path", "encodec-24khz")
    assert result.exit_code == 3
    assert "alm models pull encodec-24khz" in result.stderr
    result = alm("models", "pull", "encodec-24khz")
    assert result.exit_code == 3
    assert "offline" in result.stderr


def cached(cache: Path, name: str) -> Path:
    """The files of a model where a download would have put them."""
    repository, revision = find_card(name).repository
    folder = cache / f"models--{repository.replace('/', '--')}" / "snapshots" / revision
    folder.mkdir(parents=True)
    for file in ("config.json", "pytorch_model.bin", "model.safetensors"):
        (folder / file).write_bytes(b"{}")
    return folder


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("speecht5", "speecht5-hifigan"),
        ("dia-1.6b", "dac-44khz"),
        ("vocos-encodec-24khz", "encodec-24khz"),
    ],
)
def test_a_model_is_pulled_with_what_it_needs(
    name: str, needed: str, alm: Alm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("ALM_OFFLINE", "1")
    folder = cached(tmp_path, name)
    lacking = alm("models", "pull", name)
    assert (lacking.exit_code, lacking.stdout) == (3, "")
    assert f"`alm models pull {needed}`" in lacking.stderr
    other = cached(tmp_path, needed)
    assert alm("models", "pull", name).stdout == f"{folder}\n"
    assert alm("models", "pull", needed).stdout == f"{other}\n"
    licence = find_card(needed).licence
    assert f"{needed} ({licence})" in alm("models", "show", name).stdout
    found = json.loads(alm("models", "show", name, "--json").stdout)
    assert found["needs"] == f"{needed} ({licence})"


def test_the_cards_need_what_the_systems_load() -> None:
    from alm_cli.systems import dia_speaker, speecht5_speaker

    assert find_card("dia-1.6b").needs == (dia_speaker._CODEC,)
    assert find_card("speecht5").needs == (speecht5_speaker.SPEECHT5_VOCODER.name,)


@pytest.mark.parametrize("name", ["t5-base", "speecht5-hifigan"])
def test_a_part_of_models_is_shown_and_not_listed(name: str, alm: Alm) -> None:
    found = json.loads(alm("models", "show", name, "--json").stdout)
    assert (found["name"], found["kind"], "frame_rate" in found) == (name, "model", False)
    assert name not in alm("models").stdout.split()


@pytest.mark.parametrize("card", [card for card in CATALOG if not card.source])
def test_a_formula_has_no_files(alm: Alm, card: ModelCard) -> None:
    for command in ("pull", "path"):
        result = alm("models", command, card.name)
        assert (result.exit_code, result.stdout) == (3, "")
        assert f"{card.name} has no files" in result.stderr
    found = json.loads(alm("models", "show", card.name, "--json").stdout)
    assert (found["codebooks"], found["dimensions"]) == (0, card.dimension)
    assert "without weights" in alm("models", "show", card.name).stdout


@pytest.mark.parametrize("command", ["show", "path", "pull"])
def test_unknown_names_are_refused_with_suggestions(alm: Alm, command: str) -> None:
    result = alm("models", command, "encodek")
    assert result.exit_code == 3
    assert "encodec-24khz" in result.stderr


@pytest.fixture
def pickled(small: Path, tmp_path: Path) -> Path:
    """The small codec as a training program would leave it: pickled, in a folder of its own."""
    weights, settings = load_file(small / "model.safetensors"), (small / "config.json").read_bytes()
    path = tmp_path / "small" / "last.ckpt"
    path.parent.mkdir()
    torch.save({"state_dict": weights, "optimizer": {"m": torch.ones(1)}, "epoch": 3}, path)
    (path.parent / "config.json").write_bytes(settings)
    return path


def test_a_converted_model_gives_the_same_tokens(
    alm: Alm, record: Callable[..., Path], pickled: Path, tmp_path: Path
) -> None:
    converted = tmp_path / "small" / "converted"
    result = alm("models", "convert", pickled, "-o", converted)
    assert (result.exit_code, result.stdout) == (0, f"{converted / 'model.safetensors'}\n")
    assert result.stderr.splitlines() == ["left out, being neither weights nor settings: optimizer"]
    recording = record("a.wav")
    codes = []
    for model in (pickled.parent, converted):
        target = tmp_path / f"{model.name}.alm"
        assert alm("encode", recording, "-m", model, "-o", target).exit_code == 0
        codes.append(read_tokens(target).codes)
    assert (codes[0] == codes[1]).all() and codes[0].size


def test_conversion_tells_in_json_what_it_made(alm: Alm, pickled: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "weights.safetensors"
    result = alm("models", "convert", pickled, "-o", target, "--json")
    told = json.loads(result.stdout)
    assert (told["output"], told["left_out"]) == (str(target), ["optimizer"])
    assert told["tensors"] == len(load_file(target))
    assert told["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    assert (target.parent / "config.json").read_bytes() == (
        pickled.with_name("config.json").read_bytes()
    )


def test_conversion_beside_the_checkpoint_keeps_its_settings(alm: Alm, pickled: Path) -> None:
    result = alm("models", "convert", pickled, "-o", pickled.parent)
    assert result.exit_code == 0
    assert sorted(path.name for path in pickled.parent.iterdir()) == [
        "config.json", "last.ckpt", "model.safetensors",
    ]  # fmt: skip


def test_conversion_replaces_nothing_unasked(alm: Alm, pickled: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    for name in ("model.safetensors", "config.json"):
        (target / name).write_text("mine")
        result = alm("models", "convert", pickled, "-o", target)
        assert result.exit_code == 1
        assert f"{name}: exists already" in result.stderr and "--overwrite" in result.stderr
        assert (target / name).read_text() == "mine"
        (target / name).unlink()
    (target / "config.json").write_text("mine")
    assert alm("models", "convert", pickled, "-o", target, "--overwrite").exit_code == 0
    assert json.loads((target / "config.json").read_bytes())["model_type"] == "alm_codec"


def test_a_refused_conversion_leaves_nothing(alm: Alm, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"model": {"w": torch.ones(1)}, "path": tmp_path}, path)
    result = alm("models", "convert", path, "-o", tmp_path / "out")
    assert result.exit_code == 3
    assert "would run the code of pathlib" in result.stderr and "state_dict" in result.stderr
    torch.save({"w": torch.ones(1, dtype=torch.complex128)}, path)
    result = alm("models", "convert", path, "-o", tmp_path / "out")
    assert result.exit_code == 3
    assert "cannot hold w" in result.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["m.pt", "out"]
    assert alm("models", "convert", tmp_path / "nowhere", "-o", "x").exit_code == 3
