"""How much of a recording keeps its codes in reduced precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from alm_cli.codecs.encodec import Encodec, EncodecConfig
from alm_cli.codecs.features import Mfcc
from alm_cli.systems.codec import Codec
from alm_cli.values import Audio

RATE = 24_000


@torch.no_grad()
def codec(dtype: torch.dtype) -> Codec:
    """A small EnCodec with random weights, the same every time."""
    torch.manual_seed(0)
    settings = {"num_filters": 4, "hidden_size": 8, "codebook_size": 64, "num_lstm_layers": 1}
    model = Encodec(EncodecConfig.from_hub(settings))
    features = model.encoder(0.1 * torch.randn(1, 1, 9600))[0].T
    for buffer in model.buffers():  # the codebooks, of vectors as the encoder makes them
        buffer.normal_().mul_(features.std(0)).add_(features.mean(0))
    device = torch.device("cpu")
    return Codec(model.requires_grad_(False).eval(), "tiny", "ab" * 32, device=device, dtype=dtype)


def sound(seconds: float, channels: int = 1) -> Audio:
    """Noise, the same every time."""
    noise = np.random.default_rng(0).normal(size=(channels, round(seconds * RATE)))
    return Audio(0.1 * noise.astype(np.float32), RATE)


@pytest.mark.parametrize("segment_frames", [None, 3])
def test_it_is_the_share_of_equal_codes(segment_frames: int | None) -> None:
    rough, exact, audio = codec(torch.bfloat16), codec(torch.float32), sound(1.3, 2)
    stream = rough.encoder(RATE, 2, channels="dual", codebooks=4, segment_frames=segment_frames)
    found = rough.agreement(stream)
    assert found is not None
    for part in np.array_split(audio.samples, 5, axis=1):
        found.push(part)
    one, other = (c.encode(audio, channels="dual", codebooks=4) for c in (rough, exact))
    share = float((one.codes == other.codes).mean())
    assert 0.05 < share < 0.999  # neither nothing nor everything: the figure says something
    assert found.share() == share


def test_only_the_beginning_of_a_long_recording_is_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("alm_cli.systems.agreement.SECONDS", 0.5)
    rough, audio = codec(torch.bfloat16), sound(1.0)
    long, short = (rough.agreement(rough.encoder(RATE, 1)) for _ in range(2))
    assert long is not None and short is not None
    long.push(audio.samples)
    short.push(audio.samples[:, : RATE // 2])
    assert long.share() == short.share()


def test_there_is_none_where_nothing_is_reduced_or_nothing_coded() -> None:
    exact = codec(torch.float32)
    assert exact.agreement(exact.encoder(RATE, 1)) is None
    device = torch.device("cpu")
    features = Codec(Mfcc(), "mfcc", "", device=device, dtype=torch.bfloat16)
    assert features.agreement(features.encoder(16_000, 1)) is None


def test_tokens_say_in_what_numbers_they_were_computed() -> None:
    rough = codec(torch.bfloat16).encode(sound(0.1))
    exact = codec(torch.float32).encode(sound(0.1))
    assert rough.origin.notes["dtype"] == "bfloat16"
    assert "dtype" not in exact.origin.notes
