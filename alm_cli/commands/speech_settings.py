"""What `alm speak` is asked: where the sound goes, and what decides about it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from math import inf
from pathlib import Path
from typing import Literal

from alm_cli.errors import UsageError
from alm_cli.jobs.sinks import Existing


@dataclass(frozen=True)
class Target:
    """A file, a folder for `many`, or None for standard output, and what if something is there."""

    output: Path | None
    _: KW_ONLY
    many: bool
    overwrite: bool
    skip: bool

    @property
    def existing(self) -> Existing:
        """What to do about outputs that are there."""
        return "skip" if self.skip else "overwrite" if self.overwrite else "refuse"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides about the sound, and where it is made; contradictions raise UsageError."""

    model: str
    voice: str | None
    seed: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    speed: float
    duration_s: float | None
    pause_s: float | None
    markup: Literal["auto", "ssml", "none"]
    strict: bool
    as_written: bool
    format: str | None
    stream: bool
    timestamps: tuple[str, ...]
    save_tokens: str | None
    from_tokens: str | None
    before: str | None
    verify_model: str | None
    accept_license: bool
    batch_size: int
    device: str
    dtype: str
    threads: int | None

    def __post_init__(self) -> None:
        from alm_cli.files.writer import WRITE_FORMATS

        if self.format is not None and self.format not in WRITE_FORMATS:
            raise UsageError(f"--format {self.format}: not one of {', '.join(WRITE_FORMATS)}")
        if not 0.1 <= self.speed <= 10:
            raise UsageError(f"--speed {self.speed:g}: not between 0.1 and 10")
        if self.duration_s is not None and not 0 < self.duration_s < inf:
            raise UsageError(f"--duration {self.duration_s:g}: not a number of seconds above 0")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UsageError(f"--top-p {self.top_p:g}: not above 0 and at most 1")
        if self.temperature is not None and not self.temperature < inf:
            raise UsageError("--temperature: not a number")
        if self.from_tokens is not None and (self.save_tokens or self.verify_model or self.before):
            raise UsageError("--from-tokens gives the sound of tokens, and speaks no text")
