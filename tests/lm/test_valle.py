"""VALL-E X against tensors that its own program made with the same random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from alm_cli.checkpoints.family import SettingsError
from alm_cli.checkpoints.load import load
from alm_cli.decoding.sampling import Sampling
from alm_cli.errors import ModelError
from alm_cli.lm.valle import FAMILY, KEYS, LANGUAGES, ValleConfig, ValleX, sniff
from alm_cli.nn.state import State
from alm_cli.systems.valle_speaker import first_book, other_books
from tests.golden import GOLDEN
from tests.lm.valles import CASES, SEED, case, saved, shapes, weights
from tests.oracles import header

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ValleX:
    made = load(saved(tmp_path_factory.mktemp("valle") / "vallex-checkpoint.pt")).model
    assert isinstance(made, ValleX)
    return made


def languages_of(phonemes: Tensor, spoken: int, language: str) -> Tensor:
    """[1, S], those of the voice English."""
    made = torch.full_like(phonemes, LANGUAGES.index(language))
    made[:, :spoken] = 0
    return made


@pytest.mark.oracle
@pytest.mark.parametrize("name", CASES)
def test_codes_are_those_of_its_program(model: ValleX, name: str) -> None:
    expected = load_file(GOLDEN / "valle_x.safetensors")[f"codes.{name}"]
    phonemes, voice, spoken, language, top_k = case(name)
    languages = languages_of(phonemes, spoken, language)
    how = Sampling(top_k=max(0, top_k))
    noise = torch.Generator().manual_seed(SEED)
    first = first_book(model, phonemes, languages, voice[:, 0], how, noise)
    assert first[0].tolist() == expected[0].tolist()
    codes = other_books(model, phonemes, languages, voice, first)
    assert codes[0].tolist() == expected.tolist()


@pytest.mark.oracle
@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_logits_of_what_its_program_said(model: ValleX, name: str) -> None:
    """Taught the codes that were said, the first book expects what it expected there."""
    made = load_file(GOLDEN / "valle_x.safetensors")
    codes = made[f"codes.{name}"][None, 0].long()
    phonemes, voice, spoken, language, _ = case(name)
    state = State()
    languages = languages_of(phonemes, spoken, language)
    logits = [model.first.hear(phonemes, languages, voice[:, 0], state)]
    for place in range(codes.shape[1]):
        code = codes[:, place : place + 1]
        logits.append(model.first(code, voice.shape[2] + 1 + place, state))
    expected = made[f"logits.{name}"]
    ours = torch.cat(logits)[:: max(1, len(logits) // 4), :64]
    assert float(expected.std()) > 0.5
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


def test_trap_speech_ends_by_itself_or_after_sixteen_codes_for_a_phoneme(model: ValleX) -> None:
    made = load_file(GOLDEN / "valle_x.safetensors")
    ends = {name: made[f"codes.{name}"].shape[1] == 16 * case(name)[0].shape[1] for name in CASES}
    assert set(ends.values()) == {True, False}
    assert all(int(made[f"codes.{name}"].max()) < model.end for name in CASES)


@torch.no_grad()
def test_trap_phonemes_see_one_another_but_no_codes(model: ValleX) -> None:
    """What the phonemes become does not change with the voice; its first code changes the next."""
    phonemes, voice, spoken, _, _ = case("greedy")
    languages = languages_of(phonemes, spoken, "en")
    caches = []
    for codes in (voice[:, 0], voice[:, 0] + 1):
        state = State()
        model.first.hear(phonemes, languages, codes, state)
        cache = state.get(model.first.transformer.blocks[-1].attention, lambda: None)
        caches.append(cache.kept[..., : phonemes.shape[1], :])  # type: ignore[attr-defined]
    assert torch.equal(*caches)
    other = phonemes.clone()
    other[:, -1] += 1
    state = State()
    model.first.hear(other, languages, voice[:, 0], state)
    cache = state.get(model.first.transformer.blocks[-1].attention, lambda: None)
    assert not torch.equal(cache.kept[..., :1, :], caches[0][..., :1, :])  # type: ignore[attr-defined]


@torch.no_grad()
def test_trap_the_language_of_the_voice_is_told_apart_from_that_of_the_text(model: ValleX) -> None:
    phonemes, voice, spoken, _, _ = case("greedy")
    made = [
        model.first.hear(phonemes, languages_of(phonemes, spoken, name), voice[:, 0], State())
        for name in LANGUAGES
    ]
    assert not torch.allclose(made[0], made[1]) and not torch.allclose(made[1], made[2])


@torch.no_grad()
def test_trap_every_book_has_its_own_stage(model: ValleX) -> None:
    phonemes, voice, spoken, _, _ = case("greedy")
    text = model.rest.read(phonemes, languages_of(phonemes, spoken, "en"))
    known = model.rest.summed(voice[:, :1])
    logits = [model.rest(text, known, book, 0) for book in range(1, 8)]
    assert all(
        not torch.allclose(one, other) for one, other in zip(logits, logits[1:], strict=False)
    )


def test_what_no_phoneme_says_is_silent_about_the_other_books(model: ValleX) -> None:
    phonemes, voice, spoken, _, _ = case("greedy")
    nothing = voice[:, 0, :0]
    languages = languages_of(phonemes, spoken, "en")
    assert other_books(model, phonemes, languages, voice, nothing).shape == (1, 8, 0)


def test_files_with_other_tensors_are_refused(tmp_path: Path) -> None:
    tensors = weights()
    del tensors["nar_stage_embeddings.3.word_embeddings.weight"]
    tensors["ar_audio_prenet.0.weight"] = torch.zeros(2, 2)
    torch.save({"model": tensors}, tmp_path / "vallex-checkpoint.pt")
    with pytest.raises(ModelError, match="ar_audio_prenet.0.weight: unknown") as caught:
        load(tmp_path / "vallex-checkpoint.pt")
    assert "rest.stages.3: missing" in str(caught.value)


@pytest.mark.parametrize(
    "change", [{"nhead": 3}, {"num_quantizers": 1}, {"d_model": 0}, {"new": 1}]
)
def test_settings_that_cannot_be_built_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        ValleConfig.from_hub({"d_model": 64, "nhead": 2} | change)


def test_the_published_checkpoint_fits() -> None:
    theirs = header("vallex_checkpoint")
    assert theirs == shapes(1024, 12)
    settings = sniff(theirs, {})
    assert settings is not None and settings["nhead"] == 16
    with torch.device("meta"):
        model = ValleX(FAMILY.read_config(settings))
    ours = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert {step.target for step in KEYS.plan(theirs, ours)} == set(ours)
    assert sniff({"ar_text_embedding.word_embeddings.weight": (9, 9)}, {}) is None
