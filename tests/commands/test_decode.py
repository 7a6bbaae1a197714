"""`alm decode` end to end: lengths, formats, prefixes, refusals, skipping."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from alm_cli.files.audio import probe_audio, read_audio
from alm_cli.files.tokens import read_tokens, to_bytes
from alm_cli.values import Latents, Tokens

Alm = Callable[..., Result]
Record = Callable[..., Path]


@pytest.fixture
def tokens(alm: Alm, record: Record, small: Path) -> Path:
    """The tokens of a stereo recording at 16 kHz, 5001 samples long."""
    path = record("src/talk.wav", length=5001, rate=16_000, channels=2)
    target = path.parent.parent / "talk.alm"
    assert alm("encode", path, "-m", small, "--channels", "dual", "-o", target).exit_code == 0
    return target


def test_audio_lies_beside_the_tokens_and_has_the_length_of_the_recording(
    alm: Alm, tokens: Path, small: Path
) -> None:
    result = alm("decode", tokens, "-m", small)
    assert result.exit_code == 0
    audio = read_audio(tokens.with_suffix(".wav"))
    assert (audio.length, audio.rate, audio.channels) == (5001, 16_000, 2)
    assert alm("decode", tokens, "-m", small).exit_code == 1  # never overwritten unasked


@pytest.mark.parametrize(
    ("name", "options", "container"),
    [
        ("x.flac", (), "flac"),
        ("x.ogg", (), "ogg"),
        ("x.bin", ("--format", "wavf"), "wav"),
        ("x.wav", ("--format", "wav24", "--rate", 48_000), "wav"),
        ("x.mp3", (), "mp3"),
    ],
)
def test_formats_are_chosen_by_suffix_or_name(
    alm: Alm, tokens: Path, small: Path, name: str, options: tuple[object, ...], container: str
) -> None:
    target = tokens.with_name(name)
    assert alm("decode", tokens, "-m", small, "-o", target, *options).exit_code == 0
    found = probe_audio(target)
    assert container in found.container
    assert found.rate == (48_000 if "--rate" in options else 16_000)


def test_a_folder_gets_the_suffix_of_the_format(alm: Alm, tokens: Path, small: Path) -> None:
    out = tokens.parent / "out"
    assert alm("decode", tokens, "-m", small, "-o", f"{out}/", "-f", "flac").exit_code == 0
    assert [path.name for path in out.iterdir()] == ["talk.flac"]


def test_bare_samples_go_to_standard_output(alm: Alm, tokens: Path, small: Path) -> None:
    result = alm("decode", "-", "-m", small, "-f", "s16le", input=tokens.read_bytes())
    assert result.exit_code == 0
    samples = np.frombuffer(result.stdout_bytes, "<i2").reshape(-1, 2)
    assert alm("decode", tokens, "-m", small).exit_code == 0
    written = read_audio(tokens.with_suffix(".wav")).samples * 32_768
    assert np.array_equal(samples.T, written)


def test_fewer_codebooks_are_those_of_a_coarser_encoding(
    alm: Alm, tokens: Path, small: Path
) -> None:
    source = tokens.parent / "src/talk.wav"
    coarse = tokens.with_name("coarse.alm")
    options = ("-m", small, "--channels", "dual", "--codebooks", 2, "-o", coarse)
    assert alm("encode", source, *options).exit_code == 0
    assert alm("decode", coarse, "-m", small).exit_code == 0
    assert alm("decode", tokens, "-m", small, "--codebooks", 2).exit_code == 0
    one, other = read_audio(tokens.with_suffix(".wav")), read_audio(coarse.with_suffix(".wav"))
    assert np.array_equal(one.samples, other.samples)
    many = alm("decode", tokens, "-m", small, "--codebooks", 9, "--overwrite")
    assert many.exit_code == 1
    assert "4 codebooks are stored" in many.stderr


def test_other_weights_are_refused_unless_forced(alm: Alm, tokens: Path, other: Path) -> None:
    result = alm("decode", tokens, "-m", other)
    assert result.exit_code == 3
    assert "--force" in result.stderr
    assert not tokens.with_suffix(".wav").exists()
    assert alm("decode", tokens, "-m", other, "--force").exit_code == 0
    assert read_audio(tokens.with_suffix(".wav")).length == 5001


def test_a_codec_that_only_the_file_knows_is_asked_for(alm: Alm, tokens: Path) -> None:
    result = alm("decode", tokens)
    assert result.exit_code == 3
    assert "small" in result.stderr
    assert "--model" in result.stderr


def test_one_bad_file_among_many_is_named(alm: Alm, tokens: Path, small: Path) -> None:
    folder = tokens.parent
    whole = tokens.read_bytes()
    (folder / "cut.alm").write_bytes(whole[:-10])
    (folder / "noise.alm").write_bytes(bytes(range(256)) * 4)
    damaged = bytearray(whole)
    damaged[-5] ^= 1
    (folder / "damaged.alm").write_bytes(damaged)
    found = read_tokens(tokens)
    assert isinstance(found, Tokens)
    origin = replace(found.origin, vocabularies=())
    values = np.zeros((2, 8, found.frames), np.float32)
    (folder / "latents.alm").write_bytes(to_bytes(Latents(values, origin)))
    result = alm("decode", folder, "-m", small, "--json", "-q")
    assert result.exit_code == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    status = {Path(line["input"]).stem: line["status"] for line in lines}
    assert [name for name in status if status[name] == "done"] == ["talk"]
    assert set(status) == {"cut", "damaged", "latents", "noise", "talk"}
    assert sorted(path.name for path in folder.glob("*.wav")) == ["talk.wav"]


def test_recordings_one_after_the_other_are_decoded_so(alm: Alm, tokens: Path, small: Path) -> None:
    data = tokens.read_bytes() * 2
    target = tokens.with_name("twice.wav")
    result = alm("decode", "-", "-m", small, "-o", target, input=data)
    assert result.exit_code == 0
    assert read_audio(target).length == 2 * 5001


def test_skipping_compares_time_rate_channels_and_length(
    alm: Alm, tokens: Path, small: Path
) -> None:
    target = tokens.with_suffix(".wav")

    def status(*options: object) -> str:
        result = alm("decode", tokens, "-m", small, "--skip-existing", "--json", "-q", *options)
        assert result.exit_code == 0
        return str(json.loads(result.stdout)["status"])

    assert status() == "done"
    assert status() == "skipped"
    assert status("--rate", 8000) == "done"
    assert status() == "done"
    target.write_bytes(target.read_bytes()[:10_000])
    assert status() == "done"
    tokens.touch()
    assert status() == "done"
    assert status() == "skipped"


@pytest.mark.parametrize(
    "line",
    ["", "a.alm --format midi", "a.alm --rate 100", "a.alm --codebooks none", "a.alm --json -o -"]
    + ["a.alm --seed 1 --no-noise", "a.alm --seed -1"],
)
def test_mistakes_of_usage_have_their_own_exit_code(alm: Alm, line: str) -> None:
    result = alm("decode", *line.split())
    assert result.exit_code == 2
    assert result.stdout == ""


def test_a_name_without_a_format_is_told(alm: Alm, tokens: Path, small: Path) -> None:
    result = alm("decode", tokens, "-m", small, "-o", tokens.with_name("noformat"))
    assert result.exit_code == 1
    assert "names no format" in result.stderr
    assert ".part" not in result.stderr


def test_another_model_may_decode(
    alm: Alm, tokens: Path, small: Path, other: Path, tmp_path: Path
) -> None:
    def samples(*options: object) -> object:
        words = ("decode", tokens, "-f", "wavf", "-o", tmp_path / "x.wav", "--overwrite", *options)
        assert alm(*words).exit_code == 0
        return read_audio(tmp_path / "x.wav").samples

    before = tokens.read_bytes()
    decoded = samples("-m", small, "--decoder", other)
    assert np.array_equal(decoded, samples("-m", other, "--force"))
    assert not np.array_equal(decoded, samples("-m", small))
    assert np.array_equal(samples("-m", small, "--decoder", small), samples("-m", small))
    assert tokens.read_bytes() == before
    for decoder in ("no-such-model", "./none", "alm-codec"):
        result = alm("decode", tokens, "-m", small, "--decoder", decoder)
        assert result.exit_code == 3, decoder
    assert "alm-codec does not decode the tokens of small" in result.stderr


def test_noise_is_that_of_the_seed(alm: Alm, record: Record, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from tests.codecs.test_snac import TINY, shapes_of
    from tests.random_weights import random_weights

    folder = tmp_path / "snac"
    folder.mkdir()
    save_file(random_weights(shapes_of("tiny")), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "snac", **TINY}))
    path = record("a.wav", length=3000, rate=32_000)
    assert alm("encode", path, "-m", folder).exit_code == 0

    def samples(*options: object) -> object:
        target = tmp_path / "x.wav"
        words = ("decode", tmp_path / "a.alm", "-m", folder, "-f", "wavf", "-o", target)
        assert alm(*words, "--overwrite", *options).exit_code == 0
        return read_audio(target).samples

    assert np.array_equal(samples(), samples("--seed", 0))
    assert np.array_equal(samples("--no-noise"), samples("--no-noise"))
    for one, others in (("--seed", 1), (("--seed", 0), ("--no-noise",))), (("--no-noise",), ((),)):
        assert all(not np.array_equal(samples(*one), samples(*other)) for other in others)
