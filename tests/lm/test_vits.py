"""VITS against `transformers` with the same weights and noise, trap by trap."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from alm_cli.checkpoints.family import SettingsError
from alm_cli.errors import ModelError
from alm_cli.lm.vits import FAMILY, KEYS, Vits, VitsConfig, shared_frames, whole_frames
from alm_cli.nn.state import State
from tests.oracles import header
from tests.random_weights import model_with
from tests.speech_models import VITS_TINY, vits_reference

VARIANTS: dict[str, dict[str, Any]] = {
    "drawn durations": {},
    "predicted durations": {"use_stochastic_duration_prediction": False},
    "three speakers": {"num_speakers": 3, "speaker_embedding_size": 6},
    "speakers and predicted durations": {
        "num_speakers": 3,
        "speaker_embedding_size": 6,
        "use_stochastic_duration_prediction": False,
    },
    "a wide window": {"window_size": 30},
    "dilated couplings, no biases": {"wavenet_dilation_rate": 2, "use_bias": False},
    "other kernels and rates": {
        "upsample_rates": [5, 2],
        "upsample_kernel_sizes": [11, 4],
        "resblock_kernel_sizes": [3, 5],
        "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5]],
        "wavenet_kernel_size": 3,
        "ffn_kernel_size": 5,
        "duration_predictor_kernel_size": 5,
    },
    "slow by itself": {"speaking_rate": 0.7, "noise_scale": 0.3, "noise_scale_duration": 0.1},
}

pytestmark = pytest.mark.oracle


def pair(**settings: Any) -> tuple[Any, Vits]:
    """The same weights twice."""
    theirs, weights = vits_reference(**settings)
    ours = model_with(FAMILY, settings, weights)
    assert isinstance(ours, Vits)
    return theirs, ours


def characters(length: int, vocabulary: int = 38) -> Tensor:
    """[1, S]"""
    generator = torch.Generator().manual_seed(length)
    return torch.randint(1, vocabulary, (1, length), generator=generator)


@torch.no_grad()
def said(ours: Vits, ids: Tensor, seed: int, speaker: int = 0) -> tuple[list[int], Tensor, Tensor]:
    """Frames, latents and wave, with the noise of one generator."""
    noise = torch.Generator().manual_seed(seed)
    voice, prior = ours.voice(speaker), ours.read(ids)
    drawn = torch.zeros(1, 2, 0)
    if ours.drawn:
        drawn = torch.randn(1, 2, ids.shape[1], generator=noise) * ours.duration_noise
    frames = whole_frames(ours.lengths(prior, drawn, voice), 1 / ours.speed)
    drawn = torch.empty(1, sum(frames), ours.latents).mT.normal_(generator=noise) * ours.noise
    latents = ours.latent(prior, frames, drawn, voice)
    return frames, latents, ours.decode(latents, None, voice)


def snr_db(theirs: Tensor, ours: Tensor) -> float:
    """How much louder the one is than the difference."""
    return float(10 * torch.log10(theirs.square().sum() / (theirs - ours).square().sum()))


def same(theirs: Any, ours: Vits, length: int, seed: int) -> None:
    ids = characters(length)
    speaker = ours.speakers - 1
    with torch.no_grad():
        torch.manual_seed(seed)
        expected = theirs(ids, speaker_id=speaker if ours.speakers > 1 else None)
    frames, latents, wave = said(ours, ids, seed, speaker)
    assert wave.shape[-1] == expected.waveform.shape[-1] == sum(frames) * ours.hop
    torch.testing.assert_close(latents, expected.spectrogram, atol=1e-4, rtol=0)
    torch.testing.assert_close(wave[0], expected.waveform, atol=1e-4, rtol=0)
    assert float(expected.waveform.std()) > 0.02
    assert snr_db(expected.waveform, wave[0]) > 80


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_a_seed_says_what_theirs_says(settings: dict[str, Any]) -> None:
    theirs, ours = pair(**(VITS_TINY | settings))
    for length, seed in ((1, 3), (2, 4), (23, 6)):
        same(theirs, ours, length, seed)


def test_a_seed_says_what_theirs_says_at_the_true_shapes() -> None:
    theirs, ours = pair()
    same(theirs, ours, 9, 7)


@torch.no_grad()
def test_a_stream_is_the_whole() -> None:
    _, ours = pair(**(VITS_TINY | VARIANTS["three speakers"]))
    frames, latents, wave = said(ours, characters(23), 6, 1)
    for size in (3, 64, sum(frames)):
        state, pieces = State(), torch.split(latents, size, -1)
        made = []
        for index, piece in enumerate(pieces, 1):
            state.last = index == len(pieces)
            made.append(ours.decode(piece, state, ours.voice(1)))
        torch.testing.assert_close(torch.cat(made, -1), wave, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_seed_the_speaker_and_the_text_matter() -> None:
    _, ours = pair(**(VITS_TINY | VARIANTS["three speakers"]))
    waves = [
        said(ours, characters(length), seed, speaker)[2]
        for length, seed, speaker in ((20, 1, 0), (20, 2, 0), (20, 1, 1), (19, 1, 0))
    ]
    for place, wave in enumerate(waves):
        for other in waves[:place]:
            length = min(wave.shape[-1], other.shape[-1])
            assert not torch.allclose(wave[..., :length], other[..., :length], atol=1e-3)


@pytest.mark.parametrize("total", [5, 6, 17, 200])
def test_frames_are_shared_as_a_scale_would_share_them(total: int) -> None:
    lengths = torch.tensor([0.3, 2.4, 2.5, 11.0, 0.01], dtype=torch.float64)
    frames = shared_frames(lengths.tolist(), total)
    assert sum(frames) == total and min(frames) >= 1
    # Slowly growing, a scale passes the total exactly where these frames are its own.
    scales = torch.linspace(1e-3, 60, 60_000, dtype=torch.float64)
    sums = torch.ceil(lengths[:, None] * scales).sum(0)
    scale = scales[(sums == total).nonzero()[0, 0]]
    assert frames == whole_frames(lengths, float(scale))


def test_equal_characters_share_frames_to_the_last_one() -> None:
    assert shared_frames([1.0] * 4, 10) == [3, 3, 2, 2]


@pytest.mark.parametrize("name", ["mms_tts_eng", "vits_ljs", "vits_vctk"])
def test_the_published_file_fits(name: str) -> None:
    sizes = {"mms_tts_eng": {}, "vits_ljs": {"vocab_size": 178}, "vits_vctk": {"vocab_size": 178}}
    many = {"num_speakers": 109, "speaker_embedding_size": 256} if name == "vits_vctk" else {}
    with torch.device("meta"):
        model = Vits(VitsConfig.from_hub(sizes[name] | many))
    ours = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    theirs = header(name)
    assert len(KEYS.plan(theirs, ours)) == len(ours)
    assert len(theirs) == 762 or name != "mms_tts_eng"  # what the published file is known to have
    with pytest.raises(ModelError, match="missing"):
        KEYS.plan({key: shape for key, shape in theirs.items() if "emb_rel_v" not in key}, ours)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"num_attention_heads": 5}, "num_attention_heads"),
        ({"upsample_kernel_sizes": [16, 16, 4, 3]}, "upsample_kernel_sizes"),
        ({"upsample_kernel_sizes": [16, 16]}, "upsample_kernel_sizes"),
        ({"upsample_kernel_sizes": [6, 16, 4, 4]}, "upsample_kernel_sizes"),
        ({"upsample_initial_channel": 24}, "upsample_initial_channel"),
        ({"resblock_kernel_sizes": [3, 4, 5]}, "resblock_kernel_sizes"),
        ({"resblock_dilation_sizes": [[1, 2, 3]] * 3}, "resblock_dilation_sizes"),
        ({"leaky_relu_slope": 0.2}, "leaky_relu_slope"),
        ({"speaker_embedding_size": 8}, "speaker_embedding_size"),
        ({"wavenet_kernel_size": 4}, "wavenet_kernel_size"),
        ({"duration_predictor_tail_bound": 3.0}, "duration_predictor_tail_bound"),
        ({"speaking_rate": 0}, "speaking_rate"),
        ({"noise_scale": "loud"}, "noise_scale"),
        ({"vocab_size": 10**9}, "vocab_size"),
        ({"flow_size": 7}, "flow_size"),
    ],
)
def test_settings_that_are_not_built_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError) as caught:
        VitsConfig.from_hub(settings)
    assert named in caught.value.keys
