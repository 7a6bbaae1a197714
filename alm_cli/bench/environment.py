"""On what something was measured, so that figures can be compared with others."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

import torch

from alm_cli.runtime import device_of

_PACKAGES = (
    *("alm-cli", "torch", "torchaudio", "numpy", "av", "transformers", "encodec"),
    *("descript-audio-codec", "faster-whisper", "openai-whisper"),
    *("pesq", "pystoi", "visqol-python", "speechmos", "resemblyzer", "whisper-normalizer"),
)


def environment(
    *, seed: int, warm_up: int, repetitions: int, device: str = "cpu", dtype: str = "float32"
) -> dict[str, object]:
    """Machine, threads, number type, versions, and how often things are repeated."""
    return {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "device": str(device_of(device)),
        "dtype": dtype,
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := version(name)) is not None},
        "seed": seed,
        "warm_up": warm_up,
        "repetitions": repetitions,
    }


def version(package: str) -> str | None:
    """The version of an installed package, None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The name of the processor, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
