"""Help, lists and mistakes answer at once: nothing heavy is imported for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"av", "huggingface_hub", "safetensors", "soundfile", "tokenizers", "torch", "torchaudio"}


def run(*arguments: str) -> tuple[int, str, set[str]]:
    """Exit code, standard output and heavy imports of one command in a fresh interpreter."""
    command = [sys.executable, "-X", "importtime", "-m", "alm_cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    traced = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "alm_cli.app" in traced, done.stderr
    return done.returncode, done.stdout, HEAVY & traced


@pytest.mark.parametrize(
    "line",
    ["--help", "--version", "encode --help", "decode --help", "info --help", "models --help"]
    + ["convert --help", "verify --help", "models convert --help"]
    + ["transcribe --help", "align --help", "speak --help", "voices --help"]
    + ["generate-music --help", "bench music --help"]
    + ["models", "models show alm-codec", "info --frame-rate 50 --codebooks 4 --vocabulary 1024"],
)
def test_words_need_nothing_heavy(line: str) -> None:
    code, output, heavy = run(*line.split())
    assert (code, heavy) == (0, set())
    assert output.strip()


@pytest.mark.parametrize(
    "line",
    ["enocde", "encode", "encode --no-such-option a.wav", "decode --codebooks many a.alm"]
    + ["verify", "verify -", "verify a.wav --min-stream 2", "models convert a.pt"]
    + ["encode a.wav --codebooks 2 --bitrate 3", "encode a.wav --skip-existing --overwrite"]
    + ["transcribe", "transcribe a.wav --language klingon", "transcribe a.wav --max-line-width 9"]
    + ["align", "align a.wav", "align a.wav a.txt --text hello"]
    + ["speak hi --speed 99 -o a.wav", "speak hi --json", "speak hi --file a.txt -o a.wav"]
    + ["generate-music calm --duration 0 -o a.wav", "generate-music calm --json"]
    + ["generate-music calm --variations 2", "generate-music calm --file a.txt -o a.wav"],
)
def test_mistakes_need_nothing_heavy(line: str) -> None:
    code, output, heavy = run(*line.split())
    assert (code, heavy) == (2, set())
    assert not output


def test_public_values_need_nothing_heavy() -> None:
    line = "import sys, alm_cli; alm_cli.Audio, alm_cli.Tokens; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_what_no_command_uses_of_torch_waits(tmp_path: Path) -> None:
    out = str(tmp_path / "hello.wav")
    command = [sys.executable, "-X", "importtime", "-m", "alm_cli", "speak", "hello", "-o", out]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stderr
    traced = {line.rpartition("|")[2].strip() for line in told.splitlines()}
    assert "torch" in traced
    assert "torch._decomp" not in traced  # it would be the first to import this


def test_what_waits_is_there_when_it_is_wanted() -> None:
    line = (
        "from alm_cli.deferred import UNUSED, defer_unused; defer_unused();"
        "import sys, types, torch; late = sys.modules[UNUSED];"
        "assert type(late) is not types.ModuleType;"
        "assert late.register_meta; assert type(late) is types.ModuleType"
    )
    subprocess.run([sys.executable, "-c", line], check=True, timeout=60)
