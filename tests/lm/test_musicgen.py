"""MusicGen against `transformers` with the same random weights, and the traps of its references."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from alm_cli.catalog import find_card
from alm_cli.checkpoints.family import SettingsError
from alm_cli.checkpoints.load import load
from alm_cli.lm.musicgen import FAMILY, KEYS, MusicGenConfig, positions
from alm_cli.nn.chroma import chroma
from alm_cli.nn.state import State
from alm_cli.systems.composer import Piece
from alm_cli.values import Audio, Origin, Tokens
from tests.lm.musicgens import CODES, FORMS, PROMPTS, Pair, musicgens
from tests.oracles import header

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.oracle,
    pytest.mark.filterwarnings("ignore"),  # of transformers about its own arguments
]

FRAMES = 24
RATE = 50


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[str, Pair] = {}

    def pair(form: str) -> Pair:
        if form not in made:
            made[form] = musicgens(tmp_path_factory.mktemp(form), **FORMS[form])
        return made[form]

    return pair


@pytest.fixture(params=FORMS)
def pair(request: pytest.FixtureRequest, pairs: Any) -> Pair:
    found: Pair = pairs(request.param)
    return found


def piece(frames: int = FRAMES, **more: Any) -> Piece:
    usual: dict[str, Any] = {"prompt": "calm piano", "seconds": frames / RATE, "top_k": 50}
    return Piece(**usual | more)


def our_codes(pair: Pair, asked: Piece) -> Tensor:
    """[S, K, F]."""
    tokens = pair.ours.compose([asked])[0].tokens
    assert tokens is not None
    return torch.from_numpy(tokens.codes).long()


def tune(length: int, low: float = 200.0) -> Tensor:
    """wave [T] at 32 kHz whose pitch rises."""
    seconds = torch.arange(length) / 32_000
    return torch.sin(2 * torch.pi * (low + 100 * seconds) * seconds)


def past_of(pair: Pair, frames: int) -> tuple[Tensor, Tokens]:
    """The same codes as transformers takes them, and as tokens of the codec."""
    config = pair.model.config
    books = config.books // config.channels
    codes = torch.randint(CODES, (config.books, frames), generator=torch.manual_seed(3))
    by_channel = codes.view(books, config.channels, frames).transpose(0, 1)
    origin = Origin(
        codec="encodec-32khz",
        weights_sha256="",
        rate=32_000,
        hop=640,
        frame_rate=50.0,
        vocabularies=(CODES,) * books,
        channels=1,
        source_rate=32_000,
        source_channels=config.channels,
        source_length=frames * 640,
        source_sha256="",
    )
    return codes, Tokens(by_channel.numpy().astype(np.int32), origin)


def test_greedy_tokens_are_those_of_transformers(pair: Pair) -> None:
    theirs = pair.their_codes("calm piano", FRAMES, do_sample=False)
    assert torch.equal(our_codes(pair, piece(temperature=0.0)), theirs)
    assert len(theirs.unique()) > 8  # it does not say the same thing all the time


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"top_k": 50}, {"top_k": 50}),
        ({"top_k": 250}, {"top_k": 250}),
        ({"top_k": 50, "guidance_scale": 1.0}, {"top_k": 50, "guidance": 1.0}),
    ],
    ids=["top-k 50", "top-k 250", "without guidance"],
)
def test_sampled_tokens_are_those_of_transformers(
    pair: Pair, theirs: dict[str, Any], ours: dict[str, Any]
) -> None:
    expected = pair.their_codes("calm piano", FRAMES, 5, **theirs)
    assert torch.equal(our_codes(pair, piece(seed=5, **ours)), expected)


def test_trap_5_guidance_then_temperature_then_the_likeliest_then_the_nucleus(pairs: Any) -> None:
    pair = pairs("mono")
    how = {"temperature": 0.8, "top_k": 40, "top_p": 0.9}
    expected = pair.their_codes("a waltz", FRAMES, 2, guidance_scale=5.0, **how)
    ours = our_codes(pair, piece(prompt="a waltz", seed=2, guidance=5.0, **how))
    assert torch.equal(ours, expected)


@pytest.mark.parametrize("seed", range(8))
def test_eight_prompts_have_the_tokens_of_transformers(pairs: Any, seed: int) -> None:
    pair, prompt = pairs("mono"), PROMPTS[seed]
    expected = pair.their_codes(prompt, 12, seed, top_k=250)
    assert torch.equal(our_codes(pair, piece(12, prompt=prompt, seed=seed, top_k=250)), expected)


def test_500_steps_have_the_tokens_of_transformers(pairs: Any) -> None:
    pair = pairs("mono")
    expected = pair.their_codes("x", 497, 1, top_k=250)
    assert torch.equal(our_codes(pair, piece(497, prompt="x", seed=1, top_k=250)), expected)


def test_what_goes_on_has_the_tokens_of_transformers(pair: Pair) -> None:
    past, tokens = past_of(pair, 11)
    expected = pair.their_codes("x", FRAMES, 4, past=past)
    ours = our_codes(pair, piece(prompt="x", seed=4, past=tokens))
    # Trap 2: as many frames as were asked for, though the prompt shifts all lengths.
    assert expected.shape[2] == 11 + FRAMES and ours.shape[2] == FRAMES
    assert torch.equal(expected[:, :, :11], torch.from_numpy(tokens.codes).long())
    assert torch.equal(ours, expected[:, :, 11:])


@torch.no_grad()
def test_logits_are_within_1e_4_of_transformers(pair: Pair) -> None:
    codes = torch.randint(CODES, (1, pair.model.config.books, 40))
    ours = pair.ours.logits(piece(guidance=1.0), codes)
    grid = pair.ours._engine._grid(codes, 40)
    steps = F.pad(grid, (1, 0), value=CODES)[0, :, :-1]
    ids = torch.tensor([pair.ours.ids("calm piano")])
    theirs = pair.theirs(
        input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=steps
    ).logits[:, -steps.shape[1] :]
    torch.testing.assert_close(ours, theirs.transpose(0, 1), atol=1e-4, rtol=0)
    assert theirs.std() > 0.3


@pytest.mark.parametrize("form", ["melody", "stereo-melody"])
def test_trap_12_the_same_melody_has_the_tokens_of_transformers(pairs: Any, form: str) -> None:
    pair, wave = pairs(form), tune(70_000)
    expected = pair.their_codes("a waltz", FRAMES, 6, chroma=chroma(wave))
    audio = Audio(wave[None].numpy(), 32_000)
    assert torch.equal(our_codes(pair, piece(prompt="a waltz", seed=6, melody=audio)), expected)


def test_trap_12_two_melodies_give_two_pieces_and_none_is_not_zeros(pairs: Any) -> None:
    pair = pairs("melody")
    waves = [tune(70_000, low)[None].numpy() for low in (200.0, 330.0)]
    asked = [None, *(Audio(wave, 32_000) for wave in waves)]
    made = [our_codes(pair, piece(melody=melody)).tolist() for melody in asked]
    assert len({json.dumps(codes) for codes in made}) == 3
    # No melody is a C throughout, for those who are guided too.
    silent = Audio(np.zeros((1, 32_000), np.float32), 32_000)
    assert our_codes(pair, piece(melody=silent)).tolist() == made[0]


def test_trap_14_windows_go_on_from_the_end_of_the_one_before(
    pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = pairs("mono")
    monkeypatch.setattr(pair.ours._engine, "window", 30)
    monkeypatch.setattr(pair.ours._engine, "stride", 18)
    ours = our_codes(pair, piece(75, seed=9))
    made = pair.their_codes("calm piano", 30, 9)
    for begin, length in ((18, 30), (36, 30), (54, 21)):
        past = made[0, :, begin:]
        # No new seed: one stream of chances runs through all windows.
        goes_on = pair.their_codes("calm piano", length - 12, None, past=past)
        made = torch.cat((made, goes_on[:, :, 12:]), 2)
    assert torch.equal(ours, made)


def test_trap_14_a_melody_goes_on_through_the_windows_and_begins_again(pairs: Any) -> None:
    engine = pairs("melody").ours._engine
    work = pairs("melody").ours._work(piece(melody=Audio(tune(40_000)[None].numpy(), 32_000)))
    assert work.melody is not None and len(work.melody) == 10
    first, later = engine._melody(work, 0), engine._melody(work, 900)
    assert torch.equal(first[:10], first[10:20])
    # 18 s are 140.6 frames of a melody.
    assert torch.equal(later, work.melody[torch.arange(141, 161) % 10])


def test_trap_1_the_special_id_can_be_fed_and_never_sampled(pair: Pair) -> None:
    decoder = pair.model.decoder
    assert {len(table.weight) for table in decoder.embeddings} == {CODES + 1}
    assert {output.out_features for output in decoder.outputs} == {CODES}
    grid = pair.ours._engine._grid(torch.zeros(1, pair.model.config.books, 0).long(), 5)
    late = pair.model.lags[-1]
    assert grid.shape[2] == 5 + late  # trap 2: so many steps more
    # Trap 3: before a book begins and after it ends; all books are drawn at every step.
    for book, lag in enumerate(pair.model.lags):
        row = [CODES] * lag + [-1] * 5 + [CODES] * (late - lag)
        assert grid[0, book].tolist() == row


def test_trap_4_the_likeliest_250_are_the_default(pairs: Any) -> None:
    usual = our_codes(pairs("mono"), piece(top_k=None))
    assert torch.equal(usual, our_codes(pairs("mono"), piece(top_k=250)))
    assert not torch.equal(usual, our_codes(pairs("mono"), piece(top_k=50)))


def test_trap_7_words_that_fill_up_are_not_heard(pairs: Any) -> None:
    model = pairs("mono").model
    words = torch.randn(1, 5, 32)
    filled = F.pad(words, (0, 0, 0, 3))
    mask = (torch.arange(8) < 5)[None]
    codes = torch.randint(CODES, (1, 4, 6))
    alone = model.decoder(codes, model.decoder.hear(words), State())
    together = model.decoder(codes, model.decoder.hear(filled, mask), State())
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    unmasked = model.decoder(codes, model.decoder.hear(filled), State())
    assert not torch.allclose(unmasked, alone, atol=1e-3)


def test_trap_8_positions_are_cosines_before_sines() -> None:
    from transformers.models.musicgen.modeling_musicgen import MusicgenSinusoidalPositionalEmbedding

    theirs = MusicgenSinusoidalPositionalEmbedding.get_embedding(2048, 1024)
    ours = positions(2048, 1024, torch.float32, torch.device("cpu"))
    assert torch.equal(ours, theirs)


def test_trap_11_channels_lie_beside_one_another_and_lag_together(pairs: Any) -> None:
    pair = pairs("stereo")
    assert pair.model.lags == (0, 0, 1, 1, 2, 2, 3, 3)
    codes, tokens = past_of(pair, 7)
    assert torch.equal(pair.ours._past(tokens), codes)
    assert torch.equal(pair.ours._by_channel(codes), torch.from_numpy(tokens.codes).long())


PUBLISHED: dict[str, Any] = {
    "model_type": "musicgen",
    "text_encoder": {
        "model_type": "t5", "d_ff": 3072, "d_kv": 64, "d_model": 768, "dense_act_fn": "relu",
        "feed_forward_proj": "relu", "is_gated_act": False, "n_positions": 512, "num_heads": 12,
        "num_layers": 12, "output_past": True, "relative_attention_max_distance": 128,
        "relative_attention_num_buckets": 32, "vocab_size": 32_128,
    },
    "audio_encoder": {
        "model_type": "encodec", "sampling_rate": 32_000, "num_filters": 64,
        "upsampling_ratios": [8, 5, 4, 4], "codebook_size": 2048, "target_bandwidths": [2.2],
        "use_causal_conv": False, "use_conv_shortcut": False, "hidden_size": 128,
        "chunk_length_s": None, "overlap": None, "normalize": False,
    },
    "decoder": {"model_type": "musicgen_decoder", "activation_function": "gelu"},
}  # fmt: skip
_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "ffn_dim")
SIZES = {
    "small": dict(zip(_SIZES, (1024, 24, 16, 4096), strict=True)),
    "medium": dict(zip(_SIZES, (1536, 48, 24, 6144), strict=True)),
    "large": dict(zip(_SIZES, (2048, 48, 32, 8192), strict=True)),
}


def published(name: str) -> dict[str, Any]:
    """The settings of `musicgen-<name>`."""
    size = next((size for size in SIZES if size in name), "medium")
    stereo = {"num_codebooks": 8, "audio_channels": 2} if "stereo" in name else {}
    more = {"model_type": "musicgen_melody", "num_chroma": 12, "chroma_length": 235}
    decoder = PUBLISHED["decoder"] | SIZES[size] | stereo
    return PUBLISHED | {"decoder": decoder} | (more if "melody" in name else {})


@pytest.mark.parametrize(
    ("fixture", "name"),
    [
        ("musicgen_small", "small"),
        ("musicgen_melody", "melody"),
        ("musicgen_stereo_large", "stereo-large"),
    ],
)
def test_trap_13_the_published_checkpoints_fit(fixture: str, name: str) -> None:
    codec = header("encodec_32khz")
    theirs = header(fixture) | {f"audio_encoder.{part}": shape for part, shape in codec.items()}
    with torch.device("meta"):
        model = FAMILY.model(MusicGenConfig.from_hub(published(name)))
    ours = {part: tuple(tensor.shape) for part, tensor in model.state_dict().items()}
    assert {step.target for step in KEYS.plan(theirs, ours)} == set(ours)
    if name == "small":
        # Float32, as large as the file on the hub: 2.36 GB.
        assert 2.355e9 < 4 * sum(map(prod, theirs.values())) < 2.365e9


@pytest.mark.parametrize(
    "name",
    [
        "small", "medium", "large", "melody", "melody-large", "stereo-small", "stereo-medium",
        "stereo-large", "stereo-melody", "stereo-melody-large",
    ],
)  # fmt: skip
def test_the_cards_count_the_weights_in_use(name: str) -> None:
    card = find_card(f"musicgen-{name}")
    with torch.device("meta"):
        model = FAMILY.model(MusicGenConfig.from_hub(published(name)))
    own = sum(tensor.numel() for tensor in model.state_dict().values())
    assert card.parameters == own + 57_925_313  # those of EnCodec, both halves
    assert card.restricted and "NC" in card.licence


@pytest.mark.parametrize(
    ("section", "change"),
    [
        (None, {"text_encoder": None}),
        (None, {"audio_encoder": 7}),
        (None, {"decoder": "x"}),
        (None, {"surprise": 1}),
        (None, {"model_type": "musicgen_melody", "num_chroma": 24}),
        (None, {"model_type": "musicgen_melody", "chroma_length": 0}),
        ("decoder", {"hidden_size": 10**9}),
        ("decoder", {"hidden_size": 1000, "num_attention_heads": 16}),
        ("decoder", {"hidden_size": 12, "num_attention_heads": 4}),
        ("decoder", {"num_hidden_layers": 10**6}),
        ("decoder", {"num_codebooks": 7, "audio_channels": 2}),
        ("decoder", {"audio_channels": 3}),
        ("decoder", {"activation_function": "relu"}),
        ("decoder", {"scale_embedding": True}),
        ("decoder", {"pad_token_id": 0}),
        ("decoder", {"cross_attention_hidden_size": 768}),
        ("decoder", {"surprise": 1}),
        ("text_encoder", {"feed_forward_proj": "swish"}),
        ("text_encoder", {"model_type": "bert"}),
        ("text_encoder", {"relative_attention_num_buckets": 30}),
        ("text_encoder", {"relative_attention_max_distance": 2}),
        ("text_encoder", {"num_layers": -1}),
    ],
)
def test_settings_that_are_not_built_are_refused(section: str | None, change: Any) -> None:
    raw = published("small")
    raw = raw | change if section is None else raw | {section: raw[section] | change}
    with pytest.raises(SettingsError) as caught:
        MusicGenConfig.from_hub(raw)
    assert (section or "config.json") in str(caught.value)


def test_settings_as_they_were_first_published_are_read() -> None:
    raw = published("small")
    generic = {"top_k": 50, "no_repeat_ngram_size": 0, "is_encoder_decoder": False, "prefix": None}
    raw = raw | {"is_encoder_decoder": True, "_commit_hash": None}
    for section in ("text_encoder", "audio_encoder", "decoder"):
        raw[section] = raw[section] | generic
    assert MusicGenConfig.from_hub(raw) == MusicGenConfig.from_hub(published("small"))


def test_weights_in_pieces_are_read(pairs: Any, tmp_path: Path) -> None:
    pair = pairs("mono")
    pair.theirs.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ours = load(tmp_path).model.state_dict()
    whole = load(pair.folder).model.state_dict()
    assert ours.keys() == whole.keys()
    assert all(torch.equal(ours[name], whole[name]) for name in whole)


def test_mapped_weights_are_the_same(pairs: Any) -> None:
    folder = pairs("mono").folder
    mapped = load(folder, mapped=True).model.state_dict()
    whole = load(folder).model.state_dict()
    assert all(torch.equal(mapped[name], whole[name]) for name in whole)
