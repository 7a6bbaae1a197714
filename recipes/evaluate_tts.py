"""Measure a speaker on texts that it has not seen: a table in Markdown on standard output.

    python -m recipes.evaluate_tts --model alm-tts --json speech.json

`recipes/speak_texts.txt` are spoken by voices of the model and by the synthesiser that it learned
from (flite), and judged alike: word errors as two recognisers hear them (alm-asr, and pocketsphinx
with its own model where it is importable), and DNSMOS (the package speechmos). Then times of words
against where the aligner of alm-asr finds them, the length that --speed asks for, and speed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torchaudio.functional

from alm_cli.errors import AlmError
from alm_cli.systems.align import load_aligner
from alm_cli.systems.speaker import Line, Speaker, load_speaker
from alm_cli.systems.speech import Narrator, SpeechAsk, Work
from alm_cli.systems.transcriber import load_transcriber
from alm_cli.text.lines import cut
from alm_cli.text.reading import read_aloud
from recipes.alm_tts import VOICES
from recipes.alm_tts_data import TEXTS, speak
from recipes.alm_tts_data import Speaker as Source
from recipes.asr_text import letters, word_errors
from recipes.evaluate_asr import helper, ours, pocketsphinx
from recipes.tts_rivals import FirstSpeaker

RATE = 16_000
Hears = Callable[[np.ndarray], str]


@dataclass
class Found:
    """What the judges say of one way to speak, by kind of text: errors and words."""

    counts: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    wrong_short: dict[str, int] = field(default_factory=dict)
    mos: list[float] = field(default_factory=list)
    seconds: float = 0.0
    took: float = 0.0

    def rate(self, judge: str, kind: str | None = None) -> float:
        rows = [v for (j, k), v in self.counts.items() if j == judge and kind in (None, k)]
        return 100 * sum(e for e, _ in rows) / max(1, sum(n for _, n in rows))


def texts(limit: int | None) -> list[tuple[str, str]]:
    """(kind, text) of the frozen texts; `limit` of each kind."""
    found: list[tuple[str, str]] = []
    kind, count = "", 0
    for line in TEXTS.read_text(encoding="utf-8").splitlines():
        if line.startswith("# ["):
            kind, count = line[3 : line.index("]")], 0
        elif line and not line.startswith("#"):
            count += 1
            if limit is None or count <= limit:
                found.append((kind, line))
    return found


def judged(
    say: Callable[[str], np.ndarray],
    wanted: Iterable[tuple[str, str]],
    judges: dict[str, Hears],
    mos: Callable[[np.ndarray], float] | None,
) -> Found:
    """All texts, as `say` says them: samples [n] at 16 kHz."""
    found = Found()
    for kind, text in wanted:
        began = time.perf_counter()
        wave = say(text)
        found.took += time.perf_counter() - began
        found.seconds += len(wave) / RATE
        reference = letters(read_aloud(text))
        for name, hear in judges.items():
            errors = word_errors(reference, hear(wave))
            count = found.counts.setdefault((name, kind), [0, 0])
            count[0] += errors
            count[1] += len(reference.split())
            if kind == "short" and errors:
                found.wrong_short[name] = found.wrong_short.get(name, 0) + 1
        if mos is not None and kind != "short":
            found.mos.append(mos(wave))
    return found


def quality(python: Path | None) -> Callable[[np.ndarray], float] | None:
    """DNSMOS, overall, in this Python or another one that has speechmos."""
    hear = helper(python, _SPEECHMOS)
    return hear and (lambda wave: float(hear(wave)))


_SPEECHMOS = """
import sys
import numpy as np
from speechmos import dnsmos
print("ready", flush=True)
while size := sys.stdin.buffer.read(4):
    wave = np.frombuffer(sys.stdin.buffer.read(int.from_bytes(size, "little")), "<i2") / 32768
    print(dnsmos.run(wave.astype(np.float32), 16000)["ovrl_mos"], flush=True)
"""


def source(voice: Source) -> Callable[[str], np.ndarray]:
    """The synthesiser itself, given the same words."""

    def say(text: str) -> np.ndarray:
        parts = [p for p in read_aloud(text).replace("?", "?\n").replace("!", "!\n").split("\n")]
        return np.concatenate([_said(voice, part) for part in parts if letters(part)])

    return say


def _said(voice: Source, text: str) -> np.ndarray:
    wave, _ = speak(voice, text.replace(". ", ", "), 1.0)
    return wave


def ours_says(speaker: Speaker, voice: str) -> Callable[[str], np.ndarray]:
    """As `alm speak` says it: long texts in lines."""
    narrator, ask = Narrator(speaker), SpeechAsk(voice=speaker.voice(voice), seed=1)

    def say(text: str) -> np.ndarray:
        (speech,) = narrator.say([Work(cut([text], speaker.longest, read_aloud), ask)])
        if isinstance(speech, AlmError):
            raise speech
        wave = torch.from_numpy(speech.samples)
        return np.asarray(torchaudio.functional.resample(wave, speech.rate, RATE).numpy())

    return say


def _once(wave: np.ndarray) -> Iterable[np.ndarray]:
    """A recording of one block."""
    return [wave]


def boundaries(speaker: Speaker, wanted: Sequence[str]) -> list[float]:
    """Distances in ms of words' beginnings and ends from where the aligner finds them."""
    aligner, found = load_aligner("alm-asr", device="cpu"), []
    for text in wanted:
        spoken = speaker.say([Line(text=read_aloud(text), seed=1)])[0]
        wave = torch.from_numpy(spoken.samples)
        heard = torchaudio.functional.resample(wave, speaker.rate, RATE).numpy()
        aligned = aligner.align(partial(_once, heard), read_aloud(text))
        words = [word for segment in aligned.segments for word in segment.words]
        if len(words) == len(spoken.words):
            for ours_, theirs in zip(spoken.words, words, strict=True):
                found += [
                    1000 * abs(ours_.start_s - theirs.start_s),
                    1000 * abs(ours_.end_s - theirs.end_s),
                ]
    return found


