"""alm-music as a composer: the same piece sounds the same, whatever is around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from alm_cli.checkpoints.load import Loaded
from alm_cli.errors import InputError, UsageError
from alm_cli.lm.alm_music import AlmMusic, AlmMusicConfig
from alm_cli.music.score import Note, Score, Tags
from alm_cli.systems.alm_composer import AlmComposer, composer
from alm_cli.systems.codec import Codec, load_codec
from alm_cli.systems.composer import Music, Piece
from alm_cli.values import Audio, Tokens

CONFIG = AlmMusicConfig(note_width=8, width=16, depth=2, heads=2, window=12)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Steps of a small network are over before a second thread has woken up."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return load_codec("alm-codec-music", device="cpu")


@pytest.fixture(scope="module")
def ours(codec: Codec) -> AlmComposer:
    torch.manual_seed(0)
    model = AlmMusic(CONFIG).eval().requires_grad_(False)
    model.load_state_dict({name: x.half().float() for name, x in model.state_dict().items()})
    return AlmComposer(Loaded(model, CONFIG, "0" * 64, None, "alm-music"), codec, CPU)


PIECES = [
    Piece(prompt="calm piano in C minor, 70 bpm", seconds=1.3, seed=1),
    Piece(prompt="fast rock", seconds=0.7, seed=2, temperature=1.0, top_k=0),
    Piece(prompt="", seconds=2.0, seed=1),
]


def equal(one: Music, two: Music) -> bool:
    return np.array_equal(one.samples, two.samples) and one.score == two.score


def test_neighbours_and_repeats_change_nothing(ours: AlmComposer) -> None:
    together = ours.compose(PIECES)
    for piece, music in zip(PIECES, together, strict=True):
        assert music.samples.shape == (1, round(piece.seconds * ours.rate))
        assert equal(ours.compose([piece])[0], music)


def test_a_stream_is_the_whole(ours: AlmComposer) -> None:
    for piece in (*PIECES, replace(PIECES[0], loop=True)):
        stream, blocks = ours.stream(piece), []
        while True:
            try:
                blocks.append(next(stream))
            except StopIteration as end:
                assert equal(end.value, ours.compose([piece])[0])
                break
        assert np.array_equal(np.concatenate(blocks, 1), ours.compose([piece])[0].samples)


def test_threads_change_nothing(ours: AlmComposer) -> None:
    alone = ours.compose(PIECES[:1])[0]
    torch.set_num_threads(2)
    assert equal(ours.compose(PIECES[:1])[0], alone)


def test_seeds_and_prompts_matter(ours: AlmComposer) -> None:
    first = ours.compose(PIECES[:1])[0]
    for other in (replace(PIECES[0], seed=3), replace(PIECES[0], prompt="calm organ")):
        assert not np.array_equal(ours.compose([other])[0].samples, first.samples)


def test_tokens_sound_the_same(ours: AlmComposer, codec: Codec) -> None:
    music = ours.compose(PIECES[:1])[0]
    assert isinstance(music.tokens, Tokens)
    assert np.array_equal(codec.decode(music.tokens).samples, music.samples)


def test_a_long_piece_takes_its_conditions_by_blocks(ours: AlmComposer) -> None:
    model = ours.model
    notes = ours.compose([replace(PIECES[1], seconds=3.0)])[0].score
    assert isinstance(notes, Score)
    events = model.events(notes.notes)
    whole = model.condition(events, 0, 75)
    parts = torch.cat([model.condition(events, a, b) for a, b in ((0, 10), (10, 40), (40, 75))])
    assert torch.allclose(parts, whole, atol=1e-5)


def test_a_loop_is_whole_bars_and_its_ends_meet(ours: AlmComposer) -> None:
    music = ours.compose([Piece(prompt="120 bpm 4/4 rock", seconds=3.5, seed=4, loop=True)])[0]
    assert music.samples.shape == (1, 4 * ours.rate)
    assert music.tokens is None
    wave = music.samples[0].astype(np.float64)
    steps = np.abs(np.diff(wave))
    assert abs(wave[0] - wave[-1]) <= 3 * steps.max()


def test_what_was_before_is_gone_on_from(ours: AlmComposer) -> None:
    past = ours.compose([replace(PIECES[1], seconds=3.0)])[0]
    assert isinstance(past.tokens, Tokens)
    piece = Piece(prompt="rock", seconds=1.0, seed=5)
    plain = ours.compose([piece])[0]
    by_codes = ours.compose([replace(piece, past=past.tokens)])[0]
    by_sound = ours.compose([replace(piece, past=Audio(past.samples, ours.rate))])[0]
    assert not np.array_equal(by_codes.samples, plain.samples)
    assert not np.array_equal(by_sound.samples, plain.samples)
    wrong = replace(past.tokens.origin, codec="alm-codec")
    with pytest.raises(InputError, match="tokens of alm-codec"):
        ours.compose([replace(piece, past=Tokens(past.tokens.codes, wrong))])


def test_a_melody_is_followed(ours: AlmComposer) -> None:
    notes = tuple(Note(0.5 * n, 60 + 2 * n, 0.5, 0.8, "flute") for n in range(4))
    score = Score(notes, 2.0, Tags("unknown", ("flute",), 120.0, 0, "major"))
    music = ours.compose([Piece(prompt="jazz flute", seconds=4.0, seed=1, melody=score)])[0]
    assert music.score is not None
    line = [note for note in music.score.notes if note.instrument == "flute"]
    # Two seconds are a bar: it comes again.
    assert {round(note.start, 3) for note in line} >= {0.5 * n for n in range(8)}
    with pytest.raises(InputError, match="melody"):
        silence = Audio(np.zeros((1, 16_000), np.float32), 16_000)
        ours.compose([Piece(prompt="jazz", melody=silence)])


def test_what_it_cannot_do_is_said(ours: AlmComposer) -> None:
    with pytest.raises(InputError, match="guidance"):
        ours.check(Piece(prompt="jazz", guidance=3.0))
    with pytest.raises(InputError, match="loop"):
        ours.check(Piece(prompt="jazz", loop=True, past=Audio(np.zeros((1, 9), np.float32), 9)))
    assert any("blorp" in remark for remark in ours.check(Piece(prompt="jazz blorp")))
    loaded = Loaded(ours.model, CONFIG, "0" * 64, None, "alm-music")
    with pytest.raises(UsageError, match="bfloat16"):
        composer(loaded, "x", device=CPU, dtype="bfloat16")
