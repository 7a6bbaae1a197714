"""Transcripts as files: the bytes of openai-whisper; lines of JSON and back, hostile ones too."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_cli.errors import FormatError
from alm_cli.files.transcripts import (
    FORMATS,
    VERSION,
    About,
    Layout,
    from_record,
    hallucination_score,
    parse_line,
    read_jsonl,
    render,
    to_record,
)
from alm_cli.values import Segment, Word

ABOUT = About(file="talk.wav", model="small", weights_sha256="ab" * 32, language="en")
WORDED = replace(ABOUT, words=True)
SAID = Segment(
    start_s=0.0,
    end_s=2.5,
    text=" Hello there, --> you.",
    words=(
        Word(start_s=0.0, end_s=0.5, text=" Hello", probability=0.9),
        Word(start_s=0.5, end_s=1.0, text=" there,", probability=0.8),
        Word(start_s=1.2, end_s=2.5, text=" --> you.", probability=0.25),
    ),
    tokens=(50364, 2425, 456, 50489),
    temperature=0.2,
    avg_logprob=-0.31,
    compression_ratio=0.75,
    no_speech_prob=0.01,
    language="en",
)


def text_of(format: str, segments: list[Segment], about: About, layout: Layout = Layout()) -> str:
    """A whole file."""
    return "".join(render(format, segments, about, layout))


def theirs(format: str, segments: list[Segment], about: About, **layout: Any) -> str:
    """What openai-whisper writes of the same."""
    utils = pytest.importorskip("whisper.utils")
    results = []
    for number, segment in enumerate(segments):
        result = {
            "id": number,
            "seek": segment.seek,
            "start": segment.start_s,
            "end": segment.end_s,
            "text": segment.text,
            "tokens": list(segment.tokens),
            "temperature": segment.temperature,
            "avg_logprob": segment.avg_logprob,
            "compression_ratio": segment.compression_ratio,
            "no_speech_prob": segment.no_speech_prob,
        }
        if about.words:
            result["words"] = [
                {"word": w.text, "start": w.start_s, "end": w.end_s, "probability": w.probability}
                for w in segment.words
            ]
        results.append(result)
    whole = {"text": "".join(s.text for s in segments), "segments": results, "language": "en"}
    file = io.StringIO()
    utils.get_writer(format, ".").write_result(whole, file, None, **layout)
    return file.getvalue()


PIECES = st.sampled_from(
    ["a", " b", " c\td", " -->", "\n", " é", " 字", "", " long" * 9, '"', "x."]
)
TIMES = st.floats(0, 1e5, allow_nan=False) | st.integers(0, 10**7).map(lambda n: n / 1000)


@st.composite
def transcripts(draw: st.DrawFn) -> list[Segment]:
    """Segments of words at ascending times, some without any."""
    segments, now = [], 0.0
    for _ in range(draw(st.integers(0, 5))):
        words = []
        start = now
        for _ in range(draw(st.integers(0, 7))):
            begin = now + draw(st.sampled_from([0.0, 0.0004, 0.02, 0.5, 2.99, 3.01, 61.0, 4000.5]))
            now = begin + draw(st.sampled_from([0.0, 0.02, 0.3, 1.0]))
            text = draw(PIECES)
            words.append(Word(start_s=begin, end_s=now, text=text, probability=0.5))
        segments.append(
            Segment(
                start_s=start,
                end_s=now,
                text="".join(word.text for word in words) or draw(PIECES),
                words=tuple(words),
                tokens=tuple(draw(st.lists(st.integers(0, 51_865), max_size=4))),
                seek=draw(st.integers(0, 10**6)),
                temperature=draw(st.sampled_from([0.0, 0.6000000000000001])),
                avg_logprob=-draw(TIMES),
                compression_ratio=draw(TIMES),
                no_speech_prob=1e-9,
                language="en",
            )
        )
    return segments


@pytest.mark.oracle
@settings(max_examples=60, deadline=None)
@given(segments=transcripts(), words=st.booleans(), layout=st.builds(
    Layout,
    max_line_width=st.none() | st.integers(1, 60),
    max_line_count=st.none() | st.integers(1, 3),
    max_words_per_line=st.none() | st.integers(1, 4),
    highlight_words=st.booleans(),
))  # fmt: skip
def test_every_byte_is_that_of_openai_whisper(
    segments: list[Segment], words: bool, layout: Layout
) -> None:
    about = WORDED if words else ABOUT
    for format in ("txt", "vtt", "srt", "tsv", "json"):
        options = {
            "max_line_width": layout.max_line_width,
            "max_line_count": layout.max_line_count,
            "max_words_per_line": layout.max_words_per_line,
            "highlight_words": layout.highlight_words,
        }
        expected = theirs(format, segments, about, **options if format in ("vtt", "srt") else {})
        assert text_of(format, segments, about, layout) == expected, format


def test_formats_are_those_of_openai_whisper_and_lines() -> None:
    assert list(FORMATS) == ["txt", "vtt", "srt", "tsv", "json", "jsonl"]


def test_what_is_no_number_is_null() -> None:
    unsure = Segment(start_s=0.0, end_s=1.0, text=" x", words=(Word(start_s=0, end_s=1, text="x"),))
    for format in ("json", "jsonl"):
        text = text_of(format, [unsure], WORDED)
        assert "NaN" not in text
        assert "Infinity" not in text
        assert '"avg_logprob": null' in text
        assert '"probability": null' in text
    assert json.loads(text_of("jsonl", [unsure], ABOUT).splitlines()[0])["hallucination"] is None


def test_lines_come_one_by_one() -> None:
    pushed: list[Segment] = []

    def segments() -> Iterator[Segment]:
        for _ in range(3):
            pushed.append(SAID)
            yield SAID

    for format in ("txt", "tsv", "jsonl", "srt", "vtt"):
        pushed.clear()
        parts = render(format, segments(), ABOUT)
        while "Hello" not in next(parts):
            pass
        assert len(pushed) == 1, format


def test_json_lines_tell_all_and_come_back() -> None:
    segments = [SAID, replace(SAID, start_s=3.0, end_s=3.0, words=(), text="", tokens=(), seek=300)]
    lines = text_of("jsonl", segments, ABOUT).splitlines()
    first, _, last = map(json.loads, lines)
    assert first["version"] == VERSION
    assert (first["file"], first["model"], first["weights_sha256"]) == (
        *("talk.wav", "small"),
        "ab" * 32,
    )
    assert set(first) == {
        *("version", "id", "seek", "start", "end", "text", "words", "tokens", "temperature"),
        *("avg_logprob", "compression_ratio", "no_speech_prob", "language", "hallucination"),
        *("file", "model", "weights_sha256"),
    }
    assert last["segments"] == 2
    transcript = read_jsonl(lines)
    assert list(transcript.segments) == segments
    assert (transcript.language, transcript.model) == ("en", "small")


def test_numbers_come_back_exactly() -> None:
    odd = replace(SAID, start_s=0.1 + 0.2, end_s=1 / 3 * 1e4, avg_logprob=-1e-300)
    assert from_record(json.loads(json.dumps(to_record(odd)))) == odd
    unknown = from_record(to_record(Segment(start_s=0, end_s=1, text="")))
    assert math.isnan(unknown.avg_logprob)


@pytest.mark.parametrize(
    ("numbers", "least", "most"),
    [
        ((-0.2, 1.4, 0.01), 0.0, 0.1),  # plain speech
        ((-0.2, 2.4, 0.01), 0.5, 0.5),  # whisper's limit of repetition
        ((-1.0, 1.4, 0.6), 0.55, 0.55),  # whisper's limits of silence
        ((-0.2, 30.0, 0.01), 1.0, 1.0),
        ((-9.0, 1.0, 1.0), 1.0, 1.0),
        ((-0.2, math.nan, math.nan), 0.05, 0.05),
    ],
)
def test_the_score_rises_with_every_sign_of_invention(
    numbers: tuple[float, float, float], least: float, most: float
) -> None:
    logprob, ratio, silent = numbers
    score = hallucination_score(
        replace(SAID, avg_logprob=logprob, compression_ratio=ratio, no_speech_prob=silent)
    )
    assert score is not None
    assert least - 1e-9 <= score <= most + 1e-9


GOOD = json.dumps({"version": 1, **to_record(SAID)})


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        '{"version": 2, "start": 0, "end": 1, "text": ""}',
        '{"version": 1, "start": NaN, "end": 1, "text": ""}',
        '{"version": 1, "start": 1, "end": 0, "text": ""}',
        '{"version": 1, "start": -1, "end": 0, "text": ""}',
        '{"version": 1, "start": 0, "end": 1e999, "text": ""}',
        '{"version": 1, "start": true, "end": 1, "text": ""}',
        '{"version": 1, "start": 0, "end": 1}',
        '{"version": 1, "start": 0, "end": 1, "text": "\\ud800"}',
        '{"version": 1, "start": 0, "end": 1, "text": "", "tokens": [-1]}',
        '{"version": 1, "start": 0, "end": 1, "text": "", "tokens": [1.5]}',
        '{"version": 1, "start": 0, "end": 1, "text": "", "tokens": ' + "9" * 5000 + "}",
        '{"version": 1, "start": 0, "end": 1, "text": "", "words": [{"word": 1}]}',
        '{"version": 1, "start": 0, "end": 1, "text": "", "words": {}}',
        '{"version": 1, "start": 0, "end": 1, "text": "", "language": 7}',
        '{"version": 1, "start": 0, "end": 1, "text": "", "seek": 1e3}',
        '{"version": 1, "segments": 5, "model": "", "weights_sha256": ""}',
        '{"version": 1, "segments": 0, "model": 7, "weights_sha256": ""}',
    ],
)
def test_lines_that_make_no_sense_are_refused(line: str) -> None:
    with pytest.raises(FormatError, match="line 1: "):
        read_jsonl([line])


def test_a_transcript_that_breaks_off_is_refused() -> None:
    with pytest.raises(FormatError, match="ends before"):
        read_jsonl([GOOD])
    assert parse_line(GOOD)["text"] == SAID.text


def test_praat_gets_intervals_without_gaps() -> None:
    late = replace(SAID, start_s=5.0, end_s=6.0, text=' "So."', words=())
    odd = Word(start_s=2.5, end_s=2.5, text=" (", probability=0.5)
    text = text_of("textgrid", [replace(SAID, words=(*SAID.words, odd)), late], WORDED)
    tiers = [
        [
            (float(start), float(end), label)
            for start, end, label in re.findall(
                r"intervals \[\d+\]:\n +xmin = (.*)\n +xmax = (.*)\n +text = \"(.*)\"\n", tier
            )
        ]
        for tier in text.split("item [")[2:]
    ]
    segments, words = tiers
    assert [label for _, _, label in segments] == ["Hello there, --> you.", "", '""So.""']
    assert [label for _, _, label in words] == ["Hello", "there,", "", "--> you. (", ""]
    for tier in tiers:
        assert (tier[0][0], tier[-1][1]) == (0.0, 6.0)
        assert all(one[1] == other[0] for one, other in zip(tier, tier[1:], strict=False))
    assert "xmax = 1.0" in text_of("textgrid", [], WORDED)
