"""wav2vec 2.0, HuBERT and WavLM with heads for CTC against `transformers`, and their alphabets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from alm_cli.checkpoints.alphabet import Alphabet, read_alphabet
from alm_cli.checkpoints.keymap import KeyMap, drop, offer, rename
from alm_cli.checkpoints.load import load
from alm_cli.encoders.hubert import FAMILY, KEYS, Hubert, HubertConfig, HubertCtc
from alm_cli.errors import ModelError
from alm_cli.systems.units import load_units
from tests.encoders.test_hubert import EVERY, LARGE, TINY, random_model, recording
from tests.oracles import header

LETTERS = {
    text: number for number, text in enumerate(["<pad>", "<s>", "</s>", "<unk>", *"|ETAON'"])
}
SYMBOLS = ("", "", "", "", " ", *"ETAON'")
KINDS = ("Wav2Vec2", "Hubert", "WavLM")
BIASED = EVERY | {"conv_bias": True}

pytestmark = pytest.mark.oracle


@dataclass(frozen=True)
class Pair:
    """The same checkpoint twice, and what prepares and writes for the reference."""

    theirs: Any
    ours: HubertCtc
    extract: Any
    tokenizer: Any

    def logprobs(self, wave: Tensor) -> Tensor:
        """wave [T] -> log-probabilities [1, F, V] as the reference computes them."""
        heard = self.extract(wave.numpy(), sampling_rate=16_000, return_tensors="pt")
        return torch.log_softmax(self.theirs(heard.input_values).logits, -1)


@torch.no_grad()
def published(folder: Path, kind: str, *, normalised: bool = True, **config: Any) -> Pair:
    """A random model, saved as the hub has it, and loaded by us."""
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor

    sizes = {"vocab_size": len(LETTERS), "pad_token_id": 0}
    theirs = random_model(kind, "ForCTC", **(TINY | sizes | config))
    theirs.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(LETTERS))
    extract = Wav2Vec2FeatureExtractor(do_normalize=normalised)
    extract.save_pretrained(folder)
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    ours = load(folder).model
    assert isinstance(ours, HubertCtc)
    return Pair(theirs, ours, extract, tokenizer)


@pytest.mark.parametrize("config", [{}, BIASED], ids=["base", "large"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_log_probabilities_are_those_of_the_reference(
    kind: str, config: dict[str, Any], tmp_path: Path
) -> None:
    found = published(tmp_path, kind, **config)
    for length in (400, 719, 5003, 16_000):
        wave = recording(length)
        ours, theirs = found.ours(wave[:, None]), found.logprobs(wave[0])
        assert theirs.std() > 0.3
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
        assert torch.equal(ours.argmax(-1), theirs.argmax(-1))
        assert found.ours.frames(length) == ours.shape[1]
    assert found.ours.vocabulary == SYMBOLS and found.ours.blank == 0


# The published widths with one of their layers; a quarter of a second of audio each.
SHALLOW = {"num_hidden_layers": 1}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2-base-960h": ("Wav2Vec2", SHALLOW),
    "hubert-large-ls960-ft": ("Hubert", LARGE | {"conv_bias": True} | SHALLOW),
    "wavlm-libri-clean-100h-base-plus": ("WavLM", SHALLOW),
}


@pytest.mark.parametrize(("kind", "config"), ARCHITECTURES.values(), ids=ARCHITECTURES)
@torch.no_grad()
def test_published_widths_write_as_the_reference(kind: str, config: dict[str, Any]) -> None:
    sizes = {"vocab_size": len(LETTERS), "pad_token_id": 0}
    theirs = random_model(kind, "ForCTC", **sizes, **config)
    weights = theirs.state_dict()
    raw = json.loads(theirs.config.to_json_string()) | {"architectures": [f"{kind}ForCTC"]}
    with torch.device("meta"):
        ours = FAMILY.model(FAMILY.read_config(raw | {"vocab.json": LETTERS}))
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    plan = KEYS.plan(shapes, {name: tuple(t.shape) for name, t in ours.state_dict().items()})
    ours.load_state_dict(
        {step.target: step.combine(*map(weights.__getitem__, step.sources)) for step in plan},
        assign=True,
    )
    ours.eval().standardise = False
    wave = recording(4000)
    reference = torch.log_softmax(theirs(wave).logits, -1)
    assert reference.std() > 0.3
    found = ours(wave[:, None])
    torch.testing.assert_close(found, reference, atol=1e-4, rtol=0)
    assert torch.equal(found.argmax(-1), reference.argmax(-1))


@torch.no_grad()
def test_trap_base_models_are_standardised_where_the_preprocessing_says_so(tmp_path: Path) -> None:
    """As features they are not, whatever the file says; the hub's processor believes the file."""
    for name, normalised in (("yes", True), ("no", False)):
        found = published(tmp_path / name, "Wav2Vec2", normalised=normalised)
        assert found.ours.standardise is normalised and found.ours.normalize is False
        wave = 0.01 * recording(4000) + 0.2
        torch.testing.assert_close(
            found.ours(wave[:, None]), found.logprobs(wave[0]), atol=1e-4, rtol=0
        )
    (tmp_path / "no" / "preprocessor_config.json").unlink()
    assert load(tmp_path / "no").model.standardise is True


