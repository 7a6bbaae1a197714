"""Weights for a checkpoint's names and shapes: the same on every machine, and as lively as real."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn

from alm_cli.checkpoints.family import Family
from alm_cli.checkpoints.keymap import Shape
from alm_cli.checkpoints.load import build
from alm_cli.checkpoints.reader import Checkpoint

# The last convolution of a residual unit in the layouts of the hub and of the first releases,
# and what a codebook gives back.
_QUIET = re.compile(r".*(res_unit\d\.conv2|\.block\.\d+\.block\.3|out_proj)\..*")


def random_weights(shapes: Mapping[str, Shape], seed: int = 0) -> dict[str, Tensor]:
    """name -> tensor, from uniform numbers alone, as those are exact everywhere.

    Gains keep activations near 1 through any number of layers: a signal that dies leaves codes
    that do not vary, and one that grows turns the last bit of a sine's argument into its value.
    """
    return {name: _tensor(name, shape, seed) for name, shape in shapes.items()}


def _tensor(name: str, shape: Shape, seed: int) -> Tensor:
    if name.endswith("inv_freq"):
        return 10_000 ** -(torch.arange(0, 2 * shape[0], 2).float() / (2 * shape[0]))
    generator = torch.Generator().manual_seed(crc32(f"{seed} {name}".encode()))
    uniform = torch.rand(shape, generator=generator).mul_(2).sub_(1)
    gain = 0.3 if _QUIET.fullmatch(name) else 1.0
    if name.endswith("alpha"):
        return uniform + 1.2
    if name.endswith(("weight_g", "original0")):
        return torch.full(shape, gain)
    if "codebook" in name or name.endswith(("weight_v", "original1")):
        return uniform
    if name.endswith("norm.weight"):
        return 1 + 0.1 * uniform
    if name.endswith("bias"):
        return 0.1 * uniform
    transposed = "conv_t" in name
    fan_in = 2 * shape[0] if transposed else math.prod(shape[1:])
    return uniform * (gain * math.sqrt(3 / fan_in))


def model_with(family: Family, settings: Mapping[str, object], weights: dict[str, Tensor]) -> Any:
    """Our model with weights under their published names, without a file in between."""
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    checkpoint = Checkpoint(shapes, (), weights.__getitem__)
    return build(family, family.read_config(settings), checkpoint)


def reference_with(make: Any, seed: int = 0) -> tuple[Any, dict[str, Tensor]]:
    """A reference model with such weights, and these; `make` builds it."""
    with torch.device("meta"):
        model: nn.Module = make()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    weights = random_weights(shapes, seed)
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_(False).eval(), weights


def recording(length: int, batch: int = 1, rate: int = 24_000) -> Tensor:
    """wave [B, 1, T]: a sweep, noise, clicks and silence."""
    generator = torch.Generator().manual_seed(length)
    places = torch.arange(length) / rate
    tone = torch.sin(2 * torch.pi * (200 + 3000 * places) * places)
    noise = torch.rand(batch, 1, length, generator=generator) - 0.5
    clicks = (torch.rand(batch, 1, length, generator=generator) > 0.999).float()
    loud = (torch.sin(9 * places) > -0.3).float()
    return (0.3 * tone + 0.3 * noise + 0.5 * clicks) * loud
