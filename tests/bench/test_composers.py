"""Composing, measured on a composer whose times are known; and what decoders keep."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from alm_cli.app import app
from alm_cli.bench.caches import musicgen_cache
from alm_cli.bench.composers import COLUMNS, Composing, MusicTrial
from alm_cli.bench.reports import Cell
from alm_cli.bench.statistics import Estimate, Spread
from alm_cli.errors import InputError
from alm_cli.lm.musicgen import MusicGen, MusicGenConfig
from alm_cli.systems.composer import Music, Piece
from tests.systems.hummer import CHUNK, RATE, Hummer

Alm = Callable[..., Result]
THINK_S = 0.06  # more than a chunk lasts


class Thinker(Hummer):
    """A hummer that thinks before every chunk, of which the first is silent, and two channels."""

    def __init__(self, think_s: float = 0.0) -> None:
        super().__init__(channels=2)
        self.think_s = think_s

    def stream(self, piece: Piece) -> Generator[NDArray[np.float32], None, Music]:
        music = self._music(piece)
        music.samples[:, :CHUNK] = 0
        music.samples[0] = 0  # all is in the second channel
        for start in range(0, music.samples.shape[1], CHUNK):
            time.sleep(self.think_s)
            yield music.samples[:, start : start + CHUNK]
        return music


def value(cell: Cell) -> float:
    if isinstance(cell, Estimate):
        return cell.value
    assert isinstance(cell, Spread)
    return cell.median


def test_what_a_composer_takes_is_what_is_told() -> None:
    """Slower than its chunks are long, so a player runs dry before every one but the first."""
    bench = Composing(["calm", "fast song"], seconds=3 * CHUNK / RATE, runs=2, warm_up=1)
    trial = MusicTrial(bench, [("slow", Thinker(THINK_S), 1.5), ("quick", Thinker(), 0.5)])
    assert trial.rows() == []
    for text in bench.texts:
        trial.say(text)
    trial.once(0, {"cold_s": 3.0})
    first, second = trial.rows()
    assert (first["model"], first["load_s"], first["cold_s"]) == ("slow", 1.5, 3.0)
    assert value(first["first_chunk_ms"]) >= 1000 * THINK_S
    # The first chunk is silent, and the second comes late.
    assert value(first["first_sound_ms"]) >= 2000 * THINK_S
    assert 1000 * CHUNK / RATE <= value(second["first_sound_ms"]) < value(first["first_sound_ms"])
    # Two runs count of each piece: 3 chunks, of which the first is never late.
    assert (first["chunks"], first["underruns"]) == (12, 8)
    assert first["audio_s"] == pytest.approx(12 * CHUNK / RATE)
    assert value(first["rtf"]) > 1 and value(first["rtfx"]) < 1
    assert "cache_kept_mb" not in first and "cold_s" not in second
    assert {key for row in (first, second) for key in row} <= {column.key for column in COLUMNS}


def test_refusals_are_told() -> None:
    trial = MusicTrial(Composing(["calm"], runs=1), [("hummer", Thinker(), 0.0)])
    with pytest.raises(InputError, match="no bagpipes"):
        trial.say("bagpipes")
    assert trial.rows() == []


def test_a_report_is_made_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alm_cli.systems.composer.load_composer", lambda *_, **__: Thinker())
    words = ["bench", "music", "calm", "-m", str(tmp_path), "--runs", "2", "--no-cold"]
    words += ["--duration", "0.2", "--markdown", str(tmp_path / "r.md")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    told = (tmp_path / "r.md").read_text()
    assert "first sound" in told and "hummer" in told and "1 pieces of 0.2 s, 2 times" in told
    assert CliRunner().invoke(app, [*words, "--file", "x"]).exit_code == 2
    assert CliRunner().invoke(app, ["bench", "music", "--duration", "nan"]).exit_code == 2


@pytest.mark.parametrize("follows", [False, True])
def test_keys_and_values_of_musicgen_are_as_predicted(follows: bool) -> None:
    raw: dict[str, object] = {
        "model_type": "musicgen_melody" if follows else "musicgen",
        "text_encoder": {"d_model": 16, "d_kv": 8, "num_layers": 1, "num_heads": 2, "d_ff": 32},
        "audio_encoder": {"model_type": "encodec"},
        "decoder": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
                    "ffn_dim": 64, "vocab_size": 16},
    }  # fmt: skip
    config = MusicGenConfig.from_hub(raw)
    model = MusicGen(config).eval()
    cache = musicgen_cache(model, tokens=20)
    assert cache.kept == cache.predicted == 2 * 20 * 2 * config.layers * config.dimension * 4
    assert cache.allocated >= cache.kept
    half = musicgen_cache(model.to(torch.bfloat16), tokens=20)
    assert half == replace(cache, predicted=cache.predicted // 2, kept=cache.kept // 2,
                           allocated=half.allocated)  # fmt: skip
