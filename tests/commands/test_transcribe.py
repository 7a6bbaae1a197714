"""`alm transcribe` with a recogniser that writes what it hears: names, pipes, skips, options."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from alm_cli.commands.transcribe_options import recognisers
from alm_cli.files.audio import open_writer
from alm_cli.files.ledger import NAME as LEDGER
from alm_cli.files.transcripts import FORMATS, read_jsonl
from alm_cli.systems import transcriber as system
from alm_cli.systems.transcriber import RATE, TranscribeAsk
from tests.commands.listener import Listener

Alm = Callable[..., Result]
Record = Callable[..., Path]


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Listener:
    """The recogniser that every model is."""
    listener = Listener()

    def load(source: str, **_: object) -> Listener:
        listener.name = Path(source).name
        return listener

    monkeypatch.setattr(system, "load_transcriber", load)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return listener


@pytest.fixture
def run(alm: Alm, listener: Listener) -> Alm:  # noqa: ARG001
    """`alm transcribe`, by that recogniser."""

    def transcribe(*arguments: object, input: bytes = b"") -> Result:
        return alm("transcribe", "-m", "./model", *arguments, input=input)

    return transcribe


def lines_of(result: Result) -> list[dict[str, object]]:
    """The JSON lines on standard output."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def names_in(folder: Path) -> list[str]:
    """The files of a folder, without the hidden ledger and the model."""
    names = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if LEDGER not in name and "config.json" not in name)


def test_a_single_recording_is_written_to_standard_output(
    run: Alm, record: Record, listener: Listener, tmp_path: Path
) -> None:
    record("a.wav", length=2 * RATE, rate=RATE)
    result = run("a.wav")
    assert result.exit_code == 0, result.stderr
    assert len(result.stdout.splitlines()) == 2
    assert "a.wav -> -  2.0 s" in result.stderr
    assert names_in(tmp_path) == ["a.wav"]
    assert len(listener.heard[0]) == 2 * RATE


def test_several_lie_beside_their_recordings(run: Alm, record: Record, tmp_path: Path) -> None:
    record("a.wav", length=RATE, rate=RATE)
    record("in/b.wav", length=RATE, rate=RATE)
    result = run("a.wav", "in/b.wav", "-f", "srt")
    assert (result.exit_code, result.stdout) == (0, "")
    assert names_in(tmp_path) == ["a.srt", "a.wav", "in/b.srt", "in/b.wav"]
    assert run("in", "-o", "out").exit_code == 0
    assert (tmp_path / "out/b.txt").is_file()
    assert run("in/*.wav", "-f", "vtt").exit_code == 0
    assert (tmp_path / "in/b.vtt").read_text(encoding="utf-8").startswith("WEBVTT\n\n00:00.000")


def test_a_named_file_chooses_its_format(run: Alm, record: Record, tmp_path: Path) -> None:
    record("a.wav", length=RATE, rate=RATE)
    for name in ("b.srt", "c.JSON", "d.tsv", "e.out"):
        assert run("a.wav", "-o", name).exit_code == 0
    assert (tmp_path / "b.srt").read_text(encoding="utf-8").startswith("1\n00:00:00,000 --> ")
    assert json.loads((tmp_path / "c.JSON").read_text(encoding="utf-8"))["language"] == "en"
    assert (tmp_path / "d.tsv").read_text(encoding="utf-8").startswith("start\tend\ttext\n")
    assert (tmp_path / "e.out").read_text(encoding="utf-8").endswith(".\n")


def test_all_formats_lie_side_by_side_and_are_told(
    run: Alm, record: Record, tmp_path: Path
) -> None:
    record("in/a.wav", length=3 * RATE, rate=RATE)
    record("in/a.flac", length=3 * RATE, rate=RATE)
    result = run("in", "-f", "all", "-o", "out/", "--json")
    assert result.exit_code == 0
    expected = [f"a.{kind}.{form}" for kind in ("flac", "wav") for form in sorted(FORMATS)]
    assert names_in(tmp_path / "out") == sorted(expected)
    for line in lines_of(result):
        assert (line["segments"], line["words"], line["model"]) == (3, 3, "model")
        assert [Path(str(path)).suffix[1:] for path in line["outputs"]] == list(FORMATS)
    with (tmp_path / "out/a.wav.jsonl").open("rb") as file:
        assert len(read_jsonl(file).segments) == 3
    blocked = run("in", "-f", "srt,json", "-o", "out/", "--json")
    assert blocked.exit_code == 1
    (tmp_path / "out/a.wav.srt").unlink()
    blocked = run("in/a.wav", "-f", "srt,json", "-o", "out/", "--json")
    assert blocked.exit_code == 0  # alone it is called a.srt
    assert (
        run("in/a.wav", "-f", "txt,json", "-o", "out/", "--json").exit_code == 1
    )  # a.json is there


