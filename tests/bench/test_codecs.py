"""Codecs on recordings one after another: known figures, what is missing, and lost patience."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from alm_cli.bench import voices
from alm_cli.bench.classical import classical
from alm_cli.bench.codec_trials import ClassicalTrial, CodecTrial
from alm_cli.bench.codecs import MEASURES, Bench, Recording
from alm_cli.bench.quality import log_mel_distance
from alm_cli.bench.reports import Cell
from alm_cli.bench.statistics import Estimate, Spread
from alm_cli.systems.codec import Codec, load_codec
from alm_cli.values import Audio
from tests.commands.conftest import make_codec

RATE, HOP, BOOKS, BITS = 24_000, 96, 4, 5


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    """24 kHz, hop 96, four codebooks of 32."""
    return load_codec(make_codec(tmp_path_factory.mktemp("models") / "small", seed=0), device="cpu")


def noises(*lengths: int) -> list[Recording]:
    found = []
    for length in lengths:
        samples = 0.1 * np.random.default_rng(length).standard_normal((1, length))
        audio = Audio(samples.astype(np.float32), RATE)
        found.append(Recording(name=f"{length}", path=Path(f"{length}.wav"), audio=audio))
    return found


def bench(*lengths: int, **options: object) -> Bench:
    measures = {"log_mel": log_mel_distance}
    return Bench(noises(*lengths), **({"measures": measures, "runs": 2} | options))  # type: ignore[arg-type]


def count(cell: Cell) -> int:
    assert isinstance(cell, Spread)
    return cell.count


def test_bits_and_tokens_are_those_of_the_vocabulary(codec: Codec) -> None:
    whole = bench(4800)
    trial = CodecTrial(whole, codec, [1, BOOKS])
    trial.hear(whole.recordings[0])
    for row, books in zip(trial.rows(), (1, BOOKS), strict=True):
        frames = RATE / HOP
        assert row["kbps"] == pytest.approx(frames * books * BITS / 1000)
        assert row["tokens_per_second"] == frames * books
        assert row["compression"] == pytest.approx(16 * RATE / (frames * books * BITS))
        assert 0 <= float(str(row["kbps_entropy"])) <= float(str(row["kbps"]))
        assert 1 <= float(str(row["perplexity"])) <= 2**BITS
        assert 100 / 2**BITS <= float(str(row["least_used"])) <= 100
        assert float(str(row["kbps_disk"])) > 0


def test_there_are_rows_of_what_was_heard_so_far(codec: Codec) -> None:
    whole = bench(2400, 1200)
    trial = CodecTrial(whole, codec, [1, 2, BOOKS])
    assert trial.rows() == []
    for heard, one in enumerate(whole.recordings, 1):
        trial.hear(one)
        rows = trial.rows()
        assert [row["codebooks"] for row in rows] == [1, 2, BOOKS]
        assert [count(row["log_mel"]) for row in rows] == [heard] * 3
    assert "encode_rtf" not in rows[-1]
    trial.finish()
    last = trial.rows()[-1]
    assert count(last["encode_rtf"]) == count(last["decode_rtfx"]) == 2
    assert last["batch"] == last["stream"] == 1.0
    assert "CUDA" in whole.skipped["device"] or torch.cuda.is_available()
    assert [name for name, _ in whole.heard["2400"]] == ["original", "small, 5.00 kbps"]


def test_an_interrupt_leaves_the_same_recordings_in_all_rows(codec: Codec) -> None:
    """Within the second number of codebooks of the second recording."""
    calls = iter(range(100))

    def impatient(wanted: Audio, made: Audio) -> float:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return log_mel_distance(wanted, made)

    whole = bench(1200, 1300, measures={"log_mel": impatient})
    trial = CodecTrial(whole, codec, [1, 2])
    trial.hear(whole.recordings[0])
    with pytest.raises(KeyboardInterrupt):
        trial.hear(whole.recordings[1])
    assert [count(row["log_mel"]) for row in trial.rows()] == [1, 1]


def test_a_classical_codec_costs_its_packets() -> None:
    whole = bench(2 * RATE)
    trial = ClassicalTrial(whole, classical("opus:24"))
    assert trial.rows() == []
    trial.hear(whole.recordings[0])
    trial.finish()
    (row,) = trial.rows()
    assert (row["codec"], row["program"], row["kbps"]) == ("opus 24", "libopus", 24.0)
    assert float(str(row["kbps_disk"])) == pytest.approx(24, rel=0.2)


def test_words_lost_are_counted_against_what_was_said_or_heard(codec: Codec) -> None:
    said = iter(["red green blue", "red green", "red grin"])
    whole = bench(1200, 1300, write=lambda _: next(said), said={"1300": "red green"})
    trial = CodecTrial(whole, codec, [1])
    for one in whole.recordings:
        trial.hear(one)  # the first is heard in the original too
    (row,) = trial.rows()
    lost = row["rewritten"]
    assert isinstance(lost, Estimate)
    assert lost.value == pytest.approx(100 * 2 / 5)


def test_what_is_not_installed_is_told_with_what_installs_it(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("pesq", "pystoi", "visqol", "speechmos.dnsmos"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(voices, "find_spec", lambda _: None)
    voices.weights.cache_clear()
    whole = bench(1200, measures=MEASURES)
    CodecTrial(whole, codec, [1]).hear(whole.recordings[0])
    assert set(whole.skipped) == {"pesq", "stoi", "estoi", "visqol", "dnsmos", "speaker"}
    assert all("pip install" in reason for reason in whole.skipped.values())
