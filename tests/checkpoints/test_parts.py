"""A model within the checkpoint of a larger one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from alm_cli.checkpoints.parts import contents_sha256, part_of
from alm_cli.checkpoints.reader import open_checkpoint


def test_a_part_has_its_own_names_and_the_same_tensors(tmp_path: Path) -> None:
    weights = {"codec.a.weight": torch.arange(6.0).view(2, 3), "head.weight": torch.ones(2)}
    save_file(weights, tmp_path / "model.safetensors")
    part = part_of(open_checkpoint(tmp_path), "codec.")
    assert part.shapes == {"a.weight": (2, 3)}
    assert torch.equal(part.read("a.weight"), weights["codec.a.weight"])
    assert [file.name for file in part.files] == ["model.safetensors"]
    assert part_of(open_checkpoint(tmp_path), "other.").shapes == {}


@pytest.mark.parametrize("change", ["value", "name", "shape", "type"])
def test_the_digest_of_the_contents_is_that_of_every_tensor(change: str) -> None:
    def network(**tensors: torch.Tensor) -> torch.nn.Module:
        module = torch.nn.Module()
        for name, tensor in tensors.items():
            module.register_buffer(name, tensor)
        return module

    a, b, none = torch.arange(6.0).view(2, 3), torch.tensor(2, dtype=torch.int16), torch.zeros(0)
    same = network(none=none, b=b, a=a.mT.contiguous().mT)
    assert contents_sha256(network(a=a, b=b, none=none)) == contents_sha256(same)
    changed = {
        "value": {"a": a + 1e-6, "b": b},
        "name": {"a": a, "c": b},
        "shape": {"a": a.reshape(3, 2), "b": b},
        "type": {"a": a, "b": b.to(torch.uint16)},
    }[change]
    assert contents_sha256(network(**changed, none=none)) != contents_sha256(same)
