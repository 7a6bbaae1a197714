"""Make the audio that the bundled neural codec is trained on: 24 kHz mono int16.

    python recipes/clips.py OUT_DIR --shared ../shared

Each class becomes ``OUT_DIR/<class>.i16`` (its clips one after another, raw little-endian) and
``OUT_DIR/<class>.json`` (a list of ``[start, length, source]`` in samples).  What validation
hears (other readers, voices, instruments and seeds) goes to ``<class>_valid``.  The index appears
last and both files appear whole, so a trainer may start on the classes whose index is there, and
a second run makes only what is missing.  Recordings come from the shared folder; synthetic speech
from espeak-ng, flite and festival; music is composed here and played by fluidsynth.
"""

import argparse
import itertools
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torchaudio.functional

from recipes.scores import STYLES, compose, play_score

RATE = 24000

Rng = np.random.Generator
Clip = tuple[np.ndarray, str]  # samples as floats, and where they come from
Job = tuple[Callable[..., Clip], tuple[Any, ...]]  # called as function(rng, *arguments)


# ---- recordings -------------------------------------------------------------------------------


def load(path: str | Path, percent: int = 100) -> np.ndarray:
    """Read a file as mono 24 kHz, played at `percent` of its speed (and so of its pitch)."""
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono, rate = torch.from_numpy(wave.mean(axis=1)), rate * percent // 100
    wave = torchaudio.functional.resample(mono, rate, RATE, lowpass_filter_width=24).numpy()
    return np.asarray(wave)


def recording(rng: Rng, path: Path, slowest: int = 100, fastest: int = 100) -> Clip:
    return load(path, int(rng.integers(slowest, fastest + 1))), path.stem


