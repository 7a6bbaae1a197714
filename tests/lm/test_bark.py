"""Bark against `transformers` and Suno's program with the same random weights."""

from __future__ import annotations

import json
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from alm_cli.catalog import find_card
from alm_cli.checkpoints.family import SettingsError
from alm_cli.checkpoints.load import load
from alm_cli.errors import ModelError
from alm_cli.lm.bark import FAMILY, KEYS, Bark, BarkConfig, Numbers, sniff
from alm_cli.nn.packed import can_pack, pack_exactly, pack_int8
from alm_cli.nn.state import State
from alm_cli.systems.bark_stages import (
    SUNO,
    Manner,
    coarse_codes,
    coarse_history,
    coarse_length,
    fine_codes,
    hub_manner,
    semantic_tokens,
)
from tests.golden import GOLDEN
from tests.lm.barks import (
    SUNO_CASES,
    SUNO_MOST,
    SUNO_SIZES,
    Barks,
    barks,
    suno_semantic,
    suno_text,
    suno_voice,
    suno_weights,
)
from tests.oracles import header

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.oracle,
    pytest.mark.filterwarnings("ignore"),  # of transformers about its own arguments
]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Barks:
    return barks(tmp_path_factory.mktemp("small"))


def noise(seed: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed)]


def prompt(bark: Bark, length: int = 11) -> tuple[Tensor, Tensor]:
    """Text and history of one row."""
    numbers = bark.numbers
    text = torch.full((1, numbers.inputs), numbers.text_pad)
    text[0, :length] = torch.arange(length) * 37 % 400 + numbers.text_offset
    return text, torch.full_like(text, numbers.semantics)


def their_semantic(pair: Barks, seed: int, voice: Any = None, **options: object) -> Tensor:
    text, _ = prompt(pair.ours)
    known = text != pair.ours.numbers.text_pad
    torch.manual_seed(seed)
    made = pair.theirs.semantic.generate(
        torch.where(known, text - pair.ours.numbers.text_offset, 0),
        attention_mask=known.long(),
        semantic_generation_config=pair.told[0],
        history_prompt=voice,
        **options,
    )[0]
    return made[made != pair.ours.numbers.semantics]


def spoken(length: int, below: int = 100) -> Tensor:
    """Semantic tokens [N]."""
    return torch.arange(length) * 29 % below


def voice_of(pair: Barks, length: int) -> dict[str, Tensor]:
    """What was said before, as transformers takes it."""
    codes = pair.ours.numbers.codes
    frames = int(length * pair.ours.numbers.ratio / 2)
    places = torch.arange(8 * frames).view(8, frames) * 23 % codes
    return {
        "semantic_prompt": spoken(length) + 1,
        "coarse_prompt": places[:2],
        "fine_prompt": places,
    }


def their_coarse(pair: Barks, semantic: Tensor, seed: int, voice: Any = None) -> Tensor:
    torch.manual_seed(seed)
    made: Tensor = pair.theirs.coarse_acoustics.generate(
        semantic[None].clone(),
        semantic_generation_config=pair.told[0],
        coarse_generation_config=pair.told[1],
        codebook_size=pair.ours.numbers.codes,
        history_prompt=voice,
    )
    return made


def their_fine(pair: Barks, coarse: Tensor, seed: int, voice: Any, temperature: object) -> Tensor:
    torch.manual_seed(seed)
    made: Tensor = pair.theirs.fine_acoustics.generate(
        coarse,
        semantic_generation_config=pair.told[0],
        coarse_generation_config=pair.told[1],
        fine_generation_config=pair.told[2],
        codebook_size=pair.ours.numbers.codes,
        history_prompt=voice,
        temperature=temperature,
    )[0]
    return made


def histories(pair: Barks, voice: dict[str, Tensor] | None) -> list[tuple[Tensor, Tensor]]:
    nothing = torch.zeros(0, dtype=torch.long)
    if voice is None:
        return [(nothing, nothing)]
    return [coarse_history(pair.ours.numbers, voice["semantic_prompt"], voice["coarse_prompt"])]


