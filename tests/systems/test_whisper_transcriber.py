"""Whisper against `openai-whisper` with the same weights, trap by trap, and its laws."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alm_cli.checkpoints.load import load
from alm_cli.decoding.search import drawn, draws
from alm_cli.errors import InputError, UsageError
from alm_cli.lm.whisper import Whisper
from alm_cli.nn.packed import can_pack
from alm_cli.systems.transcriber import TranscribeAsk, Transcriber, load_transcriber
from alm_cli.systems.whisper_engine import Decoded, Engine, Hear, Heard, Try
from alm_cli.systems.whisper_prompts import Phrasebook
from alm_cli.systems.whisper_transcriber import WhisperTranscriber
from alm_cli.text.tokenizer import load_tokenizer
from alm_cli.values import Audio, Segment
from tests.decoding.whispers import (
    BEAMS,
    ENGLISH,
    GREEDY,
    MANY,
    MORE,
    RATE,
    Pair,
    Samples,
    blocks,
    edge_cases,
    pair,
    random_whisper,
    recorded,
    synthetic,
)

# Weights that say different things about different recordings.
SEEDS = {ENGLISH: 2, MANY: 7, MORE: 6}

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.oracle]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Pair]:
    """One of each vocabulary."""
    timing = pytest.importorskip("whisper.timing", reason="needs the package openai-whisper")
    # Their warping is compiled when it is first used, which takes longer than not to.
    timing.dtw_cpu = getattr(timing.dtw_cpu, "py_func", timing.dtw_cpu)
    timing.backtrace = getattr(timing.backtrace, "py_func", timing.backtrace)
    folder = tmp_path_factory.mktemp("whispers")
    bands = {ENGLISH: 80, MANY: 80, MORE: 128}
    return {size: pair(folder, size, seed=SEEDS[size], bands=bands[size]) for size in bands}


@pytest.fixture(scope="module")
def multilingual(pairs: dict[int, Pair]) -> Pair:
    return pairs[MANY]


@pytest.fixture(scope="module")
def long() -> Samples:
    """Several windows."""
    return synthetic(32.0, 7)


@pytest.mark.parametrize("ask", [GREEDY, BEAMS], ids=["greedy", "beams"])
@pytest.mark.parametrize("vocabulary", [ENGLISH, MANY, MORE])
def test_edge_cases_are_read_as_there(
    pairs: dict[int, Pair], vocabulary: int, ask: dict[str, Any]
) -> None:
    cases = dict(edge_cases())
    if vocabulary != MANY or ask is BEAMS:  # the first has heard all
        cases = {name: cases[name] for name in ("one sample", "a click", "31 s")}
    for samples in cases.values():
        pairs[vocabulary].same(samples, no_speech_threshold=None, **ask)


def test_recordings_are_read_as_there(pairs: dict[int, Pair], shared: Path) -> None:
    sizes = (ENGLISH, MANY, MORE)
    said = set()
    for number, (_, samples) in enumerate(recorded(shared, 38)):
        ask = GREEDY if number % 2 else BEAMS
        segments = pairs[sizes[number % 3]].same(samples, no_speech_threshold=None, **ask)
        said |= {segment.tokens for segment in segments}
    assert len(said) > 30  # not all the same


OPTIONS: dict[str, dict[str, Any]] = {
    "section 5.5: signs and special tokens are not written": {"suppress_tokens": "-1"},
    "section 5.5: nothing is suppressed": {"suppress_tokens": ""},
    "section 5.5: tokens by number": {"suppress_tokens": "11,13,50258"},
    "section 5.6: no timestamps": {"without_timestamps": True},
    "section 5.7: a prompt of 223 tokens": {"initial_prompt": "so it goes " * 300},
    "section 5.7: patience": {**BEAMS, "patience": 2.0},
    "section 5.7: impatience leaves unfinished beams": {**BEAMS, "patience": 0.4},
    "section 5.7: length penalty": {**BEAMS, "length_penalty": 0.6},
    "section 5.7: three beams": {**BEAMS, "beam_size": 3},
    "section 5.8: silence is skipped": {"no_speech_threshold": 1e-9, "logprob_threshold": -2.0},
    "section 5.8: unless the text is likely": {
        "no_speech_threshold": 1e-9,
        "logprob_threshold": -9.0,
    },
    "section 5.8: no speech, whatever the text": {
        "no_speech_threshold": 5e-8,
        "logprob_threshold": None,
    },
    "section 5.9: an initial prompt counts once": {"initial_prompt": "Glossary: DTW, CTC"},
    "section 5.9: or is carried on": {"initial_prompt": "A, B", "carry_initial_prompt": True},
    "section 5.9: carried on, it fills the room": {
        "initial_prompt": "so it goes " * 200,
        "carry_initial_prompt": True,
    },
    "section 5.9: an empty prompt is a space": {"initial_prompt": ""},
    "section 5.9: what was said does not count": {"condition_on_previous_text": False},
    "section 5.9: a prefix": {"prefix": " and then"},
    "section 5.9: clips": {"clip_timestamps": (1.5, 7.25, 7.25, 12.0, 20.0)},
    "section 5.9: clips that do not ascend": {"clip_timestamps": (26.0, 32.0, 2.0, 8.0)},
    "section 5.9: translation": {"task": "translate"},
    "section 5.10: words": {"word_timestamps": True},
    "section 5.10: words of Japanese": {"word_timestamps": True, "language": "ja"},
    "section 5.10: words without timestamps": {
        "word_timestamps": True,
        "without_timestamps": True,
    },
    "section 5.10: words after a prompt": {**BEAMS, "word_timestamps": True},
    "section 5.10: signs that join": {
        "word_timestamps": True,
        "prepend_punctuations": "abcdefghi",
        "append_punctuations": "klmnopqrstu",
    },
    "section 5.10: imagined text": {
        "word_timestamps": True,
        "hallucination_silence_threshold": 0.1,
    },
    "section 5.10: imagined text after long silence": {
        "word_timestamps": True,
        "hallucination_silence_threshold": 4.0,
        "clip_timestamps": (0.5, 31.0),
    },
    "section 5.11: the language is told from the first 30 s": {"language": None},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_mean_what_they_mean_there(multilingual: Pair, long: Samples, name: str) -> None:
    # Only some hang on several windows.
    several = name.startswith(("section 5.8", "section 5.9", "section 5.10: imagined"))
    samples = long if several else long[: 9 * RATE]
    multilingual.same(samples, **{**GREEDY, "no_speech_threshold": None, **OPTIONS[name]})


def test_the_language_of_short_recordings_is_told_from_silence_after_them(
    pairs: dict[int, Pair],
) -> None:
    """Section 5.1.5: languages are told from other padding than texts."""
    told = set()
    for seed in range(6):
        ask = {**GREEDY, "language": None, "no_speech_threshold": None}
        segments = pairs[MANY if seed % 2 else MORE].same(synthetic(1.5 + seed, seed), **ask)
        told |= {segment.language for segment in segments}
    assert len(told) > 1


def test_english_only_models_have_no_language(pairs: dict[int, Pair]) -> None:
    english = pairs[ENGLISH]
    samples = synthetic(4.0, 3)
    segments = english.same(samples, **GREEDY, word_timestamps=True)
    ask = TranscribeAsk(**GREEDY, word_timestamps=True)
    assert list(english.ours.segments(blocks(samples), ask)) == segments
    for wrong in (TranscribeAsk(language="de"), TranscribeAsk(task="translate")):
        with pytest.raises(UsageError):
            list(english.ours.segments(blocks(samples), wrong))


@pytest.fixture
def drawn_as_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `openai-whisper` draw with our generators: its own go on from window to window."""
    decoding = pytest.importorskip("whisper.decoding")

    class Drawn:
        def __init__(self, logits: torch.Tensor) -> None:
            self.logits = logits

        def sample(self) -> torch.Tensor:
            frame: Any = sys._getframe(1)
            update = frame.f_locals
            while frame.f_code.co_name != "_main_loop":
                frame = frame.f_back
            task = frame.f_locals["self"]
            while frame.f_code.co_name != "transcribe":
                frame = frame.f_back
            step = update["tokens"].shape[1] - task.sample_begin
            temperature, rows = update["self"].temperature, len(self.logits)
            chances = draws(3, frame.f_locals["seek"], temperature, rows, 224)
            return drawn(self.logits, 1.0, chances[:, step])

    monkeypatch.setattr(decoding, "Categorical", Drawn)


