"""Measures of codecs that are exact, and of codecs that are not in one way each."""

from __future__ import annotations

from dataclasses import replace
from math import pi

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alm_cli.codecs.alm_codec import AlmCodec, AlmCodecConfig
from alm_cli.codecs.features import LogMel, Mfcc
from alm_cli.errors import InputError, ModelError
from alm_cli.nn.segments import Segments
from alm_cli.nn.state import State
from alm_cli.systems.codec import Codec
from alm_cli.systems.margins import Watch
from alm_cli.systems.verify import (
    Measure,
    Verification,
    all_pass,
    compare,
    expected,
    verify_audio,
    verify_tokens,
)
from alm_cli.units import dedup_tokens
from alm_cli.values import Audio, Tokens


class Levels(nn.Module):
    """An exact codec: in each frame of ten samples, two of them rounded to one of 65 levels."""

    rate, channels, hop, delay, block_frames = 1000, 1, 10, 0, 50
    vocabularies = (65, 65)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("levels", torch.linspace(-1, 1, 65), persistent=False)

    def encode(
        self, wave: Tensor, codebooks: int | None = None, state: State | None = None
    ) -> Tensor:
        """wave [B, 1, T] -> codes [B, K, F]."""
        frames = nn.functional.pad(wave, (0, -wave.shape[-1] % 10)).unflatten(-1, (-1, 10))
        kept = frames[:, 0, :, [0, 5]].mT
        codes = torch.stack([self.nearest(samples) for samples in kept.unbind(1)], 1)
        return self.spoilt(codes, wave, state)[:, :codebooks]

    def nearest(self, samples: Tensor) -> Tensor:
        """samples [...] -> codes [...]."""
        return (samples[..., None] - self.get_buffer("levels")).abs().min(-1).indices

    def spoilt(self, codes: Tensor, _wave: Tensor, _state: State | None) -> Tensor:
        """What is wrong with the codes of this codec: here nothing."""
        return codes

    def decode(self, codes: Tensor, _state: State | None = None) -> Tensor:
        """codes [B, K, F] -> wave [B, 1, F * 10]."""
        values = self.get_buffer("levels")[codes]
        return values.mT.repeat_interleave(10 // codes.shape[1], -1).flatten(1)[:, None]


class Chunky(Levels):
    """Counts the calls of a stream into its codes."""

    def spoilt(self, codes: Tensor, _wave: Tensor, state: State | None) -> Tensor:
        if state is not None:
            calls = state.get(self, lambda: 0)
            state.put(self, calls + 1)
            codes[:, -1, -1:] = min(calls, 64)
        return codes


class Crowded(Levels):
    """Sees how many rows there are."""

    def spoilt(self, codes: Tensor, wave: Tensor, _state: State | None) -> Tensor:
        codes[:, -1] = (codes[:, -1] + len(wave) - 1) % 65
        return codes


class Anchored(Levels):
    """Its codes of the second book depend on the first sample of the recording."""

    def spoilt(self, codes: Tensor, wave: Tensor, state: State | None) -> Tensor:
        first = wave[:, 0, :1]
        if state is not None:
            first = state.get(self, lambda: first)
            state.put(self, first)
        codes[:, -1] = (codes[:, -1] + (first * 1000).long()) % 65
        return codes


class Short(Levels):
    """Loses the last frame of every call."""

    def spoilt(self, codes: Tensor, _wave: Tensor, _state: State | None) -> Tensor:
        return codes[..., :-1]


class Slow(Levels):
    """Its first book has one code every two frames."""

    strides, frame_multiple = (2, 1), 2

    def spoilt(self, codes: Tensor, _wave: Tensor, _state: State | None) -> Tensor:
        codes = nn.functional.pad(codes, (0, codes.shape[-1] % 2), "replicate")
        codes[:, 0] = codes[:, 0, ::2].repeat_interleave(2, -1)
        return codes


class Mute(Levels):
    """Does not decode."""

    decode = None  # type: ignore[assignment]

    def __getattribute__(self, name: str) -> object:
        if name == "decode":
            raise AttributeError(name)
        return super().__getattribute__(name)


def codec_of(model: nn.Module, name: str = "levels", **kind: object) -> Codec:
    return Codec(model, name, "0" * 64, device=torch.device("cpu"), **kind)  # type: ignore[arg-type]


def noise(seconds: float = 3.0, rate: int = 1000, channels: int = 1) -> Audio:
    generator = np.random.default_rng(round(seconds * rate))
    samples = generator.uniform(-1, 1, (channels, round(seconds * rate))).astype(np.float32)
    return Audio(samples, rate)


def measured(report: Verification, kind: str) -> list[Measure]:
    found = [measure for measure in report.measures if measure.kind == kind]
    assert found
    return found


def equal(report: Verification, kind: str) -> list[float | None]:
    return [measure.equal for measure in measured(report, kind)]


def test_an_exact_codec_is_exact_in_everything_but_noise() -> None:
    report = verify_audio(codec_of(Levels()), noise())
    for kind in ("idempotence", "slice", "batch", "stream"):
        assert set(equal(report, kind)) == {1.0}, kind
    gain, turned, noisy = measured(report, "perturbation")
    assert 0.3 < gain.equal < 1 and gain.equal < noisy.equal < 1  # type: ignore[operator]
    assert turned.equal is not None and turned.equal < 0.5
    (device,) = measured(report, "device")
    assert (device.equal, device.reason) == (None, "no CUDA device here")
    assert (report.codec, report.frames, report.codebooks, report.seconds) == (
        "levels", 300, 2, 3.0,
    )  # fmt: skip
    assert [measure.frames for measure in measured(report, "slice")] == [120, 360, 1080]


@pytest.mark.parametrize(
    ("model", "kinds"),
    [
        (Chunky, {"stream", "slice"}),
        (Crowded, {"batch"}),
        (Anchored, {"slice"}),
        (Short, {"stream", "slice"}),
    ],
)
def test_each_fault_shows_in_its_measure(model: type[Levels], kinds: set[str]) -> None:
    report = verify_audio(codec_of(model()), noise())
    for kind in ("slice", "batch", "stream"):
        whole = all(share == 1.0 for share in equal(report, kind))
        assert whole == (kind not in kinds), kind
        if not whole and model is not Short:
            (first, second) = measured(report, kind)[0].shares
            assert first == 1.0 > second, kind


def test_few_codebooks_can_be_verified() -> None:
    report = verify_audio(codec_of(Crowded()), noise(), codebooks=1)
    assert report.codebooks == 1
    (batch,) = measured(report, "batch")
    assert batch.shares == (1.0,)  # the book that suffers is the second


def test_books_with_frame_rates_of_their_own_are_compared_code_by_code() -> None:
    report = verify_audio(codec_of(Slow()), noise())
    for kind in ("slice", "batch", "stream"):
        assert set(equal(report, kind)) == {1.0}, kind
    assert report.margins is None  # twice as many searches as codes
    known = np.array([[[1, 1, 2, 2, 3, 3], [1, 2, 3, 4, 5, 6]]])
    found = np.array([[[1, 1, 9, 9, 3, 3], [1, 2, 3, 4, 5, 9]]])
    assert compare("x", "x", known, found, (2, 1)).shares == (2 / 3, 5 / 6)


class Overlapping(Levels):
    """Groups of eight frames, of which the last stands for what the next one begins with."""

    frame_multiple, group_samples, block_frames = 8, 70, 8

    def __init__(self) -> None:
        super().__init__()
        self.cut = Segments(80, 70)

    def encode(
        self, wave: Tensor, codebooks: int | None = None, state: State | None = None
    ) -> Tensor:
        pieces = self.cut(wave, state)
        none = torch.zeros(len(wave), len(self.vocabularies[:codebooks]), 0, dtype=torch.int64)
        return torch.cat(
            [none, *(super(Overlapping, self).encode(p, codebooks) for p in pieces)], 2
        )

    def windowed(self, seconds: float) -> Levels:
        """Only so that it can be asked for."""
        assert seconds
        return self


def test_slices_begin_where_groups_of_frames_do() -> None:
    report = verify_audio(codec_of(Overlapping()), noise())
    for kind in ("slice", "batch", "stream"):
        assert set(equal(report, kind)) == {1.0}, kind


def test_slices_of_windows_are_not_measured() -> None:
    report = verify_audio(codec_of(Overlapping()), noise(), windowed=0.5)
    reasons = {measure.reason for measure in measured(report, "slice")}
    assert reasons == {"the windows of slices lie elsewhere"}
    assert equal(report, "stream") == [1.0]


def test_what_only_decodes_is_a_model_error() -> None:
    class Vocoder(nn.Module):
        rate, channels, hop, delay, block_frames = 1000, 1, 10, 0, 50
        vocabularies = (65,)

    with pytest.raises(ModelError, match="levels cannot encode"):
        verify_audio(codec_of(Vocoder()), noise())


def test_what_does_not_decode_skips_idempotence_and_says_why() -> None:
    report = verify_audio(codec_of(Mute()), noise())
    (again,) = measured(report, "idempotence")
    assert again.equal is None and "has no decoder" in again.reason
    assert equal(report, "stream") == [1.0]


@pytest.mark.parametrize("model", [Mfcc(), LogMel(80)])
def test_features_are_compared_to_within_rounding(model: nn.Module) -> None:
    report = verify_audio(codec_of(model), noise(3.0, 16_000))
    for kind in ("batch", "stream"):
        assert equal(report, kind) == [1.0]
    assert "nothing decodes features" in measured(report, "idempotence")[0].reason
    assert all("every change" in measure.reason for measure in measured(report, "perturbation"))
    assert report.margins_reason == "features are not quantised"
    short, _, long = equal(report, "slice")
    assert short is not None and long is not None and short < long < 1


def test_another_device_is_compared_when_there_is_one() -> None:
    report = verify_audio(codec_of(Levels()), noise(), elsewhere=codec_of(Levels()))
    assert equal(report, "device") == [1.0]
    report = verify_audio(codec_of(Levels()), noise(), elsewhere=codec_of(Anchored()))
    (share,) = equal(report, "device")
    assert share is not None and share < 1


def test_recordings_of_any_rate_and_channels_are_measured_at_the_codecs_own() -> None:
    report = verify_audio(codec_of(Levels()), noise(2.0, 4410, channels=3))
    assert (report.frames, report.seconds) == (200, 2.0)
    assert equal(report, "stream") == [1.0]


class Wide(Levels):
    """Two channels, of which each has a codebook."""

    channels = 2

    def spoilt(self, codes: Tensor, wave: Tensor, _state: State | None) -> Tensor:
        codes[:, 1] = self.nearest(wave[:, 1, ::10])
        return codes

    def decode(self, codes: Tensor, _state: State | None = None) -> Tensor:
        return torch.cat([Levels.decode(self, codes[:, [book]]) for book in (0, 1)], 1)


def test_a_codec_of_two_channels_hears_both() -> None:
    report = verify_audio(codec_of(Wide()), noise(channels=2))
    for kind in ("idempotence", "slice", "batch", "stream"):
        assert set(equal(report, kind)) == {1.0}, kind
    again = verify_audio(codec_of(Wide()), noise(channels=1))
    assert equal(again, "idempotence") == [1.0]


@pytest.mark.parametrize("length", [1, 9, 10, 11, 70, 199, 601])
def test_short_recordings_are_measured_as_far_as_they_go(length: int) -> None:
    report = verify_audio(codec_of(Levels()), noise(length / 1000))
    assert equal(report, "idempotence") == equal(report, "stream") == [1.0]
    reasons = [measure.reason for measure in measured(report, "slice")]
    long_enough = [length >= 10 + 1000 * seconds for seconds in (0.2, 0.6, 1.8)]
    assert [not reason for reason in reasons] == long_enough
    assert all(reason in ("", "the recording is too short") for reason in reasons)


def test_no_audio_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no audio"):
        verify_audio(codec_of(Levels()), noise(0))


def test_margins_are_those_of_the_search() -> None:
    report = verify_audio(codec_of(Levels()), noise())
    assert report.margins is not None
    kept = torch.from_numpy(noise().samples).view(-1, 10)[:, [0, 5]]
    distances = (kept[..., None] - torch.linspace(-1, 1, 65)).abs()
    nearest, second = distances.topk(2, largest=False).values.unbind(-1)
    margin = ((second - nearest) / second).numpy()
    np.testing.assert_allclose(report.margins.lowest, np.quantile(margin, 0.01, 0), rtol=1e-5)
    np.testing.assert_allclose(report.margins.median, np.median(margin, 0), rtol=1e-5)
    assert report.margins.ties == (0.0, 0.0)


def test_margins_of_a_residual_quantiser_are_found() -> None:
    codec = small()
    report = verify_audio(codec, noise(0.2, 24_000))
    assert report.margins is not None and report.margins_reason == ""
    assert len(report.margins.lowest) == 4
    assert all(
        0 < low < mid < 1
        for low, mid in zip(report.margins.lowest, report.margins.median, strict=True)
    )


@pytest.mark.parametrize("search", ["min", "argmin", "max", "argmax"])
def test_every_kind_of_search_is_seen(search: str) -> None:
    class Searching(Levels):
        def nearest(self, samples: Tensor) -> Tensor:
            distances = (samples[..., None] - self.get_buffer("levels")).abs()
            found = getattr(torch, search)(distances if "min" in search else -distances, -1)
            return found if isinstance(found, Tensor) else found.indices

    ours = verify_audio(codec_of(Searching()), noise(1.0)).margins
    theirs = verify_audio(codec_of(Levels()), noise(1.0)).margins
    assert ours is not None and ours == theirs


def test_searches_that_did_not_make_the_codes_are_not_margins() -> None:
    watch = Watch((65,))
    with watch:
        torch.rand(5, 65).argmin(-1)
        torch.rand(5, 64).argmin(-1)
        torch.rand(5, 65).argmin(0)
        torch.rand(65).min()
    codes: NDArray[np.int32] = np.full((1, 1, 5), 65, np.int32)
    assert watch.margins(codes) is None
    assert Watch((65,)).margins(codes) is None


def test_the_all_pass_keeps_magnitudes_and_turns_a_kilohertz_by_a_quarter() -> None:
    rate = 24_000
    pulse = torch.zeros(1, 4096)
    pulse[0, 0] = 1
    spectrum = torch.fft.rfft(all_pass(pulse, rate))[0]
    torch.testing.assert_close(spectrum.abs(), torch.ones(2049), atol=1e-4, rtol=0)
    angles = spectrum.angle().double()
    frequencies = torch.arange(2049) * rate / 4096
    assert abs(float(angles[171]) + pi / 2 * (171 * rate / 4096) / 1000) < 0.01
    turned = torch.diff(angles)
    delays = -torch.remainder(turned + pi, 2 * pi).sub(pi) / (2 * pi) / torch.diff(frequencies)
    assert 0 < float(delays.max()) < 0.33e-3


def test_precision_decides_what_is_expected() -> None:
    assert expected(codec_of(Levels())) == {"batch": 1.0, "stream": 1.0, "source": 1.0}
    assert expected(codec_of(Levels(), dtype=torch.bfloat16)) == {}


def small() -> Codec:
    """A small residual codec."""
    torch.manual_seed(0)
    config = AlmCodecConfig(
        fine_hop=48, synthesis_hop=24, window=96, delay=96, codebooks=4, vocabulary=32, latent=8,
        encoder_depth=1, encoder_width=16, context_width=16, decoder_depth=1, decoder_width=16,
    )  # fmt: skip
    model = AlmCodec(config).eval().requires_grad_(False)
    model.block_frames = 10
    for book in model.quantizer.codebooks:
        book.vectors.normal_(std=0.5)
    return codec_of(model, "small")


@pytest.mark.parametrize("channels", ["mono", "dual"])
@pytest.mark.parametrize("rate", [1000, 4410])
def test_stored_tokens_are_decoded_and_encoded_again(channels: str, rate: int) -> None:
    codec, audio = codec_of(Levels()), noise(1.0, rate, 2)
    tokens = codec.encode(audio, codebooks=1, channels=channels)  # type: ignore[arg-type]
    report = verify_tokens(codec, tokens, audio)
    assert equal(report, "idempotence") == equal(report, "source") == [1.0]
    assert dict(report.facts) == {
        "checksum": "right", "weights": "the same", "source": "the same samples",
    }  # fmt: skip
    assert (report.frames, report.codebooks, report.seconds) == (100, 1, 1.0)


def test_tokens_of_another_recording_are_told_from_where_they_differ() -> None:
    codec, audio = codec_of(Levels()), noise(1.0)
    tokens = codec.encode(audio)
    changed = replace(
        audio, samples=np.where(np.arange(1000) < 730, audio.samples, 0.0).astype("f4")
    )
    report = verify_tokens(codec, tokens, changed)
    (source,) = measured(report, "source")
    assert source.first_difference == 73 and source.equal is not None and 0.7 < source.equal < 0.8
    assert dict(report.facts)["source"] == "other samples"
    longer = replace(audio, samples=np.pad(audio.samples, ((0, 0), (0, 500))))
    (source,) = measured(verify_tokens(codec, tokens, longer), "source")
    assert (source.first_difference, source.frames, source.equal) == (100, 150, 2 / 3)


def test_a_gain_that_was_noted_is_applied_again() -> None:
    codec, audio = codec_of(Levels()), noise(1.0)
    stream = codec.encoder(audio.rate, 1, gain_db=-6.0)
    stream.push(audio.samples)
    (tokens,) = stream.finish()
    report = verify_tokens(codec, tokens, audio)
    assert equal(report, "idempotence") == equal(report, "source") == [1.0]


def test_units_without_repetitions_are_spelt_out() -> None:
    codec = codec_of(Levels())
    audio = replace(noise(1.0), samples=np.repeat(noise(0.1).samples, 10, 1))
    tokens = codec.encode(audio, codebooks=1)
    short = dedup_tokens(tokens)
    assert short.frames < tokens.frames
    report = verify_tokens(codec, short, audio)
    assert equal(report, "idempotence") == equal(report, "source") == [1.0]
    assert report.frames == tokens.frames


def test_tokens_of_unknown_weights_are_measured_and_told() -> None:
    codec, audio = codec_of(Levels()), noise(1.0)
    tokens = codec.encode(audio)
    imported = replace(tokens, origin=replace(tokens.origin, weights_sha256=""))
    report = verify_tokens(codec, imported, audio)
    assert dict(report.facts)["weights"] == "unknown"
    assert equal(report, "source") == [1.0]


def test_stored_features_are_compared_with_their_source() -> None:
    codec, audio = codec_of(Mfcc(), "mfcc"), noise(1.0, 16_000)
    stream = codec.encoder(16_000, 1)
    stream.push(audio.samples)
    (features,) = stream.finish()
    report = verify_tokens(codec, features, audio)
    assert equal(report, "source") == [1.0]
    assert "nothing decodes" in measured(report, "idempotence")[0].reason
    other = replace(features, origin=replace(features.origin, weights_sha256="1" * 64))
    with pytest.raises(ModelError, match="other weights"):
        verify_tokens(codec, other)


def test_tokens_of_other_weights_or_with_impossible_codes_are_refused() -> None:
    codec = codec_of(Levels())
    tokens = codec.encode(noise(1.0))
    with pytest.raises(ModelError, match="other weights"):
        other = replace(tokens.origin, weights_sha256="1" * 64)
        verify_tokens(codec, replace(tokens, origin=other))
    with pytest.raises(InputError, match="outside the codebooks"):
        verify_tokens(codec, Tokens(tokens.codes + 65, tokens.origin))
    with pytest.raises(InputError, match="the source holds no audio"):
        verify_tokens(codec, tokens, noise(0))
    both = codec.encode(noise(1.0, channels=2), channels="dual")
    with pytest.raises(InputError, match="2 streams of tokens, 3 of the source"):
        verify_tokens(codec, both, noise(1.0, channels=3))


def test_comparison_counts_missing_frames_and_small_differences() -> None:
    codes = np.arange(12).reshape(1, 2, 6)
    assert compare("x", "x", codes, codes).equal == 1.0
    assert compare("x", "x", codes, codes[:, :, :3]).shares == (0.5, 0.5)
    assert compare("x", "x", codes, codes[:, :, :3]).first_difference == 3
    assert compare("x", "x", codes[:, :, :0], codes[:, :, :0]).reason == "there are no frames"
    values = np.array([[[1.0, 1.0, 1.0], [100.0, 100.0, 100.0]]], np.float32)
    near = values + np.array([0.0, 5e-4, 5e-3], np.float32)
    assert compare("x", "x", values, near).shares == (2 / 3,)
