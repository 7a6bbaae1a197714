"""Small tensors made once by other implementations (see fixtures/golden/README.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

GOLDEN = Path(__file__).parent / "fixtures" / "golden"


@dataclass(frozen=True)
class Golden:
    """The weights of a tiny model in its own names, what it made of a wave, and its settings."""

    weights: dict[str, Tensor]
    made: dict[str, Tensor]
    config: dict[str, object]

    def cases(self, kind: str) -> dict[int, Tensor]:
        """By the length of the stretch of the wave that they were made of."""
        names = [name for name in self.made if name.startswith(f"{kind}.")]
        return {int(name.rpartition(".")[2]): self.made[name] for name in names}

    def wave(self, length: int) -> Tensor:
        """wave [1, C, T]: the first `length` samples."""
        return self.made["wave"][None, :, :length].float() / 32768


def golden(name: str) -> Golden:
    """A file of `fixtures/golden`."""
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        said = file.metadata()
    prefix = "weights."
    weights = {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}
    made = {key: x for key, x in tensors.items() if not key.startswith(prefix)}
    return Golden(weights, made, json.loads(said.get("config", "{}")))
