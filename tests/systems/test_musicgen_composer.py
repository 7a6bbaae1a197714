"""MusicGen as a composer: the laws that every composer keeps, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from alm_cli.errors import InputError, ModelError, UsageError
from alm_cli.music.score import Note, Score, Tags
from alm_cli.nn.packed import HalfLinear, Int8Linear, can_pack
from alm_cli.nn.rounded import RoundedEmbedding, RoundedLinear
from alm_cli.systems.composer import Music, Piece, load_composer
from alm_cli.systems.musicgen_composer import MusicGenComposer
from alm_cli.values import Audio, Tokens
from tests.lm.musicgens import Pair, musicgens

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore"),  # of transformers about its own arguments
]

TAGS = Tags(genre="pop", instruments=("piano",), bpm=120.0, tonic=0, mode="major")


@pytest.fixture(scope="module")
def mono(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return musicgens(tmp_path_factory.mktemp("mono"))


@pytest.fixture(scope="module")
def follower(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return musicgens(tmp_path_factory.mktemp("melody"), melody=True, stereo=True)


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Wide enough for packed products, with the decoder in half floats as published."""
    return musicgens(tmp_path_factory.mktemp("half"), wide=128, half=True)


def score(*pitches: int) -> Score:
    notes = tuple(Note(place / 4, pitch, 0.25, 0.8, "piano") for place, pitch in enumerate(pitches))
    return Score(notes, len(pitches) / 4, TAGS)


def drained(composer: MusicGenComposer, piece: Piece) -> tuple[list[Any], Music]:
    """The blocks of a stream, and what it returns."""
    blocks, stream = [], composer.stream(piece)
    while True:
        try:
            blocks.append(next(stream))
        except StopIteration as end:
            assert isinstance(end.value, Music)
            return blocks, end.value


PIECES = (
    Piece(prompt="calm piano", seconds=0.3, seed=1),
    Piece(prompt="fast drums in the night", seconds=0.71, seed=2),
    Piece(prompt="x", seconds=0.011, seed=3, temperature=0.5, top_k=20),
)


def test_a_piece_sounds_as_it_does_alone_repeated_and_in_a_batch(mono: Pair) -> None:
    together = mono.ours.compose(PIECES)
    for piece, music in zip(PIECES, together, strict=True):
        for alone in (mono.ours.compose([piece])[0], mono.ours.compose([piece, piece])[1]):
            assert np.array_equal(alone.samples, music.samples)


@pytest.mark.parametrize("stereo", [False, True])
def test_a_stream_gives_the_samples_of_the_whole(stereo: bool, mono: Pair, follower: Pair) -> None:
    composer = (follower if stereo else mono).ours
    piece = Piece(prompt="calm piano", seconds=2.03, seed=1)
    blocks, music = drained(composer, piece)
    whole = composer.compose([piece])[0]
    assert len(blocks) > 2
    assert np.array_equal(np.concatenate(blocks, 1), whole.samples)
    assert np.array_equal(music.samples, whole.samples)
    assert whole.samples.shape == (1 + stereo, round(2.03 * 32_000))
    assert whole.samples.dtype == np.float32
    assert music.tokens is not None and whole.tokens is not None
    assert np.array_equal(music.tokens.codes, whole.tokens.codes)


@pytest.mark.parametrize("packed", [False, True])
def test_threads_change_nothing(packed: bool, mono: Pair, half: Pair) -> None:
    composer, piece = (half if packed else mono).ours, PIECES[0]
    made = []
    for threads in (2, 1):
        torch.set_num_threads(threads)
        made.append(composer.compose([piece])[0].samples)
    assert np.array_equal(*made)


