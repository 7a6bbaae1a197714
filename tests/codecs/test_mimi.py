"""Mimi against `transformers` and `moshi` with the same weights, trap by trap, and its laws."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from alm_cli.checkpoints.load import build, load
from alm_cli.checkpoints.reader import Checkpoint
from alm_cli.codecs.mimi import FAMILY, KEYS, Mimi, MimiConfig
from alm_cli.errors import ModelError
from alm_cli.nn.state import State
from tests.fixtures.golden import make_mimi_kyutai as kyutai
from tests.laws import every, past_is_fixed, pieces, streaming_equals_whole
from tests.oracles import header

HOP = 1920
# Edges of one frame, of two, of seven, of a block of 25, and primes.
LENGTHS = (1, 2, 3, 5, 17, 959, 960, 961, 1919, 1920, 1921, 2557, 3839, 3840, 3841, 5003)
LENGTHS += (7919, 13_439, 13_440, 13_441, 24_001, 48_001)
TINY = {"num_filters": 4, "hidden_size": 16, "upsampling_ratios": [4, 2], "num_hidden_layers": 2}
TINY |= {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 24}
TINY |= {"codebook_size": 64, "codebook_dim": 8, "vector_quantization_hidden_dimension": 8}
TINY |= {"num_quantizers": 6, "upsample_groups": 16, "sliding_window": 9}
VARIANTS = {
    "two residual units, dilated": {"num_residual_layers": 2, "dilation_growth_rate": 3},
    "a convolution on the skip": {"use_conv_shortcut": True},
    "units as wide inside": {"compress": 1},
    "shared keys": {"num_key_value_heads": 1},
    "two semantic books": {"num_semantic_quantizers": 2},
    "stereo": {"audio_channels": 2},
    "other kernels": {"kernel_size": 5, "last_kernel_size": 7, "residual_kernel_size": 5},
    "three ratios": {"upsampling_ratios": [5, 3, 2]},
    "a window longer than the signal": {"sliding_window": 900},
}
# How this version of the library calls in memory what its files call otherwise.
IN_MEMORY = {
    "encoder.encoder_seanet.": "encoder.",
    "encoder.encoder_transformer.": "encoder_transformer.",
    "encoder.downsample.": "downsample.",
    "decoder.decoder_seanet.": "decoder.",
    "decoder.decoder_transformer.": "decoder_transformer.",
    "decoder.upsample.": "upsample.",
}

pytestmark = pytest.mark.oracle


@dataclass(frozen=True)
class Pair:
    """The same weights twice: in another program, and loaded by us from its checkpoint."""

    theirs: Any
    ours: Mimi

    def their_codes(self, wave: Tensor, books: int | None = None) -> Tensor:
        """wave [B, C, T], filled up to whole frames -> codes [B, K, F]."""
        filled = F.pad(wave, (0, -wave.shape[-1] % self.ours.hop))
        codes: Tensor = self.theirs.encode(filled, num_quantizers=books).audio_codes
        return codes

    def their_wave(self, codes: Tensor) -> Tensor:
        """codes [B, K, F] -> wave [B, C, T]."""
        wave: Tensor = self.theirs.decode(codes).audio_values
        return wave


@torch.no_grad()
def reference(**config: Any) -> Any:
    """A model of the library with weights under which everything in it matters."""
    from transformers import MimiConfig as TheirConfig
    from transformers import MimiModel

    torch.manual_seed(0)
    model = MimiModel(TheirConfig(**config)).eval()
    for name, parameter in model.named_parameters():
        if "transformer" in name and parameter.dim() > 1:
            parameter.normal_(0, parameter.shape[1] ** -0.5)
        elif name.endswith("_scale.scale"):
            parameter.fill_(0.3)
        elif "layernorm" in name:
            parameter.add_(0.1 * torch.randn_like(parameter))
    seconds = torch.linspace(0, 1, 24_000)
    sweep = torch.sin(8000 * seconds**2) * seconds + torch.randn(24_000) * 0.1
    latents = model.encoder(sweep.expand(1, model.config.audio_channels, -1)).latents
    quantizer = model.quantizer
    _fill(quantizer.semantic_residual_vector_quantizer, latents)
    _fill(quantizer.acoustic_residual_vector_quantizer, latents)
    loud = model.decode(model.encode(sweep.expand(1, model.config.audio_channels, -1)).audio_codes)
    model.decoder.decoder_seanet.layers[-1].conv.weight.mul_(0.2 / loud.audio_values.std())
    return model


def _fill(quantizer: Any, latents: Tensor) -> None:
    """Spread each codebook over what it will code; as they start, all zeros, every code is 0."""
    residual = quantizer.input_proj(latents)[0].T
    for layer in quantizer.layers:
        book = layer.codebook
        vectors = torch.randn(book.embed_sum.shape) * residual.std(0) + residual.mean(0)
        book.cluster_usage.uniform_(0.5, 20)
        book.cluster_usage[0] = 0  # training forgot it: what divides is then 1e-5
        book.embed_sum.copy_(vectors * book.cluster_usage.clamp(min=1e-5)[:, None])
        residual = residual - layer.decode(layer.encode(residual.T[None]))[0].T


@pytest.fixture(scope="module")
def pair() -> Pair:
    """The published architecture."""
    theirs = reference()
    tensors = {}
    for name, tensor in theirs.state_dict().items():
        spelt = next((old for old in IN_MEMORY if name.startswith(old)), "")
        tensors[IN_MEMORY.get(spelt, "") + name.removeprefix(spelt)] = tensor
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert shapes == header("mimi"), "the oracle has the names and shapes of the published file"
    checkpoint = Checkpoint(shapes, (), lambda name: tensors[name])
    ours = build(FAMILY, MimiConfig.from_hub({}), checkpoint)
    assert isinstance(ours, Mimi)
    return Pair(theirs, ours)


def written(folder: Path, **config: Any) -> Pair:
    """A small pair, through the files that the library writes."""
    theirs = reference(**(TINY | config))
    theirs.save_pretrained(folder)
    ours = load(folder).model
    assert isinstance(ours, Mimi)
    return Pair(theirs, ours)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Hop 16, and an attention that sees nine vectors."""
    return written(tmp_path_factory.mktemp("tiny"))