@pytest.mark.usefixtures("drawn_as_here")
@pytest.mark.parametrize(
    "ask",
    [
        {"temperature": (0.0, 0.2), "beam_size": 2, "best_of": 2},
        {"temperature": (0.0, 0.6, 0.7), "best_of": None, "beam_size": None},
        {"temperature": (0.4,), "best_of": 2, "length_penalty": 1.0},
        {"temperature": (0.0, 0.3), "best_of": 2, "compression_ratio_threshold": 0.5,
         "logprob_threshold": None},
    ],
    ids=["all fail", "above 0.5 nothing is context", "length penalty", "repetitive"],
)  # fmt: skip
def test_section_5_8_fallback_is_that_of_the_other_with_the_same_draws(
    multilingual: Pair, ask: dict[str, Any]
) -> None:
    samples = synthetic(33.0, 7)
    segments = multilingual.same(samples, no_speech_threshold=None, seed=3, **ask)
    assert segments[0].temperature == ask["temperature"][-1]


@pytest.fixture(scope="module")
def batched(multilingual: Pair) -> Transcriber:
    """The same weights for four windows at a time."""
    return load_transcriber(multilingual.file, device="cpu", batch=4)


# With fallback on, which the random texts need.
BATCHED = TranscribeAsk(
    language="en",
    batched=True,
    temperature=(0.0, 0.1),
    beam_size=2,
    best_of=2,
    no_speech_threshold=None,
    logprob_threshold=-1.6,
)


