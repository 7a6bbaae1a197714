"""`alm bench` end to end: figures that can be checked, reports, baselines, bad input."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import Result

from alm_cli.bench import codecs
from alm_cli.bench.quality import log_mel_distance
from alm_cli.commands.benching import _lines_of
from alm_cli.jobs.interrupts import Interrupted
from alm_cli.values import Audio

Alm = Callable[..., Result]
Record = Callable[..., Path]
SPEECH = Path(__file__).parents[2] / "sample_audio" / "speech.wav"


def test_the_known_reply(alm: Alm) -> None:
    numbers = ["--asr", 0.3, "--llm-first", 0.5, "--llm-token", 0.03, "--tokens", 50, "--tts", 0.2]
    result = alm("bench", "latency", *numbers)
    assert result.exit_code == 0 and "first sound, streamed: 1.000 s" in result.stdout
    facts = json.loads(alm("bench", "latency", *numbers, "--json", "-").stdout)
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
    assert (tmp_path / "r.csv").read_text().startswith("codec,program,codebooks,kbps")
    assert (tmp_path / "r.html").read_text().count("<audio") == 3  # original, small, opus


def test_a_baseline_fails_what_became_worse(
    alm: Alm, record: Record, small: Path, tmp_path: Path
) -> None:
    path, old = record("talk.wav", length=9000), tmp_path / "old.json"
    command = ["bench", "codec", path, "-m", small, "--runs", 1, "--codebooks", 2, "--quiet"]
    command += ["--no-cold"]
    assert alm(*command, "--json", old).exit_code == 0
    value = json.loads(old.read_text())
    value["rows"][-1]["log_mel"]["median"] /= 2
    old.write_text(json.dumps(value))
    same = alm(*command, "--baseline", old, "--fail-on", "kbps>+1%")
    assert same.exit_code == 0
    worse = alm(*command, "--baseline", old, "--fail-on", "log_mel>+5%")
    assert worse.exit_code == 1 and "log_mel was" in worse.stderr


def test_impatience_keeps_what_was_measured_in_the_middle_of_a_codec(
    alm: Alm, record: Record, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(100))

    def impatient(wanted: Audio, made: Audio) -> float:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return log_mel_distance(wanted, made)

    monkeypatch.setattr(codecs, "MEASURES", {"log_mel": impatient})
    paths = [record(f"{number}.wav", length=3000 + number) for number in range(3)]
    words = ("bench", "codec", *paths, "-m", small, "--codebooks", 1, "--json", tmp_path / "r.json")
    result = alm(*words)
    assert result.exit_code == 130 and "1 of 3 recordings" in result.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    (row,) = report["rows"]
    assert row["log_mel"]["count"] == 2
    assert any(remark.startswith("interrupted") for remark in report["remarks"])


def test_nothing_measured_is_no_report(
    alm: Alm, record: Record, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impatient(*_: Audio) -> float:
        raise Interrupted(signal.SIGINT)

    monkeypatch.setattr(codecs, "MEASURES", {"log_mel": impatient})
    result = alm("bench", "codec", record("a.wav"), "-m", small)
    assert result.exit_code == 130 and not result.stdout


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--peers", "opus"), "--peers opus"),
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


def test_a_speaker_in_one_report(alm: Alm, tmp_path: Path) -> None:
    """The bundled one: sound comes before the end; it keeps no keys and values."""
    words = (
        "bench",
        "speak",
        "Two words.",
        "--runs",
        1,
        "--no-cold",
        "--json",
        tmp_path / "s.json",
    )
    result = alm(*words)
    assert result.exit_code == 0 and "1 of 1 lines" in result.stderr
    report = json.loads((tmp_path / "s.json").read_text())
    (row,) = report["rows"]
    assert row["model"] == "alm-tts" and row["audio_s"] > 0.3
    assert 0 < row["first_sound_ms"]["value"] <= 1000 * row["audio_s"] * row["rtf"]["median"] + 1000
    assert row["first_chunk_ms"]["median"] <= row["first_sound_ms"]["value"]
    assert not any(name.startswith("cache") for name in row)
    assert row["underruns"] <= row["chunks"]
    assert len(report["weights"]["alm-tts"]) == len(report["data"]["texts"]) == 64


def test_rows_that_do_not_fit_beside_one_another_go_below() -> None:
    rows = [["name", "12"], ["n", "1.5"], ["n", "3"], ["wider than all room"]]
    assert list(_lines_of(rows, 12)) == [rows[:2], rows[2:3], rows[3:]]


def test_adapters_are_told_without_loading_anything(alm: Alm, tmp_path: Path) -> None:
    words = (
        "bench",
        "adapters",
        "--llm",
        "qwen-7b",
        "--seconds",
        30,
        "--json",
        tmp_path / "a.json",
    )
    assert alm(*words, "--markdown", tmp_path / "a.md").exit_code == 0
    report = json.loads((tmp_path / "a.json").read_text())
    rows = {row["what"]: row for row in report["rows"]}
    assert rows["qwen2-audio"]["tokens"] == 750
    assert rows["text"]["tokens"] == 100
    assert "KiB a position" in (tmp_path / "a.md").read_text()
    wrong = alm("bench", "adapters", "--llm", "unknown")
    assert wrong.exit_code == 2 and "--llm" in wrong.stderr


def test_a_recogniser_in_one_report(alm: Alm, tmp_path: Path) -> None:
    """The bundled one, on speech whose words are known."""
    path = tmp_path / "talk.wav"
    shutil.copy(SPEECH, path)
    path.with_suffix(".txt").write_text("nothing of this was said", encoding="utf-8")
    table = tmp_path / "texts.tsv"
    table.write_text("path\ttranscript\ntalk.wav\tnobody said that\n", encoding="utf-8")
    words = ("bench", "transcribe", path, "--runs", 1, "--no-cold", "--peers", "openai-whisper")
    result = alm(*words, "--json", tmp_path / "t.json")
    assert result.exit_code == 0 and "alm-asr: measured" in result.stderr
    report = json.loads((tmp_path / "t.json").read_text())
    (row,) = report["rows"]
    assert (row["model"], row["program"], row["words"]) == ("alm-asr", "alm", 5)
    assert row["wer"]["value"] == pytest.approx(100 * row["wrong"] / 5)
    assert row["rtf"]["median"] * row["rtfx"]["median"] == pytest.approx(1)
    assert row["p50_s"]["lower"] <= row["p50_s"]["value"] <= row["p99_s"]["value"]
    assert row["first_text_ms"]["median"] <= 1000 * row["p99_s"]["value"]
    assert ".pt" in report["skipped"]["openai-whisper"]
    again = alm(*words, "--texts", table, "--json", tmp_path / "u.json", "--quiet")
    assert again.exit_code == 0
    assert json.loads((tmp_path / "u.json").read_text())["rows"][0]["words"] == 3


def test_a_reply_with_real_stages(alm: Alm, tmp_path: Path) -> None:
    """The bundled recogniser hears in real time; a number stands for the voice."""
    words = ("bench", "latency", "--recording", SPEECH, "--speech-end", 1.2, "--tts", 0.2)
    page = tmp_path / "reply.html"
    result = alm(*words, "--runs", 2, "--json", "-", "--html", page, "--end-to-end", 0.5)
    assert result.exit_code == 0 and "2 of 2 times" in result.stderr
    assert page.read_text(encoding="utf-8").count("<rect") == 9
    facts = json.loads(result.stdout)
    assert facts["heard"] == facts["answer"] != ""
    stages = facts["stages"]
    assert stages["speak"] == pytest.approx(0.2)
    sums = stages["recognise"] + stages["think"] + stages["speak"]
    assert facts["first_sound_streamed_s"] == pytest.approx(sums, abs=1e-5)
    assert facts["runs"] == 2 and facts["environment"]["threads"] > 0
    p90 = facts["percentiles"]["first_sound_streamed_s"]["p90"]
    assert p90["lower"] <= p90["value"] <= p90["upper"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("latency", "--asr", 0.3), "--llm-first is missing"),
        (("latency", "--recording", "talk.wav"), "nobody speaks"),
        (("latency", "--recording", "talk.wav", "--speaker", "no-such-voice"), "no model"),
        (("speak", "so", "--model", "no-such-voice"), "no model"),
        (("speak", "so", "--file", "lines.txt", "--model", "alm-codec"), "exclude each other"),
        (("transcribe", "talk.wav", "--peers", "vosk"), "--peers vosk"),
        (("transcribe", "talk.wav", "--model", "no-such-model"), "no model"),
    ],
)
def test_mistakes_of_the_others_are_told(words: tuple[object, ...], told: str, alm: Alm) -> None:
    result = alm("bench", *words)
    assert result.exit_code in (2, 3)
    assert told in result.stderr


def test_a_table_of_texts_must_have_its_columns(alm: Alm, record: Record, tmp_path: Path) -> None:
    table = tmp_path / "texts.tsv"
    table.write_text("file\ttext\n", encoding="utf-8")
    result = alm("bench", "transcribe", record("talk.wav"), "--texts", table)
    assert result.exit_code == 1 and "lacks columns" in result.stderr


def test_a_plot_needs_its_package_and_is_a_png(alm: Alm, tmp_path: Path) -> None:
    words = ("bench", "adapters", "--plot", tmp_path / "p.png")
    if find_spec("matplotlib") is None:
        result = alm(*words)
        assert result.exit_code == 3 and "alm-cli[bench]" in result.stderr
        return
    assert alm(*words).exit_code == 0
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
