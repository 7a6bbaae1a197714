"""Speaking and replying, measured on a talker and a listener whose times are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from alm_cli.bench.caches import renderer_cache
from alm_cli.bench.reports import Cell
from alm_cli.bench.speakers import Speaking, Trial, cache_cells
from alm_cli.bench.stages import (
    echo,
    heard_live,
    last_sound_s,
    measured,
    percentiles,
    thought,
    typical,
)
from alm_cli.bench.statistics import Estimate, Spread
from alm_cli.bench.timeline import first_sound_s
from alm_cli.errors import InputError
from alm_cli.nn.renderer import Renderer
from alm_cli.systems.speaker import Speaker
from alm_cli.values import Audio
from tests.bench.people import PAUSE_S, WORD_S, Listener, Talker, tone

NOTHING: dict[str, float | None] = dict.fromkeys(("asr_s", "llm_first_s", "llm_token_s", "tts_s"))


def value(cell: Cell) -> float:
    if isinstance(cell, Estimate):
        return cell.value
    assert isinstance(cell, Spread)
    return cell.median


def rows(bench: Speaking, speakers: list[tuple[str, Speaker, float]]) -> list[dict[str, Cell]]:
    """Those of all texts."""
    trial = Trial(bench, speakers)
    for text in bench.texts:
        trial.say(text)
    return trial.rows()


def test_what_a_talker_takes_is_what_is_told() -> None:
    """Slower than its words are long, so a player runs dry before every word but the first."""
    slow, quick = Talker(think_s=2 * WORD_S), Talker()
    bench = Speaking(["one two three", "four five"], runs=2, warm_up=1)
    found = rows(bench, [("slow", slow, 1.5), ("quick", quick, 0.5)])
    assert [row["model"] for row in found] == ["slow", "quick"]
    first, second = found
    assert value(first["first_sound_ms"]) >= 1000 * (2 * WORD_S + PAUSE_S)
    assert value(first["first_chunk_ms"]) >= 2000 * WORD_S
    assert value(second["first_sound_ms"]) >= 1000 * PAUSE_S
    assert value(first["first_sound_ms"]) > value(second["first_sound_ms"])
    assert value(first["gap_p99_ms"]) >= 2000 * WORD_S
    # Two runs count of each line: 3 and 2 chunks, of which the first of each is never late.
    assert (first["chunks"], first["underruns"]) == (10, 6)
    assert first["starved_ms"] >= 6 * 500 * WORD_S
    assert first["audio_s"] == pytest.approx(2 * (5 * WORD_S + 2 * PAUSE_S))
    assert value(first["rtf"]) > 1 and value(first["rtfx"]) < 1
    assert (first["load_s"], second["load_s"]) == (1.5, 0.5)


def test_silence_and_refusals_are_told() -> None:
    with pytest.raises(InputError, match="said nothing"):
        rows(Speaking([""], runs=1, warm_up=0), [("talker", Talker(), 0.0)])
    with pytest.raises(InputError, match="cannot ask"):
        rows(Speaking(["why?"], runs=1, warm_up=0), [("talker", Talker(), 0.0)])
    with pytest.raises(InputError, match="no voice"):
        rows(Speaking(["so"], voice="none"), [("talker", Talker(), 0.0)])


def test_the_last_sound_is_found_to_the_sample() -> None:
    samples = np.concatenate((tone(0.5).samples, np.full((1, 800), 0.001, np.float32)), 1)
    samples[0, 8000 - 1] = 0.5
    assert last_sound_s(Audio(samples, 16_000)) == 0.5
    with pytest.raises(InputError, match="silent"):
        last_sound_s(Audio(np.zeros((1, 100), np.float32), 16_000))


def test_a_recogniser_hears_in_real_time_and_is_timed_from_the_last_sound() -> None:
    """What it does while someone speaks costs nothing, what it does afterwards all."""
    text, seconds = heard_live(Listener(think_s=0.05), tone(0.6), 0.4)
    assert text == "one"
    assert 0.05 <= seconds < 0.35


def test_an_echo_answers_what_was_heard() -> None:
    answer, first_s, each_s, words = thought(echo, "one two three")
    assert (answer, words) == ("one two three", 3)
    assert first_s < 0.1 and each_s < 0.1
    assert thought(echo, "")[3] == 0


def test_a_reply_is_the_sum_of_its_stages() -> None:
    found = measured(
        Listener(think_s=0.05), Talker(think_s=0.02), tone(1.1), end_s=1.1, given=NOTHING
    )
    assert (found.heard, found.answer, found.reply.tokens) == ("one two", "one two", 2)
    assert found.reply.asr_s >= 0.05
    assert found.reply.tts_s >= 0.02 + PAUSE_S
    whole = found.reply.asr_s + found.reply.llm_first_s + found.reply.tts_s
    assert first_sound_s(found.reply.streamed()) == pytest.approx(whole)


def test_given_numbers_take_the_place_of_stages() -> None:
    given = {"asr_s": 0.3, "llm_first_s": 0.5, "llm_token_s": 0.03, "tts_s": 0.2}
    found = measured(Listener(), None, tone(0.2), end_s=0.2, given=given)
    assert first_sound_s(found.reply.streamed()) == pytest.approx(1.0)
    with pytest.raises(InputError, match="no speaker"):
        measured(Listener(), None, tone(0.2), end_s=0.2, given=given | {"tts_s": None})


def test_runs_are_told_by_their_median_and_percentiles() -> None:
    found = [
        measured(Listener(), Talker(), tone(0.2), end_s=0.2, given=NOTHING | {"asr_s": seconds})
        for seconds in (0.1, 0.2, 0.6)
    ]
    reply = typical(found)
    assert reply.asr_s == pytest.approx(0.2)
    assert reply.tts_s == pytest.approx(sorted(one.reply.tts_s for one in found)[1])
    spans = percentiles(found)
    assert spans.keys() == {
        *("first_sound_streamed_s", "first_sound_in_turn_s"),
        *("recognise", "think", "write", "speak"),
    }
    p50, p99 = spans["recognise"]["p50"], spans["recognise"]["p99"]
    assert p50 is not None and p99 is not None
    assert p50.value == pytest.approx(0.2) and p50.lower <= 0.2 <= p50.upper
    assert 0.5 < p99.value <= 0.6


def test_what_was_said_so_far_is_told() -> None:
    bench = Speaking(["one two", "three"], runs=1, warm_up=0)
    trial = Trial(bench, [("talker", Talker(), 0.0)])
    assert trial.rows() == []
    trial.say("one two")
    (row,) = trial.rows()
    assert row["chunks"] == 2
    trial.once(0, cold={"cold_s": 1.0})
    assert trial.rows()[0]["cold_s"] == 1.0
    assert len(trial.timings) == 1 and len(trial.timings[0]) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_cache_of_a_renderer_is_as_large_as_its_shape_says(dtype: torch.dtype) -> None:
    model = Renderer(books=3, vocabulary=16, latent=4, width=24, depth=2, heads=3)
    cache = renderer_cache(model.eval().to(dtype), 20)
    assert cache.predicted == 2 * 2 * 24 * 20 * dtype.itemsize
    cells = cache.cells()
    assert abs(float(str(cells["cache_off"]))) < 2
    assert cache.kept <= cache.allocated
    assert cache_cells(Talker()) == {}
    speaker = Talker()
    speaker.model = model  # type: ignore[attr-defined]
    assert abs(float(str(cache_cells(speaker)["cache_off"]))) < 2
    model.causal = False
    assert cache_cells(speaker) == {}