def said(segments: Iterable[Segment]) -> list[Segment]:
    """Without what may be rounded in another way."""
    return [replace(s, avg_logprob=0.0, no_speech_prob=0.0, words=()) for s in segments]


@pytest.fixture(scope="module")
def minutes() -> Samples:
    """Several windows more."""
    return np.concatenate([synthetic(20.0, seed) for seed in range(3)])


def test_a_batch_of_windows_says_what_each_says_alone(
    multilingual: Pair, batched: Transcriber, minutes: Samples
) -> None:
    alone = said(multilingual.ours.segments(blocks(minutes), BATCHED))
    together = said(batched.segments(blocks(minutes), BATCHED))
    assert together == alone
    assert {segment.temperature for segment in alone} == {0.0, 0.1}  # each window by itself
    assert any(len(segment.tokens) > 2 for segment in alone)
    starts = [segment.seek for segment in alone]
    assert starts == sorted(starts)
    assert len(set(starts)) >= 3
    assert any(segment.start_s > segment.seek / 100 for segment in alone)  # timestamps are kept


def test_batched_windows_are_read_as_clips_without_context(
    multilingual: Pair, minutes: Samples
) -> None:
    """What is not cut off by a timestamp pair is what the sequential way says of the same clips."""
    ask = replace(BATCHED, temperature=(0.0,), beam_size=None, best_of=None)
    ours = said(multilingual.ours.segments(blocks(minutes), ask))
    edges = sorted({segment.seek / 100 for segment in ours})
    clips = tuple(second for edge in edges for second in (edge, edge))[1:]
    alone = replace(
        ask, batched=False, condition_on_previous_text=False, clip_timestamps=(*clips, 60.0)
    )
    sequential = said(multilingual.ours.segments(blocks(minutes), alone))
    first = {segment.seek: segment for segment in reversed(sequential)}
    assert [s for s in ours if first[s.seek] == s] == [
        next(s for s in ours if s.seek == seek) for seek in sorted({s.seek for s in ours})
    ]


