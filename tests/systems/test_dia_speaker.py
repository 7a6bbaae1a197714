"""Dia as a speaker: every line as it sounds alone, what it read before, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alm_cli.checkpoints.load import Loaded, load
from alm_cli.errors import InputError, UsageError
from alm_cli.files.tokens import write_tokens
from alm_cli.nn.packed import can_pack
from alm_cli.systems import dia_speaker
from alm_cli.systems.dia_speaker import DiaSpeaker, DiaVoice
from alm_cli.systems.plain_english import longest_s
from alm_cli.systems.speaker import Line, Spoken, load_speaker
from alm_cli.values import Audio, Tokens, Word
from tests.lm.dias import HOP, codec, written

LINES = (
    Line(text="hi", seed=1),
    Line(text="[S2] Well, hi. [S1] (laughs)", seed=2, temperature=0.7, top_k=9),
    Line(text="1", seed=3, top_p=0.8),
)

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.oracle]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Its codec is another model of the catalogue."""
    made = tmp_path_factory.mktemp("dia")
    written(made)
    dac = codec(tmp_path_factory.mktemp("dac"))

    def loaded(name: str) -> Loaded:
        assert name == "dac-44khz"
        return load(dac)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dia_speaker, "load", loaded)
        # Noise, which has no end, is kept short.
        patch.setattr(dia_speaker, "longest_s", lambda text: longest_s(text) / 25)
        yield made


@pytest.fixture(scope="module")
def speaker(folder: Path) -> DiaSpeaker:
    loaded = load_speaker(folder, device="cpu")
    assert isinstance(loaded, DiaSpeaker)
    return loaded


@pytest.fixture(scope="module")
def spoken(speaker: DiaSpeaker) -> list[Spoken]:
    """Each line by itself."""
    return [speaker.say([line])[0] for line in LINES]


def tokens_of(spoken: Spoken) -> Tokens:
    assert isinstance(spoken.tokens, Tokens)
    return spoken.tokens


def test_a_line_sounds_the_same_alone_again_and_beside_others(
    speaker: DiaSpeaker, spoken: list[Spoken]
) -> None:
    for lines in ([0, 1, 2], [2, 1, 0, 0]):
        for place, said in zip(lines, speaker.say([LINES[i] for i in lines]), strict=True):
            assert np.array_equal(said.samples, spoken[place].samples)
    assert len({said.samples.tobytes() for said in spoken}) == 3


def test_a_stream_is_what_is_said(speaker: DiaSpeaker, spoken: list[Spoken]) -> None:
    """And gives the line itself in the end, for the next one to go on from."""
    for line, said in zip(LINES[:2], spoken, strict=False):
        stream, pieces = speaker.stream(line), []
        with pytest.raises(StopIteration) as end:
            while True:
                pieces.append(next(stream))
                assert not torch.is_inference_mode_enabled(), "also while a stream waits"
        assert len(pieces) > 1
        assert np.array_equal(np.concatenate(pieces), said.samples)
        assert np.array_equal(end.value.value.samples, said.samples)


def test_threads_change_nothing(speaker: DiaSpeaker, spoken: list[Spoken]) -> None:
    torch.set_num_threads(2)
    said = speaker.say([LINES[0]])[0]
    torch.set_num_threads(1)
    assert np.array_equal(said.samples, spoken[0].samples)


def test_seeds_matter_unless_the_likeliest_is_taken(
    speaker: DiaSpeaker, spoken: list[Spoken]
) -> None:
    other = speaker.say([replace(LINES[0], seed=9)])[0]
    assert not np.array_equal(tokens_of(other).codes, tokens_of(spoken[0]).codes)
    one, two = speaker.say([Line(text="hi", temperature=0.0, seed=seed) for seed in (1, 2)])
    assert np.array_equal(one.samples, two.samples)


def test_what_is_said_has_its_tokens_which_the_codec_decodes(
    speaker: DiaSpeaker, spoken: list[Spoken]
) -> None:
    for line, said in zip(LINES, spoken, strict=True):
        tokens = tokens_of(said)
        text = line.text if line.text.startswith("[S") else f"[S1] {line.text}"
        assert tokens.codes.shape == (1, 4, speaker._frames(text)), "noise finds no end"
        assert tokens.codes.max() < 1024 and tokens.origin.notes == {"text": text}
        assert abs(len(said.samples) - tokens.frames * HOP) < HOP and said.samples.std() > 0
        with torch.inference_mode():
            whole = speaker._codec.decode(torch.from_numpy(tokens.codes.astype(np.int64)))
        np.testing.assert_allclose(said.samples, whole[0, 0].numpy(), atol=1e-5)


def test_the_end_may_come_at_any_time(speaker: DiaSpeaker, folder: Path) -> None:
    """Codebook 0 ends where that is likeliest: at once here, for any seed and temperature."""
    silent = load_speaker(folder, device="cpu")
    assert isinstance(silent, DiaSpeaker)
    weight = silent._model.output.weight.data.view(4, 1028, -1)
    weight[0] = 0
    silent._model.norm.weight.data[:] = 0.0
    weight[0, 1024] = 1.0
    silent._model.norm.register_forward_hook(lambda *_: _[2] + 1)  # so that the sum is positive
    said = silent.say([LINES[0], LINES[1]])
    assert [len(one.samples) for one in said] == [0, 0]
    assert tokens_of(said[0]).codes.shape == (1, 4, 0)
    assert list(silent.stream(LINES[0])) == []
    assert speaker.say([LINES[0]])[0].samples.size