@torch.no_grad()
def test_the_model_is_still_an_encoder_of_features(tmp_path: Path) -> None:
    found = published(tmp_path, "Hubert")
    wave = recording(3000)
    bare = found.theirs.hubert(wave).last_hidden_state.mT
    torch.testing.assert_close(found.ours.encode(wave[:, None]), bare, atol=3e-5, rtol=0)
    codec = load_units(tmp_path, layer=1)
    assert codec.model.dimension == TINY["hidden_size"]


@torch.no_grad()
def test_trap_without_vocab_json_or_head_it_is_an_encoder_alone(tmp_path: Path) -> None:
    published(tmp_path / "ctc", "Wav2Vec2")
    (tmp_path / "ctc" / "vocab.json").unlink()
    assert type(load(tmp_path / "ctc").model) is Hubert
    # The repository of a model that was only pretrained may have a vocabulary too.
    random_model("Wav2Vec2", "ForPreTraining", **TINY).save_pretrained(tmp_path / "bare")
    (tmp_path / "bare" / "vocab.json").write_text(json.dumps(LETTERS))
    assert type(load(tmp_path / "bare").model) is Hubert


@torch.no_grad()
def test_a_batch_is_its_rows_and_nothing_has_no_frames(tmp_path: Path) -> None:
    model = published(tmp_path, "Wav2Vec2").ours
    wave = recording(5003, batch=2)[:, None]
    assert torch.equal(model(wave), torch.cat([model(row) for row in wave.split(1)]))
    for length in (0, 1, 399):
        assert model(torch.zeros(2, 1, length)).shape == (2, 0, len(LETTERS))
        assert model.frames(length) == 0
    assert model(torch.zeros(1, 1, 4000)).isfinite().all()


def alphabet(**files: Any) -> Alphabet:
    """The alphabet of a checkpoint with six symbols and these files."""
    raw = {"architectures": ["HubertForCTC"], "vocab_size": 6, "pad_token_id": 0}
    found = read_alphabet(raw | {f"{name}.json": table for name, table in files.items()})
    assert found is not None
    return found


def test_trap_the_blank_is_the_pad_token_wherever_it_stands() -> None:
    vocab = {"a": 0, "b": 1, "|": 2, "[UNK]": 3, "[PAD]": 4}
    special = {"pad_token": {"content": "[PAD]"}, "unk_token": "[UNK]"}
    found = alphabet(vocab=vocab, special_tokens_map=special)
    assert found.symbols == ("a", "b", " ", "", "", "") and found.blank == 4
    # Tokens beyond the head have no row; config.json's number counts where the tokenizer has none.
    added = {"<s>": 5, "</s>": 6}
    found = alphabet(vocab={"a": 1}, added_tokens=added)
    assert found.symbols == ("", "a", "", "", "", "") and found.blank == 0