@pytest.mark.parametrize("together", [False, True], ids=["sequential", "batched"])
def test_files_decoded_together_say_what_each_says_alone(
    multilingual: Pair, batched: Transcriber, together: bool
) -> None:
    files = [synthetic(2.0 + 4 * seed, seed) for seed in range(4)]
    ask = replace(BATCHED, batched=together)
    alone = [said(multilingual.ours.segments(blocks(samples), ask)) for samples in files]
    heard: dict[int, list[Segment]] = {}

    def work(number: int) -> None:
        heard[number] = said(batched.segments(blocks(files[number]), ask))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [heard.get(number) for number in range(4)] == alone


def test_a_seed_decides_what_is_drawn(multilingual: Pair) -> None:
    samples = synthetic(8.0, 7)
    ask = replace(BATCHED, batched=False, temperature=(0.9,), best_of=None)
    first, again, other = (
        said(multilingual.ours.segments(blocks(samples, size), replace(ask, seed=seed)))
        for size, seed in ((50_000, 1), (7_777, 1), (50_000, 2))
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    "change",
    [{"batched": False}, {"batched": True}, {"batched": False, "temperature": (0.7,)},
     {"batched": False, "word_timestamps": True, "language": None, "initial_prompt": "So"}],
    ids=str,
)  # fmt: skip
def test_who_was_interrupted_goes_on_with_the_last_window(
    multilingual: Pair, minutes: Samples, change: dict[str, Any]
) -> None:
    ask = replace(BATCHED, **change)
    all_of_it = list(multilingual.ours.segments(blocks(minutes), ask))
    seeks = sorted({segment.seek for segment in all_of_it})
    assert len(seeks) > 2
    ours = multilingual.ours
    assert isinstance(ours, WhisperTranscriber)
    before = [segment for segment in all_of_it if segment.seek < seeks[-2]]
    rest = list(ours.resume(blocks(minutes), ask, before, seeks[-2]))
    assert before + rest == all_of_it


def test_int8_and_half_floats_are_for_whom_they_fit(multilingual: Pair, tmp_path: Path) -> None:
    samples = synthetic(4.0, 7)
    ask = TranscribeAsk(language="en", no_speech_threshold=None, **GREEDY)
    if can_pack():
        rounded = load_transcriber(multilingual.file, device="cpu", dtype="int8")
        assert list(rounded.segments(blocks(samples), ask))
        halves = random_whisper(MANY, seed=7).half().float()
        state = {key: value.contiguous() for key, value in halves.state_dict().items()}
        torch.save({"dims": asdict(halves.dims), "model_state_dict": state}, tmp_path / "half.pt")
        packed = load_transcriber(tmp_path / "half.pt", device="cpu")
        Pair(halves, packed, tmp_path).same(samples, no_speech_threshold=None, **GREEDY)
    with pytest.raises(UsageError):
        load_transcriber("mel-80", device="cpu", dtype="int4")


def test_a_stream_is_read_once_and_told_as_it_comes(multilingual: Pair) -> None:
    samples = synthetic(75.0, 7)
    taken = []

    def recording() -> Iterator[Samples]:
        assert not taken, "a stream cannot be read twice"
        for edge in range(0, len(samples), 8_000):
            taken.append(edge)
            yield samples[edge : edge + 8_000]

    ask = TranscribeAsk(language="en", stream=True, no_speech_threshold=None, **GREEDY)
    segments = multilingual.ours.segments(recording, ask)
    first = next(segments)
    assert taken[-1] < 35 * RATE
    rest = list(segments)
    assert taken[-1] > 74 * RATE
    assert [first, *rest][-1].seek > 3000


def test_a_stream_of_one_window_says_what_a_file_does(multilingual: Pair) -> None:
    samples = synthetic(20.0, 7)
    ask = TranscribeAsk(language="en", no_speech_threshold=None, **GREEDY)
    as_file, streamed = (
        # The loudest of the second window need not be the loudest of the whole.
        [s for s in multilingual.ours.segments(blocks(samples), one) if not s.seek]
        for one in (ask, replace(ask, stream=True))
    )
    assert streamed == as_file != []


