"""Where and how models compute: device, number type, threads, seeds; only this asks for CUDA."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from alm_cli.errors import UsageError

Model = TypeVar("Model", bound=nn.Module)

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def device_of(name: str = "auto") -> torch.device:
    """`auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:1`; UsageError if it is not here."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", name):
        raise UsageError(f"unknown device {name!r}", hint="use auto, cpu, cuda or cuda:0")
    count = torch.cuda.device_count() if name != "cpu" and torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    if name.startswith("cuda") and int(name.partition(":")[2] or 0) >= count:
        found = f"only {count}" if count else "none"
        raise UsageError(f"{name}: this machine has {found} of these devices", hint="--device cpu")
    return torch.device(name)


def dtype_of(name: str = "float32") -> torch.dtype:
    """`float32`, `bfloat16` or `float16`."""
    if name not in _DTYPES:
        raise UsageError(f"unknown number type {name!r}", hint=f"use {', '.join(_DTYPES)}")
    return _DTYPES[name]


def is_emulated(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the processor lacks instructions for this number type, so that float32 is faster."""
    narrow = torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX", "AVX2")
    return device.type == "cpu" and dtype is not torch.float32 and narrow


def set_threads(count: int | None) -> None:
    """How many processor threads one operation may use; None leaves torch's choice."""
    if count is None:
        return
    if count < 1:
        raise UsageError(f"{count} threads", hint="--threads takes a number from 1")
    torch.set_num_threads(count)


def place(model: Model, device: torch.device, dtype: torch.dtype) -> Model:
    """Move a model and let its parameters be of `dtype`.

    Buffers stay as they are: codebooks, windows and filters decide codes and are read once.
    """
    model.to(device)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


@contextmanager
def inference() -> Iterator[None]:
    """Compute without gradients, and in full float32: TF32 and autotuning change codes."""
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, False
    exact = torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled,
        benchmark=False,
        deterministic=True,
        allow_tf32=False,
    )
    try:
        with exact, torch.inference_mode():
            yield
    finally:
        matmul.allow_tf32 = before


def seeded(seed: int, device: torch.device | None = None) -> torch.Generator:
    """A generator of its own, so that nothing depends on the global one."""
    return torch.Generator(device or "cpu").manual_seed(seed)
