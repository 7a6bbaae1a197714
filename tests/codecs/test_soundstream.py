"""SoundStream against golden tensors and the original of the public weights, and its laws."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from alm_cli.checkpoints.load import build, load
from alm_cli.checkpoints.reader import open_checkpoint
from alm_cli.codecs.soundstream import FAMILY, KEYS, SoundStream
from alm_cli.errors import ModelError
from alm_cli.nn.state import State
from tests.clips import recorded, synthetic
from tests.golden import Golden, golden
from tests.laws import every, past_is_fixed, streaming_equals_whole
from tests.oracles import header
from tests.originals import originals

OURS = {"rate": 16_000, "width": 4, "features": 8, "ratios": [4, 3], "codebooks": 4}
OURS |= {"vocabulary": 64}


def read(file: Path) -> SoundStream:
    """A checkpoint in the layout of the public one."""
    checkpoint = open_checkpoint(file)
    assert FAMILY.sniff is not None
    settings = FAMILY.sniff(checkpoint.shapes, checkpoint.said)
    assert settings is not None
    model = build(FAMILY, FAMILY.read_config(settings), checkpoint)
    assert isinstance(model, SoundStream)
    return model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[SoundStream, Golden]:
    """The golden model, hop 16, which mirrors the signal at its start."""
    kept = golden("soundstream_tiny")
    file = tmp_path_factory.mktemp("soundstream") / "soundstream.pt"
    torch.save(kept.weights, file)
    return read(file), kept


@pytest.fixture(scope="module")
def own() -> SoundStream:
    """A model of our own, hop 12, with silence before the signal and filled codebooks."""
    torch.manual_seed(0)
    model = FAMILY.model(FAMILY.read_config(OURS)).eval().requires_grad_(False)
    assert isinstance(model, SoundStream)
    for weight in model.parameters():
        weight.mul_(1.4)
    residual = model.encoder(synthetic(6000))[0].T
    for book in model.quantizer.codebooks:
        vectors = torch.randn(64, 8) * residual.std(0) + residual.mean(0)
        book.table.copy_(torch.cat((vectors, torch.ones(64, 1), vectors.square().sum(1, True)), 1))
        residual = residual - book.decode(book.encode(residual))
    return model


def test_codes_and_waves_are_those_of_the_original(tiny: tuple[SoundStream, Golden]) -> None:
    model, kept = tiny
    cases = kept.cases("codes")
    assert len(cases) >= 20
    for length, codes in cases.items():
        found = model.encode(kept.wave(length))[0, :, : codes.shape[1]]
        assert torch.equal(found, codes.long()), length
    assert min(len(book.unique()) for book in cases[1600]) > 7
    for length, wave in kept.cases("decoded").items():
        codes = kept.made[f"codes.{length}"].long()[None]
        torch.testing.assert_close(model.decode(codes)[0], wave, atol=1e-5, rtol=0)


def test_trap_the_original_drops_an_incomplete_frame(tiny: tuple[SoundStream, Golden]) -> None:
    """So its wave is up to a frame too short; here a mirrored end completes the frame."""
    model, kept = tiny
    assert kept.made["codes.911"].shape[1] == 56
    codes = model.encode(kept.wave(911))
    assert codes.shape == (1, 3, 57)
    assert model.decode(codes).shape[-1] >= 911


def test_short_signals_have_codes(tiny: tuple[SoundStream, Golden], own: SoundStream) -> None:
    """The original cannot mirror a signal that is shorter than its widest padding."""
    for length in (1, 15, 16, 17, 100):
        assert tiny[0].encode(synthetic(length)).shape[2] == -(-length // 16)
        assert own.encode(synthetic(length)).shape[2] == -(-length // 12)


def test_any_chunking_of_the_wave_gives_the_same_codes(
    tiny: tuple[SoundStream, Golden], own: SoundStream
) -> None:
    for model in (tiny[0], own):
        for length in (1, 101, 801):
            for size in (3 * model.hop, 20 * model.hop):
                ends = every(size, length)
                streaming_equals_whole(
                    lambda x, s, m=model: m.encode(x, None, s), synthetic(length), ends
                )


def test_any_chunking_of_the_codes_gives_the_same_wave(
    tiny: tuple[SoundStream, Golden], own: SoundStream
) -> None:
    for model, vocabulary in ((tiny[0], 16), (own, 64)):
        codes = torch.randint(0, vocabulary, (1, 3, 40))
        for ends in (every(1, 16), every(7, 40)):
            streaming_equals_whole(model.decode, codes, ends)


def test_it_looks_back_only(own: SoundStream) -> None:
    wave = synthetic(40 * 12)
    past_is_fixed(lambda x, _: own.encoder(x), wave, 20 * 12, 20)
    codes = torch.randint(0, 64, (1, 4, 40))
    past_is_fixed(lambda x, _: own.decode(x), codes, 20, 20 * 12)


def test_silence_before_the_signal_lets_the_first_frame_leave_at_once(own: SoundStream) -> None:
    state = State()
    assert own.encode(synthetic(12), None, state).shape[2] == 1
    assert own.decode(torch.zeros(1, 4, 1).long(), State()).shape[2] == 12


def test_a_batch_is_its_rows_to_the_last_bit(own: SoundStream) -> None:
    wave = synthetic(1000, batch=3)
    codes = own.encode(wave)
    assert torch.equal(codes, torch.cat([own.encode(row) for row in wave.split(1)]))
    rows = torch.cat([own.decode(row) for row in codes.split(1)])
    assert torch.equal(own.decode(codes), rows)
    assert torch.equal(own.encode(wave, 2), codes[:, :2])


def test_a_folder_of_our_own_is_loaded_as_it_was_written(own: SoundStream, tmp_path: Path) -> None:
    """Vectors are stored without what the search adds to them, in half precision for one."""
    tensors = {name: tensor.half() for name, tensor in own.state_dict().items()}
    for name in [name for name in tensors if name.endswith(".table")]:
        tensors[name.replace(".table", ".vectors")] = tensors.pop(name)[:, :-2].contiguous()
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "soundstream", **OURS}))
    model = load(tmp_path).model
    for name, tensor in own.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, atol=0.1, rtol=1e-3)
    table = model.quantizer.codebooks[0].table
    assert torch.equal(table[:, -1], table[:, :-2].square().sum(1))


def test_the_public_checkpoint_fits() -> None:
    theirs = header("soundstream_naturalspeech2")
    assert FAMILY.sniff is not None
    config = FAMILY.read_config(FAMILY.sniff(theirs, {}) or {"none": 1})
    with torch.device("meta"):
        model = FAMILY.model(config)
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {step.target for step in KEYS.plan(theirs, ours)} == set(ours)
    # What its author calls 27 million.
    assert sum(prod(s) for name, s in ours.items() if "codebooks" not in name) == 27_365_121
    assert (model.rate, model.hop, model.vocabularies) == (16_000, 200, (1024,) * 16)


def test_the_sizes_of_the_paper_are_the_default() -> None:
    with torch.device("meta"):
        model = FAMILY.model(FAMILY.read_config({"model_type": "soundstream"}))
    assert (model.rate, model.hop, model.vocabularies) == (24_000, 320, (1024,) * 8)


def test_other_tensors_are_not_taken_for_it() -> None:
    shapes = header("soundstream_naturalspeech2")
    assert FAMILY.sniff is not None
    for found in ({}, dict.fromkeys(shapes, ()), header("encodec_24khz"), header("encodec_48khz")):
        assert FAMILY.sniff(found, {}) is None


@pytest.mark.parametrize(
    ("setting", "value"),
    [("padding", "replicate"), ("ratios", 4), ("rate", 0), ("width", "32"), ("more", 1)],
)
def test_settings_that_cannot_be_built_are_refused(setting: str, value: object) -> None:
    with pytest.raises(ModelError, match=setting):
        FAMILY.read_config(OURS | {setting: value})


@pytest.mark.oracle
@torch.no_grad()
def test_codes_of_the_published_shapes_are_those_of_the_package(
    shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (package,) = originals(monkeypatch, "soundstream", "soundstream")
    torch.manual_seed(0)
    theirs = package.SoundStream(16, 1024, 256, 58, (2, 4, 5, 5)).eval()
    for name, weight in theirs.named_parameters():
        if name.endswith("weight"):
            weight.mul_(1.8 if weight.shape[2] == 7 else 1.3)
    residual = theirs.encoder(synthetic(40_000))[0].T
    for layer in theirs.quantizer.layers:
        vectors = layer._codebook.embed[0]
        vectors.normal_().mul_(residual.std(0)).add_(residual.mean(0))
        layer._codebook.initted.fill_(1)
        residual = residual - layer(residual[None])[0][0]
    torch.save(theirs.state_dict(), tmp_path / "soundstream.pt")
    ours = read(tmp_path / "soundstream.pt")
    lengths = (2999, 3000, 3001, 3199, 3200, 3201, 3307, 3319, 3323)
    for wave in (*map(synthetic, lengths), *recorded(shared, 11, 4000)):
        quantized, codes, _ = theirs.quantizer(theirs.encoder(wave).mT)
        found = ours.encode(wave)[..., : codes.shape[1]]
        assert int((found != codes.mT).sum()) == 0, wave.shape
        made = ours.decode(codes.mT)
        torch.testing.assert_close(made, theirs.decoder(quantized.mT), atol=1e-4, rtol=1e-5)