def speeds(speaker: Speaker, wanted: Sequence[str]) -> list[float]:
    """Errors in per cent of the length that a speed asks for."""
    found = []
    for text in wanted:
        line = Line(text=read_aloud(text), seed=1)
        normal = len(speaker.say([line])[0].samples)
        for speed in (0.7, 1.25, 1.6):
            length = len(speaker.say([replace(line, speed=speed)])[0].samples)
            found.append(100 * abs(length * speed / normal - 1))
    return found


def first_audio(speaker: Speaker, text: str, runs: int = 5) -> list[float]:
    """Seconds until the first samples of a stream, warm."""
    found = []
    for _ in range(runs):
        began = time.perf_counter()
        with closing(speaker.stream(Line(text=text, seed=1))) as stream:
            next(stream)
            found.append(time.perf_counter() - began)
    return found


def table(rows: dict[str, Found], judges: Iterable[str]) -> list[str]:
    kinds = ("short", "plain", "numbers", "long")
    lines = [
        f"| voice | judge | {' | '.join(kinds)} | all | short texts wrong | DNSMOS | x real time |",
        "|---" * (len(kinds) + 6) + "|",
    ]
    for name, found in rows.items():
        for judge in judges:
            rates = " | ".join(f"{found.rate(judge, kind):.1f}" for kind in kinds)
            mos = f"{np.mean(found.mos):.2f}" if found.mos else "-"
            lines.append(
                f"| {name} | {judge} | {rates} | {found.rate(judge):.1f} | "
                f"{found.wrong_short.get(judge, 0)} | {mos} | {found.seconds / found.took:.1f} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="alm-tts")
    parser.add_argument("--first", type=Path, help="a model of the first book (tts_rivals.py)")
    parser.add_argument("--voices", nargs="*", default=["baritone", "alto"])
    parser.add_argument("--alone", action="store_true", help="leave the synthesiser out")
    parser.add_argument("--limit", type=int, help="texts of each kind, all by default")
    parser.add_argument("--pocketsphinx", type=Path, help="a Python that has it, if not this one")
    parser.add_argument("--speechmos", type=Path, help="a Python that has it, if not this one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    ask = parser.parse_args()
    torch.set_num_threads(ask.threads)
    speaker = (
        FirstSpeaker(ask.model, ask.first) if ask.first else load_speaker(ask.model, device="cpu")
    )
    judges: dict[str, Hears] = {"alm-asr": ours(load_transcriber("alm-asr", device="cpu"))}
    mos = quality(ask.speechmos)
    if mos is None:
        sys.stderr.write("speechmos is not importable: no DNSMOS\n")
    other = pocketsphinx(ask.pocketsphinx)
    if other is None:
        sys.stderr.write("pocketsphinx is not importable: one judge only\n")
    else:
        judges["pocketsphinx"] = other
    wanted = texts(ask.limit)
    rows: dict[str, Found] = {}
    for voice in ask.voices:
        if not ask.alone:
            said = judged(source(VOICES[voice]), wanted, judges, mos)
            rows[f"flite {VOICES[voice].voice}"] = said
        rows[voice] = judged(ours_says(speaker, voice), wanted, judges, mos)
        sys.stdout.write("\n".join(table(rows, judges)) + "\n\n")
        sys.stdout.flush()
    plain = [text for kind, text in wanted if kind == "plain"][:20]
    away, stretch = boundaries(speaker, plain), speeds(speaker, plain[:8])
    sys.stdout.write(
        f"word boundaries: median {median(away):.0f} ms from the aligner's ({len(away)})\n"
        f"length that --speed asks for: at most {max(stretch):.2f} % off\n"
    )
    if not ask.first:  # that one says whole lines
        first = first_audio(speaker, "The cat is asleep on the warm roof.")
        sys.stdout.write(
            f"first audio, warm: {1000 * median(first):.0f} ms ({1000 * min(first):.0f} to "
            f"{1000 * max(first):.0f})\n"
        )
    if ask.json:
        told = {
            name: {
                "wer": {judge: found.rate(judge) for judge in judges},
                "short_wrong": found.wrong_short,
                "mos": float(np.mean(found.mos)) if found.mos else None,
                "rtfx": found.seconds / found.took,
            }
            for name, found in rows.items()
        }
        ask.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
