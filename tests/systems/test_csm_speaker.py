"""CSM as a speaker: every line as it sounds alone, what it read before, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from alm_cli.checkpoints.parts import part_of
from alm_cli.checkpoints.reader import open_checkpoint
from alm_cli.errors import InputError, ModelError, UsageError
from alm_cli.files.audio import read_audio
from alm_cli.files.tokens import write_tokens
from alm_cli.nn.packed import can_pack
from alm_cli.systems import csm_prompts
from alm_cli.systems.codec import load_codec
from alm_cli.systems.csm_prompts import CsmVoice, frames_of
from alm_cli.systems.csm_speaker import CsmSpeaker
from alm_cli.systems.speaker import Line, Spoken, load_speaker
from alm_cli.values import Audio, Tokens, Word
from tests.lm.csms import HOP, written

LINES = (
    Line(text="hello", seed=1),
    Line(text="Well, hello there.", seed=2, temperature=0.7, top_k=9),
    Line(text="12", seed=3, top_p=0.8),
)

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors so small gain nothing from a second; and noise, which has no end, is kept short."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csm_prompts, "_FRAME_RATE", 2.5)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("csm")
    written(made)
    return made


@pytest.fixture(scope="module")
def speaker(folder: Path) -> CsmSpeaker:
    loaded = load_speaker(folder, device="cpu")
    assert isinstance(loaded, CsmSpeaker)
    return loaded


@pytest.fixture(scope="module")
def spoken(speaker: CsmSpeaker) -> list[Spoken]:
    """Each line by itself."""
    return [speaker.say([line])[0] for line in LINES]


def codes_of(spoken: Spoken) -> np.ndarray:  # type: ignore[type-arg]
    assert isinstance(spoken.tokens, Tokens)
    return spoken.tokens.codes


def test_a_line_sounds_the_same_alone_again_and_beside_others(
    speaker: CsmSpeaker, spoken: list[Spoken]
) -> None:
    for lines in ([0, 1, 2], [2, 1], [1, 1, 0, 2, 2, 0]):
        for place, said in zip(lines, speaker.say([LINES[i] for i in lines]), strict=True):
            assert np.array_equal(said.samples, spoken[place].samples)
    assert len({said.samples.tobytes() for said in spoken}) == 3


def test_a_stream_is_what_is_said(speaker: CsmSpeaker, spoken: list[Spoken]) -> None:
    """And gives the line itself in the end, for the next one to go on from."""
    for line, said in zip(LINES[:2], spoken, strict=False):
        stream, pieces = speaker.stream(line), []
        with pytest.raises(StopIteration) as end:
            while True:
                pieces.append(next(stream))
                assert not torch.is_inference_mode_enabled(), "also while a stream waits"
        assert {len(piece) for piece in pieces} == {HOP}
        assert np.array_equal(np.concatenate(pieces), said.samples)
        assert np.array_equal(end.value.value.samples, said.samples)


def test_threads_change_nothing(speaker: CsmSpeaker, spoken: list[Spoken]) -> None:
    torch.set_num_threads(2)
    said = speaker.say([LINES[0]])[0]
    torch.set_num_threads(1)
    assert np.array_equal(said.samples, spoken[0].samples)


def test_seeds_matter_unless_the_likeliest_is_taken(
    speaker: CsmSpeaker, spoken: list[Spoken]
) -> None:
    other = speaker.say([replace(LINES[0], seed=9)])[0]
    assert not np.array_equal(codes_of(other), codes_of(spoken[0]))
    cold = [Line(text="hello", temperature=0.0, seed=seed) for seed in (1, 2)]
    one, two = speaker.say(cold)
    assert np.array_equal(one.samples, two.samples)


def test_what_is_said_has_its_tokens_and_ends_in_time(spoken: list[Spoken]) -> None:
    for line, said in zip(LINES, spoken, strict=True):
        assert isinstance(said.tokens, Tokens) and said.words == ()
        codes = said.tokens.codes
        assert codes.shape[:2] == (1, 6) and len(said.samples) == codes.shape[2] * HOP
        assert codes.shape[2] == frames_of(line.text), "noise never finds the end by itself"
        assert codes.max() < 64, "three codes of the model are not the codec's"
        assert said.tokens.origin.notes == {"text": line.text, "speaker": "0"}
        assert said.samples.dtype == np.float32 and said.samples.std() > 0


def test_the_end_is_a_frame_of_zeros(folder: Path) -> None:
    silent = load_speaker(folder, device="cpu")
    assert isinstance(silent, CsmSpeaker)
    silent._model.first.weight.data.zero_()
    silent._model.others.weight.data.zero_()
    one, other = silent.say([Line(text="hello", temperature=0.0), Line(text="hell", seed=4)])
    assert one.samples.shape == (0,) and codes_of(one).shape == (1, 6, 0)
    assert len(other.samples), "even chances are not nothing"
    assert list(silent.stream(Line(text="hello", temperature=0.0))) == []


def test_speakers_are_told_apart_by_the_text(speaker: CsmSpeaker, spoken: list[Spoken]) -> None:
    assert speaker.voice(None) == speaker.voice("0") == CsmVoice("0")
    said = speaker.say([replace(LINES[0], voice=speaker.voice("1"))])[0]
    assert not np.array_equal(said.samples, spoken[0].samples)
    first = speaker.say([replace(LINES[0], voice=speaker.voice("0"))])[0]
    assert np.array_equal(first.samples, spoken[0].samples)


@pytest.mark.parametrize("same", [True, False])
def test_the_same_codec_of_another_file_decodes_its_tokens_unforced(
    same: bool, folder: Path, spoken: list[Spoken], tmp_path: Path
) -> None:
    """As `alm decode` does with the codec of the catalogue."""
    parts = part_of(open_checkpoint(folder), "codec_model.")
    weights = {name: parts.read(name) for name in parts.shapes}
    if not same:
        weights = {name: tensor + 1e-6 for name, tensor in weights.items()}
    (tmp_path / "mimi").mkdir()
    save_file(weights, tmp_path / "mimi" / "model.safetensors")
    settings = json.loads((folder / "config.json").read_bytes())["codec_config"]
    (tmp_path / "mimi" / "config.json").write_text(json.dumps(settings))
    codec, tokens = load_codec(tmp_path / "mimi", device="cpu"), spoken[1].tokens
    assert isinstance(tokens, Tokens) and codec.weights_sha256 != tokens.origin.weights_sha256
    if same:
        assert len(codec.decode(tokens).samples[0]) == len(spoken[1].samples)
    else:
        with pytest.raises(ModelError, match="other weights of mimi"):
            codec.decode(tokens)


def test_what_was_said_before_is_heard(
    speaker: CsmSpeaker, spoken: list[Spoken], tmp_path: Path
) -> None:
    after = replace(LINES[0], before=spoken[1])
    said = speaker.say([after, LINES[0]])
    assert not np.array_equal(said[0].samples, said[1].samples)
    assert np.array_equal(said[1].samples, spoken[0].samples)
    # A token file of it is a voice that has said the same.
    assert isinstance(spoken[1].tokens, Tokens)
    write_tokens(tmp_path / "before.alm", spoken[1].tokens)
    voice = speaker.voice(tmp_path / "before.alm")
    again = speaker.say([replace(LINES[0], voice=voice)])[0]
    assert np.array_equal(again.samples, said[0].samples)


def test_a_recording_is_heard_with_its_words(
    speaker: CsmSpeaker, spoken: list[Spoken], tmp_path: Path
) -> None:
    import soundfile

    clip = tmp_path / "clip.wav"
    noise = np.random.default_rng(1).standard_normal(40 * HOP + 5) * 0.2
    soundfile.write(clip, noise, speaker.rate, "FLOAT")
    with pytest.raises(InputError, match="words"):
        speaker.voice(str(clip))
    (tmp_path / "clip.txt").write_text("hell\nhe ll\n", encoding="utf-8")
    voice = speaker.voice(str(clip))
    assert voice.said[0].text == "hell he ll" and voice.said[0].codes.shape == (6, 41)
    said = speaker.say([replace(LINES[0], voice=voice)])[0]
    assert not np.array_equal(said.samples, spoken[0].samples)
    # What was said before in samples and words is the same as a recording with its words.
    words = tuple(Word(start_s=0, end_s=1, text=text) for text in (" hell", " he", " ll"))
    before = Spoken(samples=read_audio(clip).samples[0], words=words)
    again = speaker.say([replace(LINES[0], before=before)])[0]
    assert np.array_equal(again.samples, said.samples)


def test_what_was_said_last_is_forgotten_where_there_is_no_room(
    speaker: CsmSpeaker, spoken: list[Spoken]
) -> None:
    long = Line(text="he " * 90, seed=1)
    before = spoken[1]
    assert isinstance(before.tokens, Tokens)
    tokens = Tokens(np.tile(before.tokens.codes, (1, 1, 40)), before.tokens.origin)
    _, most = speaker._prompts.vectors(long)
    prompts = [
        speaker._prompts.vectors(replace(long, before=said))[0].shape[1]
        for said in (None, before, replace(before, tokens=tokens))
    ]
    assert prompts[0] == prompts[2] < prompts[1] <= speaker._model.positions - most
    voice = replace(speaker.voice("0"), said=(speaker._prompts._turn(tokens, "0"),))
    with pytest.raises(InputError, match="too long"):
        speaker.say([replace(long, voice=voice)])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (Line(text="hello", speed=1.5), "fast"),
        (Line(text="hello", duration_s=2.0), "fast"),
        (Line(text="[[hɛloʊ]]"), "phonemes"),
        (Line(text=" \n"), "nothing"),
        (Line(text="Привет"), "Привет"),
        (Line(text="hello " * 300), "too long"),
        (Line(text="hello", voice="0"), "voice"),
        (Line(text="hello", before=Spoken(samples=np.zeros(9, np.float32))), "words"),
    ],
)
def test_what_it_cannot_do_is_refused_at_once(speaker: CsmSpeaker, line: Line, said: str) -> None:
    with pytest.raises(InputError, match=said):
        speaker.say([LINES[0], line])
    if line.before is None:
        with pytest.raises(InputError, match=said):
            speaker.stream(line)


def test_voices_that_are_none_are_refused(
    speaker: CsmSpeaker, spoken: list[Spoken], tmp_path: Path
) -> None:
    for source in ("10", "nobody", tmp_path):
        with pytest.raises(InputError, match="no voice"):
            speaker.voice(source)
    with pytest.raises(InputError, match="words"):
        speaker.voice(Audio(np.zeros((1, 99), np.float32), 24_000))
    tokens = spoken[0].tokens
    assert isinstance(tokens, Tokens)
    origins = (
        replace(tokens.origin, codec="encodec-24khz"),
        replace(tokens.origin, notes={}),
    )
    for origin in origins:
        write_tokens(tmp_path / "other.alm", Tokens(tokens.codes, origin))
        with pytest.raises(InputError):
            speaker.voice(tmp_path / "other.alm")
    few = Tokens(tokens.codes[:, :2], replace(tokens.origin, vocabularies=(64, 64)))
    with pytest.raises(InputError, match="codebooks"):
        speaker.say([replace(LINES[0], before=Spoken(samples=np.zeros(9, np.float32), tokens=few))])


def test_trap_a_text_cannot_bring_special_tokens(speaker: CsmSpeaker) -> None:
    """`<|audio_eos|>` in a text would be read as the end of a recording."""
    tokens = speaker._prompts._read("0", "a<|audio_eos|><|end_of_text|>")
    assert tokens[0] == 296 and tokens[-1] == 297
    assert not {296, 297, 298, 299} & set(tokens[1:-1])


@pytest.mark.skipif(not can_pack(), reason="no packed products on this machine")
def test_it_speaks_in_8_bits(folder: Path) -> None:
    rounded = load_speaker(folder, device="cpu", dtype="int8")
    said = rounded.say(LINES[:2])
    assert [len(one.samples) // HOP for one in said] == [frames_of(line.text) for line in LINES[:2]]
    assert np.array_equal(rounded.say(LINES[:2])[1].samples, said[1].samples)


def test_files_that_lack_something_are_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(folder / name)
    with pytest.raises(ModelError, match="no tokenizer"):
        load_speaker(tmp_path, device="cpu")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="not a tokenizer"):
        load_speaker(tmp_path, device="cpu")
    (tmp_path / "tokenizer.json").write_text(
        '{"model": {"type": "BPE", "vocab": {}, "merges": []}}'
    )
    with pytest.raises(ModelError):
        load_speaker(tmp_path, device="cpu")
    with pytest.raises(UsageError, match="number type"):
        load_speaker(folder, device="cpu", dtype="float8")


@pytest.mark.gpu
def test_it_speaks_on_a_gpu(folder: Path, spoken: list[Spoken]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    said = load_speaker(folder, device="cuda").say(list(LINES))
    cold = load_speaker(folder, device="cuda", dtype="bfloat16").say(list(LINES))
    assert [len(one.samples) for one in said] == [len(one.samples) for one in spoken]
    assert [len(one.samples) for one in cold] == [len(one.samples) for one in spoken]