def spectrum_shaped(wave: np.ndarray, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Filter with no delay: `gain` gives the amplitude for each frequency in hertz."""
    size = 1 << (len(wave) + 2400).bit_length()
    spectrum = np.fft.rfft(wave, size) * gain(np.fft.rfftfreq(size, 1 / RATE))
    return np.fft.irfft(spectrum, size)[: len(wave)]


def noise(
    rng: Rng, count: int, slope: float = 0, low: float = 20, high: float = 12e3
) -> np.ndarray:
    """Noise whose power falls as frequency**-slope (0 white, 1 pink, 2 brown), in one band."""

    def gain(hertz: np.ndarray) -> np.ndarray:
        band = 1 / (1 + (low / np.maximum(hertz, 1)) ** 8) / (1 + (hertz / high) ** 8)
        return np.asarray(np.maximum(hertz, 20) ** (-slope / 2) * band)

    wave = spectrum_shaped(rng.standard_normal(count), gain)
    return np.asarray(wave / (wave.std() + 1e-12))


def room(rng: Rng, path: Path) -> Clip:
    """A stretch of a recording in a synthetic room, through a poor microphone, in noise."""
    wave = load(path)
    length = min(len(wave), int(rng.uniform(5, 12) * RATE))
    start = int(rng.integers(0, len(wave) - length + 1))
    wave = wave[start : start + length].astype(np.float64)
    kind = rng.choice(["room", "microphone", "both"], p=[0.4, 0.2, 0.4])
    if kind != "microphone":
        decay = rng.uniform(0.1, 0.6)
        tail = np.arange(int(decay * 1.2 * RATE)) / RATE
        late = rng.standard_normal(len(tail)) * 10 ** (-3 * tail / decay)
        late[: int(rng.uniform(0.005, 0.03) * RATE)] *= 0.1
        for delay in rng.uniform(0.001, 0.04, 8):
            late[int(delay * RATE)] += rng.choice([-1, 1]) * rng.uniform(2, 8) / (1 + 60 * delay)
        late /= np.sqrt((late**2).sum()) * rng.uniform(0.5, 3)
        late[0] = 1
        size = 1 << (length + len(late)).bit_length()
        wave = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(late, size), size)[:length]
    if kind != "room":
        points, decibels = np.geomspace(60, 12000, 8), rng.normal(0, 5, 8)
        low, high = rng.uniform(40, 300), rng.choice([12e3, 8e3, rng.uniform(3400, 7000)])

        def gain(hertz: np.ndarray) -> np.ndarray:
            curve = 10 ** (np.interp(np.log(hertz + 1), np.log(points), decibels) / 20)
            band = 1 / (1 + (low / np.maximum(hertz, 1)) ** 4) / (1 + (hertz / high) ** 8)
            return np.asarray(curve * band)

        wave = spectrum_shaped(wave, gain)
    ratio = 10 ** (-rng.uniform(10, 35) / 20)
    return wave + ratio * wave.std() * noise(rng, length, rng.uniform(0, 2)), f"{kind} {path.stem}"


# ---- synthetic speech -------------------------------------------------------------------------

ACCENTS = "en-us en-gb en-gb-scotland en-gb-x-rp en-gb-x-gbclan en-gb-x-gbcwmd en-029 en-us-nyc"
VARIANTS = (
    "m1 m2 m3 m4 m5 m6 m7 m8 f1 f2 f4 f5 klatt klatt2 klatt3 klatt4 klatt5 klatt6 whisper adam "
    "steph linda quincy paul rob victor anika belinda caleb shelby zac Andrea grandma grandpa"
)


def speech(rng: Rng, text: str, held_out: bool = False) -> Clip:
    """One sentence by a random synthetic voice; flite's awb and espeak-ng's f3 are held out."""
    program = rng.choice(["espeak-ng", "flite", "festival"], p=[0.5, 0.3, 0.2])
    if held_out:
        program = rng.choice(["espeak-ng", "flite"])
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/speech.wav"
        if program == "espeak-ng":
            variant = "f3" if held_out else rng.choice(VARIANTS.split())
            voice = f"{rng.choice(ACCENTS.split())}+{variant}"
            pitch, speed = rng.integers(15, 85), rng.integers(120, 210)
            options = ["-v", voice, "-p", str(pitch), "-s", str(speed), "-w", path, "--stdin"]
            command = ["espeak-ng", *options]
        elif program == "flite":
            voice = "awb" if held_out else str(rng.choice(["kal16", "rms", "slt"]))
            stretch = f"duration_stretch={rng.uniform(0.85, 1.2):.2f}"
            command = ["flite", "-voice", voice, "--setf", stretch, "-t", text, "-o", path]
        else:
            voice = str(rng.choice(["kal_diphone", "cmu_us_slt_arctic_hts"]))
            command = ["text2wave", "-eval", f"(voice_{voice})", "-o", path]
        subprocess.run(command, input=text.encode(), check=True, capture_output=True)
        return load(path), f"{program} {voice}"


# ---- music ------------------------------------------------------------------------------------


def music(rng: Rng, held_out: bool = False) -> Clip:
    """A random piece; the last instrument of every General MIDI family is held out."""
    programs = [program for program in range(120) if (program % 8 == 7) == held_out]
    style = str(rng.choice(STYLES[:-1] if held_out else STYLES))
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/music.wav"
        seconds = rng.uniform(6, 14) if held_out else rng.uniform(12, 36)
        play_score(compose(rng, programs, seconds, style), path, 48000)
        wave = load(path)
    heard = np.flatnonzero(np.abs(wave) > 0.002 * np.abs(wave).max())  # the end is long and silent
    return wave[: heard[-1] + RATE // 4 if len(heard) else 0], f"score {style}"


# ---- other sounds -----------------------------------------------------------------------------


def slow(rng: Rng, count: int, hertz: float, low: float = 0, high: float = 1) -> np.ndarray:
    """A smooth random curve between `low` and `high` that turns about `hertz` times a second."""
    points = max(3, int(count / RATE * hertz) + 2)
    return np.interp(np.linspace(0, points - 1, count), np.arange(points),
                     rng.uniform(low, high, points))  # fmt: skip


def tone(hertz: np.ndarray | float, count: int) -> np.ndarray:
    return np.sin(2 * np.pi * np.cumsum(np.broadcast_to(hertz, count)) / RATE)


def hits(rng: Rng, count: int, every: float, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Sounds from `make` at random moments, about `every` seconds apart."""
    wave, at = np.zeros(count), int(rng.exponential(every) * RATE)
    while at < count:
        hit = make()[: count - at]
        wave[at : at + len(hit)] += hit
        at += 1 + int(rng.exponential(every) * RATE)
    return wave


def ringing(rng: Rng, partials: int, low: float, high: float, decay: float) -> np.ndarray:
    """Inharmonic partials that die away: a drop, a click or a bell."""
    count = int(3 * decay * RATE)
    base, clock = rng.uniform(low, high), np.arange(count) / RATE
    ratios = np.concatenate([[1], rng.uniform(1.2, 6, partials - 1)])
    rings = [tone(min(base * ratio, 11500), count) * np.exp(-clock * 2 / decay * ratio**0.5)
             * rng.uniform(0.2, 1) for ratio in ratios]  # fmt: skip
    return np.asarray(np.sum(rings, axis=0) * rng.uniform(0.1, 1) ** 2)


def engine(rng: Rng, count: int) -> np.ndarray:
    pitch = slow(rng, count, 1, 35, 160) * 0.2 + rng.uniform(30, 150)
    pitch = pitch * (1 + 0.02 * noise(rng, count, 1, 20, 200))
    orders = range(1, int(rng.integers(6, 40)))
    hum = sum(rng.uniform(0.2, 1) / order**0.7 * tone(pitch * order, count) for order in orders)
    return np.asarray(hum + rng.uniform(0.02, 0.5) * noise(rng, count, 1))


def beeps(rng: Rng, count: int) -> np.ndarray:
    wave, step = np.zeros(count), int(rng.uniform(0.07, 0.4) * RATE)
    single, square = rng.random() < 0.4, rng.random() < 0.3
    for start in range(0, count - step, step):
        length = int(step * rng.uniform(0.4, 0.8))
        low, high = rng.choice([697, 770, 852, 941]), rng.choice([1209, 1336, 1477, 1633])
        beep = tone(rng.uniform(300, 4000), length) if single else tone(low, length)
        wave[start : start + length] = beep if single else beep + tone(high, length)
    return np.sign(wave) * 0.3 if square else wave


def sound(rng: Rng, kind: str) -> Clip:
    count = int(rng.uniform(3, 9) * RATE)
    if kind == "noise":
        wave = noise(rng, count, rng.choice([0, 1, 2])) * slow(rng, count, rng.uniform(0.2, 8))
    elif kind == "band":
        low = np.exp(rng.uniform(np.log(50), np.log(6000)))
        wave = noise(rng, count, 0, low, low * rng.uniform(1.1, 4)) * slow(rng, count, 4, 0.1)
    elif kind == "rain":
        drops = hits(rng, count, rng.uniform(0.002, 0.03), lambda: ringing(rng, 2, 1e3, 6e3, 0.004))
        wave = drops + 0.05 * rng.uniform(0.05, 1) * noise(rng, count, 0.5, 500)
    elif kind == "wind":
        bands = [noise(rng, count, 1.5, 100 * 2**band, 250 * 2**band) for band in range(5)]
        wave = sum(band * slow(rng, count, 1.5) ** 2 * rng.uniform(0.1, 1) for band in bands)
    elif kind == "engine":
        wave = engine(rng, count)
    elif kind == "sweep":
        low, high = np.exp(rng.uniform(np.log(60), np.log(11000), 2))
        phase = np.linspace(0, rng.choice([1, 2, 5, 20]), count) % 1
        wave = tone(low * (high / low) ** phase, count) * slow(rng, count, 2, 0.2)
    elif kind == "clicks":
        decay = rng.uniform(0.001, 0.02)
        wave = hits(rng, count, rng.uniform(0.03, 0.5), lambda: ringing(rng, 6, 300, 4e3, decay))
    elif kind == "bells":
        ring, parts = rng.uniform(0.3, 2.5), int(rng.integers(3, 9))
        wave = hits(rng, count, 0.6, lambda: ringing(rng, parts, 150, 2500, ring))
    elif kind == "beeps":
        wave = beeps(rng, count)
    elif kind == "tones":
        vibrato = 1 + rng.uniform(0, 0.1) * tone(rng.uniform(0.5, 90), count)
        wave = tone(np.exp(rng.uniform(np.log(80), np.log(5000))) * vibrato, count)
        wave = np.tanh(wave * rng.uniform(0.5, 6)) * (1.2 + tone(rng.uniform(0.5, 40), count))
    else:  # quiet: below what `finished` makes louder
        wave = noise(rng, count, rng.uniform(0, 2)) * 10 ** (-rng.uniform(60, 85) / 20)
        wave *= rng.random() > 0.2
    return wave + 1e-5 * rng.standard_normal(count) * (kind != "quiet"), kind


KINDS = "noise band rain wind engine sweep clicks bells beeps tones noise wind quiet"


# ---- the classes ------------------------------------------------------------------------------


def finished(rng: Rng, wave: np.ndarray) -> np.ndarray:
    """Bring the peak between -12 and -1 dBFS; what is fainter than -40 dBFS stays faint."""
    peak = float(np.abs(wave).max(initial=0))
    gain = 10 ** (rng.uniform(-12, -1) / 20) / peak if peak > 0.01 else 1.0
    return np.round(wave * gain * 32767).astype("<i2")


def work(task: tuple[str, int, Job]) -> tuple[np.ndarray, str]:
    name, index, (function, arguments) = task
    rng = np.random.default_rng([zlib.crc32(name.encode()), index])
    wave, source = function(rng, *arguments)
    return finished(rng, wave), source


def write_part(
    folder: Path, name: str, rate: int, clips: Iterable[tuple[np.ndarray, Sequence[object]]]
) -> None:
    """Clips [n] int16 and what is known of each -> the two files of a part, the index last."""
    audio, index = folder / f"{name}.i16", folder / f"{name}.json"
    began, start = time.monotonic(), 0
    rows: list[list[object]] = []
    with open(f"{audio}.part", "wb") as output:
        for samples, about in clips:
            output.write(samples.tobytes())
            rows.append([start, len(samples), *about])
            start += len(samples)
    Path(f"{index}.part").write_text(json.dumps(rows))
    Path(f"{audio}.part").replace(audio)
    Path(f"{index}.part").replace(index)
    took, made = time.monotonic() - began, start / rate / 60
    sys.stderr.write(f"{name}: {made:.1f} minutes, {len(rows)} clips, took {took:.0f} s\n")


def build(folder: Path, name: str, minutes: float, jobs: Iterable[Job]) -> None:
    """Run jobs until the class has its minutes, and put its two files in place."""
    if all((folder / f"{name}.{kind}").exists() for kind in ("i16", "json")):
        return
    tasks = [(name, number, job) for number, job in enumerate(jobs)]

    def clips() -> Iterator[tuple[np.ndarray, tuple[str]]]:
        left = int(minutes * 60 * RATE)
        for samples, source in pool.imap(work, tasks):
            if len(samples) > RATE // 20:  # a synthesiser may find nothing to say
                yield samples, (source,)
                left -= len(samples)
            if left <= 0:
                return

    with multiprocessing.Pool(2) as pool:
        write_part(folder, name, RATE, clips())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the two processes of the pool are enough
    rng, train = np.random.default_rng(1), options.shared / "train"

    def make(name: str, minutes: float, jobs: Iterable[Job]) -> None:
        build(options.folder, name, minutes, jobs)

    libri = sorted((train / "speech/librispeech").glob("*.flac"))
    readers = sorted({path.stem.split("-")[0] for path in libri})
    libri_valid = [path for path in libri if readers.index(path.stem.split("-")[0]) % 20 == 19]
    libri = [path for path in libri if path not in libri_valid]
    kerstin = sorted((train / "speech/kerstin").glob("*.flac"))
    cut = len(kerstin) * 98 // 100
    kerstin, kerstin_valid = kerstin[:cut], kerstin[cut:]
    if libri and kerstin:
        make("libri", 999, [(recording, (path,)) for path in libri])
        make("libri_valid", 999, [(recording, (path,)) for path in libri_valid])
        make("kerstin", 999, [(recording, (path,)) for path in kerstin])
        make("kerstin_valid", 999, [(recording, (path,)) for path in kerstin_valid])
        make("libri_fast", 999, [(recording, (path, 105, 120)) for path in libri])
        make("libri_slow", 999, [(recording, (path, 83, 95)) for path in libri])
    else:
        sys.stderr.write(f"no recorded speech in {train}: libri, kerstin and rooms are skipped\n")

    found = sorted((train / "music").rglob("*.flac"))
    if not found:
        sys.stderr.write(f"no recorded music in {train}: music has composed scores alone\n")
    make("music", 35, [(recording, (path,)) for path in found] + [(music, ())] * 250)
    make("music_valid", 2, [(music, (True,))] * 20)

    book = train / "text/ljspeech.txt"
    if book.exists():
        lines = [line for line in book.read_text().splitlines() if len(line) > 30]
        texts = [lines[place] for place in rng.choice(len(lines), 1400, replace=False)]
        make("synth", 30, [(speech, (text,)) for text in texts[:1300]])
        make("synth_valid", 2, [(speech, (text, True)) for text in texts[1300:]])
    else:
        sys.stderr.write(f"no sentences at {book}: synth is skipped\n")

    kinds = list(itertools.islice(itertools.cycle(KINDS.split()), 400))
    make("sounds", 10, [(sound, (kind,)) for kind in kinds])
    make("sounds_valid", 1, [(sound, (kind,)) for kind in kinds])
    if libri and kerstin:
        pairs = zip(rng.permutation(libri), rng.permutation(kerstin), strict=False)
        make("rooms", 15, [(room, (path,)) for pair in pairs for path in pair])
        pairs = zip(libri_valid, kerstin_valid, strict=False)
        make("rooms_valid", 1, [(room, (path,)) for pair in pairs for path in pair])


if __name__ == "__main__":
    main()
