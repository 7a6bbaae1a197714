"""MAGNeT against AudioCraft's program with the same weights: the same codes, draw for draw."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from alm_cli.catalog import families
from alm_cli.checkpoints.load import load
from alm_cli.decoding.masked import annealed, fill, magnet_looks
from alm_cli.decoding.sampling import Sampling
from alm_cli.errors import ModelError
from alm_cli.lm.magnet import FAMILY, KEYS, Magnet, guided
from tests.golden import golden
from tests.lm.magnets import (
    CASES,
    REACH,
    SIZES,
    Case,
    audiocraft,
    case_options,
    cfg,
    export,
    reason,
    shapes,
    their_codes,
    weights,
    words,
)
from tests.oracles import header

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Magnet:
    model = load(export(tmp_path_factory.mktemp("magnet"))).model
    assert isinstance(model, Magnet)
    return model


@torch.no_grad()
def our_codes(model: Magnet, case: Case) -> Tensor:
    """codes [K, F] of a case, as AudioCraft is asked for it."""
    asked = case_options(case)
    first, last = asked["max_cfg_coef"], asked["min_cfg_coef"]
    heard = model.listen(words(case.words)[None])

    def predict(codes: Tensor, book: int, masked: float) -> Tensor:
        told, untold = model(codes.repeat(2, 1, 1), book, heard)
        return guided(told, untold, annealed(masked, first, last))[None]

    return fill(
        predict,
        torch.full((1, SIZES["n_q"], case.frames), model.mask),
        [magnet_looks(steps, asked["temp"]) for steps in case.steps],
        Sampling(top_k=asked["top_k"], top_p=asked["top_p"] or 1.0),
        [torch.Generator().manual_seed(case.seed)],
        span=case.span,
    )[0]


def made(name: str) -> Tensor:
    """What AudioCraft made."""
    return golden("magnet_audiocraft").made[name]


@pytest.mark.oracle
@pytest.mark.parametrize("name", CASES)
def test_codes_are_those_of_audiocraft(tiny: Magnet, name: str) -> None:
    ours, theirs = our_codes(tiny, CASES[name]), made(f"codes.{name}").long()
    assert torch.equal(ours, theirs)
    different = sum(len(book.unique()) for book in theirs)
    assert different > (12 if name == "likeliest" else 24), "codes that do not vary prove nothing"
    assert theirs.max() < tiny.mask


@pytest.mark.oracle
@pytest.mark.parametrize("seed", range(4))
def test_codes_are_those_of_audiocraft_asked_now(tiny: Magnet, seed: int) -> None:
    if why := reason():
        pytest.skip(why)
    case = Case(50 - seed, seed, (9, 4, 3, 2), {"temp": 1.0 + seed, "top_p": 0.95 - seed / 5})
    with audiocraft() as modules:
        theirs = their_codes(modules, case, weights(shapes()))
    assert torch.equal(our_codes(tiny, case), theirs)


@pytest.mark.oracle
@torch.no_grad()
def test_logits_are_those_of_audiocraft(tiny: Magnet) -> None:
    codes = torch.arange(4 * 48).view(1, 4, 48).mul(37) % 25
    heard = tiny.listen(words(CASES["published"].words)[None])
    for book in range(4):
        ours = tiny(codes.repeat(2, 1, 1), book, heard)
        torch.testing.assert_close(ours, made(f"logits.{book}"), atol=1e-4, rtol=1e-5)


def counted(frames: int, looks: int, span: int) -> list[int]:
    """How many codes are masked at each look."""
    found = []

    def predict(codes: Tensor, _book: int, _masked: float) -> Tensor:
        found.append(int((codes == 9).sum()))
        return torch.randn(1, codes.shape[2], 9, generator=torch.Generator().manual_seed(0))

    noise = [torch.Generator().manual_seed(0)]
    masked = torch.full((1, 1, frames), 9)
    fill(predict, masked, [magnet_looks(looks, 3.0)], Sampling(top_p=0.9), noise, span=span)
    return found


def test_trap_ten_seconds_are_9_96_since_what_is_no_whole_span_is_left_away() -> None:
    assert counted(500, 20, 3)[0] == 498
    assert made("codes.published").shape == (4, 48)  # of 50


def test_trap_the_share_is_a_cosine_from_all_to_zero_but_one_span_is_always_masked() -> None:
    spans = [count // 3 for count in counted(498, 20, 3)]
    angles = torch.linspace(0, 1, 20) * torch.pi / 2
    assert spans == [max(int(share), 1) for share in (angles.cos() * 166).tolist()]
    assert spans[0] == 166 and spans[-1] == 1
    assert counted(10, 1, 1) == [10]


def test_trap_the_temperature_never_is_what_was_asked_for_nor_zero() -> None:
    looks = magnet_looks(20, 3.0)
    assert looks[0].temperature == pytest.approx(2.85)
    # Divided by a hundredth: still drawn, and still a draw of the generator.
    assert looks[-1].temperature == 0 and not looks[-1].greedy


def test_trap_guidance_follows_the_share_that_is_masked() -> None:
    shares = [look.masked for look in magnet_looks(3, 3.0)]
    assert [annealed(share, 10.0, 1.0) for share in shares] == pytest.approx(
        [10, 7.364, 1], abs=1e-3
    )


def flat(rows: int = 1) -> Callable[[Tensor, int, float], Tensor]:
    """A model that always says the same."""
    logits = torch.randn(rows, 12, 9, generator=torch.Generator().manual_seed(3))
    return lambda *_: logits


def test_trap_every_place_is_drawn_at_every_look_though_most_keep_their_code() -> None:
    looks = magnet_looks(4, 3.0)
    noise = torch.Generator().manual_seed(1)
    fill(flat(), torch.full((1, 1, 12), 9), [looks], Sampling(top_p=0.9), [noise], span=3)
    after = torch.rand(1, generator=noise)
    again = torch.Generator().manual_seed(1)
    for _ in looks:
        torch.multinomial(torch.full((12, 9), 1 / 9), 1, generator=again)
    assert torch.equal(after, torch.rand(1, generator=again))


def test_trap_a_span_is_scored_by_its_surest_code_and_what_was_kept_stays() -> None:
    """Three spans: one sure of a single code, one of none, one a little of each."""
    logits = torch.zeros(1, 9, 4)
    logits[0, 0, 1] = 9  # the first code of the first span alone
    logits[0, 6:, 2] = 1.5
    hidden = []

    def predict(codes: Tensor, _book: int, _masked: float) -> Tensor:
        hidden.append((codes[0, 0].view(3, 3) == 4).all(1).tolist())
        return logits

    masked, noise = torch.full((1, 1, 9), 4), [torch.Generator().manual_seed(0)]
    looks = [replace(look, temperature=1.0, greedy=True) for look in magnet_looks(4, 0.0)]
    fill(predict, masked, [looks], Sampling(), noise, span=3)
    assert hidden[0] == [True] * 3
    # int(cos(30 degrees) * 3) = 2 spans, then one: the first is kept at once, the third before the
    # second, though its codes are likelier together than those of the first.
    assert hidden[1:] == [[False, True, True], [False, True, False], [False, True, False]]


def test_trap_the_nucleus_is_drawn_from_but_not_scored_by() -> None:
    """What top-p leaves out counts for the score, what top-k leaves out does not."""
    assert not torch.equal(made("codes.few")[:, :45], made("codes.all"))
    from alm_cli.decoding.masked import Look, _drawn

    logits, look = torch.tensor([[2.0, 1.0, 0.0]]), Look(masked=1.0, temperature=1.0)
    whole = logits.softmax(-1)[0]
    for how, share in ((Sampling(top_p=0.5), 1.0), (Sampling(top_k=1), float(whole[0]))):
        token, certain = _drawn(logits, look, how, torch.Generator().manual_seed(0))
        assert token.item() == 0
        torch.testing.assert_close(certain[0], whole[0] / share)


@torch.no_grad()
def test_trap_finer_books_look_at_what_is_near_and_the_first_at_all(tiny: Magnet) -> None:
    heard = tiny.listen(words(5)[None])
    codes = torch.arange(4 * 60).view(1, 4, 60) % 24
    other = codes.clone()
    other[0, :, 0] = 7
    far = SIZES["num_layers"] * REACH
    for book in range(4):
        change = (tiny(codes, book, heard) - tiny(other, book, heard)).abs().amax(-1)[0]
        assert change[far] > 0
        assert bool((change[far + 1 :] == 0).all()) == (book > 0)


@torch.no_grad()
def test_trap_who_is_told_nothing_hears_what_zeros_say(tiny: Magnet) -> None:
    codes = torch.arange(4 * 30).view(1, 4, 30) % 24
    nothing = tuple(
        (torch.zeros_like(k), torch.zeros_like(v)) for k, v in tiny.listen(words(5)[None])
    )
    with_zeros = tiny(codes, 0, nothing)
    _, untold = tiny(codes.repeat(2, 1, 1), 0, tiny.listen(words(9)[None]))
    torch.testing.assert_close(with_zeros[0], untold, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_trap_words_behind_the_end_would_be_heard_so_there_are_none(tiny: Magnet) -> None:
    """AudioCraft fills short prompts up with zeros and attends to them."""
    codes, text = torch.arange(4 * 30).view(1, 4, 30) % 24, words(5)
    filled = tiny.listen(text[None])
    silent = tuple((F.pad(k, (0, 0, 0, 3)), F.pad(v, (0, 0, 0, 3))) for k, v in filled)
    assert not torch.allclose(tiny(codes, 0, filled), tiny(codes, 0, silent), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "sizes", "count", "text"),
    [
        ("magnet_small", (1024, 16, 24), 420_371_456, 768),
        ("magnet_small", (1024, 16, 24), 420_633_600, 1024),  # audio-magnet, of T5 large
        ("magnet_medium", (1536, 24, 48), 1_838_737_920, 768),
    ],
)
def test_the_published_checkpoints_fit(
    name: str, sizes: tuple[int, int, int], count: int, text: int
) -> None:
    wide, heads, layers = sizes
    found = header(name)
    found["condition_provider.conditioners.description.output_proj.weight"] = (wide, text)
    told = cfg(dim=wide, num_heads=heads, num_layers=layers, card=2048, seconds=30)
    assert FAMILY.sniff is not None
    config = FAMILY.read_config(FAMILY.sniff(found, {"xp.cfg": told}) or {})
    assert (config.dimension, config.heads, config.layers) == sizes
    assert (config.hidden, config.reach, config.span, config.seconds) == (4 * wide, REACH, 3, 30)
    with torch.device("meta"):
        model = FAMILY.model(config)
    ours = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert {step.target for step in KEYS.plan(found, ours)} == set(ours)
    assert sum(map(prod, ours.values())) == count


def test_the_family_is_found_without_a_card() -> None:
    assert "alm_cli.lm.magnet" in families()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("bias_ff: false", "bias_ff: true"), "transformer_lm.bias_ff"),
        (("causal: false", "causal: true"), "transformer_lm.causal"),
        (("norm_first: true", "norm_first: false"), "transformer_lm.norm_first"),
        (("positional_embedding: sin", "positional_embedding: rope"), "positional_embedding"),
        (("subcodes_context: 5", "subcodes_context: -7"), "subcodes_context"),
        (("subcodes_context: 5", "subcodes_context: all"), "subcodes_context"),
        (("num_heads: 2", "num_heads: 5"), "num_heads"),
        (("num_layers: 2", "num_layers: 99999"), "num_layers"),
        (("dim: 32", "dim: 100000"), "table"),
        (("card: 32", "card: 99999999"), "card"),
        (("span_len: 3", "span_len: 0"), "masking.span_len"),
        (("segment_duration: 10\n", "segment_duration: .inf\n"), "segment_duration"),
        (("finetune: false", "finetune: true"), "finetune"),
        (("name: t5-base", "name: ../../t5 base"), "t5.name"),
        (("model: t5", "model: clap"), "description.model"),
        (("  - description", "  - description\n  - self_wav"), "fuser.cross"),
        (("  prepend: []", "  prepend:\n  - self_wav"), "fuser.prepend"),
        (("  kv_repeat: 1", "  kv_repeat: 1\n  novelty: 3"), "transformer_lm.novelty"),
    ],
)
def test_settings_that_cannot_be_built_are_refused(
    tmp_path: Path, change: tuple[str, str], named: str
) -> None:
    folder = export(tmp_path)
    value = torch.load(folder / "state_dict.bin", weights_only=True)
    assert change[0] in value["xp.cfg"]
    value["xp.cfg"] = value["xp.cfg"].replace(*change)
    torch.save(value, folder / "state_dict.bin")
    with pytest.raises(ModelError, match=re.escape(named)):
        load(folder)


def test_without_a_restriction_all_books_look_at_everything(tmp_path: Path) -> None:
    model: Any = load(export(tmp_path, reach=-1)).model
    assert model.config.reach is None


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("emb.3.weight", None, r"embeddings\.3\.weight: missing"),
        ("transformer.layers.1.linear1.weight", (3, 3), "3x3, where the model has 128x32"),
        ("transformer.layers.0.self_attn.in_proj_bias", (96,), "unknown"),
    ],
)
def test_tensors_that_misfit_are_refused(
    tmp_path: Path, name: str, shape: tuple[int, ...] | None, message: str
) -> None:
    state = weights(shapes())
    state.pop(name, None)
    if shape is not None:
        state[name] = torch.zeros(shape)
    with pytest.raises(ModelError, match=message):
        load(export(tmp_path, state))


class Evil:
    """What runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("run-by-a-checkpoint"),))


def test_a_checkpoint_that_would_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"best_state": weights(shapes()), "xp.cfg": Evil()}, tmp_path / "state_dict.bin")
    with pytest.raises(ModelError, match="not a plain file of weights"):
        load(tmp_path)
    assert not Path("run-by-a-checkpoint").exists()


def test_what_is_no_magnet_is_left_to_others(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="of no known kind"):
        load(export(tmp_path, kind="somebody_elses"))
