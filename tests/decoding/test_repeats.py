"""Texts that go round in circles."""

from __future__ import annotations

import pytest

from alm_cli.decoding.repeats import repeats


@pytest.mark.parametrize(
    ("tokens", "most", "found"),
    [
        ([1, 2, 3] * 4, 3, True),
        ([1, 2, 3] * 3, 3, False),
        ([9, 8, *[5] * 4, 7], 3, True),
        ([9, 8, *[5] * 3, 7], 3, False),
        ([*range(50)] * 4, 3, True),
        ([*range(50)] * 3, 3, False),
        ([1, 1, 2, 2, 1, 1, 2, 2, 1, 1, 2, 2], 3, False),
        ([0, *[1, 2] * 3, 1, 3], 3, False),
        ([0, *[1, 2] * 4], 3, True),
        ([4, 4], 1, True),
        ([], 3, False),
    ],
)
def test_circles_are_told_from_emphasis(tokens: list[int], most: int, found: bool) -> None:
    assert repeats(tokens, most) is found
