"""X-Codec 2 and NeuCodec against `transformers` with the same random weights, trap by trap."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from alm_cli.catalog import find_card
from alm_cli.checkpoints.load import build, load
from alm_cli.checkpoints.reader import Checkpoint
from alm_cli.codecs.xcodec2 import FAMILY, Xcodec2
from alm_cli.errors import ModelError
from alm_cli.nn.blocks import in_blocks
from alm_cli.nn.state import State
from tests.laws import batch_equals_single, every, streaming_equals_whole
from tests.oracles import header

CONFIGS = Path(__file__).parents[1] / "fixtures" / "configs"
HOP = 320
KINDS = ("xcodec2", "neucodec")
# Edges of one frame and of the second, seven frames, a block, and primes.
LENGTHS = (320, 321, 479, 639, 640, 641, 959, 977, 1601, 1913, 2239, 2240, 2241, 3200, 4799, 7919)
LENGTHS += (9601, 24_001)
SEMANTIC = {"model_type": "wav2vec2-bert", "num_hidden_layers": 2, "num_attention_heads": 2}
SEMANTIC |= {"hidden_size": 24, "intermediate_size": 40, "output_hidden_size": 24}
TINY: dict[str, Any] = {"encoder_hidden_size": 4, "hidden_size": 64, "num_hidden_layers": 2}
TINY |= {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16}
TINY |= {"intermediate_size": 48, "quantization_dim": 88, "semantic_model_config": SEMANTIC}
VARIANTS: dict[str, dict[str, Any]] = {
    "other levels": {"quantization_levels": [8, 5, 5, 5]},
    "other ratios, a wider encoder": {"downsampling_ratios": [4, 8, 10], "encoder_hidden_size": 6},
    "narrow heads, one layer": {"head_dim": 8, "num_hidden_layers": 1},
}

pytestmark = pytest.mark.oracle


@dataclass(frozen=True)
class Pair:
    """The same weights twice: as `transformers` has them, and ours."""

    theirs: Any
    extractor: Any
    ours: Xcodec2

    def inputs(self, *waves: Tensor) -> dict[str, Tensor]:
        """waves [1, T] -> what the extractor makes of them."""
        return dict(self.extractor([wave[0].numpy() for wave in waves], sampling_rate=16_000))

    @torch.no_grad()
    def their_codes(self, wave: Tensor) -> Tensor:
        """wave [1, 1, T] -> codes [1, 1, F]."""
        codes: Tensor = self.theirs.encode(**self.inputs(wave[0])).audio_codes
        return codes

    @torch.no_grad()
    def their_wave(self, codes: Tensor) -> Tensor:
        """codes [B, 1, F] -> wave [B, 1, n]."""
        wave: Tensor = self.theirs.decode(audio_codes=codes).audio_values
        return wave


def pair(kind: str, length: int = 16_000, **config: Any) -> Pair:
    """A pair with weights under which activations are as large, and codes as varied, as in life."""
    import transformers

    name = {"xcodec2": "Xcodec2", "neucodec": "NeuCodec"}[kind]
    settings = getattr(transformers, f"{name}Config")(**config)
    extractor = getattr(transformers, f"{name}FeatureExtractor")(padding_value=1)
    torch.manual_seed(0)
    theirs = getattr(transformers, f"{name}Model")(settings).eval()
    _enliven(theirs)
    made = Pair(theirs, extractor, ours(theirs))
    _spread(made, recording(length))
    return made


def ours(theirs: Any, tensors: dict[str, Tensor] | None = None) -> Xcodec2:
    """Our model with the very tensors of theirs."""
    tensors = theirs.state_dict() if tensors is None else tensors
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    config = FAMILY.read_config(json.loads(theirs.config.to_json_string()))
    made = build(FAMILY, config, Checkpoint(shapes, (), tensors.__getitem__, {}))
    assert isinstance(made, Xcodec2)
    return made


@torch.no_grad()
def _enliven(model: Any) -> None:
    """Weights that keep signals as large as they are, and biases and slopes that are not zero."""
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            gain = 0.7 if "res_unit" in name else 1.0
            parameter.normal_(0, gain * parameter[0].numel() ** -0.5)
        elif name.endswith("bias") or ".act." in name:
            parameter.normal_(0, 0.2)
    model.acoustic_decoder.head.linear.weight.mul_(1.5)


@torch.no_grad()
def _spread(made: Pair, wave: Tensor) -> None:
    """Let both branches count, and every number that is quantised have all of its levels."""
    seen: dict[str, Tensor] = {}
    model = made.theirs
    parts = {"acoustic": model.acoustic_encoder, "semantic": model.semantic_adapter}
    hooks = [
        part.register_forward_hook(lambda *call, name=name: seen.update({name: call[-1]}))
        for name, part in parts.items()
    ]
    made.their_codes(wave)
    last, frames = model.acoustic_encoder.conv2, seen["semantic"].shape[-1]
    scale = seen["semantic"].std() / seen["acoustic"].std()
    last.weight.mul_(scale)
    last.bias.mul_(scale)
    both = torch.cat((seen["semantic"], scale * seen["acoustic"][..., :frames]), 1)
    layer, hidden = model.quantizer.project_in, model.fc_encoder(both.mT)[0]
    layer.weight.mul_(1.5 / (hidden @ layer.weight.T).std(0)[:, None])
    layer.bias.copy_(-(hidden @ layer.weight.T).mean(0))
    for hook in hooks:
        hook.remove()


@lru_cache
def narrow(kind: str) -> Pair:
    return pair(kind, **TINY)


@pytest.fixture(params=KINDS)
def tiny(request: pytest.FixtureRequest) -> Pair:
    """Both kinds, narrow."""
    return narrow(request.param)


@pytest.fixture
def xcodec2() -> Pair:
    return narrow("xcodec2")


@pytest.fixture
def neucodec() -> Pair:
    return narrow("neucodec")


def recording(length: int, batch: int = 1) -> Tensor:
    """wave [B, 1, T]: gliding tones, noise, clicks and pauses."""
    generator = torch.Generator().manual_seed(length)
    places = torch.arange(length) / 16_000
    tone = torch.sin(2 * torch.pi * (200 + 2000 * places) * places)
    noise = torch.randn(batch, 1, length, generator=generator)
    clicks = (torch.rand(batch, 1, length, generator=generator) > 0.999).float()
    return (0.3 * tone + 0.1 * noise + 0.5 * clicks) * (torch.sin(9 * places) > -0.3)


@torch.no_grad()
def assert_same_codes(made: Pair, wave: Tensor) -> Tensor:
    """Our codes, which are theirs; the message says how near a border the first difference is."""
    theirs, found = made.their_codes(wave), made.ours.encode(wave)
    assert found.shape == theirs.shape
    differing = (found != theirs).nonzero().tolist()
    if differing:
        raise AssertionError(
            f"{len(differing)} of {theirs.numel()} codes differ at {wave.shape[-1]} samples, first "
            f"{differing[0]}, {_margin(made, wave, differing[0][-1]):.1e} from a border"
        )
    return found


@torch.no_grad()
def assert_same_wave(made: Pair, codes: Tensor) -> None:
    theirs, found = made.their_wave(codes), made.ours.decode(codes)
    assert theirs.std() > 0.02
    # The groups of a narrow model are two numbers wide: where they are alike, rounding is loud.
    torch.testing.assert_close(found, theirs, atol=1e-3 * float(theirs.std()), rtol=0)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def some_codes(frames: int, batch: int = 1) -> Tensor:
    """codes [B, 1, F]."""
    generator = torch.Generator().manual_seed(frames)
    return torch.randint(0, 65_536, (batch, 1, frames), generator=generator)


def _margin(made: Pair, wave: Tensor, frame: int) -> float:
    """How far the number of a frame that is nearest to a border between levels is from it."""
    seen: list[Tensor] = []
    quantizer = made.theirs.quantizer
    hook = quantizer.project_in.register_forward_hook(lambda *call: seen.append(call[-1][0]))
    made.their_codes(wave)
    hook.remove()
    bound = quantizer.quantizer.bound
    return float(((bound(bound(seen[0][frame])) - 0.5) % 1 - 0.5).abs().neg().add(0.5).min())


@pytest.mark.parametrize("length", LENGTHS)
def test_codes_are_those_of_the_reference(tiny: Pair, length: int) -> None:
    codes = assert_same_codes(tiny, recording(length))
    if length > 20_000:
        assert len(codes.unique()) > 60, "codes that do not vary prove nothing"


def test_codes_of_recordings_are_those_of_the_reference(tiny: Pair, shared: Path) -> None:
    from alm_cli.files.audio import read_audio

    names = ["librispeech-1995-1837-0001.wav", "jfk.flac", "arctic_a0009.wav", "vosk_digits.wav"]
    names += [f"commands/{word}.wav" for word in ("yes", "no", "left", "stop")]
    for name in names:
        audio = read_audio(shared / "audio" / "speech" / name)
        samples = audio.samples[:1, : 6000 + len(name)]  # a rate that is not theirs harms nothing
        codes = assert_same_codes(tiny, torch.from_numpy(np.ascontiguousarray(samples))[None])
        assert len(codes.unique()) > 10


def test_silence_and_steady_tones_have_the_codes_of_the_reference(tiny: Pair) -> None:
    """Where spectra do not vary, normalising makes rounding loud: it has to be the same."""
    places = torch.arange(8000)
    for wave in (places * 0.0, places * 0.0 + 0.3, torch.sin(places * 0.3) * 0.9):
        for length in (1622, 8000):
            assert_same_codes(tiny, wave[None, None, :length])


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_configurations_are_read_and_built(config: dict[str, Any]) -> None:
    made = pair(KINDS[len(config) % 2], 8000, **(TINY | config))
    for length in (640, 8001):
        codes = assert_same_codes(made, recording(length))
        assert_same_wave(made, codes)


def test_the_published_widths_have_the_codes_of_the_reference() -> None:
    """The architecture as it is, but for one of 16 and of 12 layers."""
    semantic = {"model_type": "wav2vec2-bert", "num_hidden_layers": 1}
    made = pair("neucodec", 4800, num_hidden_layers=1, semantic_model_config=semantic)
    assert made.ours.vocabularies == (65_536,)
    seen = [assert_same_codes(made, recording(length)) for length in (641, 4799)]
    assert len(seen[-1].unique()) > 10
    assert_same_wave(made, seen[-1])


def test_the_wave_is_that_of_the_reference(tiny: Pair) -> None:
    for frames in (1, 2, 3, 7, 101):
        codes = some_codes(frames, batch=2)
        assert_same_wave(tiny, codes)
        shape = (2, 1, frames * HOP * tiny.ours.output_rate // 16_000)
        assert tiny.ours.decode(codes).shape == shape


def test_a_published_folder_is_loaded(tiny: Pair, tmp_path: Path) -> None:
    tiny.theirs.save_pretrained(tmp_path)
    loaded = load(tmp_path).model
    wave = recording(4000)
    assert isinstance(loaded, Xcodec2)
    assert torch.equal(loaded.encode(wave), tiny.ours.encode(wave))
    assert torch.equal(loaded.decode(loaded.encode(wave)), tiny.ours.decode(loaded.encode(wave)))


@torch.no_grad()
def test_trap_rotary_positions_run_over_heads_and_so_turn_nothing(tiny: Pair) -> None:
    """Position h belongs to head h at every time: queries and keys are turned alike."""
    codes = some_codes(20)
    rotary, theirs = tiny.theirs.acoustic_decoder.rotary_emb, tiny.their_wave(codes)
    assert rotary(theirs, torch.arange(4)[None])[0].shape == (1, 4, 16)  # heads, not times
    kept = rotary.inv_freq.clone()
    rotary.inv_freq.mul_(3.7)
    other = tiny.their_wave(codes)
    rotary.inv_freq.copy_(kept)
    torch.testing.assert_close(other, theirs, atol=1e-3 * float(theirs.std()), rtol=0)
    # Without positions, what is attended to in another order comes out in another order.
    x, order = noise(1, 20, 64), torch.arange(20) * 7 % 20
    layers = tiny.ours.decoder.transformer
    torch.testing.assert_close(layers(x[:, order]), layers(x)[:, order], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_trap_the_quantiser_bounds_twice(tiny: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    wave = recording(16_000)
    twice = assert_same_codes(tiny, wave)
    encode = tiny.ours.quantizer.encode
    monkeypatch.setattr(tiny.ours.quantizer, "bound", lambda x: x)
    once = tiny.ours.encode(wave)
    monkeypatch.undo()
    assert (once != twice).float().mean() > 0.5
    assert tiny.ours.quantizer.encode == encode


@torch.no_grad()
def test_trap_the_adapter_rectifies_what_it_adds_as_well(tiny: Pair) -> None:
    """Upstream's rectifier works in place, so the skip is rectified too."""
    x = noise(1, 24, 30)
    adapter, theirs = tiny.ours.adapter, tiny.theirs.semantic_adapter(x)
    torch.testing.assert_close(adapter(x), theirs, atol=1e-5, rtol=0)
    y = adapter.first(x)
    plain = y + adapter.middle[1](adapter.middle[0](y.relu()).relu())
    assert not torch.allclose(adapter.last(plain), theirs, atol=1e-2)


