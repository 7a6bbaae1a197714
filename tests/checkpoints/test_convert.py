"""Pickled checkpoints become safetensors without losing a bit, and without running code."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from alm_cli.checkpoints import convert
from alm_cli.checkpoints.convert import open_pickle, write_safetensors
from alm_cli.checkpoints.reader import open_checkpoint
from alm_cli.errors import InputError, ModelError


def weights() -> dict[str, Tensor]:
    """Tensors of many types and layouts, two of which share their memory."""
    table = torch.randn(4, 6)
    return {
        "a.weight": table,
        "b.weight": table,
        "b.part": table[1:3],
        "turned": torch.randn(3, 5).mT,
        "half": torch.randn(7).half(),
        "brain": torch.randn(7).bfloat16(),
        "double": torch.randn(2, 2).double(),
        "whole": torch.arange(5),
        "truth": torch.tensor([True, False]),
        "single": torch.tensor(3.5),
        "nothing": torch.zeros(0, 4),
        "odd": torch.tensor([float("nan"), float("inf"), -0.0]),
        "grown": torch.nn.Parameter(torch.randn(3)),
    }


def saved(path: Path, value: object) -> Path:
    """A torch file."""
    torch.save(value, path)
    return path


def test_all_tensors_come_out_identical_under_their_names(tmp_path: Path) -> None:
    ours = weights()
    pickled = open_pickle(saved(tmp_path / "model.pt", {"state_dict": ours}))
    write_safetensors(pickled.checkpoint, tmp_path / "out.safetensors")
    found = load_file(tmp_path / "out.safetensors")
    assert found.keys() == ours.keys()
    for name, tensor in ours.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert found[name].flatten().view(torch.uint8).tolist() == (
            tensor.detach().flatten().view(torch.uint8).tolist()
        ), name


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".th", ".ckpt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_every_kind_of_torch_file_is_taken(suffix: str, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    torch.save({"w": torch.ones(3)}, path, _use_new_zipfile_serialization=zipped)
    for source in (path, tmp_path):
        assert open_pickle(source).checkpoint.shapes == {"w": (3,)}


def test_what_the_checkpoint_says_becomes_the_settings(tmp_path: Path) -> None:
    said = {"rate": 24_000, "ratios": [2, 4], "name": "é", "deep": {"scale": 0.5, "none": None}}
    training = {"optimizer": {"step": torch.ones(2)}, "loss": float("nan"), "keys": {1: 2}}
    pickled = open_pickle(
        saved(tmp_path / "m.pt", {"model": {"w": torch.ones(1)}, **said} | training)
    )
    assert pickled.settings is not None and json.loads(pickled.settings) == said
    assert pickled.left_out == ("optimizer", "loss", "keys")
    assert json.loads(pickled.settings) == {
        key: value for key, value in pickled.checkpoint.said.items() if key in said
    }


def test_settings_beside_the_checkpoint_are_copied_as_they_are(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"model": {"w": torch.ones(1)}, "rate": 8000})
    (tmp_path / "config.json").write_bytes(b'{ "rate":16000}\n')
    assert open_pickle(path).settings == b'{ "rate":16000}\n'
    (tmp_path / "config.json").write_bytes(b"[")
    with pytest.raises(ModelError, match="config.json: not JSON"):
        open_pickle(path)


def test_a_bare_state_dictionary_has_no_settings(tmp_path: Path) -> None:
    pickled = open_pickle(saved(tmp_path / "m.pt", {"w": torch.ones(1)}))
    assert (pickled.settings, pickled.left_out) == (None, ())


def test_settings_nested_without_end_are_left_out(tmp_path: Path) -> None:
    endless: list[object] = [1]
    endless.append(endless)
    bomb: list[object] = [0]
    for _ in range(40):
        bomb = [bomb, bomb]
    value = {"model": {"w": torch.ones(1)}, "endless": endless, "bomb": bomb, "rate": 1}
    pickled = open_pickle(saved(tmp_path / "m.pt", value))
    assert pickled.left_out == ("endless", "bomb")
    assert pickled.settings == b'{\n  "rate": 1\n}\n'


def test_a_file_that_needs_code_is_refused_with_the_name_of_the_code(tmp_path: Path) -> None:
    value = {"model": {"w": torch.ones(1)}, "args": argparse.Namespace(rate=1)}
    with pytest.raises(ModelError, match=r"m\.pt: .*argparse\.Namespace") as caught:
        open_pickle(saved(tmp_path / "m.pt", value))
    assert caught.value.hint is not None and "state_dict()" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"garbage" * 9, b"\x80\x02cos\nsystem\n(S'true'\ntR."])
def test_garbage_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.pt"):
        open_pickle(tmp_path / "m.pt")


def test_what_is_no_pickled_checkpoint_is_refused(tmp_path: Path) -> None:
    save_file({"w": torch.ones(1)}, tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match="not a torch file"):
        open_pickle(tmp_path)
    for value in ([torch.ones(1)], {"w": "text"}, {"w": {"v": torch.ones(1)}}):
        with pytest.raises(ModelError, match="not a dictionary of tensors"):
            open_pickle(saved(tmp_path / "m.pt", value))
    with pytest.raises(ModelError, match="holds no tensors"):
        open_pickle(saved(tmp_path / "m.pt", {"model": {}}))


def test_several_files_are_not_half_converted(tmp_path: Path) -> None:
    names = {name: f"{name}.bin" for name in ("v", "w")}
    for name, file in names.items():
        saved(tmp_path / file, {name: torch.ones(1)})
    (tmp_path / "m.bin.index.json").write_text(json.dumps({"weight_map": names}))
    with pytest.raises(ModelError, match="2 files"):
        open_pickle(tmp_path / "m.bin.index.json")


def test_tensors_that_safetensors_lack_are_named(tmp_path: Path) -> None:
    value = {"good": torch.ones(1), "z": torch.ones(1, dtype=torch.complex128)}
    value["holes"] = torch.eye(2).to_sparse()
    pickled = open_pickle(saved(tmp_path / "m.pt", value))
    with pytest.raises(ModelError, match=r"cannot hold z \(torch.complex128\), holes \("):
        write_safetensors(pickled.checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    pickled = open_pickle(saved(tmp_path / "m.pt", {"w": torch.ones(1)}))
    with pytest.raises(InputError, match="nowhere/out: cannot be written"):
        write_safetensors(pickled.checkpoint, tmp_path / "nowhere" / "out")


@pytest.mark.parametrize("spoilt", ["w", "extra", "kind"])
def test_what_came_out_different_is_told(
    spoilt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        changed = {"w": tensors["w"] + 1, "extra": torch.ones(1), "kind": tensors["kind"].double()}
        save_file(tensors | {spoilt: changed[spoilt]}, path, metadata)

    monkeypatch.setattr(convert, "save_file", careless)
    value = {"w": torch.ones(1), "kind": torch.ones(1)}
    pickled = open_pickle(saved(tmp_path / "m.pt", value))
    with pytest.raises(ModelError, match=f"different in {spoilt}$"):
        write_safetensors(pickled.checkpoint, tmp_path / "out")


def test_the_original_is_left_as_it_was(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", weights())
    before = path.read_bytes()
    write_safetensors(open_pickle(path).checkpoint, tmp_path / "out.safetensors")
    assert path.read_bytes() == before
    assert open_checkpoint(path).shapes == open_checkpoint(tmp_path / "out.safetensors").shapes
