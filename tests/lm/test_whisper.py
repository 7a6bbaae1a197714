"""Whisper against `openai-whisper` and `transformers` with the same random weights."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from alm_cli.catalog import CATALOG, find_card
from alm_cli.checkpoints.family import SettingsError
from alm_cli.checkpoints.load import load
from alm_cli.errors import ModelError
from alm_cli.lm.whisper import FAMILY, KEYS, Whisper, WhisperConfig, sniff
from alm_cli.nn.packed import (
    SteadyHalfLinear,
    SteadyInt8Linear,
    can_pack,
    pack_exactly,
    pack_int8,
)
from alm_cli.nn.state import State
from tests.oracles import header

# A model whose layers and heads differ wherever they can, and that hears 0.8 s.
SMALL = {
    "n_mels": 80,
    "n_audio_ctx": 40,
    "n_audio_state": 48,
    "n_audio_head": 6,
    "n_audio_layer": 2,
    "n_text_ctx": 32,
    "n_text_state": 48,
    "n_text_head": 4,
    "n_text_layer": 3,
}
TINY = {
    "n_mels": 80,
    "n_audio_ctx": 1500,
    "n_audio_state": 384,
    "n_audio_head": 6,
    "n_audio_layer": 4,
    "n_text_ctx": 448,
    "n_text_state": 384,
    "n_text_head": 6,
    "n_text_layer": 4,
}
BASE = TINY | {
    "n_mels": 128,
    "n_audio_state": 512,
    "n_audio_head": 8,
    "n_audio_layer": 6,
    "n_text_state": 512,
    "n_text_head": 8,
    "n_text_layer": 6,
}
VOCABULARIES = (51_864, 51_865, 51_866)

pytestmark = pytest.mark.oracle


@torch.no_grad()
def original(dims: Mapping[str, int]) -> Any:
    """The model of openai-whisper: activations stay as large as in life, and texts differ."""
    from whisper.model import ModelDimensions
    from whisper.model import Whisper as Theirs

    with pytest.MonkeyPatch.context() as patch:
        for name in ("kaiming_uniform_", "uniform_", "normal_"):  # seconds for nothing
            patch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
        model = Theirs(ModelDimensions(**dims)).eval()
    pool = torch.randn(1 << 20, generator=torch.Generator().manual_seed(sum(dims.values())))
    for place, (name, tensor) in enumerate(model.state_dict().items()):
        values = pool.roll(104_729 * place).repeat(-(-tensor.numel() // len(pool)))
        tensor.copy_(values[: tensor.numel()].view(tensor.shape))
        if name == "encoder.positional_embedding":
            tensor.mul_(0.5)  # no sinusoids: what is stored counts
        elif tensor.dim() == 1:
            tensor.mul_(0.1).add_(1.0 if "ln" in name and name.endswith("weight") else 0.0)
        elif "embedding" in name:
            tensor.mul_(0.3)
        else:
            tensor.mul_(1.5 / math.sqrt(tensor[0].numel()))
    return model


TO_HUB = (
    ("blocks", "layers"),
    (".cross_attn.", ".encoder_attn."),
    ("cross_attn_ln", "encoder_attn_layer_norm"),
    (".attn.", ".self_attn."),
    (".attn_ln", ".self_attn_layer_norm"),
    ("mlp.0", "fc1"),
    ("mlp.2", "fc2"),
    ("mlp_ln", "final_layer_norm"),
    ("ln_post", "layer_norm"),
    ("decoder.ln.", "decoder.layer_norm."),
    (".query.", ".q_proj."),
    (".key.", ".k_proj."),
    (".value.", ".v_proj."),
    (".out.", ".out_proj."),
    ("token_embedding.weight", "embed_tokens.weight"),
    ("positional_embedding", "embed_positions.weight"),
)


def hub(dims: Mapping[str, int], weights: Mapping[str, Tensor]) -> Any:
    """The model of transformers."""
    from transformers import WhisperConfig as TheirConfig
    from transformers import WhisperForConditionalGeneration

    wide = dims["n_audio_state"]
    config = TheirConfig(
        vocab_size=dims["n_vocab"],
        num_mel_bins=dims["n_mels"],
        d_model=wide,
        encoder_layers=dims["n_audio_layer"],
        decoder_layers=dims["n_text_layer"],
        encoder_attention_heads=dims["n_audio_head"],
        decoder_attention_heads=dims["n_text_head"],
        encoder_ffn_dim=4 * wide,
        decoder_ffn_dim=4 * wide,
        max_source_positions=dims["n_audio_ctx"],
        max_target_positions=dims["n_text_ctx"],
    )
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(config)
    renamed = {}
    for name, tensor in weights.items():
        for theirs, other in TO_HUB:
            name = name.replace(theirs, other)
        renamed[f"model.{name}"] = tensor.clone()
    renamed["proj_out.weight"] = renamed["model.decoder.embed_tokens.weight"]
    model.load_state_dict(renamed, assign=True)
    model.tie_weights()
    return model.eval()


@dataclass(frozen=True)
class Trio:
    """The same weights three times."""

    dims: Mapping[str, int]
    weights: Mapping[str, Tensor]
    openai: Any
    hub: Any
    ours: Whisper

    def mel(self, seed: int = 0, batch: int = 1) -> Tensor:
        """[B, M, F], as large as spectrograms are."""
        generator = torch.Generator().manual_seed(seed)
        frames = 2 * self.dims["n_audio_ctx"]
        coarse = torch.randn(batch, self.dims["n_mels"], frames // 8 + 2, generator=generator)
        return torch.nn.functional.interpolate(coarse, frames, mode="linear").clamp(-1, 1.5)

    def tokens(self, length: int, rows: int = 1) -> Tensor:
        """[R, S]"""
        generator = torch.Generator().manual_seed(length)
        return torch.randint(self.dims["n_vocab"], (rows, length), generator=generator)


def save(folder: Path, dims: Mapping[str, int], weights: Mapping[str, Tensor]) -> Path:
    """As OpenAI publishes it."""
    torch.save({"dims": dict(dims), "model_state_dict": dict(weights)}, folder / "model.pt")
    return folder / "model.pt"


@torch.no_grad()
def trio(folder: Path, dims: Mapping[str, int]) -> Trio:
    """Ours from the file of the first."""
    theirs = original(dims)
    weights = theirs.state_dict()
    ours = load(save(folder, dims, weights)).model
    assert isinstance(ours, Whisper)
    return Trio(dims, weights, theirs, hub(dims, weights), ours)


@pytest.fixture(scope="module", params=VOCABULARIES)
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trio:
    return trio(tmp_path_factory.mktemp("small"), SMALL | {"n_vocab": request.param})


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Trio:
    return trio(tmp_path_factory.mktemp("one"), SMALL | {"n_vocab": 51_865})


def same_logits(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert torch.equal(ours.argmax(-1), theirs.argmax(-1))


@torch.no_grad()
def same_as_both(found: Trio, batch: int, length: int) -> None:
    mel, tokens = found.mel(batch=batch), found.tokens(length, batch)
    memory = found.ours.encode(mel)
    theirs = found.openai.embed_audio(mel)
    assert float(theirs.std()) > 0.5
    torch.testing.assert_close(memory, theirs, atol=1e-4, rtol=0)
    hidden = found.hub.model.encoder(mel).last_hidden_state
    torch.testing.assert_close(memory, hidden, atol=1e-4, rtol=0)
    logits = found.ours.decode(tokens, memory)
    expected = found.openai.logits(tokens, theirs)
    assert float(expected.std()) > 0.5
    same_logits(logits, expected)
    same_logits(logits, found.hub(encoder_outputs=(hidden,), decoder_input_ids=tokens).logits)


def test_encoder_and_logits_are_theirs(small: Trio) -> None:
    for batch, length in ((1, 1), (2, 7), (1, 32)):
        same_as_both(small, batch, length)
    assert small.ours.vocabulary == small.dims["n_vocab"]
    assert small.ours.multilingual == small.openai.is_multilingual
    assert small.ours.languages == small.openai.num_languages


@pytest.mark.parametrize(
    "dims", [TINY | {"n_vocab": 51_865}, BASE | {"n_vocab": 51_866}], ids=["tiny", "base"]
)
def test_they_are_theirs_at_the_true_shapes(dims: Mapping[str, int], tmp_path: Path) -> None:
    found = trio(tmp_path, dims)
    same_as_both(found, 1, 9)


@torch.no_grad()
def test_a_text_in_steps_is_the_text_at_once(small: Trio) -> None:
    memory, tokens = small.ours.encode(small.mel(batch=2)), small.tokens(20, 2)
    whole = small.ours.decode(tokens, memory)
    for cuts in ([4] + [1] * 16, [1] * 20, [7, 6, 7]):
        state, made = State(), []
        for part in tokens.split(cuts, 1):
            made.append(small.ours.decode(part, memory, state))
        same_logits(torch.cat(made, 1), whole)


@torch.no_grad()
def test_beams_share_a_recording_and_are_reordered(one: Trio) -> None:
    memory, tokens = one.ours.encode(one.mel(batch=2)), one.tokens(12, 6)
    each = [one.ours.decode(tokens[r : r + 1], memory[r // 3 : r // 3 + 1]) for r in range(6)]
    state = State()
    one.ours.decode(tokens[::3, :4], memory, state)  # one row for each recording
    state.reorder(torch.tensor([0, 0, 0, 1, 1, 1]))  # becomes three
    texts = tokens.clone()
    texts[:, :4] = tokens[::3, :4].repeat_interleave(3, 0)
    first = one.ours.decode(texts[:, 4:8], memory, state)
    rows = torch.tensor([2, 0, 2, 3, 5, 3])
    state.reorder(rows)
    second = one.ours.decode(texts[:, 8:], memory, state)
    texts = torch.cat((texts[rows, :8], texts[:, 8:]), 1)
    fresh = [one.ours.decode(texts[r : r + 1], memory[r // 3 : r // 3 + 1]) for r in range(6)]
    same_logits(second, torch.cat(fresh)[:, 8:])
    assert first.shape == (6, 4, 51_865) and len(each) == 6


@torch.no_grad()
def test_rows_of_one_recording_go_on_when_those_of_another_end(one: Trio) -> None:
    memory, tokens = one.ours.encode(one.mel(batch=3)), one.tokens(10, 6)
    state = State()
    one.ours.decode(tokens[:, :5], memory, state)
    state.reorder(torch.tensor([0, 1, 5, 4]))
    kept = tokens[[0, 1, 5, 4]]
    made = one.ours.decode(kept[:, 5:], memory[[0, 2]], state)
    whole = [one.ours.decode(kept[r : r + 1], memory[2 * (r // 2)][None]) for r in range(4)]
    same_logits(made, torch.cat(whole)[:, 5:])


@torch.no_grad()
def test_attempts_start_from_what_was_heard_once(one: Trio) -> None:
    memory, tokens = one.ours.encode(one.mel()), one.tokens(9, 2)
    heard = one.ours.listen(memory)
    for row in tokens:
        state = heard.fork()
        one.ours.decode(row[None, :4], memory, state)
        going, other = state.fork(), state.fork()
        one.ours.decode(row[None, 5:], memory, other)
        made = one.ours.decode(row[None, 4:], torch.zeros(0), going)
        same_logits(made, one.ours.decode(row[None], memory)[:, 4:])


@torch.no_grad()
def test_logits_of_some_places_only(one: Trio) -> None:
    memory, tokens = one.ours.encode(one.mel()), one.tokens(8)
    whole = one.ours.decode(tokens, memory)
    torch.testing.assert_close(
        one.ours.decode(tokens, memory, at=(2, -1)), whole[:, [2, 7]], atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_a_row_does_not_depend_on_its_neighbours(one: Trio) -> None:
    mel, tokens = one.mel(batch=3), one.tokens(6, 3)
    memory = one.ours.encode(mel)
    rows = torch.cat([one.ours.encode(row[None]) for row in mel])
    torch.testing.assert_close(memory, rows, atol=1e-5, rtol=0)
    made = [one.ours.decode(tokens[r : r + 1], memory[r : r + 1]) for r in range(3)]
    same_logits(one.ours.decode(tokens, memory), torch.cat(made))


@torch.no_grad()
def test_a_shorter_input_has_the_first_positions(one: Trio) -> None:
    mel = one.mel()[..., :30]
    theirs = one.openai.encoder
    x = torch.nn.functional.gelu(theirs.conv2(torch.nn.functional.gelu(theirs.conv1(mel))))
    x = x.mT + theirs.positional_embedding[:15]
    for block in theirs.blocks:
        x = block(x)
    torch.testing.assert_close(one.ours.encode(mel), theirs.ln_post(x), atol=1e-4, rtol=0)


@torch.no_grad()
def test_scores_are_those_of_the_original_before_its_softmax(small: Trio) -> None:
    from whisper.model import disable_sdpa

    mel, tokens = small.mel(), small.tokens(11)
    seen: list[Tensor] = []
    hooks = [
        block.cross_attn.register_forward_hook(lambda _, __, output: seen.append(output[-1][0]))
        for block in small.openai.decoder.blocks
    ]
    with disable_sdpa():
        theirs = small.openai(mel, tokens)
    for hook in hooks:
        hook.remove()
    logits, scores = small.ours.attend(tokens, small.ours.encode(mel))
    same_logits(logits, theirs)
    heads = small.openai.alignment_heads.indices().T.tolist()
    assert [list(head) for head in small.ours.alignment_heads] == heads
    expected = torch.stack([seen[layer][head] for layer, head in heads])
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", ["100GB", "2MB"], ids=["single", "sharded"])
def test_folders_of_the_hub(one: Trio, size: str, tmp_path: Path) -> None:
    one.hub.save_pretrained(tmp_path, max_shard_size=size)
    assert (tmp_path / "model.safetensors.index.json").exists() == (size == "2MB")
    theirs = load(tmp_path).model.state_dict()
    for name, tensor in one.ours.state_dict().items():
        assert torch.equal(theirs[name], tensor), name


@torch.no_grad()
def test_trap_half_precision_checkpoints_run_in_float32_with_the_stored_sinusoids(
    one: Trio, tmp_path: Path
) -> None:
    half = {name: tensor.half() for name, tensor in one.weights.items()}
    ours = load(save(tmp_path, one.dims, half)).model
    assert {tensor.dtype for tensor in ours.state_dict().values()} == {torch.float32}
    stored = half["encoder.positional_embedding"].float()
    assert torch.equal(ours.encoder.positions, stored)
    theirs = copy.deepcopy(one.openai)
    theirs.load_state_dict(half)
    mel, tokens = one.mel(), one.tokens(5)
    same_logits(ours.decode(tokens, ours.encode(mel)), theirs(mel, tokens))


def test_trap_the_output_that_some_files_store_is_the_embedding(one: Trio, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    one.hub.save_pretrained(tmp_path)
    weights = {name: tensor.clone() for name, tensor in one.hub.state_dict().items()}
    assert "proj_out.weight" in weights
    save_file(weights, tmp_path / "model.safetensors")
    ours = load(tmp_path).model.state_dict()
    assert torch.equal(ours["decoder.embedding.weight"], weights["proj_out.weight"])
    # Models without a head have no prefix.
    bare = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
    del bare["proj_out.weight"]
    save_file(bare, tmp_path / "model.safetensors")
    assert load(tmp_path).model.state_dict().keys() == ours.keys()


def test_trap_keys_have_no_bias(one: Trio) -> None:
    names = set(one.ours.state_dict())
    assert "decoder.blocks.0.attention.q.bias" in names
    assert not [name for name in names if name.endswith(".k.bias")]


PUBLISHED = {
    (4, 6, 51_865): "tiny",
    (4, 6, 51_864): "tiny.en",
    (6, 8, 51_865): "base",
    (6, 8, 51_864): "base.en",
    (12, 12, 51_865): "small",
    (12, 12, 51_864): "small.en",
    (24, 16, 51_865): "medium",
    (24, 16, 51_864): "medium.en",
    (32, 20, 51_865): "large-v2",
    (32, 20, 51_866): "large-v3",
    (4, 20, 51_866): "large-v3-turbo",
}


@pytest.mark.parametrize("sizes", PUBLISHED, ids=PUBLISHED.values())
def test_trap_checkpoints_without_generation_settings_have_alignment_heads_all_the_same(
    sizes: tuple[int, int, int],
) -> None:
    import base64
    import gzip

    from whisper import _ALIGNMENT_HEADS

    layers, heads, vocabulary = sizes
    dump = gzip.decompress(base64.b85decode(_ALIGNMENT_HEADS[PUBLISHED[sizes]]))
    chosen = torch.frombuffer(bytearray(dump), dtype=torch.bool).view(layers, heads)
    config = WhisperConfig.from_hub(settings(layers, heads, vocabulary))
    assert [list(head) for head in config.alignment_heads] == chosen.nonzero().tolist()


def settings(layers: int, heads: int, vocabulary: int) -> dict[str, object]:
    return {
        "model_type": "whisper",
        "d_model": 64 * heads,
        "decoder_layers": layers,
        "decoder_attention_heads": heads,
        "encoder_attention_heads": heads,
        "vocab_size": vocabulary,
    }


def test_alignment_heads_of_other_sizes_are_the_upper_half_unless_told(
    one: Trio, tmp_path: Path
) -> None:
    config = WhisperConfig.from_hub(settings(2, 20, 51_866))
    assert config.alignment_heads == tuple((1, head) for head in range(20))
    one.hub.save_pretrained(tmp_path)
    file = tmp_path / "generation_config.json"
    told = json.loads(file.read_text()) | {"alignment_heads": [[0, 1], [2, 3]]}
    file.write_text(json.dumps(told))
    assert load(tmp_path).model.alignment_heads == ((0, 1), (2, 3))


@pytest.mark.parametrize("told", [[], [[3, 0]], [[0, 4]], [[0, -1]], [[0, 1.0]], [[0]], "0.1", [3]])
def test_alignment_heads_that_are_none_are_refused(told: object) -> None:
    raw = settings(3, 4, 51_865) | {"generation_config.json": {"alignment_heads": told}}
    with pytest.raises(SettingsError, match="alignment_heads are not heads of 3 layers of 4"):
        WhisperConfig.from_hub(raw)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("activation_function", "relu"),
        ("scale_embedding", True),
        ("tie_word_embeddings", False),
        ("decoder_attention_heads", 7),
        ("encoder_attention_heads", 5),
        ("d_model", "384"),
        ("encoder_layers", 10_000),
        ("vocab_size", 0),
        ("quantization_config", {}),
        ("a_new_idea", True),
    ],
)
def test_a_setting_that_would_change_the_mathematics_is_refused(
    setting: str, value: object
) -> None:
    with pytest.raises(ModelError, match=setting):
        WhisperConfig.from_hub({"model_type": "whisper", setting: value})


def test_tensors_of_other_models_are_not_taken_for_whispers() -> None:
    assert sniff({}, {}) is None
    assert sniff({"encoder.conv1.weight": (384, 80, 3)}, {"dims": {}}) is None
    assert sniff({"decoder.token_embedding.weight": (9, 9)}, {"dims": 3}) is None


def test_dims_that_do_not_fit_the_tensors_are_refused(one: Trio, tmp_path: Path) -> None:
    wrong = dict(one.dims) | {"n_text_head": 5}
    with pytest.raises(ModelError, match="decoder_attention_heads"):
        load(save(tmp_path, wrong, one.weights))
    weights = dict(one.weights)
    del weights["decoder.blocks.1.cross_attn.key.weight"]
    with pytest.raises(ModelError, match="blocks.1.cross.k.weight: missing"):
        load(save(tmp_path, one.dims, weights))


def test_a_text_longer_than_the_positions_is_a_mistake(one: Trio) -> None:
    memory = one.ours.encode(one.mel())
    with pytest.raises(AssertionError, match="33 tokens, where there are 32"):
        one.ours.decode(one.tokens(33), memory)


@torch.no_grad()
def test_it_computes_in_bfloat16(one: Trio, tmp_path: Path) -> None:
    from alm_cli.runtime import place

    rough = load(save(tmp_path, one.dims, one.weights)).model
    place(rough, torch.device("cpu"), torch.bfloat16)
    tokens = one.tokens(6)
    logits = rough.decode(tokens, rough.encode(one.mel()))
    exact = one.ours.decode(tokens, one.ours.encode(one.mel()))
    assert logits.dtype == torch.float32 and not torch.equal(logits, exact)
    assert torch.corrcoef(torch.stack([logits.flatten(), exact.flatten()]))[0, 1] > 0.99


@pytest.mark.skipif(not can_pack(), reason="torch packs weights on x86 only")
@torch.no_grad()
def test_weights_that_are_half_floats_are_packed_without_a_change(
    one: Trio, tmp_path: Path
) -> None:
    half = {name: tensor.half() for name, tensor in one.weights.items()}
    ours = load(save(tmp_path, one.dims, half)).model
    mel, tokens = one.mel(), one.tokens(12, 3)
    memory = ours.encode(mel)
    before, scores = ours.decode(tokens, memory), ours.attend(tokens[:1], memory)[1]
    assert pack_exactly(ours.decoder) and not pack_exactly(one.ours.decoder)
    same_logits(ours.decode(tokens, memory), before)
    torch.testing.assert_close(ours.attend(tokens[:1], memory)[1], scores, atol=1e-4, rtol=1e-5)
    state = State()
    made = [ours.decode(part, memory, state) for part in tokens.split([4, 1, 7], 1)]
    same_logits(torch.cat(made, 1), before)


@pytest.mark.skipif(not can_pack(), reason="torch packs weights on x86 only")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("int8", [False, True])
@torch.no_grad()
def test_a_row_is_rounded_as_it_is_alone(
    one: Trio, tmp_path: Path, threads: int, int8: bool
) -> None:
    half = {name: tensor.half() for name, tensor in one.weights.items()}
    ours = load(save(tmp_path, one.dims, half)).model.eval()
    if int8:
        pack_int8(ours, SteadyInt8Linear)
    else:
        assert pack_exactly(ours.decoder, SteadyHalfLinear)
    mel, tokens = one.mel(batch=9), one.tokens(9, 9)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        memory = ours.encode(mel)
        alone = [_in_steps(ours, tokens[[n]], memory[[n]]) for n in range(9)]
        for count in range(2, 10):
            together = _in_steps(ours, tokens[:count], memory[:count])
            assert torch.equal(together, torch.cat(alone[:count])), count
    finally:
        torch.set_num_threads(before)


def _in_steps(model: Whisper, tokens: Tensor, memory: Tensor) -> Tensor:
    """Logits of a prompt of 4 and of single tokens after it."""
    state = State()
    parts = tokens.split([4, *[1] * (tokens.shape[1] - 4)], 1)
    return torch.cat([model.decode(part, memory, state) for part in parts], 1)


@pytest.mark.skipif(not can_pack(), reason="torch packs weights on x86 only")
@torch.no_grad()
def test_eight_bits_are_near(one: Trio, tmp_path: Path) -> None:
    ours = load(save(tmp_path, one.dims, one.weights)).model
    pack_int8(ours)
    mel, tokens = one.mel(), one.tokens(12)
    memory = ours.encode(mel)
    kept = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    layers = ours.decoder.listen(memory, State()).layers
    assert {tensor.dtype for pair in layers for tensor in pair} == {kept}
    made, exact = ours.decode(tokens, memory), one.openai(mel, tokens)
    assert 1e-3 < float((made - exact).norm() / exact.norm()) < 0.1
    assert float((made.argmax(-1) == exact.argmax(-1)).float().mean()) > 0.5


@pytest.mark.gpu
@torch.no_grad()
def test_it_computes_on_a_graphics_card(one: Trio, tmp_path: Path) -> None:
    ours = load(save(tmp_path, one.dims, one.weights)).model.cuda()
    memory, tokens = ours.encode(one.mel().cuda()), one.tokens(6)
    state, made = State(), []
    for part in tokens.cuda().split(2, 1):
        made.append(ours.decode(part, memory, state).cpu())
        state.reorder(torch.tensor([0]).cuda())
    expected = one.ours.decode(tokens, one.ours.encode(one.mel()))
    torch.testing.assert_close(torch.cat(made, 1), expected, atol=1e-2, rtol=0)


def test_trap_planning_a_model_does_not_import_the_compiler() -> None:
    """On the meta device, random starts and computed sinusoids would: seconds."""
    program = """