@torch.no_grad()
def test_trap_magnitudes_stop_at_a_hundred_and_the_ends_are_cut_like_a_convolution(
    tiny: Pair,
) -> None:
    head, theirs = tiny.ours.decoder.head, tiny.theirs.acoustic_decoder.head
    hop = HOP * tiny.ours.output_rate // 16_000
    assert (head.size, head.hop, theirs.n_fft) == (4 * hop, hop, 4 * hop)
    x = noise(1, 9, 64)
    loud = x * 40  # whose exponentials would be beyond a hundred
    assert head.out(loud).amax() > 20
    for given in (x, loud):
        found, expected = head(given), theirs(given)
        assert found.shape == (1, 1, 9 * hop)
        torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.std()), rtol=1e-4)


@torch.no_grad()
def test_trap_xcodec2_hears_half_a_frame_of_silence_on_either_side(xcodec2: Pair) -> None:
    """So its spectra are as many as its frames; what NeuCodec hears lacks the last frame."""
    for length, frames in ((1, 1), (319, 1), (320, 2), (321, 2), (639, 2), (640, 3)):
        inputs = xcodec2.inputs(recording(length)[0])
        assert inputs["input_features"].shape[1] == frames
        assert assert_same_codes(xcodec2, recording(length)).shape[-1] == frames


