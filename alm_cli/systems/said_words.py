"""When each word is said, for speakers that do not tell: found in the sound by a recogniser."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from alm_cli.errors import InputError
from alm_cli.systems.align import Aligner
from alm_cli.systems.speech import Said
from alm_cli.systems.transcriber import mono
from alm_cli.values import Audio, Word


def with_words(pieces: Sequence[Said], rate: int, aligner: Aligner) -> tuple[Said, ...]:
    """The pieces, each with words; those that have none and are not understood stay without."""
    return tuple(piece if piece.words else _aligned(piece, rate, aligner) for piece in pieces)


def _aligned(piece: Said, rate: int, aligner: Aligner) -> Said:
    text = re.sub(r"\[\[.*?\]\]", " ", piece.text)
    try:
        found = aligner.align(mono(Audio(piece.spoken.samples[None], rate)), text)
    except InputError:
        return piece
    words = tuple(_moved(word, piece) for segment in found.segments for word in segment.words)
    if not words:
        return piece
    return replace(piece, words=words, start_s=words[0].start_s, end_s=words[-1].end_s)


def _moved(word: Word, piece: Said) -> Word:
    """A word of the piece alone as one of the whole; so long a piece begins with its sound."""
    start, end = (min(piece.start_s + s, piece.end_s) for s in (word.start_s, word.end_s))
    return replace(word, start_s=start, end_s=end)
