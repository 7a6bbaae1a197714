"""The arithmetic of tokens, on the figures that people quote."""

from __future__ import annotations

import pytest

from alm_cli.planning import LanguageModel, TokenRate, positions


def test_four_codebooks_at_fifty_hertz() -> None:
    rate = TokenRate(frame_rate=50, codebooks=4, vocabularies=(1024,) * 4)
    assert (rate.bits_per_frame, rate.kbps, rate.tokens_per_second) == (40, 2.0, 200)
    assert rate.tokens(60) == 12_000
    assert rate.pcm_ratio(24_000) == 192


@pytest.mark.parametrize(
    ("seconds", "frame_rate", "codebooks", "compression", "expected"),
    [
        (30, 50, 1, 2, 750),
        (30, 12.5, 1, 1, 375),
        (2, 75, 8, 1, 1200),
        (30.001, 12.5, 1, 1, 376),
        (0, 50, 4, 1, 0),
        (1.1, 10, 1, 1, 11),  # 1.1 * 10 is 11.000000000000002 in floating point
        (0.3, 10, 1, 1, 3),
        (1, 25, 3, 2, 38),
        (30, 50, 1, 1.5, 1000),
    ],
)
def test_tokens_and_positions(
    seconds: float, frame_rate: float, codebooks: int, compression: float, expected: int
) -> None:
    rate = TokenRate(frame_rate=frame_rate, codebooks=codebooks)
    assert positions(rate.tokens(seconds), compression) == expected


def test_odd_vocabularies_take_whole_bits_and_streams_multiply() -> None:
    rate = TokenRate(frame_rate=10, codebooks=3, vocabularies=(1000, 1025, 2), streams=2)
    assert rate.bits_per_frame == 2 * (10 + 11 + 1)
    assert rate.tokens(1) == 60


def test_slow_codebooks_count_for_what_they_hold() -> None:
    """SNAC 24 kHz: 4096 entries at 47, 23 and 12 Hz."""
    rate = TokenRate(frame_rate=46.875, codebooks=3, vocabularies=(4096,) * 3, strides=(4, 2, 1))
    assert rate.bits_per_frame == 12 * 1.75
    assert round(rate.kbps, 2) == 0.98
    assert rate.tokens(64) == 64 * 46.875 * 1.75


@pytest.mark.parametrize(("kv_dtype", "size"), [("bfloat16", 2), ("float32", 4), ("int8", 1)])
def test_the_cache_holds_keys_and_values_of_all_layers(kv_dtype: str, size: int) -> None:
    model = LanguageModel(layers=32, kv_heads=8, head_dim=128, kv_dtype=kv_dtype)
    assert model.cache_bytes(750) == 2 * 32 * 8 * 128 * 750 * size