def test_what_was_said_before_is_heard(
    speaker: DiaSpeaker, spoken: list[Spoken], tmp_path: Path
) -> None:
    said = speaker.say([replace(LINES[0], before=spoken[2]), LINES[0]])
    assert np.array_equal(said[1].samples, spoken[0].samples)
    assert not np.array_equal(said[0].samples, said[1].samples)
    assert tokens_of(said[0]).frames == tokens_of(said[1]).frames, "what was said is not said again"
    write_tokens(tmp_path / "before.alm", tokens_of(spoken[2]))
    voice = speaker.voice(tmp_path / "before.alm")
    assert voice.text == "[S1] 1"
    again = speaker.say([replace(LINES[0], voice=voice)])[0]
    assert np.array_equal(again.samples, said[0].samples)


def test_a_recording_is_heard_with_its_words(
    speaker: DiaSpeaker, spoken: list[Spoken], tmp_path: Path
) -> None:
    import soundfile

    clip = tmp_path / "clip.wav"
    noise = np.random.default_rng(1).standard_normal(20 * HOP + 5) * 0.2
    soundfile.write(clip, noise, speaker.rate, "FLOAT")
    with pytest.raises(InputError, match="words"):
        speaker.voice(str(clip))
    (tmp_path / "clip.txt").write_text("oh\nno\n", encoding="utf-8")
    voice = speaker.voice(str(clip))
    assert voice.text == "[S1] oh no" and voice.codes is not None
    assert voice.codes.shape == (4, 21)
    said = speaker.say([replace(LINES[0], voice=voice)])[0]
    assert not np.array_equal(said.samples, spoken[0].samples)
    words = (Word(start_s=0, end_s=1, text=" oh"), Word(start_s=1, end_s=2, text=" no"))
    before = Spoken(samples=noise.astype(np.float32), words=words)
    again = speaker.say([replace(LINES[0], before=before)])[0]
    assert np.array_equal(again.samples, said.samples)


def test_voices_that_are_none_are_refused(
    speaker: DiaSpeaker, spoken: list[Spoken], tmp_path: Path
) -> None:
    assert speaker.voice(None) == speaker.voice(None) or speaker.voice(None).codes is None
    for source in ("S1", "nobody", tmp_path):
        with pytest.raises(InputError, match="no voice"):
            speaker.voice(source)
    with pytest.raises(InputError, match="words"):
        speaker.voice(Audio(np.zeros((1, 99), np.float32), 8000))
    tokens = tokens_of(spoken[0])
    for origin in (replace(tokens.origin, codec="mimi"), replace(tokens.origin, notes={})):
        write_tokens(tmp_path / "other.alm", Tokens(tokens.codes, origin))
        with pytest.raises(InputError):
            speaker.voice(tmp_path / "other.alm")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (Line(text="hi", speed=1.5), "fast"),
        (Line(text="hi", duration_s=2.0), "fast"),
        (Line(text="[[haɪ]]"), "phonemes"),
        (Line(text=" \n"), "nothing"),
        (Line(text="Привет"), "Привет"),
        (Line(text="hello " * 100), "too long"),
        (Line(text="hi", voice="S1"), "voice"),
        (Line(text="hi", voice=DiaVoice("a", np.zeros((4, 880), np.int32))), "recording"),
        (Line(text="hi", before=Spoken(samples=np.zeros(9, np.float32))), "words"),
    ],
)
def test_what_it_cannot_do_is_refused_at_once(speaker: DiaSpeaker, line: Line, said: str) -> None:
    with pytest.raises(InputError, match=said):
        speaker.say([LINES[0], line])
    with pytest.raises(InputError, match=said):
        speaker.stream(line)


def test_trap_speakers_are_single_bytes() -> None:
    assert dia_speaker._bytes("[S1] a [S2]é") == [1, 32, 97, 32, 2, 0xC3, 0xA9]
    assert dia_speaker._tagged("a [S1] b") == "[S1] a [S1] b"


@pytest.mark.skipif(not can_pack(), reason="no packed products on this machine")
def test_it_speaks_in_8_bits(folder: Path, spoken: list[Spoken]) -> None:
    rounded = load_speaker(folder, device="cpu", dtype="int8")
    said = rounded.say([LINES[0]])[0]
    assert len(said.samples) == len(spoken[0].samples)
    with pytest.raises(UsageError, match="number type"):
        load_speaker(folder, device="cpu", dtype="float8")


@pytest.mark.gpu
def test_it_speaks_on_a_gpu(folder: Path, spoken: list[Spoken]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    for dtype in ("float32", "bfloat16"):
        said = load_speaker(folder, device="cuda", dtype=dtype).say(list(LINES))
        assert [len(one.samples) for one in said] == [len(one.samples) for one in spoken]