@torch.no_grad()
def test_trap_a_whole_frame_of_silence_follows_exact_multiples(
    xcodec2: Pair, neucodec: Pair
) -> None:
    """What is appended are 320 - T % 320 samples, never none."""
    for made, extra in ((xcodec2, 1), (neucodec, 0)):
        for length in (640, 3200):
            wave = recording(length)
            inputs = made.inputs(wave[0])
            assert inputs["input_values"].shape[-1] == length + HOP
            codes = assert_same_codes(made, wave)
            assert codes.shape[-1] == length // HOP + extra
            # With all but one sample of that silence it is the same input.
            assert torch.equal(made.ours.encode(F.pad(wave, (0, HOP - 1))), codes)
            assert made.ours.encode(F.pad(wave, (0, HOP))).shape[-1] == codes.shape[-1] + 1


def test_trap_neucodec_has_no_code_of_less_than_a_frame_but_ours(neucodec: Pair) -> None:
    """The reference refuses it; here a code of the sound and of silence after it."""
    for length in (1, 2, 319):
        wave = recording(length)
        with pytest.raises(AssertionError, match="window size"):
            neucodec.their_codes(wave)
        codes = neucodec.ours.encode(wave)
        assert torch.equal(codes, assert_same_codes(neucodec, F.pad(wave, (0, 320 - length))))


