"""EnCodec against `transformers` with the same random weights, trap by trap, and its laws."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest
import torch
from torch import Tensor

from alm_cli.codecs.encodec import FAMILY, KEYS, Encodec, EncodecConfig
from alm_cli.errors import ModelError
from alm_cli.nn.state import State
from tests.clips import recorded
from tests.laws import every, past_is_fixed, streaming_equals_whole
from tests.oracles import EncodecPair, assert_same_codes, encodec_pair, header

HOP = 320
# Edges of one frame, of the seven that the first needs, of a block, and primes.
LENGTHS = (1, 2, 3, 5, 17, 319, 320, 321, 639, 640, 641, 977, 1279, 1601, 1913, 1920)
LENGTHS += (1921, 2239, 2240, 2241, 2557, 3200, 4799, 7919, 48_001)
TINY = {"num_filters": 4, "hidden_size": 16, "codebook_size": 64, "upsampling_ratios": [4, 2]}
TINY |= {"target_bandwidths": [36.0, 144.0]}
VARIANTS = {
    "two residual units, dilated": {"num_residual_layers": 2, "dilation_growth_rate": 3},
    "no convolution on the skip": {"use_conv_shortcut": False},
    "units as wide inside": {"compress": 1},
    "one layer of memory": {"num_lstm_layers": 1},
    "stereo": {"audio_channels": 2},
    "other kernels": {"kernel_size": 5, "last_kernel_size": 3, "residual_kernel_size": 5},
    "three ratios": {"upsampling_ratios": [5, 3, 2], "target_bandwidths": [9.6, 38.4]},
}

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> EncodecPair:
    """The published architecture."""
    return encodec_pair(tmp_path_factory.mktemp("encodec"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> EncodecPair:
    """Hop 8."""
    return encodec_pair(tmp_path_factory.mktemp("tiny"), **TINY)


def recording(length: int, channels: int = 1, batch: int = 1) -> Tensor:
    """wave [B, C, T]: tones, noise, clicks and silence."""
    generator = torch.Generator().manual_seed(length)
    places = torch.arange(length) / 24_000
    tone = torch.sin(2 * torch.pi * (200 + 3000 * places) * places)
    noise = torch.randn(batch, channels, length, generator=generator)
    clicks = (torch.rand(batch, channels, length, generator=generator) > 0.999).float()
    loud = (torch.sin(9 * places) > -0.3).float()
    return (0.3 * tone + 0.1 * noise + 0.5 * clicks) * loud


@pytest.mark.parametrize("length", LENGTHS)
def test_codes_are_those_of_the_reference(pair: EncodecPair, length: int) -> None:
    codes = assert_same_codes(pair, recording(length), 24.0)
    assert codes.shape == (1, 32, -(-length // HOP))
    if length > 40_000:
        used = [len(book.unique()) for book in codes[0]]
        assert min(used) > 40, "codes that do not vary prove nothing"


def test_real_recordings_have_the_codes_of_the_reference(pair: EncodecPair, shared: Path) -> None:
    for wave in recorded(shared, 8, 2300):
        assert_same_codes(pair, wave, 24.0)


def test_every_bandwidth_is_its_number_of_books(pair: EncodecPair) -> None:
    wave, books = recording(6000), []
    for bandwidth in pair.bandwidths:
        books.append(assert_same_codes(pair, wave, bandwidth).shape[1])
    assert books == [2, 4, 8, 16, 32]
    assert pair.ours.vocabularies == (1024,) * 32


def test_the_wave_is_that_of_the_reference(pair: EncodecPair) -> None:
    shapes = ((1, 2), (6, 8), (7, 8), (8, 8), (151, 8))
    several = [torch.randint(0, 1024, (1, books, frames)) for frames, books in shapes]
    for codes in (*several, pair.ours.encode(recording(9000))):
        theirs = pair.their_wave(codes)
        assert theirs.std() > 0.02
        torch.testing.assert_close(pair.ours.decode(codes), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_configurations_are_read_and_built(config: dict[str, object], tmp_path: Path) -> None:
    pair = encodec_pair(tmp_path, **(TINY | config))
    for length in (1, 3, 7, 8, 29, 101, 2003):
        wave = recording(length, pair.ours.channels)
        codes = assert_same_codes(pair, wave, pair.bandwidths[0])
        torch.testing.assert_close(
            pair.ours.decode(codes), pair.their_wave(codes), atol=1e-5, rtol=1e-5
        )


@torch.no_grad()
def test_trap_the_start_is_mirrored_and_so_looks_seven_frames_ahead(pair: EncodecPair) -> None:
    wave = recording(20 * HOP)
    state = State()
    assert pair.ours.encode(wave[..., : 6 * HOP], 1, state).shape[2] == 0
    assert pair.ours.encode(wave[..., 6 * HOP : 7 * HOP], 1, state).shape[2] == 7
    changed = wave.clone()
    changed[..., 7 * HOP - 1] += 0.9
    latents, other = pair.ours.encoder(wave), pair.ours.encoder(changed)
    assert not torch.equal(latents[..., 0], other[..., 0])
    past_is_fixed(lambda x, _: pair.ours.encoder(x), wave, 7 * HOP, 7)


@torch.no_grad()
def test_trap_after_its_start_it_looks_back_only(pair: EncodecPair) -> None:
    past_is_fixed(lambda x, _: pair.ours.encoder(x), recording(20 * HOP), 12 * HOP, 12)
    codes = torch.randint(0, 1024, (1, 4, 20))
    past_is_fixed(lambda x, _: pair.ours.decode(x), codes, 12, 12 * HOP)


@torch.no_grad()
def test_trap_the_last_window_is_mirrored_in_every_layer_not_filled_with_zeros(
    pair: EncodecPair,
) -> None:
    wave = recording(10 * HOP - 100)
    filled = torch.nn.functional.pad(wave, (0, 100))
    ours, zeros = pair.ours.encode(wave), pair.ours.encode(filled)
    assert torch.equal(ours[..., :-1], zeros[..., :-1])
    assert not torch.equal(ours[..., -1], zeros[..., -1])
    assert_same_codes(pair, wave, 24.0)
    assert_same_codes(pair, filled, 24.0)


def test_trap_a_signal_shorter_than_its_reflection(pair: EncodecPair, tiny: EncodecPair) -> None:
    for length in (1, 2, 6, 7):
        assert_same_codes(pair, recording(length), 24.0)
    for length in range(1, 70):
        assert_same_codes(tiny, recording(length), 144.0)


@torch.no_grad()
def test_trap_transposed_convolutions_give_whole_hops_trimmed_on_the_right(
    pair: EncodecPair,
) -> None:
    for frames in (1, 2, 9):
        assert pair.ours.decode(torch.zeros(1, 2, frames).long()).shape == (1, 1, frames * HOP)


def test_trap_the_wave_is_not_squashed(pair: EncodecPair) -> None:
    wave = pair.ours.decode(torch.randint(0, 1024, (1, 32, 40)))
    assert wave.abs().max() > 1, "a tanh at the end would keep it below 1"


def test_trap_both_spellings_of_weight_norm_fold_alike(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from alm_cli.checkpoints.load import load

    pair = encodec_pair(tmp_path, **TINY)
    file = tmp_path / "model.safetensors"
    spelt = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in load_file(file).items()
    }
    assert any(name.endswith("weight_g") for name in spelt)
    save_file(spelt, file)
    old = load(tmp_path).model
    for name, tensor in pair.ours.state_dict().items():
        assert torch.equal(old.state_dict()[name], tensor), name
    theirs = pair.theirs.decoder.layers[3].conv  # transposed: its first axis is the input's
    torch.testing.assert_close(pair.ours.decoder[3].weight, theirs.weight, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("settings", ["config.json", "none"])
def test_trap_the_first_release_names_its_tensors_otherwise(tmp_path: Path, settings: str) -> None:
    """`.th` files wrap each module once more, are pickles, read without running them, and come
    without a config.json: the published ratios tell what they are."""
    from alm_cli.checkpoints.load import load

    config = TINY if settings == "config.json" else {"num_filters": 4, "hidden_size": 16}
    pair = encodec_pair(tmp_path, **config)
    weights = {}
    ups = {str(3 + 3 * stage) for stage in range(len(pair.theirs.config.upsampling_ratios))}
    for name, tensor in pair.theirs.state_dict().items():
        if name.startswith("quantizer"):
            name = name.replace("layers", "vq.layers").replace("codebook", "_codebook")
        else:
            up = name.startswith("decoder") and name.split(".")[2] in ups
            name = name.replace(".layers.", ".model.")
            name = name.replace(".conv.", ".convtr.convtr." if up else ".conv.conv.")
            name = name.replace("parametrizations.weight.original0", "weight_g")
            name = name.replace("parametrizations.weight.original1", "weight_v")
        weights[name] = tensor
    (tmp_path / "model.safetensors").unlink()
    if settings == "none":
        (tmp_path / "config.json").unlink()
    torch.save(weights, tmp_path / "encodec_24khz.th")
    wave = recording(400)
    assert torch.equal(load(tmp_path).model.encode(wave), pair.ours.encode(wave))
    loaded = load(tmp_path / "encodec_24khz.th").model
    assert torch.equal(loaded.encode(wave), pair.ours.encode(wave))
    assert loaded.vocabularies == pair.ours.vocabularies


def test_any_chunking_of_the_wave_gives_the_same_codes(
    pair: EncodecPair, tiny: EncodecPair
) -> None:
    wave = recording(8011)
    for ends in ([7 * HOP], [7 * HOP, 8 * HOP, 20 * HOP]):
        streaming_equals_whole(lambda x, s: pair.ours.encode(x, 8, s), wave, ends)
    wave = recording(1601)
    for size in (56, 64, 72, 400, 1600):
        streaming_equals_whole(lambda x, s: tiny.ours.encode(x, None, s), wave, every(size, 1601))
    ends = every(8, 1601)[6:]
    streaming_equals_whole(lambda x, s: tiny.ours.encode(x, None, s), wave, ends)


def test_any_chunking_of_the_codes_gives_the_same_wave(
    pair: EncodecPair, tiny: EncodecPair
) -> None:
    codes = torch.randint(0, 1024, (1, 8, 30))
    for ends in ([7], [7, 8, 29]):
        streaming_equals_whole(pair.ours.decode, codes, ends)
    codes = torch.randint(0, 64, (2, 8, 200))
    for ends in ([7, 8, 9, 150], every(1, 200)[6:], every(64, 200)):
        streaming_equals_whole(tiny.ours.decode, codes, ends)


def test_one_stream_may_be_one_short_call(tiny: EncodecPair) -> None:
    for length in (1, 9, 48):
        wave = recording(length)
        streaming_equals_whole(lambda x, s: tiny.ours.encode(x, None, s), wave, [])
        streaming_equals_whole(tiny.ours.decode, tiny.ours.encode(wave), [])


def test_a_batch_is_its_rows_to_the_last_bit(pair: EncodecPair) -> None:
    wave = recording(4000, batch=3)
    codes = pair.ours.encode(wave, 8)
    rows = [pair.ours.encode(row, 8) for row in wave.split(1)]
    assert torch.equal(codes, torch.cat(rows))
    assert_same_codes(pair, wave, 6.0)
    waves = torch.cat([pair.ours.decode(row) for row in codes.split(1)])
    assert torch.equal(pair.ours.decode(codes), waves)


def test_nothing_in_is_nothing_out(tiny: EncodecPair) -> None:
    codes = tiny.ours.encode(torch.zeros(2, 1, 0), 3)
    assert codes.shape == (2, 3, 0) and codes.dtype == torch.int64
    assert tiny.ours.decode(codes).shape == (2, 1, 0)


def test_it_computes_in_bfloat16_with_codebooks_in_float32(tmp_path: Path) -> None:
    from alm_cli.runtime import place

    model = place(encodec_pair(tmp_path, **TINY).ours, torch.device("cpu"), torch.bfloat16)
    wave = recording(900)
    codes = model.encode(wave)
    assert model.decode(codes).dtype == torch.float32
    assert model.quantizer.codebooks[0].vectors.dtype == torch.float32


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("norm_type", "layer_norm"),
        ("normalize", True),
        ("chunk_length_s", 1.0),
        ("overlap", 0.01),
        ("pad_mode", "circular"),
        ("trim_right_ratio", 0.5),
        ("codebook_dim", 8),
        ("a_new_idea", True),
        ("upsampling_ratios", [8, "5"]),
        ("num_filters", -32),
        ("sampling_rate", 24_000.5),
        ("target_bandwidths", []),
        ("target_bandwidths", [900_000.0]),
        ("num_residual_layers", 10_000),
        ("use_conv_shortcut", "yes"),
    ],
)
def test_a_setting_that_would_change_the_mathematics_is_refused(
    setting: str, value: object
) -> None:
    with pytest.raises(ModelError, match=setting):
        EncodecConfig.from_hub({"model_type": "encodec", setting: value})


@pytest.mark.parametrize("name", ["encodec_24khz", "encodec_24khz_th"])
def test_the_published_checkpoints_fit(name: str) -> None:
    theirs = header(name)
    assert FAMILY.sniff is not None
    config = EncodecConfig.from_hub({})
    assert EncodecConfig.from_hub(FAMILY.sniff(theirs, {}) or {"none": 1}) == config
    with torch.device("meta"):
        model = Encodec(config)
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {step.target for step in KEYS.plan(theirs, ours)} == set(ours)
    # 93.1 MB of float32 is what the hub says that the file has.
    assert round(sum(map(prod, theirs.values())) * 4 / 1e6, 1) == 93.1


def test_other_tensors_are_not_taken_for_encodec() -> None:
    shapes = header("encodec_24khz_th")
    assert FAMILY.sniff is not None
    backwards = shapes | {"encoder.model.13.lstm.weight_ih_l0_reverse": (2048, 512)}
    no_books = {name: shape for name, shape in shapes.items() if "embed" not in name}
    scalars = dict.fromkeys(shapes, ())
    other_ratio = shapes | {"encoder.model.3.conv.conv.weight_v": (64, 32, 6)}
    for found in ({}, backwards, no_books, scalars, other_ratio):
        assert FAMILY.sniff(found, {}) is None
