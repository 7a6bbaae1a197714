"""Was it said? A recogniser listens, and what it writes is compared with the text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import InputError
from alm_cli.systems.transcriber import TranscribeAsk, Transcriber
from alm_cli.text.reading import read_aloud
from alm_cli.values import Audio

# So many words in a hundred may differ before a line is not understood; recognisers err too.
_BAD = 0.15
_PHONEMES = re.compile(r"\[\[.*?\]\]")


@dataclass(frozen=True)
class Proof:
    """What was heard, and the share of the words that differ from those of the text."""

    heard: str
    error: float

    @property
    def good(self) -> bool:
        return self.error <= _BAD


class Proofreader:
    """A recogniser that tells how much of a line it understands."""

    def __init__(self, transcriber: Transcriber) -> None:
        self.name, self._transcriber = transcriber.name, transcriber

    def proof(self, text: str, samples: NDArray[np.float32], rate: int) -> Proof:
        """Compare the samples [n] with what they should say."""
        heard = self._transcriber.transcribe(Audio(samples[None], rate), TranscribeAsk()).text
        return Proof(heard.strip(), word_error(text, heard))


def word_error(text: str, heard: str) -> float:
    """Words that are missing, added or different, for each word of the text; phonemes count not.

    A word that is nearly the same counts for the part that is not, because recognisers spell names
    as they please.
    """
    wanted, found = _words(_PHONEMES.sub(" ", text)), _words(heard)
    if not wanted:
        return 0.0
    cost = np.array([[_difference(a, b) for b in found] for a in wanted]).reshape(len(wanted), -1)
    apart = _distance(cost) / len(wanted)
    # Where words are written in one or in two (every one, everyone), the letters are the same.
    one, other = "".join(wanted), "".join(found)
    return min(apart, _letters(one, other) / len(one) * 2)


def _words(text: str) -> list[str]:
    """The words as all recognisers write them: small, without marks, numbers in words."""
    with suppress(InputError):  # letters of other scripts are compared as they are
        text = read_aloud(text)
    # Letters that are named one by one are one word.
    text = re.sub(r"\b(\w)(?: (\w)\b)+(?!')", lambda found: found[0].replace(" ", ""), text)
    return re.findall(r"\w+", text.lower().replace("'", "").replace("-", " "))


def _difference(one: str, other: str) -> float:
    return min(1.0, _letters(one, other) / max(len(one), len(other)))


def _letters(one: str, other: str) -> float:
    first, second = (np.frombuffer(text.encode("utf-32-le"), "<u4") for text in (one, other))
    return _distance((first[:, None] != second[None]).astype(np.float64))


def _distance(cost: NDArray[np.float64]) -> float:
    """The least sum of substitutions, and of 1 for each row or column that is left out."""
    rows, columns = cost.shape
    ramp = np.arange(columns + 1.0)
    reached = ramp
    for row in range(rows):
        best = np.append(row + 1.0, np.minimum(reached[1:] + 1, reached[:-1] + cost[row]))
        # Leaving columns out costs 1 each: the least of what came before and the way from there.
        reached = np.minimum.accumulate(best - ramp) + ramp
    return float(reached[-1])


def summary(proofs: Sequence[Proof], respoken: int, model: str) -> dict[str, object]:
    """What the lines of JSON tell of a text that was verified."""
    errors = [proof.error for proof in proofs]
    return {
        "model": model,
        "pieces": len(proofs),
        "respoken": respoken,
        "understood": sum(proof.good for proof in proofs),
        "word_error": round(float(np.mean(errors)), 4) if errors else 0.0,
    }
