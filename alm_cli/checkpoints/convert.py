"""A pickled checkpoint as safetensors: the same tensors under the same names, bit by bit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from alm_cli.checkpoints.reader import (
    TORCH_SUFFIXES,
    Checkpoint,
    open_checkpoint,
    read_json,
    weight_files,
)
from alm_cli.errors import InputError, ModelError

# More than any settings have; what a file from elsewhere nests in itself has no end.
_MOST_SETTINGS = 10_000
_FOREIGN = re.compile(r"GLOBAL ([\w.]+)")


@dataclass(frozen=True)
class Pickle:
    """A pickled checkpoint: its tensors, the config.json to stand beside them, what has no place.

    `settings` is the file that lies beside the checkpoint, or else what the checkpoint says of
    itself, so that the result is read like the original; None where there is neither.
    """

    checkpoint: Checkpoint
    settings: bytes | None
    left_out: tuple[str, ...]


def open_pickle(path: Path) -> Pickle:
    """The torch file at `path`, or the one in that folder. ModelError: it is not plain weights."""
    file, *others = weight_files(path)
    if others:
        raise ModelError(f"{path}: {1 + len(others)} files", hint="convert each by itself")
    if file.suffix not in TORCH_SUFFIXES:
        raise ModelError(f"{file}: not a torch file", hint="safetensors need no conversion")
    try:
        checkpoint = open_checkpoint(file)
    except ModelError as error:
        raise _refusal(file, error) from error
    if not checkpoint.shapes:
        raise ModelError(f"{file}: holds no tensors")
    beside = file.with_name("config.json")
    plain = {key: value for key, value in checkpoint.said.items() if _is_plain(value)}
    left_out = tuple(key for key in checkpoint.said if key not in plain)
    if beside.is_file():
        read_json(beside)
        return Pickle(checkpoint, beside.read_bytes(), left_out)
    text = json.dumps(plain, indent=2) + "\n"
    return Pickle(checkpoint, text.encode() if plain else None, left_out)


def write_safetensors(checkpoint: Checkpoint, path: Path) -> None:
    """Write all tensors of a checkpoint, and read them again to see that they are the same.

    ModelError: tensors of a kind that safetensors lack, or that came out different. InputError:
    the path cannot be written.
    """
    # Each is read apart from the others: what shared memory is written as often as it is named.
    tensors = {name: checkpoint.read(name).detach() for name in checkpoint.shapes}
    strange = [f"{name} ({kind})" for name, tensor in tensors.items() if (kind := _strange(tensor))]
    if strange:
        raise ModelError(f"{checkpoint.files[0]}: safetensors cannot hold {', '.join(strange[:8])}")
    try:
        save_file({n: t.contiguous() for n, t in tensors.items()}, path, metadata={"format": "pt"})
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: cannot be written ({error})") from error
    written = open_checkpoint(path)
    if different := list(_differences(written, tensors)):
        raise ModelError(f"{path}: came out different in {', '.join(different[:8])}")


def _differences(written: Checkpoint, tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """The names of tensors that are not the same, bit by bit."""
    yield from sorted(set(written.shapes) ^ set(tensors))
    for name in sorted(set(written.shapes) & set(tensors)):
        ours, theirs = written.read(name), tensors[name]
        alike = (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        if not alike or not torch.equal(_bits(ours), _bits(theirs)):
            yield name


def _bits(tensor: Tensor) -> Tensor:
    """Any tensor -> its bytes [n]: numbers that are not numbers are equal to themselves too."""
    return tensor.contiguous().flatten().view(torch.uint8)


def _strange(tensor: Tensor) -> str | None:
    """What is unusual about a tensor that safetensors cannot hold."""
    if tensor.layout is not torch.strided:
        return str(tensor.layout)
    return str(tensor.dtype) if tensor.is_quantized or tensor.dtype == torch.complex128 else None


def _is_plain(value: object) -> bool:
    """Whether JSON can hold this without changing it."""
    waiting = [value]
    for _ in range(_MOST_SETTINGS):
        if not waiting:
            return True
        entry = waiting.pop()
        if isinstance(entry, Mapping) and all(isinstance(key, str) for key in entry):
            waiting.extend(entry.values())
        elif isinstance(entry, list | tuple):
            waiting.extend(entry)
        elif not (entry is None or isinstance(entry, int | str) or _is_finite(entry)):
            return False
    return False


def _is_finite(value: object) -> bool:
    return isinstance(value, float) and isfinite(value)


def _refusal(file: Path, error: ModelError) -> ModelError:
    """Why a file was refused, and what can be done."""
    foreign = _FOREIGN.search(str(error.__cause__))
    if foreign is None:
        return error
    return ModelError(
        f"{file}: holds more than weights: reading it would run the code of {foreign[1]}",
        hint="alm runs no code from checkpoints; where you trust the file, load it in the program"
        " that made it, torch.save(model.state_dict(), FILE) there, and convert that",
    )
