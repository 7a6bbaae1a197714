"""CSM against `transformers` with the same weights, trap by trap."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from alm_cli.catalog import find_card
from alm_cli.checkpoints.load import load
from alm_cli.checkpoints.reader import weight_files
from alm_cli.decoding.sampling import Sampling, sample
from alm_cli.errors import ModelError
from alm_cli.lm.csm import FAMILY, KEYS, Csm, CsmConfig, sniff
from alm_cli.nn.llama import Streams
from alm_cli.nn.packed import can_pack, pack_exactly, pack_int8
from alm_cli.nn.position import Rotary, Stretch
from alm_cli.nn.state import State
from tests.lm.csms import HOP, MIMI, ROPE, TINY, reference, their_frames, tokenizer, written
from tests.oracles import header

FRAMES, FEW = 50, 12
MANNERS = {
    "warm": {"temperature": 0.9, "top_k": 20},
    "hot nucleus": {"temperature": 1.3, "top_k": 0, "top_p": 0.8},
}
# What sesame/csm-1b says, in the spelling of its time.
SCALING = {"factor": 32.0, "rope_type": "llama3"}
PUBLISHED = {
    "model_type": "csm",
    "num_codebooks": 32,
    "audio_num_codebooks": 32,
    "vocab_size": 2051,
    "audio_vocab_size": 2051,
    "text_vocab_size": 128_256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000,
    "rope_scaling": SCALING
    | {
        "low_freq_factor": 0.125,
        "high_freq_factor": 0.5,
        "original_max_position_embeddings": 1024,
    },
    "codebook_eos_token_id": 0,
    "codebook_pad_token_id": 2050,
    "tie_codebooks_embeddings": True,
    "tie_word_embeddings": False,
    "transformers_weights": "transformers.safetensors.index.json",
    "codec_config": {"model_type": "mimi"},
    "depth_decoder_config": {
        "model_type": "csm_depth_decoder_model",
        "num_codebooks": 32,
        "vocab_size": 2051,
        "backbone_hidden_size": 2048,
        "hidden_size": 1024,
        "intermediate_size": 8192,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "max_position_embeddings": 33,
        "rope_theta": 500_000,
        "rope_scaling": SCALING
        | {
            "low_freq_factor": 0.001953125,
            "high_freq_factor": 0.0078125,
            "original_max_position_embeddings": 16,
        },
    },
}

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.oracle]


@dataclass(frozen=True)
class Pair:
    """The same weights twice: in the library, and loaded by us from its files."""

    theirs: Any
    ours: Csm
    folder: Path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("csm")
    theirs = written(folder)
    ours = load(folder).model
    assert isinstance(ours, Csm)
    return Pair(theirs, ours, folder)


def texts(*lengths: int) -> list[Tensor]:
    noise = torch.Generator().manual_seed(2)
    return [torch.randint(0, 296, (1, length), generator=noise) for length in lengths]


def likeliest(logits: Tensor) -> Tensor:
    return logits.argmax(-1)


@torch.inference_mode()
def our_frames(model: Csm, x: Tensor, count: int, choose: Callable[[Tensor], Tensor]) -> Tensor:
    """vectors [1, S, D] -> frames [1, F, K]."""
    state, frames = State(), []
    for _ in range(count):
        vector = model.read(x, state)
        frames.append(model.frame(vector, choose))
        x = model.frames(frames[-1][:, None])
    return torch.stack(frames, 1)


@torch.no_grad()
def test_logits_are_those_of_the_reference(pair: Pair) -> None:
    (text,) = texts(40)
    theirs = pair.theirs(input_ids=text).logits
    hidden = pair.ours.backbone(pair.ours.text(text))
    torch.testing.assert_close(pair.ours.first(hidden), theirs, atol=1e-4, rtol=0)
    codes = torch.randint(0, 67, (40, 6))
    deep = pair.theirs.depth_decoder(
        input_ids=F.pad(codes, (1, -1)), backbone_last_hidden_state=hidden[0]
    )
    seen: list[Tensor] = []
    rest = iter(codes.T)

    def forced(logits: Tensor) -> Tensor:
        seen.append(logits)
        return next(rest)

    assert torch.equal(pair.ours.frame(hidden[0], forced), codes)
    torch.testing.assert_close(torch.stack(seen[1:], 1), deep.logits[:, :5], atol=1e-4, rtol=0)
    assert deep.logits.abs().max() > 2


def test_the_likeliest_codes_are_those_of_the_reference(pair: Pair) -> None:
    (text,) = texts(11)
    theirs = their_frames(pair.theirs, {"do_sample": False}, FRAMES, input_ids=text)
    ours = our_frames(pair.ours, pair.ours.text(text), FRAMES, likeliest)
    assert torch.equal(ours, theirs)
    assert min(len(ours[0, :, book].unique()) for book in range(6)) > 20, "or it proves nothing"


@pytest.mark.parametrize("manner", MANNERS.values(), ids=MANNERS)
def test_drawn_codes_are_those_of_the_reference(pair: Pair, manner: dict[str, Any]) -> None:
    (text,), count = texts(7), FEW if "top_p" in manner else FRAMES
    torch.manual_seed(5)
    drawn = {"do_sample": True, "top_p": 1.0} | manner
    theirs = their_frames(pair.theirs, drawn, count, input_ids=text)
    noise, how = torch.Generator().manual_seed(5), Sampling(**manner)
    ours = our_frames(
        pair.ours, pair.ours.text(text), count, lambda logits: sample(logits, how, [noise])
    )
    assert torch.equal(ours, theirs)


@torch.inference_mode()
def test_a_batch_of_different_lengths_is_that_of_the_reference(pair: Pair) -> None:
    several = texts(4, 23, 9)
    padded = torch.cat([F.pad(text, (23 - text.shape[1], 0), value=298) for text in several])
    mask = torch.cat([F.pad(torch.ones_like(t), (23 - t.shape[1], 0)) for t in several])
    theirs = their_frames(
        pair.theirs, {"do_sample": False}, FEW, input_ids=padded, attention_mask=mask
    )
    states = [State() for _ in several]
    model, frames = pair.ours, []
    vectors = torch.cat(
        [model.read(model.text(t), state) for t, state in zip(several, states, strict=True)]
    )
    for _ in range(FEW):
        frames.append(model.frame(vectors, likeliest))
        vectors = model.read(model.frames(frames[-1][:, None]), Streams(states))
    assert torch.equal(torch.stack(frames, 1), theirs)


@torch.inference_mode()
def test_what_was_said_before_is_read_as_by_the_reference(pair: Pair) -> None:
    """Two turns of text and sound, then a text: frames where the library has audio tokens."""
    first, second, last = texts(5, 3, 8)
    noise = torch.Generator().manual_seed(3)
    clips = [0.3 * torch.randn(1, 1, frames * HOP, generator=noise) for frames in (7, 12)]
    codes = [pair.theirs.codec_model.encode(clip).audio_codes.mT for clip in clips]
    ids = [first, torch.full((1, 7), 298), torch.tensor([[299]])]
    ids += [second, torch.full((1, 12), 298), torch.tensor([[299]]), last]
    theirs = their_frames(
        pair.theirs,
        {"do_sample": False},
        FEW,
        input_ids=torch.cat(ids, 1),
        # Without one the library takes frames for filling: their token is that of padding too.
        attention_mask=torch.ones(1, 37, dtype=torch.long),
        input_values=torch.cat(clips, -1),
        input_values_cutoffs=torch.tensor([[7 * HOP, 19 * HOP]]),
    )
    model = pair.ours
    x = [model.text(first), model.frames(F.pad(codes[0], (0, 0, 0, 1)))]
    x += [model.text(second), model.frames(F.pad(codes[1], (0, 0, 0, 1))), model.text(last)]
    assert torch.equal(our_frames(model, torch.cat(x, 1), FEW, likeliest), theirs)


@torch.no_grad()
def test_trap_the_end_is_a_frame_of_zeros_in_all_books(tmp_path: Path) -> None:
    """The library looks at all books but the last; the authors' program at all."""
    theirs = reference()
    theirs.lm_head.weight.zero_()
    theirs.depth_decoder.codebooks_head.weight.zero_()
    (text,) = texts(5)
    frames = their_frames(theirs, {"do_sample": False}, 9, input_ids=text)
    assert frames.tolist() == [[[0] * 6]], "ties are won by code 0, and the library ends there"
    theirs.save_pretrained(tmp_path)
    ours = load(tmp_path).model
    assert isinstance(ours, Csm)
    assert not our_frames(ours, ours.text(text), 1, likeliest).any()


