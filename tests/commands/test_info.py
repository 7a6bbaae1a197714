"""`alm info`: recordings, tokens, models, and plans without any of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Alm = Callable[..., Result]
Record = Callable[..., Path]


def facts(alm: Alm, *words: object) -> dict[str, object]:
    """The one JSON line of a successful `alm info`."""
    result = alm("info", *words, "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_planning_needs_no_file(alm: Alm) -> None:
    plan = ["--frame-rate", "50", "--codebooks", "4", "--vocabulary", "1024", "--seconds", "60"]
    result = alm("info", *plan)
    assert result.exit_code == 0
    assert "2.0 kbps" in result.stdout
    assert "12000 tokens" in result.stdout
    found = facts(alm, *plan)
    assert (found["kbps"], found["tokens"], found["bits_per_frame"]) == (2.0, 12_000, 40)
    assert (found["tokens_per_second"], found["tokens_per_minute"]) == (200, 12_000)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--frame-rate 50 --seconds 30 --compression 2", 750),
        ("--frame-rate 12.5 --seconds 30 --compression 1", 375),
        ("--frame-rate 75 --codebooks 8 --seconds 2 --compression 1", 1200),
    ],
)
def test_plans_count_context(alm: Alm, line: str, expected: int) -> None:
    assert facts(alm, *line.split())["positions"] == expected


def test_plans_count_the_key_value_cache(alm: Alm) -> None:
    words = "--frame-rate 50 --seconds 30 --compression 2 --layers 32 --kv-heads 8 --head-dim 128"
    found = facts(alm, *words.split(), "--context", 4096)
    assert found["kv_cache_bytes"] == 2 * 32 * 8 * 128 * 2 * 750
    assert found["context_seconds"] == pytest.approx(4096 * 2 / 50)
    told = alm("info", *words.split()).stdout
    assert "93.8 MiB, 98304000 bytes" in told


def test_plans_use_the_default_model(alm: Alm) -> None:
    found = facts(alm, "--seconds", 10, "--codebooks", 4)
    assert (found["codebooks"], found["vocabulary"]) == (4, 1024)


def test_recordings_are_measured_in_tokens(alm: Alm, record: Record) -> None:
    path = record("a.wav", length=32_000, rate=16_000, channels=2)
    found = facts(alm, path, "--frame-rate", 50, "--codebooks", 2, "--vocabulary", 1024)
    assert (found["kind"], found["seconds"], found["rate"], found["channels"]) == (
        "audio", 2.0, 16_000, 2,
    )  # fmt: skip
    assert (found["frames"], found["tokens"], found["pcm_kbps"]) == (100, 200, 512)
    assert found["pcm_ratio"] == 512


def test_token_files_are_measured(alm: Alm, record: Record, small: Path, tmp_path: Path) -> None:
    path = record("a.wav", length=24_000)
    target = tmp_path / "tokens.bin"
    assert alm("encode", path, "-m", small, "-o", target, "--stream").exit_code == 0
    found = facts(alm, target)
    assert (found["kind"], found["codec"], found["seconds"]) == ("tokens", "small", 1.0)
    assert (found["frame_rate"], found["codebooks"], found["vocabulary"]) == (250, 4, 32)
    assert (found["bits_per_frame"], found["kbps"], found["frames"]) == (20, 5.0, 251)
    size = target.stat().st_size
    assert found["kbps_on_disk"] == size * 8 / 1000
    assert found["pcm_ratio"] == pytest.approx(48_000 / size)
    assert "bitrate on disk" in alm("info", target).stdout


def test_models_are_described_by_name_and_by_folder(alm: Alm, small: Path) -> None:
    assert facts(alm, "encodec-24khz")["frame_rate"] == 75
    found = facts(alm, small)
    assert (found["kind"], found["name"], found["frame_rate"]) == ("model", "small", 250)
    assert found["vocabulary"] == 32


def test_one_bad_file_among_many_is_named(alm: Alm, record: Record, tmp_path: Path) -> None:
    (tmp_path / "bad.alm").write_bytes(b"no")
    words = record("a.wav"), tmp_path / "bad.alm", "nothing", tmp_path
    result = alm("info", *words, "--json")
    assert result.exit_code == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert ["error" in line for line in lines] == [False, True, True, True]
    assert "bad.alm" in result.stderr
    assert "nothing: neither a file nor a model" in result.stderr


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--frame-rate 0 --codebooks 1",
        "--vocabulary 1024",
        "--seconds 1 --compression 0",
        "--seconds 1 --layers 4",
        "--seconds -1",
        "--seconds 5 --codebooks 33",
        "--seconds nan",
        "--frame-rate inf --seconds 1",
    ],
)
def test_mistakes_of_usage_have_their_own_exit_code(alm: Alm, line: str) -> None:
    assert alm("info", *line.split()).exit_code == 2