@pytest.mark.parametrize(
    ("rate", "channels", "name"),
    [(RATE, 1, "a.wav"), (RATE, 2, "a.wav"), (44_100, 2, "a.flac"), (8000, 1, "a.wav")],
)
def test_recognisers_hear_mono_at_16_khz_in_16_bits(
    run: Alm, record: Record, listener: Listener, rate: int, channels: int, name: str
) -> None:
    length = rate + 1
    path = record(name, length=length, rate=rate, channels=channels)
    assert run(path).exit_code == 0
    (heard,) = listener.heard
    steps = heard.astype(np.float64) * 32_768
    assert heard.dtype == np.float32
    assert np.array_equal(steps, np.round(steps))
    assert len(heard) == -(-length * RATE // rate)
    if rate == RATE:
        from alm_cli.files.audio import read_audio

        words = (read_audio(path).samples * 32_768).astype(np.int64)
        # As ffmpeg mixes: halves upwards.
        assert np.array_equal(steps, np.floor(words.sum(0) / channels + 0.5))


def test_beyond_full_scale_it_is_clipped(run: Alm, listener: Listener, tmp_path: Path) -> None:
    samples = np.array([[2.0, -3.0, 0.5, np.nan] * 100], np.float32)
    with open_writer(tmp_path / "a.wav", rate=RATE, channels=1, format="wavf") as writer:
        writer.write(samples)
    result = run("a.wav")
    assert result.exit_code == 0
    assert listener.heard[0][:3].tolist() == [32_767 / 32_768, -1.0, 0.5]
    assert "200 samples lie beyond full scale" in result.stderr


def test_pipes_and_raw_samples_are_written_down_the_same(
    run: Alm, record: Record, listener: Listener, tmp_path: Path
) -> None:
    path = record("a.flac", length=40_000, rate=RATE)
    expected = run(path, "-f", "tsv").stdout
    wav = record("b.wav", length=40_000, rate=RATE)
    pcm = (listener.heard[0] * 32_768).astype("<i2").tobytes()
    raw = ("--raw", "s16le", "--rate", RATE)
    for data, options in (
        (path.read_bytes(), ()),
        (wav.read_bytes(), ()),
        (pcm, raw),
        (pcm, (*raw, "--channels", 1)),
        (wav.read_bytes(), ("--stream",)),
        (pcm, (*raw, "--stream")),
    ):
        result = run("-", "-f", "tsv", *options, input=data)
        assert (result.exit_code, result.stdout) == (0, expected), (options, result.stderr)
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["sh", "-c", f"cat {path} > {tmp_path}/pipe"]):
        result = run("pipe", "-f", "tsv")
    assert (result.exit_code, result.stdout) == (0, expected), result.stderr
    assert run("-", "-o", "c.tsv", input=wav.read_bytes()).exit_code == 0
    assert (tmp_path / "c.tsv").read_text(encoding="utf-8") == expected


def test_bad_inputs_fail_and_the_others_do_not(run: Alm, record: Record, tmp_path: Path) -> None:
    for name, length in (("good", 20_000), ("one", 1), ("hollow", 0), ("clipped", 999)):
        record(f"in/{name}.wav", length=length, rate=RATE, gain=9 if name == "clipped" else 0.1)
    record("in/silent.wav", length=9000, rate=RATE, gain=0)
    (tmp_path / "in/bad.wav").write_bytes(b"RIFF not really")
    (tmp_path / "in/text.mp3").write_bytes(b"no sound at all, just text\n" * 99)
    (tmp_path / "in/empty.wav").touch()
    whole = (tmp_path / "in/good.wav").read_bytes()
    (tmp_path / "in/short.wav").write_bytes(whole[:10_001])
    result = run("in", "none.wav", "--json")
    assert result.exit_code == 1
    records = {Path(str(line["input"])).stem: line for line in lines_of(result)}
    bad = {"bad", "text", "empty", "hollow", "none"}
    assert {name for name, line in records.items() if line["status"] == "failed"} == bad
    assert all(records[name]["error"] for name in bad)
    assert records["short"]["truncated"] is True
    done = {name for name, line in records.items() if line["status"] == "done"}
    assert {path.stem for path in (tmp_path / "in").glob("*.txt")} == done
    assert not list((tmp_path / "in").glob(".*.journal"))
    for data in (b"", b"no sound", whole[:44]):
        piped = run("-", input=data)
        assert (piped.exit_code, piped.stdout) == (1, ""), data
        assert "/dev/fd" not in piped.stderr


