"""Models where they compute, and their weights as they are read fastest there."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from alm_cli.errors import UsageError
from alm_cli.nn.linear import Make
from alm_cli.nn.packed import Int8Linear, pack_exactly, pack_int8
from alm_cli.nn.rounded import take_from_file
from alm_cli.runtime import Model, dtype_of, give_back, place


def number_of(dtype: str) -> tuple[torch.dtype, bool]:
    """What to compute in, and whether the linear maps are of 8 bits, as "int8" asks for."""
    return dtype_of("float32" if dtype == "int8" else dtype), dtype == "int8"


def placed(
    model: Model, device: torch.device, dtype: str, *, steps: Iterable[nn.Module] = ()
) -> Model:
    """The model ready to compute; `steps` are the parts of it that a few rows at a time go through.

    Their weights are packed where that changes none of them. UsageError: no int8 here.
    """
    number, rounded = number_of(dtype)
    if rounded:
        return rounded_in_place(model, device)
    # Again for inference: that is when matrices that are used together are laid side by side.
    place(model, device, number).eval()
    for part in steps:
        pack_exactly(part)
    return model


def rounded_in_place(model: Model, device: torch.device, make: Make = Int8Linear) -> Model:
    """The model with linear maps of 8 bits, whose weights may lie in a mapped file until now.

    `make` makes the maps. Layer by layer: at no time is more of the weights in memory. UsageError:
    no int8 here.
    """
    if device.type != "cpu":
        raise UsageError("int8 is for processors", hint="--dtype float16")
    pack_int8(model, make)
    take_from_file(model)
    give_back()
    return model.eval()
