"""Our own recogniser: laws on a small random one, and its checkpoint reading."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import alm_cli
from alm_cli.checkpoints.load import build, load
from alm_cli.checkpoints.reader import open_checkpoint
from alm_cli.encoders.alm_asr import FAMILY, LETTERS, SOUNDS, AlmAsr, AlmAsrConfig
from alm_cli.errors import ModelError

SMALL = AlmAsrConfig(channels=4, dimension=16, before=1, inner=2, after=1, inner_kernel=5)


def small() -> AlmAsr:
    torch.manual_seed(0)
    return AlmAsr(SMALL).eval().requires_grad_(False)


def speech(samples: int, rows: int = 1) -> torch.Tensor:
    """Noise that comes and goes, so that frames differ."""
    torch.manual_seed(samples)
    loudness = torch.rand(rows, 1, samples // 800 + 1).repeat_interleave(800, -1)[..., :samples]
    return 0.1 * loudness**3 * torch.randn(rows, 1, samples)


@pytest.mark.parametrize("samples", [0, 1, 199, 320, 321, 1280, 16_000, 20_001])
def test_every_begun_hop_gets_a_frame(samples: int) -> None:
    model = small()
    said = model(speech(samples))
    assert said.shape == (1, model.frames(samples), len(LETTERS))
    assert model.frames(samples) == -(-samples // model.hop)
    torch.testing.assert_close(said.exp().sum(-1), torch.ones(said.shape[:2]))


def test_sounds_stand_behind_the_letters() -> None:
    model, wave = small(), speech(20_001)
    both = model.both(wave)
    letters, sounds = both.split([len(LETTERS), len(SOUNDS)], dim=-1)
    assert torch.equal(letters, model(wave))
    torch.testing.assert_close(sounds.exp().sum(-1), torch.ones(both.shape[:2]))
    with torch.no_grad():
        model.sound_head.bias += torch.randn_like(model.sound_head.bias)
    changed = model.both(wave)
    assert torch.equal(changed[..., : len(LETTERS)], letters)
    assert not torch.allclose(changed[..., len(LETTERS) :], sounds)
    assert model.both(wave[..., :0]).shape == (1, 0, len(LETTERS) + len(SOUNDS))


def test_a_row_is_heard_as_if_it_were_alone() -> None:
    model, lengths = small(), [16_000, 9_999, 1_281, 700]
    rows = [speech(length) for length in lengths]
    batch = torch.randn(4, 1, 16_000)  # whatever stands after the end of a row is not heard
    for row, wave in zip(batch, rows, strict=True):
        row[:, : wave.shape[2]] = wave[0]
    together = model(batch, torch.tensor(lengths))
    for found, wave in zip(together, rows, strict=True):
        alone = model(wave)[0]
        torch.testing.assert_close(found[: len(alone)], alone, atol=1e-4, rtol=0)


def test_loudness_does_not_matter() -> None:
    model, wave = small(), speech(24_000)
    whole = model(wave)
    for gain in (0.01, 0.3, 8.0):
        torch.testing.assert_close(model(gain * wave), whole, atol=1e-3, rtol=0)


def test_a_microphone_hardly_matters() -> None:
    model, wave = small(), speech(24_000)
    duller = torch.nn.functional.conv1d(wave, torch.tensor([[[0.2, 0.6, 0.2]]]), padding=1)
    difference = (model.heard(wave)[0] - model.heard(duller)[0]).abs()
    assert difference.median() < 0.01  # a dulled band alone would differ by 0.5
    assert difference.quantile(0.9) < 0.1  # what is faint reaches the floor sooner


def test_bands_are_those_of_whisper() -> None:
    wave = 0.1 * torch.randn(1, 1, 16_000, generator=torch.Generator().manual_seed(0))
    theirs = load("mel-80").model.encode(wave)[0].mT * 4
    ours = small().heard(wave)[0][0]
    assert ours.shape[0] == 104  # 80 ms at a time, eight frames
    # The last frames of Whisper's see the recording mirrored at its end.
    means = ours[:97] - theirs[:97]
    assert (means - means[0]).abs().max() < 1e-4


def test_what_is_far_away_is_not_heard() -> None:
    model, wave = small(), speech(160_000)
    bands, _ = model.heard(wave)
    changed = bands.clone()
    changed[:, 800:] = torch.randn_like(changed[:, 800:])
    before, after = (model.letters(model.read(heard)[0]) for heard in (bands, changed))
    near = (before - after).abs().amax(-1)[0]
    assert not near[:300].any()
    assert near[400:].min() > 0


def test_silence_is_finite() -> None:
    model = small()
    for wave in (torch.zeros(1, 1, 8_000), torch.full((1, 1, 8_000), 0.5), -torch.ones(1, 1, 3)):
        assert torch.isfinite(model(wave)).all()


def write(folder: Path, **settings: object) -> Path:
    weights = {name: tensor.half() for name, tensor in small().state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    raw = {"model_type": "alm_asr", **asdict(SMALL), **settings}
    (folder / "config.json").write_text(json.dumps(raw))
    return folder


def test_a_folder_is_loaded_as_it_was_written(tmp_path: Path) -> None:
    folder = write(tmp_path)
    config = FAMILY.read_config(json.loads((folder / "config.json").read_text()))
    loaded = build(FAMILY, config, open_checkpoint(folder))
    ours = small().half().float().state_dict()
    assert config == SMALL
    assert all(torch.equal(tensor, ours[name]) for name, tensor in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "named"), [({"dimension": "16"}, "dimension"), ({"extra": 1}, "extra")]
)
def test_settings_it_cannot_compute_are_refused(
    tmp_path: Path, settings: dict[str, object], named: str
) -> None:
    folder = write(tmp_path, **settings)
    with pytest.raises(ModelError, match=named):
        FAMILY.read_config(json.loads((folder / "config.json").read_text()))


def test_what_ships_is_small_and_as_its_card_says() -> None:
    loaded = load("alm-asr")
    assert loaded.card is not None
    assert sum(weight.numel() for weight in loaded.model.parameters()) == loaded.card.parameters
    assert loaded.card.vocabularies == (len(loaded.model.vocabulary),)
    assert loaded.card.frame_rate == loaded.model.rate / loaded.model.hop
    (path,) = (Path(alm_cli.__file__).parent / "assets" / "alm-asr").glob("*.safetensors")
    assert path.stat().st_size < 30e6
