"""Chroma against the feature extractor of `transformers`."""

from __future__ import annotations

import pytest
import torch

from alm_cli.nn.chroma import HOP, RATE, chroma


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("length", [1, 100, 16_383, 16_384, 96_017])
def test_pitches_are_those_of_transformers(length: int) -> None:
    from transformers import MusicgenMelodyFeatureExtractor

    seconds = torch.arange(length) / RATE
    noise = torch.randn(length, generator=torch.Generator().manual_seed(length)) * 0.1
    wave = torch.sin(2 * torch.pi * (200 + 100 * seconds) * seconds) + noise
    theirs = MusicgenMelodyFeatureExtractor()(
        wave.numpy(), sampling_rate=RATE, return_tensors="pt"
    ).input_features[0]
    assert torch.equal(chroma(wave), theirs)


@pytest.mark.parametrize(("pitch", "place"), [(60, 0), (69, 9), (78, 6), (47, 11)])
def test_a_tone_is_its_pitch(pitch: int, place: int) -> None:
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    wave = torch.sin(2 * torch.pi * frequency * torch.arange(RATE) / RATE)
    found = chroma(wave)
    assert found.shape == (1 + RATE // HOP, 12)
    assert found.argmax(1).unique().tolist() == [place]


def test_silence_is_a_c() -> None:
    assert chroma(torch.zeros(40_000)).argmax(1).unique().tolist() == [0]
