"""w2v-BERT 2.0 against `transformers` with the same random weights, trap by trap, and its laws."""

from __future__ import annotations

import hashlib
import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from alm_cli.catalog import find_card
from alm_cli.checkpoints.load import build, load
from alm_cli.checkpoints.reader import Checkpoint
from alm_cli.encoders.w2v_bert import FAMILY, W2vBert, seamless_features
from alm_cli.errors import ModelError, UsageError
from alm_cli.nn.state import State
from tests.laws import batch_equals_single, every, streaming_equals_whole
from tests.oracles import header

CONFIGS = Path(__file__).parents[1] / "fixtures" / "configs"
# Edges of the first frame, of the second, of an odd number of windows, and primes.
LENGTHS = (560, 561, 719, 720, 879, 880, 881, 1039, 1040, 1601, 2240, 7919, 16_001, 48_001)
TINY: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
TINY |= {"intermediate_size": 48}
VARIANTS: dict[str, dict[str, Any]] = {
    "as published": {},
    "other distances": {"left_max_position_embeddings": 5, "right_max_position_embeddings": 1},
    "a short convolution": {"conv_depthwise_kernel_size": 3},
    "one head, one layer": {"num_attention_heads": 1, "num_hidden_layers": 1},
    "many heads": {"num_attention_heads": 8, "intermediate_size": 33},
    "never masked in training": {"mask_time_prob": 0.0},
}

pytestmark = pytest.mark.oracle


def recording(length: int, kind: str = "speech", batch: int = 1) -> Tensor:
    """wave [B, 1, T]."""
    generator = torch.Generator().manual_seed(length)
    places = torch.arange(length) / 16_000
    noise = torch.randn(batch, 1, length, generator=generator)
    if kind == "speech":  # gliding tones, noise, pauses
        tone = torch.sin(2 * torch.pi * (150 + 900 * places) * places)
        return (0.3 * tone + 0.05 * noise) * (torch.sin(11 * places) > -0.3)
    kinds = {
        "silence": torch.zeros(batch, 1, length),
        "steady": torch.full((batch, 1, length), 0.3),
        "tone": torch.sin(places * 4800).expand(batch, 1, -1) * 0.9,
        "half silent": noise * 0.1 * (places > places[-1] / 2),
        "quiet": noise * 1e-5,
        "noise": noise * 0.5,
    }
    return kinds[kind]


def theirs_of(wave: Tensor) -> tuple[Tensor, Tensor]:
    """wave [1, 1, T] -> features [1, F, 160] and mask [1, F], as published."""
    from transformers import SeamlessM4TFeatureExtractor

    extractor = SeamlessM4TFeatureExtractor(padding_value=1)  # preprocessor_config.json
    made = extractor(wave[0, 0].numpy(), sampling_rate=16_000, return_tensors="pt")
    return made["input_features"], made["attention_mask"]


def their_states(model: Any, wave: Tensor) -> list[Tensor]:
    """wave [1, 1, T] -> [1, F, D] of every layer, without what is padding."""
    features, mask = theirs_of(wave)
    made = model(input_features=features, attention_mask=mask, output_hidden_states=True)
    return [state[:, : int(mask.sum())] for state in made.hidden_states]


@torch.no_grad()
def reference(**config: Any) -> Any:
    from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

    torch.manual_seed(0)
    model = Wav2Vec2BertModel(Wav2Vec2BertConfig(**config)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or parameter.dim() == 1:
            parameter.add_(torch.randn_like(parameter) * 0.1)
        elif "distance" in name:  # as they start, distances hardly matter
            parameter.mul_(30)
    return model


def ours(model: Any) -> W2vBert:
    """Our model with the very tensors of theirs."""
    tensors = model.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    made = build(
        FAMILY,
        FAMILY.read_config(json.loads(model.config.to_json_string())),
        Checkpoint(shapes, (), tensors.__getitem__, {}),
    )
    assert isinstance(made, W2vBert)
    return made


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, W2vBert]:
    model = reference(**TINY)
    return model, ours(model)


@torch.no_grad()
def assert_same_states(model: Any, part: W2vBert, wave: Tensor) -> None:
    for layer, expected in enumerate(their_states(model, wave)):
        found = part.features(wave, layer).mT
        assert found.shape == expected.shape
        # Relative to how large the numbers of this layer are.
        error = (found - expected).abs().max() / expected.std()
        assert error < 1e-4, f"layer {layer} of {wave.shape[-1]} samples: {error:.1e}"