@torch.no_grad()
def test_trap_each_book_has_a_table_and_a_head_of_its_own(pair: Pair) -> None:
    model = pair.ours
    codes = torch.randint(0, 67, (1, 2, 6))
    table = model.audio_embedding.weight.view(6, 67, -1)
    each = sum(table[book, codes[..., book]] for book in range(6))
    torch.testing.assert_close(model.frames(codes), each)
    theirs = pair.theirs.depth_decoder.codebooks_head.weight
    assert model.others.weight.shape == (5, 67, 24)
    assert torch.equal(model.others.weight, theirs.mT)


def test_trap_the_library_writes_the_shared_table_under_one_of_two_names(pair: Pair) -> None:
    tensors = load_file(pair.folder / "model.safetensors")
    names = (
        "depth_decoder.model.embed_tokens.weight",
        ("backbone_model.embed_tokens.embed_audio_tokens.weight"),
    )
    assert (names[0] in tensors) != (names[1] in tensors)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    ours = {name: tuple(tensor.shape) for name, tensor in pair.ours.state_dict().items()}
    for present in (names[:1], names[1:], names):
        said = {name: shape for name, shape in shapes.items() if name not in names}
        steps = KEYS.plan(said | dict.fromkeys(present, (402, 32)), ours)
        table = next(step for step in steps if step.target == "audio_embedding.weight")
        assert table.sources == (present[-1],)


