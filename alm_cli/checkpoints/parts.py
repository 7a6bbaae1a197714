"""Models within checkpoints of larger ones."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from alm_cli.checkpoints.reader import Checkpoint


def part_of(checkpoint: Checkpoint, prefix: str) -> Checkpoint:
    """The tensors whose names begin with `prefix`, by what follows it."""
    shapes = {
        name.removeprefix(prefix): shape
        for name, shape in checkpoint.shapes.items()
        if name.startswith(prefix)
    }
    return Checkpoint(shapes, checkpoint.files, lambda name: checkpoint.read(prefix + name))


def contents_sha256(model: nn.Module) -> str:
    """The digest of a model's tensors, wherever they were read from.

    Of each, in the order of their names, a line with name, type and shape, then its bytes.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
