"""The recogniser in the package on a real recording: it writes, aligns and finds speech."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from alm_cli.catalog import CATALOG
from alm_cli.checkpoints.fetch import locate
from alm_cli.errors import InputError
from alm_cli.systems.activity import Activity, load_activity
from alm_cli.systems.align import load_aligner
from alm_cli.systems.transcriber import RATE, TranscribeAsk, Transcriber, load_transcriber, mono
from alm_cli.values import Audio
from tests.systems.tones import Samples, blocks

TEXT = (
    "Printing, in the only sense with which we are at present concerned, differs from most if not"
    " from all the arts and crafts represented in the Exhibition"
)
SAMPLES = Path(__file__).parents[2] / "sample_audio"
FOUND = [card for card in CATALOG if card.name == "alm-asr" and locate(card)]

pytestmark = pytest.mark.skipif(not FOUND, reason="this checkout has no weights of alm-asr")


@pytest.fixture(scope="module")
def clip(shared: Path) -> Samples:
    """Two seconds of silence, 9.7 seconds of a reader, two seconds of silence."""
    samples, rate = soundfile.read(
        shared / "audio/speech/ljspeech/LJ001-0001.flac", dtype="float32"
    )
    silence = np.zeros(2 * RATE, np.float32)
    return np.concatenate((silence, *mono(Audio(samples[None], rate))(), silence))


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return load_transcriber("alm-asr", device="cpu")


@pytest.fixture(scope="module")
def activity() -> Activity:
    return load_activity(device="cpu")


def test_it_writes_english_when_it_is_said(transcriber: Transcriber, clip: Samples) -> None:
    segments = list(transcriber.segments(blocks(clip, 8000), TranscribeAsk()))
    words = [word for segment in segments for word in segment.words]
    assert 15 <= len(words) <= 40
    assert 1.8 < words[0].start_s < 2.6 and 11 < words[-1].end_s < 12
    assert all(word.start_s < word.end_s for word in words)
    assert all(a.end_s <= b.start_s for a, b in pairwise(words))
    for segment in segments:
        assert segment.text[1].isupper() and segment.text.endswith(".")
        assert segment.language == "en"
    stream = transcriber.segments(blocks(clip, 999), TranscribeAsk(stream=True))
    assert len("".join(segment.text for segment in stream).split()) > 12


def test_noise_and_silence_have_no_words(transcriber: Transcriber, activity: Activity) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(8 * RATE).astype(np.float32)
    for samples in (noise, 0 * noise, 0 * noise + 0.01):
        assert list(transcriber.segments(blocks(samples, RATE), TranscribeAsk())) == []
        assert activity.speech(samples) == []


def test_it_aligns_a_text_and_refuses_another(clip: Samples) -> None:
    aligner = load_aligner("alm-asr", device="cpu")
    found = aligner.align(blocks(clip, 8000), TEXT)
    words = [word for segment in found.segments for word in segment.words]
    assert "".join(word.text for word in words) == f" {TEXT}"
    assert 1.8 < words[0].start_s < 2.2 and 11 < words[-1].end_s < 12
    # Long words take longer than short ones.
    printing, concerned = words[0], words[11]
    assert concerned.text == " concerned,"
    assert min(printing.end_s - printing.start_s, concerned.end_s - concerned.start_s) > 0.25
    with pytest.raises(InputError, match="does not go with the recording"):
        aligner.align(blocks(clip, 8000), "Wozu zwitschern zwölf zottige Quallen? " * 3)


def test_it_finds_speech(activity: Activity, clip: Samples) -> None:
    spans = activity.speech(clip)
    assert sum(end - begin for begin, end in spans) > 6
    assert 1.5 < spans[0][0] < 2.6 and 11 < spans[-1][1] < 12.5


@pytest.fixture(scope="module")
def sample() -> Samples:
    """The sample of the project, four times; all pauses but one part segments."""
    samples, rate = soundfile.read(SAMPLES / "speech.wav", dtype="float32")
    said = np.concatenate(list(mono(Audio(samples[None], rate))()))
    pauses = (1.5, 0.3, 0.9, 2.0)
    parts = [(said, np.zeros(int(seconds * RATE), np.float32)) for seconds in pauses]
    return np.concatenate([array for part in parts for array in part])


@pytest.mark.parametrize("stream", [False, True])
def test_segments_are_the_same_whatever_the_blocks_and_where_one_begins(
    transcriber: Transcriber, sample: Samples, stream: bool
) -> None:
    ask = TranscribeAsk(stream=stream)
    whole = list(transcriber.segments(blocks(sample, len(sample)), ask))
    assert len(whole) >= 3
    assert list(transcriber.segments(blocks(sample, 701), ask)) == whole
    for done, segment in enumerate(whole):
        rest = transcriber.resume(blocks(sample, 16_001), ask, whole[:done], segment.seek)
        assert list(rest) == whole[done:]


def test_hotwords_that_nobody_knows_are_written(transcriber: Transcriber, sample: Samples) -> None:
    def text(hotwords: str | None) -> str:
        segments = transcriber.segments(blocks(sample, RATE), TranscribeAsk(hotwords=hotwords))
        return "".join(segment.text for segment in segments)

    plain = text(None)
    assert plain.count("model") >= 3 and "oddel" not in plain
    favoured = text("Moddel, qqq")  # the first sounds like "model"
    assert favoured.count("moddel") == plain.count("model") and "model" not in favoured
    assert text(",") == plain
