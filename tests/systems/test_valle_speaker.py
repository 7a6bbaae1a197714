"""VALL-E X as a speaker: voices, phonemes, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from alm_cli.checkpoints.load import Loaded, load
from alm_cli.errors import InputError, UsageError
from alm_cli.lm.valle import ValleX
from alm_cli.systems import valle_speaker
from alm_cli.systems.codec import Codec
from alm_cli.systems.speaker import Line
from alm_cli.systems.valle_speaker import ValleSpeaker, ValleVoice, speaker
from alm_cli.text.espeak import has_espeak
from alm_cli.values import Audio, Tokens
from tests.lm.valles import saved
from tests.oracles import encodec_pair

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
HELLO = "[[həˈloʊ ðɛɹ]]"


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    """EnCodec as published, but narrow."""
    small = {"num_filters": 4, "hidden_size": 16, "codebook_dim": 16, "target_bandwidths": [6.0]}
    pair = encodec_pair(tmp_path_factory.mktemp("codec"), **small)
    return Codec(pair.ours, "encodec-24khz", "0" * 64, device=CPU)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load(saved(tmp_path_factory.mktemp("valle") / "vallex-checkpoint.pt"))


@pytest.fixture(scope="module")
def valle(loaded: Loaded, codec: Codec) -> ValleSpeaker:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(valle_speaker, "load_codec", lambda *_, **__: codec)
        return speaker(loaded, "vallex-checkpoint.pt", device=CPU)


def arrays(frames: int = 12) -> dict[str, Any]:
    """A voice as its own program saves it."""
    return {
        "audio_tokens": np.arange(frames * 8).reshape(1, frames, 8) * 7 % 1024,
        "text_tokens": np.arange(5, 15)[None],
        "lang_code": np.int32(2),
    }


@pytest.fixture
def voice(valle: ValleSpeaker, tmp_path: Path) -> ValleVoice:
    np.savez(tmp_path / "me.npz", **arrays())
    made = valle.voice(tmp_path / "me.npz")
    assert made is not None
    return made


def test_a_line_sounds_the_same_alone_repeated_in_a_batch_and_streamed(
    valle: ValleSpeaker, voice: ValleVoice
) -> None:
    lines = [
        Line(text=HELLO, seed=1),
        Line(text="[[aɪ]]", seed=2, voice=voice),
        Line(text="[[noʊ!]]", seed=3),
    ]
    together = valle.say(lines)
    for line, spoken in zip(lines, together, strict=True):
        assert np.array_equal(valle.say([line])[0].samples, spoken.samples)
        pieces = list(valle.stream(line))
        assert np.array_equal(np.concatenate([spoken.samples[:0], *pieces]), spoken.samples)
        assert isinstance(spoken.tokens, Tokens) and spoken.tokens.codebooks == 8
        assert len(spoken.samples) == 320 * spoken.tokens.frames
    torch.set_num_threads(2)
    (again,) = valle.say(lines[1:2])
    torch.set_num_threads(1)
    assert np.array_equal(again.samples, together[1].samples)


def test_seeds_voices_and_what_was_said_before_matter(
    valle: ValleSpeaker, voice: ValleVoice
) -> None:
    line = Line(text="[[noʊ]]", seed=4)
    (plain,) = valle.say([line])
    assert plain.tokens is not None
    others = [
        replace(line, seed=5),
        replace(line, voice=voice),
        replace(line, before=plain),
        replace(line, temperature=0.0),
        replace(line, top_k=2),
    ]
    for spoken in valle.say(others):
        assert not np.array_equal(spoken.samples, plain.samples)
    kept = valle.say([others[1], replace(others[1], before=plain)])
    assert np.array_equal(kept[0].samples, kept[1].samples), "a voice does not drift"


def test_phonemes_are_the_letters_of_the_published_tokenizer(valle: ValleSpeaker) -> None:
    """Their numbers in bpe_69.json; a stretch without an end gets a point."""
    letters = {"ə": 48, "ˈ": 62, "ɹ": 55, "_": 16, ".": 10, "!": 5, "ɫ": 52, "d": 20, "ʒ": 60}
    assert valle._phonemes("[[əˈɹ dʒ]]") == [letters[letter] for letter in "əˈɹ_dʒ."]
    assert valle._phonemes("[[ɜːl!]]") == [letters[letter] for letter in "əɹɫ!"]


def test_long_vowels_affricates_and_dark_l_are_spelled_as_in_training(valle: ValleSpeaker) -> None:
    pairs = {"ʤ": "dʒ", "uː": "u", "ɡoʊl": "goʊɫ", "hɛlp": "hɛɫp", "lɛt": "lɛt", "ɚ": "əɹ"}
    for theirs, ours in pairs.items():
        assert valle._phonemes(f"[[{theirs}]]") == valle._phonemes(f"[[{ours}]]")


@pytest.mark.skipif(not has_espeak(), reason="needs espeak-ng")
def test_english_text_becomes_phonemes(valle: ValleSpeaker) -> None:
    for text in ("Hello, the world is 25 years older!", "Which little bird of yours could sing?"):
        valle.check(text)
        assert len(valle._phonemes(text)) > len(text) // 2
    mixed = valle._phonemes("say [[həˈloʊ]] now")
    assert str(valle._phonemes("[[həˈloʊ.]]")[:-1])[1:-1] in str(mixed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing to say"),
        ("  ", "nothing to say"),
        ("[[...]]", "nothing to say"),
        ("[[ħaʕ]]", "has no phonemes ħ ʕ"),
    ],
)
def test_texts_that_cannot_be_said_are_refused(
    valle: ValleSpeaker, text: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        valle.check(text)


@pytest.mark.parametrize("ask", [{"speed": 0.8}, {"duration_s": 1.0}])
def test_what_it_cannot_do_is_refused(valle: ValleSpeaker, ask: dict[str, float]) -> None:
    with pytest.raises(InputError, match="decides itself how fast"):
        valle.say([Line(text=HELLO, **ask)])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no voice of"):
        valle.say([Line(text=HELLO, voice="somebody")])


def test_a_recording_is_a_voice_with_its_words(valle: ValleSpeaker, tmp_path: Path) -> None:
    wave = np.sin(np.arange(24_000) / 20).astype(np.float32) * 0.3
    soundfile.write(tmp_path / "me.wav", wave, 24_000)
    with pytest.raises(InputError, match="must know what is said"):
        valle.voice(tmp_path / "me.wav")
    (tmp_path / "me.txt").write_text(HELLO, encoding="utf-8")
    made = valle.voice(tmp_path / "me.wav")
    assert made is not None and made.codes.shape == (8, 75)
    assert made.phonemes.tolist() == valle._phonemes(HELLO)
    with pytest.raises(InputError, match="must know what is said"):
        valle.voice(Audio(wave[None], 24_000))
    soundfile.write(tmp_path / "me.wav", np.tile(wave, 16), 24_000)
    with pytest.raises(InputError, match="16.0 s"):
        valle.voice(tmp_path / "me.wav")


def test_trap_voices_number_their_languages_otherwise(valle: ValleSpeaker, tmp_path: Path) -> None:
    found = []
    for code in range(3):
        np.savez(tmp_path / "me.npz", **arrays() | {"lang_code": np.int32(code)})
        made = valle.voice(tmp_path / "me.npz")
        assert made is not None
        found.append(made.language)
    assert found == [1, 2, 0]  # Chinese, Japanese, English, where English comes first


@pytest.mark.parametrize(
    "change",
    [
        {"audio_tokens": np.zeros((1, 12, 7), np.int64)},
        {"audio_tokens": np.zeros((2, 12, 8), np.int64)},
        {"audio_tokens": np.full((1, 12, 8), 1024)},
        {"audio_tokens": np.zeros((1, 5000, 8), np.int64)},
        {"text_tokens": np.zeros((1, 0), np.int64)},
        {"text_tokens": np.array([[-1]])},
        {"text_tokens": np.array([[1.5]])},
        {"lang_code": np.int32(3)},
        {"lang_code": np.array([{}], object)},
    ],
)
def test_voices_of_something_else_are_refused(
    valle: ValleSpeaker, change: dict[str, Any], tmp_path: Path
) -> None:
    np.savez(tmp_path / "me.npz", **arrays() | change)
    with pytest.raises(InputError, match="me.npz"):
        valle.voice(tmp_path / "me.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04K\x01."])
def test_garbage_is_no_voice(valle: ValleSpeaker, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "me.npz").write_bytes(content)
    with pytest.raises(InputError, match="me.npz"):
        valle.voice(tmp_path / "me.npz")
    with pytest.raises(InputError, match="no such voice"):
        valle.voice(tmp_path / "nobody.npz")


def test_number_types_that_there_are_not(loaded: Loaded, codec: Codec) -> None:
    assert isinstance(loaded.model, ValleX)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(valle_speaker, "load_codec", lambda *_, **__: codec)
        with pytest.raises(UsageError, match="unknown number type"):
            speaker(loaded, "", device=CPU, dtype="int4")
