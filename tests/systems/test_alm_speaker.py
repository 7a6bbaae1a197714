"""alm-tts as a speaker: the same line sounds the same, whatever is around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alm_cli.checkpoints.load import Loaded
from alm_cli.errors import InputError, UsageError
from alm_cli.files.tokens import write_tokens
from alm_cli.lm.alm_tts import AlmTts, AlmTtsConfig
from alm_cli.systems.alm_speaker import AlmSpeaker, speaker
from alm_cli.systems.codec import Codec, load_codec
from alm_cli.systems.speaker import Line, Spoken
from alm_cli.values import Audio, Tokens

CONFIG = AlmTtsConfig(
    codebooks=4, text_width=16, text_depth=1, text_heads=2, voice_width=8, width=16, depth=2,
    heads=2, voices=("alto", "bass"),
)  # fmt: skip
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
    return load_codec("alm-codec", device="cpu")


@pytest.fixture(scope="module")
def ours(codec: Codec) -> AlmSpeaker:
    torch.manual_seed(0)
    model = AlmTts(CONFIG).eval().requires_grad_(False)
    model.named.normal_()
    model.vectors.normal_()
    # About 60 ms a sound, and weights that half floats hold, as in the file that ships.
    model.reader.length[2].bias.fill_(1.8)
    model.load_state_dict({name: x.half().float() for name, x in model.state_dict().items()})
    return AlmSpeaker(Loaded(model, CONFIG, "0" * 64, None, "alm-tts"), codec, CPU)


def equal(one: Spoken, two: Spoken) -> bool:
    assert isinstance(one.tokens, Tokens)
    assert isinstance(two.tokens, Tokens)
    codes = np.array_equal(one.tokens.codes, two.tokens.codes)
    return codes and np.array_equal(one.samples, two.samples) and one.words == two.words


LINES = [
    Line(text="Hello there, my friend.", seed=1),
    Line(text="Yes.", seed=2, speed=1.5),
    Line(text="Is it so, after all?", seed=1, temperature=1.0, top_k=0),
]


def test_neighbours_and_repeats_change_nothing(ours: AlmSpeaker) -> None:
    together = ours.say(LINES)
    for line, spoken in zip(LINES, together, strict=True):
        assert equal(ours.say([line])[0], spoken)


def test_a_stream_is_the_whole(ours: AlmSpeaker) -> None:
    for line in LINES:
        whole, stream, blocks = ours.say([line])[0], ours.stream(line), []
        try:
            while True:
                blocks.append(next(stream))
        except StopIteration as end:
            assert equal(end.value, whole), "in the end a stream tells what else is known"
        assert np.array_equal(np.concatenate(blocks), whole.samples)
        assert len(blocks) > 1 or len(whole.samples) < 9600


def test_one_thread_or_two(ours: AlmSpeaker) -> None:
    one = ours.say(LINES[1:2])[0]
    torch.set_num_threads(2)
    assert equal(ours.say(LINES[1:2])[0], one)


def test_what_is_decoded_are_its_tokens(ours: AlmSpeaker, codec: Codec) -> None:
    spoken = ours.say(LINES[:1])[0]
    assert isinstance(spoken.tokens, Tokens)
    assert spoken.tokens.codebooks == CONFIG.codebooks
    again = codec.decode(spoken.tokens).samples[0]
    np.testing.assert_allclose(again, spoken.samples, atol=1e-6)


def test_seeds_and_voices_matter(ours: AlmSpeaker) -> None:
    line = LINES[0]
    first, other = ours.say([line, replace(line, seed=9)])
    assert not np.array_equal(first.samples, other.samples)
    bass = ours.say([replace(line, voice=ours.voice("bass"))])[0]
    assert not np.array_equal(first.samples[:2000], bass.samples[:2000])
    alto = ours.say([replace(line, voice=ours.voice("alto"))])[0]
    assert equal(first, alto), "the first voice is its own choice"


def test_words_are_timed(ours: AlmSpeaker) -> None:
    spoken = ours.say(LINES[:1])[0]
    assert [word.text for word in spoken.words] == [" Hello", " there", " my", " friend"]
    times = [time for word in spoken.words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] < len(spoken.samples) / 24_000


@pytest.mark.parametrize("seconds", [0.4, 1.0, 1.23456, 3.0])
def test_a_duration_is_kept_to_the_sample(ours: AlmSpeaker, seconds: float) -> None:
    line = Line(text="Hello there.", duration_s=seconds)
    spoken = ours.say([line])[0]
    assert len(spoken.samples) == round(seconds * 24_000)
    assert len(np.concatenate(list(ours.stream(line)))) == len(spoken.samples)
    assert spoken.words[-1].end_s <= seconds


def test_speed_changes_the_length(ours: AlmSpeaker) -> None:
    line = Line(text="This is a somewhat longer sentence, so that rounding hardly matters.")
    normal, fast = ours.say([line, replace(line, speed=1.6)])
    assert len(fast.samples) / len(normal.samples) == pytest.approx(1 / 1.6, rel=0.03)


def test_what_came_before_matters_and_stays_independent(ours: AlmSpeaker) -> None:
    before = ours.say(LINES[:1])[0]
    line = Line(text="And more.", seed=4)
    after = replace(line, before=before)
    plain, continued = ours.say([line, after])
    assert not np.array_equal(plain.samples, continued.samples)
    assert equal(ours.say([after])[0], continued)
    assert np.array_equal(np.concatenate(list(ours.stream(after))), continued.samples)
    assert len(plain.samples) == len(continued.samples), "it is planned alike"


def test_a_voice_from_a_recording_or_tokens(ours: AlmSpeaker, codec: Codec, tmp_path: Path) -> None:
    tone = np.sin(np.arange(36_000) / 9).astype(np.float32)[None] / 3
    voice = ours.voice(Audio(tone, 24_000))
    assert isinstance(voice, torch.Tensor)
    assert voice.shape == (1, CONFIG.voice_width)
    path = tmp_path / "voice.safetensors"
    loud = np.sqrt(np.mean(tone.astype(np.float64) ** 2))
    write_tokens(path, codec.encode(Audio((tone * (0.08 / loud)).astype(np.float32), 24_000)))
    torch.testing.assert_close(ours.voice(path), voice, atol=1e-5, rtol=0)


def test_bad_voices_are_explained(ours: AlmSpeaker, codec: Codec, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such voice") as caught:
        ours.voice("nobody")
    assert "alto, bass" in str(caught.value)
    with pytest.raises(InputError, match="silence"):
        ours.voice(Audio(np.zeros((1, 24_000), np.float32), 24_000))
    with pytest.raises(InputError, match="half a second"):
        ours.voice(Audio(np.ones((1, 2400), np.float32), 24_000))
    few = tmp_path / "few.safetensors"
    write_tokens(few, codec.encode(Audio(np.ones((1, 9600), np.float32), 24_000), codebooks=2))
    with pytest.raises(InputError, match="2 codebooks"):
        ours.voice(few)


def test_what_cannot_be_said_is_refused(ours: AlmSpeaker) -> None:
    for text in ("", "Привет"):
        with pytest.raises(InputError):
            ours.check(text)
        with pytest.raises(InputError):
            ours.say([Line(text=text)])
    with pytest.raises(InputError, match="do not go into"):
        ours.say([Line(text="Hello there.", duration_s=0.05)])


def test_other_number_types_are_refused(ours: AlmSpeaker) -> None:
    loaded = Loaded(ours.model, CONFIG, "", None, "alm-tts")
    with pytest.raises(UsageError, match="int8"):
        speaker(loaded, "alm-tts", device=CPU, dtype="int8")
