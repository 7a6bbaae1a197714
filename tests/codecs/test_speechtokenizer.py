"""SpeechTokenizer against golden tensors and the original package, trap by trap, and its laws."""

from __future__ import annotations

import json
import warnings
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch

from alm_cli.checkpoints.load import load
from alm_cli.codecs.speechtokenizer import FAMILY, KEYS, SpeechTokenizer
from alm_cli.errors import ModelError
from alm_cli.nn.state import State
from tests.clips import recorded, synthetic
from tests.golden import Golden, golden
from tests.laws import every, streaming_equals_whole
from tests.oracles import header
from tests.originals import originals

# The published config.json, shortened by most of what says how it was trained.
PUBLISHED: dict[str, Any] = {
    "n_filters": 64,
    "strides": [8, 5, 4, 2],
    "dimension": 1024,
    "semantic_dimension": 768,
    "bidirectional": True,
    "dilation_base": 2,
    "residual_kernel_size": 3,
    "n_residual_layers": 1,
    "lstm_layers": 2,
    "activation": "ELU",
    "segment_size": 48_000,
    "num_workers": 8,
    "sampling_rate": 16_000,
    "sample_rate": 16_000,
    "codebook_size": 1024,
    "n_q": 8,
}


def write(folder: Path, config: dict[str, Any], weights: dict[str, Any]) -> Path:
    """A folder as it is published."""
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(weights, folder / "SpeechTokenizer.pt")
    return folder


@pytest.fixture(scope="module", params=["elu", "snake"])
def tiny(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SpeechTokenizer, Golden]:
    """The golden models, hop 8; that with the Snake activation is as the edition of AnyGPT."""
    kept = golden(f"speechtokenizer_{request.param}_tiny")
    folder = write(tmp_path_factory.mktemp("tokenizer"), dict(kept.config), kept.weights)
    model = load(folder).model
    assert isinstance(model, SpeechTokenizer)
    return model, kept


def test_codes_and_waves_are_those_of_the_original(tiny: tuple[SpeechTokenizer, Golden]) -> None:
    model, kept = tiny
    cases = kept.cases("codes")
    assert len(cases) >= 20
    for length, codes in cases.items():
        assert torch.equal(model.encode(kept.wave(length))[0], codes.long()), length
    assert min(len(book.unique()) for book in cases[1009]) > 8
    for length, wave in kept.cases("decoded").items():
        assert wave.std() > 0.02
        codes = kept.made[f"codes.{length}"].long()[None]
        torch.testing.assert_close(model.decode(codes)[0], wave, atol=1e-5, rtol=0)


def test_trap_every_code_depends_on_the_whole_signal(tiny: tuple[SpeechTokenizer, Golden]) -> None:
    """Its memory runs backwards too: a recording cut in two has other codes."""
    model, wave = tiny[0], synthetic(160)
    changed = wave.clone()
    changed[..., -8:] += 0.9
    latents, other = model.encoder(wave), model.encoder(changed)
    assert not torch.equal(latents[..., 0], other[..., 0])
    halves = torch.cat([model.encode(half) for half in wave.split(80, -1)], -1)
    assert not torch.equal(halves, model.encode(wave))


@torch.no_grad()
def test_trap_the_skip_around_memory_repeats_the_input(
    tiny: tuple[SpeechTokenizer, Golden],
) -> None:
    """Twice along the features, so the last convolution of the encoder is twice as wide."""
    memory, x = tiny[0].encoder[7], torch.randn(1, 8, 9)
    both = memory.lstm(x.mT)[0].mT
    torch.testing.assert_close(memory(x), both + x.repeat(1, 2, 1), atol=1e-6, rtol=0)
    assert tiny[0].encoder[-1].weight.shape[1] == 2 * tiny[0].decoder[0].weight.shape[0]
    assert not tiny[0].decoder[1].lstm.bidirectional


def test_a_stream_answers_at_its_end_with_the_codes_of_the_whole(
    tiny: tuple[SpeechTokenizer, Golden],
) -> None:
    model = tiny[0]
    for length in (1, 8, 9, 241):
        wave, whole = synthetic(length), model.encode(synthetic(length), 2)
        for size in (8, 80):
            state, found = State(), []
            pieces = wave.split(size, -1)
            for index, piece in enumerate(pieces, 1):
                state.last = index == len(pieces)
                found.append(model.encode(piece, 2, state))
            assert all(codes.shape == (1, 2, 0) for codes in found[:-1])
            assert torch.equal(found[-1], whole)


def test_any_chunking_of_the_codes_gives_the_same_wave(
    tiny: tuple[SpeechTokenizer, Golden],
) -> None:
    for frames in (1, 2, 25):
        codes = torch.randint(0, 16, (1, 3, frames))
        for size in (1, 7):
            streaming_equals_whole(tiny[0].decode, codes, every(size, frames), atol=1e-4)


