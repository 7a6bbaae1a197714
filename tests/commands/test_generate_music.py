"""`alm generate-music` with a composer that hums: files, streams, batches, tokens, scores."""

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
from alm_cli.commands.music_options import composers
from alm_cli.files.audio import read_audio
from alm_cli.files.tokens import iter_tokens, write_tokens
from alm_cli.music.midi import read_midi, write_midi
from alm_cli.music.score import Note, Score, Tags
from alm_cli.systems.codec import Codec, load_codec
from alm_cli.values import Audio, Tokens
from tests.lm.musicgens import musicgens
from tests.systems.hummer import BAR_S, RATE, Hummer

Alm = Callable[..., Result]


@pytest.fixture
def hummer(monkeypatch: pytest.MonkeyPatch) -> Hummer:
    """What is loaded whatever is asked for."""
    composer = Hummer()
    monkeypatch.setattr("alm_cli.systems.composer.load_composer", lambda *_, **__: composer)
    return composer


@pytest.fixture
def music(alm: Alm, hummer: Hummer, tmp_path: Path) -> Alm:  # noqa: ARG001 - it is loaded
    """`alm generate-music` with the hummer, half a second if nothing else is said."""
    folder = tmp_path / "model"
    folder.mkdir()

    def run(*words: object, **more: Any) -> Result:
        length = () if "--duration" in words else ("--duration", "0.5")
        return alm("generate-music", "-m", folder, *words, *length, **more)

    return run