@torch.no_grad()
def test_trap_padding_a_batch_changes_the_codes_of_the_reference_but_not_ours(
    tiny: Pair,
) -> None:
    """huggingface/transformers#47143: neighbours that are longer are heard as silence."""
    long, short = recording(16_000), recording(8000)
    inputs = tiny.inputs(long[0], short[0])
    together = tiny.theirs.encode(**inputs).audio_codes[1:]
    alone = assert_same_codes(tiny, short)
    assert (together[..., : alone.shape[-1]] != alone).any()
    rows = recording(8000, batch=3)
    batch_equals_single(lambda x, _: tiny.ours.encode(x), rows, atol=0)
    codes = tiny.ours.encode(rows)
    batch_equals_single(lambda x, _: tiny.ours.decode(x), codes, atol=0)


@torch.no_grad()
def test_trap_spectra_are_normalised_over_the_whole_recording(tiny: Pair) -> None:
    """A recording and the same between pauses do not share their codes."""
    wave = recording(16_000)
    later = F.pad(wave, (0, 16_000))
    codes, longer = assert_same_codes(tiny, wave), assert_same_codes(tiny, later)
    assert (codes[..., :45] != longer[..., :45]).float().mean() > 0.1


@torch.no_grad()
def test_a_stream_answers_at_its_end_with_the_whole(tiny: Pair) -> None:
    model, state, wave = tiny.ours, State(), recording(6400)
    assert model.encode(wave[..., :3200], None, state).shape == (1, 1, 0)
    codes, state = model.encode(wave), State()
    assert model.decode(codes[..., :7], state).shape == (1, 1, 0)
    for length in (1, 320, 640, 7919):
        streaming_equals_whole(
            lambda x, state: model.encode(x, None, state), recording(length), every(HOP, length)
        )
    for frames in (1, 2, 25):
        codes = some_codes(frames)
        streaming_equals_whole(model.decode, codes, every(3, frames), atol=0)