def test_allowed_languages_are_told_for_each_window(multilingual: Pair, minutes: Samples) -> None:
    ask = TranscribeAsk(no_speech_threshold=None, **GREEDY)
    allowed = [
        segment.language
        for languages in (("german", "en"), ("ja",), ("fi", "sw", "haw"))
        for segment in multilingual.ours.segments(
            blocks(minutes[: 40 * RATE]), replace(ask, languages=languages)
        )
    ]
    assert set(allowed) <= {"de", "en", "ja", "fi", "sw", "haw"}
    assert "ja" in allowed
    with pytest.raises(UsageError):
        list(multilingual.ours.segments(blocks(minutes), replace(ask, languages=("klingon",))))


def test_hotwords_stand_before_every_text_and_are_not_said(multilingual: Pair) -> None:
    tokenizer = load_tokenizer(multilingual.file, MANY)
    book = Phrasebook(tokenizer, TranscribeAsk(hotwords=" Kubernetes etcd "), 223)
    wanted = tokenizer.encode(" Kubernetes etcd")
    start = tokenizer.prompt("en")
    assert book.prompt("en", []) == ((tokenizer.sot_prev, *wanted, *start), len(wanted) + 1)
    prompt, place = book.prompt("en", list(range(1000)))
    assert place == 224  # the last of what was said, as many as there is room for
    assert prompt[: len(wanted) + 1] == (tokenizer.sot_prev, *wanted)
    assert prompt[place - 1] == 999
    many = Phrasebook(tokenizer, TranscribeAsk(hotwords="word " * 500), 223)
    assert many.prompt("en", list(range(1000)))[1] == 224
    both = Phrasebook(tokenizer, TranscribeAsk(hotwords="a", prefix="b"), 223)
    assert both.prompt("en", [])[0] == (*start, *tokenizer.encode(" b"))
    samples = synthetic(5.0, 7)
    ask = TranscribeAsk(language="en", no_speech_threshold=None, **GREEDY)
    plain, hot = (
        list(multilingual.ours.segments(blocks(samples), replace(ask, hotwords=words)))
        for words in (None, "Kubernetes " * 20)
    )
    assert [s.tokens for s in plain] != [s.tokens for s in hot]


def test_too_long_a_prefix_is_refused(multilingual: Pair) -> None:
    ask = TranscribeAsk(language="en", prefix="word " * 460)
    with pytest.raises(UsageError):
        list(multilingual.ours.segments(blocks(synthetic(1.0)), ask))


