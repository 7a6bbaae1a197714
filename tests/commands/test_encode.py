"""`alm encode` end to end: names, laws, bad files, skipping, options."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import Result

from alm_cli.files.audio import open_writer, read_audio
from alm_cli.files.tokens import read_tokens, write_tokens
from alm_cli.values import Tokens

Alm = Callable[..., Result]
Record = Callable[..., Path]
Codes = NDArray[np.int32]


def codes_of(path: Path) -> Codes:
    """The codes in a token file."""
    tokens = read_tokens(path)
    assert isinstance(tokens, Tokens)
    return tokens.codes


def lines_of(result: Result) -> list[dict[str, object]]:
    """The JSON lines on standard output."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_tokens_lie_beside_the_recording(alm: Alm, record: Record, small: Path) -> None:
    path = record("talk.wav", length=2000, rate=16_000)
    result = alm("encode", path, "--model", small)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert f"{path} -> {path.with_suffix('.alm')}" in result.stderr
    tokens = read_tokens(path.with_suffix(".alm"))
    assert (tokens.origin.source_length, tokens.origin.source_rate) == (2000, 16_000)
    assert tokens.origin.codec == "small"
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["talk.alm", "talk.wav"]


def test_reduced_precision_says_once_how_much_it_changes(
    alm: Alm, record: Record, small: Path, tmp_path: Path
) -> None:
    paths = [record(f"{name}.wav", length=9000) for name in "ab"]
    command = ["encode", *paths, "-m", small, "-o", f"{tmp_path}/out/", "--dtype", "bfloat16"]
    result = alm(*command, "--json")
    assert result.exit_code == 0
    told = [line["agreement"] for line in lines_of(result) if "agreement" in line]
    assert len(told) == 1 and isinstance(told[0], float) and 0 < told[0] <= 1
    again = [line["status"] for line in lines_of(alm(*command, "--json", "--skip-existing"))]
    assert again == ["skipped", "skipped"]
    exact = alm(*command[:-2], "--json", "--skip-existing")
    assert [line["status"] for line in lines_of(exact)] == ["done", "done"]
    assert not any("agreement" in line for line in lines_of(exact))


def test_results_depend_on_nothing_but_the_recording(
    alm: Alm, record: Record, small: Path, tmp_path: Path
) -> None:
    lengths = [1, 95, 96, 97, 5000, 24_001]
    paths = [record(f"{length}.wav", length=length) for length in lengths]

    def encoded(folder: str, *options: object) -> list[Codes]:
        result = alm("encode", *paths, "-m", small, "-o", f"{tmp_path}/{folder}/", *options)
        assert result.exit_code == 0
        return [codes_of(tmp_path / folder / f"{length}.alm") for length in lengths]

    expected = encoded("plain")
    several = [encoded("two", "--batch-size", 2), encoded("nine", "--batch-size", 9)]
    streams = [encoded("stream", "--stream"), encoded("seven", "--stream", "--segment-frames", 7)]
    for found in [*several, *streams]:
        for one, other in zip(expected, found, strict=True):
            assert np.array_equal(one, other)


def test_pipes_and_raw_samples_give_the_same_codes(
    alm: Alm, record: Record, small: Path, tmp_path: Path
) -> None:
    path = record("a.wav", length=30_001, rate=16_000)
    assert alm("encode", path, "-m", small).exit_code == 0
    expected = codes_of(tmp_path / "a.alm")
    raw = read_audio(path).samples
    pcm = (raw * 32_768).astype("<i2").T.tobytes()
    ways = {
        "wav": (path.read_bytes(), ()),
        "raw": (pcm, ("--raw", "s16le", "--rate", 16_000)),
        "raw with channels": (pcm, ("--raw", "s16le", "--rate", 16_000, "--channels", 1)),
        "raw and a mode": (
            pcm,
            ("--raw", "s16le", "--rate", 16_000, "--channels", 1, "--channels", "dual"),
        ),
    }
    for name, (data, options) in ways.items():
        result = alm("encode", "-", "-m", small, *options, input=data)
        assert result.exit_code == 0, name
        target = tmp_path / "piped"
        target.write_bytes(result.stdout_bytes)
        assert np.array_equal(codes_of(target), expected), name