@pytest.mark.parametrize("seconds", [1 / 32_000, 0.0203, 0.5, 1.00001])
def test_samples_are_exactly_as_many_as_asked_for(seconds: float, mono: Pair) -> None:
    music = mono.ours.compose([Piece(prompt="x", seconds=seconds)])[0]
    assert music.samples.shape == (1, round(seconds * 32_000))
    assert music.tokens is not None
    assert music.tokens.frames == -(-round(seconds * 32_000) // 640)
    assert music.tokens.origin.seconds == round(seconds * 32_000) / 32_000


def test_prompt_seed_and_guidance_matter(mono: Pair) -> None:
    usual = Piece(prompt="calm piano", seconds=0.6)
    others = (
        replace(usual, seed=1),
        replace(usual, prompt="loud drums"),
        replace(usual, guidance=1.0),
        replace(usual, guidance=0.0),
        replace(usual, temperature=0.5),
        replace(usual, top_p=0.5),
    )
    made = [music.samples.tobytes() for music in mono.ours.compose([usual, *others])]
    assert len(set(made)) == len(made)


def test_the_tokens_are_those_that_sound(mono: Pair) -> None:
    music = mono.ours.compose([PIECES[0]])[0]
    assert music.tokens is not None
    audio = mono.ours._codecs.encoder.decode(music.tokens)
    assert audio.samples.shape == music.samples.shape
    np.testing.assert_allclose(audio.samples, music.samples, atol=1e-4)
    assert music.tokens.origin.notes["text"] == "calm piano"


def test_what_goes_on_from_a_recording_follows_it(mono: Pair, follower: Pair) -> None:
    generator = np.random.default_rng(0)
    clip = Audio((generator.standard_normal((2, 24_000)) * 0.1).astype(np.float32), 24_000)
    for composer in (mono.ours, follower.ours):
        usual = Piece(prompt="x", seconds=0.5)
        plain, after = composer.compose([usual, replace(usual, past=clip)])
        assert plain.samples.shape == after.samples.shape
        assert not np.array_equal(plain.samples, after.samples)
        # From its tokens it goes on just so.
        codec = composer._codecs.encoder
        kind: Any = "dual" if composer.channels == 2 else "mono"
        tokens = codec.encode(clip, channels=kind)
        assert np.array_equal(
            composer.compose([replace(usual, past=tokens)])[0].samples, after.samples
        )


def test_what_follows_a_recording_begins_where_that_ends(mono: Pair) -> None:
    first = mono.ours.compose([Piece(prompt="x", seconds=0.6, seed=5)])[0]
    assert first.tokens is not None
    after = mono.ours.compose([Piece(prompt="x", seconds=0.4, past=first.tokens)])[0]
    assert after.tokens is not None
    both = Tokens(
        np.concatenate([first.tokens.codes, after.tokens.codes], 2),
        replace(first.tokens.origin, source_length=32_000),
    )
    whole = mono.ours._codecs.encoder.decode(both).samples
    np.testing.assert_allclose(after.samples, whole[:, 19_200:], atol=1e-4)


def test_of_what_is_long_past_the_end_is_gone_on_from(mono: Pair) -> None:
    # The last 12 s.
    codes = np.random.default_rng(0).integers(0, 512, (1, 4, 700)).astype(np.int32)
    music = mono.ours.compose([PIECES[0]])[0]
    assert music.tokens is not None
    asked = [
        Piece(prompt="x", seconds=0.1, past=Tokens(some, music.tokens.origin))
        for some in (codes, codes[:, :, -600:])
    ]
    first, second = mono.ours.compose(asked)
    assert np.array_equal(first.samples, second.samples)


def test_notes_are_followed(follower: Pair) -> None:
    usual = Piece(prompt="x", seconds=0.4)
    melodies = (None, score(60, 64, 67), score(62, 65, 69))
    made = [
        follower.ours.compose([replace(usual, melody=melody)])[0].samples.tobytes()
        for melody in melodies
    ]
    assert len(set(made)) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"loop": True}, "loops"),
        ({"prompt": ""}, "empty"),
        ({"prompt": "  "}, "empty"),
        ({"prompt": "piano " * 600}, "tokens"),
        ({"melody": score(60)}, "melody"),
        ({"seconds": 1e-6}, "sample"),
        ({"past": Audio(np.zeros((1, 0), np.float32), 32_000)}, "go on"),
    ],
)
def test_what_it_cannot_do_is_refused(change: dict[str, Any], said: str, mono: Pair) -> None:
    piece = replace(Piece(prompt="x", seconds=0.1), **change)
    for ask in (mono.ours.check, mono.ours.stream, lambda one: mono.ours.compose([one])):
        with pytest.raises(InputError, match=said):
            ask(piece)


