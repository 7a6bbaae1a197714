"""HuBERT, WavLM and wav2vec 2.0 against `transformers` with the same random weights."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alm_cli.catalog import find_card
from alm_cli.checkpoints.load import build, load
from alm_cli.checkpoints.reader import Checkpoint
from alm_cli.encoders.hubert import FAMILY, KEYS, Hubert, HubertConfig, sniff
from alm_cli.errors import ModelError, UsageError
from alm_cli.nn.state import State
from tests.laws import Step, every, streamed, streaming_equals_whole
from tests.oracles import header

TINY: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": [24] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
EVERY = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
LARGE = EVERY | {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
# One frame and its neighbours, seven of them, primes, and lengths at which a layer drops a vector.
LENGTHS = (400, 401, 719, 720, 721, 1039, 1040, 2319, 2320, 2321, 4999, 7919, 16_001)

pytestmark = pytest.mark.oracle


@dataclass(frozen=True)
class Pair:
    """The same weights twice: as published elsewhere, and built by us."""

    theirs: Any
    ours: Hubert

    def hidden(self, wave: Tensor) -> list[Tensor]:
        """wave [B, T] -> every hidden state and the output, each [B, D, F]."""
        found = self.theirs(wave, output_hidden_states=True)
        return [state.mT for state in (*found.hidden_states, found.last_hidden_state)]


@torch.no_grad()
def random_model(kind: str, head: str = "Model", **config: Any) -> Any:
    """A reference model whose activations stay as large in every layer as they are in life."""
    import transformers

    settings = getattr(transformers, f"{kind}Config")(**config)
    with torch.device("meta"):
        model = getattr(transformers, f"{kind}{head}")(settings).eval()
    model.to_empty(device="cpu")
    # Slices of one row of random numbers: millions of them are quickly filled.
    pool = torch.randn(1 << 22, generator=torch.Generator().manual_seed(0))
    begin = 0
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point():
            tensor.zero_()
            continue
        begin = (begin + 104_729) % (1 << 20)
        rest = tensor.view(-1)
        while len(rest):
            part = rest[: len(pool) - begin]
            part.copy_(pool[begin : begin + len(part)])
            rest = rest[len(part) :]
        spread(name, tensor)
    return model


def spread(name: str, tensor: Tensor) -> None:
    """Give normal numbers the scale and the mean of their role."""
    if name.endswith("original0") or "running_var" in name:
        tensor.abs_().mul_(0.2).add_(0.5)
    elif tensor.dim() == 1:
        tensor.mul_(0.2).add_(1.0 if "norm.weight" in name else 0.0)
    elif "rel_attn_embed" not in name and "gru_rel_pos_const" not in name:
        tensor.mul_(1.2 / math.sqrt(tensor[0].numel()))


def pair(kind: str, **config: Any) -> Pair:
    theirs = random_model(kind, **config)
    weights = theirs.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    raw = json.loads(theirs.config.to_json_string())
    checkpoint = Checkpoint(shapes, (), weights.__getitem__)
    model = build(FAMILY, FAMILY.read_config(raw), checkpoint)
    assert isinstance(model, Hubert)
    return Pair(theirs, model)


@pytest.fixture(scope="module")
def tiny() -> Pair:
    """The first layer normalised over time, the norm after."""
    return pair("Hubert", **TINY)


@pytest.fixture(scope="module")
def tiny_large() -> Pair:
    """Every layer of the front end normalised by itself, the norm before."""
    return pair("Hubert", **(TINY | EVERY), conv_bias=True)


@pytest.fixture(scope="module")
def tiny_wavlm() -> Pair:
    """Relative positions."""
    return pair("WavLM", **TINY, num_buckets=20, max_bucket_distance=30)


def recording(length: int, batch: int = 1) -> Tensor:
    """wave [B, T]: a rising tone, noise, clicks, silence and an offset."""
    generator = torch.Generator().manual_seed(length)
    places = torch.arange(length) / 16_000
    tone = torch.sin(2 * torch.pi * (150 + 1500 * places) * places)
    noise = torch.randn(batch, length, generator=generator)
    clicks = (torch.rand(batch, length, generator=generator) > 0.999).float()
    loud = (torch.sin(9 * places) > -0.3).float()
    return (0.2 * tone + 0.05 * noise + 0.5 * clicks) * loud + 0.01


@torch.no_grad()
def layers(model: Hubert, wave: Tensor) -> list[Tensor]:
    """wave [B, T] -> the features at every layer and the output, each [B, D, F]."""
    every = [*range(model.layers + 1), None]
    return [model.at_layer(layer, normalize=False).encode(wave[:, None]) for layer in every]


def step(model: Hubert) -> Step:
    """The model as a part of [B, 1, T]."""
    return lambda wave, state: model.encode(wave, None, state)


def assert_same_features(pair: Pair, wave: Tensor, atol: float = 3e-5) -> None:
    with torch.no_grad():
        theirs = pair.hidden(wave)
    for layer, (ours, reference) in enumerate(zip(layers(pair.ours, wave), theirs, strict=True)):
        assert reference.std() > 0.1
        torch.testing.assert_close(ours, reference, atol=atol, rtol=0, msg=f"layer {layer}")


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", ["tiny", "tiny_large", "tiny_wavlm"])
def test_every_layer_is_that_of_the_reference(
    name: str, length: int, request: pytest.FixtureRequest
) -> None:
    assert_same_features(request.getfixturevalue(name), recording(length))


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec 2.0": ("Wav2Vec2", {}),
    "wav2vec 2.0, large": ("Wav2Vec2", EVERY | {"conv_bias": True}),
    "WavLM, large": ("WavLM", EVERY),
    "bias beside the norm over time": ("Hubert", {"conv_bias": True}),
    "norm before, over time": ("Hubert", {"do_stable_layer_norm": True}),
    "no norm of the front end": ("Hubert", {"feat_proj_layer_norm": False}),
    "25 hertz": (
        "Hubert",
        {
            "conv_dim": [24] * 8,
            "conv_kernel": [10, 3, 3, 3, 3, 2, 2, 2],
            "conv_stride": [5, 2, 2, 2, 2, 2, 2, 2],
            "conv_pos_batch_norm": True,
        },
    ),
    "an odd kernel of positions": ("Hubert", {"num_conv_pos_embeddings": 7}),
    "other strides": (
        "Hubert",
        {"conv_dim": [16, 24, 8], "conv_kernel": [7, 5, 4], "conv_stride": [3, 2, 4]},
    ),
    "few wide buckets": ("WavLM", {"num_buckets": 8, "max_bucket_distance": 9}),
}


@pytest.mark.parametrize(("kind", "config"), VARIANTS.values(), ids=VARIANTS)
def test_configurations_are_read_and_built(kind: str, config: dict[str, Any]) -> None:
    found = pair(kind, **(TINY | config))
    front = found.ours.front.spec
    for length in (front.window, front.window + front.hop, 5003):
        assert_same_features(found, recording(length))


# The published architectures, two seconds each on an idle processor; wav2vec 2.0 is HuBERT's.
PUBLISHED = {
    "hubert base": ("Hubert", {}),
    "hubert large": ("Hubert", LARGE | {"conv_bias": True}),
    "wavlm base": ("WavLM", {}),
    "wavlm large": ("WavLM", LARGE),
}


@pytest.mark.parametrize(("kind", "config"), PUBLISHED.values(), ids=PUBLISHED)
@torch.no_grad()
def test_published_architectures_make_the_features_of_the_reference(
    kind: str, config: dict[str, Any]
) -> None:
    found, states = pair(kind, **config), list[Tensor]()
    blocks, wave = found.ours.context.blocks, recording(9973)
    blocks[0].register_forward_pre_hook(lambda _, given: states.append(given[0].mT))
    for block in blocks:
        block.register_forward_hook(lambda *call: states.append(call[-1].mT))
    output = found.ours.at_layer(None, normalize=False).encode(wave[:, None])
    for state, reference in zip([*states, output], found.hidden(wave), strict=True):
        assert reference.std() > 0.1
        torch.testing.assert_close(state, reference, atol=1e-4, rtol=0)


@torch.no_grad()
def test_trap_base_models_hear_the_whole_signal_in_every_frame(
    tiny: Pair, tiny_large: Pair
) -> None:
    """GroupNorm over time: silence at the end, as a batch pads with, changes the first frame."""
    wave = recording(6000)
    filled = nn.functional.pad(wave, (0, 4000))
    base, padded = tiny.ours.front(wave), tiny.ours.front(filled)
    assert (base - padded[:, : base.shape[1]])[:, 0].abs().max() > 1e-2
    local, padded = tiny_large.ours.front(wave), tiny_large.ours.front(filled)
    torch.testing.assert_close(padded[:, : local.shape[1]], local, atol=1e-6, rtol=0)
    assert_same_features(tiny, filled)


@torch.no_grad()
def test_trap_frames_are_those_whose_400_samples_are_complete(tiny: Pair) -> None:
    for length in [*range(0, 1700, 53), 399, 400, 719, 720, 16_000]:
        features = tiny.ours.encode(recording(length)[:, None])
        assert features.shape == (1, 48, max(0, (length - 400) // 320 + 1)), length


@torch.no_grad()
def test_trap_layer_0_enters_the_first_block_after_positions_and_norm(tiny: Pair) -> None:
    wave = recording(5000)
    theirs = tiny.theirs
    x = theirs.feature_projection(theirs.feature_extractor(wave).mT)
    x = theirs.encoder.layer_norm(x + theirs.encoder.pos_conv_embed(x))
    torch.testing.assert_close(tiny.ours.at_layer(0).encode(wave[:, None]).mT, x, atol=3e-5, rtol=0)


@torch.no_grad()
def test_trap_the_last_layer_of_a_model_with_the_norm_before_is_not_its_output(
    tiny: Pair, tiny_large: Pair
) -> None:
    """fairseq's `output_layer` is not normalised; transformers before 5 normalised the last one."""
    wave = recording(5000)
    *_, last, output = layers(tiny_large.ours, wave)
    assert (last - output).abs().max() > 0.1
    normed = tiny_large.theirs.encoder.layer_norm(last.mT).mT
    torch.testing.assert_close(normed, output, atol=1e-5, rtol=0)
    *_, last, output = layers(tiny.ours, wave)
    assert torch.equal(last, output)