def test_other_delimiters_and_small_letters() -> None:
    tokenizer = {"word_delimiter_token": "_", "do_lower_case": True, "pad_token": None}
    found = alphabet(vocab={"<pad>": 0, "_": 1, "A": 2, "|": 3}, tokenizer_config=tokenizer)
    assert found.symbols == ("", " ", "a", "|", "", "")
    tokenizer = {"replace_word_delimiter_char": "-"}
    assert alphabet(vocab={"<pad>": 0, "|": 1}, tokenizer_config=tokenizer).symbols[1] == "-"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab.json": {"eng": {"a": 1}}}, "'eng' has no number"),
        ({"vocab.json": {"a": 6}}, "number 6 of a head with 6"),
        ({"vocab.json": {"a": -1}}, "number -1"),
        ({"vocab.json": {"a": 1}, "pad_token_id": 9}, "the blank"),
        ({"vocab.json": {"a": 1}, "vocab_size": "6"}, "vocab_size"),
        ({"vocab.json": {"a": 1}, "vocab_size": 10**9}, "vocab_size"),
    ],
)
def test_alphabets_that_do_not_go_with_the_head_are_refused(
    change: dict[str, Any], message: str
) -> None:
    raw = {"model_type": "hubert", "architectures": ["HubertForCTC"], "vocab_size": 6}
    with pytest.raises(ModelError, match=message):
        HubertConfig.from_hub(raw | {"pad_token_id": 0} | change)


def test_a_head_of_another_size_is_refused(tmp_path: Path) -> None:
    published(tmp_path, "Wav2Vec2")
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | {"vocab_size": 20}))
    with pytest.raises(ModelError, match="lm_head"):
        load(tmp_path)


def test_offered_tensors_are_taken_where_there_is_a_place_and_dropped_elsewhere() -> None:
    keys = KeyMap(rename("a", "a"), offer("head.{of:w,b}", "top.{of}"), drop("c"))
    theirs = {"a": (1,), "head.w": (2,), "c": ()}
    assert {step.target for step in keys.plan(theirs, {"a": (1,)})} == {"a"}
    assert {step.target for step in keys.plan(theirs, {"a": (1,), "top.w": (2,)})} == {"a", "top.w"}
    with pytest.raises(ModelError, match="top.b: missing"):
        keys.plan(theirs, {"a": (1,), "top.w": (2,), "top.b": (2,)})


FIXTURES: dict[str, tuple[str, dict[str, Any], int, int]] = {
    "wav2vec2_base_960h": ("Wav2Vec2ForCTC", {"model_type": "wav2vec2"}, 32, 94_396_320),
    "hubert_large_ls960_ft": (
        "HubertForCTC",
        {"model_type": "hubert", **LARGE, "conv_bias": True},
        *(32, 315_471_520),
    ),
    "wavlm_libri_clean_100h_base_plus": (
        "WavLMForCTC",
        {"model_type": "wavlm", "pad_token_id": 28},
        *(31, 94_405_775),
    ),
}


@pytest.mark.parametrize("name", FIXTURES)
def test_the_published_checkpoints_fit(name: str) -> None:
    architecture, raw, size, values = FIXTURES[name]
    theirs = header(name)
    assert sum(map(prod, theirs.values())) == values
    settings = raw | {"architectures": [architecture], "vocab_size": size}
    config = FAMILY.read_config({"pad_token_id": 0} | settings | {"vocab.json": {"|": 4}})
    with torch.device("meta"):
        model = FAMILY.model(config)
    ours = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert ours["head.weight"] == (size, config.dimension)
    assert {step.target for step in KEYS.plan(theirs, ours)} == set(ours)