def test_what_a_stream_keeps_is_205_kilobytes_a_second() -> None:
    """50 frames of 1024 numbers: the input of the memory, and nothing else that grows."""
    with torch.device("meta"):
        model = FAMILY.model(FAMILY.read_config({}))
    state, wave = State(), torch.zeros(1, 1, 16_000, device="meta")
    for _ in range(2):
        assert model.encoder(wave, state).shape[2] == 0
    memory = model.encoder[13]
    kept = sum(piece.numel() * 4 for piece in state.get(memory, list))
    assert kept == pytest.approx(2 * 204_800, rel=0.06)  # the look-ahead of two seconds lacks


def test_a_batch_is_its_rows_to_the_last_bit(tiny: tuple[SpeechTokenizer, Golden]) -> None:
    model, wave = tiny[0], synthetic(1000, batch=3)
    codes = model.encode(wave)
    assert torch.equal(codes, torch.cat([model.encode(row) for row in wave.split(1)]))
    rows = torch.cat([model.decode(row) for row in codes.split(1)])
    assert torch.equal(model.decode(codes), rows)


def test_fewer_codebooks_are_a_prefix(tiny: tuple[SpeechTokenizer, Golden]) -> None:
    """The first alone is the semantic stream."""
    wave = synthetic(900)
    assert torch.equal(tiny[0].encode(wave, 1), tiny[0].encode(wave)[:, :1])


def test_nothing_in_is_nothing_out(tiny: tuple[SpeechTokenizer, Golden]) -> None:
    codes = tiny[0].encode(torch.zeros(2, 1, 0), 2)
    assert codes.shape == (2, 2, 0) and codes.dtype == torch.int64
    assert tiny[0].decode(codes).shape == (2, 1, 0)


def test_the_published_checkpoint_fits() -> None:
    theirs = header("speechtokenizer")
    assert len(theirs) == 166
    # 481 906 997 bytes with the names and places of 166 tensors.
    assert 0 < 481_906_997 - 4 * sum(map(prod, theirs.values())) < 400 * 166
    assert FAMILY.sniff is not None
    settings = FAMILY.sniff(theirs, PUBLISHED)
    assert settings is not None and "segment_size" not in settings
    assert FAMILY.read_config(settings) == FAMILY.read_config(FAMILY.sniff(theirs, {}) or {})
    with torch.device("meta"):
        model = FAMILY.model(FAMILY.read_config(settings))
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {step.target for step in KEYS.plan(theirs, ours)} == set(ours)
    assert (model.rate, model.hop, model.vocabularies) == (16_000, 320, (1024,) * 8)


def test_trap_the_tensors_of_encodec_have_the_same_names() -> None:
    assert FAMILY.sniff is not None
    for name in ("encodec_24khz", "encodec_24khz_th", "encodec_48khz_th"):
        assert FAMILY.sniff(header(name), {}) is None


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("bidirectional", False),
        ("activation", "ReLU"),
        ("strides", []),
        ("n_q", 0),
        ("sample_rate", "16k"),
    ],
)
def test_settings_that_cannot_be_built_are_refused(setting: str, value: object) -> None:
    assert FAMILY.sniff is not None
    settings = FAMILY.sniff(header("speechtokenizer"), PUBLISHED | {setting: value})
    with pytest.raises(ModelError, match=setting):
        FAMILY.read_config(settings or {})


@pytest.mark.oracle
@torch.no_grad()
def test_codes_of_the_published_shapes_are_those_of_the_package(
    shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (package,) = originals(monkeypatch, "speechtokenizer", "model")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = package.SpeechTokenizer(PUBLISHED).eval()
    for name, weight in theirs.named_parameters():
        if name.endswith("weight_g"):
            weight.mul_(2 if name.startswith("encoder") else 1.6)
    residual = theirs.encoder(synthetic(16_000))[0].T
    for layer in theirs.quantizer.vq.layers:
        vectors = layer._codebook.embed
        vectors.normal_().mul_(residual.std(0)).add_(residual.mean(0))
        layer._codebook.inited.fill_(1)
        residual = residual - layer._codebook.dequantize(layer._codebook.quantize(residual))
    ours = load(write(tmp_path, PUBLISHED, theirs.state_dict())).model
    lengths = (1, 2, 17, 319, 320, 321, 977, 1913, 2240)
    waves = [*map(synthetic, lengths), *recorded(shared, 11, 3200), synthetic(16_001)]
    for wave in waves:
        codes = ours.encode(wave)
        reference = theirs.encode(wave)
        assert int((codes != reference.transpose(0, 1)).sum()) == 0, wave.shape
        torch.testing.assert_close(ours.decode(codes), theirs.decode(reference), atol=2e-5, rtol=0)
    assert min(len(book.unique()) for book in codes[0]) > 20
