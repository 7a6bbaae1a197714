"""Bark as a speaker: what is said does not depend on neighbours, and what cannot be is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from alm_cli.checkpoints.load import load
from alm_cli.errors import InputError, ModelError, UsageError
from alm_cli.nn.packed import can_pack
from alm_cli.systems.bark_speaker import BarkSpeaker, BarkSpoken, speaker
from alm_cli.systems.bark_voices import BarkVoice, read_voice
from alm_cli.systems.speaker import Line, load_speaker
from alm_cli.values import Audio, Tokens
from tests.lm.barks import SMALL, Barks, barks

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.oracle,
    pytest.mark.filterwarnings("ignore"),  # of transformers about its own arguments
]
CPU = torch.device("cpu")
WORDS = ("[UNK]", "hello", "there", "my", "friend", "!", ".", ",", "say", "##ing", "Hello")


def arrays(length: int = 30, codes: int = 64) -> dict[str, Any]:
    """A voice as Suno's program saves it."""
    frames = int(length * 1.503)
    places = np.arange(8 * frames).reshape(8, frames) * 7 % codes
    return {
        "semantic_prompt": np.arange(length) * 3 % 100,
        "coarse_prompt": places[:2].astype(np.int16),
        "fine_prompt": places,
    }


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Barks:
    folder = tmp_path_factory.mktemp("bark")
    made = barks(folder, end=1.3)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    voices = folder / "speaker_embeddings" / "v2"
    voices.mkdir(parents=True)
    for part, array in arrays().items():
        np.save(voices / f"en_speaker_1_{part}.npy", array)
    return made


@pytest.fixture(scope="module")
def bark(pair: Barks) -> BarkSpeaker:
    made = load_speaker(pair.folder, device="cpu")
    assert isinstance(made, BarkSpeaker)
    return made


LINES = (
    Line(text="hello there", seed=1),
    Line(text="Hello , my friend !", seed=2),
    Line(text="hello there", seed=9),
)


def test_a_line_sounds_the_same_alone_repeated_in_a_batch_and_streamed(bark: BarkSpeaker) -> None:
    voiced = Line(text="my friend", seed=4, voice=bark.voice("v2/en_speaker_1"))
    together = bark.say([*LINES, voiced])
    lengths = set()
    for line, spoken in zip((*LINES, voiced), together, strict=True):
        (alone,) = bark.say([line])
        assert np.array_equal(alone.samples, spoken.samples)
        pieces = list(bark.stream(line))
        assert np.array_equal(np.concatenate([spoken.samples[:0], *pieces]), spoken.samples)
        assert isinstance(spoken.tokens, Tokens) and spoken.tokens.codebooks == 8
        assert len(spoken.samples) == 320 * spoken.tokens.frames > 0
        lengths.add(len(spoken.samples))
    assert len(lengths) > 1, "rows of several lengths"


def test_two_threads_say_the_same(bark: BarkSpeaker) -> None:
    (one,) = bark.say(LINES[:1])
    torch.set_num_threads(2)
    (two,) = bark.say(LINES[:1])
    torch.set_num_threads(1)
    assert np.array_equal(one.samples, two.samples)


def test_seeds_voices_and_what_was_said_before_matter(bark: BarkSpeaker) -> None:
    line = LINES[0]
    (plain,) = bark.say([line])
    others = [
        replace(line, seed=6),
        replace(line, voice=bark.voice("v2/en_speaker_1")),
        replace(line, before=bark.say(LINES[1:2])[0]),
        replace(line, temperature=0.0),
        replace(line, top_k=1),
        replace(line, top_p=0.2),
    ]
    for spoken in bark.say(others):
        assert not np.array_equal(spoken.samples, plain.samples)


def test_a_voice_that_was_asked_for_is_kept_whatever_was_said_before(bark: BarkSpeaker) -> None:
    line = replace(LINES[0], voice=bark.voice("v2/en_speaker_1"))
    (before,) = bark.say(LINES[1:2])
    first, second = bark.say([line, replace(line, before=before)])
    assert np.array_equal(first.samples, second.samples)


