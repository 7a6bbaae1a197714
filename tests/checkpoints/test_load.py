"""From a folder, a file or a name to a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from alm_cli.catalog import ModelCard, find_card
from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import KeyMap, rename
from alm_cli.checkpoints.load import _described, build, load
from alm_cli.checkpoints.reader import open_checkpoint
from alm_cli.codecs.encodec import Encodec, EncodecConfig
from alm_cli.errors import ModelError
from tests.golden import golden

CONFIG = {
    "model_type": "encodec",
    "num_filters": 2,
    "hidden_size": 4,
    "codebook_size": 16,
    "upsampling_ratios": [2],
    "target_bandwidths": [96.0],
    "num_lstm_layers": 1,
}


def folder(path: Path, **settings: object) -> Path:
    """A tiny EnCodec with random weights as its checkpoint, weight norm folded."""
    path.mkdir(exist_ok=True)
    config = CONFIG | settings
    torch.manual_seed(0)
    model = Encodec(EncodecConfig.from_hub(CONFIG))
    weights = {}
    for name, tensor in model.state_dict().items():
        half, place, *rest = name.split(".")
        if half == "quantizer":
            weights[f"quantizer.layers.{rest[0]}.codebook.embed"] = torch.randn_like(tensor)
        elif rest[0] == "lstm":
            weights[f"{half}.layers.{place}.{'.'.join(rest)}"] = tensor
        else:
            units = {"first": "block.1.", "second": "block.3.", "skip": "shortcut."}
            unit = units[rest[0]] if len(rest) > 1 else ""
            weights[f"{half}.layers.{place}.{unit}conv.{rest[-1]}"] = tensor.clone()
    save_file(weights, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_a_folder_and_its_file_are_the_same_model(tmp_path: Path) -> None:
    path = folder(tmp_path / "mine")
    for source in (path, str(path), path / "model.safetensors", str(path / "model.safetensors")):
        loaded = load(source)
        assert isinstance(loaded.model, Encodec)
        assert (loaded.name, loaded.card) == ("mine", None)
        assert loaded.config.vocabulary == 16
        assert loaded.weights_sha256 == open_checkpoint(path).sha256()


def test_a_loaded_model_is_for_inference_in_float32_on_the_cpu(tmp_path: Path) -> None:
    path = folder(tmp_path / "mine")
    half = {
        n: t.half()
        for n, t in ((n, open_checkpoint(path).read(n)) for n in open_checkpoint(path).shapes)
    }
    save_file(half, path / "model.safetensors")
    model = load(path).model
    tensors = [*model.parameters(), *model.buffers()]
    assert not model.training and tensors
    assert {(t.dtype, t.device.type, t.requires_grad) for t in tensors} == {
        (torch.float32, "cpu", False)
    }
    assert model.encode(torch.randn(1, 1, 99)).shape == (1, 2, 50)


def test_a_relative_path_beats_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert load("mine").name == "mine"
    assert load("./mine").name == "mine"


def test_an_unknown_name_gets_suggestions() -> None:
    with pytest.raises(ModelError, match="no model 'encodec-24kz'") as caught:
        load("encodec-24kz")
    assert "encodec-24khz" in str(caught.value)


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere: no such file or folder"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("kind", ["bert", None, 3])
def test_an_unknown_family_is_named(kind: object, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="alm does not know|no model_type|no known kind"):
        load(folder(tmp_path / "mine", model_type=kind))


def test_a_named_file_may_lie_beside_the_config_of_a_whole_system(tmp_path: Path) -> None:
    path = folder(tmp_path / "system", model_type="moshi")
    with pytest.raises(ModelError, match="'moshi', which alm does not know"):
        load(path)
    torch.save(golden("vocos_tiny").weights, path / "vocos.bin")
    assert type(load(path / "vocos.bin").model).__name__ == "Vocos"


def test_the_card_says_which_family_reads_a_shared_checkpoint(tmp_path: Path) -> None:
    path = folder(tmp_path / "mine", model_type="wav2vec2")
    for name in ("wav2vec2-base", "wav2vec2-base-pq"):
        card = find_card(name)
        found, _ = _described(card, path, open_checkpoint(path))
        assert found is import_module(card.family).FAMILY
    assert find_card("wav2vec2-base").family != find_card("wav2vec2-base-pq").family


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="attention_heads: unknown setting"):
        load(folder(tmp_path / "mine", attention_heads=8))


def test_weights_of_another_size_are_refused_before_they_are_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not fit the model") as caught:
        load(folder(tmp_path / "mine", num_filters=4096))
    assert "where the model has" in caught.value.message


def test_no_config_is_a_model_error(tmp_path: Path) -> None:
    path = folder(tmp_path / "mine")
    (path / "config.json").unlink()
    with pytest.raises(ModelError, match="config.json: missing"):
        load(path)


class Windowed(nn.Module):
    """A part with a constant that no checkpoint holds."""

    window: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.inner = nn.Linear(size, size)
        self.register_buffer("window", torch.hann_window(size), persistent=False)


def test_constants_are_computed(tmp_path: Path) -> None:
    def config(raw: Mapping[str, object]) -> int:
        return Settings(raw).number("size", 8)

    family = Family(config, Windowed, KeyMap(rename("{name:*}", "{name}")))
    save_file(Windowed(8).state_dict(), tmp_path / "model.safetensors")
    model = build(family, family.read_config({}), open_checkpoint(tmp_path))
    assert torch.equal(model.get_buffer("window"), torch.hann_window(8))
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])


def test_loading_reads_one_tensor_at_a_time(tmp_path: Path) -> None:
    path = folder(tmp_path / "mine")
    checkpoint = open_checkpoint(path)
    reads: list[str] = []

    def read(name: str) -> Tensor:
        reads.append(name)
        return checkpoint.read(name)

    from alm_cli.checkpoints.reader import Checkpoint
    from alm_cli.codecs.encodec import FAMILY

    watched = Checkpoint(checkpoint.shapes, checkpoint.files, read)
    build(FAMILY, FAMILY.read_config(CONFIG), watched)
    assert sorted(reads) == sorted(checkpoint.shapes)


def test_a_card_is_loaded_by_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = ModelCard(
        name="tiny",
        task="codec",
        family="alm_cli.codecs.encodec",
        source="asset:tiny",
        note="",
        licence="",
        parameters=1,
        rate=24_000,
        frame_rate=12_000.0,
        vocabularies=(16, 16),
    )
    monkeypatch.setattr("alm_cli.checkpoints.fetch.ASSETS", tmp_path)
    folder(tmp_path / "tiny")
    loaded = load(card)
    assert (loaded.name, loaded.card) == ("tiny", card)
