"""The network of alm-music: what of a score its frames are told."""

from __future__ import annotations

import pytest
import torch

from alm_cli.errors import ModelError
from alm_cli.lm.alm_music import AlmMusic, AlmMusicConfig
from alm_cli.music.score import DRUMS, NAMES, Note

CONFIG = AlmMusicConfig(
    codebooks=3, vocabulary=17, latent=8, note_width=6, width=16, depth=2, heads=2, window=4
)
FRAME_S = 0.04


@pytest.fixture(scope="module")
def model() -> AlmMusic:
    torch.manual_seed(0)
    return AlmMusic(CONFIG).eval().requires_grad_(False)


def note(start: float, pitch: int = 60, length: float = 0.2, name: str = "piano") -> Note:
    return Note(start, pitch, length, 0.7, name)


def test_a_note_is_told_to_the_frames_around_it_only(model: AlmMusic) -> None:
    others = [note(0.0, 40), note(3.0, 72)]
    one = model.condition(model.events([*others, note(1.0)]), 0, 100)
    two = model.condition(model.events(others), 0, 100)
    changed = ((one - two).abs().amax(1) > 1e-6).nonzero()[:, 0]
    # It sounds from unit 100 to 120 and fades for 80 more; frame f has units 4 f - 6 to 4 f - 3.
    assert changed[0] == (100 + 3) // 4 - 2 + 1 or changed[0] == (100 + 3) // 4 - 2
    assert changed[-1] <= (200 + 6) // 4 + 2


def test_any_stretch_is_told_as_in_the_whole(model: AlmMusic) -> None:
    notes = [
        note(0.31 * n, 30 + 5 * n % 60, 0.1 + 0.07 * (n % 9), NAMES[n % 13]) for n in range(20)
    ]
    events = model.events(notes)
    whole = model.condition(events, 0, 160)
    for first, last in ((0, 1), (1, 40), (40, 41), (100, 160)):
        part = model.condition(events, first, last)
        assert torch.allclose(part, whole[first:last], atol=1e-6)


def test_every_sound_has_a_vector_of_its_own(model: AlmMusic) -> None:
    notes = [note(0.0, pitch, name=name) for name in NAMES[:-1] for pitch in range(24, 108)]
    notes += [note(0.0, key, name=DRUMS) for key in range(35, 82)]
    which = model.events(notes).which
    assert sorted(which.tolist()) == list(range(model.notes.num_embeddings))


def test_what_is_out_of_range_comes_in_by_octaves(model: AlmMusic) -> None:
    found = model.events([note(0, 12), note(0, 24), note(0, 119), note(0, 107)]).which
    assert found[0] == found[1]
    assert found[2] == found[3]


def test_louder_notes_and_no_notes(model: AlmMusic) -> None:
    silence = model.condition(model.events([]), 0, 20)
    assert torch.equal(silence[3], silence[12])
    one = model.condition(model.events([note(0.2)]), 0, 20)
    assert not torch.allclose(one, silence, atol=1e-3)


def test_the_codebooks_are_the_codecs(model: AlmMusic) -> None:
    books = [torch.randn(17, 8) * (3 - book) for book in range(5)]
    model.know(books)
    codes = torch.randint(0, 17, (1, 3, 6))
    wanted = sum(books[book][codes[0, book]] for book in range(3))
    assert torch.allclose(model.latents(codes)[0], torch.as_tensor(wanted), atol=1e-5)
    assert "vectors" not in model.state_dict()


@pytest.mark.parametrize("raw", [{"width": 17}, {"heads": 3}, {"depth": -1}, {"unheard_of": 1}])
def test_configs_that_make_no_sense(raw: dict[str, int]) -> None:
    with pytest.raises(ModelError):
        AlmMusicConfig.from_hub(raw)