def test_what_is_there_is_neither_overwritten_nor_lost(
    run: Alm, record: Record, tmp_path: Path
) -> None:
    path = record("a.wav", length=RATE, rate=RATE)
    (tmp_path / "a.txt").write_text("precious", encoding="utf-8")
    assert run("a.wav", "-o", "a.txt").exit_code == 1
    assert run("a.wav", "-o", "a.txt", "--skip-existing").exit_code == 0
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "precious"
    assert run("a.wav", "-o", "a.wav", "--overwrite").exit_code == 1
    assert path.read_bytes()[:4] == b"RIFF"
    assert run("a.wav", "-o", "a.txt", "--overwrite").exit_code == 0
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") != "precious"


def test_skipping_redoes_only_what_is_no_longer_valid(
    run: Alm, record: Record, listener: Listener, tmp_path: Path
) -> None:
    paths = [record(f"{name}.wav", length=900, rate=RATE) for name in "abc"]

    def done(*options: object) -> list[str]:
        result = run(*paths, "--skip-existing", "--json", "-q", *options)
        assert result.exit_code == 0
        lines = lines_of(result)
        return [Path(str(line["input"])).stem for line in lines if line["status"] == "done"]

    assert done() == list("abc")
    assert done() == []
    (tmp_path / "a.txt").unlink()
    later = paths[1].stat().st_mtime + 10
    os.utime(paths[1], (later, later))
    (tmp_path / "c.txt").write_text("corrected by hand", encoding="utf-8")
    assert done() == ["a", "b"]
    assert done("--beam-size", 2) == ["a", "b"]
    listener.weights_sha256 = "cd" * 32
    assert done("--beam-size", 2) == ["a", "b"]
    assert done("--beam-size", 2) == []
    assert (tmp_path / "c.txt").read_text(encoding="utf-8") == "corrected by hand"
    assert done("-f", "txt,srt") == ["a", "b"]
    assert done("-f", "srt") == ["c"]
    assert done("-f", "srt") == []
    (tmp_path / LEDGER).unlink()
    assert done("-f", "srt", "--beam-size", 3) == []


