"""What a codec cannot take is refused with what to pass instead."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from alm_cli.codecs.features import Mfcc
from alm_cli.errors import InputError, UsageError
from alm_cli.systems.codec import Codec


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(Mfcc(), "mfcc", "", device=torch.device("cpu"))


def stereo() -> Codec:
    """A codec of two channels."""
    model = Mfcc()
    model.channels = 2
    return Codec(model, "wide", "", device=torch.device("cpu"))


def test_channels_that_the_codec_lacks_are_refused_with_the_ways_out(codec: Codec) -> None:
    with pytest.raises(InputError, match="2 channels, where mfcc takes 1 channel") as caught:
        codec.encoder(16_000, 2, channels="native")
    assert caught.value.hint is not None
    assert "--channels mono" in caught.value.hint and "--channels dual" in caught.value.hint
    with pytest.raises(InputError, match="6 channels, where wide takes 1 or 2 channels"):
        stereo().encoder(16_000, 6, channels="native")


@pytest.mark.parametrize(("mode", "channels"), [("mono", 2), ("dual", 6), ("native", 1)])
def test_channels_that_can_be_taken_are(codec: Codec, mode: str, channels: int) -> None:
    codec.encoder(16_000, channels, channels=mode)
    stereo().encoder(16_000, 2, channels="native")


@pytest.mark.parametrize("rate", [0, -16_000, 22_050.5, 10**7, float("nan"), float("inf")])
def test_impossible_rates_are_refused(codec: Codec, rate: int) -> None:
    with pytest.raises(InputError, match="a sample rate of .* Hz"):
        codec.encoder(rate, 1)


@pytest.mark.parametrize("shape", [(100,), (2, 100), (1, 1, 100)])
def test_samples_of_another_shape_are_refused(codec: Codec, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="samples of shape") as caught:
        codec.encoder(16_000, 1).push(np.zeros(shape, np.float32))
    assert caught.value.hint == "pass [1, n]: a row for each channel"


def test_features_have_neither_codebooks_nor_a_bitrate(codec: Codec) -> None:
    with pytest.raises(UsageError, match="no codebooks"):
        codec.encoder(16_000, 1, codebooks=3)
    with pytest.raises(UsageError, match="no codebooks"):
        codec.codebooks_for(3.0)
