"""Caches with room from the start: see also tests/nn/test_guided.py."""

from __future__ import annotations

import torch

from alm_cli.nn.roomy import RoomyCache


def test_more_than_there_is_room_for_is_kept_too() -> None:
    cache = RoomyCache(2, torch.bfloat16)
    steps = torch.arange(40).float().view(1, 1, 10, 4)
    for step in steps.split((1, 1, 5, 3), 2):
        keys, values = cache.extend(step, -step)
    assert keys.dtype == torch.bfloat16 and cache.length == 10
    assert torch.equal(keys.float(), steps) and torch.equal(values.float(), -steps)


def test_a_fork_goes_on_by_itself() -> None:
    cache = RoomyCache(8)
    ones = torch.ones(1, 1, 2, 4)
    cache.extend(ones, ones)
    other = cache.fork()
    other.extend(2 * ones, 2 * ones)
    kept, _ = cache.extend(3 * ones, 3 * ones)
    assert kept[0, 0, :, 0].tolist() == [1, 1, 3, 3]
    assert other.kept[0, 0, 0, :, 0].tolist() == [1, 1, 2, 2]
