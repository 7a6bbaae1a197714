"""Whisper's encoder as a part; tests/lm/test_whisper.py compares it with the original."""

from __future__ import annotations

import pytest
import torch

from alm_cli.nn.audio_encoder import AudioEncoder, AudioEncoderSpec
from tests.laws import batch_equals_single

SPEC = AudioEncoderSpec(bands=8, positions=12, dimension=16, heads=4, layers=2, hidden=24)


def encoder() -> AudioEncoder:
    torch.manual_seed(0)
    return AudioEncoder(SPEC).eval()


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 5, 23, 24])
def test_two_frames_become_a_vector(frames: int) -> None:
    part, mel = encoder(), torch.randn(3, 8, frames)
    assert part(mel).shape == (3, -(-frames // 2), 16)
    batch_equals_single(lambda x, _: part(x), mel)


@torch.no_grad()
def test_every_vector_hears_everything() -> None:
    part, mel = encoder(), torch.randn(1, 8, 24)
    other = mel.clone()
    other[..., 0] += 1
    assert (part(mel) != part(other)).any(-1).all()


@torch.no_grad()
def test_positions_count() -> None:
    part = encoder()
    made = part(torch.ones(1, 8, 24))
    part.positions.normal_()
    assert not torch.allclose(made, part(torch.ones(1, 8, 24)), atol=1e-2)


@torch.no_grad()
def test_more_than_its_positions_is_a_mistake() -> None:
    with pytest.raises(RuntimeError):
        encoder()(torch.randn(1, 8, 26))


@torch.no_grad()
def test_it_encodes_in_bfloat16() -> None:
    made = encoder().bfloat16()(torch.randn(1, 8, 24))
    assert made.dtype == torch.bfloat16 and made.isfinite().all()
