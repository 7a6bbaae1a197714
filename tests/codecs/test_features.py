"""Log-mel spectra equal Whisper's, cepstra torchaudio's, whole, in streams and in batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from alm_cli.checkpoints.load import load
from alm_cli.codecs.features import FAMILY, LogMel, Mfcc
from alm_cli.errors import ModelError
from alm_cli.files.audio import read_audio
from alm_cli.files.tokens import read_tokens, write_tokens
from alm_cli.nn.resample import Resampler
from alm_cli.systems.codec import load_codec
from alm_cli.values import Audio, Latents
from tests.laws import batch_equals_single, every, past_is_fixed, streaming_equals_whole

SAMPLES = Path(__file__).parents[2] / "sample_audio"
# One sample, around a hop, around half a window and a window, primes, 7 hops.
LENGTHS = [1, 159, 160, 161, 200, 201, 399, 400, 401, 1119, 1120, 1121, 9973]


def noise(length: int, rows: int = 1) -> Tensor:
    """[B, 1, T]"""
    generator = torch.Generator().manual_seed(length)
    return 0.1 * torch.randn(rows, 1, length, generator=generator)


def at_16_khz(name: str) -> Tensor:
    """A sample recording [1, 1, T]."""
    audio = read_audio(SAMPLES / f"{name}.wav")
    resampler = Resampler(audio.rate, 16_000)
    wave = torch.cat([resampler.push(torch.from_numpy(audio.samples)), resampler.finish()], 1)
    return wave[None, :1]


@pytest.fixture(scope="module")
def clips() -> dict[str, Tensor]:
    """Recordings, synthetic extremes, and the edge lengths that the references can take."""
    click = torch.zeros(1, 1, 16_000)
    click[..., 5000] = 1
    found = {name: at_16_khz(name) for name in ("speech", "music", "noise")}
    found |= {"silence": torch.zeros(1, 1, 16_000), "click": click}
    found["tone"] = torch.sin(torch.arange(50_000) * 0.3)[None, None]
    found["loud"] = 30 * noise(8000)
    return found | {str(length): noise(length) for length in LENGTHS if length > 200}


@pytest.mark.oracle
@pytest.mark.parametrize("bands", [80, 128])
def test_log_mel_is_whispers_of_the_whole_recording(bands: int, clips: dict[str, Tensor]) -> None:
    from transformers import WhisperFeatureExtractor

    extractor, model = WhisperFeatureExtractor(feature_size=bands), LogMel(bands)
    for name, wave in clips.items():
        asked = {"sampling_rate": 16_000, "padding": False, "return_tensors": "pt"}
        theirs = extractor(wave[0, 0].numpy(), **asked).input_features
        ours = model.encode(wave)
        assert ours.shape == theirs.shape == (1, bands, wave.shape[-1] // 160)
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0, msg=name)


@pytest.mark.oracle
def test_trap_whisper_pads_to_thirty_seconds_and_this_does_not(clips: dict[str, Tensor]) -> None:
    from transformers import WhisperFeatureExtractor

    wave = clips["speech"]
    padded = WhisperFeatureExtractor()(
        wave[0, 0].numpy(), sampling_rate=16_000, return_tensors="pt"
    )
    ours = LogMel(80).encode(wave)
    assert (padded.input_features.shape[-1], ours.shape[-1]) == (3000, 430)
    # Only the windows that reach over the end differ.
    theirs = padded.input_features[..., :428]
    torch.testing.assert_close(ours[..., :428], theirs, atol=1e-6, rtol=0)
    zeros = torch.nn.functional.pad(wave, (0, 480_000 - wave.shape[-1]))
    torch.testing.assert_close(LogMel(80).encode(zeros), padded.input_features, atol=1e-6, rtol=0)


def test_trap_the_floor_is_below_the_loudest_of_the_whole_recording() -> None:
    quiet, model = 1e-5 * noise(16_000), LogMel(80)
    clicked = quiet.clone()
    clicked[..., -2000] = 1.0
    before, after = model.encode(quiet), model.encode(clicked)
    assert not torch.equal(before[..., :50], after[..., :50])
    # 8 below it before the last step, which divides by 4.
    assert float((after[..., :50] - (after.amax() - 2)).abs().max()) < 1e-6


def test_trap_the_frame_centred_on_the_end_is_left_out() -> None:
    silent_end = noise(1600)
    silent_end[..., 1200:] = 0
    loud_end = silent_end.clone()
    loud_end[..., -1] = 100.0
    frames = LogMel(80).encode(loud_end)
    assert frames.shape[-1] == 10
    # The click is heard in the windows of the ninth frame and of the tenth, which is not there.
    assert int(frames.amax(1).argmax()) == 9


@pytest.mark.oracle
def test_cepstra_and_deltas_are_torchaudios(clips: dict[str, Tensor]) -> None:
    from torchaudio.functional import compute_deltas
    from torchaudio.transforms import MFCC

    bands = {"n_fft": 400, "hop_length": 160, "n_mels": 40}
    cepstra, model = MFCC(16_000, 13, log_mels=True, melkwargs=bands), Mfcc()
    for name, wave in clips.items():
        first = cepstra(wave[:, 0])
        slopes = compute_deltas(first)
        theirs = torch.cat([first, slopes, compute_deltas(slopes)], 1)
        ours = model.encode(wave)
        assert ours.shape == theirs.shape == (1, 39, wave.shape[-1] // 160 + 1)
        # Logarithms of up to -14 in 40 bands: the last bit of the greatest is 4e-6.
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("name", ["mel-80", "mel-128", "mfcc"])
def test_any_pieces_give_the_features_of_the_whole(name: str) -> None:
    # Matrix products round by the size of the block; 2e-6 is the last bit of the greatest number.
    model = load(name).model
    for length in [*LENGTHS, 70_000]:
        wave = noise(length)
        for size in (160, 1600, 32_000):
            streaming_equals_whole(
                lambda x, state: model.encode(x, None, state), wave, every(size, length), atol=4e-6
            )


@pytest.mark.parametrize("name", ["mel-80", "mfcc"])
def test_rows_do_not_see_their_neighbours(name: str) -> None:
    model = load(name).model
    wave = noise(5000, rows=3)
    wave[1] *= 1000
    batch_equals_single(lambda x, state: model.encode(x, None, state), wave, atol=0.0)


def test_cepstra_are_local() -> None:
    # Four frames of deltas, and the half window in which a sample is seen.
    model, wave = Mfcc(), noise(16_000)
    past_is_fixed(lambda x, state: model.encode(x, None, state), wave, 8000, settled=45)


@pytest.mark.parametrize("name", ["mel-80", "mel-128", "mfcc"])
def test_every_length_has_its_frames_of_finite_numbers(name: str) -> None:
    model = load(name).model
    for length in (0, *LENGTHS):
        features = model.encode(noise(length))
        whole = 0 if not length else length // 160 + (name == "mfcc")
        assert features.shape == (1, model.dimension, whole)
        assert features.dtype == torch.float32 and features.isfinite().all()


def test_formulas_load_without_files_or_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALM_OFFLINE", "1")
    for name, dimension in (("mel-80", 80), ("mel-128", 128), ("mfcc", 39)):
        loaded = load(name, offline=True)
        assert loaded.card is not None
        assert (loaded.weights_sha256, loaded.name) == ("", name)
        assert loaded.model.dimension == loaded.card.dimension == dimension
        assert not list(loaded.model.parameters()) and not loaded.model.state_dict()
    with pytest.raises(ModelError, match="no features 'mel-90'"):
        FAMILY.read_config({"model_type": "mel-90"})


@pytest.mark.parametrize("name", ["mel-80", "mfcc"])
def test_features_go_through_the_token_file(name: str, tmp_path: Path) -> None:
    samples = noise(20_000)[0].numpy()
    codec = load_codec(name, device="cpu")
    stream = codec.encoder(16_000, 1)
    stream.push(samples)
    (made,) = stream.finish()
    assert isinstance(made, Latents)
    write_tokens(tmp_path / "a.alm", made)
    found = read_tokens(tmp_path / "a.alm")
    assert isinstance(found, Latents)
    assert np.array_equal(found.values, made.values)
    assert (found.origin.codec, found.origin.weights_sha256, found.origin.frame_rate) == (
        name, "", 100.0,
    )  # fmt: skip
    with pytest.raises(ModelError, match="makes features, not tokens"):
        codec.encode(Audio(samples, 16_000))


def test_reduced_precision_leaves_features_alone() -> None:
    audio = Audio(noise(16_000)[0].numpy(), 16_000)
    found = []
    for dtype in ("float32", "bfloat16"):
        stream = load_codec("mfcc", device="cpu", dtype=dtype).encoder(16_000, 1)
        stream.push(audio.samples)
        (made,) = stream.finish()
        assert isinstance(made, Latents)
        found.append(made.values)
    assert np.array_equal(*found)
