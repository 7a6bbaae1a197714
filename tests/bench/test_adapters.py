"""Known answers of every rule: what published processors make of lengths, and published sizes."""

from __future__ import annotations

import pytest

from alm_cli.bench.adapters import (
    ADAPTERS,
    LANGUAGE_MODELS,
    RATE,
    Budget,
    language_model,
    pooled,
    queried,
    queried_within,
)
from alm_cli.errors import UsageError
from alm_cli.planning import TokenRate

MIB = 2**20
RULES = {one.name: one.tokens for one in ADAPTERS}
# Seconds -> tokens, as the published processors and models give them.
KNOWN = {
    "qwen2-audio": {0.02: 0, 1: 25, 2.5: 62, 30: 750},
    "ultravox": {1: 7, 10: 63, 30: 188, 60: 376},
    "voxtral": {0.1: 375, 30: 375, 31: 750, 60: 750},
    "salmonn": {30: 88, 60: 176},
    "seamless-m4t-v2": {10: 63},
    "granite-speech": {10: 102},
}
# KiB of keys and values a token, in bfloat16.
PER_TOKEN = {
    "qwen-7b": 512, "qwen2.5-7b": 56, "ministral-3b": 120, "mistral-small-24b": 160,
    "llama-3.1-8b": 128, "llama-3.2-1b": 32, "helium-7b": 512,
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_adapters_give_the_known_numbers(name: str) -> None:
    for seconds, tokens in KNOWN[name].items():
        assert RULES[name](round(seconds * RATE)) == tokens, seconds
    assert KNOWN.keys() == RULES.keys()


def test_longer_recordings_never_give_fewer_tokens() -> None:
    for name, rule in RULES.items():
        counts = [rule(samples) for samples in range(0, 40 * RATE, 997)]
        assert counts == sorted(counts), name
        assert rule(0) == 0


def test_pools_and_queries() -> None:
    assert [pooled(frames, 4) for frames in (0, 1, 4, 5)] == [0, 1, 1, 2]
    assert queried(16, 15, 3) == 6
    assert queried_within(1500, 17) == 88
    assert queried_within(16, 17) == 0


@pytest.mark.parametrize("name", PER_TOKEN)
def test_caches_have_the_published_sizes(name: str) -> None:
    assert language_model(name).cache_bytes(1) == 1024 * PER_TOKEN[name]
    assert PER_TOKEN.keys() == LANGUAGE_MODELS.keys()


def test_half_an_hour_of_qwen2_audio_is_22_gib() -> None:
    """And 12.5 MiB a second, were there no limit."""
    budget = Budget(model=language_model("qwen-7b"), seconds=1800)
    row = budget.row("", "", 45_000, RULES["qwen2-audio"](1800 * RATE))
    assert row["cache_per_second_mib"] == pytest.approx(12.5)
    assert row["cache_mib"] == pytest.approx(22 * 1024, rel=0.01)


def test_eight_books_at_75_hertz_flat_and_delayed() -> None:
    budget = Budget(model=language_model("llama-3.1-8b"), seconds=60)
    flat, delayed = budget.codes("codec", TokenRate(frame_rate=75, codebooks=8))
    assert flat["cache_per_second_mib"] == pytest.approx(75)
    assert delayed["cache_per_second_mib"] == pytest.approx(9.4, rel=0.01)
    assert (flat["positions"], delayed["positions"]) == (36_000, 4507)
    assert flat["tokens"] == delayed["tokens"] == 36_000
    (single,) = budget.codes("units", TokenRate(frame_rate=50, codebooks=1))
    assert single["positions"] == 3000
    eight = Budget(model=language_model("llama-3.1-8b", "int8"))
    assert eight.codes("codec", TokenRate(frame_rate=75, codebooks=8))[0][
        "cache_per_second_mib"
    ] == pytest.approx(37.5)


def test_speech_as_text_is_200_tokens_a_minute() -> None:
    rows = {str(row["what"]): row for row in Budget(model=language_model("qwen-7b")).rows()}
    assert rows["text"]["tokens_per_minute"] == 200
    assert rows["qwen2-audio"]["tokens_per_minute"] == 1500
    assert rows["qwen2-audio"]["per_text"] == pytest.approx(7.5)
    assert rows["ultravox"]["fits_min"] == pytest.approx(8192 / 376)
    assert "alm-codec" in rows


def test_other_models_by_their_sizes() -> None:
    assert language_model("2x3x4").cache_bytes(5) == 2 * 2 * 3 * 4 * 5 * 2
    for wrong in ("gpt", "2x3", "0x1x1", "2x3xfour"):
        with pytest.raises(UsageError, match="--llm"):
            language_model(wrong)