def recording(length: int, channels: int = 1, batch: int = 1) -> Tensor:
    """wave [B, C, T]: tones, noise, clicks and silence."""
    generator = torch.Generator().manual_seed(length)
    places = torch.arange(length) / 24_000
    tone = torch.sin(2 * torch.pi * (200 + 3000 * places) * places)
    noise = torch.randn(batch, channels, length, generator=generator)
    clicks = (torch.rand(batch, channels, length, generator=generator) > 0.999).float()
    loud = (torch.sin(9 * places) > -0.3).float()
    return (0.3 * tone + 0.1 * noise + 0.5 * clicks) * loud


@torch.no_grad()
def assert_same_codes(pair: Pair, wave: Tensor, books: int | None = None) -> Tensor:
    """Our codes, which are theirs; the message says how near a tie the first difference is."""
    theirs, ours = pair.their_codes(wave, books), pair.ours.encode(wave, books)
    assert ours.shape == theirs.shape
    differing = (ours != theirs).nonzero().tolist()
    if differing:
        margin = _margin(pair, wave, theirs, *differing[0])
        raise AssertionError(
            f"{len(differing)} of {theirs.numel()} codes differ at {wave.shape[-1]} samples, first "
            f"{differing[0]}, relative margin {margin:.1e} (float noise if below 1e-5)"
        )
    return ours