@torch.no_grad()
@pytest.mark.parametrize("bias", [False, True])
def test_logits_of_all_stages(bias: bool, small: Barks, tmp_path: Path) -> None:
    pair = barks(tmp_path, bias=True, safe=False) if bias else small
    theirs, ours = pair.theirs, pair.ours
    for name, stage in (("semantic", ours.semantic), ("coarse_acoustics", ours.coarse)):
        tokens = torch.arange(60).view(2, 30) * 7 % 200
        expected = getattr(theirs, name)(tokens).logits
        whole = stage(stage.embedding(tokens), State())
        torch.testing.assert_close(whole, expected[:, -1], atol=1e-4, rtol=0)
        state = State()
        for part in tokens.split([19, 1, 1, 8, 1], 1):
            logits = stage(stage.embedding(part), state)
        torch.testing.assert_close(logits, expected[:, -1], atol=1e-4, rtol=0)
    codes = torch.arange(2 * 8 * 40).view(2, 8, 40) * 11 % 65
    for book in (2, 7):
        expected = theirs.fine_acoustics(book, codes.mT).logits
        made = ours.fine(codes, book)
        assert float(made.std()) > 0.5
        torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(ours.fine(codes, book, 33), made[:, 33:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("greedy", [True, False], ids=["greedy", "sampled"])
def test_semantic_tokens_are_those_of_transformers(small: Barks, greedy: bool) -> None:
    manner = hub_manner(small.ours.hub)
    manner = manner.with_temperature(0.0) if greedy else manner
    lengths = set()
    for seed in (0,) if greedy else (1, 2, 3):
        theirs = their_semantic(small, seed, do_sample=not greedy)
        ours = semantic_tokens(small.ours, *prompt(small.ours), manner, noise(seed))[0]
        assert ours.tolist() == theirs.tolist()
        lengths.add(len(ours))
    assert greedy or len(lengths) > 1, "some end"


def test_trap_the_least_chance_of_an_end_counts_before_the_temperature(small: Barks) -> None:
    manner = replace(hub_manner(small.ours.hub), least_end=0.03)
    theirs = their_semantic(small, 3, min_eos_p=0.03, do_sample=True)
    ours = semantic_tokens(small.ours, *prompt(small.ours), manner, noise(3))[0]
    free = semantic_tokens(small.ours, *prompt(small.ours), hub_manner(small.ours.hub), noise(3))[0]
    assert ours.tolist() == theirs.tolist() and len(ours) < len(free)


def test_trap_text_and_history_are_added_not_joined(small: Barks) -> None:
    voice, (text, history) = voice_of(small, 15), prompt(small.ours)
    history[0, :15] = voice["semantic_prompt"]
    theirs = their_semantic(small, 4, voice, do_sample=True)
    manner = hub_manner(small.ours.hub)
    ours = semantic_tokens(small.ours, text, history, manner, noise(4))[0]
    assert ours.tolist() == theirs.tolist()
    assert (
        ours.tolist()
        != semantic_tokens(small.ours, *prompt(small.ours), manner, noise(4))[0].tolist()
    )


@pytest.mark.parametrize("voiced", [0, 14, 80])
def test_coarse_windows_are_those_of_transformers(small: Barks, voiced: int) -> None:
    """Past what is seen of both tokens, and with a history that is cut to it."""
    voice = voice_of(small, voiced) if voiced else None
    theirs = their_coarse(small, spoken(30), 5, voice)[0]
    manner = hub_manner(small.ours.hub)
    ours = coarse_codes(small.ours, [spoken(30)], histories(small, voice), manner, noise(5))[0]
    expected = (theirs - small.ours.numbers.semantics) % small.ours.numbers.codes
    assert ours.shape == (2, 45)
    assert ours.mT.flatten().tolist() == expected.tolist()


def test_trap_the_last_two_coarse_tokens_are_left_out_and_an_odd_number_stays_odd() -> None:
    numbers = Numbers()
    semantic, coarse = torch.arange(208), torch.arange(2 * 313).view(2, 313)
    heard, past = coarse_history(numbers, semantic, coarse)
    flat = (coarse + torch.tensor([[10_000], [11_024]])).mT.flatten()
    # 208 tokens are worth 625.25, of which the last two are left out.
    assert len(heard) == 208 and past.tolist() == flat[-625:-2].tolist()


def test_trap_lengths_are_rounded_in_single_precision_by_transformers() -> None:
    hub = replace(SUNO, suno=False)
    for length in range(1, 769):
        exact = int(np.floor(length * (75 / 49.9 * 2) / 2))
        single = int(torch.floor(torch.tensor([length]) * (75 / 49.9 * 2) / 2).item())
        assert coarse_length(Numbers(), length, SUNO) == exact
        assert coarse_length(Numbers(), length, hub) == single


def test_trap_transformers_lets_the_second_book_draw_beyond_its_codes(small: Barks) -> None:
    manner, numbers = hub_manner(small.ours.hub), small.ours.numbers
    logits = torch.zeros(1, 240)
    logits[0, 235] = 50.0
    begin = numbers.semantics + numbers.codes
    assert manner.coarse_tokens(logits, begin, 240 - begin, noise(0)).item() == 235
    assert SUNO.coarse_tokens(logits, begin, numbers.codes, noise(0)).item() < begin + 64


@pytest.mark.parametrize(("frames", "voiced"), [(9, 0), (64, 0), (65, 0), (150, 0), (70, 30)])
def test_fine_windows_are_those_of_transformers(small: Barks, frames: int, voiced: int) -> None:
    voice = voice_of(small, voiced) if voiced else None
    numbers, manner = small.ours.numbers, hub_manner(small.ours.hub)
    codes = torch.arange(2 * frames).view(frames, 2) * 13 % numbers.codes
    flat = (codes + torch.tensor([100, 164])).flatten()[None]
    past = None if voice is None else voice["fine_prompt"]
    theirs = their_fine(small, flat, 6, voice, 0.5)
    ours = fine_codes(small.ours, codes.mT, past, manner, noise(6)[0])
    assert ours.shape == (8, frames) and torch.equal(ours, theirs)


@pytest.mark.parametrize("temperature", [None, 1.0])
def test_trap_a_fine_temperature_of_one_takes_the_likeliest(
    small: Barks, temperature: float | None
) -> None:
    codes = torch.arange(40).view(20, 2)
    flat = (codes + torch.tensor([100, 164])).flatten()[None]
    theirs = their_fine(small, flat, 7, None, temperature)
    manner = hub_manner(replace(small.ours.hub, fine_temperature=temperature))
    assert manner.fine == 0
    assert torch.equal(fine_codes(small.ours, codes.mT, None, manner, noise(8)[0]), theirs)


def test_rows_are_what_they_are_alone(small: Barks) -> None:
    """Rows of several lengths; one that has ended leaves, and nothing is filled up."""
    ours, manner = small.ours, hub_manner(small.ours.hub)
    texts = [prompt(ours, length)[0] for length in (3, 11, 24)]
    history = prompt(ours)[1]
    generators = [noise(seed)[0] for seed in (1, 2, 3)]
    together = semantic_tokens(ours, torch.cat(texts), history.expand(3, -1), manner, generators)
    alone = [
        semantic_tokens(ours, text, history, manner, noise(seed))[0]
        for text, seed in zip(texts, (1, 2, 3), strict=True)
    ]
    assert [row.tolist() for row in together] == [row.tolist() for row in alone]
    parts = [spoken(length) for length in (30, 0, 12, 22)]
    past = histories(small, None) * 4
    rows = coarse_codes(ours, parts, past, manner, [noise(seed)[0] for seed in range(4)])
    for seed in (0, 2, 3):
        one = coarse_codes(ours, [parts[seed]], past[:1], manner, noise(seed))[0]
        assert rows[seed].tolist() == one.tolist()
    assert rows[1].shape == (2, 0)


def test_published_vocabularies_and_windows(tmp_path: Path) -> None:
    """Once with all the real numbers: windows of 60, 630 behind them, and 1024 frames."""
    pair = barks(tmp_path, wide=True)
    manner = hub_manner(pair.ours.hub)
    theirs = their_semantic(pair, 1, do_sample=True)
    ours = semantic_tokens(pair.ours, *prompt(pair.ours), manner, noise(1))[0]
    assert ours.tolist() == theirs.tolist()
    semantic, voice = spoken(24, 10_000), voice_of(pair, 400)
    flat = their_coarse(pair, semantic, 2, voice)
    coarse = coarse_codes(pair.ours, [semantic], histories(pair, voice), manner, noise(2))[0]
    assert coarse.mT.flatten().tolist() == ((flat[0] - 10_000) % 1024).tolist()
    theirs = their_fine(pair, flat, 3, voice, 0.5)
    fine = fine_codes(pair.ours, coarse, voice["fine_prompt"], manner, noise(3)[0])
    assert torch.equal(fine, theirs)


def suno_folder(folder: Path) -> Path:
    """The three files of Suno's program."""
    for name, weights in suno_weights().items():
        inputs, outputs = SUNO_SIZES[name]
        arguments = {"n_layer": 1, "n_head": 2, "n_embd": 16, "input_vocab_size": inputs}
        torch.save(
            {
                "model": {f"_orig_mod.{key}": tensor for key, tensor in weights.items()},
                "model_args": arguments | {"output_vocab_size": outputs, "bias": False},
                "best_val_loss": torch.tensor(2.0),
            },
            folder / f"{name}_2.pt",
        )
    return folder


@pytest.fixture(scope="module")
def suno(tmp_path_factory: pytest.TempPathFactory) -> Bark:
    made = load(suno_folder(tmp_path_factory.mktemp("suno"))).model
    assert isinstance(made, Bark)
    return made


@pytest.mark.parametrize("case", SUNO_CASES)
def test_tokens_are_those_of_sunos_program(suno: Bark, case: str) -> None:
    """Its files, its rules and its seeds; see fixtures/golden/make_bark_suno.py."""
    expected = load_file(GOLDEN / "bark_suno.safetensors")
    seed, voiced, options = SUNO_CASES[case]
    how = {key: value for key, value in options.items() if key != "temp"}
    manner = replace(
        SUNO, semantic=replace(SUNO.semantic, **how), coarse=replace(SUNO.coarse, **how)
    )
    manner = manner.with_temperature(options.get("temp", 0.7))
    numbers = replace(suno.numbers, semantic_most=SUNO_MOST)
    suno.numbers = numbers
    voice = {key: torch.from_numpy(part) for key, part in suno_voice().items()}
    text = torch.full((1, 256), numbers.text_pad)
    text[0, :40] = torch.tensor(suno_text()) + numbers.text_offset
    history = torch.full((1, 256), numbers.semantics)
    past = [(torch.zeros(0, dtype=torch.long),) * 2]
    if voiced:
        history[0] = voice["semantic_prompt"][-256:]
        past = [coarse_history(numbers, voice["semantic_prompt"], voice["coarse_prompt"])]
    semantic = semantic_tokens(suno, text, history, manner, noise(seed))[0]
    assert semantic.tolist() == expected[f"semantic.{case}"].tolist()
    heard = torch.from_numpy(suno_semantic())
    coarse = coarse_codes(suno, [heard], past, manner, noise(seed))[0]  # type: ignore[arg-type]
    assert coarse.tolist() == expected[f"coarse.{case}"].tolist()
    behind = voice["fine_prompt"] if voiced else None
    # Its fine stage always has a temperature of 0.5.
    fine = fine_codes(suno, coarse, behind, SUNO, noise(seed)[0])
    assert fine.tolist() == expected[f"fine.{case}"].tolist()


def test_trap_suno_ends_at_a_chance_after_the_temperature() -> None:
    """At 0.2 or more, whatever was drawn; the nucleus is cut before."""
    logits = torch.zeros(1, 10)
    logits[0, 4] = 0.5  # of the first five a chance of 0.29 at temperature 1, of 0.34 at 0.7
    cold = replace(SUNO, least_end=0.3)
    warm = cold.with_temperature(1.0)
    for manner, always in ((cold, True), (warm, False)):
        drawn = {manner.semantic_tokens(logits, 4, noise(seed)).item() for seed in range(20)}
        assert (drawn == {4}) == always and max(drawn) == 4


@torch.no_grad()
@pytest.mark.skipif(not can_pack(), reason="torch packs weights on x86 only")
def test_packed_weights(small: Barks, tmp_path: Path) -> None:
    tokens = torch.arange(20)[None]
    half = {name: tensor.half().float() for name, tensor in small.theirs.state_dict().items()}
    torch.save(half, tmp_path / "pytorch_model.bin")
    for name in ("config.json", "generation_config.json"):
        (tmp_path / name).write_bytes((small.folder / name).read_bytes())
    bark = load(tmp_path).model
    assert isinstance(bark, Bark)
    before = bark.coarse(bark.coarse.embedding(tokens), State())
    assert pack_exactly(bark.coarse) and not pack_exactly(small.ours.coarse)
    after = bark.coarse(bark.coarse.embedding(tokens), State())
    torch.testing.assert_close(after, before, atol=1e-4, rtol=0)
    pack_int8(bark.semantic)
    made = bark.semantic(bark.semantic.embedding(tokens), State())
    exact = small.ours.semantic(small.ours.semantic.embedding(tokens), State())
    assert 1e-4 < float((made - exact).norm() / exact.norm()) < 0.1


def raw(**changes: object) -> dict[str, object]:
    """A config.json with the published sizes."""
    stages = {
        "semantic_config": {"input_vocab_size": 129_600, "output_vocab_size": 10_048},
        "coarse_acoustics_config": {"input_vocab_size": 12_096, "output_vocab_size": 12_096},
        "fine_acoustics_config": {"input_vocab_size": 1056, "output_vocab_size": 1056},
    }
    for name, value in changes.items():
        stage, _, key = name.partition("__")
        stages[f"{stage}_config"][key] = value  # type: ignore[assignment]
    return {"model_type": "bark", "codec_config": {}, "initializer_range": 0.02, **stages}


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("semantic__hidden_size", "768"),
        ("semantic__num_heads", 7),
        ("semantic__num_layers", 10_000),
        ("semantic__input_vocab_size", 1000),
        ("coarse_acoustics__output_vocab_size", 12_000),
        ("coarse_acoustics__block_size", 512),
        ("fine_acoustics__block_size", 512),
        ("fine_acoustics__n_codes_total", 9),
        ("fine_acoustics__n_codes_given", 2),
        ("fine_acoustics__a_new_idea", True),
    ],
)
def test_settings_that_cannot_be_built_are_refused(change: str, value: object) -> None:
    BarkConfig.from_hub(raw())
    with pytest.raises(SettingsError, match=f"{change.partition('__')[0]}_config"):
        BarkConfig.from_hub(raw(**{change: value}))


