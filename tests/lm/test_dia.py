"""Dia against `transformers` with the same weights, trap by trap."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from alm_cli.catalog import find_card
from alm_cli.checkpoints.load import load
from alm_cli.decoding.sampling import Sampling
from alm_cli.errors import ModelError
from alm_cli.lm.dia import END, FAMILY, KEYS, Dia, DiaConfig, ended, guided
from alm_cli.nn.llama import Streams
from alm_cli.nn.state import State
from alm_cli.systems import dia_speaker
from alm_cli.systems.speaker import Line
from tests.lm.dias import LAGS, TINY, their_codes, written
from tests.oracles import header

# What nari-labs/Dia-1.6B-0626 says.
PUBLISHED: dict[str, Any] = {
    "model_type": "dia",
    "bos_token_id": 1026,
    "eos_token_id": 1024,
    "pad_token_id": 1025,
    "norm_eps": 1e-5,
    "delay_pattern": [0, 8, 9, 10, 11, 12, 13, 14, 15],
    "encoder_config": {
        "model_type": "dia_encoder",
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "max_position_embeddings": 1024,
        "norm_eps": 1e-5,
        "num_attention_heads": 16,
        "num_hidden_layers": 12,
        "num_key_value_heads": 16,
        "rope_scaling": None,
        "rope_theta": 10_000.0,
        "vocab_size": 256,
    },
    "decoder_config": {
        "model_type": "dia_decoder",
        "cross_head_dim": 128,
        "cross_hidden_size": 1024,
        "cross_num_attention_heads": 16,
        "cross_num_key_value_heads": 16,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "max_position_embeddings": 3072,
        "norm_eps": 1e-5,
        "num_attention_heads": 16,
        "num_channels": 9,
        "num_hidden_layers": 18,
        "num_key_value_heads": 4,
        "rope_scaling": None,
        "rope_theta": 10_000.0,
        "vocab_size": 1028,
    },
}
MANNERS = {
    "likeliest": Sampling(temperature=0),
    "published": Sampling(temperature=1.8, top_k=50, top_p=0.9),
    "hot": Sampling(temperature=2.5, top_k=200),
}

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.oracle]


@dataclass(frozen=True)
class Pair:
    """The same weights twice: in the library, and loaded by us from its files."""

    theirs: Any
    ours: Dia


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("dia")
    theirs = written(folder)
    ours = load(folder).model
    assert isinstance(ours, Dia)
    return Pair(theirs, ours)


def drawn(*shape: int, most: int, seed: int = 2) -> Tensor:
    return torch.randint(0, most, shape, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def our_codes(model: Dia, text: Tensor, prompt: Tensor, count: int, how: Sampling) -> Tensor:
    """As the library's, with the speaker's rows but without its codec."""
    line = Line(text="", seed=5, temperature=how.temperature, top_k=how.top_k, top_p=how.top_p)
    begun = dia_speaker._Prompt(text[0].tolist(), prompt, count)
    row = dia_speaker._Row(0, line, begun, model.lags)
    speech = dia_speaker._Speech(model, None)  # type: ignore[arg-type]
    speech._begun(row, begun)
    speech._rows, frames = [row], [prompt[:, :0]]
    while not row.done:
        row.draw()
        new = row.frames()
        frames += [] if new is None else [new]
        speech._listen()
    return torch.cat(frames, 1)


@torch.no_grad()
def test_logits_are_those_of_the_reference(pair: Pair) -> None:
    text, codes = drawn(1, 21, most=256), drawn(1, 30, 4, most=1028)
    theirs = pair.theirs(input_ids=text, decoder_input_ids=codes).logits.view(4, 30, 1028)
    heard, state = [pair.ours.read(text)], State()
    for begin, end in ((0, 17), (17, 18), (18, 30)):
        ours = pair.ours.speak(codes[:, begin:end], heard, state)
        torch.testing.assert_close(ours[0], theirs[:, end - 1], atol=1e-4, rtol=0)
    assert theirs.abs().max() > 2


@pytest.mark.parametrize("before", [0, 9])
@pytest.mark.parametrize("how", MANNERS.values(), ids=MANNERS)
def test_codes_are_those_of_the_reference(pair: Pair, how: Sampling, before: int) -> None:
    """With guidance; alone, and after codes that were said before."""
    text, prompt = drawn(1, 13, most=256), drawn(4, before, most=1024)
    manner: dict[str, Any] = {"do_sample": False, "top_k": None}
    if how.temperature:
        manner = {"do_sample": True, "temperature": how.temperature, "top_p": how.top_p}
        manner |= {"top_k": how.top_k}
    else:
        how = Sampling(temperature=0, top_k=50)
        manner["top_k"] = 50
    torch.manual_seed(5)
    theirs = their_codes(pair.theirs, text, prompt, 55, guidance_scale=3.0, **manner)
    ours = our_codes(pair.ours, text, prompt, 55, how)
    assert torch.equal(ours, theirs)
    assert theirs.shape[1] > 20 and min(len(book.unique()) for book in theirs) > 5


@torch.inference_mode()
def test_rows_of_different_lengths_are_as_alone(pair: Pair) -> None:
    texts = [drawn(1, length, most=256, seed=length) for length in (5, 19, 11)]
    codes = [drawn(1, length, 4, most=1024, seed=length) for length in (3, 8, 1)]
    model, states = pair.ours, [State() for _ in texts]
    heard = [model.read(text) for text in texts]
    for row, one, state in zip(codes, heard, states, strict=True):
        model.speak(row, [one], state)
    step = drawn(4, 1, 4, most=1024)
    together = model.speak(step, heard, Streams(states))
    for row in range(3):
        whole = torch.cat((codes[row], step[row : row + 1]), 1)
        alone = model.speak(whole, [heard[row]], State())
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-4, rtol=0)


def test_trap_guidance_chooses_and_the_text_decides() -> None:
    """`told + s (told - untold)` says which are best; what is drawn from is what the text says."""
    told, untold = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([[0.0, 2.5, 0.0]])
    # Guided 4.0, 0.5, 2.0.
    assert guided(told, untold, 3.0, 2).tolist() == [[1.0, -torch.inf, 0.5]]
    assert guided(told, untold, 3.0, 9).tolist() == told.tolist()


def test_trap_only_the_first_book_ends_and_only_where_that_is_likeliest() -> None:
    logits = torch.zeros(2, 1028)
    logits[:, 7], logits[:, END], logits[:, END + 2] = 1.0, 0.5, 9.0
    kept = ended(logits)
    assert kept.argmax(1).tolist() == [7, 7]
    assert not kept[:, END:].isfinite().any()
    logits[:, END] = 2.0
    kept = ended(logits)
    assert kept.argmax(1).tolist() == [END, 7] and kept[0].isfinite().sum() == 1


@torch.no_grad()
def test_trap_products_are_not_divided(pair: Pair) -> None:
    scales = {block.attention.scale for block in (*pair.ours.blocks, *pair.ours.encoder.blocks)}
    assert scales == {1.0}


def changes() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "a_new_idea", {"a_new_idea": True}
    yield "delay_pattern", {"delay_pattern": [1, 2]}
    yield "delay_pattern", {"delay_pattern": [0, -1]}
    yield "num_channels", {"delay_pattern": [0, 1]}
    yield "eos_token_id", {"eos_token_id": 7}
    yield "encoder_config", {"encoder_config": "small"}
    for half in ("encoder_config", "decoder_config"):
        for key, value in (
            ("hidden_act", "gelu"),
            ("num_key_value_heads", 5),
            ("rope_theta", 5e5),
            ("vocab_size", 20),
            ("a_new_idea", True),
        ):
            named = "rope_parameters" if key == "rope_theta" else key
            yield named, {half: PUBLISHED[half] | {key: value}}


@pytest.mark.parametrize(("named", "change"), list(changes()))
def test_a_setting_that_would_change_the_mathematics_is_refused(
    named: str, change: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match=named):
        DiaConfig.from_hub(PUBLISHED | change)


def test_the_published_checkpoint_fits() -> None:
    theirs, card = header("dia_1_6b"), find_card("dia-1.6b")
    with torch.device("meta"):
        model = FAMILY.model(DiaConfig.from_hub(PUBLISHED))
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    steps = KEYS.plan(theirs, ours)
    assert {step.target for step in steps} == set(ours)
    numbers = sum(map(prod, theirs.values()))
    # pytorch_model.bin has 6,444,787,333 bytes, float32, with some kilobytes of names.
    assert 0 < 6_444_787_333 - 4 * numbers < 200_000
    assert card.parameters == numbers + find_card("dac-44khz").parameters


def test_what_the_library_writes_is_what_the_card_fetches(tmp_path: Path) -> None:
    written(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    assert DiaConfig.from_hub(said).lags == tuple(LAGS) == tuple(TINY["delay_pattern"])
