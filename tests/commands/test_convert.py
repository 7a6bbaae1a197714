"""`alm convert` end to end: forms there and back, cutting, joining, splitting, packing, pipes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from alm_cli.files.audio import read_audio
from alm_cli.files.tokens import probe_tokens, read_tokens
from alm_cli.systems.codec import load_codec
from alm_cli.values import Tokens

Alm = Callable[..., Result]
Record = Callable[..., Path]
FIXTURES = Path(__file__).parents[1] / "fixtures" / "imports"


@pytest.fixture
def tokens(alm: Alm, record: Record, small: Path) -> Path:
    """The tokens of a recording of 0.31 s at 16 kHz: 77 frames of 4 ms, four codebooks of 32."""
    path = record("src/talk.wav", length=4_901, rate=16_000)
    target = path.parent.parent / "talk.alm"
    assert alm("encode", path, "-m", small, "-o", target).exit_code == 0
    return target


def codes_of(path: Path) -> np.ndarray:
    value = read_tokens(path)
    assert isinstance(value, Tokens)
    return value.codes


@pytest.mark.parametrize("form", ["alm", "npy", "jsonl", "units"])
def test_every_form_comes_back(alm: Alm, tokens: Path, form: str) -> None:
    out, back = tokens.with_name(f"out.{form}"), tokens.with_name("back.alm")
    assert alm("convert", tokens, "-o", out).exit_code == 0
    like = ("-m", tokens) if form in ("npy", "units") else ()
    result = alm("convert", out, "-o", back, *like)
    assert result.exit_code == 0, result.stderr
    assert np.array_equal(codes_of(back), codes_of(tokens))
    if not like:
        assert back.read_bytes() == tokens.read_bytes()


def test_entropy_coding_is_undone(alm: Alm, tokens: Path) -> None:
    small, back = tokens.with_name("small.alm"), tokens.with_name("back.alm")
    assert alm("convert", tokens, "-o", small, "--pack", "entropy").exit_code == 0
    assert alm("convert", small, "-o", back).exit_code == 0
    assert back.read_bytes() == tokens.read_bytes()
    assert probe_tokens(small).file_bytes <= probe_tokens(tokens).file_bytes + 64


def test_codebooks_and_times_are_kept_as_asked(alm: Alm, tokens: Path) -> None:
    whole = codes_of(tokens)
    part = tokens.with_name("part.alm")
    options = ("--codebooks", 2, "--start", 0.1, "--end", 0.2)
    result = alm("convert", tokens, "-o", part, *options, "--json")
    assert np.array_equal(codes_of(part), whole[:, :2, 25:50])
    line = json.loads(result.stdout)
    assert (line["frames"], line["codebooks"], line["seconds"]) == (25, 2, 0.1)
    assert line["command"] == "convert"


def test_what_is_split_and_joined_decodes_like_the_original(
    alm: Alm, tokens: Path, small: Path
) -> None:
    pieces = tokens.parent / "pieces" / "talk.alm"
    result = alm("convert", tokens, "-o", pieces, "--split", 0.1, "--json")
    assert json.loads(result.stdout)["pieces"] == 4
    names = sorted(path.name for path in pieces.parent.iterdir())
    assert names == [f"talk-{number:04}.alm" for number in range(4)]
    joined = tokens.with_name("joined.alm")
    files = [pieces.parent / name for name in names]
    assert alm("convert", *files, "--join", "-o", joined).exit_code == 0
    for path in (tokens, joined):
        assert alm("decode", path, "-m", small).exit_code == 0
    one, other = (read_audio(path.with_suffix(".wav")) for path in (tokens, joined))
    assert (one.rate, one.length) == (16_000, 4_901)
    assert np.array_equal(one.samples, other.samples)


def test_a_piece_decodes_like_its_frames_alone(alm: Alm, tokens: Path, small: Path) -> None:
    part = tokens.with_name("part.alm")
    assert alm("convert", tokens, "-o", part, "--start", 0.1).exit_code == 0
    codec, whole, value = load_codec(small, device="cpu"), read_tokens(tokens), read_tokens(part)
    assert isinstance(whole, Tokens)
    assert isinstance(value, Tokens)
    length = 4_901 - 1_600
    origin = replace(whole.origin, source_length=length)
    alone = codec.decode(Tokens(whole.codes[:, :, 25:], origin))
    made = codec.decode(value)
    assert made.length == length
    assert np.array_equal(made.samples, alone.samples)


def test_units_are_merged_into_runs(alm: Alm, tokens: Path) -> None:
    result = alm("convert", tokens, "-o", "-", "--to", "units", "--codebooks", 1, "--dedup")
    units, runs = (list(map(int, text.split())) for text in result.stdout.split("\t"))
    assert np.repeat(units, runs).tolist() == codes_of(tokens)[0, 0].tolist()
    refused = alm("convert", tokens, "-o", "-", "--to", "units", "--dedup")
    assert refused.exit_code == 1
    assert "only those of one" in refused.stderr


@pytest.mark.parametrize("form", ["alm", "jsonl", "npy"])
def test_pipes(alm: Alm, tokens: Path, form: str) -> None:
    out = alm("convert", "-", "-o", "-", "--to", form, input=tokens.read_bytes())
    assert out.exit_code == 0
    back = alm("convert", "-", "-o", "-", "-m", tokens, input=out.stdout_bytes)
    assert back.exit_code == 0
    path = tokens.with_name("back.alm")
    path.write_bytes(back.stdout_bytes)
    assert np.array_equal(codes_of(path), codes_of(tokens))


def test_pieces_go_through_a_pipe_one_after_another(alm: Alm, tokens: Path, small: Path) -> None:
    out = alm("convert", tokens, "-o", "-", "--split", 0.1)
    back = alm("decode", "-", "-o", "-", "-m", small, "-f", "s16le", input=out.stdout_bytes)
    assert back.exit_code == 0
    assert len(back.stdout_bytes) == 4_901 * 2


def test_files_of_other_programs(alm: Alm, tmp_path: Path) -> None:
    result = alm("convert", FIXTURES, "-o", f"{tmp_path}/", "-m", "dac-44khz")
    assert result.exit_code == 0, result.stderr
    found = {path.stem: probe_tokens(path) for path in tmp_path.iterdir()}
    assert {name: info.origin.codec for name, info in found.items()} == {
        "24khz": "encodec-24khz",
        "48khz": "encodec-48khz",
        "whole_numpy1": "dac-44khz",
        "windowed_numpy2": "dac-44khz",
    }


def test_one_bad_file_does_not_stop_the_others(alm: Alm, tokens: Path) -> None:
    bad = tokens.with_name("bad.alm")
    bad.write_bytes(tokens.read_bytes()[:-5])
    out = tokens.parent / "out"
    missing = tokens.with_name("missing.alm")
    result = alm("convert", bad, missing, tokens, "-o", f"{out}/", "--to", "npy")
    assert result.exit_code == 1
    assert [path.name for path in out.iterdir()] == ["talk.npy"]
    assert "bad.alm: ends within the data" in result.stderr
    assert "missing.alm" in result.stderr


def test_joining_needs_all_of_them(alm: Alm, tokens: Path) -> None:
    joined = tokens.with_name("joined.alm")
    missing = tokens.with_name("missing.alm")
    for inputs in ((tokens, missing), (missing, tokens)):
        result = alm("convert", *inputs, "--join", "-o", joined)
        assert result.exit_code == 1
        assert "missing.alm" in result.stderr
        assert not joined.exists()


def test_outputs_are_protected(alm: Alm, tokens: Path) -> None:
    before = tokens.read_bytes()
    other, out = tokens.with_name("other.alm"), tokens.with_name("out.alm")
    other.write_bytes(before)
    assert alm("convert", tokens, "-o", out).exit_code == 0
    for arguments in (
        (tokens,),
        (tokens, "-o", tokens, "--overwrite"),
        (tokens, other, "--join", "-o", other, "--overwrite"),
        (tokens, "-o", out),
    ):
        assert alm("convert", *arguments).exit_code == 1
    assert tokens.read_bytes() == other.read_bytes() == before
    assert alm("convert", tokens, "-o", out, "--overwrite", "--codebooks", 1).exit_code == 0
    assert codes_of(out).shape[1] == 1
    split = ("--split", 0.1, "-o", tokens.with_name("piece.alm"))
    assert alm("convert", tokens, *split).exit_code == 0
    last = tokens.with_name("piece-0003.alm")
    last.write_bytes(b"mine")
    for path in sorted(tokens.parent.glob("piece-000[0-2].alm")):
        path.unlink()
    assert alm("convert", tokens, *split).exit_code == 1
    assert [path.name for path in tokens.parent.glob("piece-*")] == ["piece-0003.alm"]
    assert alm("convert", tokens, *split, "--overwrite").exit_code == 0
    assert len(list(tokens.parent.glob("piece-*"))) == 4


def test_what_is_newer_and_whole_is_skipped(alm: Alm, tokens: Path) -> None:
    out = tokens.with_name("out.alm")
    arguments = ("convert", tokens, "-o", out, "--skip-existing", "--codebooks", 2)
    assert alm(*arguments).exit_code == 0
    assert "skipped" in alm(*arguments).stderr
    assert "skipped" not in alm(*arguments[:-1], 3).stderr
    assert codes_of(out).shape[1] == 3
    out.write_bytes(out.read_bytes()[:-1])
    assert "skipped" not in alm(*arguments).stderr
    assert codes_of(out).shape[1] == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "no INPUT"),
        (("a.alm", "--dedup"), "--dedup is for units"),
        (("a.alm", "--to", "npy", "--pack", "entropy"), "--pack is for token files"),
        (("a.alm", "-o", "a.npy", "--pack", "entropy"), "--pack is for token files"),
        (("a.alm", "--start", "2", "--end", "1"), "--end 1 is not after"),
        (("a.alm", "--end", "0"), "--end 0 is not after"),
        (("a.alm", "-o", "b.alm", "--split", "0"), "--split 0"),
        (("a.alm", "-o", "b.alm", "--split", "nan"), "--split nan"),
        (("a.alm", "--split", "1"), "does not know where to"),
        (("a.alm", "--join"), "does not know where to"),
        (("a.alm", "-o", "b", "--join", "--skip-existing"), "exclude each other"),
        (("a.alm", "-o", "-", "--json"), "--json"),
        (("a.alm", "--codebooks", "0"), "codebooks"),
        (("a.alm", "--to", "wav"), "wav"),
        (("a.alm", "--model", "no-such-model"), "no model"),
    ],
)
def test_contradictions_are_told_before_any_work(
    alm: Alm, options: Sequence[str], told: str
) -> None:
    result = alm("convert", *options)
    assert result.exit_code == (3 if "model" in told else 2)
    assert told in result.stderr


def test_the_whole_command_needs_no_torch(tokens: Path) -> None:
    line = (
        "import sys; from alm_cli.app import app\n"
        f"sys.argv = ['alm', 'convert', {str(tokens)!r}, '-o', '-', '--pack', 'entropy', '-q']\n"
        "try: app()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
