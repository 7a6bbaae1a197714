"""Whether a composer fits into the memory: told from the header of its checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path

import torch

from alm_cli.catalog import CATALOG, ModelCard
from alm_cli.checkpoints.fetch import locate
from alm_cli.checkpoints.keymap import Shape
from alm_cli.checkpoints.reader import open_checkpoint
from alm_cli.errors import ModelError
from alm_cli.planning import KV_BYTES, LanguageModel
from alm_cli.runtime import device_of, memory_left

# Interpreter and torch, and what passes through a layer.
_PROGRAM = 600_000_000
# Attention of decoders, as transformers and audiocraft name what makes keys (and all three).
_KEYS = re.compile(r"(?<!encoder\.)layers\.\d+\.self_attn\.(?:k_proj\.|in_proj_)weight$")
_CODEC = "audio_encoder."
# Frames a second of the codecs of published composers, how long they look back, and rows of a
# piece: with the prompt and without.
_FRAME_RATE, _WINDOW_S, _ROWS = 50.0, 30.0, 2


@dataclass(frozen=True, kw_only=True)
class Need:
    """Bytes: of weights while they are read and as they are kept; of keys and values."""

    read: int
    kept: int
    cache: int

    def fits(self, device: torch.device) -> bool:
        """Whether there is room for this, as far as the system tells."""
        return all(need <= left for need, left in self.against(device))

    def against(self, device: torch.device) -> Iterator[tuple[int, int]]:
        """What is needed and what is left, in the memory of the processor and of the device."""
        works = _PROGRAM + self.kept + self.cache
        host = _PROGRAM + self.read if device.type == "cuda" else max(_PROGRAM + self.read, works)
        left = memory_left(torch.device("cpu"))
        if left is not None:
            yield host, left
        if device.type == "cuda" and (left := memory_left(device)) is not None:
            yield works, left


def need_of(source: str | Path, *, dtype: str, seconds: float, pieces: int = 1) -> Need | None:
    """What composing so many pieces side by side takes; None where nothing tells of the weights."""
    card = _card(source)
    path = locate(card) if card is not None else Path(str(source)).expanduser()
    if path is None:
        return None if card is None else _need({"": (card.parameters,)}, dtype, seconds, pieces)
    try:
        shapes = open_checkpoint(path).shapes
    except ModelError:
        return None  # loading tells what is wrong
    return _need(shapes, dtype, seconds, pieces)


def require_room(
    source: str | Path, *, device: str, dtype: str, seconds: float, pieces: int
) -> None:
    """ModelError, with what would fit: the machine has not enough memory for so many pieces."""
    place = device_of(device)
    if place.type == "cpu":
        pieces = 1  # there they are made one after another

    def needed(name: str | Path, dtype: str, seconds: float, pieces: int) -> Need | None:
        return need_of(name, dtype=dtype, seconds=seconds, pieces=pieces)

    need = needed(source, dtype, seconds, pieces)
    if need is None or need.fits(place):
        return
    others: list[tuple[str, Need | None]] = []
    if pieces > 1:
        others.append(("--batch-size 1", needed(source, dtype, seconds, 1)))
    types = ("bfloat16", "int8") if place.type == "cpu" else ("bfloat16",)
    for smaller in types:
        if KV_BYTES[smaller] < KV_BYTES[dtype]:
            others.append((f"--dtype {smaller}", needed(source, smaller, seconds, pieces)))
    shorter = [s for s in (30, 20, 10, 5) if s < seconds]
    others += [(f"--duration {s}", needed(source, dtype, s, pieces)) for s in shorter]
    cards = sorted(_composers(), key=lambda card: -card.parameters)
    others += [(f"-m {card.name}", needed(card.name, dtype, seconds, pieces)) for card in cards]
    fit = [told for told, other in others if other is not None and other.fits(place)]
    want, left = max(need.against(place), key=lambda pair: pair[0] - pair[1])
    raise ModelError(
        f"{source} needs about {want / 1e9:.1f} GB of memory, and {left / 1e9:.1f} GB are left",
        hint=f"what fits: {' or '.join(fit[:3])}" if fit else "a machine with more memory",
    )


def _need(shapes: Mapping[str, Shape], dtype: str, seconds: float, pieces: int) -> Need:
    weights = sum(map(prod, shapes.values()))
    made = [
        shape[0] // (3 if "in_proj" in name else 1)
        for name, shape in shapes.items()
        if _KEYS.search(name) and len(shape) == 2
    ]
    model = LanguageModel(
        layers=len(made),
        kv_heads=1,
        head_dim=max(made, default=0),  # all heads together
        # Where linear maps are of 8 bits, keys and values are of 16.
        kv_dtype="bfloat16" if dtype == "int8" else dtype,
    )
    # The codec within a checkpoint computes in float32, whatever the rest does.
    codec = sum(prod(shape) for name, shape in shapes.items() if name.startswith(_CODEC))
    positions = ceil(min(seconds, _WINDOW_S) * _FRAME_RATE)
    return Need(
        # As float32, but for weights that are rounded out of the mapped file, one by one.
        read=(1 if dtype == "int8" else 4) * (weights - codec) + 4 * codec,
        kept=KV_BYTES[dtype] * (weights - codec) + 4 * codec,
        cache=_ROWS * pieces * model.cache_bytes(positions),
    )


def _card(source: str | Path) -> ModelCard | None:
    if Path(str(source)).expanduser().exists():
        return None
    return next((card for card in CATALOG if card.name == str(source)), None)


def _composers() -> list[ModelCard]:
    return [card for card in CATALOG if card.task == "composer"]
