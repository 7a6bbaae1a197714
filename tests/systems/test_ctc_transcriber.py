"""CTC models as recognisers: whatever the length and the blocks, the same words at their times."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_cli.checkpoints.load import Loaded
from alm_cli.encoders.alm_asr import AlmAsr, AlmAsrConfig
from alm_cli.errors import InputError, ModelError, UsageError
from alm_cli.systems.activity import Activity
from alm_cli.systems.align import load_aligner
from alm_cli.systems.ctc_transcriber import CtcTranscriber, ctc_transcriber, sentence
from alm_cli.systems.emissions import FILE, LIVE, Emissions, Windows
from alm_cli.systems.transcriber import TranscribeAsk, load_transcriber
from alm_cli.values import Audio, Segment
from tests.encoders.test_ctc_heads import published
from tests.encoders.test_hubert import recording
from tests.systems.tones import (
    FRAME_S,
    LETTERS,
    RATE,
    Counted,
    Samples,
    Tones,
    blocks,
    speak,
    tones,
)

ASK = TranscribeAsk()
TEXT = "the cat sat_________here it is"


def written(
    samples: Samples,
    *,
    size: int = 16_000,
    ask: TranscribeAsk = ASK,
    heard: Emissions | None = None,
) -> list[Segment]:
    """The segments of a recording."""
    return list(CtcTranscriber(heard or tones()).segments(blocks(samples, size), ask))


def long_text(words: int, seed: int = 0) -> str:
    """Words of one to nine letters; after each a pause of up to a second."""
    generator = np.random.default_rng(seed)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    return "".join(
        "".join(generator.choice(letters, generator.integers(1, 10)))
        + " "
        + "_" * int(generator.choice([0, 0, 0, 1, 2, 4, 9]))
        for _ in range(words)
    )


def test_words_are_written_with_their_times_and_pauses_part_segments() -> None:
    samples = speak(TEXT)
    first, second = written(samples)
    assert (first.text, second.text) == (" The cat sat.", " Here it is.")
    assert [word.text for word in first.words] == [" The", " cat", " sat."]
    assert first.language == "en" and first.avg_logprob > -0.05
    assert [LETTERS[token] for token in second.tokens] == list("hereitis")
    assert first.start_s == first.words[0].start_s and first.end_s == first.words[-1].end_s
    # "cat" begins at the 13th frame: a frame of silence, and four letters of three frames.
    cat = first.words[1]
    assert cat.start_s <= 13 * FRAME_S <= cat.start_s + 0.06
    assert cat.end_s - 0.09 <= 21 * FRAME_S <= cat.end_s
    assert all(word.probability > 0.9 for word in first.words)
    # The space is the tone before the pause.
    assert second.words[0].start_s - first.end_s > 0.7


@settings(max_examples=8, deadline=None)
@given(size=st.integers(40, 40_000), stream=st.booleans())
def test_segments_do_not_depend_on_the_blocks(size: int, stream: bool) -> None:
    samples, ask = speak(long_text(12)), TranscribeAsk(stream=stream)
    assert written(samples, size=size, ask=ask) == written(samples, size=10**9, ask=ask)


@pytest.fixture(scope="module")
def minutes() -> tuple[str, Samples]:
    """Some minutes of speech, longer than several windows."""
    text = long_text(200)
    return text, speak(text)


def test_long_recordings_lose_nothing_at_the_borders_of_windows(
    minutes: tuple[str, Samples],
) -> None:
    text, samples = minutes
    assert len(samples) > 2 * RATE * FILE.core
    heard = tones()
    segments = written(samples, heard=heard)
    said = "".join(segment.text for segment in segments).replace(".", "").lower()
    assert said.split() == text.replace("_", "").split()
    assert isinstance(heard.model, Tones)
    assert heard.model.longest <= RATE * (FILE.core + FILE.before + FILE.after)
    words = [word for segment in segments for word in segment.words]
    assert all(0 <= word.start_s < word.end_s <= len(samples) / RATE for word in words)
    assert all(a.end_s <= b.start_s for a, b in pairwise(words))
    assert max(segment.end_s - segment.start_s for segment in segments) <= 30.5


def test_a_stream_and_a_file_give_the_same(minutes: tuple[str, Samples]) -> None:
    _, samples = minutes
    live = written(samples, ask=TranscribeAsk(stream=True))
    whole = written(samples)
    assert [segment.text for segment in live] == [segment.text for segment in whole]
    for a, b in zip(live, whole, strict=True):
        assert (a.start_s, a.end_s) == (b.start_s, b.end_s)


def test_a_stream_says_each_segment_soon_and_a_window_holds_little(
    minutes: tuple[str, Samples],
) -> None:
    _, samples = minutes
    counted, heard = Counted(samples), tones()
    delays = [
        counted.read / RATE - segment.end_s
        for segment in CtcTranscriber(heard).segments(counted, TranscribeAsk(stream=True))
    ]
    assert len(delays) > 10 and max(delays) < 0.7 + LIVE.core + LIVE.after + 0.2
    assert isinstance(heard.model, Tones)
    assert heard.model.longest <= RATE * (LIVE.core + LIVE.before + LIVE.after)


@pytest.mark.parametrize("stream", [False, True])
def test_a_run_goes_on_where_it_was_broken_off(minutes: tuple[str, Samples], stream: bool) -> None:
    _, samples = minutes
    ask, heard = TranscribeAsk(stream=stream), tones()
    whole = written(samples, ask=ask)
    assert len({segment.seek for segment in whole}) == len(whole)
    for place in (1, len(whole) // 2, len(whole) - 2, len(whole) - 1):
        recording, earlier = blocks(samples, 30_000), iter(whole[:place])
        rest = CtcTranscriber(heard).resume(recording, ask, earlier, whole[place].seek)
        assert list(rest) == whole[place:]


@pytest.mark.parametrize("length", [0, 1, 319, 16_000, 1_000_000])
def test_silence_and_nothing_have_no_words(length: int) -> None:
    assert written(np.zeros(length, np.float32)) == []


def test_noise_has_no_words() -> None:
    noise = np.random.default_rng(0).normal(size=40 * RATE).astype(np.float32)
    assert written(0.3 * noise) == []


def test_what_is_hardly_heard_is_left_out() -> None:
    # As probable as silence; and a letter alone.
    faint, alone = speak("some noise__________", loud=0.161), speak("o__________")
    samples = np.concatenate((faint, alone, speak("well said")))
    assert [segment.text for segment in written(samples)] == [" Well said."]
    two = np.concatenate((speak("__________no__________"), alone))
    assert [segment.text for segment in written(two)] == [" No."]


def test_speech_without_pauses_is_cut_between_words_before_30_seconds() -> None:
    text = "abcdefgh " * 150
    samples = speak(text)
    segments = written(samples)
    assert len(samples) / RATE > 70
    assert "".join(segment.text for segment in segments).lower().split() == [
        "abcdefgh." if i + 1 == len(segment.words) else "abcdefgh"
        for segment in segments
        for i, _ in enumerate(segment.words)
    ]
    assert sum(len(segment.words) for segment in segments) == 150
    assert all(10 <= s.end_s - s.start_s <= 30 for s in segments[:-1])
    assert all(a.end_s <= b.start_s for a, b in pairwise(segments))
    rest = CtcTranscriber(tones()).resume(blocks(samples, 777), ASK, (), segments[1].seek)
    assert list(rest) == segments[1:]


def test_a_word_without_end_is_cut_too() -> None:
    segments = written(speak("abcdefgh" * 80))
    assert max(segment.end_s - segment.start_s for segment in segments) <= 30.5
    said = "".join(segment.text for segment in segments).lower()
    assert said.replace(" ", "").replace(".", "") == "abcdefgh" * 80


def test_hotwords_are_favoured_and_their_times_are_found() -> None:
    # A tone between those of "u" and "o" would be neither; both at once are both.
    samples = speak("a nurse is here")
    other = speak("a norse is here")
    mixed = 0.505 * samples + 0.495 * other
    assert written(mixed)[0].text == " A nurse is here."
    (found,) = written(mixed, ask=TranscribeAsk(hotwords="Norse, Viking"))
    assert found.text == " A norse is here."
    plain = written(mixed)[0]
    for a, b in zip(found.words, plain.words, strict=True):
        assert abs(a.start_s - b.start_s) <= 0.02 and abs(a.end_s - b.end_s) <= 0.02
    assert written(mixed, ask=TranscribeAsk(hotwords="!?"))[0].text == plain.text


def test_other_alphabets_are_written_as_they_are() -> None:
    large = ("X", "", "|", " ", *"ABCDEFGH")
    heard = tones(large, blank=1)
    samples = speak("A BAD EGG"[:5] + "_________CAGE", vocabulary=large, blank=1)
    segments = written(samples, heard=heard, ask=TranscribeAsk(language="de"))
    assert [segment.text for segment in segments] == [" A BAD", " CAGE"]
    assert segments[0].language == "de"
    # Without a space every symbol is a word.
    bare = ("", *"日本語")
    found = written(speak("日本語", vocabulary=bare), heard=tones(bare))
    assert [word.text for word in found[0].words] == [" 日", " 本", " 語"]


@pytest.mark.parametrize(
    "ask",
    [
        TranscribeAsk(task="translate"),
        TranscribeAsk(language="de"),
        TranscribeAsk(languages=("de", "fr")),
        TranscribeAsk(initial_prompt="so"),
        TranscribeAsk(prefix="so"),
        TranscribeAsk(clip_timestamps=(1.0, 2.0)),
    ],
)
def test_what_the_model_cannot_do_is_refused(ask: TranscribeAsk) -> None:
    with pytest.raises(UsageError, match="tones cannot"):
        written(speak("a"), ask=ask)


@pytest.mark.parametrize(
    "ask", [TranscribeAsk(language="en"), TranscribeAsk(languages=("de", "en"))]
)
def test_english_is_english(ask: TranscribeAsk) -> None:
    assert written(speak("so it is"), ask=ask)[0].text == " So it is."


def test_a_transcript_has_all_segments() -> None:
    samples = speak(TEXT)
    two = np.stack((samples, samples))
    transcript = CtcTranscriber(tones()).transcribe(Audio(two, RATE))
    assert transcript.text == " The cat sat. Here it is."
    assert (transcript.language, transcript.model) == ("en", "tones")
    empty = CtcTranscriber(tones()).transcribe(Audio(np.zeros((1, 0), np.float32), RATE))
    assert empty.segments == () and empty.language == "en"


def test_sentences_of_small_letters() -> None:
    assert sentence(["i", "think", "i'm", "in"]) == ["I", "think", "I'm", "in."]
    assert sentence(["'tis", "it"]) == ["'tis", "it."]


def test_blocks_that_are_no_mono_samples_are_refused() -> None:
    with pytest.raises(InputError, match="samples of shape"):
        list(CtcTranscriber(tones()).segments(lambda: [np.zeros((2, 9), np.float32)], ASK))


@torch.no_grad()
def random_asr() -> AlmAsr:
    """A small alm-asr that writes something for everything."""
    torch.manual_seed(0)
    model = AlmAsr(AlmAsrConfig(channels=4, dimension=16, before=1, inner=2, after=1)).eval()
    model.head.weight.mul_(40)
    return model


@pytest.mark.parametrize("stream", [False, True])
def test_alm_asr_hears_the_same_whatever_the_blocks(stream: bool) -> None:
    seconds = 10 if stream else 40
    samples = 0.1 * np.random.default_rng(1).normal(size=seconds * RATE).astype(np.float32)
    loaded = Loaded(random_asr(), None, "ab", None, "alm-asr")
    windows = LIVE if stream else FILE
    heard = ctc_transcriber(loaded, device=torch.device("cpu"))._heard
    parts = [list(heard.logprobs(blocks(samples, n)(), windows)) for n in (777, 10**9)]
    assert sum(map(len, parts[0])) == heard.model.frames(len(samples))
    assert np.array_equal(np.concatenate(parts[0]), np.concatenate(parts[1]))


@torch.no_grad()
def test_a_short_recording_is_heard_as_a_whole() -> None:
    samples = 0.1 * np.random.default_rng(2).normal(size=5 * RATE + 77).astype(np.float32)
    model = random_asr()
    heard = ctc_transcriber(
        Loaded(model, None, "ab", None, "alm-asr"), device=torch.device("cpu")
    )._heard
    whole = model.both(torch.from_numpy(samples)[None, None])[0].numpy()
    assert np.array_equal(np.concatenate(list(heard.logprobs([samples]))), whole)


def test_windows_in_batches_are_those_alone() -> None:
    samples, small = speak(long_text(60)), Windows(core=4, before=2, after=2)
    found = [
        np.concatenate(list(replace(tones(), batch=batch).logprobs([samples], small)))
        for batch in (1, 3)
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


class Batches(Tones):
    """Tones that note how many windows are heard at a time."""

    def __init__(self, vocabulary: tuple[str, ...]) -> None:
        super().__init__(vocabulary)
        self.sizes: list[int] = []

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(wave))
        return super().forward(wave)


def test_windows_of_several_recordings_are_heard_together_and_written_as_alone() -> None:
    vocabulary = (*LETTERS, "é")  # so that nothing is searched
    recordings = [speak(long_text(160, seed)) for seed in range(3)]
    model = Batches(vocabulary)
    heard = Emissions(model=model, name="", weights_sha256="", device=torch.device("cpu"), batch=3)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda samples: written(samples, heard=heard), recordings))
    for segments, samples in zip(found, recordings, strict=True):
        alone = written(samples, heard=tones(vocabulary))
        assert [segment.text for segment in segments] == [segment.text for segment in alone]
        assert [segment.tokens for segment in segments] == [segment.tokens for segment in alone]
    assert max(model.sizes) > 1


def test_a_recording_that_nobody_listens_to_any_more_leaves_no_window_behind() -> None:
    heard = replace(tones(), batch=2)
    windows = heard.logprobs([speak(long_text(60))], Windows(core=4, before=2, after=2))
    assert len(next(windows))
    windows.close()  # type: ignore[attr-defined]
    assert written(speak(TEXT), heard=heard) == written(speak(TEXT))


@pytest.mark.parametrize(("sure", "letters", "said"), [(0.9, 3, 1), (0.45, 3, 0), (0.55, 9, 1)])
def test_what_sounds_like_letters_but_like_none_for_certain_is_not_written(
    sure: float, letters: int, said: int
) -> None:
    """Music: that a letter is heard is certain, which one is not; few letters must be surer."""
    rows = np.full((letters * 4 + 80, len(LETTERS)), 1e-4, np.float32)
    rows[:, 0] = 1.0
    for place in range(letters):
        rows[40 + 4 * place] = (1 - sure) / len(LETTERS)
        rows[40 + 4 * place, 3 + place] = sure
    logprobs = np.log(rows / rows.sum(1, keepdims=True))

    class Fixed(Tones):
        def forward(self, wave: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
            return torch.from_numpy(logprobs)[None]

    vocabulary = (*LETTERS, "é")  # so that no spelling helps
    model = Fixed(vocabulary)
    logprobs = np.pad(logprobs, ((0, 0), (0, 1)), constant_values=-30.0)
    heard = Emissions(model=model, name="", weights_sha256="", device=torch.device("cpu"))
    samples = np.zeros(len(logprobs) * 320, np.float32)
    assert len(written(samples, heard=heard)) == said
    assert len(Activity(heard).speech(samples)) == said


def test_models_without_letters_are_refused() -> None:
    loaded = Loaded(torch.nn.Identity(), None, "", None, "wav2vec2-base")
    with pytest.raises(ModelError, match=r"writes no letters.*vocab\.json"):
        ctc_transcriber(loaded, device=torch.device("cpu"))


@pytest.mark.oracle
@torch.no_grad()
def test_a_folder_of_transformers_writes_what_transformers_writes(tmp_path: Path) -> None:
    found = published(tmp_path, "Wav2Vec2")
    found.theirs.lm_head.weight.mul_(30)
    found.theirs.save_pretrained(tmp_path)
    wave = recording(40_000)
    path = found.logprobs(wave[0])[0].argmax(-1)
    theirs = found.tokenizer.decode(path, skip_special_tokens=True)
    assert len(theirs.split()) > 1
    transcriber = load_transcriber(tmp_path, device="cpu")
    transcript = transcriber.transcribe(Audio(wave.numpy(), RATE))
    assert transcript.text.split() == theirs.split()
    assert transcript.model == tmp_path.name and len(transcript.weights_sha256) == 64
    aligned = load_aligner(tmp_path, device="cpu").align(lambda: [wave[0].numpy()], theirs)
    assert aligned.text.split() == theirs.split()
