"""What can be asked of a transcriber, and how it comes by recordings and models."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alm_cli.errors import ModelError, UsageError
from alm_cli.systems.transcriber import (
    RATE,
    Recording,
    TranscribeAsk,
    load_transcriber,
    mono,
    whole,
)
from alm_cli.values import Audio, Segment


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": ()},
        {"temperature": (0.0, -0.1)},
        {"temperature": (float("nan"),)},
        {"beam_size": 0},
        {"best_of": -1},
        {"beam_size": None, "patience": 2.0},
        {"patience": 0.0},
        {"patience": -1.0},
        {"patience": float("inf")},
        {"length_penalty": 1.1},
        {"language": "en", "languages": ("de", "en")},
        {"clip_timestamps": (-1.0,)},
        {"clip_timestamps": (float("inf"), 2.0)},
        {"hallucination_silence_threshold": 2.0},
        {"task": "sing"},
        {"audio_ctx": "half"},
        {"batched": True, "stream": True},
    ],
)
def test_contradictions_are_told_before_anything_is_loaded(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        TranscribeAsk(**wrong)


def test_the_defaults_are_those_of_the_other_command() -> None:
    whisper = pytest.importorskip("whisper.transcribe", reason="needs the package openai-whisper")
    defaults = whisper.transcribe.__kwdefaults__
    ask = TranscribeAsk()
    for name in (
        "compression_ratio_threshold",
        "logprob_threshold",
        "no_speech_threshold",
        "condition_on_previous_text",
        "temperature",
        "initial_prompt",
        "carry_initial_prompt",
        "word_timestamps",
        "prepend_punctuations",
        "append_punctuations",
        "hallucination_silence_threshold",
    ):
        assert getattr(ask, name) == defaults[name], name
    assert (ask.beam_size, ask.best_of, ask.suppress_tokens) == (5, 5, "-1")


def test_asking_needs_no_torch() -> None:
    program = (
        "import sys; from alm_cli.systems.transcriber import TranscribeAsk; TranscribeAsk();"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def heard(recording: Recording) -> np.ndarray[Any, np.dtype[np.float32]]:
    """All samples of a recording."""
    return np.concatenate([np.zeros(0, np.float32), *recording()])


def test_recordings_become_mono_at_16_khz() -> None:
    time = np.arange(44_100) / 44_100
    tone = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    audio = Audio(np.stack([tone, -tone, tone]), 44_100)
    recording = mono(audio)
    samples = heard(recording)
    assert len(samples) == RATE
    expected = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE) / 3
    assert np.abs(samples - expected)[200:-200].max() < 1e-3
    assert np.array_equal(heard(recording), samples)  # it can be read again


def test_what_is_at_16_khz_stays_as_it_is() -> None:
    samples = np.random.default_rng(0).standard_normal((1, 400_000)).astype(np.float32)
    assert np.array_equal(heard(mono(Audio(samples, RATE))), samples[0])
    same = np.repeat(samples[:, :100] * 0.3, 2, axis=0)
    assert np.array_equal(heard(mono(Audio(same, RATE))), same[0])
    assert not len(heard(mono(Audio(np.zeros((2, 0), np.float32), RATE))))


class Parrot:
    """Says how many samples it heard."""

    name, weights_sha256 = "parrot", "0" * 64

    def segments(self, recording: Recording, ask: TranscribeAsk) -> Iterator[Segment]:
        """One segment, unless there is silence."""
        samples = heard(recording)
        if samples.any():
            language = ask.language or "fr"
            end_s = len(samples) / RATE
            yield Segment(start_s=0, end_s=end_s, text=f" {len(samples)}", language=language)

    def transcribe(self, audio: Audio, ask: TranscribeAsk = TranscribeAsk()) -> Any:
        """All of it."""
        return whole(self, audio, ask, None)


def test_a_transcript_says_who_made_it_in_which_language() -> None:
    audio = Audio(np.ones((1, 8_000), np.float32), 8_000)
    transcript = Parrot().transcribe(audio)
    assert (transcript.text, transcript.language) == (" 16000", "fr")
    assert (transcript.model, transcript.weights_sha256) == ("parrot", "0" * 64)
    silent = Audio(np.zeros((1, 10), np.float32), RATE)
    assert whole(Parrot(), silent, TranscribeAsk(), "en").language == "en"
    assert Parrot().transcribe(silent).segments == ()


def test_models_that_write_no_speech_are_refused() -> None:
    threads = torch.get_num_threads()
    with pytest.raises(ModelError, match="does not write down speech"):
        load_transcriber("mel-80", device="cpu")
    with pytest.raises(ModelError):
        load_transcriber(Path("nowhere"), device="cpu")
    with pytest.raises(UsageError):
        load_transcriber("mel-80", device="cpu", batch=0)
    assert torch.get_num_threads() == threads
