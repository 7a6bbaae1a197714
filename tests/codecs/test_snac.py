"""SNAC against what its package makes with the same random weights, trap by trap, and its laws."""

from __future__ import annotations

import json
import warnings
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from alm_cli.checkpoints.load import load
from alm_cli.codecs.snac import FAMILY, KEYS, Snac, SnacConfig
from alm_cli.errors import ModelError
from alm_cli.nn.noise import normal_noise
from alm_cli.nn.state import State
from alm_cli.systems.codec import Codec
from alm_cli.values import Audio
from tests.laws import every, past_is_fixed, pieces, streaming_equals_whole
from tests.oracles import header
from tests.random_weights import model_with, random_weights, recording, reference_with

GOLDEN = Path(__file__).parents[1] / "fixtures" / "golden" / "snac.safetensors"
SPEECH = {
    "sampling_rate": 24_000,
    "encoder_dim": 48,
    "encoder_rates": [2, 4, 8, 8],
    "decoder_dim": 1024,
    "decoder_rates": [8, 8, 4, 2],
    "attn_window_size": None,
    "codebook_size": 4096,
    "codebook_dim": 8,
    "vq_strides": [4, 2, 1],
    "noise": True,
    "depthwise": True,
}
MUSIC = SPEECH | {
    "sampling_rate": 32_000,
    "encoder_dim": 64,
    "encoder_rates": [2, 3, 8, 8],
    "decoder_dim": 1536,
    "decoder_rates": [8, 8, 3, 2],
    "attn_window_size": 32,
    "vq_strides": [8, 4, 2, 1],
}
PUBLISHED = {"24khz": SPEECH, "32khz": MUSIC, "44khz": MUSIC | {"sampling_rate": 44_100}}
# An odd ratio, windows of attention, three levels.
TINY = MUSIC | {
    "encoder_dim": 16,
    "encoder_rates": [2, 3],
    "decoder_dim": 64,
    "decoder_rates": [3, 2],
    "attn_window_size": 4,
    "codebook_size": 64,
    "codebook_dim": 4,
    "vq_strides": [4, 2, 1],
}
PLAIN = TINY | {"attn_window_size": None, "noise": False, "depthwise": False}
MODELS = {"tiny": TINY, "plain": PLAIN, "24khz": SPEECH, "32khz": MUSIC}
# Edges of a frame and of a group of frames, and primes.
LENGTHS = {
    "tiny": (1, 5, 6, 7, 23, 24, 25, 167, 168, 169, 997),
    "plain": (1, 23, 24, 25, 997),
    "24khz": (1, 2, 3, 17, 89, 251, 509, 511, 512, 513, 997, 1021, 1499, 1999, 2047, 2048, 2049)
    + (3583, 3584, 3585, 4097, 5003, 6143),
    "32khz": (1, 383, 384, 385, 2687, 2688, 9973, 12_288, 12_289),
}

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.oracle]


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    """What snac 1.2.1 makes of MODELS with `random_weights`: see `package_golden`.

    `codes.MODEL.N` of N samples of `recording`, dense; of the small models also `wave.MODEL.N`,
    decoded without noise, and `noisy.MODEL.N` with ours of seed 7.
    """
    return load_file(GOLDEN)


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    """The package's names and shapes for one of MODELS."""
    if name in PUBLISHED:
        return header(f"snac_{name}")
    with safe_open(GOLDEN, framework="pt") as opened:
        kept: dict[str, list[int]] = json.loads(opened.metadata()[f"shapes.{name}"])
    return {key: tuple(shape) for key, shape in kept.items()}


def model_of(name: str) -> Snac:
    """Our model with the weights that the stored tensors were made with."""
    model = model_with(FAMILY, MODELS[name], random_weights(shapes_of(name)))
    assert isinstance(model, Snac)
    return model


@pytest.fixture(scope="module")
def tiny() -> Snac:
    """Hop 6, groups of 4 frames."""
    return model_of("tiny")


@pytest.fixture(scope="module")
def speech() -> Snac:
    """The published architecture at 24 kHz."""
    return model_of("24khz")


@pytest.fixture(scope="module")
def music() -> Snac:
    """The published architecture at 32 and 44.1 kHz."""
    return model_of("32khz")