@pytest.mark.parametrize("length", LENGTHS)
def test_features_are_those_of_the_extractor(length: int) -> None:
    wave = recording(length)
    features, mask = theirs_of(wave)
    found = seamless_features(wave[:, 0])
    assert found.shape[1] == int(mask.sum()) == (length - 240) // 320
    torch.testing.assert_close(found, features[:, : found.shape[1]], atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["silence", "steady", "tone", "half silent", "quiet", "noise"])
def test_trap_rounding_is_all_there_is_in_silence_and_steady_tones(kind: str) -> None:
    """Bands that hardly vary are divided by next to nothing: sums must be rounded alike."""
    for length in (1622, 4177, 9000):
        wave = recording(length, kind)
        features, mask = theirs_of(wave)
        found = seamless_features(wave[:, 0])
        torch.testing.assert_close(found, features[:, : int(mask.sum())], atol=1e-4, rtol=0)


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_every_layer_is_that_of_the_reference(config: dict[str, Any]) -> None:
    model = reference(**(TINY | config))
    part = ours(model)
    for length in (560, 1601, 16_001, 40_000):
        assert_same_states(model, part, recording(length))


def test_every_layer_is_that_of_the_reference_on_recordings(
    tiny: tuple[Any, W2vBert], shared: Path
) -> None:
    from alm_cli.files.audio import read_audio

    for name in ("librispeech-1995-1837-0001.wav", "commands/yes.wav", "commands/stop.wav"):
        samples = read_audio(shared / "audio" / "speech" / name).samples[:1, :32_000]
        assert_same_states(*tiny, torch.from_numpy(np.ascontiguousarray(samples))[None])


def test_the_published_widths_are_those_of_the_reference() -> None:
    """The architecture as it is, but for two of 24 layers."""
    model = reference(num_hidden_layers=2)
    part = ours(model)
    assert part.dimension == 1024
    for length in (1040, 24_000):
        assert_same_states(model, part, recording(length))


def test_a_published_folder_is_loaded(tiny: tuple[Any, W2vBert], tmp_path: Path) -> None:
    model, part = tiny
    model.save_pretrained(tmp_path)
    loaded = load(tmp_path).model
    wave = recording(4000)
    assert torch.equal(loaded.encode(wave), part.encode(wave))


@torch.no_grad()
def test_trap_an_odd_last_window_counts_for_the_statistics_and_is_then_masked(
    tiny: tuple[Any, W2vBert],
) -> None:
    """It is padded with ones to a pair, and the mask of the pair is that of the padding."""
    wave = recording(720)  # three windows
    features, mask = theirs_of(wave)
    assert mask.tolist() == [[1, 0]]
    assert (features[0, 1, 80:] == 1).all()
    assert seamless_features(wave[:, 0]).shape[1] == 1
    assert not torch.equal(seamless_features(wave[:, 0]), seamless_features(wave[:, 0, :719]))
    assert_same_states(*tiny, wave)


def test_trap_spectra_are_normalised_over_the_whole_recording(tiny: tuple[Any, W2vBert]) -> None:
    """Therefore silence at the end, such as pads a batch, changes every feature."""
    _, part = tiny
    wave = recording(16_000)
    padded = torch.nn.functional.pad(wave, (0, 16_000))
    alone, longer = part.encode(wave), part.encode(padded)
    assert (alone - longer[..., : alone.shape[-1]]).abs().amin((0, 1)).min() > 0
    changes = seamless_features(wave[:, 0]) - seamless_features(padded[:, 0])[:, :49]
    assert changes.abs().mean() > 0.1


def test_trap_what_is_shorter_than_two_windows_has_no_frame(tiny: tuple[Any, W2vBert]) -> None:
    """A deviation needs two windows, a frame as well."""
    _, part = tiny
    for length in (0, 1, 239, 399, 400, 559):
        assert part.encode(torch.zeros(2, 1, length)).shape == (2, 32, 0)
    assert part.encode(recording(560)).shape == (1, 32, 1)


def test_a_stream_answers_at_its_end_with_the_whole(tiny: tuple[Any, W2vBert]) -> None:
    _, part = tiny
    state, wave = State(), recording(6400)
    assert part.encode(wave[..., :3200], None, state).shape == (1, 32, 0)

    def step(x: Tensor, state: State | None) -> Tensor:
        return part.encode(x, None, state)

    for length in (1, 320, 560, 7919):
        streaming_equals_whole(step, recording(length), every(320, length), atol=0)
    batch_equals_single(step, recording(4000, batch=3), atol=0)


@torch.no_grad()
def test_reduced_precision_is_near(tiny: tuple[Any, W2vBert]) -> None:
    _, part = tiny
    wave = recording(8000)
    exact = part.encode(wave)
    with torch.autocast("cpu", torch.bfloat16):
        rough = part.encode(wave)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).std() < 0.05 * exact.std()