@torch.no_grad()
def test_nothing_gives_nothing(tiny: Pair) -> None:
    assert tiny.ours.encode(torch.zeros(2, 1, 0)).shape == (2, 1, 0)
    assert tiny.ours.decode(torch.zeros(2, 1, 0).long()).shape == (2, 1, 0)


@torch.no_grad()
def test_the_acoustic_encoder_works_in_blocks(xcodec2: Pair) -> None:
    """It is local, so a long recording needs no more memory for it than a block does."""
    part = xcodec2.ours.acoustic
    for frames, size in ((1, 1), (2, 1), (7, 2), (50, 17)):
        wave = recording(frames * HOP)
        found = in_blocks(part, wave, size * HOP)
        torch.testing.assert_close(found, part(wave), atol=1e-4, rtol=0)


@torch.no_grad()
def test_codes_tell_of_both_branches(tiny: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the comparison with the reference would say nothing of one of them."""
    wave = recording(8000)
    codes = tiny.ours.encode(wave)
    zeros = {"_semantic_features": (1, 24, codes.shape[-1]), "_acoustic_features": (1, 64, 26)}
    for name, shape in zeros.items():
        monkeypatch.setattr(tiny.ours, name, lambda _, shape=shape: torch.zeros(shape))
        assert (tiny.ours.encode(wave) != codes).float().mean() > 0.5
        monkeypatch.undo()


def test_decoding_restores_the_length_at_another_rate(tiny: Pair, tmp_path: Path) -> None:
    """NeuCodec decodes to 24 kHz what it coded at 16 kHz."""
    from alm_cli.systems.codec import load_codec
    from alm_cli.values import Audio

    tiny.theirs.save_pretrained(tmp_path)
    codec = load_codec(tmp_path)
    assert (codec.rate, codec.frame_rate) == (16_000, 50)
    for rate in (16_000, 44_100):
        for length in (1, 997, 4801):
            audio = Audio(recording(length)[0].numpy(), rate)
            tokens = codec.encode(audio)
            decoded = codec.decode(tokens)
            assert (decoded.rate, decoded.samples.shape) == (rate, (1, length))
    tokens = codec.encode(Audio(recording(3200)[0].numpy(), 16_000))
    fine = codec.decode(tokens, rate=24_000)
    assert fine.samples.shape == (1, 4800)
    whole = tiny.ours.decode(torch.from_numpy(tokens.codes).long())
    if tiny.ours.output_rate == 24_000:
        np.testing.assert_array_equal(fine.samples, whole[0, :, :4800].numpy())


@pytest.fixture(scope="module")
def published() -> dict[str, object]:
    """The published config.json of X-Codec 2, to the byte."""
    text = (CONFIGS / "xcodec2.json").read_bytes()
    digest = hashlib.sha256(text).hexdigest()
    assert digest == "f3082487a22d44095e42f0824825e4ed36f5b464ba8405d64eb20dc440a5756e"
    return dict(json.loads(text))


def our_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = FAMILY.model(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    ("kind", "size"), [("xcodec2", 2_517_231_448), ("neucodec", 2_519_855_456)]
)
def test_the_published_names_fill_the_model(
    kind: str, size: int, published: dict[str, object]
) -> None:
    card, theirs = find_card(kind), header(kind)
    settings = published if kind == "xcodec2" else FAMILY.sniff(theirs, {})
    shapes = our_shapes(FAMILY.read_config(settings))
    assert len(FAMILY.keys.plan(theirs, shapes)) == len(shapes) == len(theirs) - 1
    assert sum(map(prod, shapes.values())) == card.parameters
    assert card.vocabularies == (65_536,)
    assert file_size(theirs) == size


def file_size(shapes: dict[str, tuple[int, ...]]) -> int:
    """Bytes of a safetensors file of float32 tensors, as transformers writes it."""
    listed: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in sorted(shapes):
        begin, end = end, end + 4 * prod(shapes[name])
        shape = list(shapes[name])
        listed[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    head = len(json.dumps(listed, separators=(",", ":")))
    return 8 + head + -head % 8 + end


def test_the_names_of_the_first_release_fill_the_model() -> None:
    """It holds all 24 layers of the w2v-BERT, of which 16 are used, and constant filters."""
    theirs = header("xcodec2_first_release")
    assert len(theirs) == 1153
    said = {"model_type": "xcodec", "codec_encoder_hidden_size": 1024, "use_vocos": True}
    said |= {"codec_decoder_hidden_size": 1024, "semantic_hidden_size": 1024, "auto_map": {}}
    config = FAMILY.read_config(said)
    shapes = our_shapes(config)
    assert len(FAMILY.keys.plan(theirs, shapes)) == len(shapes) == 810
    for settings in (said | {"model_type": "bigcodec"}, FAMILY.sniff(theirs, {})):
        assert FAMILY.read_config(settings) == config


@torch.no_grad()
def test_weights_of_the_first_release_mean_the_same(xcodec2: Pair) -> None:
    """Weight norm is folded; queries, keys and values are one tensor, rotated in pairs."""
    tensors = dict(_first_release(xcodec2.theirs.state_dict()))
    model = ours(xcodec2.theirs, tensors)
    wave = recording(8001)
    codes = assert_same_codes(xcodec2, wave)
    assert torch.equal(model.encode(wave), codes)
    assert_same_wave(Pair(xcodec2.theirs, xcodec2.extractor, model), codes)


_RENAMED = (
    (r"semantic_encoder\.", "semantic_model."),
    (r"semantic_adapter\.conv1\.", "SemanticEncoder_module.initial_conv."),
    (r"semantic_adapter\.conv2\.", "SemanticEncoder_module.residual_blocks.1."),
    (r"semantic_adapter\.conv3\.", "SemanticEncoder_module.residual_blocks.3."),
    (r"semantic_adapter\.conv4\.", "SemanticEncoder_module.final_conv."),
    (r"acoustic_encoder\.conv1\.", "CodecEnc.conv_blocks.0."),
    (r"acoustic_encoder\.snake1\.", "CodecEnc.conv_final_block.0."),
    (r"acoustic_encoder\.conv2\.", "CodecEnc.conv_final_block.1."),
    (r"acoustic_encoder\.block\.(\d)\.", lambda m: f"CodecEnc.conv_blocks.{int(m[1]) + 1}.block."),
    (r"(CodecEnc\..*)res_unit(\d)\.", lambda m: f"{m[1]}{int(m[2]) - 1}.unit."),
    (r"(.*)unit\.snake1\.", r"\1block.0."),
    (r"(.*)unit\.conv1\.", r"\1block.1."),
    (r"(.*)unit\.snake2\.", r"\1block.2."),
    (r"(.*)unit\.conv2\.", r"\1block.3."),
    (r"(CodecEnc\..*)snake1\.", r"\g<1>3."),
    (r"(CodecEnc\..*)conv1\.", r"\g<1>4."),
    (r"(CodecEnc\..*)act\.beta", r"\1act.bias"),
    (r"fc_encoder\.", "fc_prior."),
    (r"quantizer\.", "generator.quantizer."),
    (r"acoustic_decoder\.fc\.", "fc_post_a."),
    (r"acoustic_decoder\.head\.linear\.", "generator.head.out."),
    (r"acoustic_decoder\.norm\.", "generator.backbone.final_layer_norm."),
    (r"acoustic_decoder\.layers\.", "generator.backbone.transformers."),
    (r"acoustic_decoder\.", "generator.backbone."),
    (r"(.*)\.self_attn\.o_proj\.", r"\1.att.c_proj."),
    (r"(.*)\.input_layernorm\.", r"\1.att_norm."),
    (r"(.*)\.post_attention_layernorm\.", r"\1.ffn_norm."),
)


def _first_release(tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Tensors of the hub's library as those of the first release."""
    for name, tensor in tensors.items():
        if part := re.fullmatch(r"(.*)\.self_attn\.q_proj\.weight", name):
            if name.startswith("semantic"):
                continue
            q, k, v = (tensors[f"{part[1]}.self_attn.{which}_proj.weight"] for which in "qkv")
            layer = part[1].replace("acoustic_decoder.layers", "generator.backbone.transformers")
            yield f"{layer}.att.c_attn.weight", torch.cat((_in_pairs(q), _in_pairs(k), v))
            continue
        if re.search(r"decoder.*self_attn\.[kv]_proj", name):
            continue
        for pattern, to in _RENAMED:
            if not name.startswith("semantic_model."):
                name = re.sub(f"^{pattern}", to, name)
        if name.startswith("CodecEnc") and name.endswith("weight"):
            size = torch.linalg.vector_norm(tensor, dim=(1, 2), keepdim=True)
            base = name.removesuffix("weight")
            yield f"{base}parametrizations.weight.original0", size
            yield f"{base}parametrizations.weight.original1", tensor * 3
            continue
        yield name, tensor
    yield "CodecEnc.conv_blocks.2.block.0.block.2.upsample.filter", torch.zeros(1, 1, 12)
    yield "CodecEnc.conv_final_block.0.downsample.lowpass.filter", torch.zeros(1, 1, 12)
    yield "generator.head.istft.window", torch.zeros(1280)
    yield "semantic_model.encoder.layers.23.ffn1.output_dense.bias", torch.zeros(24)


def _in_pairs(weight: Tensor) -> Tensor:
    """weight [4 * 16, D]: the halves of each head's rows woven into each other."""
    return weight.view(4, 2, 8, -1).transpose(1, 2).reshape(weight.shape)


def test_weights_without_settings_are_recognised() -> None:
    for name, kind in (("xcodec2", 16_000), ("neucodec", 24_000)):
        settings = FAMILY.sniff(header(name), {"epoch": 4})
        assert FAMILY.read_config(settings).output_rate == kind
    assert FAMILY.sniff(header("w2v_bert_2"), {}) is None
    assert FAMILY.sniff(header("encodec_24khz"), {}) is None


def test_the_first_release_of_neucodec_lacks_what_it_listens_with() -> None:
    theirs = header("xcodec2_first_release")
    bare = {name: s for name, s in theirs.items() if not name.startswith("semantic_model.")}
    with pytest.raises(ModelError, match=r"lacks the w2v-BERT 2\.0"):
        FAMILY.sniff(bare, {})


def test_the_first_generation_is_another_model() -> None:
    with pytest.raises(ModelError, match="first generation"):
        FAMILY.read_config({"model_type": "xcodec", "codebook_dim": 1024})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("downsampling_ratios", [2, 2, 4, 4]),
        ("quantization_levels", []),
        ("quantization_levels", [4, 1, 4]),
        ("quantization_levels", [64] * 8),
        ("hidden_size", 1000),
        ("quantization_dim", 1024),
        ("hidden_act", "gelu"),
        ("attention_bias", True),
        ("num_key_value_heads", 4),
        ("rms_norm_eps", 1e-5),
        ("codebook_size", 1024),
        ("sampling_rate", "16k"),
        ("sampling_rate", 24_000),
        ("semantic_model_config", {"position_embeddings_type": "rotary"}),
        ("semantic_model_config", {"surprise": 1}),
    ],
)
def test_settings_that_are_not_built_are_refused(
    published: dict[str, object], key: str, value: object
) -> None:
    with pytest.raises(ModelError, match=key):
        FAMILY.read_config(published | {key: value})


def test_a_rate_that_is_no_whole_number_of_samples_a_frame_is_refused() -> None:
    for rate in (22_050, 24_001):
        with pytest.raises(ModelError, match="output_sampling_rate"):
            FAMILY.read_config({"model_type": "neucodec", "output_sampling_rate": rate})
    for rate in (16_000, 44_100, 48_000):
        settings = {"model_type": "neucodec", "output_sampling_rate": rate}
        assert FAMILY.read_config(settings).output_rate == rate


@torch.no_grad()
def test_reduced_precision_computes(tiny: Pair) -> None:
    """Codes need not be the same; the quantiser and the spectra stay in single precision."""
    wave = recording(8000)
    codes = tiny.ours.encode(wave)
    with torch.autocast("cpu", torch.bfloat16):
        rough = tiny.ours.encode(wave)
        decoded = tiny.ours.decode(codes)
    assert rough.shape == codes.shape
    assert decoded.dtype == torch.float32
    exact = tiny.ours.decode(codes)
    assert (decoded - exact).std() < 0.2 * exact.std()
