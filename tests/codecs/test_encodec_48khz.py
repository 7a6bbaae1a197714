"""EnCodec at 48 kHz against the original package and `transformers`, trap by trap, and its laws."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from alm_cli.checkpoints.load import load
from alm_cli.codecs.encodec import FAMILY, KEYS, Encodec, SegmentedEncodec
from alm_cli.errors import InputError, ModelError
from alm_cli.nn.state import State
from alm_cli.systems.codec import Codec
from tests.clips import recorded, synthetic
from tests.golden import Golden, golden
from tests.oracles import EncodecPair, encodec_pair, header

PUBLISHED: dict[str, Any] = {
    "target_bandwidths": [3.0, 6.0, 12.0, 24.0],
    "sampling_rate": 48_000,
    "audio_channels": 2,
    "use_causal_conv": False,
    "norm_type": "time_group_norm",
    "normalize": True,
    "chunk_length_s": 1.0,
    "overlap": 0.01,
}
# A second is 2000 samples, 250 frames; segments begin every 1980 samples.
TINY = PUBLISHED | {
    "target_bandwidths": [3.0],
    "sampling_rate": 2000,
    "num_filters": 4,
    "hidden_size": 8,
    "codebook_size": 16,
    "upsampling_ratios": [4, 2],
}
LENGTHS = (1, 2, 3, 17, 319, 320, 321, 641, 977, 1913, 2239, 2240, 2241, 4799)

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> EncodecPair:
    """The published architecture."""
    return encodec_pair(tmp_path_factory.mktemp("encodec"), **PUBLISHED)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[SegmentedEncodec, Golden]:
    """The golden model, its tensors named and its settings written as in `transformers`."""
    import json

    kept, folder = golden("encodec_48khz_tiny"), tmp_path_factory.mktemp("tiny")
    (folder / "config.json").write_text(json.dumps({"model_type": "encodec", **TINY}))
    torch.save(kept.weights, folder / "encodec.th")
    model = load(folder).model
    assert isinstance(model, SegmentedEncodec)
    return model, kept


def encoded(model: Encodec, wave: Tensor, codebooks: int | None = None) -> tuple[Tensor, Tensor]:
    """wave [B, C, T] -> codes [B, K, F] and scales [n, B], in one call."""
    state = State()
    state.last = True
    return model.encode(wave, codebooks, state), state.side["scale"]


def decoded(model: Encodec, codes: Tensor, scales: Tensor) -> Tensor:
    """codes [B, K, F] and scales [n, B] -> wave [B, C, n], in one call."""
    state = State()
    state.last, state.side = True, {"scale": scales}
    return model.decode(codes, state)


def theirs(pair: EncodecPair, wave: Tensor, bandwidth: float = 24.0) -> tuple[Tensor, Tensor]:
    """The same by `transformers`, which fills the codes of the last segment up with zeros."""
    codes, scales, lacking = pair.theirs.encode(wave, bandwidth=bandwidth, return_dict=False)
    joined = torch.cat(list(codes), -1)
    return joined[..., : joined.shape[-1] - lacking], torch.stack([s[:, 0] for s in scales])


@torch.no_grad()
@pytest.mark.parametrize("length", LENGTHS)
def test_codes_and_scales_are_those_of_the_reference(pair: EncodecPair, length: int) -> None:
    wave = synthetic(length, 2)
    codes, scales = encoded(pair.ours, wave)
    their_codes, their_scales = theirs(pair, wave)
    assert codes.shape == (1, 16, -(-length // 320))
    assert int((codes != their_codes).sum()) == 0
    assert torch.equal(scales, their_scales)


@torch.no_grad()
def test_real_recordings_have_the_codes_and_waves_of_the_reference(
    pair: EncodecPair, shared: Path
) -> None:
    for wave in recorded(shared, 8, 2000, 2):
        codes, scales = encoded(pair.ours, wave)
        their_codes, their_scales = theirs(pair, wave)
        assert int((codes != their_codes).sum()) == 0
        assert torch.equal(scales, their_scales)
        reference = pair.theirs.decode(their_codes[None], [their_scales[0]]).audio_values
        torch.testing.assert_close(decoded(pair.ours, codes, scales), reference, atol=1e-5, rtol=0)


@torch.no_grad()
def test_seconds_overlap_by_a_hundredth(pair: EncodecPair) -> None:
    wave = synthetic(48_000 + 500, 2)
    codes, scales = encoded(pair.ours, wave, 4)
    their_codes, their_scales = theirs(pair, wave, 6.0)
    assert codes.shape == (1, 4, 150 + 4)  # the second begins at sample 47 520
    assert int((codes != their_codes).sum()) == 0
    assert torch.equal(scales, their_scales)
    assert min(len(book.unique()) for book in codes[0]) > 40, "codes that do not vary prove nothing"
    stacked = torch.stack(
        (their_codes[..., :150], torch.nn.functional.pad(codes[..., 150:], (0, 146)))
    )
    reference = pair.theirs.decode(stacked, list(their_scales), last_frame_pad_length=146)
    torch.testing.assert_close(
        decoded(pair.ours, codes, scales), reference.audio_values, atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_trap_the_processor_of_transformers_fills_the_last_second_with_silence(
    pair: EncodecPair,
) -> None:
    """Which makes it quieter and longer: other scale and other codes. The original does not."""
    from transformers import EncodecFeatureExtractor

    wave = synthetic(3000, 2)
    fill = EncodecFeatureExtractor(2, 48_000, chunk_length_s=1.0, overlap=0.01)
    filled = fill(wave[0].numpy(), sampling_rate=48_000, return_tensors="pt")
    assert filled["input_values"].shape[-1] == 48_000
    codes, scales = encoded(pair.ours, wave)
    their_codes, their_scales = theirs(pair, filled["input_values"])
    assert len(their_scales) == 2, "the silence even makes another segment"
    assert scales[0] > 3 * their_scales[0]
    assert (codes != their_codes[..., : codes.shape[-1]]).float().mean() > 0.1
    # It is the processor, not the model.
    assert int((codes != theirs(pair, wave)[0]).sum()) == 0


@torch.no_grad()
def test_the_original_package_makes_the_same_of_every_length(
    tiny: tuple[SegmentedEncodec, Golden],
) -> None:
    model, kept = tiny
    for length, codes in kept.cases("codes").items():
        found, scales = encoded(model, kept.wave(length))
        assert torch.equal(found[0], codes.long()), length
        assert torch.equal(scales, kept.made[f"scale.{length}"]), length
    for length, wave in kept.cases("decoded").items():
        codes, scales = kept.made[f"codes.{length}"].long()[None], kept.made[f"scale.{length}"]
        torch.testing.assert_close(decoded(model, codes, scales)[0], wave, atol=1e-5, rtol=0)


@torch.no_grad()
def test_trap_the_last_but_one_second_may_be_short_as_well(
    tiny: tuple[SegmentedEncodec, Golden],
) -> None:
    """A segment begins wherever one can, even where the one before reaches the end: then two are
    short, and only the number of scales tells how the frames are shared between them."""
    model, kept = tiny
    for length in (1981, 1984, 1985, 1992, 1993, 1999, 2000, 3961):
        codes, scales = encoded(model, kept.wave(length))
        sizes = kept.made[f"frames.{length}"].tolist()
        assert model._sizes(codes.shape[-1], len(scales)) == sizes, length
        assert decoded(model, codes, scales).shape[-1] >= length
    assert kept.made["frames.1985"].tolist() == [249, 1]  # 250 frames, but not one segment
    codes, scales = encoded(model, kept.wave(1985))
    wrong = decoded(model, codes, scales[:1])
    assert not torch.allclose(decoded(model, codes, scales)[..., :1985], wrong[..., :1985])


def test_trap_the_original_cannot_decode_all_that_it_encodes(
    tiny: tuple[SegmentedEncodec, Golden],
) -> None:
    """Where the last but one segment ends after the last one; here it simply does."""
    model, kept = tiny
    assert "codes.1993" in kept.made and "decoded.1993" not in kept.made
    codes, scales = encoded(model, kept.wave(1993))
    assert decoded(model, codes, scales).shape == (1, 2, 2000)


@torch.no_grad()
def test_trap_the_norm_sees_what_an_up_convolution_trims(pair: EncodecPair) -> None:
    up, x = pair.ours.decoder[3], torch.randn(1, 512, 5)
    full = torch.nn.functional.conv_transpose1d(x, up.weight, up.bias, up.stride)
    torch.testing.assert_close(up(x), up.norm(full)[..., 4:-4], atol=1e-5, rtol=0)
    assert not torch.allclose(up(x), up.norm(full[..., 4:-4]), atol=1e-3)


@torch.no_grad()
def test_trap_every_code_depends_on_its_whole_second(pair: EncodecPair) -> None:
    wave = synthetic(6400, 2)
    changed = wave.clone()
    changed[..., -320:] += 0.5
    assert not torch.equal(pair.ours.encode(wave)[..., :5], pair.ours.encode(changed)[..., :5])


def test_silence_is_divided_by_next_to_nothing(tiny: tuple[SegmentedEncodec, Golden]) -> None:
    codes, scales = encoded(tiny[0], torch.zeros(1, 2, 500))
    assert scales.tolist() == [[pytest.approx(1e-8)]]
    assert decoded(tiny[0], codes, scales).abs().max() < 1e-6


@torch.no_grad()
def test_any_chunking_gives_the_same_codes_scales_and_wave(
    tiny: tuple[SegmentedEncodec, Golden],
) -> None:
    model = tiny[0]
    for length in (1, 1985, 5941):
        wave = synthetic(length, 2)
        codes, scales = encoded(model, wave)
        whole = decoded(model, codes, scales)
        for size in (1, 2):  # seconds a call
            state, found, sides = State(), [], []
            pieces = wave.split(2000 * size, -1)
            for index, piece in enumerate(pieces, 1):
                state.last = index == len(pieces)
                found.append(model.encode(piece, None, state))
                sides.append(state.side.pop("scale"))
            assert torch.equal(torch.cat(found, -1), codes)
            assert torch.equal(torch.cat(sides), scales)
            state, made = State(), []
            pieces, rows = codes.split(250 * size, -1), list(scales.split(size))
            rows[len(pieces) - 1 :] = [torch.cat(rows[len(pieces) - 1 :])]
            for index, (piece, row) in enumerate(zip(pieces, rows, strict=True), 1):
                state.last, state.side = index == len(pieces), {"scale": row}
                made.append(model.decode(piece, state))
            torch.testing.assert_close(torch.cat(made, -1), whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("length", [1981, 1988, 1993, 2 * 1980 + 5])
@pytest.mark.parametrize("segment_frames", [None, 250])
def test_the_system_keeps_the_loudness_of_two_short_segments_at_the_end(
    tiny: tuple[SegmentedEncodec, Golden], length: int, segment_frames: int | None
) -> None:
    """Trap: of 47 521 to 47 680 samples at 48 kHz the first segment has only 149 frames."""
    model, wave = tiny[0], synthetic(length, 2)
    codec = Codec(model, "tiny", "ab" * 32, device=torch.device("cpu"))
    stream = codec.encoder(model.rate, 2, channels="native", segment_frames=segment_frames)
    pieces = [*stream.push(wave[0].numpy()), *stream.finish()]
    codes, scales = encoded(model, wave)
    assert np.array_equal(np.concatenate([piece.codes for piece in pieces], 2), codes.numpy())
    sides = np.concatenate([piece.side["scale"] for piece in pieces])
    assert np.array_equal(sides, scales.numpy())
    back = codec.decoder()
    made = np.concatenate([block for piece in pieces for block in back.push(piece)], 1)
    whole = decoded(model, codes, scales)[0, :, :length]
    torch.testing.assert_close(torch.from_numpy(made), whole, atol=1e-6, rtol=0)


def test_a_second_of_wave_leaves_as_soon_as_its_codes_have_come(
    tiny: tuple[SegmentedEncodec, Golden],
) -> None:
    state = State()
    state.side["scale"] = torch.ones(1, 1)
    assert tiny[0].decode(torch.zeros(1, 3, 250).long(), state).shape == (1, 2, 1980)


@torch.no_grad()
def test_a_batch_is_its_rows_to_the_last_bit(tiny: tuple[SegmentedEncodec, Golden]) -> None:
    model, wave = tiny[0], synthetic(4500, 2, batch=3)
    codes = model.encode(wave)
    assert torch.equal(codes, torch.cat([model.encode(row) for row in wave.split(1)]))
    rows = torch.cat([model.decode(row) for row in codes.split(1)])
    assert torch.equal(model.decode(codes), rows)


def test_nothing_in_is_nothing_out(tiny: tuple[SegmentedEncodec, Golden]) -> None:
    codes = tiny[0].encode(torch.zeros(2, 2, 0), 3)
    assert codes.shape == (2, 3, 0) and codes.dtype == torch.int64
    assert tiny[0].decode(codes).shape == (2, 2, 0)


@pytest.mark.parametrize(("frames", "scales"), [(250, 3), (500, 1), (251, 3), (3, 2), (0, 1)])
def test_scales_that_do_not_fit_the_frames_are_refused(
    tiny: tuple[SegmentedEncodec, Golden], frames: int, scales: int
) -> None:
    with pytest.raises(InputError, match=f"{frames} frames of codes with {scales}"):
        decoded(tiny[0], torch.zeros(1, 3, frames).long(), torch.ones(scales, 1))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("normalize", False),
        ("chunk_length_s", None),
        ("chunk_length_s", 2.0),
        ("overlap", 0.5),
        ("use_causal_conv", True),
    ],
)
def test_settings_that_do_not_go_together_are_refused(setting: str, value: object) -> None:
    with pytest.raises(ModelError, match=setting):
        FAMILY.read_config(PUBLISHED | {setting: value})
    with pytest.raises(ModelError, match=setting):
        FAMILY.read_config({key: x for key, x in PUBLISHED.items() if key != setting})


@pytest.mark.parametrize("name", ["encodec_48khz", "encodec_48khz_th"])
def test_the_published_checkpoints_fit(name: str) -> None:
    shapes = header(name)
    assert FAMILY.sniff is not None
    found = FAMILY.read_config(FAMILY.sniff(shapes, {}) or {})
    assert found == FAMILY.read_config(PUBLISHED)
    with torch.device("meta"):
        model = FAMILY.model(found)
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {step.target for step in KEYS.plan(shapes, ours)} == set(ours)
    assert model.vocabularies == (1024,) * 16 and model.frame_multiple == 150


def test_the_header_has_the_size_of_the_published_file() -> None:
    tensors = {name: torch.zeros(shape) for name, shape in header("encodec_48khz").items()}
    assert len(save(tensors, {"format": "pt"})) == 76_291_152


def original() -> Any:
    """The original package's model with random weights and filled codebooks, where it is there."""
    package = pytest.importorskip("encodec", reason="needs the package encodec 0.1.1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = package.EncodecModel.encodec_model_48khz(pretrained=False).eval()
    model.set_target_bandwidth(24.0)
    wave = synthetic(24_000, 2)
    residual = model.encoder(wave / wave.mean(1).square().mean().sqrt())[0].T
    for layer in model.quantizer.vq.layers:
        vectors = layer._codebook.embed
        vectors.normal_().mul_(residual.std(0)).add_(residual.mean(0))
        layer._codebook.inited.fill_(1)
        residual = residual - layer._codebook.dequantize(layer._codebook.quantize(residual))
    return model


@torch.no_grad()
def test_the_first_release_is_recognised_and_equal_to_its_package(
    shared: Path, tmp_path: Path
) -> None:
    theirs = original()
    torch.save(theirs.state_dict(), tmp_path / "encodec_48khz.th")
    model = load(tmp_path / "encodec_48khz.th").model
    waves = [synthetic(length, 2) for length in (1, 320, 4799, 47_620, 47_521, 95_100)]
    for wave in (*waves, *recorded(shared, 20, 2400, 2)):
        frames = theirs.encode(wave)
        codes, scales = encoded(model, wave)
        assert int((codes != torch.cat([codes for codes, _ in frames], -1)).sum()) == 0
        assert torch.equal(scales, torch.cat([scale for _, scale in frames]))
        reference = theirs.decode(frames)
        torch.testing.assert_close(decoded(model, codes, scales), reference, atol=1e-5, rtol=0)