def test_by_the_rules_of_transformers_it_says_what_transformers_says(
    pair: Barks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All three stages and the codec, from the same seed."""
    monkeypatch.setattr(pair.theirs, "generation_config", SimpleNamespace(**SMALL))
    made = speaker(load(pair.folder), pair.folder, device=CPU, rules="transformers")
    (spoken,) = made.say([Line(text="hello there", seed=5)])
    ids = torch.zeros(1, 24, dtype=torch.long)
    ids[0, :2] = torch.tensor([1, 2])
    torch.manual_seed(5)
    theirs = pair.theirs.generate(ids, attention_mask=(ids > 0).long())[0]
    assert len(spoken.samples) == len(theirs)
    np.testing.assert_allclose(spoken.samples, theirs.numpy(), atol=1e-4)


def test_trap_the_rules_of_suno_are_the_default_and_end_sooner(
    pair: Barks, bark: BarkSpeaker
) -> None:
    made = load_speaker(pair.folder, device="cpu", own={"rules": "transformers"})
    assert isinstance(made, BarkSpeaker)
    hub = made.manner
    assert (bark.manner.least_end, bark.manner.suno, bark.manner.semantic.top_k) == (0.2, True, 0)
    assert (hub.least_end, hub.suno, hub.semantic.top_k) == (None, False, 50)


@pytest.mark.parametrize("own", [{"rules": "hub"}, {"rule": "suno"}, {"rules": ""}])
def test_settings_that_it_does_not_have_are_answered_with_those_it_has(
    pair: Barks, own: dict[str, str]
) -> None:
    ((name, value),) = own.items()
    with pytest.raises(UsageError, match=f"has no setting {name}={value}") as caught:
        load_speaker(pair.folder, device="cpu", own=own)
    assert caught.value.hint == "it has rules=suno, rules=transformers"


def test_trap_rows_of_a_batch_do_not_end_in_noise(bark: BarkSpeaker) -> None:
    """Each is decoded by itself, as long as it is: the codec would hear a filled-up end."""
    for spoken in bark.say(LINES):
        assert isinstance(spoken, BarkSpoken)
        assert spoken.said.fine.shape[1] == int(len(spoken.said.semantic) * 75 / 49.9)


def test_voices_have_names(bark: BarkSpeaker) -> None:
    assert bark.voices == ("random", "v2/en_speaker_1")
    assert bark.voice(None) is bark.voice("random") is None
    assert isinstance(bark.voice("v2/en_speaker_1"), BarkVoice)
    with pytest.raises(InputError, match="has no voice 'v2/xx_speaker_1'"):
        bark.voice("v2/xx_speaker_1")


def test_a_voice_from_a_file_of_suno(bark: BarkSpeaker, tmp_path: Path) -> None:
    np.savez(tmp_path / "me.npz", **arrays())
    voice, preset = bark.voice(tmp_path / "me.npz"), bark.voice("v2/en_speaker_1")
    assert voice is not None and preset is not None
    assert np.array_equal(voice.coarse, preset.coarse)


@pytest.mark.parametrize(
    "change",
    [
        {"semantic_prompt": None},
        {"semantic_prompt": np.array([100] * 30)},
        {"semantic_prompt": np.array([-1] * 30)},
        {"semantic_prompt": np.zeros((1, 30), np.int64)},
        {"semantic_prompt": np.zeros(30)},
        {"semantic_prompt": np.zeros(0, np.int64)},
        {"coarse_prompt": np.zeros((3, 45), np.int64)},
        {"coarse_prompt": np.full((2, 45), 64)},
        {"coarse_prompt": np.zeros((2, 90), np.int64)},
        {"fine_prompt": np.zeros((7, 45), np.int64)},
        {"fine_prompt": np.zeros((8, 5000), np.int64)},
        {"fine_prompt": np.array([{}], object)},
    ],
)
def test_voices_of_something_else_are_refused(
    bark: BarkSpeaker, change: dict[str, Any], tmp_path: Path
) -> None:
    kept = {key: value for key, value in (arrays() | change).items() if value is not None}
    np.savez(tmp_path / "me.npz", **kept)
    with pytest.raises(InputError, match="me.npz"):
        bark.voice(tmp_path / "me.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\0", b"\x80\x04K\x01."])
def test_garbage_is_no_voice(bark: BarkSpeaker, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "me.npz").write_bytes(content)
    with pytest.raises(InputError, match="me.npz"):
        bark.voice(tmp_path / "me.npz")


def test_an_array_that_unpacks_to_too_much_is_not_unpacked(pair: Barks, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "me.npz", **arrays() | {"fine_prompt": np.zeros(1 << 22)})
    assert (tmp_path / "me.npz").stat().st_size < 1 << 20
    with pytest.raises(InputError, match="holds more than it should"):
        read_voice(tmp_path / "me.npz", pair.ours.numbers)


def test_recordings_are_no_voices(bark: BarkSpeaker, tmp_path: Path) -> None:
    (tmp_path / "me.wav").write_bytes(b"RIFF")
    for source in (tmp_path / "me.wav", Audio(np.zeros((1, 9), np.float32), 24_000)):
        with pytest.raises(InputError, match="no voice from a recording"):
            bark.voice(source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing to say"),
        (" \n\t", "nothing to say"),
        ("hello zebra", "cannot read zebra"),
        ("[[həlˈoʊ]]", "does not read phonemes"),
        ("hello " * 25, "a line of 25 tokens, where"),
    ],
)
def test_texts_that_cannot_be_said_are_refused(bark: BarkSpeaker, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        bark.check(text)
    with pytest.raises(InputError, match=message):
        bark.say([Line(text=text)])


def test_notes_are_sung_though_no_piece_knows_them(bark: BarkSpeaker) -> None:
    bark.check("♪ hello ♪")


@pytest.mark.parametrize("ask", [{"speed": 1.2}, {"duration_s": 2.0}])
def test_what_it_cannot_do_is_refused(bark: BarkSpeaker, ask: dict[str, float]) -> None:
    with pytest.raises(InputError, match="decides itself how fast"):
        bark.say([Line(text="hello", **ask)])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no voice of"):
        bark.say([Line(text="hello", voice="v2/en_speaker_1")])


def test_without_a_tokenizer_it_says_what_is_missing(
    pair: Barks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((pair.folder / name).read_bytes())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelError, match="no tokenizer") as caught:
        load_speaker(tmp_path, device="cpu")
    assert "vocab.txt" in str(caught.value)


@pytest.mark.skipif(not can_pack(), reason="torch packs weights on x86 only")
def test_int8_speaks_too_each_row_by_itself(pair: Barks) -> None:
    made = load_speaker(pair.folder, device="cpu", dtype="int8")
    both = made.say(LINES[:2])
    assert np.array_equal(made.say(LINES[:1])[0].samples, both[0].samples)


def test_number_types_that_there_are_not(pair: Barks) -> None:
    with pytest.raises(UsageError, match="unknown number type"):
        load_speaker(pair.folder, device="cpu", dtype="int4")


def test_the_published_files_are_all_that_is_needed(pair: Barks) -> None:
    names = {path.name for path in pair.folder.iterdir()}
    assert {"config.json", "generation_config.json", "vocab.txt"} <= names
    assert json.loads((pair.folder / "config.json").read_text())["model_type"] == "bark"
