"""Models within checkpoints of larger ones."""

from __future__ import annotations

from alm_cli.checkpoints.reader import Checkpoint


def part_of(checkpoint: Checkpoint, prefix: str) -> Checkpoint:
    """The tensors whose names begin with `prefix`, by what follows it."""
    shapes = {
        name.removeprefix(prefix): shape
        for name, shape in checkpoint.shapes.items()
        if name.startswith(prefix)
    }
    return Checkpoint(shapes, checkpoint.files, lambda name: checkpoint.read(prefix + name))