def package_model(name: str) -> Any:
    """The original package's model with the same weights; skips where it is absent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it compiles by a way that torch gives up
        package = pytest.importorskip("snac", reason="snac is not installed")
    return reference_with(lambda: package.SNAC(**MODELS[name]))[0]


def dense(levels: list[Tensor], strides: tuple[int, ...]) -> Tensor:
    """Codes of levels of different lengths -> [B, K, F]."""
    pairs = zip(levels, strides, strict=True)
    return torch.stack([codes.repeat_interleave(stride, -1) for codes, stride in pairs], 1)


@torch.no_grad()
def package_golden(name: str, theirs: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """What is stored of one model, from the original package."""
    made = {}
    for length in LENGTHS[name]:
        levels = theirs.encode(recording(length))
        strides = tuple(MODELS[name]["vq_strides"])
        made[f"codes.{name}.{length}"] = dense(levels, strides).to(torch.int16)
        if name in PUBLISHED:
            continue
        for kind, seed in (("wave", None), ("noisy", 7)):
            take_noise(theirs, seed, monkeypatch)
            made[f"{kind}.{name}.{length}"] = theirs.decode(levels)
    return made


def take_noise(theirs: Any, seed: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the package's noise blocks add ours, or none, in place of torch's."""
    blocks = [part for part in theirs.modules() if hasattr(part, "linear")]
    for stream, block in enumerate(blocks):
        monkeypatch.setattr(block, "forward", partial(_with_noise, block.linear, seed, stream))


def _with_noise(linear: Any, seed: int | None, stream: int, x: Tensor) -> Tensor:
    """What a noise block does."""
    if seed is None:
        return x
    return x + normal_noise(seed, stream, 0, x.shape[-1]) * linear(x)


def decoded(model: Snac, codes: Tensor, seed: int | None) -> Tensor:
    """codes [B, K, F] -> wave [B, 1, T] in one stream."""
    state = State(seed)
    state.last = True
    return model.decode(codes, state)


@pytest.mark.parametrize("name", MODELS)
def test_codes_and_waves_are_those_of_the_package(
    name: str, golden: dict[str, Tensor], request: pytest.FixtureRequest
) -> None:
    fixture = {"tiny": "tiny", "24khz": "speech", "32khz": "music"}.get(name)
    model = request.getfixturevalue(fixture) if fixture else model_of(name)
    found = []
    for length in LENGTHS[name]:
        codes, theirs = model.encode(recording(length)), golden[f"codes.{name}.{length}"].long()
        assert codes.shape == theirs.shape and torch.equal(codes, theirs), length
        found.append(codes)
        for kind, seed in (("wave", None), ("noisy", 7)):
            wave = golden.get(f"{kind}.{name}.{length}")
            if wave is not None:
                ours = decoded(model, codes, seed)
                torch.testing.assert_close(ours, wave, atol=2e-5, rtol=0)
    used = [len(book.unique()) for book in torch.cat(found, 2)[0]]
    assert min(used) > 6 and max(used) > 15, "codes that do not vary prove nothing"


