"""A spoken reply with real stages: a recogniser that hears live, a text, a voice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alm_cli.bench.playback import AUDIBLE, arrivals, played
from alm_cli.bench.statistics import QUANTILES, Estimate, estimate, quantile
from alm_cli.bench.timeline import Reply, first_sound_s
from alm_cli.errors import InputError
from alm_cli.systems.speaker import Line, Speaker
from alm_cli.systems.transcriber import RATE, TranscribeAsk, Transcriber, mono
from alm_cli.values import Audio

Think = Callable[[str], Iterable[str]]
_BLOCK = RATE // 25  # 40 ms, as a telephone would bring


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the stages took, what was heard, and what was answered."""

    reply: Reply
    heard: str
    answer: str


def last_sound_s(audio: Audio) -> float:
    """Where the last audible sample ends. InputError: the recording is silent."""
    loud = np.flatnonzero((np.abs(audio.samples) > AUDIBLE).any(0))
    if not loud.size:
        raise InputError("is silent, so nobody has spoken", hint="give another recording")
    return float(loud[-1] + 1) / audio.rate


def heard_live(transcriber: Transcriber, audio: Audio, end_s: float) -> tuple[str, float]:
    """The text of what was said until `end_s`, and seconds from there to the text.

    Samples come in real time, as someone speaks: what can be done while they do costs nothing.
    """
    ended: list[float] = []

    def blocks() -> Iterator[NDArray[np.float32]]:
        spoken = Audio(audio.samples[:, : round(end_s * audio.rate)], audio.rate)
        wave = np.concatenate([np.zeros(0, np.float32), *mono(spoken)()])
        began = time.perf_counter()
        for begin in range(0, len(wave), _BLOCK):
            block = wave[begin : begin + _BLOCK]
            due = began + (begin + len(block)) / RATE
            time.sleep(max(0.0, due - time.perf_counter()))
            yield block
        ended.append(time.perf_counter())

    ask = TranscribeAsk(stream=True)
    text = "".join(segment.text for segment in transcriber.segments(blocks, ask)).strip()
    return text, time.perf_counter() - ended[0]


def echo(text: str) -> Iterator[str]:
    """In place of a model that thinks: the words that were heard, at once."""
    yield from text.split()


def thought(think: Think, text: str) -> tuple[str, float, float, int]:
    """The answer, seconds to its first word and for each further one, and how many they are."""
    began = time.perf_counter()
    words: list[str] = []
    times: list[float] = []
    for word in think(text):
        words.append(word)
        times.append(time.perf_counter() - began)
    if not words:
        return "", 0.0, 0.0, 0
    each = (times[-1] - times[0]) / max(1, len(words) - 1)
    return " ".join(words), times[0], each, len(words)


def spoken_s(speaker: Speaker, text: str, voice: str | None) -> float:
    """Seconds from a text to the first audible sample. InputError: nothing can be heard."""
    line = Line(text=text, voice=speaker.voice(voice))
    found = played(arrivals(speaker.stream(line)), speaker.rate)
    if found is None or found.first_sound_s is None:
        raise InputError(f"{speaker.name} says nothing audible for {text[:40]!r}")
    return found.first_sound_s


def measured(
    transcriber: Transcriber,
    speaker: Speaker | None,
    audio: Audio,
    *,
    end_s: float,
    given: dict[str, float | None],
    think: Think = echo,
    voice: str | None = None,
    speakable: int = 1,
) -> Measured:
    """The stages one after another, each by itself; `given` numbers stand for what is not run.

    `given` has asr_s, llm_first_s, llm_token_s and tts_s, None to measure. InputError: nothing was
    heard, so there is nothing to answer.
    """
    text, asr_s = heard_live(transcriber, audio, end_s)
    if not text:
        raise InputError("the recogniser heard no words", hint="give a recording of speech")
    answer, first_s, each_s, words = thought(think, text)
    tts_s = given["tts_s"]
    if tts_s is None:
        if speaker is None:
            raise InputError("no speaker and no --tts", hint="--speaker NAME, or --tts SECONDS")
        tts_s = spoken_s(speaker, answer, voice)
    reply = Reply(
        asr_s=_or(given["asr_s"], asr_s),
        llm_first_s=_or(given["llm_first_s"], first_s),
        llm_token_s=_or(given["llm_token_s"], each_s),
        tokens=max(1, words),
        tts_s=tts_s,
        speakable=speakable,
    )
    return Measured(reply=reply, heard=text, answer=answer)


def typical(found: Sequence[Measured]) -> Reply:
    """The median of every stage over several runs."""
    replies = [one.reply for one in found]
    return replace(
        replies[-1],
        asr_s=quantile([one.asr_s for one in replies], 50),
        llm_first_s=quantile([one.llm_first_s for one in replies], 50),
        llm_token_s=quantile([one.llm_token_s for one in replies], 50),
        tts_s=quantile([one.tts_s for one in replies], 50),
    )


def percentiles(found: Sequence[Measured]) -> dict[str, dict[str, Estimate | None]]:
    """p50 to p99 of the first sound and of every stage, each with its bootstrap interval."""
    streamed = [one.reply.streamed() for one in found]
    values = {
        "first_sound_streamed_s": [first_sound_s(stages) for stages in streamed],
        "first_sound_in_turn_s": [first_sound_s(one.reply.in_turn()) for one in found],
    }
    for place, stage in enumerate(streamed[0]):
        values[stage.name] = [stages[place].seconds for stages in streamed]
    return {
        name: {f"p{percent}": estimate(each, percent) for percent in QUANTILES}
        for name, each in values.items()
    }


def _or(given: float | None, measured: float) -> float:
    return measured if given is None else given
