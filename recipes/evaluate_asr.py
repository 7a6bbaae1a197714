"""Measure a recogniser: one table in Markdown on standard output, with bars and what falls short.

    python -m recipes.evaluate_asr --model alm-asr --data DATA_DIR --shared ../shared

Word error rates on held-out texts, voices and an engine (`DATA_DIR` of recipes/alm_asr_data.py) and
on real recordings with transcripts, beside pocketsphinx's default model where it is importable;
words heard where nothing is said; distance of word boundaries from those that synthesisers report;
speed; size. Both sides of a comparison are brought to the same letters (recipes/asr_text.py).
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from math import nan
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio.functional

from alm_cli.checkpoints.fetch import fetch
from alm_cli.checkpoints.load import load
from alm_cli.systems.align import Aligner, load_aligner
from alm_cli.systems.transcriber import Transcriber, load_transcriber
from alm_cli.values import Audio
from recipes.asr_noise import coloured
from recipes.asr_text import letters, word_errors

RATE = 16_000
# Sets of the synthetic data, and the most errors of a hundred words that they may have: texts of
# known voices, voices that were held out, an engine that was.
SETS = {"test_texts": None, "test_espeak": 6, "test_flite": 6, "test_festival": 20}

Sample = tuple[np.ndarray, str]  # samples [T] float32 at 16 kHz, what is said


# ---- what is heard ----------------------------------------------------------------------------


def read(path: Path) -> np.ndarray:
    """A file as mono 16 kHz."""
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = torch.from_numpy(wave.mean(axis=1))
    return np.asarray(torchaudio.functional.resample(mono, rate, RATE).numpy())


def synthetic(folder: Path, name: str) -> list[Sample]:
    audio = np.memmap(folder / f"{name}.i16", "<i2", "r")
    rows = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return [(audio[s : s + n].astype(np.float32) / 32768, text) for s, n, text, _ in rows]


def recordings(shared: Path) -> dict[str, list[Sample]]:
    """English recordings with transcripts, by folder; one of the copies in many formats."""
    found: dict[str, list[Sample]] = {}
    with (shared / "audio/MANIFEST.tsv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))
    for row in rows:
        parts = Path(row["path"]).parts
        said = row["language"] == "en" and row["transcript"]
        if not said or parts[0] != "speech" or parts[1] == "formats":
            continue
        name = parts[1] if len(parts) > 2 else "single files"
        sample = read(shared / "audio" / row["path"]), letters(row["transcript"])
        found.setdefault(name, []).append(sample)
    return found


# Among the music: block sizes read aloud, a song, a singer.
VOICES = ("flac-test", "lets_go_fishin", "vocadito")


def without_speech(shared: Path) -> dict[str, list[np.ndarray]]:
    """Some ten minutes: noise made here, real music and sounds without voices, silence."""
    rng = np.random.default_rng(0)
    noise = [coloured(rng, 30 * RATE, slope) * 10**level for slope, level in
             ((0, -1), (1, -1), (2, -1), (1, -3), (0, -4), (2, -0.5))]  # fmt: skip
    silence = [np.zeros(30 * RATE, np.float32), np.full(30 * RATE, 0.01, np.float32)]
    found: dict[str, list[np.ndarray]] = {"coloured noise": noise, "silence": silence}
    for name in ("music", "sounds"):
        paths = sorted(path for path in (shared / "audio" / name).rglob("*") if path.is_file())
        paths = [path for path in paths if not any(voice in str(path) for voice in VOICES)]
        found[f"real {name}"] = list(_minutes(paths, 4 * 60))
    return found


def _minutes(paths: list[Path], seconds: float) -> Iterator[np.ndarray]:
    for path in paths:
        if seconds <= 0 or path.suffix in (".md", ".tsv", ".txt"):
            continue
        wave = read(path)[: 120 * RATE]
        seconds -= len(wave) / RATE
        yield wave


# ---- recognisers ------------------------------------------------------------------------------

Hears = Callable[[np.ndarray], str]


def ours(transcriber: Transcriber) -> Hears:
    def hear(wave: np.ndarray) -> str:
        return letters(transcriber.transcribe(Audio(wave[None], RATE)).text)

    return hear


def pocketsphinx(python: Path | None) -> Hears | None:
    """Its default model, in this Python or another one that has it."""
    answers = helper(python, _POCKETSPHINX)
    return answers and (lambda wave: letters(answers(wave)))


def helper(python: Path | None, program: str) -> Hears | None:
    """A program that answers samples with a line, None if it cannot start."""
    command = [str(python or sys.executable), "-c", program]
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL)  # fmt: skip
        assert process.stdin and process.stdout
        if process.stdout.readline() != b"ready\n":
            return None
    except OSError:
        return None
    write, answer = process.stdin, process.stdout

    def hear(wave: np.ndarray) -> str:
        samples = (wave.clip(-1, 1) * 32767).astype("<i2").tobytes()
        write.write(len(samples).to_bytes(4, "little") + samples)
        write.flush()
        return answer.readline().decode()

    return hear


_POCKETSPHINX = """
import sys
from pocketsphinx import Decoder
decoder = Decoder(samprate=16000, loglevel="FATAL")
print("ready", flush=True)
while size := sys.stdin.buffer.read(4):
    decoder.start_utt()
    samples = sys.stdin.buffer.read(int.from_bytes(size, "little"))
    decoder.process_raw(samples, full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    print(found.hypstr if found else "", flush=True)
"""


@dataclass(frozen=True)
class Errors:
    """Wrong words of so many."""

    wrong: int
    words: int

    @property
    def rate(self) -> float:
        """The word error rate in per cent."""
        return 100 * self.wrong / max(1, self.words)


def errors(hear: Hears, samples: Iterable[Sample]) -> Errors:
    counts = [(word_errors(text, hear(wave)), len(text.split())) for wave, text in samples]
    return Errors(sum(wrong for wrong, _ in counts), sum(words for _, words in counts))


# ---- word boundaries --------------------------------------------------------------------------

Times = list[tuple[float, float]]  # of words; the end is NaN where it is not told

TEXTS = (
    "he was further charged with having in his possession a great quantity of silver",
    "the number of the prisoners was seven hundred and twenty four",
    "she opened the window and looked at the garden for a long time",
    "nobody remembers what the old man said about the weather that morning",
    "turn on the kitchen light and play some music after dinner",
    "they waited for the last train to the city in the rain",
)

_FESTIVAL = """
(voice_{voice})
(let ((utt (SynthText "{text}")))
  (utt.save.wave utt "{path}" 'riff)
  (mapcar
    (lambda (w) (format t "%f %f\\n"
      (item.feat w "R:SylStructure.daughter1.daughter1.R:Segment.segment_start")
      (item.feat w "R:SylStructure.daughtern.daughtern.R:Segment.segment_end")))
    (utt.relation.items utt 'Word)))
"""


def festival(voice: str, text: str) -> tuple[np.ndarray, Times]:
    with tempfile.TemporaryDirectory() as folder:
        script, path = Path(folder) / "say.scm", Path(folder) / "said.wav"
        script.write_text(_FESTIVAL.format(voice=voice, text=text, path=path))
        told = subprocess.run(["festival", "-b", str(script)], check=True, capture_output=True)
        rows = [line.split() for line in told.stdout.decode().splitlines()]
        return read(path), [(float(start), float(end)) for start, end in rows]


class _Event(ctypes.Structure):
    """An event of espeak-ng (speak_lib.h)."""

    _fields_ = (
        ("type", ctypes.c_int), ("identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
        ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p), ("id", ctypes.c_char * 8),
    )  # fmt: skip


@lru_cache
def _espeak() -> tuple[ctypes.CDLL, int]:
    """The library, begun once, and its rate."""
    library = ctypes.CDLL("libespeak-ng.so.1")
    return library, int(library.espeak_Initialize(2, 0, None, 0))  # 2: synchronous, into a callback


def espeak(voice: str, text: str) -> tuple[np.ndarray, Times]:
    """Its events tell where words begin."""
    library, samplerate = _espeak()
    heard: list[int] = []
    begins: dict[int, float] = {}  # by the place of the word in the text
    kind = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
    )

    def receive(wave: object, count: int, events: object) -> int:
        if count:
            heard.extend(wave[:count])  # type: ignore[index]
        place = 0
        while events[place].type:  # type: ignore[index]
            if events[place].type == 1:  # type: ignore[index]
                event = events[place]  # type: ignore[index]
                begins[event.text_position - 1] = event.sample / samplerate
            place += 1
        return 0

    callback = kind(receive)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetVoiceByName(voice.encode())
    encoded = text.encode()
    library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, 1, None, None)
    library.espeak_Synchronize()
    wave = torch.tensor(heard, dtype=torch.float32) / 32768
    wave = torchaudio.functional.resample(wave, samplerate, RATE)
    places = [found.start() for found in re.finditer(r"\S+", text)]
    # Of words that it runs together ("of the") it tells only where the first begins.
    return np.asarray(wave.numpy()), [(begins.get(place, nan), nan) for place in places]


def boundaries(aligner: Aligner, limit: int | None) -> Iterator[Row]:
    """How far aligned words begin and end from where they really do."""
    jobs = [("festival", voice, festival) for voice in ("kal_diphone", "ked_diphone")]
    jobs += [("espeak-ng", voice, espeak) for voice in ("en-us", "en-gb")]
    for engine, voice, say in jobs:
        if engine == "festival" and shutil.which(engine) is None:
            continue
        starts, ends = [], []
        for text in TEXTS[:limit]:
            wave, known = say(voice, text)
            segments = aligner.align(partial(_once, wave), text).segments
            found = [word for segment in segments for word in segment.words]
            if len(known) == len(found):
                pairs = list(zip(found, known, strict=True))
                starts += [word.start_s - begin for word, (begin, _) in pairs]
                ends += [word.end_s - end for word, (_, end) in pairs]
        for edge, distances in (("begin", starts), ("end", ends)):
            known_ms = 1000 * np.array(distances)
            known_ms = known_ms[~np.isnan(known_ms)]
            if len(known_ms):
                middle, far = np.median(np.abs(known_ms)), np.percentile(np.abs(known_ms), 90)
                told = f"{middle:.0f} ms, 90 % below {far:.0f}, bias {np.median(known_ms):+.0f}"
                what = f"words {edge}, {engine} {voice}"
                yield Row(what, f"{len(known_ms)} words", told, "at most 40 ms", bool(middle > 40))


def _once(wave: np.ndarray) -> list[np.ndarray]:
    return [wave]


# ---- the table --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What was measured, on how much, what came of it, and the bar; `short` of it or not."""

    what: str
    of: str
    found: str
    bar: str = ""
    short: bool = False


def spoken_by_machines(hear: Hears, data: Path, limit: int | None) -> Iterator[Row]:
    """Word error rates of synthetic speech."""
    for name, bar in SETS.items():
        found = errors(hear, samples := synthetic(data, name)[:limit])
        told = "" if bar is None else f"at most {bar} %"
        short = bar is not None and found.rate > bar
        of = f"{len(samples)} clips, {found.words} words"
        yield Row(f"WER {name}", of, f"{found.rate:.1f} %", told, short)


def spoken_by_people(hear: Hears, peer: Hears | None, shared: Path, limit: int | None
                     ) -> Iterator[Row]:  # fmt: skip
    """Word error rates of real recordings, beside the peer's."""
    totals: list[list[Errors]] = [[], []]
    counts = 0
    for name, samples in recordings(shared).items():
        samples = samples[:limit]
        counts += len(samples)
        found = [errors(one, samples) for one in (hear, peer) if one is not None]
        for total, one in zip(totals, found, strict=False):
            total.append(one)
        yield _beside(f"WER real, {name}", len(samples), found)
    whole = [Errors(sum(e.wrong for e in one), sum(e.words for e in one)) for one in totals if one]
    if whole:
        yield _beside("WER real, all", counts, whole, aim=30)


def _beside(what: str, clips: int, found: list[Errors], aim: float | None = None) -> Row:
    ours, *theirs = found
    told = [f"pocketsphinx: {one.rate:.1f} %" for one in theirs]
    told += [] if aim is None else [f"aim {aim:.0f} %"]
    short = any(ours.rate >= one.rate for one in theirs) or (aim is not None and ours.rate > aim)
    return Row(what, f"{clips} clips, {ours.words} words", f"{ours.rate:.1f} %", ", ".join(told),
               short)  # fmt: skip


def nothing_said(hear: Hears, shared: Path, limit: int | None) -> Iterator[Row]:
    """Words heard where nobody speaks."""
    for name, waves in without_speech(shared).items():
        texts = [hear(wave) for wave in waves[:limit]]
        words = sum(len(text.split()) for text in texts)
        minutes = f"{sum(map(len, waves[:limit])) / RATE / 60:.1f} minutes"
        told = f"{words} words" + (f": {' / '.join(filter(None, texts))[:200]}" if words else "")
        yield Row(f"no speech, {name}", minutes, told, "0 words", words > 0)


def speed(transcriber: Transcriber, threads: int, runs: int) -> Iterator[Row]:
    """How fast a minute of speech is written down: sentences one after another."""
    said: list[np.ndarray] = []
    while sum(map(len, said)) < 60 * RATE:
        said.append(espeak("en-us", TEXTS[len(said) % len(TEXTS)])[0])
    wave = np.concatenate(said)[: 60 * RATE]
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        transcriber.transcribe(Audio(wave[None], RATE))
        took.append(time.perf_counter() - began)
    times = 60 / float(np.median(took))
    of = f"median of {runs}, {threads} threads"
    yield Row("speed, a minute", of, f"{times:.0f} x real time", "at least 60", times < 60)


def size(model: str) -> Iterator[Row]:
    """Weights, and bytes of the file."""
    loaded = load(model)
    count = sum(parameter.numel() for parameter in loaded.model.parameters())
    place = fetch(loaded.card) if loaded.card else Path(model)
    files = [place] if place.is_file() else list(place.glob("*.safetensors"))
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    yield Row("size", f"{count:,} weights", f"{megabytes:.1f} MB", "at most 30", megabytes > 30)


def show(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def rows(ask: argparse.Namespace) -> Iterator[Row]:
    """Everything that can be measured with what is there."""
    transcriber = load_transcriber(ask.model, device="cpu", threads=ask.threads)
    aligner = load_aligner(ask.model, device="cpu")
    hear = ours(transcriber)
    if ask.data:
        yield from spoken_by_machines(hear, ask.data, ask.limit)
    if (ask.shared / "audio").exists():
        peer = pocketsphinx(ask.pocketsphinx)
        yield from spoken_by_people(hear, peer, ask.shared, ask.limit)
        yield from nothing_said(hear, ask.shared, ask.limit)
    yield from boundaries(aligner, ask.limit)
    yield from speed(transcriber, ask.threads, 1 if ask.limit else 5)
    yield from size(ask.model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="alm-asr")
    parser.add_argument("--data", type=Path, help="made by recipes/alm_asr_data.py")
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--pocketsphinx", type=Path, help="a Python that can import it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, help="only so many clips of each set")
    ask = parser.parse_args()
    torch.set_num_threads(ask.threads)
    show("| measured | of | found | bar | |", "|---|---|---|---|---|")
    missed = []
    for row in rows(ask):
        show(f"| {row.what} | {row.of} | {row.found} | {row.bar} | {'MISSED' * row.short} |")
        missed += [row.what] * row.short
    show("", f"Falls short: {'; '.join(missed) or 'nothing'}.")


if __name__ == "__main__":
    main()
