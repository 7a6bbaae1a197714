"""wav2vec 2.0's product-quantised tokens against `transformers`' quantiser on every frame."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from alm_cli.catalog import find_card
from alm_cli.checkpoints.load import load
from alm_cli.encoders.wav2vec2_pq import FAMILY, KEYS, Wav2Vec2PQ, Wav2Vec2PQConfig
from alm_cli.errors import ModelError
from tests.encoders.test_hubert import EVERY, LENGTHS, TINY, random_model, recording
from tests.laws import Step, every, streaming_equals_whole
from tests.oracles import header

pytestmark = pytest.mark.oracle


@dataclass(frozen=True)
class Pair:
    """The same weights twice."""

    theirs: Any
    ours: Wav2Vec2PQ

    def codes(self, wave: Tensor) -> Tensor:
        """wave [B, T] -> the codes [B, K, F] whose vectors the quantiser makes."""
        _, normed = self.theirs.wav2vec2.feature_projection(
            self.theirs.wav2vec2.feature_extractor(wave).mT
        )
        made, _ = self.theirs.quantizer(normed)
        groups = len(self.ours.vocabularies)
        table = self.theirs.quantizer.codevectors.view(groups, -1, made.shape[-1] // groups)
        parts = made.unflatten(-1, (groups, -1)).unbind(2)
        return torch.stack(
            [
                torch.cdist(part, vectors).argmin(-1)
                for part, vectors in zip(parts, table, strict=True)
            ],
            1,
        )


def pair(folder: Path, **config: Any) -> Pair:
    theirs = random_model("Wav2Vec2", "ForPreTraining", **config)
    theirs.save_pretrained(folder)
    named = json.loads((folder / "config.json").read_text()) | {"model_type": "wav2vec2_pq"}
    (folder / "config.json").write_text(json.dumps(named))
    ours = load(folder).model
    assert isinstance(ours, Wav2Vec2PQ)
    return Pair(theirs, ours)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The published front end and quantiser; of the transformer, which nobody asks, one layer."""
    return pair(tmp_path_factory.mktemp("pq"), num_hidden_layers=1)


@torch.no_grad()
def assert_same_codes(pair: Pair, wave: Tensor) -> Tensor:
    theirs = pair.codes(wave)
    ours = pair.ours.encode(wave[:, None])
    assert ours.shape == theirs.shape and ours.dtype == torch.int64
    assert int((ours != theirs).sum()) == 0
    return ours


@pytest.mark.parametrize("length", [*LENGTHS, 48_000])
def test_trap_codes_are_the_best_scores_of_normed_conv_features(
    published: Pair, length: int
) -> None:
    assert not published.ours.normalize, "base models hear recordings as they are"
    codes = assert_same_codes(published, recording(length))
    assert codes.shape == (1, 2, (length - 400) // 320 + 1)
    if length > 40_000:
        assert min(len(book.unique()) for book in codes[0]) > 20


def test_models_that_normalise_every_vector(tmp_path: Path) -> None:
    found = pair(tmp_path, **(TINY | EVERY), num_codevectors_per_group=12, num_codevector_groups=4)
    assert found.ours.vocabularies == (12,) * 4
    wave = recording(9001)
    normed = (wave - wave.mean()) / torch.sqrt(wave.var(correction=0) + 1e-7)
    with torch.no_grad():
        assert torch.equal(found.ours.encode(wave[:, None]), found.codes(normed))
        assert torch.equal(found.ours.encode(wave[:, None], 3), found.codes(normed)[:, :3])


@torch.no_grad()
def test_the_laws(published: Pair) -> None:
    model, wave = published.ours, recording(7001, batch=2)[:, None]
    step: Step = lambda x, state: model.encode(x, 2, state)  # noqa: E731
    for ends in ([], [320], every(640, 7001)):
        streaming_equals_whole(step, wave, ends)
    rows = [model.encode(row) for row in wave.split(1)]
    assert torch.equal(model.encode(wave), torch.cat(rows))
    for length in (0, 1, 399):
        assert model.encode(wave[..., :length], 1).shape == (2, 1, 0)


def test_the_published_checkpoint_fits() -> None:
    theirs, card = header("wav2vec2_base"), find_card("wav2vec2-base-pq")
    with torch.device("meta"):
        model = Wav2Vec2PQ(
            Wav2Vec2PQConfig.from_hub({"model_type": "wav2vec2", "hidden_size": 768})
        )
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    steps = KEYS.plan(theirs, ours)
    assert {step.target for step in steps} == set(ours)
    assert sum(prod(theirs[source]) for step in steps for source in step.sources) == card.parameters
    assert (model.vocabularies, model.rate / model.hop) == (card.vocabularies, card.frame_rate)


def test_a_checkpoint_without_a_quantiser_is_refused(tmp_path: Path) -> None:
    random_model("Wav2Vec2", **TINY).save_pretrained(tmp_path)
    named = json.loads((tmp_path / "config.json").read_text()) | {"model_type": "wav2vec2_pq"}
    (tmp_path / "config.json").write_text(json.dumps(named))
    with pytest.raises(ModelError, match=r"score.*missing"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("feat_extract_norm", "none"), ("conv_kernel", [3]), ("num_codevector_groups", 0)],
)
def test_a_setting_that_would_change_the_mathematics_is_refused(
    setting: str, value: object
) -> None:
    with pytest.raises(ModelError, match=setting):
        FAMILY.read_config({setting: value})
