"""Make the speech that alm-tts is trained on: sounds with their times, and codes of alm-codec.

    python recipes/alm_tts_data.py OUT_DIR --shared ../shared

Each part becomes `OUT_DIR/part_NN.npz`. flite speaks and says how long each phoneme took; pitch and
the length of the vocal tract are changed to make more speakers of its four voices. Nothing here is
a recording, apart from what the voices were made of. The sentences that measure
(`recipes/speak_texts.txt`) are left out.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio.functional

from alm_cli.checkpoints.load import load
from alm_cli.codecs.alm_codec import AlmCodec
from alm_cli.text.sounds import PAUSES, SYMBOLS, sounds
from recipes.alm_asr_data import WORDS, divided
from recipes.asr_text import Phrases, letters

RATE, BOOKS, UNIT_S = 24_000, 8, 0.01
BEGIN, END = 0.1, 0.15  # seconds of silence that stay around speech
TEXTS = Path(__file__).with_name("speak_texts.txt")
VOICES = ("slt", "rms", "awb", "kal16")
LOUDNESS = 0.08  # root mean square of all of a clip

Rng = np.random.Generator


@dataclass(frozen=True)
class Speaker:
    """A voice of flite; pitch and vocal tract in parts of its own (1 is as it is)."""

    voice: str
    pitch: float = 1.0
    tract: float = 1.0


@dataclass(frozen=True)
class Clip:
    """Symbols [N], 1 where a word begins [N], durations in 10 ms [N], codes [K, F]."""

    symbols: np.ndarray
    first: np.ndarray
    durations: np.ndarray
    codes: np.ndarray


def measuring_texts() -> list[str]:
    """The frozen texts, in order."""
    lines = TEXTS.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def speak(speaker: Speaker, text: str, pace: float) -> tuple[np.ndarray, list[tuple[str, float]]]:
    """16 kHz samples, and phonemes with the seconds where they end, `pace` times as slow."""
    settings = {"duration_stretch": pace * speaker.tract, "f0_shift": speaker.pitch / speaker.tract}
    if speaker.voice == "kal16":
        settings["int_f0_target_mean"] = 105 * settings["f0_shift"]
    options = [part for k, v in settings.items() for part in ("--setf", f"{k}={v:.4f}")]
    with tempfile.NamedTemporaryFile(suffix=".wav", dir="/dev/shm") as file:
        command = ["flite", "-voice", speaker.voice, *options, "-psdur", "-t", f"{text} "]
        told = subprocess.run(
            [*command, "-o", file.name], check=True, capture_output=True, text=True, timeout=60
        ).stdout
        wave, rate = soundfile.read(file.name, dtype="float32")
    assert rate == 16_000
    ends = [(name, float(end)) for name, _, end in (p.partition(":") for p in told.split())]
    if any(b[1] < a[1] for a, b in zip(ends, ends[1:], strict=False)):
        raise ValueError("several sentences")
    return wave, ends


def timed(text: str, ends: list[tuple[str, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Symbols, beginnings of words and end times of what was said, as the text has them."""
    wanted = sounds(text)
    said = ["pau" if s in PAUSES else s for s in wanted.symbols]
    heard = [name for name, _ in ends]
    matcher = SequenceMatcher(None, said, heard, autojunk=False)
    if matcher.ratio() < 0.9:
        raise ValueError(f"{text!r} was said in another way")
    origin = [-1] * len(heard)
    for block in matcher.get_matching_blocks():
        for n in range(block.size):
            origin[block.b + n] = block.a + n
    symbols, first = [], []
    for place, name in enumerate(heard):
        source = origin[place]
        if name == "pau":
            edge = "^" if place == 0 else wanted.symbols[-1] if place == len(heard) - 1 else ","
            symbols.append(wanted.symbols[source] if source >= 0 else edge)
        else:
            symbols.append(name)
        owner = wanted.owners[source] if source > 0 else -1
        first.append(owner >= 0 and owner != wanted.owners[source - 1])
    numbers = np.array([SYMBOLS.index(s) for s in symbols])
    return numbers, np.array(first), np.array([end for _, end in ends])


@lru_cache(maxsize=1)
def codec() -> AlmCodec:
    torch.set_num_threads(1)
    model = load("alm-codec").model
    assert isinstance(model, AlmCodec)
    return model


