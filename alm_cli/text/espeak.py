"""Phonemes of English by the program espeak-ng, where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess

from alm_cli.errors import InputError

_MARKS = re.escape(';:,.!?¡¿—…"«»“”(){}[]')
# Within a number a point or a comma is read, not spoken past.
_PUNCTUATION = re.compile(rf"((?:\s*(?!(?<=\d)[.,](?=\d))[{_MARKS}]+\s*)+)")
_WAIT_S = 30


def has_espeak() -> bool:
    """Whether the program is on this machine."""
    return shutil.which("espeak-ng") is not None


def espeak_phonemes(text: str, voice: str = "en-us") -> str:
    """Text -> phonemes of the International Phonetic Alphabet with stress; punctuation stays.

    As the package phonemizer has them. InputError: the program is missing, or fails.
    """
    program = shutil.which("espeak-ng")
    if program is None:
        raise InputError(
            "this model says phonemes, and espeak-ng, which makes them of text, is not installed",
            hint="install espeak-ng, or write phonemes: [[həlˈoʊ wˈɜːld]]",
        )
    said = [
        piece if place % 2 else _said(program, voice, piece)
        for place, piece in enumerate(_PUNCTUATION.split(text))
        if piece
    ]
    return re.sub(r"\s+", " ", "".join(said)).strip()


def _said(program: str, voice: str, text: str) -> str:
    """What the program makes of a stretch without punctuation."""
    if not text.strip():
        return text
    command = [program, "-q", "--ipa", "-v", voice, "--stdin"]
    try:
        done = subprocess.run(
            command, input=text.encode(), capture_output=True, check=True, timeout=_WAIT_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise InputError(f"espeak-ng failed: {error}", hint="write phonemes: [[...]]") from error
    phonemes = " ".join(done.stdout.decode("utf-8", "replace").split())
    # What it says of a change of language, such as (fr), is no phoneme.
    return re.sub(r"\([a-z-]+\)", "", phonemes)
