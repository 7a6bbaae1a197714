"""What decides about the sound of `alm generate-music`."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from alm_cli.commands.sound_settings import SoundSettings
from alm_cli.errors import UsageError

LONGEST_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class MusicSettings(SoundSettings):
    """Those of any sound, and those of music; contradictions raise UsageError."""

    guidance: float | None
    melody: str | None
    loop: bool
    save_score: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.duration_s is not None:
            check_duration(self.duration_s)
        if self.guidance is not None and not 0 <= self.guidance < inf:
            raise UsageError(f"--guidance {self.guidance:g}: not a number from 0")
        if self.from_tokens is not None and (
            self.save_tokens or self.save_score or self.melody or self.before or self.loop
        ):
            raise UsageError("--from-tokens gives the sound of tokens, and composes nothing")


def check_duration(seconds: float) -> None:
    """UsageError: nobody means music of this length."""
    if not 0 < seconds <= LONGEST_S:
        raise UsageError(
            f"--duration {seconds:g}: not above 0 and at most {LONGEST_S:g} s",
            hint="--continue goes on from what is there",
        )
