"""Where somebody speaks: padded, in order, the same whatever the blocks, and nowhere in noise."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_cli.systems.activity import Activity
from tests.systems.test_ctc_transcriber import long_text
from tests.systems.tones import RATE, Counted, Samples, blocks, speak, tones


def found(samples: Samples) -> list[tuple[float, float]]:
    return Activity(tones()).speech(samples)


def test_stretches_of_speech_are_found_with_padding() -> None:
    samples = speak("__________so it is_______________and on" + "_" * 10)
    first, second = found(samples)
    # A second of silence, then nine letters of 60 ms; a second and a half; five letters.
    assert first == pytest.approx((1.0 + 0.02 - 0.2, 1.02 + 9 * 0.06 + 0.2), abs=0.15)
    begin = 1.02 + 9 * 0.06 + 1.5
    assert second == pytest.approx((begin - 0.2, begin + 6 * 0.06 + 0.2), abs=0.15)


def test_short_pauses_do_not_part_speech() -> None:
    assert len(found(speak("so___it____is"))) == 1


@settings(max_examples=12, deadline=None)
@given(size=st.integers(30, 60_000), live=st.booleans())
def test_speech_does_not_depend_on_the_blocks(size: int, live: bool) -> None:
    samples = speak(long_text(8, seed=2))
    activity = Activity(tones())
    spans = list(activity.spans(blocks(samples, size)(), live=live))
    assert spans == list(activity.spans([samples], live=live))


def test_a_stream_tells_of_speech_soon_and_long_recordings_are_in_order() -> None:
    samples = speak(long_text(120, seed=4))
    counted, delays, spans = Counted(samples), [], []
    for begin, end in Activity(tones()).spans(counted(), live=True):
        delays.append(counted.read / RATE - end)
        spans.append((begin, end))
    assert max(delays) < 7.5 and len(spans) > 5
    assert all(a[1] < b[0] for a, b in pairwise(spans))
    assert spans[0][0] >= 0 and spans[-1][1] <= len(samples) / RATE
    assert spans == found(samples)


@pytest.mark.parametrize("length", [0, 1, 100, 16_000])
def test_silence_is_no_speech(length: int) -> None:
    assert found(np.zeros(length, np.float32)) == []


def test_noise_and_a_single_click_are_no_speech() -> None:
    noise = np.random.default_rng(0).normal(size=20 * RATE).astype(np.float32)
    assert found(0.2 * noise) == []
    assert found(np.concatenate((np.zeros(RATE, np.float32), speak("a")))) == []
    # A letter that is held is one letter.
    assert found(np.concatenate([speak("a")[320:960]] * 9)) == []