import sys, torch
from alm_cli.lm.whisper import Whisper, WhisperConfig
with torch.device("meta"):
    Whisper(WhisperConfig.from_hub({"model_type": "whisper"}))
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


HEADERS = {
    "whisper_tiny": "whisper-tiny",
    "whisper_tiny_en": "whisper-tiny.en",
    "whisper_base": "whisper-base",
    "whisper_small": "whisper-small",
    "whisper_medium": "whisper-medium",
    "whisper_large_v2": "whisper-large-v2",
    "whisper_large_v3": "whisper-large-v3",
    "whisper_large_v3_turbo": "whisper-large-v3-turbo",
    "distil_large_v3": "distil-large-v3",
    "distil_small_en": "distil-small.en",
}


@pytest.mark.parametrize("name", HEADERS)
def test_the_published_checkpoints_fit(name: str) -> None:
    theirs, card = header(name), find_card(HEADERS[name])
    renamed = {openai_name(key): shape for key, shape in theirs.items()}
    raw = sniff(renamed, {})
    assert raw is not None
    config = FAMILY.read_config(raw)
    with torch.device("meta"):
        model = Whisper(config)
    ours = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    for shapes in (theirs, renamed):
        steps = KEYS.plan(shapes, ours)
        assert {step.target for step in steps} == set(ours)
    assert sum(map(prod, theirs.values())) == card.parameters
    assert card.vocabularies == (model.vocabulary,)
    assert (
        card.note.startswith(f"speech in {model.languages}")
        or not model.multilingual
        or (card.name.startswith("distil"))
    )


def openai_name(name: str) -> str:
    """What OpenAI's program calls a tensor of the hub."""
    name = name.removeprefix("model.")
    for theirs, other in reversed(TO_HUB):
        if theirs == "ln_post":
            name = name.replace("encoder.layer_norm.", "encoder.ln_post.")
        elif name.count(other):
            name = name.replace(other, theirs)
    return name


def test_the_sizes_on_the_cards_are_those_of_the_family() -> None:
    cards = [card for card in CATALOG if card.family == "alm_cli.lm.whisper"]
    assert len(cards) == 17
    assert {vocabulary for card in cards for vocabulary in card.vocabularies} == set(VOCABULARIES)
    assert all((card.vocabularies == (51_864,)) == card.name.endswith(".en") for card in cards)
