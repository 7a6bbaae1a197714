"""Vocos against golden tensors and the original package, trap by trap, and its laws."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest
import torch
from torch import Tensor

from alm_cli.checkpoints.load import load
from alm_cli.codecs.vocos import FAMILY, KEYS, Vocos
from alm_cli.errors import InputError, ModelError
from tests.golden import Golden, golden
from tests.laws import every, past_is_fixed, streaming_equals_whole
from tests.oracles import header
from tests.originals import originals


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Vocos, Golden]:
    """The golden model: hop 8, 2 or 4 books."""
    kept, folder = golden("vocos_tiny"), tmp_path_factory.mktemp("vocos")
    torch.save(kept.weights, folder / "pytorch_model.bin")
    (folder / "config.yaml").write_text("backbone: not read\n")
    model = load(folder).model
    assert isinstance(model, Vocos)
    return model, kept


@pytest.fixture(scope="module")
def published() -> Vocos:
    """The published architecture with random weights."""
    torch.manual_seed(0)
    assert FAMILY.sniff is not None
    config = FAMILY.read_config(FAMILY.sniff(header("vocos_encodec_24khz"), {}) or {})
    model = FAMILY.model(config).eval().requires_grad_(False)
    assert isinstance(model, Vocos)
    model.vectors.normal_()
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight.add_(torch.randn_like(weight) * 0.3)
    return model


def test_waves_are_those_of_the_original(tiny: tuple[Vocos, Golden]) -> None:
    model, kept = tiny
    cases = [name for name in kept.made if name.startswith("codes")]
    assert len(cases) == 8
    for name in cases:
        codes, wave = kept.made[name].long()[None], kept.made[name.replace("codes", "decoded")]
        assert wave.std() > 0.02
        torch.testing.assert_close(model.decode(codes)[0], wave, atol=1e-5, rtol=0)


def test_it_is_what_the_command_line_asks_of_a_decoder(published: Vocos) -> None:
    assert (published.rate, published.hop, published.channels, published.delay) == (
        24_000, 320, 1, 0,
    )  # fmt: skip
    assert published.vocabularies == (1024,) * 16
    assert not hasattr(published, "encode")
    assert published.decode(torch.zeros(2, 8, 5).long()).shape == (2, 1, 1600)


def test_trap_the_bandwidth_is_a_condition(tiny: tuple[Vocos, Golden]) -> None:
    """The same features under another bandwidth are another wave."""
    model = tiny[0]
    codes = torch.randint(0, 1024, (1, 2, 9))
    assert not torch.allclose(model._decoded(0, codes, None), model._decoded(1, codes, None))


def test_trap_it_knows_only_the_bandwidths_it_was_trained_for(
    published: Vocos, tiny: tuple[Vocos, Golden]
) -> None:
    assert published.depths == [2, 4, 8, 16]
    codes = torch.randint(0, 1024, (1, 32, 9))
    for books, used in ((3, 2), (5, 4), (15, 8), (17, 16), (32, 16)):
        wave = published.decode(codes[:, :books])
        assert torch.equal(wave, published.decode(codes[:, :used]))
    with pytest.raises(InputError, match="1 codebook, where this decoder needs 2"):
        tiny[0].decode(codes[:, :1])


def test_any_chunking_of_the_codes_gives_the_same_wave(
    published: Vocos, tiny: tuple[Vocos, Golden]
) -> None:
    codes = torch.randint(0, 1024, (1, 8, 70))
    for ends in ([1, 2, 40], every(23, 70)):
        streaming_equals_whole(published.decode, codes, ends)
    for frames in (1, 2, 5, 31):
        codes = torch.randint(0, 1024, (1, 4, frames))
        for size in (1, 3, 8):
            streaming_equals_whole(tiny[0].decode, codes, every(size, frames))


def test_what_is_far_ahead_changes_nothing(published: Vocos) -> None:
    """It looks three frames ahead in each of nine convolutions, and one and a half in the sum."""
    codes = torch.randint(0, 1024, (1, 4, 80))
    ahead = 3 * 9 * 320 + 480
    past_is_fixed(lambda x, _: published.decode(x), codes, 60, 60 * 320 - ahead)


def test_a_batch_is_its_rows_to_the_last_bit(published: Vocos) -> None:
    codes = torch.randint(0, 1024, (3, 4, 20))
    rows = torch.cat([published.decode(row) for row in codes.split(1)])
    assert torch.equal(published.decode(codes), rows)


def test_nothing_in_is_nothing_out(tiny: tuple[Vocos, Golden]) -> None:
    assert tiny[0].decode(torch.zeros(2, 4, 0).long()).shape == (2, 1, 0)


def test_the_published_checkpoint_fits() -> None:
    theirs = header("vocos_encodec_24khz")
    assert FAMILY.sniff is not None
    settings = FAMILY.sniff(theirs, {})
    assert settings is not None
    assert FAMILY.read_config(settings) == FAMILY.read_config({})
    with torch.device("meta"):
        model = FAMILY.model(FAMILY.read_config(settings))
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {step.target for step in KEYS.plan(theirs, ours)} == set(ours)
    # What the authors call 7.9 million.
    assert sum(prod(shape) for name, shape in ours.items() if name != "vectors") == 7_984_258


def test_trap_checkpoints_from_training_hold_the_encoder_as_well() -> None:
    theirs = header("vocos_encodec_24khz")
    theirs |= {f"feature_extractor.encodec.{n}": s for n, s in header("encodec_24khz_th").items()}
    assert FAMILY.sniff is not None
    with torch.device("meta"):
        model = FAMILY.model(FAMILY.read_config(FAMILY.sniff(theirs, {}) or {}))
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {step.target for step in KEYS.plan(theirs, ours)} == set(ours)


@pytest.mark.parametrize(
    "missing",
    ["feature_extractor.codebook_weights", "backbone.norm.scale.weight", "head.out.bias"],
)
def test_other_tensors_are_not_taken_for_vocos(missing: str) -> None:
    """`vocos-mel-24khz` for one, which decodes spectrograms."""
    assert FAMILY.sniff is not None
    shapes = header("vocos_encodec_24khz")
    assert FAMILY.sniff({}, {}) is None
    assert FAMILY.sniff({n: s for n, s in shapes.items() if n != missing}, {}) is None


@pytest.mark.parametrize(
    ("setting", "value"),
    [("hop", 321), ("hop", "8"), ("conditions", 8), ("codebooks", 0), ("more", 1)],
)
def test_settings_that_cannot_be_built_are_refused(setting: str, value: object) -> None:
    with pytest.raises(ModelError, match=setting):
        FAMILY.read_config({setting: value})


@pytest.mark.oracle
@torch.no_grad()
def test_waves_of_the_published_shapes_are_those_of_the_package(
    published: Vocos, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    models, heads = originals(monkeypatch, "vocos", "models", "heads")
    backbone = models.VocosBackbone(128, 384, 1152, 8, adanorm_num_embeddings=4)
    head = heads.ISTFTHead(384, 1280, 320)
    for name, weight in backbone.named_parameters():
        weight.mul_(3 if "conv" in name else 1).add_(torch.randn_like(weight) * 0.1)
    weights: dict[str, Tensor] = {"feature_extractor.codebook_weights": published.vectors}
    weights |= {f"backbone.{name}": x for name, x in backbone.state_dict().items()}
    weights |= {f"head.{name}": x for name, x in head.state_dict().items()}
    torch.save(weights, tmp_path / "pytorch_model.bin")
    ours = load(tmp_path).model
    for frames in (1, 2, 3, 7, 76):
        for index, books in enumerate((2, 4, 8, 16)):
            codes = torch.randint(0, 1024, (1, books, frames))
            rows = codes[0] + torch.arange(books)[:, None] * 1024
            features = torch.nn.functional.embedding(rows, published.vectors).sum(0).T[None]
            wave = head(backbone(features, bandwidth_id=torch.tensor([index])))
            torch.testing.assert_close(ours.decode(codes)[:, 0], wave, atol=1e-5, rtol=0)
