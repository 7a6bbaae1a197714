"""`alm align` with a model for which every letter is a tone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from alm_cli.files.audio import open_writer
from alm_cli.files.transcripts import read_jsonl
from alm_cli.systems import align as system
from alm_cli.systems.align import Aligner
from tests.systems.tones import FRAME_S, RATE, speak, tones

Alm = Callable[..., Result]
SAID = "the cat sat___here it is"
BEGINS = (0, 4, 8, 14, 19, 22)
TEXT = "The cat sat.\nHere it IS!\n"


@pytest.fixture
def run(alm: Alm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Alm:
    """`alm align` in a folder with a recording and its text."""
    monkeypatch.setattr(system, "load_aligner", lambda *_, **__: Aligner(tones()))
    monkeypatch.chdir(tmp_path)
    with open_writer(tmp_path / "a.wav", rate=RATE, channels=1) as writer:
        writer.write(speak(SAID)[None])
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "model").mkdir()

    def align(*arguments: object, input: bytes = b"") -> Result:
        return alm("align", "-m", "./model", *arguments, input=input)

    return align


def test_words_get_their_times(run: Alm) -> None:
    result = run("a.wav", "a.txt")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert [segment["text"] for segment in found["segments"]] == [" The cat sat.", " Here it IS!"]
    words = [word for segment in found["segments"] for word in segment["words"]]
    assert [word["word"] for word in words] == [" The", " cat", " sat.", " Here", " it", " IS!"]
    # A frame of silence, then three frames for each letter and space, and five for each "_".
    places = [len(SAID[:at].replace("_", "")) * 3 + SAID[:at].count("_") * 5 + 1 for at in BEGINS]
    for place, word in zip(places, words, strict=True):
        assert abs(word["start"] - place * FRAME_S) <= 0.08
        assert word["start"] < word["end"]


def test_recording_and_text_come_from_anywhere(run: Alm, tmp_path: Path) -> None:
    expected = run("a.wav", "a.txt").stdout
    piped = run("-", "a.txt", input=(tmp_path / "a.wav").read_bytes())
    assert json.loads(piped.stdout) == json.loads(expected)
    assert run("a.wav", "-", input=TEXT.encode()).stdout == expected
    assert run("a.wav", "--text", TEXT).stdout == expected
    assert run("a.wav", "a.txt", "-o", "b.jsonl").exit_code == 0
    with (tmp_path / "b.jsonl").open("rb") as file:
        assert len(read_jsonl(file).segments) == 2


def test_subtitles_are_laid_out_by_words(run: Alm, tmp_path: Path) -> None:
    result = run("a.wav", "a.txt", "-f", "srt", "--max-words-per-line", 2)
    texts = result.stdout.splitlines()[2::4]
    assert texts == ["The cat", "sat.", "Here it", "IS!"]
    assert run("a.wav", "a.txt", "-o", "a.TextGrid").exit_code == 0
    assert 'text = "cat"' in (tmp_path / "a.TextGrid").read_text(encoding="utf-8")
    assert run("a.wav", "a.txt", "-o", "a.vtt").exit_code == 0
    assert (tmp_path / "a.vtt").read_text(encoding="utf-8").startswith("WEBVTT")
    assert run("a.wav", "a.txt", "-o", "a.vtt").exit_code == 1
    told = run("a.wav", "a.txt", "-o", "a.vtt", "--overwrite", "--json")
    line = json.loads(told.stdout)
    assert (line["command"], line["segments"], line["words"]) == ("align", 2, 6)


def test_what_does_not_go_together_is_told(run: Alm, tmp_path: Path) -> None:
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    for words, told in (
        (("a.wav", "--text", "quite another thing that was never said"), "a.wav"),
        (("a.wav", "--text", "  "), "empty"),
        (("a.wav", "bytes.txt"), "not a text in UTF-8"),
        (("a.wav", "none.txt"), "none.txt: No such file"),
        (("none.wav", "a.txt"), "none.wav"),
        (("a.txt", "a.txt"), "not a recording"),
    ):
        result = run(*words)
        assert (result.exit_code, result.stdout) == (1, ""), words
        assert told in result.stderr


@pytest.mark.parametrize(
    "line",
    [
        "",
        "a.wav",
        "a.wav a.txt --text hello",
        "- -",
        "a.wav a.txt -f all",
        "a.wav a.txt -f doc",
        "a.wav a.txt --rate 16000",
    ],
)
def test_mistakes_of_usage_have_their_own_exit_code(run: Alm, line: str) -> None:
    result = run(*line.split())
    assert (result.exit_code, result.stdout) == (2, "")
