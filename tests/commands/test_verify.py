"""`alm verify`: tables, JSON lines, demands and exit codes, on a small codec."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

Alm = Callable[..., Result]
Record = Callable[..., Path]

KINDS = ["idempotence", *["slice"] * 3, *["perturbation"] * 3, "batch", "stream", "device"]


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def tokens(alm: Alm, record: Record, small: Path) -> Path:
    """The tokens of a recording in a.wav, beside it."""
    path = record("a.wav")
    assert alm("encode", path, "-m", small).exit_code == 0
    return path.with_suffix(".alm")


def test_a_recording_is_shown_as_a_table(alm: Alm, record: Record, small: Path) -> None:
    path = record("a.wav", length=16_800)
    result = alm("verify", path, "-m", small)
    assert (result.exit_code, result.stderr) == (0, "")
    first, codec, head, *rows = result.stdout.splitlines()
    assert first == str(path)
    assert codec.split() == ["codec", "small,", "0.70", "s,", "176", "frames,", "4", "codebooks"]
    assert head.split()[-4:] == ["all", "first", "last", "worst"]
    found = {row[:27].strip(): row[27:].split() for row in rows}
    assert found["stream"] == found["batch of 4"] == ["1.0000"] * 4
    assert 0 < float(found["decoded and encoded again"][0]) < 1
    assert len(found["slices of 0.6 s"]) == len(found["nearly ties"]) == 4
    assert " ".join(found["slices of 1.8 s"]) == "not measured: the recording is too short"
    assert " ".join(found["device"]).startswith("not measured: no CUDA")


def test_a_recording_is_measured_in_json(alm: Alm, record: Record, small: Path) -> None:
    path = record("a.wav", length=4800, rate=16_000, channels=2)
    result = alm("verify", path, "-m", small, "--json", "--codebooks", 3)
    (line,) = lines(result)
    assert (line["version"], line["command"], line["input"]) == (1, "verify", str(path))
    assert (line["codec"], line["seconds"], line["codebooks"], line["met"]) == (
        "small", 0.3, 3, True,
    )  # fmt: skip
    assert [measure["kind"] for measure in line["measures"]] == KINDS
    measured = {measure["name"]: measure for measure in line["measures"]}
    assert measured["stream"]["per_codebook"] == [1.0] * 3
    assert (measured["stream"]["least"], measured["stream"]["met"]) == (1.0, True)
    assert measured["slices of 1.8 s"]["reason"] == "the recording is too short"
    assert measured["slices of 1.8 s"]["equal"] is None
    assert measured["slices of 0.2 s"]["least"] is None
    assert len(line["margins"]["lowest"]) == 3


def test_only_the_beginning_is_used(alm: Alm, record: Record, small: Path) -> None:
    path = record("a.wav", length=30_000)
    (line,) = lines(alm("verify", path, "-m", small, "--json", "--seconds", 0.25))
    assert line["seconds"] == 0.25


def test_the_default_model_is_verified(alm: Alm, record: Record) -> None:
    (line,) = lines(alm("verify", record("a.wav", length=6000), "--json"))
    assert (line["codec"], line["met"]) == ("alm-codec", True)


def test_a_token_file_is_checked_and_encoded_again(alm: Alm, tokens: Path, small: Path) -> None:
    result = alm("verify", tokens, "-m", small)
    assert result.exit_code == 0
    words = result.stdout.split()
    assert words[words.index("checksum") + 1] == "right"
    assert "weights                    the same" in result.stdout
    (line,) = lines(alm("verify", tokens, "-m", small, "--json"))
    assert (line["checksum"], line["weights"]) == ("right", "the same")
    assert [measure["kind"] for measure in line["measures"]] == ["idempotence"]
    assert "margins" not in line


def test_a_token_file_is_compared_with_its_source(alm: Alm, tokens: Path, small: Path) -> None:
    source = tokens.with_suffix(".wav")
    (line,) = lines(alm("verify", tokens, "-m", small, "--source", source, "--json"))
    assert line["source"] == "the same samples"
    (again, anew) = line["measures"]
    assert (anew["kind"], anew["equal"], anew["first_difference"]) == ("source", 1.0, None)


def test_another_source_is_not_met(alm: Alm, record: Record, tokens: Path, small: Path) -> None:
    other = record("b.wav", length=3001)
    result = alm("verify", tokens, "-m", small, "--source", other)
    assert result.exit_code == 1
    assert "other samples" in result.stdout
    assert "MISSED: 1 is demanded, differs from frame 0 of" in result.stdout
    result = alm("verify", tokens, "-m", small, "--source", other, "--min-source", 0)
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("demand", "code"),
    [
        ("--min-idempotence 0", 0),
        ("--min-idempotence 1", 1),
        ("--min-stream 1", 0),
        ("--min-batch 1", 0),
        ("--min-slice 0", 0),
        ("--min-slice 1", 1),
        ("--min-perturbation 1", 1),
        ("--min-device 0", 1),
    ],
)
def test_demands_decide_the_exit_code(
    demand: str, code: int, alm: Alm, record: Record, small: Path
) -> None:
    path = record("a.wav", length=6000)
    result = alm("verify", path, "-m", small, *demand.split(), "--json")
    assert result.exit_code == code
    (line,) = lines(result)
    assert line["met"] == (code == 0)
    kind = demand.split()[0].removeprefix("--min-")
    of_kind = [measure for measure in line["measures"] if measure["kind"] == kind]
    assert all(measure["met"] for measure in of_kind) == (code == 0)


def test_bad_inputs_among_good_ones_are_named(
    alm: Alm, record: Record, tokens: Path, small: Path, other: Path, tmp_path: Path
) -> None:
    good = record("good.wav", length=2000)
    damaged = bytearray(tokens.read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "damaged.alm").write_bytes(damaged)
    (tmp_path / "text.wav").write_text("no sound")
    record("empty.wav", length=0)
    names = ["damaged.alm", "text.wav", "empty.wav", "nowhere.wav", "good.wav"]
    result = alm("verify", *(tmp_path / name for name in names), "-m", small, "--json")
    assert result.exit_code == 1
    found = lines(result)
    assert [line["input"] for line in found] == [str(tmp_path / name) for name in names]
    assert ["error" in line for line in found] == [True] * 4 + [False]
    for name in names[:4]:
        assert f"failed: {tmp_path / name}" in result.stderr
    assert good.exists()
    elsewhere = alm("verify", tokens, good, "-m", other)
    assert elsewhere.exit_code == 1
    assert "other weights" in elsewhere.stderr and str(good) in elsewhere.stdout


def test_tokens_of_a_codec_that_is_not_here_are_told(alm: Alm, tokens: Path) -> None:
    result = alm("verify", tokens)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "made by the codec 'small'" in result.stderr and "--model" in result.stderr


def test_folders_give_recordings_and_tokens(alm: Alm, tokens: Path, small: Path) -> None:
    (tokens.parent / "notes.txt").write_text("none of these")
    result = alm("verify", tokens.parent, "-m", small, "--json")
    assert [Path(line["input"]).name for line in lines(result)] == ["a.alm", "a.wav"]


def test_features_are_verified_as_far_as_they_can_be(alm: Alm, record: Record) -> None:
    path = record("a.wav", length=16_000, rate=16_000)
    result = alm("verify", path, "-m", "mfcc")
    assert result.exit_code == 0
    assert "not measured: nothing decodes features" in result.stdout
    assert "not measured: features are not quantised" in result.stdout
    assert alm("encode", path, "-m", "mfcc").exit_code == 0
    result = alm("verify", path.with_suffix(".alm"), "--source", path)
    assert result.exit_code == 0
    assert "source encoded again          1.0000" in result.stdout


def test_features_are_encoded_and_their_decoding_is_refused(
    alm: Alm, record: Record, tmp_path: Path
) -> None:
    path = record("a.wav", length=16_000, rate=16_000)
    for name, rows in (("mel-80", 80), ("mel-128", 128), ("mfcc", 39)):
        target = tmp_path / f"{name}.alm"
        assert alm("encode", path, "-m", name, "-o", target).exit_code == 0
        told = json.loads(alm("info", target, "--json").stdout)
        assert (told["codec"], told["dimensions"]) == (name, rows)
        assert told["frames"] == 100 + (name == "mfcc")
        result = alm("decode", target)
        assert result.exit_code == 1
        assert "features, not tokens" in result.stderr and "decodes them" in result.stderr


@pytest.mark.parametrize(
    "line",
    [
        "",
        "-",
        "a.wav --min-stream 1.5",
        "a.wav --min-source 1",
        "a.wav --source b.wav",
        "a.alm b.alm --source b.wav",
        "a.wav --seconds 0",
        "a.wav --device tpu",
        "a.wav --threads 0",
        "a.wav -m alm-codec --codebooks 0",
    ],
)
def test_mistakes_of_usage_have_their_own_exit_code(
    line: str, alm: Alm, record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record("a.wav", length=100)
    assert alm("verify", *line.split()).exit_code == 2


def test_an_unknown_model_is_told_before_anything_is_read(alm: Alm) -> None:
    result = alm("verify", "nowhere.wav", "-m", "encodek")
    assert result.exit_code == 3
    assert "encodec-24khz" in result.stderr
