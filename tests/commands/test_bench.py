"""`alm bench` end to end: figures that can be checked, reports, baselines, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Alm = Callable[..., Result]
Record = Callable[..., Path]


def test_the_known_reply(alm: Alm) -> None:
    numbers = ["--asr", 0.3, "--llm-first", 0.5, "--llm-token", 0.03, "--tokens", 50, "--tts", 0.2]
    result = alm("bench", "latency", *numbers)
    assert result.exit_code == 0 and "first sound, streamed: 1.000 s" in result.stdout
    facts = json.loads(alm("bench", "latency", *numbers, "--json").stdout)
    assert facts["first_sound_streamed_s"] == 1.0
    assert facts["first_sound_in_turn_s"] == pytest.approx(2.47)
    assert alm("bench", "latency", *numbers, "--tts", -1).exit_code == 2


def test_a_codec_in_one_report(alm: Alm, record: Record, small: Path, tmp_path: Path) -> None:
    path = record("talk.wav", length=30_000)
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no audio")
    command = ["bench", "codec", path, broken, "-m", small, "--runs", 1, "--against", "opus:12"]
    outputs = ["--json", tmp_path / "r.json", "--csv", tmp_path / "r.csv"]
    result = alm(*command, *outputs, "--html", tmp_path / "r.html")
    assert result.exit_code == 0
    assert "broken.wav: left out" in result.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    rows = {(row["codec"], row.get("codebooks")): row for row in report["rows"]}
    last = report["rows"][-2]
    assert ("opus 12", None) in rows and ("small", 1) in rows
    # Known answers: bits are those of the vocabulary, the codec is exact in batches and streams.
    one = rows[("small", 1)]
    assert last["kbps"] == pytest.approx(one["kbps"] * last["codebooks"])
    assert last["tokens_per_second"] == pytest.approx(one["tokens_per_second"] * last["codebooks"])
    assert last["kbps_entropy"] <= last["kbps"]
    assert last["batch"] == last["stream"] == 1.0
    for work in ("encode", "decode"):
        rtf, rtfx = last[f"{work}_rtf"]["median"], last[f"{work}_rtfx"]["median"]
        assert rtf * rtfx == pytest.approx(1.0)
    assert last["peak_mb"] > 50 and last["cold_s"] > 0
    assert report["data"][str(path)] and report["environment"]["repetitions"] == 1
    assert (tmp_path / "r.csv").read_text().startswith("codec,codebooks,kbps")
    assert (tmp_path / "r.html").read_text().count("<audio") == 3  # original, small, opus


def test_a_baseline_fails_what_became_worse(
    alm: Alm, record: Record, small: Path, tmp_path: Path
) -> None:
    path, old = record("talk.wav", length=9000), tmp_path / "old.json"
    command = ["bench", "codec", path, "-m", small, "--runs", 1, "--codebooks", 2, "--quiet"]
    assert alm(*command, "--json", old).exit_code == 0
    value = json.loads(old.read_text())
    value["rows"][-1]["log_mel"]["median"] /= 2
    old.write_text(json.dumps(value))
    same = alm(*command, "--baseline", old, "--fail-on", "kbps>+1%")
    assert same.exit_code == 0
    worse = alm(*command, "--baseline", old, "--fail-on", "log_mel>+5%")
    assert worse.exit_code == 1 and "log_mel was" in worse.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--against", "aac"), "--against"),
        (("--codebooks", "two"), "--codebooks"),
        (("--fail-on", "pesq<-2%"), "--baseline and --fail-on go together"),
        (("--model", "no-such-codec"), "no model"),
    ],
)
def test_mistakes_are_told_before_any_work(
    options: tuple[str, ...], told: str, alm: Alm, record: Record
) -> None:
    result = alm("bench", "codec", record("talk.wav", length=900), *options)
    assert result.exit_code in (2, 3) and told in result.stderr


def test_nothing_to_measure_is_an_error(alm: Alm, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("words")
    result = alm("bench", "codec", tmp_path / "text.wav")
    assert result.exit_code == 1 and "none of the inputs" in result.stderr