def test_short_recordings_need_not_be_encoded_with_the_silence_after_them(
    multilingual: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    encode = Whisper.encode

    def noted(self: Whisper, mel: torch.Tensor) -> torch.Tensor:
        lengths.append(mel.shape[-1])
        return encode(self, mel)

    monkeypatch.setattr(Whisper, "encode", noted)
    samples = synthetic(4.0, 7)
    lenient = TranscribeAsk(
        language="en", audio_ctx="auto", logprob_threshold=None, no_speech_threshold=None,
        compression_ratio_threshold=None, word_timestamps=True, **GREEDY
    )  # fmt: skip
    list(multilingual.ours.segments(blocks(samples), lenient))
    assert lengths[0] == 1000
    lengths.clear()
    # An attempt that fails is made again with all there is, as if there had been no other.
    strict = replace(lenient, logprob_threshold=-0.001)
    again = list(multilingual.ours.segments(blocks(samples), strict))
    assert lengths == [1000, 3000]
    full = list(multilingual.ours.segments(blocks(samples), replace(strict, audio_ctx="full")))
    assert again == full


class Loud:
    """Finds speech where it is loud; the model that does it in life has its own tests."""

    def spans(
        self, blocks: Iterable[Samples], *, live: bool = False
    ) -> Iterator[tuple[float, float]]:
        """Seconds from which to which there is sound."""
        del live
        begun, at = None, 0
        for block in blocks:
            for edge in range(0, len(block), 1600):
                loud = np.abs(block[edge : edge + 1600]).max() > 0.01
                now = (at + edge) / RATE
                if loud and begun is None:
                    begun = now
                elif not loud and begun is not None:
                    yield begun, now
                    begun = None
            at += len(block)
        if begun is not None:
            yield begun, at / RATE


@pytest.mark.parametrize("how", [{}, {"batched": True}, {"stream": True}], ids=str)
def test_nothing_is_said_where_nobody_speaks(
    multilingual: Pair, monkeypatch: pytest.MonkeyPatch, how: dict[str, bool]
) -> None:
    monkeypatch.setattr("alm_cli.systems.activity.load_activity", lambda **_: Loud())
    transcriber = load_transcriber(multilingual.file, device="cpu", batch=2)
    hum = np.sin(np.arange(3 * RATE) / 9).astype(np.float32)
    pause = np.zeros(12 * RATE, np.float32)
    samples = np.concatenate([pause, hum, pause, hum])
    passes = []

    def recording() -> Iterator[Samples]:
        passes.append(1)
        return iter(blocks(samples)())

    ask = TranscribeAsk(language="en", vad=True, no_speech_threshold=None, **GREEDY, **how)
    seeks = {s.seek for s in transcriber.segments(recording, ask)}
    assert [round(seek, -1) for seek in sorted(seeks)] == [1200, 2700]
    assert len(passes) == 1
    silence = list(transcriber.segments(blocks(pause), ask))
    assert silence == []


def test_a_recording_that_breaks_off_is_told_after_what_was_heard(multilingual: Pair) -> None:
    samples = synthetic(65.0, 7)

    def recording() -> Iterator[Samples]:
        yield samples
        raise InputError("the tape is torn")

    ask = TranscribeAsk(language="en", stream=True, no_speech_threshold=None, **GREEDY)
    segments = multilingual.ours.segments(recording, ask)
    assert next(segments).seek == 0
    with pytest.raises(InputError, match="torn"):
        list(segments)


def test_who_stops_listening_leaves_nothing_behind(batched: Transcriber, minutes: Samples) -> None:
    left = batched.segments(blocks(minutes), BATCHED)
    next(left)
    left.close()  # type: ignore[attr-defined]
    short = blocks(minutes[: 3 * RATE])
    assert list(batched.segments(short, BATCHED)) == list(batched.segments(short, BATCHED))


def test_a_transcript_of_audio_of_any_rate(multilingual: Pair) -> None:
    samples = synthetic(3.0, 7)
    ask = TranscribeAsk(no_speech_threshold=None, **GREEDY)
    transcript = multilingual.ours.transcribe(Audio(samples[None], RATE), ask)
    segments = tuple(multilingual.ours.segments(blocks(samples), ask))
    assert transcript.segments == segments
    assert transcript.language == segments[0].language
    assert transcript.model == multilingual.ours.name
    double = Audio(np.repeat(samples, 2)[None].repeat(2, 0), 2 * RATE)
    assert multilingual.ours.transcribe(double, ask).segments
    empty = multilingual.ours.transcribe(Audio(np.zeros((1, 0), np.float32), RATE), ask)
    assert empty.segments == ()


@pytest.mark.parametrize("timestamps", [True, False])
def test_short_form_says_what_transformers_says(tmp_path: Path, timestamps: bool) -> None:
    """Greedily, of windows padded as there."""
    transformers = pytest.importorskip("transformers")
    theirs = hub_whisper(transformers)
    theirs.save_pretrained(tmp_path)
    model = load(tmp_path).model
    assert isinstance(model, Whisper)
    tokenizer = load_tokenizer(tmp_path, MANY)
    engine = Engine(model, tokenizer, torch.device("cpu"))
    first = tokenizer.timestamp_begin
    stamps = [] if timestamps else list(range(first, MANY))
    theirs.generation_config.suppress_tokens += stamps
    ask = TranscribeAsk(
        language="fi",
        without_timestamps=not timestamps,
        suppress_tokens=",".join(map(str, (-1, *stamps))),
        **GREEDY,
    )
    book = Phrasebook(tokenizer, ask, 223)
    prompt, place = book.prompt("fi", [])
    extractor = transformers.WhisperFeatureExtractor()
    texts = set()
    for seed in range(4):
        features = extractor(
            synthetic(3.0 + 5 * seed, seed), sampling_rate=RATE, return_tensors="pt"
        ).input_features
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = theirs.generate(
                features, language="fi", task="transcribe", return_timestamps=timestamps,
                num_beams=1, do_sample=False, max_new_tokens=60,
            )[0].tolist()  # fmt: skip
        (heard,) = engine.run([Hear(features[0])])
        assert isinstance(heard, Heard)
        (ours,) = engine.run([Try(heard, prompt, place, book.manner(0.0), 0)])
        assert isinstance(ours, Decoded)
        # After a pair of timestamps they begin another window.
        kept = sure(ours.tokens, first)[:50]
        assert tuple(expected[: len(kept)]) == kept
        texts.add(ours.tokens)
    assert len(texts) > 1


def sure(tokens: tuple[int, ...], first: int) -> tuple[int, ...]:
    """Up to the last two timestamps in a row, unless one stands alone at the end."""
    pairs = [n for n in range(1, len(tokens)) if min(tokens[n - 1 : n + 1]) >= first]
    alone = tokens[-1] >= first > tokens[-2] if len(tokens) > 1 else False
    return tokens if alone or not pairs else tokens[: pairs[-1]]


def hub_whisper(transformers: Any) -> Any:
    """A tiny model of `transformers` with the weights of the other, and its settings."""
    from alm_cli.text.tokenizer import load_tokenizer as loaded

    source = random_whisper(MANY, seed=7)
    config = transformers.WhisperConfig(
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=128, decoder_ffn_dim=128,
    )  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(config).eval()
    names = {
        "blocks": "layers", "cross_attn_ln": "encoder_attn_layer_norm", ".attn_ln":
        ".self_attn_layer_norm", "mlp_ln": "final_layer_norm", "mlp.0": "fc1", "mlp.2": "fc2",
        "cross_attn.": "encoder_attn.", ".attn.": ".self_attn.", "query": "q_proj",
        "key.": "k_proj.", "value": "v_proj", ".out.": ".out_proj.", "ln_post": "layer_norm",
        "decoder.ln.": "decoder.layer_norm.", "token_embedding": "embed_tokens",
        "positional_embedding": "embed_positions.weight",
    }  # fmt: skip
    weights = {}
    for name, tensor in source.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)
        weights[f"model.{name}"] = tensor
    model.load_state_dict(
        {**weights, "proj_out.weight": weights["model.decoder.embed_tokens.weight"]}
    )
    tokenizer = loaded(".", MANY)
    told = model.generation_config
    told.is_multilingual, told.no_timestamps_token_id = True, tokenizer.no_timestamps
    told.lang_to_id = {
        f"<|{code}|>": token
        for code, token in zip(tokenizer.languages, tokenizer.language_tokens, strict=True)
    }
    told.task_to_id = {"transcribe": tokenizer.transcribe, "translate": tokenizer.translate}
    told.max_initial_timestamp_index = 50
    marks = (tokenizer.transcribe, tokenizer.translate, tokenizer.sot, tokenizer.sot_prev)
    told.suppress_tokens = sorted(
        {*tokenizer.non_speech_tokens, *marks, tokenizer.sot_lm, tokenizer.no_speech}
    )
    told.begin_suppress_tokens = [220, tokenizer.eot]
    told.eos_token_id = told.pad_token_id = told.bos_token_id = tokenizer.eot
    told.decoder_start_token_id = tokenizer.sot
    told.max_length = 448
    return model
