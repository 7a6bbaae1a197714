"""What decides about the sound of `alm speak`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from alm_cli.commands.sound_settings import SoundSettings
from alm_cli.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Settings(SoundSettings):
    """Those of any sound, and those of speech; contradictions raise UsageError.

    `own` are those that only the model knows, by name.
    """

    own: Mapping[str, str]
    voice: str | None
    speed: float
    pause_s: float | None
    markup: Literal["auto", "ssml", "none"]
    strict: bool
    as_written: bool
    timestamps: tuple[str, ...]
    verify_model: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.1 <= self.speed <= 10:
            raise UsageError(f"--speed {self.speed:g}: not between 0.1 and 10")
        if self.from_tokens is not None and (self.save_tokens or self.verify_model or self.before):
            raise UsageError("--from-tokens gives the sound of tokens, and speaks no text")


def own_settings(given: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE`, several times. UsageError: something else, or a name twice."""
    found: dict[str, str] = {}
    for words in given:
        name, equals, value = (part.strip() for part in words.partition("="))
        if not (name and equals and value):
            raise UsageError(f"--set {words}: not NAME=VALUE")
        if found.setdefault(name, value) != value:
            raise UsageError(f"--set {name}: both {found[name]} and {value}")
    return found