def test_a_layer_is_a_model_of_its_own(tiny: tuple[Any, W2vBert]) -> None:
    _, part = tiny
    wave = recording(4000)
    for layer in range(4):
        other = part.at_layer(layer)
        assert torch.equal(other.encode(wave), part.features(wave, layer))
        assert (other.dimension, other.vocabularies, other.hop) == (32, (), 320)
    assert torch.equal(part.encode(wave), part.features(wave, 3)), "the model itself is unchanged"
    assert torch.equal(part.at_layer(2).at_layer(None).encode(wave), part.encode(wave))
    for layer in (-1, 4):
        with pytest.raises(UsageError, match="layers 0 to 3"):
            part.at_layer(layer)


def test_the_system_makes_features(tiny: tuple[Any, W2vBert], tmp_path: Path) -> None:
    from alm_cli.systems.codec import load_codec
    from alm_cli.values import Latents

    model, part = tiny
    model.save_pretrained(tmp_path)
    stream = load_codec(tmp_path).encoder(16_000, 1)
    wave = recording(40_000)
    for begin in range(0, 40_000, 7001):
        stream.push(wave[0, :, begin : begin + 7001].numpy())
    (latents,) = stream.finish()
    assert isinstance(latents, Latents)
    assert np.array_equal(latents.values, part.encode(wave).numpy())


def test_its_layers_have_units(tiny: tuple[Any, W2vBert], tmp_path: Path) -> None:
    from alm_cli.systems.units import load_units
    from alm_cli.values import Audio

    model, _ = tiny
    model.save_pretrained(tmp_path)
    wave = recording(40_000)
    with torch.no_grad():
        expected = their_states(model, wave)[2][0].double()
    centroids = expected[torch.arange(20) * 6]
    np.save(tmp_path / "km.npy", centroids.float().numpy())
    units = load_units(tmp_path, layer=2, kmeans=tmp_path / "km.npy")
    tokens = units.encode(Audio(wave[0].numpy(), 16_000))
    nearest = torch.cdist(expected, centroids).argmin(-1)
    assert np.array_equal(tokens.codes[0, 0], nearest.numpy())
    with pytest.raises(UsageError, match="no choice"):
        load_units(tmp_path, normalize=True)


@pytest.fixture(scope="module")
def published() -> dict[str, object]:
    """The published config.json, to the byte."""
    text = (CONFIGS / "w2v_bert_2.json").read_bytes()
    digest = hashlib.sha256(text).hexdigest()
    assert digest == "f5572bd5998b68182e9c328a43127ed21fed687f6910497136b91a4e3b0e3675"
    return dict(json.loads(text))


def test_the_published_names_fill_the_model(published: dict[str, object]) -> None:
    card, theirs = find_card("w2v-bert-2"), header("w2v_bert_2")
    with torch.device("meta"):
        model = FAMILY.model(FAMILY.read_config(published))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert len(FAMILY.keys.plan(theirs, shapes)) == len(shapes) == len(theirs) - 1
    assert sum(map(prod, shapes.values())) == card.parameters
    assert (model.dimension, model.layers) == (card.dimension, 24)
    assert file_size(theirs) == 2_322_063_736


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


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("position_embeddings_type", "relative"),
        ("position_embeddings_type", "rotary"),
        ("add_adapter", True),
        ("use_intermediate_ffn_before_adapter", True),
        ("hidden_act", "gelu"),
        ("layer_norm_eps", 1e-6),
        ("output_hidden_size", 512),
        ("num_hidden_layers", 0),
        ("conv_depthwise_kernel_size", "31"),
        ("flash", True),
    ],
)
def test_settings_that_are_not_built_are_refused(
    published: dict[str, object], key: str, value: object
) -> None:
    with pytest.raises(ModelError, match=key):
        FAMILY.read_config(published | {key: value})


def test_all_that_misfits_is_told_at_once(published: dict[str, object]) -> None:
    theirs = header("w2v_bert_2")
    del theirs["feature_projection.projection.bias"]
    theirs["encoder.layers.3.ffn1.output_dense.weight"] = (1024, 5)
    theirs["adapter.layers.0.self_attn.linear_q.weight"] = (1024, 1024)
    with torch.device("meta"):
        model = FAMILY.model(FAMILY.read_config(published))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    with pytest.raises(ModelError) as caught:
        FAMILY.keys.plan(theirs, shapes)
    for word in ("project.bias", "layers.3.ffn1", "adapter.layers.0"):
        assert word in str(caught.value)
