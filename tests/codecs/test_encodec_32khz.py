"""MusicGen's EnCodec at 32 kHz against `transformers`: centred, four books of 2048, in streams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from alm_cli.checkpoints.load import load
from alm_cli.codecs.encodec import FAMILY, KEYS
from alm_cli.nn.state import State
from tests.clips import recorded, synthetic
from tests.laws import every, past_is_fixed, streaming_equals_whole
from tests.oracles import EncodecPair, assert_same_codes, encodec_pair, header

PUBLISHED: dict[str, Any] = {
    "upsampling_ratios": [8, 5, 4, 4],
    "target_bandwidths": [2.2],
    "num_filters": 64,
    "sampling_rate": 32_000,
    "codebook_size": 2048,
    "use_causal_conv": False,
    "use_conv_shortcut": False,
}
TINY = PUBLISHED | {"num_filters": 4, "hidden_size": 16, "codebook_size": 64}
TINY |= {"upsampling_ratios": [4, 3], "target_bandwidths": [66.0]}
LENGTHS = (1, 2, 3, 17, 639, 640, 641, 977, 1279, 1280, 1913, 2239, 4480, 4799)

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> EncodecPair:
    """The published architecture."""
    return encodec_pair(tmp_path_factory.mktemp("encodec"), **PUBLISHED)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> EncodecPair:
    """Hop 12, with an odd ratio."""
    return encodec_pair(tmp_path_factory.mktemp("tiny"), **TINY)


@pytest.mark.parametrize("length", LENGTHS)
def test_codes_are_those_of_the_reference(pair: EncodecPair, length: int) -> None:
    codes = assert_same_codes(pair, synthetic(length), 2.2)
    assert codes.shape == (1, 4, -(-length // 640))


def test_real_recordings_have_the_codes_and_waves_of_the_reference(
    pair: EncodecPair, shared: Path
) -> None:
    for wave in recorded(shared, 6, 1920):
        codes = assert_same_codes(pair, wave, 2.2)
        torch.testing.assert_close(
            pair.ours.decode(codes), pair.their_wave(codes), atol=1e-5, rtol=0
        )


def test_a_long_wave_has_many_codes_and_those_of_the_reference(tiny: EncodecPair) -> None:
    codes = assert_same_codes(tiny, synthetic(20_011), 66.0)
    assert min(len(book.unique()) for book in codes[0]) > 40, "codes that do not vary prove nothing"
    for length in (*range(1, 30), *range(30, 120, 13)):
        assert_same_codes(tiny, synthetic(length), 66.0)
    for frames in (1, 2, 3, 40):
        codes = torch.randint(0, 64, (1, 4, frames))
        torch.testing.assert_close(
            tiny.ours.decode(codes), tiny.their_wave(codes), atol=1e-5, rtol=0
        )


def test_zeros_may_stand_where_the_signal_is_mirrored(tmp_path: Path) -> None:
    """The padding that AudioCraft's own settings ask for."""
    pair = encodec_pair(tmp_path, **(TINY | {"pad_mode": "constant"}))
    for length in (1, 5, 12, 101, 2003):
        codes = assert_same_codes(pair, synthetic(length), 66.0)
        torch.testing.assert_close(
            pair.ours.decode(codes), pair.their_wave(codes), atol=1e-5, rtol=0
        )


def test_any_chunking_of_the_wave_gives_the_same_codes(
    pair: EncodecPair, tiny: EncodecPair
) -> None:
    wave = synthetic(6011)
    for ends in ([640], [3 * 640, 4 * 640, 8 * 640]):
        streaming_equals_whole(lambda x, s: pair.ours.encode(x, None, s), wave, ends)
    for length in (1, 12, 13, 409):
        for size in (12, 120):
            ends = every(size, length)
            streaming_equals_whole(
                lambda x, s: tiny.ours.encode(x, None, s), synthetic(length), ends
            )


def test_any_chunking_of_the_codes_gives_the_same_wave(
    pair: EncodecPair, tiny: EncodecPair
) -> None:
    streaming_equals_whole(pair.ours.decode, torch.randint(0, 2048, (1, 4, 9)), [1, 2, 7])
    for frames in (1, 2, 40):
        codes = torch.randint(0, 64, (1, 4, frames))
        for size in (1, 7):
            streaming_equals_whole(tiny.ours.decode, codes, every(size, frames))