def in_pairs(weight: Tensor, head: int) -> Tensor:
    """weight [H * head, D] as torchtune has it: the two features that turn together adjoin."""
    halves = weight.view(-1, 2, head // 2, weight.shape[1])
    return halves.transpose(1, 2).reshape(weight.shape)


def of_the_authors(theirs: Any) -> dict[str, Tensor]:
    """The tensors of a model of the library by the names of the authors' program."""
    names = {"self_attn.o_proj": "attn.output_proj", "mlp.gate_proj": "mlp.w1"}
    names |= {"mlp.down_proj": "mlp.w2", "mlp.up_proj": "mlp.w3", "self_attn.v": "attn.v"}
    names |= {"self_attn.q": "attn.q", "self_attn.k": "attn.k"}
    names |= {"input_layernorm.weight": "sa_norm.scale", ".norm.weight": ".norm.scale"}
    names |= {"post_attention_layernorm.weight": "mlp_norm.scale"}
    names |= {"depth_decoder.model.inputs_embeds_projector": "projection"}
    names |= {"depth_decoder.codebooks_head.weight": "audio_head", "lm_head": "codebook0_head"}
    names |= {"backbone_model.embed_tokens.embed_audio_tokens": "audio_embeddings"}
    names |= {"embed_text_tokens": "text_embeddings", "backbone_model.": "backbone."}
    names |= {"depth_decoder.model.": "decoder."}
    tensors = {}
    for name, tensor in theirs.state_dict().items():
        if name.startswith("codec_model.") or name.endswith("model.embed_tokens.weight"):
            continue
        if "q_proj" in name or "k_proj" in name:
            tensor = in_pairs(tensor, 64 if name.startswith("backbone") else 128)
        for hub, other in names.items():
            name = name.replace(hub, other)
        tensors[name] = tensor.clone().contiguous()
    return tensors


@pytest.fixture(scope="module")
def authors(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A model of the library with heads as published, and the authors' files of the same."""
    seen = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope = ROPE | seen | {"original_max_position_embeddings": 8192}
    wide = {"hidden_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1}
    depth = TINY["depth_decoder_config"] | wide | {"head_dim": 128, "backbone_hidden_size": 48}
    wide |= {"head_dim": 64, "rope_parameters": rope, "max_position_embeddings": 16_384}
    depth |= {"rope_parameters": rope, "hidden_size": 40, "max_position_embeddings": 16_384}
    theirs = reference(**wide, depth_decoder_config=depth)
    folder = tmp_path_factory.mktemp("authors")
    save_file(of_the_authors(theirs), folder / "model.safetensors")
    said = {"audio_num_codebooks": 6, "audio_vocab_size": 67, "backbone_flavor": "llama-1B"}
    (folder / "config.json").write_text(json.dumps(said | {"decoder_flavor": "llama-100M"}))
    return theirs, folder


def test_the_authors_files_are_the_same_model(authors: tuple[Any, Path]) -> None:
    theirs, folder = authors
    loaded = load(folder)
    ours = loaded.model
    assert isinstance(ours, Csm) and loaded.config.codec is None
    (text,) = texts(9)
    expected = their_frames(theirs, {"do_sample": False}, FEW, input_ids=text)
    assert torch.equal(our_frames(ours, ours.text(text), FEW, likeliest), expected)


@torch.no_grad()
def test_trap_torchtune_turns_neighbours(authors: tuple[Any, Path]) -> None:
    """Queries and keys as they lie in the file, turned in pairs, are ours turned in halves."""
    ours, tensors = load(authors[1]).model, load_file(authors[1] / "model.safetensors")
    x = torch.randn(1, 9, 48)
    attention = ours.backbone.blocks[0].attention
    stretch = Stretch(factor=32.0, low=1.0, high=4.0, length=8192.0)
    q, k = (tensors[f"backbone.layers.0.attn.{part}_proj.weight"] for part in "qk")
    heads = [(x @ part.T).view(1, 9, -1, 64).transpose(1, 2) for part in (q, k)]
    q, k = (Rotary("pairs", 500_000.0, stretch)(part, 3) for part in heads)
    ours_q, ours_k, _ = attention._projected(x, None, 3)
    torch.testing.assert_close(ours_q @ ours_k.mT, q @ k.mT, atol=1e-4, rtol=1e-5)
    assert not torch.allclose(ours_q, q, atol=1e-2)


def test_trap_both_layouts_lie_in_one_repository(authors: tuple[Any, Path], tmp_path: Path) -> None:
    """model.safetensors is the authors', without the codec; the index names the hub's."""
    written(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "transformers-00001-of-00001.safetensors")
    names = load_file(tmp_path / "transformers-00001-of-00001.safetensors")
    index = {"weight_map": dict.fromkeys(names, "transformers-00001-of-00001.safetensors")}
    (tmp_path / "transformers.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model.safetensors").write_bytes((authors[1] / "model.safetensors").read_bytes())
    (found,) = weight_files(tmp_path)
    assert found.name == "transformers-00001-of-00001.safetensors"
    assert load(tmp_path).config.codec is not None


@pytest.mark.skipif(not can_pack(), reason="no packed products on this machine")
@torch.no_grad()
def test_packed_weights_say_the_same(pair: Pair) -> None:
    def fresh() -> Csm:
        model = load(pair.folder).model
        assert isinstance(model, Csm)
        return model

    (text,) = texts(9)
    halved = fresh()
    assert not pack_exactly(halved), "these weights are no half floats"
    for parameter in halved.parameters():
        parameter.data = parameter.data.half().float()
    expected = our_frames(halved, halved.text(text), 10, likeliest)
    assert pack_exactly(halved) and halved.others.together is not None
    assert torch.equal(our_frames(halved, halved.text(text), 10, likeliest), expected)
    rounded = fresh()
    pack_int8(rounded)
    vectors = [model.read(model.text(text), State()) for model in (rounded, pair.ours)]
    assert F.cosine_similarity(*vectors) > 0.99


@torch.no_grad()
def test_it_computes_in_bfloat16(pair: Pair) -> None:
    from alm_cli.runtime import place

    model = load(pair.folder).model
    assert isinstance(model, Csm)
    place(model, torch.device("cpu"), torch.bfloat16)
    logits: list[Tensor] = []

    def choose(one: Tensor) -> Tensor:
        logits.append(one)
        return one.argmax(-1)

    model.frame(model.read(model.text(texts(5)[0]), State()), choose)
    assert {one.dtype for one in logits} == {torch.float32}


def changes() -> Iterator[tuple[str, dict[str, Any]]]:
    for key, value in (
        ("hidden_act", "gelu"),
        ("attention_bias", True),
        ("mlp_bias", True),
        ("tie_codebooks_embeddings", False),
        ("codebook_eos_token_id", 1),
        ("num_codebooks", 0),
        ("audio_num_codebooks", 8),
        ("num_key_value_heads", 3),
        ("rms_norm_eps", -1.0),
        ("a_new_idea", True),
    ):
        yield key, {key: value}
    depth = PUBLISHED["depth_decoder_config"]
    assert isinstance(depth, dict)
    yield "depth_decoder_config", {"depth_decoder_config": depth | {"hidden_act": "gelu"}}
    yield "depth_decoder_config", {"depth_decoder_config": depth | {"num_codebooks": 8}}
    yield "depth_decoder_config", {"depth_decoder_config": "small"}
    yield "rope_parameters", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}
    yield "rope_parameters", {"rope_scaling": SCALING | {"low_freq_factor": "low"}}
    yield (
        "low_freq_factor",
        {"rope_scaling": SCALING | {"low_freq_factor": 4.0, "high_freq_factor": 1.0}},
    )
    yield "rope_parameters", {"rope_scaling": "llama3"}


@pytest.mark.parametrize(("named", "change"), list(changes()))
def test_a_setting_that_would_change_the_mathematics_is_refused(
    named: str, change: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match=named):
        CsmConfig.from_hub(PUBLISHED | change)


def test_the_published_settings_are_read_in_both_spellings() -> None:
    config = CsmConfig.from_hub(PUBLISHED)
    assert config.backbone.head_dimension == 64 and config.depth.head_dimension == 128
    depth = dict(PUBLISHED["depth_decoder_config"])  # type: ignore[call-overload]
    since = PUBLISHED | {"rope_parameters": PUBLISHED["rope_scaling"] | {"rope_theta": 5e5}}  # type: ignore[operator]
    depth["rope_parameters"] = depth.pop("rope_scaling") | {"rope_theta": 5e5}
    del since["rope_scaling"], since["rope_theta"], depth["rope_theta"]
    assert CsmConfig.from_hub(since | {"depth_decoder_config": depth}) == config
    # Both have the turns of the 8192 positions that the Llama was trained with.
    plain = Stretch(factor=32.0, low=1.0, high=4.0, length=8192.0)
    frequencies = 500_000.0 ** -(torch.arange(0, 64, 2) / 64)
    for base, stretch in config.turns:
        assert base == 500_000.0 and stretch is not None
        torch.testing.assert_close(stretch(frequencies), plain(frequencies))


def test_other_checkpoints_are_not_taken_for_one() -> None:
    assert sniff({"text_embeddings.weight": (9, 4)}, {}) is None
    assert sniff(header("mimi_kyutai"), {}) is None


@pytest.mark.parametrize(
    ("name", "tensors", "size"),
    [("csm_1b", 538, 7_133_500_964), ("csm_1b_sesame", 187, 6_211_186_784)],
)
def test_the_published_checkpoints_fit(name: str, tensors: int, size: int) -> None:
    theirs = header(name)
    if name == "csm_1b":
        theirs |= {f"codec_model.{part}": shape for part, shape in header("mimi").items()}
    settings = sniff(theirs, {}) or PUBLISHED
    config = CsmConfig.from_hub(settings)
    with torch.device("meta"):
        model = FAMILY.model(config)
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {step.target for step in KEYS.plan(theirs, ours)} == set(ours)
    assert len(theirs) == tensors
    # The files are float32, with some kilobytes of names before the numbers.
    assert 0 < size - 4 * sum(map(prod, theirs.values())) < 100_000
    assert config.backbone == CsmConfig.from_hub(PUBLISHED).backbone
    assert config.depth == CsmConfig.from_hub(PUBLISHED).depth


def test_the_card_counts_the_weights_in_use() -> None:
    card = find_card("csm-1b")
    with torch.device("meta"):
        model = Csm(CsmConfig.from_hub(PUBLISHED))
    codec = find_card("mimi").parameters
    assert card.parameters == sum(p.numel() for p in model.parameters()) + codec
    assert card.vocabularies == (2048,) * 32 and "Llama" in card.licence


def test_the_tokenizer_of_the_tests_has_what_the_model_reads() -> None:
    assert tokenizer().get_vocab_size() == TINY["text_vocab_size"]
    assert MIMI["num_quantizers"] == TINY["num_codebooks"]
