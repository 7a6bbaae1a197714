"""The speaker in the package, through all of `alm speak`: the laws that a beeper keeps too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from alm_cli.app import app
from alm_cli.checkpoints.fetch import ASSETS
from alm_cli.files.audio import read_audio
from alm_cli.systems.speaker import Speaker, load_speaker
from alm_cli.systems.speech import Narrator, Speech, SpeechAsk, Work
from alm_cli.text.lines import cut
from alm_cli.text.markup import parse
from alm_cli.text.reading import read_aloud

pytestmark = pytest.mark.skipif(
    not (ASSETS / "alm-tts" / "config.json").is_file(), reason="alm-tts is not in the package yet"
)
TEXT = "It is 5 o'clock. Go on."


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return load_speaker("alm-tts", device="cpu")


def said(speaker: Speaker, text: str, **asked: Any) -> Speech:
    work = Work(cut(parse(text), speaker.longest, read_aloud), SpeechAsk(**asked))
    (speech,) = Narrator(speaker).say([work])
    assert isinstance(speech, Speech)
    return speech


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than they give, on models as small as this."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_seed_gives_the_same_alone_in_a_batch_streamed_and_with_two_threads(
    speaker: Speaker,
) -> None:
    alone = said(speaker, TEXT, seed=3)
    works = [
        Work(cut([text], speaker.longest, read_aloud), SpeechAsk(seed=3)) for text in ("Go.", TEXT)
    ]
    batch = Narrator(speaker).say(works)
    assert isinstance(batch[1], Speech)
    assert (batch[1].samples == alone.samples).all()
    streamed = np.concatenate(list(Narrator(speaker).stream(works[1])))
    assert (streamed == alone.samples).all()
    torch.set_num_threads(2)
    assert (said(speaker, TEXT, seed=3).samples == alone.samples).all()


def test_breaks_durations_and_words_are_exact(speaker: Speaker) -> None:
    marked = "<speak>One two.<break time='1s'/>Three four.</speak>"
    speech = said(speaker, marked, duration_s=5.0)
    assert len(speech.samples) == 5 * speaker.rate
    first, second = speech.pieces
    level = np.sqrt(np.convolve(speech.samples**2, np.ones(120) / 120, "same"))
    between = level[round((first.end_s - 0.3) * speaker.rate) : round(second.end_s * speaker.rate)]
    loud = np.flatnonzero(between > 0.01 * level.max())
    assert np.diff(loud).max() / speaker.rate == pytest.approx(1.0, abs=0.03)
    words = [word for piece in speech.pieces for word in piece.words]
    assert [word.text.strip(" .").lower() for word in words] == ["one", "two", "three", "four"]
    assert all(a.end_s <= b.start_s + 1e-6 for a, b in zip(words, words[1:], strict=False))


@pytest.mark.parametrize("seconds", [3.2, 3.9, 6.6])
def test_whole_durations_are_exact_around_exact_breaks(speaker: Speaker, seconds: float) -> None:
    marked = "<speak>One two.<break time='700ms'/>Three four.</speak>"
    speech = said(speaker, marked, duration_s=seconds)
    assert len(speech.samples) == round(seconds * speaker.rate)


def test_the_first_command_of_everybody_works(tmp_path: Path) -> None:
    words = ["speak", "Hello there.", "-o", str(tmp_path / "a.wav"), "--seed", "1", "--verify"]
    result = CliRunner().invoke(app, [*words, "--json", "--timestamps", "srt"])
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["model"] == "alm-tts" and told["verified"]["pieces"] == 1
    audio = read_audio(tmp_path / "a.wav")
    assert 0.4 < audio.seconds < 4 and np.abs(audio.samples).max() > 0.05
    assert "Hello there." in (tmp_path / "a.srt").read_text()