@torch.inference_mode()
def clip(speaker: Speaker, text: str, pace: float) -> Clip:
    """One text by one speaker. ValueError: the text and what was said do not agree."""
    wave, told = speak(speaker, text, pace)
    symbols, first, ends = timed(text, told)
    if symbols[0] != SYMBOLS.index("^") or SYMBOLS[symbols[-1]] not in ".?!":
        raise ValueError("no silence around it")
    begins = np.r_[0.0, ends[:-1]]
    start, stop = max(0.0, ends[0] - BEGIN), min(ends[-1], begins[-1] + END, len(wave) / 16_000)
    wave = wave[round(start * 16_000) : round(stop * 16_000)]
    # A shorter tract is the same wave, read faster.
    rate = round(16_000 * speaker.tract)
    samples = torchaudio.functional.resample(torch.from_numpy(wave), rate, RATE)
    edges = np.round((np.clip(ends, start, stop) - start) / speaker.tract / UNIT_S).astype(int)
    durations = np.diff(np.r_[0, edges])
    if (durations < 0).any() or edges[-1] > 1500:
        raise ValueError("too long")
    samples = samples * (LOUDNESS / (samples.square().mean().sqrt() + 1e-6))
    samples = samples * min(1.0, 0.99 / float(samples.abs().max()))
    length = edges[-1] * round(RATE * UNIT_S)
    padded = torch.zeros(length + codec().delay)
    padded[: min(length, len(samples))] = samples[:length]
    codes = codec().encode(padded[None, None], BOOKS)[0].numpy().astype(np.int16)
    return Clip(symbols.astype(np.int8), first, durations.astype(np.int16), codes)


def speakers(rng: Rng) -> Speaker:
    """A speaker of flite as it is, or one that it could have."""
    voice = str(rng.choice(VOICES, p=(0.36, 0.36, 0.2, 0.08)))
    if rng.random() < 0.5:
        return Speaker(voice)
    # In steps that make rates of whole 200 hertz: other ratios need huge filters.
    tract = round(80 * float(np.exp(rng.normal(0, 0.06)).clip(0.86, 1.16))) / 80
    return Speaker(voice, float(tract * np.exp(rng.normal(0, 0.12))), tract)


def group(task: tuple[int, int, list[str]]) -> list[Clip]:
    """Clips of one speaker."""
    part, number, texts = task
    rng = np.random.default_rng([77, part, number])
    speaker, found = speakers(rng), []
    for text in texts:
        try:
            found.append(clip(speaker, text, float(rng.triangular(0.8, 1.0, 1.3))))
        except (ValueError, subprocess.SubprocessError, soundfile.SoundFileError):
            continue  # an abbreviation or a name that is said in another way
    return found


def text_of(phrases: Phrases, rng: Rng) -> str:
    """A phrase as a sentence, with one of the marks that end it."""
    text = phrases.text(rng).strip()
    if rng.random() < 0.15:  # the short ones are what others fail at
        text = " ".join(phrases.word(rng) for _ in range(rng.integers(1, 4)))
    if rng.random() < 0.1:  # a part of a longer list
        text = re.sub(r"(\w+) (\w+)", r"\1, \2", text, count=1)
    text = re.sub(r"[.?!]+(?=\s)", ",", text).rstrip(" ,;:.?!")
    return text[:1].upper() + text[1:] + str(rng.choice(list("......??!")))


def write(path: Path, groups: list[list[Clip]]) -> None:
    clips = [(number, clip) for number, found in enumerate(groups) for clip in found]
    partial = path.with_suffix(".partial")
    with partial.open("wb") as handle:
        np.savez(
            handle,
            speaker=np.array([number for number, _ in clips]),
            symbols=np.concatenate([clip.symbols for _, clip in clips]),
            first=np.concatenate([clip.first for _, clip in clips]),
            durations=np.concatenate([clip.durations for _, clip in clips]),
            codes=np.concatenate([clip.codes for _, clip in clips], axis=1),
            sizes=np.array([len(clip.symbols) for _, clip in clips]),
            frames=np.array([clip.codes.shape[1] for _, clip in clips]),
        )
    partial.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--parts", type=int, default=20, help="of about half an hour each")
    parser.add_argument("--speakers", type=int, default=40, help="in a part")
    parser.add_argument("--clips", type=int, default=10, help="of each speaker")
    ask = parser.parse_args()
    ask.folder.mkdir(parents=True, exist_ok=True)
    _, lines = divided(ask.shared)
    phrases = Phrases(lines, WORDS.read_text(encoding="utf-8").splitlines())
    unwanted = {letters(text) for text in measuring_texts()}
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for part in range(ask.parts):
            path = ask.folder / f"part_{part:02}.npz"
            if path.exists():
                continue
            began, rng = time.monotonic(), np.random.default_rng([78, part])
            tasks = []
            for number in range(ask.speakers):
                texts = [text_of(phrases, rng) for _ in range(ask.clips)]
                tasks.append((part, number, [t for t in texts if letters(t) not in unwanted]))
            groups = pool.map(group, tasks, chunksize=1)
            write(path, groups)
            seconds = sum(clip.codes.shape[1] for found in groups for clip in found) / 25
            clips = sum(map(len, groups))
            took = time.monotonic() - began
            sys.stderr.write(f"{path.name}: {clips} clips, {seconds / 60:.1f} min, {took:.0f} s\n")


if __name__ == "__main__":
    main()