@pytest.mark.parametrize("value", [0, -1, "60", True, float("nan"), 1e9, [60]])
def test_numbers_of_the_generation_are_numbers(value: object) -> None:
    told = {"coarse_acoustics_config": {"sliding_window_len": value}}
    with pytest.raises(SettingsError, match="sliding_window_len"):
        BarkConfig.from_hub(raw() | {"generation_config.json": told})


def test_a_setting_beside_the_stages_is_refused() -> None:
    with pytest.raises(SettingsError, match="a_new_idea: unknown"):
        BarkConfig.from_hub(raw() | {"a_new_idea": 1})


def test_what_the_published_generation_config_asks_for() -> None:
    section = {"do_sample": True, "temperature": 0.7, "top_k": 50, "top_p": 1.0}
    told = {
        "semantic_config": {**section, "max_new_tokens": 768, "bad_words_ids": None},
        "coarse_acoustics_config": {**section, "max_new_tokens": None},
        "fine_acoustics_config": {"temperature": 0.5, "top_k": 50},
    }
    config = BarkConfig.from_hub(raw() | {"generation_config.json": told})
    assert config.numbers == Numbers()
    manner = hub_manner(config.hub)
    assert (manner.semantic.temperature, manner.semantic.top_k) == (0.7, 50)
    assert (manner.fine, manner.least_end, manner.suno) == (0.5, None, False)