def _margin(pair: Pair, wave: Tensor, codes: Tensor, row: int, book: int, frame: int) -> float:
    """How much farther, relatively, the second nearest vector is than the nearest."""
    filled = F.pad(wave[row : row + 1], (0, -wave.shape[-1] % pair.ours.hop))
    quantizer = pair.ours.quantizer
    semantic = len(quantizer.semantic.codebooks)
    branch, first = (quantizer.semantic, 0) if book < semantic else (quantizer.acoustic, semantic)
    residual = branch.before(pair.theirs.encoder(filled).latents)[0, :, frame].double()
    for level in range(first, book):
        vectors = branch.codebooks[level - first].vectors
        residual = residual - vectors[codes[row, level, frame]]
    distance = (branch.codebooks[book - first].vectors - residual).square().sum(-1)
    nearest, second = distance.topk(2, largest=False).values.tolist()
    return float((second - nearest) / max(second, 1e-30))


@pytest.mark.parametrize("length", LENGTHS)
def test_codes_are_those_of_the_reference(pair: Pair, length: int) -> None:
    codes = assert_same_codes(pair, recording(length))
    assert codes.shape == (1, 32, -(-length // HOP))
    if length > 40_000:
        used = [len(book.unique()) for book in codes[0]]
        assert min(used) > 11, "codes that do not vary prove nothing"


def test_codes_of_speech_are_those_of_the_reference(pair: Pair) -> None:
    from alm_cli.files.audio import read_audio

    sample = Path(__file__).parents[2] / "sample_audio"
    for file in (sample / "speech.wav", sample / "music.wav"):
        wave = torch.from_numpy(read_audio(file).samples)[:1, 5000:30_000]
        assert wave.std() > 0.01
        assert_same_codes(pair, wave[None])


def test_any_number_of_books_is_a_prefix(pair: Pair) -> None:
    wave = recording(6000)
    for books in (1, 2, 8, 31, 32):
        assert assert_same_codes(pair, wave, books).shape[1] == books
    assert torch.equal(pair.ours.encode(wave, 8), pair.ours.encode(wave)[:, :8])
    assert pair.ours.vocabularies == (2048,) * 32


@torch.no_grad()
def test_the_wave_is_that_of_the_reference(pair: Pair) -> None:
    several = [torch.randint(0, 2048, (1, books, frames)) for frames, books in ((1, 1), (9, 8))]
    for codes in (*several, pair.ours.encode(recording(27 * HOP))):
        theirs = pair.their_wave(codes)
        loudness = theirs.std()  # a few books make little of the sound of all
        assert loudness > 1e-4
        ours = pair.ours.decode(codes)
        torch.testing.assert_close(ours / loudness, theirs / loudness, atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_configurations_are_read_and_built(config: dict[str, object], tmp_path: Path) -> None:
    pair = written(tmp_path, **config)
    for length in (1, 15, 16, 17, 101, 1409):
        codes = assert_same_codes(pair, recording(length, pair.ours.channels))
        theirs = pair.their_wave(codes)
        torch.testing.assert_close(pair.ours.decode(codes), theirs, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_trap_the_skip_is_the_input_itself(pair: Pair) -> None:
    unit = pair.ours.encoder[1]
    assert unit.skip is None
    x = recording(100).expand(1, 64, -1)
    y = unit.second(unit.between(unit.first(unit.before(x))))
    assert torch.equal(unit(x), x + y)


@torch.no_grad()
def test_trap_starts_are_silent_except_before_the_last_resampling(pair: Pair) -> None:
    first, down = pair.ours.encoder[0], pair.ours.down
    one = torch.ones(1, 1, 8)
    assert torch.allclose(first(one)[..., 0], first.weight[..., -1].T + first.bias, atol=1e-6)
    same = torch.ones(1, 512, 6)
    frames = down(same)
    torch.testing.assert_close(frames[..., 0], frames[..., 2], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(frames[..., 0], down.weight[..., 2:].sum((1, 2))[None], atol=1e-2)


def test_trap_the_last_kernel_is_three(pair: Pair) -> None:
    assert pair.ours.encoder[-1].weight.shape == (512, 1024, 3)
    assert pair.ours.decoder[-1].weight.shape == (1, 64, 3)


@torch.no_grad()
def test_trap_every_feature_is_upsampled_by_itself(pair: Pair) -> None:
    x = torch.zeros(1, 512, 5)
    x[0, 7, 2] = 1
    y = pair.ours.up(x)
    assert y.shape == (1, 512, 10)
    assert y.nonzero().tolist() == [[0, 7, place] for place in range(4, 8)]
    assert torch.equal(y[0, 7, 4:8], pair.ours.up.weight[7, 0])


@torch.no_grad()
def test_trap_both_branches_code_the_same_latent(tiny: Pair) -> None:
    quantizer, wave = tiny.ours.quantizer, recording(800)
    x = tiny.ours.down(tiny.ours.encoder_context(tiny.ours.encoder(wave).mT).mT)
    codes = tiny.ours.encode(wave)
    assert torch.equal(codes[:, :1], quantizer.semantic.encode(x))
    assert torch.equal(codes[:, 1:], quantizer.acoustic.encode(x)), "not of what is left of it"
    both = quantizer.semantic.decode(codes[:, :1]) + quantizer.acoustic.decode(codes[:, 1:])
    assert torch.equal(quantizer.decode(codes), both)


@torch.no_grad()
def test_trap_vectors_are_sums_over_clamped_numbers(tiny: Pair) -> None:
    theirs = tiny.theirs.quantizer.acoustic_residual_vector_quantizer.layers[2].codebook
    ours = tiny.ours.quantizer.acoustic.codebooks[2]
    assert theirs.cluster_usage[0] == 0
    assert torch.equal(ours.vectors, theirs.embed)
    assert ours.vectors[0].abs().max() > 1e-3


@torch.no_grad()
def test_trap_the_wave_is_filled_before_the_model_not_in_every_layer(pair: Pair) -> None:
    """`transformers` pads each layer's input; the authors' program pads the wave. We follow it."""
    wave = recording(4 * HOP - 700)
    ours = assert_same_codes(pair, wave)
    layered = pair.theirs.encode(wave).audio_codes
    assert torch.equal(ours[..., :-1], layered[..., :-1])
    assert not torch.equal(ours[..., -1], layered[..., -1])


@torch.no_grad()
def test_trap_the_attention_sees_250_vectors_with_its_own(pair: Pair, tmp_path: Path) -> None:
    assert {b.attention.window for b in pair.ours.encoder_context.blocks} == {250}
    one = written(tmp_path, num_hidden_layers=1).ours
    x = torch.randn(1, 40, 16)
    other = x.clone()
    other[:, 10] = torch.randn(16)  # adding a constant would be undone by the norm
    changed = (one.encoder_context(x) != one.encoder_context(other)).any(-1)[0]
    assert changed.nonzero().flatten().tolist() == list(range(10, 19))


@torch.no_grad()
def test_trap_codes_are_nearest_by_cdist(tiny: Pair) -> None:
    book = tiny.ours.quantizer.acoustic.codebooks[0]
    x = torch.randn(500, 8) + 30  # far from the origin: the order of operations decides
    assert torch.equal(book.encode(x), torch.cdist(x[None], book.vectors[None])[0].argmin(-1))


def kyutai_file(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> Path:
    """A checkpoint as the authors' program has it: no config.json, other names, fused weights."""
    folder.mkdir(exist_ok=True)
    file = folder / "tokenizer-tiny-checkpoint1.safetensors"
    tensors = kyutai.weights(dict(shapes))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return file


@pytest.fixture(scope="module")
def golden() -> tuple[dict[str, Tensor], dict[str, tuple[int, ...]]]:
    """What `moshi` computed, and the shapes of its weights."""
    with safe_open(kyutai.FILE, "pt") as opened:
        shapes = json.loads(opened.metadata()["shapes"])
    return load_file(kyutai.FILE), {name: tuple(shape) for name, shape in shapes.items()}


def test_codes_and_waves_are_those_of_moshi(
    golden: tuple[dict[str, Tensor], dict[str, tuple[int, ...]]], tmp_path: Path
) -> None:
    tensors, shapes = golden
    model = load(kyutai_file(tmp_path / "one", shapes)).model
    assert isinstance(model, Mimi) and model.hop == 8
    for length in kyutai.LENGTHS:
        codes = tensors[f"codes_{length}"].long()
        assert torch.equal(model.encode(kyutai.clip(length)), codes), length
        wave = tensors[f"wave_{length}"]
        torch.testing.assert_close(model.decode(codes), wave, atol=1e-4, rtol=1e-4)
    assert codes.shape == (1, 4, 201) and min(len(book.unique()) for book in codes[0]) > 13


def test_trap_the_hub_has_queries_and_keys_in_another_order(
    golden: tuple[dict[str, Tensor], dict[str, tuple[int, ...]]], tmp_path: Path
) -> None:
    """The same names would load, and the positions would turn the wrong features."""
    _, shapes = golden
    file = kyutai_file(tmp_path / "two", shapes)
    pairs = load(file).model
    assert isinstance(pairs, Mimi)
    wave, turned = kyutai.clip(400), {pairs.encoder_context.blocks[0].attention.rotary.style}
    halves = load(file).model
    assert isinstance(halves, Mimi)
    for block in (*halves.encoder_context.blocks, *halves.decoder_context.blocks):
        block.attention.rotary.style = "halves"
    assert turned == {"pairs"}
    assert not torch.equal(halves.encode(wave), pairs.encode(wave))
    order = torch.arange(64).view(32, 2).T.flatten()
    rows = torch.cat((order, 64 + order))
    for block in (*halves.encoder_context.blocks, *halves.decoder_context.blocks):
        for part in (block.attention.q, block.attention.k):
            part.weight.data = part.weight.data[rows]
    assert torch.equal(halves.encode(wave), pairs.encode(wave))


def test_a_checkpoint_without_settings_is_told_by_its_tensors() -> None:
    shapes = header("mimi_kyutai")
    assert FAMILY.sniff is not None
    settings = FAMILY.sniff(shapes, {})
    assert settings is not None
    config, published = MimiConfig.from_hub(settings), MimiConfig.from_hub({})
    assert config.context.rotary == "pairs" and published.context.rotary == "halves"
    assert config.stack == published.stack and config.codebooks == published.codebooks
    assert FAMILY.sniff(header("encodec_24khz"), {}) is None
    assert FAMILY.sniff({}, {}) is None
    for name in shapes:  # of any tensor too few or too short, nothing but an answer or None
        FAMILY.sniff({key: shape for key, shape in shapes.items() if key != name}, {})
        FAMILY.sniff(shapes | {name: ()}, {})


@torch.no_grad()
def test_any_chunking_of_the_wave_gives_the_same_codes(pair: Pair, tiny: Pair) -> None:
    wave = recording(33 * HOP + 77)
    for ends in ([HOP], [HOP, 2 * HOP, 3 * HOP, 20 * HOP], [30 * HOP]):
        streaming_equals_whole(lambda x, s: pair.ours.encode(x, 8, s), wave, ends)
    wave = recording(1601)
    for size in (16, 32, 48, 400, 1600):
        streaming_equals_whole(lambda x, s: tiny.ours.encode(x, None, s), wave, every(size, 1601))


@torch.no_grad()
def test_any_chunking_of_the_codes_gives_the_same_wave(pair: Pair, tiny: Pair) -> None:
    codes = torch.randint(0, 2048, (1, 8, 30))
    for ends in ([1], [1, 2, 17], [29]):
        streaming_equals_whole(pair.ours.decode, codes, ends)
    codes = torch.randint(0, 64, (2, 6, 160))
    for ends in ([1, 2, 3, 150], every(1, 160), every(64, 160)):
        streaming_equals_whole(tiny.ours.decode, codes, ends)


@torch.no_grad()
def test_frame_by_frame_the_memory_is_steady(tiny: Pair) -> None:
    def held(state: State) -> int:
        found = [*state._memory.values()]  # noqa: SLF001
        tensors = [v for m in found for v in vars(m).values() if isinstance(v, Tensor)]
        tensors += [m for m in found if isinstance(m, Tensor)]
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)

    sizes, state = [], State()
    for piece in pieces(recording(16 * 200), every(16, 16 * 200)):
        codes = tiny.ours.encode(piece, 4, state)
        assert codes.shape == (1, 4, 1), "a frame in, a frame out"
        assert tiny.ours.decode(codes, state).shape == (1, 1, 16)
        sizes.append(held(state))
    assert sizes[0] > 0 and max(sizes[10:]) == max(sizes[100:])


@torch.no_grad()
def test_it_looks_back_only(pair: Pair) -> None:
    wave, ours = recording(9 * HOP), pair.ours
    past_is_fixed(
        lambda x, _: ours.down(ours.encoder_context(ours.encoder(x).mT).mT), wave, 5 * HOP, 5
    )
    codes = torch.randint(0, 2048, (1, 4, 9))
    past_is_fixed(lambda x, _: ours.decode(x), codes, 5, 5 * HOP)


def test_a_batch_is_its_rows_to_the_last_bit(pair: Pair) -> None:
    wave = recording(9000, batch=3)
    codes = pair.ours.encode(wave, 8)
    assert torch.equal(codes, torch.cat([pair.ours.encode(row, 8) for row in wave.split(1)]))
    waves = torch.cat([pair.ours.decode(row) for row in codes.split(1)])
    assert torch.equal(pair.ours.decode(codes), waves)


def test_nothing_in_is_nothing_out(tiny: Pair) -> None:
    codes = tiny.ours.encode(torch.zeros(2, 1, 0), 3)
    assert codes.shape == (2, 3, 0) and codes.dtype == torch.int64
    assert tiny.ours.decode(codes).shape == (2, 1, 0)


def test_it_computes_in_bfloat16_with_codebooks_in_float32(tmp_path: Path) -> None:
    from alm_cli.runtime import place

    model = place(written(tmp_path).ours, torch.device("cpu"), torch.bfloat16)
    codes = model.encode(recording(900))
    assert model.decode(codes).dtype == torch.float32
    assert model.quantizer.semantic.codebooks[0].vectors.dtype == torch.float32


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("use_causal_conv", False),
        ("pad_mode", "replicate"),
        ("trim_right_ratio", 0.5),
        ("hidden_act", "relu"),
        ("attention_bias", True),
        ("norm_eps", 1e-6),
        ("rope_theta", 500_000.0),
        ("rope_parameters", {"rope_type": "yarn", "rope_theta": 10_000.0}),
        ("head_dim", 32),
        ("frame_rate", 25.0),
        ("codebook_dim", 128),
        ("upsample_groups", 1),
        ("a_new_idea", True),
        ("upsampling_ratios", [8, "5"]),
        ("num_hidden_layers", 100_000),
        ("num_quantizers", 0),
        ("num_semantic_quantizers", 32),
        ("sliding_window", None),
    ],
)
def test_a_setting_that_would_change_the_mathematics_is_refused(
    setting: str, value: object
) -> None:
    with pytest.raises(ModelError, match=setting):
        MimiConfig.from_hub({"model_type": "mimi", setting: value})


@pytest.mark.parametrize(("name", "tensors"), [("mimi", 350), ("mimi_kyutai", 318)])
def test_the_published_checkpoints_fit(name: str, tensors: int) -> None:
    theirs = header(name)
    with torch.device("meta"):
        model = Mimi(MimiConfig.from_hub({}))
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {step.target for step in KEYS.plan(theirs, ours)} == set(ours)
    assert len(theirs) == tensors
    # 96.15 million numbers are what is published of the hub's file.
    assert round(sum(map(prod, theirs.values())) / 1e6, 2) == 96.15