def test_tokens_of_others_are_refused(mono: Pair) -> None:
    made = mono.ours.compose([PIECES[0]])[0].tokens
    assert made is not None
    bad = (
        Tokens(made.codes, replace(made.origin, codec="mimi")),
        Tokens(made.codes[:, :3], made.origin),
        Tokens(made.codes[:, :, :0], made.origin),
        Tokens(np.repeat(made.codes, 2, 0), made.origin),
        Tokens(made.codes + 512, made.origin),
        Tokens(made.codes - 600, made.origin),
    )
    for tokens in bad:
        with pytest.raises(InputError):
            mono.ours.check(Piece(prompt="x", past=tokens))


def test_numbers_out_of_their_range_are_refused(mono: Pair) -> None:
    for wrong in ({"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}):
        with pytest.raises(UsageError):
            mono.ours.check(Piece(prompt="x", **wrong))  # type: ignore[arg-type]


def test_a_melody_without_anything_is_refused(follower: Pair) -> None:
    drums = Score((Note(0, 36, 0.1, 1, "drums"),), 1.0, TAGS)
    for melody in (drums, Audio(np.zeros((1, 0), np.float32), 32_000)):
        with pytest.raises(InputError, match="melody"):
            follower.ours.compose([Piece(prompt="x", seconds=0.1, melody=melody)])


def test_what_has_no_effect_is_told(mono: Pair) -> None:
    assert mono.ours.check(Piece(prompt="calm piano")) == ()
    (told,) = mono.ours.check(Piece(prompt="calm ☃ piano"))
    assert "☃" in told


@pytest.mark.skipif(not can_pack(), reason="needs an x86 processor")
def test_half_floats_are_packed_and_change_nothing(half: Pair) -> None:
    blocks = half.ours.model.decoder.blocks
    assert isinstance(blocks[0].mlp.up, HalfLinear)  # type: ignore[union-attr]
    theirs = half.their_codes("calm piano", 40, 3, top_k=250)
    ours = half.ours.compose([Piece(prompt="calm piano", seconds=0.8, seed=3)])[0].tokens
    assert ours is not None and np.array_equal(ours.codes, theirs.numpy())


@pytest.mark.skipif(not can_pack(), reason="needs an x86 processor")
def test_int8_is_near_and_keeps_the_laws(half: Pair) -> None:
    rounded = load_composer(half.folder, device="cpu", dtype="int8")
    assert isinstance(rounded, MusicGenComposer)
    decoder, text = rounded.model.decoder, rounded.model.text
    assert isinstance(decoder.blocks[0].mlp.up, Int8Linear)  # type: ignore[union-attr]
    assert isinstance(text.embedding, RoundedEmbedding)
    assert any(isinstance(part, RoundedLinear) for part in text.modules())
    together = rounded.compose(PIECES)
    alone = rounded.compose([PIECES[1]])[0]
    assert np.array_equal(alone.samples, together[1].samples)
    codes = torch.randint(512, (1, 4, 20))
    exact, near = (c.logits(PIECES[0], codes) for c in (half.ours, rounded))
    first, second = exact.log_softmax(-1), near.log_softmax(-1)
    assert 0 < float((first.exp() * (first - second)).sum(-1).mean()) < 0.05


def test_the_text_stays_in_float32(mono: Pair) -> None:
    # Trap 7: T5 leaves the range of half floats.
    narrow = load_composer(mono.folder, device="cpu", dtype="bfloat16")
    assert isinstance(narrow, MusicGenComposer)
    assert narrow.model.decoder.norm.weight.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in narrow.model.text.parameters()} == {torch.float32}
    assert narrow.compose([PIECES[0]])[0].samples.shape == (1, 9600)


def test_files_that_are_missing_or_do_not_fit_are_told(mono: Pair, tmp_path: Path) -> None:
    weights = load_file(mono.folder / "model.safetensors")
    config = (mono.folder / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="tokenizer"):
        load_composer(tmp_path, device="cpu")
    (tmp_path / "tokenizer.json").write_text((mono.folder / "tokenizer.json").read_text())
    kept = {name: x for name, x in weights.items() if not name.startswith("audio_encoder")}
    save_file(kept, tmp_path / "model.safetensors")
    with pytest.raises(ModelError):
        load_composer(tmp_path, device="cpu")
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(config.replace('"vocab_size": 512', '"vocab_size": 500'))
    with pytest.raises(ModelError):
        load_composer(tmp_path, device="cpu")
