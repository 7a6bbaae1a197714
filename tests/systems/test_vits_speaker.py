"""VITS speaks lines: as `transformers` does, alike in any company; what it cannot it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alm_cli.errors import InputError, ModelError, UsageError
from alm_cli.systems.speaker import Line, load_speaker
from alm_cli.systems.vits_speaker import VitsSpeaker
from alm_cli.values import Audio
from tests.speech_models import write_vits

TEXT = "Hello - it's me, a dog!"
SPEAKERS = {"num_speakers": 3, "speaker_embedding_size": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vits") / "mms-tts-xxx"


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    return write_vits(folder, **SPEAKERS)


@pytest.fixture(scope="module")
def ours(folder: Path, theirs: Any) -> VitsSpeaker:  # noqa: ARG001
    return loaded(folder)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def loaded(folder: Path) -> VitsSpeaker:
    speaker = load_speaker(folder, device="cpu")
    assert isinstance(speaker, VitsSpeaker)
    return speaker


@pytest.mark.oracle
def test_a_folder_of_any_language_speaks_as_theirs_with_the_seed(
    folder: Path, theirs: Any, ours: VitsSpeaker
) -> None:
    from transformers import VitsTokenizer

    assert ours.name == "mms-tts-xxx" and ours.rate == 16_000
    tokenizer = VitsTokenizer.from_pretrained(folder)
    for text, seed, voice in ((TEXT, 0, 0), ("a", 5, 2), ("well well, ok", 7, 1)):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            torch.manual_seed(seed)
            expected = theirs(ids, speaker_id=voice).waveform[0].numpy()
        (said,) = ours.say([Line(text=text, seed=seed, voice=ours.voice(str(voice)))])
        assert len(said.samples) == len(expected)
        np.testing.assert_allclose(said.samples, expected, atol=1e-4)
        # Speed is the reference's speaking rate.
        with torch.no_grad():
            torch.manual_seed(seed)
            expected = theirs(ids, speaker_id=voice, speaking_rate=2.5).waveform[0].numpy()
        (said,) = ours.say([Line(text=text, seed=seed, voice=voice, speed=2.5)])
        assert len(said.samples) == len(expected)
        np.testing.assert_allclose(said.samples, expected, atol=1e-4)


def test_a_line_sounds_the_same_alone_again_in_company_and_streamed(ours: VitsSpeaker) -> None:
    line = Line(text=TEXT, seed=3)
    (alone,) = ours.say([line])
    (again,) = ours.say([line])
    _, among, _ = ours.say([Line(text="a longer line than that one", seed=8), line, Line(text="b")])
    streamed = np.concatenate(list(ours.stream(line)))
    assert alone.samples.dtype == np.float32
    for other in (again.samples, among.samples, streamed):
        assert np.array_equal(other, alone.samples)
    assert among.words == alone.words


@pytest.mark.usefixtures("one_thread")
def test_a_line_sounds_the_same_with_one_and_two_threads(ours: VitsSpeaker) -> None:
    line = Line(text=TEXT, seed=3)
    (one,) = ours.say([line])
    torch.set_num_threads(2)
    (two,) = ours.say([line])
    assert np.array_equal(one.samples, two.samples)


def test_a_long_line_comes_in_several_pieces(ours: VitsSpeaker) -> None:
    line = Line(text="word " * 10, speed=0.3)
    pieces = list(ours.stream(line))
    assert len(pieces) > 2
    assert np.array_equal(np.concatenate(pieces), ours.say([line])[0].samples)


def test_seeds_and_temperatures_matter(ours: VitsSpeaker) -> None:
    asked = (Line(text=TEXT, seed=1), Line(text=TEXT, seed=2), Line(text=TEXT, temperature=0.2))
    usual, other, calm = ours.say(asked)
    assert not np.array_equal(usual.samples[:99], other.samples[:99])
    assert not np.array_equal(usual.samples[:99], calm.samples[:99])
    still = ours.say([Line(text=TEXT, temperature=0, seed=seed) for seed in (1, 2)])
    assert np.array_equal(still[0].samples, still[1].samples)
    same = ours.say([Line(text=TEXT, seed=1, temperature=0.667)])[0]
    np.testing.assert_allclose(same.samples, usual.samples, atol=1e-5)


@pytest.mark.parametrize("duration_s", [0.05, 1.23456])
def test_a_duration_is_exact_to_the_sample(ours: VitsSpeaker, duration_s: float) -> None:
    line = Line(text=TEXT, duration_s=duration_s, speed=3)
    (said,) = ours.say([line])
    assert len(said.samples) == round(duration_s * ours.rate)
    assert said.words[-1].end_s <= duration_s
    assert np.array_equal(np.concatenate(list(ours.stream(line))), said.samples)


def test_words_are_timed_by_the_frames_of_their_characters(ours: VitsSpeaker) -> None:
    (said,) = ours.say([Line(text=TEXT)])
    assert [word.text for word in said.words] == ["Hello -", " it's", " me,", " a", " dog!"]
    times = [time for word in said.words for time in (word.start_s, word.end_s)]
    assert times == sorted(times) and times[0] >= 0
    assert times[-1] <= len(said.samples) / ours.rate
    frame_s = ours._model.hop / ours.rate
    assert all(word.end_s - word.start_s >= frame_s for word in said.words)
    # Twice as long, each word begins and ends near twice as late.
    seconds = len(said.samples) / ours.rate
    (slow,) = ours.say([Line(text=TEXT, duration_s=4 * seconds)])
    for word, later in zip(said.words, slow.words, strict=True):
        assert abs(later.start_s - 4 * word.start_s) < 0.2 * 4 * seconds


@pytest.mark.parametrize(
    "line",
    [
        Line(text=TEXT, top_k=5),
        Line(text=TEXT, top_p=0.5),
        Line(text="[[həlˈoʊ]]"),
        Line(text=""),
        Line(text=" ... "),
        Line(text="日本"),
        Line(text="50 dogs"),
        Line(text="a dog \N{DOG FACE}"),
        Line(text=TEXT, duration_s=0.001),
        Line(text=TEXT, duration_s=1e6),
    ],
    ids=lambda line: f"{line.text[:9]} {line.duration_s}",
)
def test_what_cannot_be_done_is_refused(ours: VitsSpeaker, line: Line) -> None:
    with pytest.raises(InputError):
        ours.say([line])
    with pytest.raises(InputError):
        ours.stream(line)


def test_what_cannot_be_said_is_named(ours: VitsSpeaker) -> None:
    ours.check(TEXT)
    with pytest.raises(InputError, match="'5'"):
        ours.check("a 5")
    with pytest.raises(UsageError):
        Line(text=TEXT, speed=99)


def test_voices_have_numbers(ours: VitsSpeaker, tmp_path: Path) -> None:
    assert ours.voices == ("0", "1", "2")
    assert ours.voice(None) == 0 and ours.voice("2") == 2
    silence = Audio(np.zeros((1, 9), np.float32), 16_000)
    for source in ("3", "-1", "someone", tmp_path, silence):
        with pytest.raises(InputError, match="no voice"):
            ours.voice(source)


def test_a_model_with_one_voice_has_no_names(tmp_path: Path) -> None:
    write_vits(tmp_path / "one")
    speaker = loaded(tmp_path / "one")
    assert speaker.voices == () and speaker.voice(None) == 0
    with pytest.raises(InputError, match="just one voice"):
        speaker.voice("0")
    assert len(speaker.say([Line(text="ok")])[0].samples)


def changed(folder: Path, tmp_path: Path, name: str, value: object) -> Path:
    """The same model with another file."""
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / name).write_text(json.dumps(value), encoding="utf-8")
    return other


@pytest.mark.usefixtures("theirs")
def test_scripts_that_need_uroman_are_refused(folder: Path, tmp_path: Path) -> None:
    other = changed(
        folder, tmp_path, "tokenizer_config.json", {"phonemize": False, "is_uroman": True}
    )
    speaker = loaded(other)
    speaker.check("annyeong")
    with pytest.raises(InputError, match="uroman"):
        speaker.check("안녕")


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vocab.json", {}),
        ("vocab.json", {"a": 10_000}),
        ("vocab.json", {"a": "b"}),
        ("vocab.json", ["a"]),
        ("tokenizer_config.json", {"add_blank": "yes"}),
    ],
)
def test_damaged_vocabularies_are_refused(
    folder: Path, tmp_path: Path, name: str, value: object
) -> None:
    with pytest.raises(ModelError):
        loaded(changed(folder, tmp_path, name, value))


@pytest.mark.usefixtures("theirs")
def test_without_a_vocabulary_nothing_is_spoken(folder: Path, tmp_path: Path) -> None:
    other = changed(folder, tmp_path, "vocab.json", {})
    (other / "vocab.json").unlink()
    with pytest.raises(ModelError, match=r"vocab\.json"):
        loaded(other)


def test_a_model_that_never_ends_is_stopped(ours: VitsSpeaker) -> None:
    with torch.no_grad():
        shift = ours._model.durations.shift
        before = shift.clone()
        shift.fill_(-50.0)
    try:
        with pytest.raises(ModelError, match="damaged"):
            ours.say([Line(text=TEXT)])
    finally:
        shift.copy_(before)


@pytest.mark.gpu
def test_a_gpu_speaks_nearly_the_same(folder: Path, ours: VitsSpeaker) -> None:
    gpu = load_speaker(folder, device="cuda")
    line = Line(text=TEXT, seed=4)
    a, b = ours.say([line])[0].samples, gpu.say([line])[0].samples
    np.testing.assert_allclose(a, b, atol=1e-3)
    assert np.array_equal(b, gpu.say([replace(line)])[0].samples)