@pytest.mark.parametrize("name", MODELS)
def test_the_package_makes_what_is_stored(
    name: str, golden: dict[str, Tensor], shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alm_cli.files.audio import read_audio

    theirs = package_model(name)
    for key, tensor in package_golden(name, theirs, monkeypatch).items():
        if key.startswith("codes"):
            assert torch.equal(tensor, golden[key]), key
        else:
            torch.testing.assert_close(tensor, golden[key], atol=2e-5, rtol=0)
    ours = model_of(name)
    file = next((shared / "audio").rglob("leopard_*.wav"))
    wave = torch.from_numpy(read_audio(file).samples[:1, 20_000:35_000].copy())[None]
    levels, codes = theirs.encode(wave), ours.encode(wave)
    assert torch.equal(codes, dense(levels, ours.strides))
    take_noise(theirs, None, monkeypatch)
    torch.testing.assert_close(ours.decode(codes), theirs.decode(levels), atol=2e-4, rtol=0)


def test_trap_the_signal_is_filled_up_to_whole_windows_and_whole_slow_codes(
    tiny: Snac, speech: Snac, music: Snac
) -> None:
    assert (tiny.hop, tiny.frame_multiple) == (6, 4)
    assert (speech.hop, speech.frame_multiple) == (512, 4)
    assert (music.hop, music.frame_multiple) == (384, 32)
    for length in (1, 23, 24, 25, 48, 49):
        assert tiny.encode(recording(length)).shape[2] == -(-length // 24) * 4


def test_trap_levels_have_different_lengths(tiny: Snac) -> None:
    codes = tiny.encode(recording(500))
    assert tiny.strides == (4, 2, 1)
    for book, stride in zip(codes[0], tiny.strides, strict=True):
        groups = book.view(-1, stride)
        assert torch.equal(groups, groups[:, :1].expand_as(groups))
    assert not torch.equal(codes[0, 2].view(-1, 2)[:, 0], codes[0, 2].view(-1, 2)[:, 1])


def test_trap_odd_ratios_have_an_output_padding(tiny: Snac) -> None:
    for frames in (1, 4, 9):
        codes = torch.zeros(1, 3, frames, dtype=torch.int64)
        assert tiny.decode(codes).shape == (1, 1, frames * 6)


def test_trap_the_noise_is_that_of_the_seed_in_any_chunking(tiny: Snac) -> None:
    codes = tiny.encode(recording(900))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    whole = decoded(tiny, codes, 7)
    assert torch.equal(torch.get_rng_state(), before)
    for ends in (every(5, codes.shape[2]), [1, 4, 100]):
        state, parts, made = State(7), pieces(codes, ends), []
        for index, part in enumerate(parts, 1):
            state.last = index == len(parts)
            made.append(tiny.decode(part, state))
        torch.testing.assert_close(torch.cat(made, -1), whole, atol=2e-5, rtol=0)
    other, none = decoded(tiny, codes, 8), decoded(tiny, codes, None)
    assert (whole - other).abs().max() > 0.1 and (whole - none).abs().max() > 0.1
    assert torch.equal(none, tiny.decode(codes))
    rows = decoded(tiny, codes.repeat(2, 1, 1), 7)
    torch.testing.assert_close(rows[1:], whole, atol=2e-5, rtol=0)


def test_trap_the_wave_is_not_trimmed_by_the_model_but_by_the_system(tiny: Snac) -> None:
    assert tiny.decode(tiny.encode(recording(25))).shape[2] == 48
    codec = Codec(tiny, "tiny", "0" * 64, device=torch.device("cpu"))  # type: ignore[arg-type]
    for length in (*range(1, 26), 333):
        tokens = codec.encode(Audio(recording(length)[0].numpy(), 24_000))
        assert tokens.origin.strides == (4, 2, 1)
        audio = codec.decode(tokens)
        assert audio.length == length
    again, silent = codec.decode(tokens), codec.decode(tokens, noise_seed=None)
    assert (again.samples == audio.samples).all() and (silent.samples != audio.samples).any()


def test_trap_attention_stays_within_its_window(music: Snac) -> None:
    attention = music.encoder[5]
    x = torch.rand(1, 1024, 96, generator=torch.Generator().manual_seed(0))
    past_is_fixed(attention, x, 64, 64)
    changed = x.clone()
    changed[..., 31] += 1
    assert not torch.equal(attention(changed)[..., 0], attention(x)[..., 0])
    assert torch.equal(attention(changed)[..., 32:], attention(x)[..., 32:])


def test_trap_the_file_is_a_pickle_that_is_not_executed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    torch.save(random_weights(shapes_of("tiny")), tmp_path / "pytorch_model.bin")
    loaded, wave = load(tmp_path).model, recording(100)
    assert torch.equal(loaded.encode(wave), model_of("tiny").encode(wave))
    torch.save({"x": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="not a plain file of weights"):
        load(tmp_path)


class Evil:
    """Says so when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("executed",)


def test_any_chunking_gives_the_same(tiny: Snac, speech: Snac, music: Snac) -> None:
    wave = recording(997)
    codes = tiny.encode(wave)
    for size in (24, 480):
        streaming_equals_whole(lambda x, s: tiny.encode(x, None, s), wave, every(size, 997))
    for size in (3, 4, 50):
        streaming_equals_whole(tiny.decode, codes, every(size, codes.shape[2]), atol=2e-5)
    for model, length in ((speech, 9000), (music, 20_000)):
        size, wave = model.hop * model.frame_multiple, recording(length)
        streaming_equals_whole(lambda x, s, m=model: m.encode(x, None, s), wave, [size])
    streaming_equals_whole(speech.decode, speech.encode(recording(4000)), [1, 5], atol=1e-4)


def test_whole_is_in_blocks(tiny: Snac, monkeypatch: pytest.MonkeyPatch) -> None:
    wave = recording(1500)
    codes = tiny.encode(wave)
    waves = tiny.decode(codes)
    monkeypatch.setattr(tiny, "block_frames", 12)
    assert torch.equal(tiny.encode(wave), codes)
    torch.testing.assert_close(tiny.decode(codes), waves, atol=2e-5, rtol=0)


def test_fewer_codebooks_are_the_first_ones(tiny: Snac) -> None:
    wave = recording(700)
    codes = tiny.encode(wave)
    for count in (1, 2):
        assert torch.equal(tiny.encode(wave, count), codes[:, :count])
        assert tiny.decode(codes[:, :count]).shape == tiny.decode(codes).shape


def test_a_batch_is_its_rows_to_the_last_bit(tiny: Snac) -> None:
    wave = recording(700, batch=3)
    codes = tiny.encode(wave)
    assert torch.equal(codes, torch.cat([tiny.encode(row) for row in wave.split(1)]))
    waves = torch.cat([tiny.decode(row) for row in codes.split(1)])
    assert torch.equal(tiny.decode(codes), waves)


def test_nothing_in_is_nothing_out(tiny: Snac) -> None:
    codes = tiny.encode(torch.zeros(2, 1, 0), 2)
    assert codes.shape == (2, 2, 0) and codes.dtype == torch.int64
    assert tiny.decode(codes).shape == (2, 1, 0)


def test_it_computes_in_bfloat16_with_codebooks_in_float32() -> None:
    from alm_cli.runtime import place

    model = place(model_of("tiny"), torch.device("cpu"), torch.bfloat16)
    codes = model.encode(recording(900))
    assert decoded(model, codes, 3).dtype == torch.float32
    assert model.quantizer.books[0].vectors.dtype == torch.float32


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("decoder_rates", [2, 3, 8, 8]),
        ("vq_strides", [8, 3, 1]),
        ("vq_strides", [4, 2]),
        ("attn_window_size", 0),
        ("attn_window_size", "all"),
        ("encoder_dim", 3),
        ("latent_dim", 100),
        ("noise", "a little"),
        ("sampling_rate", None),
        ("a_new_idea", True),
    ],
)
def test_a_setting_that_would_change_the_mathematics_is_refused(
    setting: str, value: object
) -> None:
    # Attention needs heads of 64 features, so an odd width is refused by the name of its window.
    named = "attn_window_size" if setting == "encoder_dim" else setting
    with pytest.raises(ModelError, match=named):
        SnacConfig.from_hub(MUSIC | {setting: value})


def test_settings_of_others_are_not_taken_for_its_own() -> None:
    assert FAMILY.sniff is not None
    assert FAMILY.sniff(header("snac_24khz"), {}) is None
    assert FAMILY.sniff({"x": (1,)}, SPEECH) is None
    assert FAMILY.sniff(header("dac_44khz_release"), {"metadata": {"kwargs": {}}}) is None
    assert FAMILY.sniff(header("snac_24khz"), SPEECH) == SPEECH


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_checkpoints_fit(name: str) -> None:
    theirs = header(f"snac_{name}")
    with torch.device("meta"):
        model = Snac(SnacConfig.from_hub(PUBLISHED[name]))
    ours = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert {step.target for step in KEYS.plan(theirs, ours)} == set(ours)
    # What the hub says that the file has, of which some 0.1 MB is torch's.
    size = sum(map(prod, theirs.values())) * 4 / 1e6
    assert round(size + 0.12, 1) == {"24khz": 79.5, "32khz": 218.3, "44khz": 218.3}[name]
