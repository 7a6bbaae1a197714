"""What commands that make sounds of texts are all asked."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from alm_cli.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class SoundSettings:
    """What decides about the sound, and where it is made; contradictions raise UsageError.

    `before` is the clip to go on from.
    """

    model: str
    seed: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    duration_s: float | None
    format: str | None
    stream: bool
    save_tokens: str | None
    from_tokens: str | None
    before: str | None
    accept_license: bool
    batch_size: int
    device: str
    dtype: str
    threads: int | None

    def __post_init__(self) -> None:
        from alm_cli.files.writer import WRITE_FORMATS

        if self.format is not None and self.format not in WRITE_FORMATS:
            raise UsageError(f"--format {self.format}: not one of {', '.join(WRITE_FORMATS)}")
        if self.duration_s is not None and not 0 < self.duration_s < inf:
            raise UsageError(f"--duration {self.duration_s:g}: not a number of seconds above 0")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UsageError(f"--top-p {self.top_p:g}: not above 0 and at most 1")
        if self.temperature is not None and not self.temperature < inf:
            raise UsageError("--temperature: not a number")
