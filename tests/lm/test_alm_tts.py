"""The network of alm-tts: times, conditions, voices (how it renders: tests/nn/test_renderer.py)."""

from __future__ import annotations

import pytest
import torch

from alm_cli.errors import ModelError
from alm_cli.lm.alm_tts import AlmTts, AlmTtsConfig

CONFIG = AlmTtsConfig(
    codebooks=3, vocabulary=17, latent=8, text_width=12, text_depth=2, text_heads=2,
    voice_width=6, width=16, depth=2, heads=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> AlmTts:
    torch.manual_seed(0)
    model = AlmTts(CONFIG).eval().requires_grad_(False)
    model.vectors.normal_()
    return model


@pytest.mark.parametrize("units", [[1, 1], [3, 2, 4], [7, 1, 1, 12]])
def test_a_frame_holds_its_units(model: AlmTts, units: list[int]) -> None:
    features = torch.randn(len(units), 12)
    condition = model.condition(features, torch.tensor(units))
    assert condition.shape == (-(-(sum(units) + CONFIG.lead) // CONFIG.group), 16)


def test_a_sound_changes_the_frames_around_it_only(model: AlmTts) -> None:
    features, units = torch.randn(5, 12), torch.tensor([40, 8, 8, 8, 40])
    other = features.clone()
    other[2] += 1
    changed = (model.condition(features, units) - model.condition(other, units)).abs().amax(1) > 0
    first, last = (48 + CONFIG.lead) // 4 - 2, (55 + CONFIG.lead) // 4 + 2
    assert changed[first : last + 1].all()
    assert not changed[:first].any()
    assert not changed[last + 1 :].any()


def test_padding_is_not_read(model: AlmTts) -> None:
    symbols, first, voice = (
        torch.randint(0, 40, (1, 7)),
        torch.zeros(1, 7).long(),
        torch.randn(1, 6),
    )
    features, lengths = model.reader(symbols, first, voice)
    mask = torch.zeros(1, 1, 1, 9)
    mask[..., 7:] = -torch.inf
    padded = (torch.nn.functional.pad(x, (0, 2)) for x in (symbols, first))
    wide, times = model.reader(*padded, voice, mask)
    torch.testing.assert_close(wide[:, :7], features)
    torch.testing.assert_close(times[:, :7], lengths)


def test_a_voice_is_bounded_and_its_own(model: AlmTts) -> None:
    one, two = (model.voice(model.latents(torch.randint(0, 17, (1, 3, 20)))) for _ in range(2))
    assert one.shape == (1, 6)
    assert one.abs().max() <= 1
    assert not torch.allclose(one, two)


def test_settings_are_read_strictly() -> None:
    assert AlmTtsConfig.from_hub({"voices": ["alto"]}).voices == ("alto",)
    for raw in ({"width": 0}, {"width": 250}, {"voices": "alto"}, {"wide": 3}):
        with pytest.raises(ModelError, match=r"config\.json"):
            AlmTtsConfig.from_hub(raw)