@torch.no_grad()
def test_trap_it_looks_ahead_and_so_owes_frames_until_the_end(pair: EncodecPair) -> None:
    wave, state = synthetic(12 * 640), State()
    assert pair.ours.encode(wave, 1, state).shape[2] == 8
    state.last = True
    assert pair.ours.encode(wave[..., :0], 1, state).shape[2] == 4
    # Its memory runs forwards: what is far ahead changes nothing.
    past_is_fixed(lambda x, _: pair.ours.encoder(x), wave, 9 * 640, 5)


def test_trap_the_skip_of_a_unit_is_the_identity(pair: EncodecPair) -> None:
    assert pair.ours.encoder[1].skip is None
    assert not any("shortcut" in name for name in header("encodec_32khz"))


def test_a_batch_is_its_rows_to_the_last_bit(tiny: EncodecPair) -> None:
    wave = synthetic(3000, batch=3)
    codes = tiny.ours.encode(wave)
    assert torch.equal(codes, torch.cat([tiny.ours.encode(row) for row in wave.split(1)]))
    rows = torch.cat([tiny.ours.decode(row) for row in codes.split(1)])
    assert torch.equal(tiny.ours.decode(codes), rows)


def test_the_published_checkpoint_fits() -> None:
    shapes = header("encodec_32khz")
    assert FAMILY.sniff is not None
    found = FAMILY.read_config(FAMILY.sniff(shapes, {}) or {})
    assert found == FAMILY.read_config(PUBLISHED)
    with torch.device("meta"):
        model = FAMILY.model(found)
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {step.target for step in KEYS.plan(shapes, ours)} == set(ours)
    assert (model.rate, model.hop, model.vocabularies) == (32_000, 640, (2048,) * 4)


AUDIOCRAFT = """\
solver: compression
sample_rate: {rate}
channels: 1
encodec:
  autoencoder: seanet
  sample_rate: ${{sample_rate}}
  causal: {causal}
  renormalize: {renormalize}
seanet:
  dimension: 128
  causal: ${{encodec.causal}}
  ratios:
  - 4
  - 3
  pad_mode: {padding}
transformer_lm:
  causal: true
"""


def audiocraft(folder: Path, pair: EncodecPair, **settings: object) -> Path:
    """The file that AudioCraft exports: the names of the first release, and settings as YAML."""
    weights = {}
    for name, tensor in pair.theirs.state_dict().items():
        if name.startswith("quantizer"):
            name = name.replace("layers", "vq.layers").replace("codebook", "_codebook")
        else:
            up = name.startswith("decoder") and name.split(".")[2] in {"3", "6"}
            name = name.replace(".layers.", ".model.")
            name = name.replace(".conv.", ".convtr.convtr." if up else ".conv.conv.")
            name = name.replace("parametrizations.weight.original0", "weight_g")
            name = name.replace("parametrizations.weight.original1", "weight_v")
        weights[name] = tensor
    said = {"rate": 16_000, "causal": "false", "renormalize": "false", "padding": "reflect"}
    text = AUDIOCRAFT.format(**(said | settings))
    value = {"best_state": weights, "xp.cfg": text, "version": "1.3.0", "exported": True}
    torch.save(value, folder / "compression_state_dict.bin")
    return folder / "compression_state_dict.bin"


def test_a_checkpoint_of_audiocraft_says_what_its_shapes_do_not(
    tiny: EncodecPair, tmp_path: Path
) -> None:
    model = load(audiocraft(tmp_path, tiny)).model
    wave = synthetic(2003)
    assert torch.equal(model.encode(wave), tiny.ours.encode(wave))
    assert model.rate == 16_000 and model.vocabularies == tiny.ours.vocabularies
    other = load(audiocraft(tmp_path, tiny, padding="constant")).model
    assert not torch.equal(other.encode(wave), tiny.ours.encode(wave))
    causal = load(audiocraft(tmp_path, tiny, causal="true")).model
    assert causal.encoder[0].right == 0 and tiny.ours.encoder[0].right > 0


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("rate", "many", "sampling_rate"),
        ("padding", "circular", "pad_mode"),
        ("renormalize", "true", "normalize"),
    ],
)
def test_what_audiocraft_says_is_read_strictly(
    tiny: EncodecPair, tmp_path: Path, setting: str, value: str, named: str
) -> None:
    from alm_cli.errors import ModelError

    with pytest.raises(ModelError, match=named):
        load(audiocraft(tmp_path, tiny, **{setting: value}))
