"""Where and how models compute: device, number type, threads, seeds; only this asks for CUDA."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from alm_cli.errors import UsageError

Model = TypeVar("Model", bound=nn.Module)

# Where the system tells of memory, and the files of a control group: limit, use, and the word for
# what of the use would be given back at once. Version 2, then 1.
_PROC, _GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_LIMITS = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
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


def memory_left(device: torch.device) -> int | None:
    """Bytes that a device can still give, None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found: list[int] = []
    with suppress(OSError, ValueError, IndexError):
        lines = (_PROC / "meminfo").read_text(encoding="ascii").splitlines()
        free = (line for line in lines if line.startswith("MemAvailable:"))
        found += [1024 * int(line.split()[1]) for line in free]
    with suppress(OSError, ValueError):
        groups = (_PROC / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
        paths = {group.split(":", 2)[2].strip("/") for group in groups}
        # In a container its own group is the root, whatever it is called outside.
        for path in paths | {""}:
            for names in _LIMITS:
                found += _left_in(_GROUPS / names[0] / path, *names[1:])
    return min(found, default=None)


def _left_in(folder: Path, limit: str, used: str, spare: str) -> list[int]:
    """What a control group may still take, if it has a limit."""
    with suppress(OSError, ValueError):
        stat = (folder / "memory.stat").read_text(encoding="ascii").split()
        back = dict(zip(stat[::2], stat[1::2], strict=False)).get(spare, "0")
        taken = int((folder / used).read_text(encoding="ascii")) - int(back)
        return [max(0, int((folder / limit).read_text(encoding="ascii")) - taken)]
    return []


def give_back() -> None:
    """Let the system have the memory that was let go of, where the C library (glibc) can.

    Otherwise what large models leave behind while they are made smaller is kept for later.
    """
    with suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


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