@torch.no_grad()
def test_trap_positions_have_a_norm_for_every_tap_and_lose_their_last(tiny: Pair) -> None:
    conv = tiny.theirs.encoder.pos_conv_embed.conv
    original = conv.parametrizations.weight
    magnitude, direction = original.original0, original.original1
    assert magnitude.shape == (1, 1, 16)
    weight = magnitude * direction / direction.pow(2).sum((0, 1), keepdim=True).sqrt()
    x = torch.randn(1, 48, 33)
    sums = nn.functional.conv1d(x, weight, conv.bias, padding=8, groups=4)
    assert sums.shape[2] == 34
    expected = nn.functional.gelu(sums[..., :-1])
    torch.testing.assert_close(tiny.ours.position(x.mT).mT, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_trap_large_models_heard_recordings_of_unit_variance_and_base_models_as_they_are(
    tiny: Pair, tiny_large: Pair
) -> None:
    from transformers import Wav2Vec2FeatureExtractor

    assert (tiny.ours.normalize, tiny_large.ours.normalize) == (False, True)
    extract = Wav2Vec2FeatureExtractor(do_normalize=True)
    for wave in (recording(8000), 1e-4 * recording(2000), torch.full((1, 900), 0.25)):
        values = extract(wave[0].numpy(), sampling_rate=16_000, return_tensors="pt").input_values
        for found in (tiny, tiny_large):
            ours = found.ours.at_layer(2, normalize=True).encode(wave[:, None])
            torch.testing.assert_close(ours, found.hidden(values)[2], atol=1e-4, rtol=0)
        assert torch.equal(tiny_large.ours.at_layer(2).encode(wave[:, None]), ours)


@torch.no_grad()
def test_trap_beyond_100_seconds_blocks_know_nothing_of_one_another() -> None:
    """textlesslib cuts at 1 600 000 samples, which make 4999 frames, not 5000."""
    config = TINY | {"conv_dim": [4] * 7, "hidden_size": 16, "num_hidden_layers": 1}
    found = pair("Hubert", **config)
    wave = recording(1_603_000)
    ours = found.ours.encode(wave[:, None])
    assert ours.shape[2] == 4999 + (3000 - 400) // 320 + 1
    theirs = [found.hidden(block)[1] for block in wave.split(1_600_000, -1)]
    torch.testing.assert_close(ours, torch.cat(theirs, -1), atol=1e-4, rtol=0)
    stream = streamed(step(found.ours), wave[:, None], every(640_000, 1_603_000))
    assert torch.equal(stream, ours)
    # A rest that is too short for a frame has none.
    assert found.ours.encode(wave[:, None, :1_600_399]).shape[2] == 4999
    large = found.ours.at_layer(1, normalize=True)
    normed = (wave - wave.mean()) / torch.sqrt(wave.var(correction=0) + 1e-7)
    theirs = [found.hidden(block)[1] for block in normed.split(1_600_000, -1)]
    torch.testing.assert_close(
        large.encode(wave[:, None]), torch.cat(theirs, -1), atol=1e-4, rtol=0
    )


@torch.no_grad()
def test_any_chunking_of_the_wave_gives_the_same_features(tiny: Pair, tiny_large: Pair) -> None:
    wave = recording(7001)[:, None]
    for model in (tiny.ours, tiny_large.ours, tiny.ours.at_layer(1, normalize=True)):
        for ends in ([], [1], [320, 640], every(320, 7001), [6999]):
            streaming_equals_whole(step(model), wave, ends, atol=0)
    state = State()
    assert tiny.ours.encode(wave, None, state).shape == (1, 48, 0)
    state.last = True
    assert torch.equal(tiny.ours.encode(wave[..., :0], None, state), tiny.ours.encode(wave))


@torch.no_grad()
def test_a_batch_is_its_rows_to_the_last_bit(tiny: Pair, tiny_wavlm: Pair) -> None:
    wave = recording(5003, batch=3)
    for model in (tiny.ours, tiny_wavlm.ours):
        rows = [model.encode(row[:, None]) for row in wave.split(1)]
        assert torch.equal(model.encode(wave[:, None]), torch.cat(rows))
        # What a device that is not a processor computes: all rows at once.
        torch.testing.assert_close(model.features(wave[:, None]), torch.cat(rows))
    assert_same_features(tiny_wavlm, wave)


@torch.no_grad()
def test_silence_and_nothing(tiny: Pair, tiny_large: Pair) -> None:
    for found in (tiny, tiny_large):
        assert_same_features(found, torch.zeros(1, 4000))
        assert found.ours.encode(torch.zeros(2, 1, 0)).shape == (2, 48, 0)
        assert found.ours.encode(torch.zeros(1, 1, 4000)).isfinite().all()


@torch.no_grad()
def test_it_computes_in_bfloat16(tiny: Pair, tiny_wavlm: Pair) -> None:
    for model in (tiny.ours, tiny_wavlm.ours):
        exact = model.encode(recording(5000)[:, None])
        with torch.autocast("cpu", torch.bfloat16):
            rough = model.encode(recording(5000)[:, None])
        assert rough.dtype == torch.float32 and not torch.equal(rough, exact)
        assert torch.corrcoef(torch.stack([rough.flatten(), exact.flatten()]))[0, 1] > 0.99


def test_layers_that_are_not_there_are_refused(tiny: Pair) -> None:
    for layer in (-1, 4):
        with pytest.raises(UsageError, match="layers 0 to 3"):
            tiny.ours.at_layer(layer)


HEADS = (
    ("Hubert", "ForCTC"),
    ("Hubert", "ForSequenceClassification"),
    ("WavLM", "ForCTC"),
    ("WavLM", "ForXVector"),
    ("Wav2Vec2", "ForCTC"),
    ("Wav2Vec2", "ForPreTraining"),
    ("Wav2Vec2", "ForXVector"),
)


@pytest.mark.parametrize(("kind", "head"), HEADS)
@torch.no_grad()
def test_trap_heads_for_tasks_are_left_out_by_name(kind: str, head: str, tmp_path: Path) -> None:
    theirs = random_model(kind, head, **TINY, vocab_size=10, use_weighted_layer_sum=True)
    theirs.save_pretrained(tmp_path)
    model, wave = load(tmp_path).model, recording(2000)
    bare = getattr(theirs, theirs.base_model_prefix)
    torch.testing.assert_close(
        model.encode(wave[:, None]).mT, bare(wave).last_hidden_state, atol=3e-5, rtol=0
    )


@torch.no_grad()
def test_trap_both_spellings_of_weight_norm_fold_alike_in_both_kinds_of_file(
    tiny: Pair, tmp_path: Path
) -> None:
    tiny.theirs.save_pretrained(tmp_path)
    weights = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in tiny.theirs.state_dict().items()
    }
    assert "encoder.pos_conv_embed.conv.weight_g" in weights
    new = load(tmp_path).model.state_dict()
    (tmp_path / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    old = load(tmp_path).model.state_dict()
    for name, tensor in tiny.ours.state_dict().items():
        assert torch.equal(old[name], tensor) and torch.equal(new[name], tensor), name


# Parts of the hub's names and of fairseq's.
FAIRSEQ = (
    ("parametrizations.weight.original0", "weight_g"),
    ("parametrizations.weight.original1", "weight_v"),
    ("pos_conv_embed.conv", "pos_conv.0"),
    ("feature_projection.projection", "post_extract_proj"),
    ("feature_projection.layer_norm", "layer_norm"),
    ("masked_spec_embed", "mask_emb"),
    ("attention.gru_rel_pos_const", "self_attn.grep_a"),
    ("attention.gru_rel_pos_linear", "self_attn.grep_linear"),
    ("attention.rel_attn_embed", "self_attn.relative_attention_bias"),
    (".attention.", ".self_attn."),
    ("feed_forward.intermediate_dense", "fc1"),
    ("feed_forward.output_dense", "fc2"),
)


def as_fairseq(weights: Mapping[str, Tensor], every_norm: bool) -> dict[str, Tensor]:
    """The tensors of a model from the hub, under fairseq's names."""
    renamed = {}
    for name, tensor in weights.items():
        for theirs, first in FAIRSEQ:
            name = name.replace(theirs, first)
        if "conv_layers" in name:
            name = name.replace(".conv.", ".0.")
            name = name.replace(".layer_norm.", ".2.1." if every_norm else ".2.")
        elif name.startswith("encoder.layers."):
            name = name.replace(".layer_norm.", ".self_attn_layer_norm.")
        renamed[name] = tensor.clone()
    return renamed


@pytest.mark.parametrize("every_norm", [False, True])
@pytest.mark.parametrize("kind", ["Hubert", "WavLM", "Wav2Vec2"])
@torch.no_grad()
def test_trap_first_releases_have_names_of_their_own_and_no_config(
    kind: str, every_norm: bool, tmp_path: Path
) -> None:
    """WavLM's `.pt` has its settings in a plain dictionary beside the tensors."""
    config = TINY | {"hidden_size": 128, "num_attention_heads": 2, "conv_bias": every_norm}
    theirs = random_model(kind, **(config | (EVERY if every_norm else {})))
    weights = as_fairseq(theirs.state_dict(), every_norm)
    assert all(f"encoder.layers.2.{name}.bias" in weights for name in ("fc1", "self_attn.k_proj"))
    weights |= {"final_proj.weight": torch.zeros(4, 128), "label_embs_concat": torch.zeros(9, 4)}
    cfg = {"layer_norm_first": every_norm, "max_distance": 800, "normalize": every_norm}
    torch.save({"cfg": cfg, "model": weights}, tmp_path / "model.pt")
    model, wave = load(tmp_path / "model.pt").model, recording(3000)
    ours = model.at_layer(2, normalize=False).encode(wave[:, None])
    reference = theirs(wave, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(ours.mT, reference, atol=3e-5, rtol=0)


def test_trap_fairseq_checkpoints_with_objects_inside_are_not_unpickled(tmp_path: Path) -> None:
    saved = {"args": argparse.Namespace(arch="hubert"), "model": {"mask_emb": torch.zeros(4)}}
    torch.save(saved, tmp_path / "hubert_base_ls960.pt")
    with pytest.raises(ModelError, match="not a plain file of weights") as caught:
        load(tmp_path / "hubert_base_ls960.pt")
    assert "safetensors" in str(caught.value)


def test_tensors_of_other_models_are_not_taken_for_fairseqs() -> None:
    assert sniff({}, {}) is None
    assert sniff({"post_extract_proj.weight": (4,)}, {}) is None
    assert sniff({"encoder.layers.0.fc1.weight": (4, 4)}, {"cfg": 3}) is None


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("hidden_act", "gelu_new"),
        ("feat_extract_activation", "relu"),
        ("feat_extract_norm", "batch"),
        ("layer_norm_eps", 1e-6),
        ("add_adapter", True),
        ("adapter_attn_dim", 16),
        ("conv_dim", [512] * 6),
        ("conv_stride", [5, 2]),
        ("num_feat_extract_layers", 6),
        ("num_attention_heads", 7),
        ("num_conv_pos_embedding_groups", 5),
        ("num_hidden_layers", 10_000),
        ("hidden_size", "768"),
        ("do_stable_layer_norm", 1),
        ("a_new_idea", True),
    ],
)
def test_a_setting_that_would_change_the_mathematics_is_refused(
    setting: str, value: object
) -> None:
    with pytest.raises(ModelError, match=setting):
        HubertConfig.from_hub({"model_type": "hubert", setting: value})


