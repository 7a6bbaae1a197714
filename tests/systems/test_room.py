"""Memory is told from the header of a checkpoint, and refused with what would fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from alm_cli import runtime
from alm_cli.errors import ModelError
from alm_cli.runtime import memory_left
from alm_cli.systems.room import Need, need_of, require_room

CPU = torch.device("cpu")
LAYERS, WIDE, OTHER = 3, 64, 1000


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A decoder as transformers names its parts, an encoder that keeps nothing, and the rest."""
    tensors = {"text.weight": torch.zeros(OTHER)}
    for layer in range(LAYERS):
        for stack in ("decoder.model.decoder", "other.encoder"):
            name = f"{stack}.layers.{layer}.self_attn.k_proj.weight"
            tensors[name] = torch.zeros(WIDE, WIDE)
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_weights_and_caches_are_counted(checkpoint: Path) -> None:
    """Two rows of 50 frames a second, a key and a value of every layer."""
    weights = OTHER + 2 * LAYERS * WIDE * WIDE
    need = need_of(checkpoint, dtype="bfloat16", seconds=2, pieces=3)
    cache = 3 * 2 * 100 * LAYERS * 2 * WIDE * 2
    assert need == Need(read=4 * weights, kept=2 * weights, cache=cache)
    whole = need_of(checkpoint, dtype="float32", seconds=2, pieces=3)
    assert whole == Need(read=4 * weights, kept=4 * weights, cache=2 * cache)
    rounded = need_of(checkpoint, dtype="int8", seconds=2, pieces=3)
    assert rounded == Need(read=weights, kept=weights, cache=cache)
    tensors = load_file(checkpoint / "model.safetensors")
    save_file({**tensors, "audio_encoder.x": torch.zeros(7)}, checkpoint / "model.safetensors")
    rounded = need_of(checkpoint, dtype="int8", seconds=2, pieces=3)
    assert rounded == Need(read=weights + 28, kept=weights + 28, cache=cache)
    long = need_of(checkpoint, dtype="float32", seconds=30, pieces=1)
    assert need_of(checkpoint, dtype="float32", seconds=600, pieces=1) == long


def test_parts_of_audiocraft_are_counted_too(tmp_path: Path) -> None:
    name = "transformer.layers.0.self_attn.in_proj_weight"
    save_file({name: torch.zeros(3 * WIDE, WIDE)}, tmp_path / "model.safetensors")
    need = need_of(tmp_path, dtype="float32", seconds=1, pieces=1)
    assert need is not None and need.cache == 2 * 50 * 2 * WIDE * 4


def test_what_does_not_fit_is_refused_with_what_would(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = {"device": "cpu", "dtype": "float32"}
    many = {"device": "cuda", "dtype": "float32"}
    alone = need_of(checkpoint, dtype="float32", seconds=30, pieces=1)
    assert alone is not None
    # The room for one piece, and what the program takes.
    (need, _) = next(alone.against(CPU))
    monkeypatch.setattr("alm_cli.systems.room.memory_left", lambda _: need)
    monkeypatch.setattr("alm_cli.systems.room.device_of", torch.device)
    require_room(checkpoint, **many, seconds=30, pieces=1)
    # On a processor they are made one by one.
    require_room(checkpoint, **ask, seconds=30, pieces=4)
    with pytest.raises(ModelError, match=r"needs about 0\.6 GB of memory, and 0\.6 GB") as caught:
        require_room(checkpoint, **many, seconds=30, pieces=4)
    assert caught.value.exit_code == 3
    assert "--batch-size 1" in str(caught.value.hint) and "--duration 5" in str(caught.value.hint)
    monkeypatch.setattr("alm_cli.systems.room.memory_left", lambda _: 1000)
    with pytest.raises(ModelError) as caught:
        require_room(checkpoint, **ask, seconds=30, pieces=4)
    assert caught.value.hint == "a machine with more memory"
    monkeypatch.setattr("alm_cli.systems.room.memory_left", lambda _: None)
    require_room(checkpoint, **ask, seconds=30, pieces=4)


def test_what_has_no_weights_is_left_to_loading(tmp_path: Path) -> None:
    require_room(tmp_path, device="cpu", dtype="float32", seconds=1, pieces=1)
    require_room("no-such-model", device="cpu", dtype="float32", seconds=1, pieces=1)


def test_catalogued_models_are_counted_before_they_are_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("alm_cli.systems.room.locate", lambda _: None)
    need = need_of("mimi", dtype="float32", seconds=1, pieces=1)
    assert need == Need(read=4 * 96_085_825, kept=4 * 96_085_825, cache=0)


def test_the_system_tells_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least of what the machine has and what control groups allow, caches given back."""
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    (proc / "self").mkdir(parents=True)
    monkeypatch.setattr(runtime, "_PROC", proc)
    monkeypatch.setattr(runtime, "_GROUPS", groups)
    assert memory_left(CPU) is None
    (proc / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    8 kB\n")
    assert memory_left(CPU) == 8192
    (proc / "self" / "cgroup").write_text("0::/a/b\n")
    folder = groups / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text("max\n")
    (folder / "memory.current").write_text("500\n")
    (folder / "memory.stat").write_text("anon 1\ninactive_file 100\n")
    assert memory_left(CPU) == 8192
    (folder / "memory.max").write_text("1000\n")
    assert memory_left(CPU) == 600
    first = groups / "memory"
    first.mkdir()
    for name, text in (("limit_in_bytes", "900"), ("usage_in_bytes", "850")):
        (first / f"memory.{name}").write_text(text)
    (first / "memory.stat").write_text("total_inactive_file 20\n")
    assert memory_left(CPU) == 70


@pytest.mark.gpu
def test_a_gpu_tells_what_is_left() -> None:
    left = memory_left(torch.device("cuda"))
    assert left is not None and left > 0
