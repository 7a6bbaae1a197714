"""The files that commands write for a sound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def write_sound(
    place: Path | BinaryIO,
    blocks: Iterable[NDArray[np.float32]],
    *,
    rate: int,
    channels: int,
    format: str | None,
    length: int | None,
    comment: str | None,
) -> tuple[int, int]:
    """Write blocks [channels, n] as they come; their sum of n, and how many samples were clipped.

    `length` is that sum, where it is known before.
    """
    from alm_cli.files.writer import open_writer

    samples = 0
    with open_writer(
        place, rate=rate, channels=channels, format=format, length=length, comment=comment
    ) as writer:
        for block in blocks:
            samples += block.shape[1]
            writer.write(block)
    return samples, writer.clipped


def comment_of(command: str, facts: Mapping[str, Any]) -> str:
    """What the metadata of a recording say, without dates, so that it can be made again."""
    known = [(key, value) for key, value in facts.items() if value is not None]
    said = " ".join(f"{key}={str(value)[:64]}" for key, value in known)
    # Paths may hold bytes that are no text.
    return f"alm {command} {said}".encode(errors="replace").decode()
