"""Texts that go round in circles, told by their structure alone."""

from __future__ import annotations

from collections.abc import Sequence


def repeats(tokens: Sequence[int], most: int = 3) -> bool:
    """Whether some stretch of tokens comes more than `most` times, one right after another."""
    for period in range(1, len(tokens) // (most + 1) + 1):
        same = 0
        for token, before in zip(tokens[period:], tokens, strict=False):
            same = same + 1 if token == before else 0
            if same >= period * most:
                return True
    return False
