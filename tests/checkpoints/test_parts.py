"""A model within the checkpoint of a larger one."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from alm_cli.checkpoints.parts import part_of
from alm_cli.checkpoints.reader import open_checkpoint


def test_a_part_has_its_own_names_and_the_same_tensors(tmp_path: Path) -> None:
    weights = {"codec.a.weight": torch.arange(6.0).view(2, 3), "head.weight": torch.ones(2)}
    save_file(weights, tmp_path / "model.safetensors")
    part = part_of(open_checkpoint(tmp_path), "codec.")
    assert part.shapes == {"a.weight": (2, 3)}
    assert torch.equal(part.read("a.weight"), weights["codec.a.weight"])
    assert [file.name for file in part.files] == ["model.safetensors"]
    assert part_of(open_checkpoint(tmp_path), "other.").shapes == {}
