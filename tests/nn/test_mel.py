"""Windows, spectra, mel bands, cosines and deltas, against torch, torchaudio and transformers."""

from __future__ import annotations

import pytest
import torch

from alm_cli.nn.mel import Deltas, Power, Windows, cosines, htk_filters, slaney_filters
from tests.laws import every, past_is_fixed, streaming_equals_whole

LENGTHS = [201, 319, 320, 321, 359, 360, 361, 400, 401, 1120, 1601]


@pytest.mark.parametrize("bands", [80, 128])
@pytest.mark.oracle
def test_slaney_filters_are_those_of_transformers(bands: int) -> None:
    from transformers.audio_utils import mel_filter_bank

    theirs = mel_filter_bank(201, bands, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    ours = slaney_filters(bands, 400, 16_000)
    assert torch.equal(ours, torch.from_numpy(theirs).float())


@pytest.mark.oracle
def test_htk_filters_and_cosines_are_those_of_torchaudio() -> None:
    from torchaudio.functional import create_dct, melscale_fbanks

    assert torch.equal(htk_filters(40, 400, 16_000), melscale_fbanks(201, 0.0, 8000.0, 40, 16_000))
    assert torch.equal(cosines(40, 13), create_dct(13, 40, "ortho"))


def test_cosines_are_orthonormal() -> None:
    table = cosines(40, 40).double()
    torch.testing.assert_close(
        table.mT @ table, torch.eye(40, dtype=torch.float64), atol=3e-6, rtol=0
    )


def test_slaney_triangles_have_equal_area_and_no_gap() -> None:
    filters = slaney_filters(20, 4096, 16_000).double()
    width = 16_000 / 4096
    torch.testing.assert_close(filters.sum(0) * width, torch.ones(20).double(), atol=2e-3, rtol=0)
    assert (filters[2:-2] >= 0).all() and (filters[2:-2].sum(1) > 0).all()


@pytest.mark.parametrize("length", LENGTHS)
def test_power_is_the_centred_transform_of_torch(length: int) -> None:
    torch.manual_seed(length)
    wave = torch.randn(1, 1, length)
    window = torch.hann_window(400)
    theirs = torch.stft(wave[0], 400, 160, window=window, return_complex=True).abs().square().mT
    torch.testing.assert_close(Power(400, 160)(wave)[0], theirs, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 159, 160, 161, 199, 200])
def test_a_signal_too_short_to_be_mirrored_has_its_frames_too(length: int) -> None:
    power = Power(400, 160)(torch.ones(1, 1, length))
    assert power.shape == (1, 1, length // 160 + 1, 201)
    assert power.isfinite().all() and power.max() > 0


@pytest.mark.parametrize("length", range(1, 12))
@pytest.mark.oracle
def test_deltas_are_those_of_torchaudio(length: int) -> None:
    from torchaudio.functional import compute_deltas

    x = torch.randn(2, 3, length, generator=torch.Generator().manual_seed(length))
    torch.testing.assert_close(Deltas()(x), compute_deltas(x), atol=1e-6, rtol=0)


def test_deltas_of_a_line_are_its_slope() -> None:
    line = 3 * torch.arange(20.0)[None, None]
    assert Deltas()(line)[0, 0, 2:-2].tolist() == [3.0] * 16


@pytest.mark.parametrize("length", [1, 159, 200, 201, 1120, 2003])
def test_spectra_of_a_stream_are_those_of_the_whole(length: int) -> None:
    power = Power(400, 160)
    wave = torch.randn(2, 1, length, generator=torch.Generator().manual_seed(length))

    def step(x: torch.Tensor, state: object) -> torch.Tensor:
        return power(x, state)[:, 0].mT  # type: ignore[arg-type]

    for size in (1, 7, 160, 199, 1000) if length < 300 else (160, 199, 1000):
        streaming_equals_whole(step, wave, every(size, length), atol=0.0)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 20])
def test_deltas_of_a_stream_are_those_of_the_whole(length: int) -> None:
    x = torch.randn(1, 2, length, generator=torch.Generator().manual_seed(length))
    for size in (1, 2, 3, 7):
        streaming_equals_whole(Deltas(), x, every(size, length), atol=0.0)


def test_deltas_look_two_frames_ahead_and_no_more() -> None:
    x = torch.randn(1, 1, 30, generator=torch.Generator().manual_seed(0))
    past_is_fixed(Deltas(), x, known=15, settled=13)


def test_windows_that_cannot_be_mirrored_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        Windows(400, 200, "reflect")