def test_the_stereo_of_raw_samples_is_told_by_a_number(alm: Alm, small: Path) -> None:
    data = np.zeros((500, 2), "<f4").tobytes()
    options = ("--raw", "f32le", "--rate", 48_000, "--channels", "2", "--channels", "dual")
    result = alm("encode", "-", "-m", small, "-o", "-", *options, input=data)
    assert result.exit_code == 0
    assert b'"source_channels":"2"' in result.stdout_bytes.replace(b" ", b"")


def test_one_bad_file_among_many_is_named(
    alm: Alm, record: Record, small: Path, tmp_path: Path
) -> None:
    good, fine = record("in/good.wav"), record("in/fine.flac")
    (tmp_path / "in/bad.wav").write_bytes(b"RIFF not really")
    (tmp_path / "in/empty.wav").touch()
    record("in/hollow.wav", length=0)
    result = alm("encode", tmp_path / "in", tmp_path / "none.wav", "-m", small, "--json")
    assert result.exit_code == 1
    records = {Path(str(line["input"])).name: line for line in lines_of(result)}
    assert [name for name in records if records[name]["status"] == "done"] == [
        "fine.flac",
        "good.wav",
    ]
    for name in ("bad.wav", "empty.wav", "hollow.wav", "none.wav"):
        assert records[name]["status"] == "failed"
        assert name in str(records[name]["error"]) + str(records[name]["input"])
        assert f"{name}: " in result.stderr
    assert good.with_suffix(".alm").is_file()
    assert fine.with_suffix(".alm").is_file()
    assert len(list((tmp_path / "in").iterdir())) == 7


def test_json_tells_what_was_done(alm: Alm, record: Record, small: Path) -> None:
    path = record("a.wav", length=24_000)
    (line,) = lines_of(alm("encode", path, "-m", small, "--json", "--codebooks", 2, "-q"))
    assert line["version"] == 1
    assert line["status"] == "done"
    assert line["seconds"] == 1.0
    assert (line["codebooks"], line["streams"]) == (2, 1)
    assert line["frames"] == 251
    assert line["tokens"] == 502
    assert line["bytes"] == path.with_suffix(".alm").stat().st_size
    assert line["output"] == str(path.with_suffix(".alm"))


def test_trees_are_mirrored(alm: Alm, record: Record, small: Path, tmp_path: Path) -> None:
    for name in ("in/a.wav", "in/a.flac", "in/deep/b.wav"):
        record(name)
    result = alm("encode", tmp_path / "in", "-r", "-m", small, "-o", tmp_path / "out")
    assert result.exit_code == 0
    found = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "out").rglob("*.alm"))
    assert found == ["out/a.flac.alm", "out/a.wav.alm", "out/deep/b.alm"]
    assert result.stderr.count("another input has the same name") == 2


