"""Reading weights where they lie: safetensors, one or many, and torch files without unpickling."""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from alm_cli.checkpoints.keymap import Shape
from alm_cli.errors import ModelError

INDEX, _TORCH_INDEX = "model.safetensors.index.json", "pytorch_model.bin.index.json"
_SINGLE = "model.safetensors"
# The second is AudioCraft's, whose codec lies beside it.
_TORCH_SINGLES = ("pytorch_model.bin", "state_dict.bin")
# Beside the weights of the authors' own program: those in the names of the hub's.
_HUB_INDEX = "transformers.safetensors.index.json"
TORCH_SUFFIXES = (".bin", ".pt", ".pth", ".th", ".ckpt")
# Files that are one model together, in folders without a whole one. What stands before the first
# underscore goes before the names of their tensors, which are the same in all of them.
_TOGETHER = (("text_2.pt", "coarse_2.pt", "fine_2.pt"), ("text.pt", "coarse.pt", "fine.pt"))
# Where training programs put the state dictionary.
_WRAPPERS = ("state_dict", "model", "best_state", "generator", "model_state_dict")


@dataclass(frozen=True)
class Checkpoint:
    """Names, shapes and files of weights; `read` takes one tensor from the disk.

    `said` is what else a torch file holds: settings beside the state dictionary.
    """

    shapes: Mapping[str, Shape]
    files: tuple[Path, ...]
    read: Callable[[str], Tensor]
    said: Mapping[str, object] = field(default_factory=dict)

    def sha256(self) -> str:
        """The digest of the one file; of several, that of their digests.

        Several are taken in the order of their names, one line each:
        `sha256sum model-*.safetensors | cut -d' ' -f1 | sha256sum`.
        """
        digests = [file_sha256(path) for path in sorted(self.files, key=lambda path: path.name)]
        if len(digests) == 1:
            return digests[0]
        return hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()


def open_checkpoint(path: Path, *, mapped: bool = False) -> Checkpoint:
    """The weights in a folder or a file; a ModelError says what is wrong with them.

    `mapped` tensors are the file itself, which takes no memory and must not change meanwhile: for
    those who make something else of each and let it go.
    """
    files = weight_files(path)
    parts = [
        _torch_file(file, mapped) if file.suffix in TORCH_SUFFIXES else _file(file, mapped)
        for file in files
    ]
    if tuple(file.name for file in files) in _TOGETHER:
        return _together(parts)
    if len(parts) == 1:
        return parts[0]
    homes: dict[str, Checkpoint] = {}
    for part in parts:
        for name in part.shapes:
            if name in homes:
                raise ModelError(f"{part.files[0]}: {name} is in {homes[name].files[0].name} too")
            homes[name] = part
    shapes = {name: part.shapes[name] for name, part in homes.items()}
    return Checkpoint(shapes, files, lambda name: homes[name].read(name))


def _together(parts: Sequence[Checkpoint]) -> Checkpoint:
    """Files with tensors of the same names as one checkpoint, each name with that of its file."""
    named = {part.files[0].stem.partition("_")[0]: part for part in parts}
    shapes = {f"{name}.{key}": x for name, part in named.items() for key, x in part.shapes.items()}
    files = tuple(part.files[0] for part in parts)

    def read(key: str) -> Tensor:
        name, _, rest = key.partition(".")
        return named[name].read(rest)

    return Checkpoint(shapes, files, read, {name: part.said for name, part in named.items()})


