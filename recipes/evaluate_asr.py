"""Measure a recogniser: tables in Markdown on standard output.

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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from math import nan
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio.functional

from alm_cli.checkpoints.load import load
from alm_cli.systems.align import Aligner, load_aligner
from alm_cli.systems.transcriber import Transcriber, load_transcriber
from alm_cli.values import Audio
from recipes.asr_noise import coloured
from recipes.asr_text import letters, word_errors

RATE = 16_000
SETS = ("test_texts", "test_espeak", "test_flite", "test_festival")

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
    command = [str(python or sys.executable), "-c", _POCKETSPHINX]
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
        return letters(answer.readline().decode())

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


def rate(hear: Hears, samples: list[Sample]) -> float:
    """The word error rate in per cent."""
    wrong = sum(word_errors(text, hear(wave)) for wave, text in samples)
    return 100 * wrong / max(1, sum(len(text.split()) for _, text in samples))


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


def boundaries(aligner: Aligner) -> Iterator[str]:
    """Rows of a table: how far aligned words begin and end from where they really do."""
    jobs = [("festival", voice, festival) for voice in ("kal_diphone", "ked_diphone")]
    jobs += [("espeak-ng", voice, espeak) for voice in ("en-us", "en-gb")]
    for engine, voice, say in jobs:
        starts, ends = [], []
        for text in TEXTS:
            wave, known = say(voice, text)
            segments = aligner.align(partial(_once, wave), text).segments
            found = [word for segment in segments for word in segment.words]
            if len(known) == len(found):
                pairs = list(zip(found, known, strict=True))
                starts += [word.start_s - begin for word, (begin, _) in pairs]
                ends += [word.end_s - end for word, (_, end) in pairs]
        told = int(np.isfinite(starts).sum())
        yield f"| {engine} {voice} | {told} | {_spread(starts)} | {_spread(ends)} |"


def _once(wave: np.ndarray) -> list[np.ndarray]:
    return [wave]


def _spread(errors: list[float]) -> str:
    known = 1000 * np.array(errors)
    known = known[~np.isnan(known)]
    if not len(known):
        return "not told"
    middle, far = np.median(np.abs(known)), np.percentile(np.abs(known), 90)
    return f"{middle:.0f} ms, 90 % below {far:.0f}, bias {np.median(known):+.0f}"


# ---- the tables -------------------------------------------------------------------------------


def show(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def rates(title: str, sets: dict[str, list[Sample]], hears: dict[str, Hears]) -> None:
    show("", f"| {title} | clips | words | {' | '.join(hears)} |", "|---" * (3 + len(hears)) + "|")
    for name, samples in sets.items():
        words = sum(len(text.split()) for _, text in samples)
        found = " | ".join(f"{rate(hear, samples):.1f} %" for hear in hears.values())
        show(f"| {name} | {len(samples)} | {words} | {found} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="alm-asr")
    parser.add_argument("--data", type=Path, help="made by recipes/alm_asr_data.py")
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--pocketsphinx", type=Path, help="a Python that can import it")
    parser.add_argument("--threads", type=int, default=2)
    ask = parser.parse_args()
    torch.set_num_threads(ask.threads)
    transcriber = load_transcriber(ask.model, device="cpu", threads=ask.threads)
    hears = {ask.model: ours(transcriber)}
    if ask.data:
        rates("synthetic", {name: synthetic(ask.data, name) for name in SETS}, hears)
    sphinx = pocketsphinx(ask.pocketsphinx)
    if sphinx:
        hears["pocketsphinx"] = sphinx
    if (ask.shared / "audio").exists():
        sets = recordings(ask.shared)
        sets["all"] = [sample for samples in sets.values() for sample in samples]
        rates("real", sets, hears)
        show("", "| no speech | minutes | words heard |", "|---|---|---|")
        for name, waves in without_speech(ask.shared).items():
            words = sum(len(hears[ask.model](wave).split()) for wave in waves)
            show(f"| {name} | {sum(map(len, waves)) / RATE / 60:.1f} | {words} |")
    aligner = load_aligner(ask.model, device="cpu")
    show("", "| boundaries | words | begin | end |", "|---|---|---|---|", *boundaries(aligner))
    wave = np.random.default_rng(0).standard_normal(RATE * 60).astype(np.float32) * 0.1
    took = []
    for _ in range(5):
        began = time.perf_counter()
        transcriber.transcribe(Audio(wave[None], RATE))
        took.append(time.perf_counter() - began)
    count = sum(parameter.numel() for parameter in load(ask.model).model.parameters())
    speed = 60 / float(np.median(took))
    show("", f"{speed:.0f} times real time, median of 5, {ask.threads} threads",
         f"{count:,} weights")  # fmt: skip


if __name__ == "__main__":
    main()