HEADERS = {
    "hubert_base_ls960": ("hubert-base", {"model_type": "hubert"}, 94_371_712),
    "hubert_large_ll60k": (
        "hubert-large",
        {"model_type": "hubert", **LARGE, "conv_bias": True},
        315_438_720,
    ),
    "wavlm_base": ("wavlm-base", {"model_type": "wavlm"}, 94_381_936),
    "wavlm_large": ("wavlm-large", {"model_type": "wavlm", **LARGE}, 315_453_120),
    "wav2vec2_base": ("wav2vec2-base", {"model_type": "wav2vec2"}, 95_044_608),
}


@pytest.mark.parametrize("name", HEADERS)
def test_the_published_checkpoints_fit(name: str) -> None:
    known, raw, values = HEADERS[name]
    theirs, card = header(name), find_card(known)
    with torch.device("meta"):
        model = Hubert(HubertConfig.from_hub(raw))
    ours = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    steps = KEYS.plan(theirs, ours)
    assert {step.target for step in steps} == set(ours)
    assert sum(map(prod, theirs.values())) == values
    used = {source for step in steps for source in step.sources if "weight_g" not in source}
    assert sum(prod(theirs[source]) for source in used) == card.parameters
    assert (model.dimension, model.rate / model.hop) == (card.dimension, card.frame_rate)
