"""Forced alignment: every word of a text as it is written, at the time at which it is said."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from alm_cli.catalog import CATALOG
from alm_cli.errors import InputError, ModelError
from alm_cli.systems.align import Aligner, load_aligner
from alm_cli.text.spoken import cardinal, spoken
from alm_cli.values import Transcript
from tests.systems.test_ctc_transcriber import long_text
from tests.systems.tones import FRAME_S, LETTERS, RATE, Samples, blocks, speak, tones


def aligned(samples: Samples, text: str, *, size: int = 16_000) -> Transcript:
    """The transcript that the tones give."""
    return Aligner(tones()).align(blocks(samples, size), text)


def spans(transcript: Transcript) -> list[tuple[float, float]]:
    return [(word.start_s, word.end_s) for segment in transcript.segments for word in segment.words]


def assert_in_order(transcript: Transcript, seconds: float) -> None:
    """Words have lengths, do not overlap, and lie within the recording."""
    found = spans(transcript)
    assert all(0 <= start < end <= seconds + 1e-9 for start, end in found)
    assert all(a[1] <= b[0] + 1e-9 for a, b in pairwise(found))


def test_words_keep_their_spelling_and_get_their_times() -> None:
    samples = speak("__the cat sat_________here it is")
    found = aligned(samples, 'The cat sat, "here"\nit IS!\n')
    assert [segment.text for segment in found.segments] == [' The cat sat, "here"', " it IS!"]
    assert (found.language, found.model) == ("en", "tones")
    assert_in_order(found, len(samples) / RATE)
    words = [word for segment in found.segments for word in segment.words]
    # Ten frames of silence and one more, then letters of three frames.
    begins = [11, 23, 35, 89, 104, 113]
    for word, begin in zip(words, begins, strict=True):
        assert word.start_s <= begin * FRAME_S <= word.start_s + 0.06
        assert word.probability > 0.9


def test_sentences_and_lines_are_segments() -> None:
    samples = speak("so it is what is it go on")
    found = aligned(samples, "\ufeffSo it is. What is\n\n it? “Go on.”  ")
    texts = [" So it is.", " What is", " it?", " “Go on.”"]
    assert [segment.text for segment in found.segments] == texts
    for segment in found.segments:
        assert (segment.start_s, segment.end_s) == (
            segment.words[0].start_s,
            segment.words[-1].end_s,
        )


@pytest.mark.parametrize("size", [333, 16_000, 10**9])
def test_long_recordings_are_aligned_whatever_the_blocks(size: int) -> None:
    text = long_text(150, seed=3)
    samples = speak(text)
    assert len(samples) > 64 * RATE
    found = aligned(samples, text.replace("_", ""), size=size)
    assert_in_order(found, len(samples) / RATE)
    frame, begins = 1, []
    for word in text.rstrip("_ ").split():
        # Silence before a word stands with it.
        begins.append(frame + 5 * word.count("_"))
        frame = begins[-1] + 3 * len(word.lstrip("_")) + 3
    assert len(spans(found)) == 150
    for (start, _), frame in zip(spans(found), begins, strict=True):
        assert start <= frame * FRAME_S <= start + 0.06


def test_what_is_said_beyond_the_text_is_left_alone() -> None:
    samples = speak("well now___the cat sat_____and so on")
    (segment,) = aligned(samples, "the cat sat").segments
    assert len("well now") * 0.06 < segment.start_s < segment.end_s
    assert segment.end_s < len("well now_____the cat sat") * 0.06 + 0.5


def test_numbers_are_aligned_as_they_are_read() -> None:
    samples = speak("in nineteen eighty four we paid five dollars")
    found = aligned(samples, "In 1984 we paid $5.")
    words = found.segments[0].words
    assert [word.text for word in words] == [" In", " 1984", " we", " paid", " $5."]
    assert words[1].end_s - words[1].start_s > 0.9
    assert all(word.probability > 0.9 for word in words)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("one two", "… one 中文 two"),
        ("one two", "one 中 文 two"),
        ("one two", "one two 中 文 。 ！"),
        ("one two", "中 文 one two"),
        ("a b", "— a — b —"),
        ("a _____b", "a — b"),
    ],
)
def test_trap_words_without_letters_get_times_too(said: str, text: str) -> None:
    samples = speak(said)
    found = aligned(samples, text)
    assert "".join(segment.text for segment in found.segments).split() == text.split()
    assert_in_order(found, len(samples) / RATE)
    for segment in found.segments:
        for word in segment.words:
            known = any(letter in LETTERS for letter in word.text.strip())
            assert known == (word.probability > 0)


def test_accents_hyphens_and_apostrophes_are_read_as_the_model_can() -> None:
    samples = speak("well known cafe don't say o'er")
    found = aligned(samples, "Well-known Café: ‘don’t’ say o'er")
    words = found.segments[0].words
    assert [word.text for word in words] == [" Well-known", " Café:", " ‘don’t’", " say", " o'er"]
    assert min(word.probability for word in words) > 0.9


def test_large_alphabets_without_spaces_or_with_pieces() -> None:
    large = ("", *"ABCDEFGHIJ")
    samples = speak("BADCAGE", vocabulary=large)
    found = Aligner(tones(large)).align(blocks(samples, 500), "bad cage 7")
    words = found.segments[0].words
    assert words[0].probability > 0.9 and words[1].start_s > 3 * 0.06
    assert found.language is None
    pieces = ("", "▁", "ab", "a", "b")
    letters = Aligner(tones(pieces))._letters
    assert letters.spell("abba") == [2, 4, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the text is empty"),
        (" \n\t ", "the text is empty"),
        ("中文 — 。", "nothing that can be heard"),
        ("so long " * 40, "a text of 319 letters in a recording of"),
        ("xyzzy plugh quux", "does not go with the recording"),
    ],
)
def test_texts_that_cannot_be_aligned_say_why(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        aligned(speak("the cat sat____on the mat"), text)
    assert caught.value.hint


@pytest.mark.parametrize("length", [0, 1, 400])
def test_recordings_without_sound_fit_no_text(length: int) -> None:
    with pytest.raises(InputError, match="letters in a recording of 0.0 s"):
        aligned(np.zeros(length, np.float32), "hello")
    with pytest.raises(InputError, match="does not go with"):
        aligned(np.zeros(RATE, np.float32), "hello")


def test_a_narrow_beam_that_loses_the_way_is_followed_by_a_wide_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("alm_cli.systems.align._BEAMS", (0.01, float("inf")))
    samples = speak("the cat sat on the mat")
    assert_in_order(aligned(samples, "the cat sat on the mat"), len(samples) / RATE)


def test_the_loader_refuses_what_writes_no_letters() -> None:
    formula = next(card.name for card in CATALOG if not card.source)
    with pytest.raises(ModelError, match="writes no letters"):
        load_aligner(formula, device="cpu")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0", "zero"),
        ("007", "zero zero seven"),
        ("13th", "thirteenth"),
        ("21st", "twenty first"),
        ("90th", "ninetieth"),
        ("1905", "nineteen oh five"),
        ("1900", "nineteen hundred"),
        ("2000", "two thousand"),
        ("2012", "twenty twelve"),
        ("1,984", "one thousand nine hundred eighty four"),
        ("3.14", "three point one four"),
        ("1990s", "nineteen nineties"),
        ("$1,000,000", "one million dollars"),
        ("50%", "fifty percent"),
        ("10:30", "ten thirty"),
        ("10:05", "ten oh five"),
        ("9:00", "nine"),
        ("R&B", "R and B"),
        ("12345678901234567", "one two three four five six seven eight nine zero one two three four"
         " five six seven"),
        ("no number", "no number"),
    ],
)  # fmt: skip
def test_numbers_are_spelt(text: str, said: str) -> None:
    assert " ".join(spoken(text).split()) == said


def test_cardinals() -> None:
    assert cardinal(100_019) == "one hundred thousand nineteen"
    assert cardinal(2_000_000_000_001) == "two trillion one"
