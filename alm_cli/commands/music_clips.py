"""What a piece of music starts from: a melody to follow, or what it goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alm_cli.errors import InputError

if TYPE_CHECKING:
    from alm_cli.music.score import Score
    from alm_cli.values import Audio, Tokens

_NOTES = (".mid", ".midi")


def read_melody(path: Path) -> Audio | Score:
    """Notes from a MIDI file, else a recording. InputError: it cannot be read, or is empty."""
    if path.suffix.lower() not in _NOTES:
        return _recording(path)
    from alm_cli.music.midi import MOST_BYTES, read_midi

    try:
        with path.open("rb") as file:
            return read_midi(file.read(MOST_BYTES + 1), str(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def read_past(path: Path, codec: str) -> Audio | Tokens:
    """Tokens of this codec, else a recording. InputError: it cannot be read, or is empty."""
    from alm_cli.files.tokens import TOKEN_SUFFIX, read_tokens
    from alm_cli.values import Tokens

    if path.suffix.lower() != TOKEN_SUFFIX:
        return _recording(path)
    tokens = read_tokens(path)
    if not isinstance(tokens, Tokens) or tokens.origin.codec != codec:
        raise InputError(f"{path}: made by {tokens.origin.codec}", hint=f"it must be {codec}")
    if not tokens.frames:
        raise InputError(f"{path}: holds no tokens")
    return tokens


def _recording(path: Path) -> Audio:
    from alm_cli.files.audio import read_audio

    audio = read_audio(path)
    if not audio.length:
        raise InputError(f"{path}: holds no audio")
    return audio