@pytest.mark.parametrize("kept", range(5))
def test_what_was_broken_off_is_taken_up(
    run: Alm, record: Record, listener: Listener, tmp_path: Path, kept: int
) -> None:
    """As after a kill: the journal stays, and the next run writes the same as an unbroken one."""
    record("a.wav", length=round(8.5 * RATE), rate=RATE)
    assert run("a.wav", "-o", "whole.jsonl").exit_code == 0
    listener.limit = kept
    assert run("a.wav", "-o", "a.jsonl").exit_code == 1  # an error that is not the input's
    assert len(list(tmp_path.glob(".a*.journal"))) == 1
    listener.limit = None
    listener.resumed.clear()
    assert run("a.wav", "-o", "a.jsonl").exit_code == 0
    assert listener.resumed == ([kept // 2 * 200] if kept >= 2 else [])
    whole = (tmp_path / "whole.jsonl").read_text(encoding="utf-8")
    assert (tmp_path / "a.jsonl").read_text(encoding="utf-8") == whole
    assert not list(tmp_path.glob(".a*.journal"))


@pytest.mark.parametrize("why", ["option", "weights", "source", "not wanted", "no way"])
def test_a_journal_of_something_else_is_not_used(
    run: Alm,
    record: Record,
    listener: Listener,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    why: str,
) -> None:
    path = record("a.wav", length=8 * RATE, rate=RATE)
    listener.limit = 5
    assert run("a.wav", "-o", "a.jsonl").exit_code == 1
    listener.limit = None
    options: Sequence[object] = ()
    if why == "option":
        options = ("--seed", 1)
    elif why == "weights":
        listener.weights_sha256 = "cd" * 32
    elif why == "source":
        os.utime(path, (1, 1))
    elif why == "no way":
        monkeypatch.delattr(Listener, "resume")
    else:
        options = ("--no-resume",)
    assert run("a.wav", "-o", "a.jsonl", *options).exit_code == 0
    assert listener.resumed == []
    with (tmp_path / "a.jsonl").open("rb") as file:
        assert len(read_jsonl(file).segments) == 8
    assert not list(tmp_path.glob(".a*.journal"))


def test_the_spellings_of_whisper_are_understood(
    run: Alm, record: Record, listener: Listener, tmp_path: Path
) -> None:
    record("a.wav", length=900, rate=RATE)
    line = (
        "a.wav --output_dir new --output_format all --word_timestamps True --highlight_words False"
        " --beam_size None --best_of 3 --fp16 False --verbose False --language Spanish"
        " --condition_on_previous_text False --temperature_increment_on_fallback None"
        " --no_speech_threshold None --suppress_tokens -1 --initial_prompt --beam_size"
        " --clip_timestamps 1,2 --max_line_width=20 --carry_initial_prompt True --hotwords a_b"
    )
    result = run(*line.split())
    assert result.exit_code == 0, result.stderr
    (ask,) = listener.asked
    assert ask == TranscribeAsk(
        word_timestamps=True,
        beam_size=None,
        best_of=3,
        language="es",
        condition_on_previous_text=False,
        temperature=(0.0,),
        no_speech_threshold=None,
        initial_prompt="--beam_size",
        clip_timestamps=(1.0, 2.0),
        carry_initial_prompt=True,
        hotwords="a_b",
    )
    assert names_in(tmp_path / "new") == sorted(f"a.{form}" for form in FORMATS)


def test_defaults_are_those_of_the_command_whisper(
    run: Alm, record: Record, listener: Listener
) -> None:
    record("a.wav", length=900, rate=RATE)
    assert run("a.wav", "--language", "auto").exit_code == 0
    # Its temperatures are sums in floating point.
    temperatures = tuple(np.arange(0, 1.0 + 1e-6, 0.2).tolist())
    assert listener.asked == [TranscribeAsk(temperature=temperatures)]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "a.wav --task sing",
        "a.wav --task translate",  # which this model cannot
        "a.wav --task translate -o x/",
        "a.wav --language klingon",
        "a.wav --language de --languages en,fr",
        "a.wav --languages en,klingon",
        "a.wav --max-line-width 20",
        "a.wav --highlight-words",
        "a.wav --hallucination-silence-threshold 2",
        "a.wav --batched --stream",
        "a.wav --beam-size 0",
        "a.wav --beam-size many",
        "a.wav --patience 2 --beam-size None",
        "a.wav --clip-timestamps one",
        "a.wav --temperature -1",
        "a.wav --temperature-increment-on-fallback 0",
        "a.wav -f doc",
        "a.wav -f all -o x.txt",
        "a.wav -f srt,vtt -o -",
        "a.wav --rate 16000",
        "a.wav --channels 2",
        "a.wav --raw s16le",
        "a.wav --raw s17le --rate 16000",
        "a.wav --json -o -",
        "a.wav --skip-existing --overwrite",
        "a.wav b.wav -o -",
        "- --skip-existing",
        "- -",
        "--watch .  a.wav",
        "--watch a.wav",
        "--watch . -o -",
        "--watch . -o x.txt",
    ],
)
def test_mistakes_of_usage_have_their_own_exit_code(
    run: Alm, record: Record, tmp_path: Path, line: str
) -> None:
    record("a.wav", length=900, rate=RATE), record("b.wav", length=900, rate=RATE)
    result = run(*line.split())
    assert result.exit_code == 2, result.stderr
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) <= 4
    assert names_in(tmp_path) == ["a.wav", "b.wav"]


def test_unknown_models_are_refused(alm: Alm, record: Record) -> None:
    path = record("a.wav", length=900, rate=RATE)
    assert alm("transcribe", path, "--model", "whispr-tiny").exit_code == 3
    assert alm("transcribe", path, "--model", "./nowhere").exit_code == 3
    refused = alm("transcribe", path, "--model", "alm-codec")
    assert refused.exit_code == 3
    assert "does not write down speech" in refused.stderr


def test_only_recognisers_are_proposed_and_told_of_as_such(alm: Alm) -> None:
    proposed = [name for name, _ in recognisers("")]
    assert "alm-codec" not in proposed
    assert "whisper-tiny" in proposed
    assert [name for name, _ in recognisers("whisper-ti")] == ["whisper-tiny", "whisper-tiny.en"]
    (line,) = lines_of(alm("models", "show", "whisper-tiny", "--json"))
    assert line["kind"] == "recogniser"
    assert "kbps" not in line
