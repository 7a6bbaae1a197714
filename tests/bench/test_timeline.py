"""The arithmetic of a spoken reply."""

from __future__ import annotations

import pytest

from alm_cli.bench.timeline import Reply, first_sound_s, overlap

KNOWN = Reply(asr_s=0.3, llm_first_s=0.5, llm_token_s=0.03, tokens=50, tts_s=0.2)


def test_the_known_answer() -> None:
    assert first_sound_s(KNOWN.streamed()) == pytest.approx(1.0)
    assert first_sound_s(KNOWN.in_turn()) == pytest.approx(0.3 + 0.5 + 49 * 0.03 + 0.2)


def test_a_voice_that_waits_for_more_words_begins_later() -> None:
    waiting = Reply(asr_s=0.3, llm_first_s=0.5, llm_token_s=0.03, tokens=50, tts_s=0.2, speakable=8)
    assert first_sound_s(waiting.streamed()) == pytest.approx(1.0 + 7 * 0.03)
    beyond = Reply(asr_s=0, llm_first_s=0, llm_token_s=0.1, tokens=3, tts_s=0.2, speakable=9)
    assert beyond.streamed() == beyond.in_turn()


def test_nothing_overlaps_in_turn_and_the_writing_does_in_a_stream() -> None:
    assert overlap(KNOWN.in_turn()) == pytest.approx(0.0)
    assert overlap(KNOWN.streamed()) == pytest.approx(49 * 0.03 / 2.47)
    assert overlap(Reply(asr_s=0, llm_first_s=0, llm_token_s=0, tokens=1, tts_s=0).streamed()) == 0
