"""Reading weights: one file, many, torch files, and files that mean harm."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from alm_cli.checkpoints.reader import INDEX, open_checkpoint, read_json, weight_files
from alm_cli.errors import ModelError

WEIGHTS = {"a": torch.arange(6.0).view(2, 3), "b.0.c": torch.ones(4).half(), "d": torch.tensor(3)}


def sharded(folder: Path, weight_map: dict[str, object] | None = None) -> Path:
    save_file({"a": WEIGHTS["a"]}, folder / "model-00001-of-00002.safetensors")
    rest = {name: WEIGHTS[name] for name in ("b.0.c", "d")}
    save_file(rest, folder / "model-00002-of-00002.safetensors")
    second = "model-00002-of-00002.safetensors"
    weight_map = weight_map or {
        "a": "model-00001-of-00002.safetensors",
        "b.0.c": second,
        "d": second,
    }
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def sharded_torch(folder: Path) -> Path:
    """As `transformers` wrote large checkpoints before safetensors."""
    weight_map = {name: f"pytorch_model-{i:05}-of-00003.bin" for i, name in enumerate(WEIGHTS, 1)}
    for name, file in weight_map.items():
        torch.save({name: WEIGHTS[name]}, folder / file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


def single(folder: Path) -> Path:
    save_file(WEIGHTS, folder / "model.safetensors")
    return folder


def other_name(folder: Path) -> Path:
    save_file(WEIGHTS, folder / "mine.safetensors")
    return folder


def torch_file(folder: Path) -> Path:
    torch.save(WEIGHTS, folder / "weights.th")
    return folder / "weights.th"


def old_torch_file(folder: Path) -> Path:
    torch.save(WEIGHTS, folder / "weights.pt", _use_new_zipfile_serialization=False)
    return folder


@pytest.mark.parametrize(
    "write", [single, sharded, sharded_torch, other_name, torch_file, old_torch_file]
)
def test_every_layout_reads_alike(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    checkpoint = open_checkpoint(write(tmp_path))
    assert checkpoint.shapes == {"a": (2, 3), "b.0.c": (4,), "d": ()}
    for name, tensor in WEIGHTS.items():
        read = checkpoint.read(name)
        assert torch.equal(read, tensor) and read.dtype == tensor.dtype


def test_what_was_read_outlives_the_file(tmp_path: Path) -> None:
    tensor = open_checkpoint(single(tmp_path)).read("a")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert torch.equal(tensor, WEIGHTS["a"])


def test_the_digest_of_one_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    digest = hashlib.sha256((single(tmp_path) / "model.safetensors").read_bytes()).hexdigest()
    assert open_checkpoint(tmp_path).sha256() == digest


def test_the_digest_of_several_is_that_of_their_digests_in_order(tmp_path: Path) -> None:
    files = sorted(sharded(tmp_path).glob("*.safetensors"))
    lines = "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}\n" for file in files)
    assert open_checkpoint(tmp_path).sha256() == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 7,
        b"\xff" * 8 + b"{}",
        (1 << 60).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (9).to_bytes(8, "little") + b'{"a": 1}}',
        (100).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
    ],
)
def test_a_broken_header_is_a_model_error(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        open_checkpoint(tmp_path)


def test_a_truncated_file_is_a_model_error(tmp_path: Path) -> None:
    file = single(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["../secret.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "", 7, None, "..\\x"],
)
def test_an_index_names_files_beside_it_only(name: object, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    save_file(WEIGHTS, tmp_path / "secret.safetensors")
    folder = sharded(tmp_path / "inside", {"a": name})
    with pytest.raises(ModelError, match="not a file beside the index"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "index", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "[" * 99999]
)
def test_a_broken_index_is_a_model_error(index: str, tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(ModelError):
        open_checkpoint(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    (sharded(tmp_path) / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match="model-00001-of-00002.safetensors: missing"):
        open_checkpoint(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    sharded(tmp_path)
    save_file(WEIGHTS, tmp_path / "model-00002-of-00002.safetensors")
    with pytest.raises(ModelError, match="a is in model-00001-of-00002.safetensors too"):
        open_checkpoint(tmp_path)


class Attack:
    """What a pickle may do to whoever opens it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("attacked"),)


@pytest.mark.parametrize("suffix", ["pt", "bin"])
def test_a_torch_file_runs_no_code(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Attack()}, tmp_path / f"weights.{suffix}")
    with pytest.raises(ModelError, match="not a plain file of weights") as caught:
        open_checkpoint(tmp_path)
    assert "runs no code" in str(caught.value)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"text", pickle.dumps({"a": 1})])
def test_a_broken_torch_file_is_a_model_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(ModelError):
        open_checkpoint(tmp_path)


def test_a_wrapped_state_dictionary_is_unwrapped_and_what_stands_beside_it_kept(
    tmp_path: Path,
) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": WEIGHTS, "metadata": {"kwargs": {"rate": 16_000}}}, path)
    checkpoint = open_checkpoint(path)
    assert checkpoint.shapes["a"] == (2, 3) and len(checkpoint.shapes) == len(WEIGHTS)
    assert checkpoint.said == {"metadata": {"kwargs": {"rate": 16_000}}}


def test_a_torch_file_of_something_else_is_a_model_error(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="not a dictionary of tensors"):
        open_checkpoint(tmp_path)


def test_a_folder_without_weights_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights") as caught:
        weight_files(tmp_path)
    assert "model.safetensors" in str(caught.value)


def test_a_folder_with_several_says_which(tmp_path: Path) -> None:
    for name in ("x.safetensors", "y.safetensors"):
        save_file(WEIGHTS, tmp_path / name)
    with pytest.raises(ModelError, match=r"which of x.safetensors, y.safetensors\?"):
        weight_files(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1]", b"nul", b"[" * 99999])
def test_json_that_is_no_object_is_a_model_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ModelError, match="config.json"):
        read_json(tmp_path / "config.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="config.json: No such file"):
        read_json(tmp_path / "config.json")