def test_the_defaults_of_transformers_draw_nothing() -> None:
    manner = hub_manner(BarkConfig.from_hub(raw()).hub)
    assert manner.semantic.temperature == manner.coarse.temperature == manner.fine == 0


def test_files_of_suno_that_lack_one_are_refused(tmp_path: Path) -> None:
    suno_folder(tmp_path)
    (tmp_path / "fine_2.pt").unlink()
    with pytest.raises(ModelError, match="which of coarse_2.pt, text_2.pt"):
        load(tmp_path)
    assert sniff({"text.transformer.wte.weight": (9, 9)}, {}) is None


def test_a_tensor_that_lacks_or_is_too_many_is_named(small: Barks, tmp_path: Path) -> None:
    weights = {name: tensor.clone() for name, tensor in small.theirs.state_dict().items()}
    del weights["coarse_acoustics.layers.1.attn.att_proj.weight"]
    weights["semantic.something"] = torch.zeros(1)
    torch.save(weights, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_bytes((small.folder / "config.json").read_bytes())
    (tmp_path / "generation_config.json").write_bytes(
        (small.folder / "generation_config.json").read_bytes()
    )
    with pytest.raises(ModelError, match="semantic.something") as caught:
        load(tmp_path)
    assert "coarse.transformer.blocks.1.attention.{q,k,v}" in str(caught.value).replace(
        "attention.q", "attention.{q,k,v}"
    )


@pytest.mark.parametrize(("name", "heads", "layers"), [("bark_small", 12, 12), ("bark", 16, 24)])
def test_the_published_checkpoints_fit(name: str, heads: int, layers: int) -> None:
    theirs, card = header(name), find_card(name.replace("_", "-"))
    sizes = {"hidden_size": 64 * heads, "num_heads": heads, "num_layers": layers, "bias": False}
    changes = {
        f"{stage}__{key}": value
        for stage in ("semantic", "coarse_acoustics", "fine_acoustics")
        for key, value in sizes.items()
    }
    config = FAMILY.read_config(raw(**changes))
    with torch.device("meta"):
        model = FAMILY.model(config)
    ours = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    steps = KEYS.plan(theirs, ours)
    assert {step.target for step in steps} == set(ours)
    masks = [key for key in theirs if key.endswith("attn.bias")]
    heads_of_fine = [key for key in theirs if ".lm_heads." in key]
    used = {key: shape for key, shape in theirs.items() if key not in {*masks, *heads_of_fine}}
    stages = [shape for key, shape in used.items() if not key.startswith("codec_model.")]
    codec = find_card("encodec-24khz").parameters
    assert sum(map(prod, stages)) + codec == card.parameters
    # All numbers of the file; heads of the fine stage share the storage of its embeddings.
    size = 4 * sum(map(prod, used.values())) + sum(prod(theirs[key]) for key in masks)
    published = {"bark_small": 1_676_663_913, "bark": 4_486_643_861}[name]
    assert 0 < published - size < 300_000
    assert card.vocabularies == (1024,) * 8
    assert json.dumps(card.files)
    assert isinstance(hub_manner(config.hub), Manner)