def test_lists_name_inputs(
    alm: Alm, record: Record, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record("x/a.wav"), record("y/b.wav")
    monkeypatch.chdir(tmp_path)
    result = alm("encode", "--from-list", "-", "-m", small, "-o", "out/", input=b"x/a.wav\ny/b.wav")
    assert result.exit_code == 0
    assert Path("out/x/a.alm").is_file()
    assert Path("out/y/b.alm").is_file()
    assert alm("encode", "--from-list", "-", "-m", small, input=b"").exit_code == 0


def test_what_is_there_is_neither_overwritten_nor_lost(
    alm: Alm, record: Record, small: Path
) -> None:
    path = record("a.wav")
    target = path.with_suffix(".alm")
    target.write_bytes(b"precious")
    result = alm("encode", path, "-m", small)
    assert result.exit_code == 1
    assert "exists already (--overwrite" in result.stderr
    assert target.read_bytes() == b"precious"
    assert alm("encode", path, "-m", small, "--overwrite").exit_code == 0
    assert codes_of(target).shape == (1, 4, 33)
    assert alm("encode", path, "-m", small, "-o", path, "--overwrite").exit_code == 1
    assert read_audio(path).length == 3000


def test_skipping_redoes_only_what_is_no_longer_valid(
    alm: Alm, record: Record, small: Path, other: Path
) -> None:
    paths = [record(f"{name}.wav", channels=2, length=500) for name in "abcde"]
    first = alm("encode", *paths, "-m", small)
    assert first.exit_code == 0

    def done(*options: object) -> list[str]:
        result = alm("encode", *paths, "-m", small, "--skip-existing", "--json", "-q", *options)
        assert result.exit_code == 0
        lines = lines_of(result)
        assert {line["status"] for line in lines} <= {"done", "skipped"}
        return [Path(str(line["input"])).stem for line in lines if line["status"] == "done"]

    assert done() == []
    targets = {path.stem: path.with_suffix(".alm") for path in paths}
    targets["a"].unlink()
    targets["b"].write_bytes(targets["b"].read_bytes()[:-1])
    later = targets["c"].stat().st_mtime + 10
    os.utime(paths[2], (later, later))
    tokens = read_tokens(targets["d"])
    write_tokens(targets["d"], replace(tokens, origin=replace(tokens.origin, source_length=400)))
    assert done() == ["a", "b", "c", "d"]
    os.utime(paths[2], (0, 0))
    assert done() == []
    for options in (("--codebooks", 2), ("--channels", "dual"), ("-m", other)):
        assert done(*options) == list("abcde"), options
        assert done(*options) == [], options
    assert done() == list("abcde")


def test_oddities_of_the_sound_are_told(alm: Alm, small: Path, tmp_path: Path) -> None:
    path = tmp_path / "odd.wav"
    samples = np.full((2, 1000), 0.5, np.float32)
    samples[0, :3], samples[1, 5] = 2.0, np.nan
    raw = samples.T.astype("<f4").tobytes()
    with open_writer(path, rate=24_000, channels=2, format="wavf") as writer:
        writer.write(samples)
    path.write_bytes(path.read_bytes().replace(path.read_bytes()[-len(raw) :], raw)[:-800])
    result = alm("encode", path, "-m", small, "--json")
    assert result.exit_code == 0
    (line,) = lines_of(result)
    assert (line["clipped"], line["nonfinite"], line["truncated"]) == (3, 1, True)
    for words in ("3 samples lie beyond", "1 samples were not numbers", "ends before", "mixed to"):
        assert words in result.stderr
    quiet = alm("encode", path, "-m", small, "-q", "--overwrite")
    assert (quiet.exit_code, quiet.stderr, quiet.stdout) == (0, "", "")


@pytest.mark.parametrize(("mode", "streams"), [("mono", 1), ("dual", 2)])
def test_channels_are_kept_or_mixed(
    alm: Alm, record: Record, small: Path, mode: str, streams: int
) -> None:
    path = record("a.wav", channels=2)
    assert alm("encode", path, "-m", small, "--channels", mode).exit_code == 0
    assert len(codes_of(path.with_suffix(".alm"))) == streams


def test_a_bitrate_chooses_the_codebooks(alm: Alm, record: Record, small: Path) -> None:
    path = record("a.wav")
    assert alm("encode", path, "-m", small, "--bitrate", 2.6).exit_code == 0
    assert codes_of(path.with_suffix(".alm")).shape[1] == 2
    assert alm("encode", path, "-m", small, "--bitrate", 0.1, "--overwrite").exit_code == 2


@pytest.mark.parametrize(
    "line",
    [
        "",
        "a.wav --codebooks 2 --bitrate 3",
        "a.wav --codebooks 0",
        "a.wav --codebooks 5",
        "a.wav --channels 2",
        "a.wav --channels five",
        "a.wav --channels mono --channels dual",
        "a.wav --raw s16le",
        "a.wav --rate 16000",
        "a.wav --raw s17le --rate 16000",
        "a.wav --segment-frames 5",
        "a.wav --skip-existing --overwrite",
        "a.wav --device tpu",
        "a.wav --batch-size none",
        "a.wav --dtype int8",
        "a.wav --json -o -",
        "a.wav a.wav b.wav -o -",
        "- --skip-existing",
        "- -",
        "- --from-list -",
        "- --loudness -16",
        "a.wav --loudness 3",
        "a.wav --pack tight",
        "a.wav --windowed 1",
    ],
)
def test_mistakes_of_usage_have_their_own_exit_code(
    alm: Alm, record: Record, small: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    path = record("a.wav")
    record("b.wav")
    monkeypatch.chdir(path.parent)
    result = alm("encode", *line.split(), "-m", small)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) <= 4
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["a.wav", "b.wav"]


def test_unknown_models_are_refused_with_suggestions(alm: Alm, record: Record) -> None:
    result = alm("encode", record("a.wav"), "--model", "alm-kodek")
    assert result.exit_code == 3
    assert "alm-codec" in result.stderr
    assert alm("encode", record("a.wav"), "--model", "./nowhere").exit_code == 3


def test_entropy_coding_changes_bytes_but_no_code(alm: Alm, record: Record, small: Path) -> None:
    path = record("a.wav", length=16_000)
    assert alm("encode", path, "-m", small).exit_code == 0
    plain, size = codes_of(path.with_suffix(".alm")), path.with_suffix(".alm").stat().st_size
    assert alm("encode", path, "-m", small, "--pack", "entropy", "--overwrite").exit_code == 0
    assert np.array_equal(codes_of(path.with_suffix(".alm")), plain)
    assert path.with_suffix(".alm").stat().st_size < size


def test_loudness_is_brought_to_the_target_and_back(
    alm: Alm, record: Record, small: Path, tmp_path: Path
) -> None:
    """The same sound at another level has the same codes, and comes back at its own level."""
    found = {}
    for name, gain in (("soft", 0.01), ("loud", 0.04)):
        path = record(f"{name}.wav", length=24_000, gain=gain)
        result = alm("encode", path, "-m", small, "--loudness", -30, "--json")
        (line,) = lines_of(result)
        origin = read_tokens(path.with_suffix(".alm")).origin
        assert float(origin.notes["gain_db"]) == pytest.approx(line["gain_db"], abs=1e-3)
        assert alm("decode", path.with_suffix(".alm"), "-m", small, "-o", tmp_path / "x.wav",
                   "-f", "wavf", "--overwrite").exit_code == 0  # fmt: skip
        level = np.sqrt(np.mean(read_audio(tmp_path / "x.wav").samples ** 2))
        found[name] = (line["gain_db"], level, codes_of(path.with_suffix(".alm")))
    (soft, quiet, one), (loud, noisy, same) = found["soft"], found["loud"]
    assert soft - loud == pytest.approx(20 * np.log10(4), abs=0.1)
    assert noisy / quiet == pytest.approx(4, rel=0.05)
    assert (one == same).mean() > 0.95  # 16-bit samples of the soft one are coarser
    again = alm("encode", path, "-m", small, "--loudness", -30, "--json", "--skip-existing")
    assert lines_of(again)[0]["status"] == "skipped"
    again = alm("encode", path, "-m", small, "--loudness", -20, "--json", "--skip-existing")
    assert lines_of(again)[0]["status"] == "done"
    plain = alm("encode", path, "-m", small, "--json", "--skip-existing")
    assert lines_of(plain)[0]["status"] == "done"


def test_loudness_needs_a_file_that_can_be_read_twice(
    alm: Alm, small: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    result = alm("encode", tmp_path / "pipe.wav", "-m", small, "--loudness", -16)
    assert result.exit_code == 1
    assert "cannot be read twice" in result.stderr


@pytest.mark.oracle
def test_a_layer_of_an_encoder_becomes_features_or_units(
    alm: Alm, record: Record, small: Path, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    from alm_cli.systems.units import load_units

    folder, kmeans = tmp_path / "tiny-hubert", tmp_path / "km.npy"
    sizes = {"hidden_size": 32, "intermediate_size": 64, "conv_dim": [16] * 7}
    config = transformers.HubertConfig(
        num_hidden_layers=3, num_attention_heads=4, num_conv_pos_embedding_groups=4, **sizes
    )
    transformers.HubertModel(config).save_pretrained(folder)
    np.save(kmeans, np.random.default_rng(0).standard_normal((20, 32)).astype("f4"))
    path = record("a.wav", length=16_000, rate=16_000)
    audio = read_audio(path)
    for words, options in (
        (("--layer", 2), {"layer": 2}),
        (("--layer", 2, "--kmeans", kmeans), {"layer": 2, "kmeans": kmeans}),
    ):
        result = alm("encode", path, "-m", folder, *words, "--overwrite", "--json")
        assert result.exit_code == 0, result.stderr
        found = read_tokens(path.with_suffix(".alm"))
        stream = load_units(folder, **options).encoder(16_000, 1)
        stream.push(audio.samples)
        (expected,) = stream.finish()
        assert found.origin.codec == expected.origin.codec
        assert found.origin.weights_sha256 == expected.origin.weights_sha256
        for name in ("codes", "values"):
            assert np.array_equal(getattr(found, name, 0), getattr(expected, name, 0))
    assert alm("encode", path, "-m", folder, "--layer", 99, "--overwrite").exit_code == 2
    refused = alm("encode", path, "-m", small, "--layer", 2, "--overwrite")
    assert refused.exit_code == 3
    assert "not an encoder with layers" in refused.stderr
