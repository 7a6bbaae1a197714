"""`alm speak` with a voice that beeps: files, streams, batches, times, tokens, licences, errors."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import Result

from alm_cli.catalog import find_card
from alm_cli.commands.facts import card_facts
from alm_cli.files.audio import read_audio
from alm_cli.files.tokens import iter_tokens
from alm_cli.systems.codec import Codec, load_codec
from alm_cli.systems.said_words import with_words
from alm_cli.systems.speaker import Spoken
from alm_cli.systems.speech import Said
from tests.systems.beeper import RATE, Beeper, BeepListener

Alm = Callable[..., Result]
TEXT = "One two. Three, four five; six seven eight nine. Ten!"


@pytest.fixture
def beeper(monkeypatch: pytest.MonkeyPatch) -> Beeper:
    """What is loaded whatever is asked for."""
    speaker = Beeper()
    monkeypatch.setattr("alm_cli.systems.speaker.load_speaker", lambda *_, **__: speaker)
    return speaker


@pytest.fixture
def speak(alm: Alm, beeper: Beeper, tmp_path: Path) -> Alm:  # noqa: ARG001 - it is loaded
    """`alm speak` with the beeper."""
    folder = tmp_path / "model"
    folder.mkdir()
    return lambda *words, **more: alm("speak", "-m", folder, *words, **more)


def samples_of(path: Path) -> Any:
    return read_audio(path).samples[0]


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_text_becomes_a_file(speak: Alm, beeper: Beeper, tmp_path: Path) -> None:
    out = tmp_path / "a.wav"
    result = speak("Hello", "there.", "-o", out, "--seed", 5)
    assert result.exit_code == 0, result.stderr
    assert "seed 5" in result.stderr.splitlines()
    (line,) = beeper.said[0]
    assert line.text == "Hello there."
    assert read_audio(out).rate == RATE
    assert np.abs(samples_of(out) - beeper.say([line])[0].samples).max() < 2**-15
    with soundfile.SoundFile(out) as file:
        assert "seed=5" in file.comment and "model=beeper" in file.comment
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "model"]


def test_settings_of_the_model_reach_it_and_are_noted(
    alm: Alm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def load(*_: object, own: dict[str, str], **__: object) -> Beeper:
        given.append(own)
        return Beeper()

    monkeypatch.setattr("alm_cli.systems.speaker.load_speaker", load)
    (tmp_path / "list.txt").write_text("Hello.\n")
    words = ("speak", "-m", tmp_path, "--batch", tmp_path / "list.txt", "-o", tmp_path / "out")
    assert alm(*words, "--set", "rules=transformers", "--set", "a = b").exit_code == 0
    assert given == [{"rules": "transformers", "a": "b"}]
    (line,) = lines_of(tmp_path / "out" / "manifest.jsonl")
    assert line["set"] == "a=b,rules=transformers"
    # What another setting has made is not the same.
    again = alm(*words, "--skip-existing", "--set", "rules=suno", "--json")
    assert [json.loads(line)["status"] for line in again.stdout.splitlines()][:1] == ["done"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["rules"], "--set rules: not NAME=VALUE"),
        (["=x"], "not NAME=VALUE"),
        (["a=b", "a=c"], "--set a: both b and c"),
    ],
)
def test_settings_that_say_nothing_are_refused(speak: Alm, given: list[str], said: str) -> None:
    refused = speak("Hello", "-o", "a.wav", *(word for one in given for word in ("--set", one)))
    assert refused.exit_code == 2 and said in refused.stderr


def test_a_model_without_settings_of_its_own_says_so(alm: Alm, tmp_path: Path) -> None:
    refused = alm("speak", "Hello", "-o", tmp_path / "a.wav", "--set", "rules=suno")
    assert refused.exit_code == 2
    assert "alm-tts has no setting rules=suno" in refused.stderr and "none" in refused.stderr


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
def test_the_same_seed_gives_the_same_bytes(speak: Alm, tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        assert speak(TEXT, "-o", tmp_path / f"{name}.{suffix}", "--seed", 7).exit_code == 0
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_without_a_seed_there_is_another_one_each_time(speak: Alm, tmp_path: Path) -> None:
    told = {speak("Hi", "-o", tmp_path / f"{n}.wav").stderr.splitlines()[0] for n in range(3)}
    assert len(told) == 3 and all(line.startswith("seed ") for line in told)


@pytest.mark.parametrize("source", ["words", "stdin", "dash", "file", "file-dash"])
def test_texts_come_from_where_they_are(
    speak: Alm, beeper: Beeper, tmp_path: Path, source: str
) -> None:
    (tmp_path / "t.txt").write_text("\ufeffHello you.\n", encoding="utf-8")
    words: dict[str, tuple[object, ...]] = {
        "words": ("Hello", "you."), "stdin": (), "dash": ("-",),
        "file": ("-f", tmp_path / "t.txt"), "file-dash": ("-f", "-"),
    }  # fmt: skip
    result = speak(*words[source], "-o", tmp_path / "a.wav", input=b"Hello you.\n")
    assert result.exit_code == 0, result.stderr
    assert [line.text for line in beeper.said[0]] == ["Hello you."]


def test_a_stream_is_the_file(speak: Alm, tmp_path: Path) -> None:
    assert speak(TEXT, "-o", tmp_path / "a.wav", "--seed", 1).exit_code == 0
    assert speak(TEXT, "-o", tmp_path / "b.wav", "--seed", 1, "--stream").exit_code == 0
    piped = speak(TEXT, "--seed", 1).stdout_bytes
    raw = speak(TEXT, "--seed", 1, "-o", "-", "--format", "s16le").stdout_bytes
    whole = (tmp_path / "a.wav").read_bytes()
    assert (tmp_path / "b.wav").read_bytes() == whole
    assert whole.endswith(raw) and len(raw) > 2 * RATE
    assert piped.endswith(raw) and len(piped) == len(whole)


@pytest.mark.parametrize("program", ["sox", "ffmpeg"])
@pytest.mark.parametrize("format", ["wav", "s16le", "flac"])
def test_other_programs_read_the_stream(
    speak: Alm, tmp_path: Path, program: str, format: str
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    data = speak(TEXT, "--seed", 1, "--format", format).stdout_bytes
    raw = ["-t", "s16", "-r", str(RATE), "-c", "1"] if format == "s16le" else ["-t", format]
    words = ["sox", *raw, "-", str(tmp_path / "out.wav")]
    if program == "ffmpeg":
        raw = ["-f", "s16le", "-ar", str(RATE), "-ac", "1"] if format == "s16le" else []
        words = ["ffmpeg", "-v", "error", *raw, "-i", "-", str(tmp_path / "out.wav")]
    done = subprocess.run(words, input=data, capture_output=True, timeout=60)
    assert (done.returncode, b"rror" in done.stderr) == (0, False), done.stderr
    assert speak(TEXT, "-o", tmp_path / "a.wav", "--seed", 1).exit_code == 0
    assert (samples_of(tmp_path / "out.wav") == samples_of(tmp_path / "a.wav")).all()


@pytest.mark.parametrize(
    ("words", "told"),
    [(("",), "empty"), (("  \n",), "empty"), (("...",), "no words")]
    + [(("\u041f\u0440\u0438",), "CYRILLIC CAPITAL LETTER PE"), (("[[ab]]",), "no phonemes")]
    + [(("<speak><prosody>a</prosody></speak>", "--strict"), "line 1: <prosody>")]
    + [(("<speak>a",), "not well-formed"), (("a [[b",), "bracket")]
    + [(("a", "-f", "x"), "exclude each other"), (("a", "--format", "aiff"), "--format aiff")]
    + [(("a", "--timestamps", "doc"), "--timestamps doc"), (("a", "--speed", "99"), "--speed 99")]
    + [(("a", "--duration", "0"), "--duration 0"), (("a", "--top-p", "0"), "--top-p 0")]
    + [
        (("a", "--skip-existing"), "is for --batch"),
        (("--from-tokens", "x", "--verify"), "no text"),
    ]
    + [(("a", "--voice", "nobody"), "no such voice"), (("--batch", "x.txt"), "a file")],
)
def test_mistakes_are_told_and_nothing_is_written(
    speak: Alm, tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    out = tmp_path / "a.wav"
    (tmp_path / "taken.wav").touch()
    place = tmp_path / "taken.wav" if "--batch" in words else out
    result = speak(*words, "-o", place)
    assert result.exit_code == (1 if "nobody" in words else 2), result.stderr
    assert told in result.stderr
    assert not out.exists()


def test_files_are_replaced_only_if_asked(speak: Alm, tmp_path: Path) -> None:
    out = tmp_path / "a.wav"
    out.write_text("mine")
    result = speak("Hello", "-o", out)
    assert (result.exit_code, out.read_text()) == (1, "mine")
    assert "--overwrite" in result.stderr and "--skip-existing" not in result.stderr
    assert speak("Hello", "-o", out, "--overwrite").exit_code == 0
    assert out.stat().st_size > 1000
    assert speak("Hello", "-o", tmp_path).exit_code == 2
    assert speak("Hello", "-o", tmp_path / "a.xyz").exit_code == 1


def test_markup_pauses_and_speed_reach_the_sound(speak: Alm, tmp_path: Path) -> None:
    marked = "<speak>One.<break time='900ms'/><b>two</b></speak>"
    result = speak(marked, "-o", tmp_path / "a.wav", "--seed", 1)
    assert "warning" in result.stderr and "<b> is not understood" in result.stderr
    quiet = np.diff(np.flatnonzero(np.abs(samples_of(tmp_path / "a.wav")) > 0.01)).max()
    assert quiet / RATE == pytest.approx(0.9, abs=0.02)
    for name, words in (("b", ("--pause", "1")), ("c", ("--speed", "2"))):
        assert speak("One. Two.", "-o", tmp_path / f"{name}.wav", *words).exit_code == 0
    slow, fast = (samples_of(tmp_path / f"{name}.wav") for name in "bc")
    gap = np.diff(np.flatnonzero(np.abs(slow) > 0.01)).max() / RATE
    assert gap == pytest.approx(1.0, abs=0.02)
    gap = np.diff(np.flatnonzero(np.abs(fast) > 0.01)).max() / RATE
    assert gap == pytest.approx(0.2, abs=0.02)
    assert speak("One. Two.", "-o", tmp_path / "d.wav", "--duration", "2.5").exit_code == 0
    assert len(samples_of(tmp_path / "d.wav")) == 2.5 * RATE


def test_text_is_read_aloud_unless_it_is_to_be_as_written(
    speak: Alm, beeper: Beeper, tmp_path: Path
) -> None:
    assert speak("It is 5.", "-o", tmp_path / "a.wav").exit_code == 0
    assert beeper.said[-1][0].text == "It is five."
    result = speak("It is 5.", "-o", tmp_path / "b.wav", "--as-written")
    assert result.exit_code == 2 and "cannot say '5'" in result.stderr


def test_times_are_written_beside_the_sound(speak: Alm, tmp_path: Path) -> None:
    words = ("-o", tmp_path / "a.wav", "--timestamps", "srt,json,vtt", "--json")
    told = json.loads(speak("One two. Three.", *words).stdout)
    srt = (tmp_path / "a.srt").read_text()
    assert "One two." in srt and "00:00:00,050 --> " in srt
    assert (tmp_path / "a.vtt").read_text().startswith("WEBVTT")
    segments = json.loads((tmp_path / "a.json").read_text())["segments"]
    heard = [word["word"] for segment in segments for word in segment["words"]]
    assert heard == [" one", " two", " three"]
    assert len(told["outputs"]) == 3
    assert told["seconds"] >= segments[-1]["end"]
    assert speak("One", "--timestamps", "srt").exit_code == 2


def test_json_tells_what_was_made(speak: Alm, tmp_path: Path) -> None:
    words = ("-o", tmp_path / "a.wav", "--json", "--seed", 3, "--voice", "high")
    told = json.loads(speak(TEXT, *words).stdout)
    assert told["status"] == "done" and told["pieces"] == 3
    assert (told["seed"], told["voice"], told["model"]) == (3, "high", "beeper")
    assert told["seconds"] == pytest.approx(len(samples_of(tmp_path / "a.wav")) / RATE)
    assert told["rtf"] > 0
    assert speak(TEXT, "--json").exit_code == 2


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    """Five records, two of which cannot be said."""
    path = tmp_path / "list.jsonl"
    records: list[object] = [
        {"id": "long", "text": "This one is the longest. It has two sentences."},
        {"id": "bad", "text": "\u4f60\u597d"},
        {"id": "a/b", "text": "Short.", "voice": "high", "speed": 2},
        {"text": "No name."},
    ]
    lines = [json.dumps(record) for record in records]
    path.write_text("\n".join([*lines[:3], "{broken", lines[3]]) + "\n", encoding="utf-8")
    return path


def test_a_batch_fails_where_it_must_and_goes_on(speak: Alm, listing: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = speak("--batch", listing, "-o", out, "--seed", 1, "--json")
    assert result.exit_code == 1
    names = sorted(path.name for path in out.iterdir() if path.name[0] != ".")
    assert names == ["0005.wav", "a_b.wav", "long.wav", "manifest.jsonl"]
    manifest = lines_of(out / "manifest.jsonl")
    assert [line["id"] for line in manifest] == ["long", "bad", "a/b", "0004", "0005"]
    assert [line["error"] is None for line in manifest] == [True, False, True, False, True]
    assert "CJK" in manifest[1]["error"] and "line 4: not JSON" in manifest[3]["error"]
    good = manifest[0]
    assert good["duration"] == pytest.approx(len(samples_of(out / good["file"])) / RATE)
    assert (good["seed"], good["text"][:8]) == (1, "This one") and good["rtf"] > 0
    assert manifest[2]["voice"] == "high"
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert sorted(line["id"] for line in told) == ["0004", "0005", "a/b", "bad", "long"]


@pytest.mark.parametrize("size", [1, 3])
def test_a_text_sounds_in_a_batch_as_it_does_alone(
    speak: Alm, listing: Path, tmp_path: Path, size: int
) -> None:
    speak("--batch", listing, "-o", tmp_path / "out", "--seed", 9, "--batch-size", size)
    words = ("-o", tmp_path / "one.wav", "--seed", 9)
    assert speak("This one is the longest. It has two sentences.", *words).exit_code == 0
    assert (tmp_path / "out" / "long.wav").read_bytes() == (tmp_path / "one.wav").read_bytes()


def test_lines_of_a_batch_go_through_the_model_together(
    speak: Alm, beeper: Beeper, tmp_path: Path
) -> None:
    (tmp_path / "l.txt").write_text("A dog.\nThis is long, longer than all.\nB cat.\n\nAn end.\n")
    assert (
        speak("--batch", tmp_path / "l.txt", "-o", tmp_path / "o", "--batch-size", 3).exit_code == 0
    )
    texts = [sorted(line.text for line in batch) for batch in beeper.said]
    assert texts == [["A dog.", "An end.", "B cat."], ["This is long, longer than all."]]
    assert [line["id"] for line in lines_of(tmp_path / "o" / "manifest.jsonl")] == [
        "0001", "0002", "0003", "0005",
    ]  # fmt: skip


def test_a_batch_resumes_with_its_seed(
    speak: Alm, beeper: Beeper, listing: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("--batch", listing, "-o", out)
    first = speak(*words)
    seed = first.stderr.splitlines()[0]
    before = {path.name: path.read_bytes() for path in out.glob("*.wav")}
    manifest = (out / "manifest.jsonl").read_text()
    (out / "long.wav").unlink()
    beeper.said.clear()
    again = speak(*words, "--skip-existing")
    assert again.stderr.splitlines()[0] == seed
    assert {line.text for batch in beeper.said for line in batch} == {
        "This one is the longest.", "It has two sentences.",
    }  # fmt: skip
    assert {path.name: path.read_bytes() for path in out.glob("*.wav")} == before
    kept = [line | {"rtf": 0} for line in lines_of(out / "manifest.jsonl")]
    assert kept == [line | {"rtf": 0} for line in map(json.loads, manifest.splitlines())]
    beeper.said.clear()
    other = speak(*words, "--skip-existing", "--seed", 5, "--voice", "high")
    assert other.exit_code == 1 and len(beeper.said) > 0
    kept_lines = (out / "manifest.jsonl").read_text()
    refused = speak(*words)
    assert refused.exit_code == 1 and "manifest.jsonl: exists already" in refused.stderr
    assert (out / "manifest.jsonl").read_text() == kept_lines


def test_tables_are_lists_too(speak: Alm, beeper: Beeper, tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text('id,text,seed\nx,"Hello, you.",3\nx,Again.,\ny,Bye.\n')
    result = speak("--batch", tmp_path / "l.csv", "-o", tmp_path / "o", "--seed", 1)
    assert result.exit_code == 1
    manifest = lines_of(tmp_path / "o" / "manifest.jsonl")
    assert [line["id"] for line in manifest] == ["x", "x~2", "0004"]
    assert manifest[0]["seed"] == 3 and "that of another text" in manifest[1]["error"]
    assert "2 columns, not 3" in manifest[2]["error"]
    assert [line.text for batch in beeper.said for line in batch] == ["Hello, you."]
    for text in ("name,words\na,b\n", ""):
        (tmp_path / "bad.csv").write_text(text)
        assert speak("--batch", tmp_path / "bad.csv", "-o", tmp_path / "p").exit_code == 1
    assert speak("--batch", tmp_path / "no.jsonl", "-o", tmp_path / "p").exit_code == 1
    assert speak("--batch", tmp_path / "l.doc", "-o", tmp_path / "p").exit_code == 1


@pytest.fixture
def codec(small: Path, monkeypatch: pytest.MonkeyPatch) -> Codec:
    """A small codec, which is loaded by the name of a catalogued one."""
    made = load_codec(small, device="cpu")
    made.name = "alm-codec"
    monkeypatch.setattr("alm_cli.systems.continuing.load_codec", lambda *_, **__: made)
    return made


def test_tokens_are_kept_and_heard_again(
    speak: Alm, beeper: Beeper, codec: Codec, tmp_path: Path
) -> None:
    beeper._codec = codec
    words = ("-o", tmp_path / "a.wav", "--save-tokens", tmp_path / "a.alm", "--seed", 4)
    result = speak("One two. Three.", *words)
    assert result.exit_code == 0, result.stderr
    with (tmp_path / "a.alm").open("rb") as file:
        kept = list(iter_tokens(file))
    assert [tokens.origin.notes["text"] for tokens in kept] == ["One two.", "Three."]
    result = speak("--from-tokens", tmp_path / "a.alm", "-o", tmp_path / "b.wav")
    assert result.exit_code == 0, result.stderr
    assert (samples_of(tmp_path / "b.wav") == samples_of(tmp_path / "a.wav")).all()
    assert "seed" not in result.stderr
    (tmp_path / "c.alm").write_bytes(b"garbage")
    for name in ("c.alm", "none.alm"):
        result = speak("--from-tokens", tmp_path / name, "-o", tmp_path / "d.wav")
        assert result.exit_code == 1 and name in result.stderr


def test_a_model_without_tokens_keeps_none(speak: Alm, tmp_path: Path) -> None:
    result = speak("One", "-o", tmp_path / "a.wav", "--save-tokens", tmp_path / "a.alm")
    assert result.exit_code == 1 and "without tokens" in result.stderr


def test_clips_are_gone_on_from(speak: Alm, beeper: Beeper, codec: Codec, tmp_path: Path) -> None:
    assert speak("One", "-o", tmp_path / "clip.wav", "--seed", 1).exit_code == 0
    refused = speak("Two", "-o", tmp_path / "b.wav", "--continue", tmp_path / "clip.wav")
    assert refused.exit_code == 1 and "cannot go on" in refused.stderr
    beeper.codec = codec.name  # type: ignore[attr-defined]
    result = speak("Two", "-o", tmp_path / "b.wav", "--continue", tmp_path / "clip.wav")
    assert result.exit_code == 0, result.stderr
    before = beeper.said[-1][0].before
    assert before is not None and before.tokens is not None
    assert (before.samples == samples_of(tmp_path / "clip.wav")).all()


def test_what_is_verified_is_told(
    speak: Alm, beeper: Beeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "alm_cli.systems.transcriber.load_transcriber", lambda *_, **__: BeepListener()
    )
    beeper.mumbles.add(6)
    words = ("--seed", 6, "--verify", "--json")
    told = json.loads(speak("Hello there.", "-o", tmp_path / "a.wav", *words).stdout)
    assert told["verified"] == {
        "model": "alm-asr", "pieces": 1, "respoken": 1, "understood": 1, "word_error": 0.0,
    }  # fmt: skip
    assert told["warnings"] == []


@pytest.mark.usefixtures("beeper")
def test_a_restricted_model_is_spoken_once_it_is_accepted(
    alm: Alm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = replace(find_card("alm-codec"), restricted=True, licence="CC-BY-NC-4.0", task="speaker")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("ALM_ACCEPT_LICENSE", raising=False)
    monkeypatch.setattr("alm_cli.catalog.CATALOG", (card,))
    assert "to be accepted" in card_facts(card)["restricted"]
    assert card_facts(card)["kind"] == "speaker"
    refused = alm("models", "pull", "alm-codec")
    assert refused.exit_code == 3 and "--accept-license" in refused.stderr
    words = ("-m", "alm-codec", "-o", tmp_path / "a.wav", "--accept-license")
    assert alm("speak", "Hello", *words).exit_code == 0
    assert "accepted" in card_facts(card)["restricted"]
    assert alm("models", "pull", "alm-codec").exit_code == 0


def test_voices_are_listed(alm: Alm, beeper: Beeper, tmp_path: Path) -> None:
    result = alm("voices", "-m", tmp_path)
    assert (result.exit_code, result.stdout) == (0, "low\nhigh\n")
    told = json.loads(alm("voices", "-m", tmp_path, "--json").stdout)
    assert told["voices"] == list(beeper.voices)
    assert alm("voices", "-m", "no-such-model").exit_code == 3


def test_words_are_found_where_the_model_tells_none() -> None:
    from alm_cli.systems.align import load_aligner

    # By recipes/samples.py.
    text = "Sound is a wave that travels through the air. A model that hears can answer it."
    audio = read_audio(Path(__file__).parents[2] / "sample_audio" / "speech.wav")
    spoken = Spoken(samples=audio.samples[0])
    piece = Said(text=text, start_s=1.0, end_s=9.0, pause_s=0.0, seed=0, spoken=spoken)
    aligner = load_aligner(device="cpu")
    (found,) = with_words([piece], audio.rate, aligner)
    assert [word.text.strip() for word in found.words] == text.split()
    assert 1 < found.start_s < found.end_s <= 1 + audio.seconds
    beep = replace(piece, spoken=Spoken(samples=np.zeros(800, np.float32)))
    assert with_words([beep, found], audio.rate, aligner) == (beep, found)
