"""Weights that are rounded while they are read, and the memory that this takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from alm_cli.checkpoints.family import Family
from alm_cli.checkpoints.keymap import KeyMap, rename
from alm_cli.checkpoints.load import build
from alm_cli.checkpoints.reader import open_checkpoint
from alm_cli.errors import UsageError
from alm_cli.nn.attention import Attention
from alm_cli.nn.packed import can_pack
from alm_cli.nn.transformer import MLP, Block
from alm_cli.systems.placing import placed, rounded_in_place

CPU = torch.device("cpu")
needs_x86 = pytest.mark.skipif(not can_pack(), reason="torch packs weights on x86 only")


def _model(config: tuple[int, int]) -> nn.Module:
    """So many layers of a width."""
    layers, wide = config
    return nn.Sequential(
        *(
            Block(Attention(wide, 8, bias=True), MLP(wide, 2 * wide), lambda: nn.LayerNorm(wide))
            for _ in range(layers)
        )
    )


FAMILY = Family(lambda raw: raw, _model, KeyMap(rename("{name:*}", "{name}")))


def _written(file: Path, config: tuple[int, int], dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    model = _model(config).eval().requires_grad_(False)
    save_file({n: x.to(dtype).contiguous() for n, x in model.state_dict().items()}, file)
    return model


@needs_x86
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_model_in_its_file_is_rounded_as_one_in_memory(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    file = tmp_path / "model.safetensors"
    exact = _written(file, (2, 64), dtype)
    x = torch.randn(1, 5, 64)
    plain = placed(build(FAMILY, (2, 64), open_checkpoint(file)), CPU, "int8")
    mapped = build(FAMILY, (2, 64), open_checkpoint(file, mapped=True), as_stored=True)
    assert {parameter.dtype for parameter in mapped.parameters()} == {dtype}
    made = rounded_in_place(mapped, CPU)
    assert not any(part.training for part in made.modules())
    assert {parameter.dtype for parameter in made.parameters()} == {torch.float32}
    # Whatever happens to the file, nothing of the model lies in it any more.
    file.write_bytes(b"\xff" * file.stat().st_size)
    assert torch.equal(made(x), plain(x))
    assert 0 < float((made(x) - exact(x)).norm() / exact(x).norm()) < 0.03
    with pytest.raises(UsageError, match="int8 is for processors"):
        rounded_in_place(_model((1, 64)), torch.device("cuda"))


_LOAD = """
import sys
from pathlib import Path

import torch

torch.set_num_threads(1)
from tests.systems.test_placing import CPU, FAMILY, _model, build, open_checkpoint
from alm_cli.systems.placing import rounded_in_place

def told(word):
    return int(Path("/proc/self/status").read_text().partition(word + ":")[2].split()[0]) * 1024

rounded_in_place(_model((1, 64)), CPU)
before = told("VmRSS")
checkpoint = open_checkpoint(Path(sys.argv[1]), mapped=True)
model = build(FAMILY, (4, 1024), checkpoint, as_stored=True)
rounded_in_place(model, CPU)
print(told("VmHWM") - before, flush=True)
"""


@needs_x86
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells of memory")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_never_more_than_some_layers_are_in_memory(tmp_path: Path, dtype: torch.dtype) -> None:
    """In float32 all layers are 134 MB, rounded 34 MB."""
    file = tmp_path / "model.safetensors"
    _written(file, (4, 1024), dtype)
    command = [sys.executable, "-c", _LOAD, str(file)]
    found = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    rounded = 4 * 8 * 1024 * 1024
    assert int(found.stdout) < 3 * rounded