def weight_files(path: Path) -> tuple[Path, ...]:
    """The files that hold the weights of a model folder, or the file itself."""
    if path.is_file():
        return _sharded(path) if path.name.endswith(".index.json") else (path,)
    if (path / _HUB_INDEX).is_file():
        return _sharded(path / _HUB_INDEX)
    if (path / _SINGLE).is_file():
        return (path / _SINGLE,)
    for index in (INDEX, _TORCH_INDEX):
        if (path / index).is_file():
            return _sharded(path / index)
    candidates = sorted(path.glob("*.safetensors"))
    if not candidates:
        for name in _TORCH_SINGLES:
            if (path / name).is_file():
                return (path / name,)
        for names in _TOGETHER:
            if all((path / name).is_file() for name in names):
                return tuple(path / name for name in names)
        candidates = [file for file in sorted(path.glob("*")) if file.suffix in TORCH_SUFFIXES]
    if len(candidates) == 1:
        return (candidates[0],)
    found = f"which of {', '.join(file.name for file in candidates)}?" if candidates else "none"
    raise ModelError(
        f"{path}: no weights ({found})" if not candidates else f"{path}: {found}",
        hint=f"expected {_SINGLE}, {INDEX} with its files, or one torch file",
    )


def read_json(path: Path) -> dict[str, object]:
    """The object in a JSON file."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not JSON") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: not a JSON object")
    return value


def _sharded(index: Path) -> tuple[Path, ...]:
    """The files that an index names; they lie beside it."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{index}: no weight_map")
    names = set(weight_map.values())
    for name in names:
        # A name with a path could make us read any file of the machine.
        plain = isinstance(name, str) and Path(name).name == name and "\\" not in name
        if not plain or not name.strip("."):
            raise ModelError(f"{index}: {name!r} is not a file beside the index")
        if not (index.parent / name).is_file():
            raise ModelError(f"{index.parent / name}: missing", hint="fetch all files of the model")
    return tuple(index.parent / name for name in sorted(names))


def _file(file: Path, mapped: bool) -> Checkpoint:
    try:
        with safe_open(file, framework="pt") as opened:
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{file}: not a readable safetensors file ({error})",
            hint="the file may be incomplete: fetch it again",
        ) from error
    return Checkpoint(shapes, (file,), lambda name: _tensor(file, name, mapped))


def _tensor(file: Path, name: str, mapped: bool) -> Tensor:
    # A clone: what safe_open returns is the mapped file, which may change under a running model.
    with safe_open(file, framework="pt") as opened:
        tensor = cast(Tensor, opened.get_tensor(name))
        return tensor if mapped else tensor.clone()


def _torch_file(file: Path, mapped: bool) -> Checkpoint:
    """A state dictionary as torch saves it, read by the loader that runs no code."""
    try:
        lazily = zipfile.is_zipfile(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # guesses about what is wrong with a file
            value = torch.load(file, map_location="cpu", weights_only=True, mmap=lazily)
    # Garbage fails in the unpickler in any way that its bytes suggest.
    except Exception as error:
        raise ModelError(
            f"{file}: not a plain file of weights",
            hint="alm runs no code from checkpoints; save the state dictionary as safetensors",
        ) from error
    tensors, said = _state_dictionary(file, value)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}

    def read(name: str) -> Tensor:
        return tensors[name] if mapped else tensors[name].clone()

    return Checkpoint(shapes, (file,), read, said)


def _state_dictionary(file: Path, value: object) -> tuple[dict[str, Tensor], dict[str, object]]:
    """The tensors of a state dictionary, be it wrapped, and what stands beside it."""
    said: dict[str, object] = {}
    for _ in range(3):
        if not isinstance(value, Mapping):
            break
        inner = next((value[key] for key in _WRAPPERS if isinstance(value.get(key), Mapping)), None)
        if inner is None:
            break
        said |= {str(key): entry for key, entry in value.items() if entry is not inner}
        value = inner
    # AudioCraft's files may hold nothing but the name of a model that lies elsewhere.
    if isinstance(value, Mapping) and isinstance(value.get("pretrained"), str):
        said, value = {**said, **{str(key): entry for key, entry in value.items()}}, {}
    if not isinstance(value, Mapping) or not all(isinstance(v, Tensor) for v in value.values()):
        raise ModelError(f"{file}: not a dictionary of tensors")
    return {str(name): cast(Tensor, tensor) for name, tensor in value.items()}, said


def file_sha256(file: Path) -> str:
    """The digest of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
