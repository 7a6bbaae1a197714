"""SpeechT5 speaks lines: as `transformers`, alike in any company; what it cannot it refuses."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from alm_cli.errors import InputError, ModelError
from alm_cli.systems.speaker import Line, load_speaker
from alm_cli.systems.speecht5_speaker import SpeechT5Speaker
from alm_cli.values import Audio
from tests.speech_models import SPEECHT5_TINY, write_speecht5

TEXT = "Ha"
PIECES = ("<s>", "<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwHI,.")
VOICE = np.linspace(-1, 1, SPEECHT5_TINY["speaker_embedding_dim"], dtype=np.float32)


def sentencepiece(pieces: Sequence[str]) -> bytes:
    """A model of characters, as SentencePiece writes it: pieces, then how it was trained."""

    def field(number: int, value: bytes) -> bytes:
        return bytes([number << 3 | 2, len(value)]) + value

    kinds = {"<s>": 3, "<pad>": 3, "</s>": 3, "<unk>": 2}
    made = b""
    for place, piece in enumerate(pieces):
        score = struct.pack("<Bf", 2 << 3 | 5, -float(place))
        kind = bytes([3 << 3, kinds.get(piece, 1)])
        made += field(1, field(1, piece.encode()) + score + kind)
    trained = bytes([3 << 3, 4]) + bytes([0x80 | (40 << 3 & 127), 40 >> 4, 3])
    return made + field(2, trained)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("speecht5") / "own"


@pytest.fixture(scope="module")
def theirs(folder: Path) -> tuple[Any, Any]:
    pair = write_speecht5(folder)
    (folder / "spm_char.model").write_bytes(sentencepiece(PIECES))
    np.save(folder / "voice.npy", VOICE[None])
    return pair


@pytest.fixture(scope="module")
def ours(folder: Path, theirs: Any) -> SpeechT5Speaker:  # noqa: ARG001
    speaker = load_speaker(folder, device="cpu")
    assert isinstance(speaker, SpeechT5Speaker)
    return speaker


@pytest.fixture(scope="module")
def voice(folder: Path, ours: SpeechT5Speaker) -> Any:
    return ours.voice(folder / "voice.npy")


@pytest.mark.oracle
def test_a_seed_says_what_theirs_says(
    theirs: tuple[Any, Any], ours: SpeechT5Speaker, voice: Any
) -> None:
    model, vocoder = theirs
    for text, seed in ((TEXT, 1), ("a", 2)):
        ids = [PIECES.index(piece) for piece in f"▁{text.replace(' ', '▁')}"] + [2]
        torch.manual_seed(seed)
        vector = torch.from_numpy(VOICE)[None]
        expected = model.generate_speech(torch.tensor([ids]), vector, vocoder=vocoder).numpy()
        (said,) = ours.say([Line(text=text, seed=seed, voice=voice)])
        assert len(said.samples) == len(expected)
        np.testing.assert_allclose(said.samples, expected, atol=1e-4)
    assert said.words == () and said.tokens is None


def test_a_line_sounds_the_same_alone_again_in_company_and_streamed(
    ours: SpeechT5Speaker, voice: Any
) -> None:
    line = Line(text=TEXT, seed=3, voice=voice)
    (alone,) = ours.say([line])
    beside = [Line(text="Hi a", seed=8, voice=voice), line, Line(text="b", voice=voice)]
    streamed = list(ours.stream(line))
    assert len(streamed) > 1
    others = [ours.say([line])[0].samples, ours.say(beside)[1].samples, np.concatenate(streamed)]
    assert alone.samples.dtype == np.float32
    for other in others:
        assert np.array_equal(other, alone.samples)


def test_another_number_of_threads_changes_the_last_bits_only(
    ours: SpeechT5Speaker, voice: Any
) -> None:
    line = Line(text=TEXT, seed=3, voice=voice)
    (one,) = ours.say([line])
    before = torch.get_num_threads()
    torch.set_num_threads(3 - min(before, 2))
    (two,) = ours.say([line])
    torch.set_num_threads(before)
    # Sums of these few and odd channels are split by thread in the library.
    np.testing.assert_allclose(two.samples, one.samples, atol=1e-5)


def test_seeds_matter(ours: SpeechT5Speaker, voice: Any) -> None:
    one, two = ours.say([Line(text=TEXT, seed=seed, voice=voice) for seed in (1, 2)])
    assert not np.array_equal(one.samples[:99], two.samples[:99])


@pytest.mark.parametrize(
    "asked",
    [
        {"speed": 2.0},
        {"duration_s": 1.0},
        {"temperature": 0.5},
        {"top_k": 3},
        {"top_p": 0.5},
        {"text": "[[həlˈoʊ]]"},
        {"text": " "},
        {"text": "a 7"},
        {"text": "\N{DOG FACE}"},
        {"text": "a" * 99},
        {"voice": None},
        {"voice": 3},
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused(
    ours: SpeechT5Speaker, voice: Any, asked: dict[str, Any]
) -> None:
    with pytest.raises(InputError):
        ours.stream(Line(**({"text": TEXT, "voice": voice} | asked)))


def test_what_cannot_be_said_is_named(ours: SpeechT5Speaker) -> None:
    ours.check("a dog; a dog")  # punctuation that it does not know is left out
    with pytest.raises(InputError, match="7"):
        ours.check("a 7")


def test_voices_are_files_of_numbers(ours: SpeechT5Speaker, voice: Any, tmp_path: Path) -> None:
    save_file({"x": VOICE}, tmp_path / "v.safetensors")
    assert torch.equal(ours.voice(str(tmp_path / "v.safetensors")).values, voice.values)
    save_file({"x": VOICE, "y": VOICE}, tmp_path / "two.safetensors")
    np.save(tmp_path / "short.npy", VOICE[1:])
    np.save(tmp_path / "none.npy", VOICE * np.nan)
    np.save(tmp_path / "text.npy", np.array(["a"] * 6))
    np.save(tmp_path / "pickle.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "noise.npy").write_bytes(b"noise")
    (tmp_path / "noise.safetensors").write_bytes(b"noise")
    for wrong in sorted(tmp_path.iterdir()):
        if wrong.name != "v.safetensors":
            with pytest.raises(InputError):
                ours.voice(wrong)
    for source in (None, "someone", Audio(np.zeros((1, 9), np.float32), 16_000)):
        with pytest.raises(InputError, match=r"|x-vector"):
            ours.voice(source)


def test_without_a_tokenizer_or_a_vocoder_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALM_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    write_speecht5(tmp_path / "m")
    with pytest.raises(ModelError, match=r"spm_char\.model"):
        load_speaker(tmp_path / "m", device="cpu")
    (tmp_path / "m" / "spm_char.model").write_bytes(sentencepiece([*PIECES, *"ABCDEFG"]))
    with pytest.raises(ModelError, match="more tokens"):
        load_speaker(tmp_path / "m", device="cpu")
    (tmp_path / "m" / "spm_char.model").write_bytes(sentencepiece(PIECES))
    (tmp_path / "m" / "speecht5_hifigan").rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="speecht5_hifigan"):
        load_speaker(tmp_path / "m", device="cpu")