def samples_of(path: Path) -> Any:
    return read_audio(path).samples


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_prompt_becomes_a_file(music: Alm, hummer: Hummer, tmp_path: Path) -> None:
    out = tmp_path / "a.wav"
    result = music("calm", "piano", "-o", out, "--seed", 5, "--guidance", 2, "--top-k", 50)
    assert result.exit_code == 0, result.stderr
    assert "seed 5" in result.stderr.splitlines()
    ((piece,),) = hummer.made
    assert (piece.prompt, piece.seed, piece.seconds) == ("calm piano", 5, 0.5)
    assert (piece.guidance, piece.top_k, piece.temperature, piece.loop) == (2.0, 50, None, False)
    assert np.abs(samples_of(out) - hummer.compose([piece])[0].samples).max() < 2**-15
    with soundfile.SoundFile(out) as file:
        assert "alm generate-music model=hummer" in file.comment
        assert "seed=5" in file.comment and "prompt=calm piano" in file.comment
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "model"]


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
def test_the_same_seed_gives_the_same_bytes(music: Alm, tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b", "c"):
        seed = 7 + (name == "c")
        assert music("calm", "-o", tmp_path / f"{name}.{suffix}", "--seed", seed).exit_code == 0
    first, again, other = ((tmp_path / f"{n}.{suffix}").read_bytes() for n in "abc")
    assert first == again != other


def test_without_a_seed_there_is_another_one_each_time(music: Alm, tmp_path: Path) -> None:
    told = {music("calm", "-o", tmp_path / f"{n}.wav").stderr.splitlines()[0] for n in range(3)}
    assert len(told) == 3 and all(line.startswith("seed ") for line in told)


@pytest.mark.parametrize("source", ["words", "stdin", "dash", "file", "file-dash"])
def test_prompts_come_from_where_they_are(
    music: Alm, hummer: Hummer, tmp_path: Path, source: str
) -> None:
    (tmp_path / "p.txt").write_text("\ufeffcalm\n piano\n", encoding="utf-8")
    words: dict[str, tuple[object, ...]] = {
        "words": ("calm", "piano"), "stdin": (), "dash": ("-",),
        "file": ("-f", tmp_path / "p.txt"), "file-dash": ("-f", "-"),
    }  # fmt: skip
    result = music(*words[source], "-o", tmp_path / "a.wav", input=b"calm\n piano\n")
    assert result.exit_code == 0, result.stderr
    assert [piece.prompt for piece in hummer.made[0]] == ["calm piano"]


@pytest.mark.parametrize("channels", [1, 2])
def test_a_stream_is_the_file(music: Alm, hummer: Hummer, tmp_path: Path, channels: int) -> None:
    hummer.channels = channels
    assert music("calm", "-o", tmp_path / "a.wav", "--seed", 1).exit_code == 0
    assert music("calm", "-o", tmp_path / "b.wav", "--seed", 1, "--stream").exit_code == 0
    piped = music("calm", "--seed", 1).stdout_bytes
    raw = music("calm", "--seed", 1, "-o", "-", "--format", "s16le").stdout_bytes
    whole = (tmp_path / "a.wav").read_bytes()
    assert (tmp_path / "b.wav").read_bytes() == whole
    assert whole.endswith(raw) and len(raw) == RATE * channels
    assert piped.endswith(raw) and len(piped) == len(whole)
    assert samples_of(tmp_path / "a.wav").shape == (channels, RATE // 2)


@pytest.mark.parametrize("program", ["sox", "ffmpeg"])
def test_other_programs_read_the_stream(music: Alm, tmp_path: Path, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    data = music("calm", "--seed", 1).stdout_bytes
    words = ["sox", "-t", "wav", "-", str(tmp_path / "out.wav")]
    if program == "ffmpeg":
        words = ["ffmpeg", "-v", "error", "-i", "-", str(tmp_path / "out.wav")]
    done = subprocess.run(words, input=data, capture_output=True, timeout=60)
    assert (done.returncode, b"rror" in done.stderr) == (0, False), done.stderr
    assert music("calm", "-o", tmp_path / "a.wav", "--seed", 1).exit_code == 0
    assert (samples_of(tmp_path / "out.wav") == samples_of(tmp_path / "a.wav")).all()


@pytest.mark.parametrize("seconds", [0.01, 0.5, 1.23457, 3])
def test_the_duration_is_exact_to_the_sample(music: Alm, tmp_path: Path, seconds: float) -> None:
    assert music("calm", "-o", tmp_path / "a.wav", "--duration", seconds).exit_code == 0
    assert samples_of(tmp_path / "a.wav").shape == (1, round(seconds * RATE))


def test_a_loop_has_whole_bars(music: Alm, hummer: Hummer, tmp_path: Path) -> None:
    assert music("calm", "--loop", "-o", tmp_path / "a.wav", "--duration", "0.7").exit_code == 0
    assert hummer.made[0][0].loop
    assert samples_of(tmp_path / "a.wav").shape[1] == round(3 * BAR_S * RATE)


@pytest.mark.parametrize(
    ("words", "told"),
    [(("",), "empty"), (("  \n",), "empty"), (("calm\x07",), "U+0007"), (("a" * 5000,), "4096")]
    + [(("bagpipes",), "no bagpipes"), (("calm", "-f", "x"), "exclude each other")]
    + [(("calm", "--duration", value), "--duration") for value in ("0", "-1", "nan", "1e9", "inf")]
    + [(("calm", "--format", "aiff"), "--format aiff"), (("calm", "--top-p", "0"), "--top-p 0")]
    + [(("calm", "--guidance", "inf"), "--guidance inf")]
    + [(("calm", "--guidance", "-1"), "guidance")]
    + [(("calm", "--skip-existing"), "is for --batch"), (("calm", "--seed", "-1"), "seed")]
    + [(("calm", "--variations", "0"), "variations"), (("--from-tokens", "x", "--loop"), "nothing")]
    + [(("calm", "--stream", "--variations", "2"), "--stream is for one piece")]
    + [(("--from-tokens", "x", "--variations", "2"), "no variations")]
    + [(("--batch", "x.txt"), "a file"), (("calm", "--batch", "x.txt"), "a file")],
)
def test_mistakes_are_told_and_nothing_is_written(
    music: Alm, tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    out = tmp_path / "a.wav"
    (tmp_path / "taken.wav").touch()
    place = tmp_path / "taken.wav" if "--batch" in words else out
    result = music(*words, "-o", place)
    assert result.exit_code == 2, result.stderr
    assert told in result.stderr
    assert not out.exists()


def test_any_text_is_a_prompt(music: Alm, hummer: Hummer, tmp_path: Path) -> None:
    words = "caf\u00e9\u00a0calm \u2028\U0001f469\u200d\U0001f3a4 \u97f3\u697d"
    assert music(words, "-o", tmp_path / "a.flac", "--seed", 1).exit_code == 0
    assert hummer.made[0][0].prompt == " ".join(words.split())
    with soundfile.SoundFile(tmp_path / "a.flac") as file:
        assert file.comment.endswith("prompt=" + " ".join(words.split()))


def test_binary_is_no_prompt(music: Alm, tmp_path: Path) -> None:
    (tmp_path / "p.bin").write_bytes(bytes(range(256)))
    (tmp_path / "q.bin").write_bytes(b"calm\0piano")
    for words, code, told in (
        (("-f", tmp_path / "p.bin"), 1, "not UTF-8"), (("-f", tmp_path / "q.bin"), 2, "U+0000"),
        (("-f", tmp_path / "none"), 1, "No such file"), (("calm \udcff",), 2, "U+DCFF"),
    ):  # fmt: skip
        result = music(*words, "-o", tmp_path / "a.wav")
        assert (result.exit_code, told in result.stderr) == (code, True), result.stderr
    result = music("-", "-o", tmp_path / "a.wav", input=b"\xff\xfe")
    assert result.exit_code == 1 and "byte 0" in result.stderr
    assert not (tmp_path / "a.wav").exists()


def test_standard_output_is_for_one_thing(music: Alm) -> None:
    assert music("calm", "--json").exit_code == 2
    result = music("calm", "--variations", "2")
    assert result.exit_code == 2 and "many files" in result.stderr


def test_files_are_replaced_only_if_asked(music: Alm, tmp_path: Path) -> None:
    out = tmp_path / "a.wav"
    out.write_text("mine")
    result = music("calm", "-o", out)
    assert (result.exit_code, out.read_text()) == (1, "mine")
    assert "--overwrite" in result.stderr and "--skip-existing" not in result.stderr
    assert music("calm", "-o", out, "--overwrite").exit_code == 0
    result = music("calm", "--continue", out, "-o", out, "--overwrite")
    assert result.exit_code == 1 and "inputs are never overwritten" in result.stderr
    assert music("calm", "-o", tmp_path).exit_code == 2
    assert music("calm", "-o", tmp_path / "a.xyz").exit_code == 1


def test_what_the_model_made_of_the_words_is_told(music: Alm, tmp_path: Path) -> None:
    result = music("calm zither piano", "-o", tmp_path / "a.wav", "--json", "--seed", 3)
    told = json.loads(result.stdout)
    assert told["status"] == "done" and told["command"] == "generate-music"
    assert (told["seed"], told["model"], told["prompt"]) == (3, "hummer", "calm zither piano")
    assert (told["rate"], told["channels"], told["seconds"]) == (RATE, 1, 0.5)
    assert told["understood"] == {"words": "calm piano"} and told["rtf"] > 0
    assert told["warnings"] == ["'zither' has no effect"]
    assert "warning: calm zither piano: 'zither' has no effect" in result.stderr
    loud = music("calm", "-o", tmp_path / "b.wav", "--verbose")
    assert "understood: words calm" in loud.stderr


def test_variations_are_numbered_and_their_seeds_follow(music: Alm, tmp_path: Path) -> None:
    words = ("--seed", 2**32 - 2, "--json", "--save-score", tmp_path / "s.mid")
    result = music("calm", "-o", tmp_path / "a.wav", "--variations", 3, *words)
    assert result.exit_code == 0, result.stderr
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["seed"] for line in told] == [2**32 - 2, 2**32 - 1, 0]
    names = [f"a-{n}.wav" for n in (1, 2, 3)] + [f"s-{n}.mid" for n in (1, 2, 3)]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == names
    assert music("calm", "-o", tmp_path / "one.wav", "--seed", 2**32 - 1).exit_code == 0
    assert (tmp_path / "a-2.wav").read_bytes() == (tmp_path / "one.wav").read_bytes()
    again = music("calm", "-o", tmp_path / "a.wav", "--variations", 4, "--seed", 1)
    assert again.exit_code == 1 and (tmp_path / "a-4.wav").exists()
    assert "a-1.wav: exists already" in again.stderr


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    """Six records, three of which cannot be played."""
    path = tmp_path / "list.jsonl"
    records: list[object] = [
        {"id": "long", "prompt": "calm song", "duration": 0.9},
        {"id": "bad", "prompt": "bagpipes"},
        {"id": "a/b", "prompt": "fast", "seed": 8, "guidance": 3, "loop": True},
        {"text": "calm"},
        {"id": "endless", "prompt": "calm", "duration": 1e9},
    ]
    lines = [json.dumps(record) for record in records]
    path.write_text("\n".join([*lines[:3], "{broken", *lines[3:]]) + "\n", encoding="utf-8")
    return path


def test_a_batch_fails_where_it_must_and_goes_on(music: Alm, listing: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = music("--batch", listing, "-o", out, "--seed", 1, "--json")
    assert result.exit_code == 1
    names = sorted(path.name for path in out.iterdir() if path.name[0] != ".")
    assert names == ["0005.wav", "a_b.wav", "long.wav", "manifest.jsonl"]
    manifest = lines_of(out / "manifest.jsonl")
    assert [line["id"] for line in manifest] == ["long", "bad", "a/b", "0004", "0005", "endless"]
    good = [line["error"] is None for line in manifest]
    assert good == [True, False, True, False, True, False]
    assert "bagpipes" in manifest[1]["error"] and "not JSON" in manifest[3]["error"]
    assert "--duration 1e+09" in manifest[5]["error"]
    first, third = manifest[0], manifest[2]
    assert (first["prompt"], first["duration"], first["seed"]) == ("calm song", 0.9, 1)
    assert first["rtf"] > 0 and first["understood"] == {"words": "calm song"}
    assert (third["seed"], third["batch_seed"]) == (8, 1)
    assert len(samples_of(out / "long.wav")[0]) == 0.9 * RATE
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert sorted(line["id"] for line in told) == sorted(line["id"] for line in manifest)


@pytest.mark.parametrize("size", [1, 3])
def test_a_piece_sounds_in_a_batch_as_it_does_alone(
    music: Alm, listing: Path, tmp_path: Path, size: int
) -> None:
    music("--batch", listing, "-o", tmp_path / "out", "--seed", 9, "--batch-size", size)
    words = ("-o", tmp_path / "one.wav", "--seed", 9, "--duration", 0.9)
    assert music("calm song", *words).exit_code == 0
    assert (tmp_path / "out" / "long.wav").read_bytes() == (tmp_path / "one.wav").read_bytes()


def test_one_that_breaks_the_model_leaves_the_others(
    music: Alm, hummer: Hummer, tmp_path: Path
) -> None:
    (tmp_path / "l.txt").write_text("calm\nbomb\nfast\n")
    result = music("--batch", tmp_path / "l.txt", "-o", tmp_path / "o", "--variations", 2)
    assert result.exit_code == 1
    names = sorted(path.name for path in (tmp_path / "o").glob("*.wav"))
    assert names == ["0001-1.wav", "0001-2.wav", "0003-1.wav", "0003-2.wav"]
    manifest = lines_of(tmp_path / "o" / "manifest.jsonl")
    assert [line["error"] and line["error"][:20] for line in manifest] == [
        None, None, "unexpected RuntimeEr", "unexpected RuntimeEr", None, None,
    ]  # fmt: skip
    assert {line["seed"] - manifest[0]["seed"] for line in manifest if "seed" in line} == {0, 1}
    assert len(hummer.made[0]) == 4


def test_a_batch_resumes_with_its_seed(
    music: Alm, hummer: Hummer, listing: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("--batch", listing, "-o", out)
    first = music(*words)
    seed = first.stderr.splitlines()[0]
    before = {path.name: path.read_bytes() for path in out.glob("*.wav")}
    manifest = (out / "manifest.jsonl").read_text()
    (out / "long.wav").unlink()
    hummer.made.clear()
    again = music(*words, "--skip-existing")
    assert again.stderr.splitlines()[0] == seed
    assert [piece.prompt for batch in hummer.made for piece in batch] == ["calm song"]
    assert {path.name: path.read_bytes() for path in out.glob("*.wav")} == before
    kept = [line | {"rtf": 0} for line in lines_of(out / "manifest.jsonl")]
    assert kept == [line | {"rtf": 0} for line in map(json.loads, manifest.splitlines())]
    other = music(*words, "--skip-existing", "--guidance", 5)
    assert other.exit_code == 1 and len(hummer.made) > 1
    refused = music(*words)
    assert refused.exit_code == 1 and "manifest.jsonl: exists already" in refused.stderr


def test_scores_are_written_and_followed(music: Alm, hummer: Hummer, tmp_path: Path) -> None:
    words = ("-o", tmp_path / "a.wav", "--save-score", tmp_path / "a.mid", "--json")
    told = json.loads(music("calm", *words).stdout)
    assert told["outputs"] == [str(tmp_path / "a.mid")]
    score = read_midi((tmp_path / "a.mid").read_bytes())
    assert [(note.pitch, note.instrument) for note in score.notes] == [(64, "piano")]
    words = ("-o", tmp_path / "b.wav", "--melody", tmp_path / "a.mid")
    assert music("calm", *words).exit_code == 0
    melody = hummer.made[-1][0].melody
    assert isinstance(melody, Score) and melody == score
    hummer._notes = False
    words = ("-o", tmp_path / "c.wav", "--save-score", tmp_path / "c.mid")
    result = music("calm", *words)
    assert result.exit_code == 1 and "hummer knows no score" in result.stderr
    hummer.scores = False  # type: ignore[attr-defined]
    made = len(hummer.made)
    result = music("calm", *words)
    assert result.exit_code == 1 and len(hummer.made) == made
    assert not list(tmp_path.glob("c.*"))


@pytest.fixture
def codec(small: Path, monkeypatch: pytest.MonkeyPatch) -> Codec:
    """A small codec, which is loaded by the name of a catalogued one."""
    made = load_codec(small, device="cpu")
    made.name = "alm-codec"
    monkeypatch.setattr("alm_cli.systems.continuing.load_codec", lambda *_, **__: made)
    return made


def test_tokens_are_kept_heard_again_and_gone_on_from(
    music: Alm, hummer: Hummer, codec: Codec, tmp_path: Path
) -> None:
    hummer._codec = codec
    hummer.rate = codec.rate
    words = ("-o", tmp_path / "a.wav", "--save-tokens", tmp_path / "a.alm", "--seed", 4)
    result = music("calm", *words)
    assert result.exit_code == 0, result.stderr
    with (tmp_path / "a.alm").open("rb") as file:
        (kept,) = iter_tokens(file)
    assert kept.origin.notes["text"] == "calm"
    result = music("--from-tokens", tmp_path / "a.alm", "-o", tmp_path / "b.wav")
    assert result.exit_code == 0, result.stderr
    assert (samples_of(tmp_path / "b.wav") == samples_of(tmp_path / "a.wav")).all()
    assert "seed" not in result.stderr
    words = ("--continue", tmp_path / "a.alm", "-o", tmp_path / "c.wav")
    assert music("calm", *words).exit_code == 0
    past = hummer.made[-1][0].past
    assert isinstance(past, Tokens) and (past.codes == kept.codes).all()  # type: ignore[union-attr]
    foreign = replace(kept, origin=replace(kept.origin, codec="mimi"))
    write_tokens(tmp_path / "m.alm", foreign)
    result = music("calm", "--continue", tmp_path / "m.alm", "-o", tmp_path / "d.wav")
    assert result.exit_code == 1 and "m.alm: made by mimi" in result.stderr
    (tmp_path / "bad.alm").write_bytes(b"garbage")
    for name in ("bad.alm", "none.alm"):
        for option in ("--from-tokens", "--continue"):
            prompt = ("calm",) if option == "--continue" else ()
            result = music(*prompt, option, tmp_path / name, "-o", tmp_path / "d.wav")
            assert result.exit_code == 1 and name in result.stderr
    assert not (tmp_path / "d.wav").exists()


def test_a_model_without_tokens_keeps_none(music: Alm, tmp_path: Path) -> None:
    result = music("calm", "-o", tmp_path / "a.wav", "--save-tokens", tmp_path / "a.alm")
    assert result.exit_code == 1 and "without tokens" in result.stderr
    assert not list(tmp_path.glob("a.*"))


def test_recordings_are_followed_and_gone_on_from(
    music: Alm, hummer: Hummer, tmp_path: Path
) -> None:
    assert music("calm", "-o", tmp_path / "clip.flac").exit_code == 0
    words = ("--melody", tmp_path / "clip.flac", "--continue", tmp_path / "clip.flac")
    assert music("fast", *words, "-o", tmp_path / "a.wav").exit_code == 0
    piece = hummer.made[-1][0]
    assert isinstance(piece.melody, Audio) and isinstance(piece.past, Audio)
    assert piece.melody.samples.shape == piece.past.samples.shape == (1, RATE // 2)


@pytest.mark.parametrize("option", ["--melody", "--continue"])
def test_bad_clips_are_told(music: Alm, hummer: Hummer, tmp_path: Path, option: str) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    (tmp_path / "bad.mid").write_bytes(b"MThd")
    with soundfile.SoundFile(tmp_path / "empty.wav", "w", RATE, 1):
        pass
    for name in ("bad.wav", "bad.mid", "empty.wav", "none.wav", "none.mid"):
        result = music("calm", option, tmp_path / name, "-o", tmp_path / "a.wav")
        assert result.exit_code == 1 and name in result.stderr, result.stderr
    assert hummer.made == [] and not (tmp_path / "a.wav").exists()


def test_records_have_melodies_of_their_own(music: Alm, hummer: Hummer, tmp_path: Path) -> None:
    tags = Tags("pop", ("piano",), 120, 0, "major")
    score = Score((Note(0.0, 60, 1.0, 0.5, "piano"),), 1.0, tags)
    (tmp_path / "m.mid").write_bytes(write_midi(score))
    lines = [{"prompt": "calm", "melody": str(tmp_path / "m.mid")}, {"prompt": "fast"}]
    lines += [{"prompt": "calm", "melody": "none.mid"}, {"prompt": "calm", "loop": "perhaps"}]
    (tmp_path / "l.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert music("--batch", tmp_path / "l.jsonl", "-o", tmp_path / "o").exit_code == 1
    (batch,) = hummer.made
    assert {piece.prompt: piece.melody is not None for piece in batch} == {
        "calm": True, "fast": False,
    }  # fmt: skip
    errors = [line["error"] for line in lines_of(tmp_path / "o" / "manifest.jsonl")]
    assert errors[:2] == [None, None] and "none.mid" in errors[2] and "loop" in errors[3]


@pytest.mark.usefixtures("hummer")
def test_a_restricted_model_composes_once_it_is_accepted(
    alm: Alm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = replace(find_card("alm-codec"), restricted=True, licence="CC-BY-NC-4.0", task="composer")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("ALM_ACCEPT_LICENSE", raising=False)
    monkeypatch.setattr("alm_cli.catalog.CATALOG", (card,))
    words = ("-m", "alm-codec", "--duration", "0.1")
    assert alm("generate-music", "calm", "-o", tmp_path / "a.wav", *words, "--accept-license")
    assert alm("models", "pull", "alm-codec").exit_code == 0


def test_an_unknown_model_is_told(alm: Alm, tmp_path: Path) -> None:
    result = alm("generate-music", "calm", "-m", "no-such-model", "-o", tmp_path / "a.wav")
    assert result.exit_code == 3 and "no-such-model" in result.stderr
    result = alm("generate-music", "calm", "-m", "alm-codec", "-o", tmp_path / "a.wav")
    assert result.exit_code == 3 and "does not make music" in result.stderr


def test_in_a_log_it_is_told_now_and_then_how_far_the_music_is(
    music: Alm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alm_cli.jobs.report._PULSE_S", 0.0)
    result = music("calm", "-o", tmp_path / "a.wav", "--duration", 1)
    pulses = [line for line in result.stderr.splitlines() if line.startswith("calm: ")]
    assert len(pulses) > 3 and all(" of 1.0 s, " in line for line in pulses)
    assert pulses[-1].endswith("left") and "x real time, about " in pulses[-1]
    quiet = music("calm", "-o", tmp_path / "b.wav", "--quiet")
    assert quiet.stderr.splitlines()[1:] == []


def test_shells_complete_composers(monkeypatch: pytest.MonkeyPatch) -> None:
    card = replace(find_card("alm-codec"), name="alm-band", task="composer", note="a band")
    monkeypatch.setattr("alm_cli.catalog.CATALOG", (find_card("alm-codec"), card))
    assert list(composers("alm-")) == [("alm-band", "a band")] and not list(composers("x"))


@pytest.fixture(scope="session")
def musicgen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny MusicGen."""
    folder = tmp_path_factory.mktemp("musicgen")
    musicgens(folder)
    return folder


def test_a_musicgen_composes_for_the_command(alm: Alm, musicgen: Path, tmp_path: Path) -> None:
    words = ("generate-music", "calm piano", "-m", musicgen, "--seed", 3, "--device", "cpu")
    length = ("--duration", "0.3")
    result = alm(*words, *length, "-o", tmp_path / "a.wav", "--save-tokens", tmp_path / "a.alm")
    assert result.exit_code == 0, result.stderr
    audio = read_audio(tmp_path / "a.wav")
    assert audio.samples.shape == (1, round(0.3 * audio.rate)) and np.abs(audio.samples).max() > 0
    raw = alm(*words, *length, "-o", "-", "--format", "s16le").stdout_bytes
    assert (tmp_path / "a.wav").read_bytes().endswith(raw) and len(raw) == 2 * audio.length
    listing = tmp_path / "l.jsonl"
    records = [{"id": "a", "prompt": "calm piano", "duration": 0.3}, {"id": "b", "prompt": "x"}]
    records += [{"id": "loop", "prompt": "x", "loop": True}]
    listing.write_text("\n".join(map(json.dumps, records)))
    many = ("generate-music", "--batch", listing, "-m", musicgen, "--seed", 3, "--device", "cpu")
    assert alm(*many, "-o", tmp_path / "o", "--duration", "0.1").exit_code == 1
    assert (tmp_path / "o" / "a.wav").read_bytes() == (tmp_path / "a.wav").read_bytes()
    errors = [line["error"] for line in lines_of(tmp_path / "o" / "manifest.jsonl")]
    assert errors[:2] == [None, None] and "makes no loops" in errors[2]
    for refused in (("--save-score", tmp_path / "a.mid"), ("--melody", tmp_path / "a.wav")):
        result = alm(*words, *length, *refused, "-o", tmp_path / "b.wav")
        assert result.exit_code in (1, 2) and "-o" not in result.stderr
        assert not (tmp_path / "b.wav").exists()


def test_what_does_not_fit_is_refused_before_it_is_loaded(
    alm: Alm, musicgen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alm_cli.systems.room.memory_left", lambda _: 100_000_000)
    monkeypatch.setattr("alm_cli.systems.composer.load_composer", pytest.fail)
    words = ("calm", "-m", musicgen, "-o", tmp_path / "a.wav", "--device", "cpu")
    result = alm("generate-music", *words)
    assert result.exit_code == 3
    assert "GB of memory, and 0.1 GB are left" in result.stderr and "hint: " in result.stderr
