"""Make the speech that alm-asr is trained on: 16 kHz mono int16, all of it synthetic.

    python recipes/alm_asr_data.py OUT_DIR --shared ../shared

Each part becomes ``OUT_DIR/<part>.i16`` (its clips one after another, raw little-endian) and
``OUT_DIR/<part>.json`` (a list of ``[start, length, text, voice]``, in samples; the text is what
`recipes.asr_text.letters` makes of it). The index appears last, and both files appear whole: a
trainer may start on the parts that are there, and a second run makes only what is missing.

Training hears espeak-ng, flite, Pico (the package py-nanotts) and RHVoice (`RHVoice-test`; those of
its English voices whose licence does not forbid any use). Held out for measuring are sentences,
some voices of the first two, and a whole engine, festival. Nothing here is a recording, apart from
what the voices were made of; `recipes/asr_labels.py` adds readers.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio.functional

from recipes.asr_text import Phrases, letters, sentences
from recipes.clips import KINDS, music, sound, write_part

RATE = 16_000
WORDS = Path("/usr/share/dict/american-english-small")  # the package wamerican-small (SCOWL)

Rng = np.random.Generator
Clip = tuple[np.ndarray, str, str]  # samples as floats, text, voice

# American accents oftener than others, as among those who will use it.
ACCENTS = (
    *("en-us",) * 7, *("en-gb",) * 3, "en-gb-x-rp", "en-gb-x-rp", "en-gb-scotland",
    "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us-nyc",
)  # fmt: skip
VARIANTS = (
    "m1 m2 m3 m4 m6 m7 m8 f1 f2 f4 f5 klatt klatt2 klatt3 klatt4 klatt5 klatt6 whisper whisperf "
    "croak adam steph linda quincy paul rob victor anika belinda caleb shelby zac grandma grandpa "
    "Alex Alicia Andy Annie Denis Diogo Gene Gene2 Henrique Hugo Lee Marco Michael Mike Storm "
    "antonio aunty benjamin boris david ed edward edward2 gustave iven iven3 john marcelo max "
    "michel miguel norbert pablo pedro robert sandro steph2 travis"
)
HELD_OUT = ("m5", "f3", "Andrea", "Mario")  # of espeak-ng; of flite: rms
FLITE = ("kal16", "slt", "slt", "awb", "awb")
PICO = ("en-US", "en-GB")
RHVOICE = ("Alan", "Bdl", "Clb", "Ksp", "Slt")
FESTIVAL = ("kal_diphone", "ked_diphone", "cmu_us_slt_arctic_hts")


# ---- the engines ------------------------------------------------------------------------------


def load(path: str | Path) -> np.ndarray:
    """Read a file as mono 16 kHz, without the silence that engines put around speech."""
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = torch.from_numpy(wave.mean(axis=1))
    mono = torchaudio.functional.resample(mono, rate, RATE, lowpass_filter_width=16)
    samples = np.asarray(mono.numpy())
    heard = np.flatnonzero(np.abs(samples) > 0.003)
    if not len(heard):
        return samples[:0]
    return samples[max(0, heard[0] - RATE // 20) : heard[-1] + RATE // 20]


def run(command: Sequence[str], text: str) -> None:
    subprocess.run(command, input=text.encode(), check=True, capture_output=True, timeout=60)


def espeak(rng: Rng, text: str, path: str, held_out: bool) -> str:
    voice = f"{rng.choice(ACCENTS)}+{rng.choice(HELD_OUT if held_out else VARIANTS.split())}"
    speed, pitch = int(rng.triangular(120, 160, 215)), int(rng.integers(15, 90))
    gap = int(rng.choice([0, 0, 0, 0, 1, 2, 5]))
    numbers = ["-s", str(speed), "-p", str(pitch), "-g", str(gap)]
    run(["espeak-ng", "-v", voice, *numbers, "-w", path, "--stdin"], text)
    return f"espeak-ng {voice}"


def flite(rng: Rng, text: str, path: str, held_out: bool) -> str:
    voice = "rms" if held_out else str(rng.choice(FLITE))
    pitch = float(np.exp(rng.normal(0, 0.15)))
    settings = {"duration_stretch": rng.uniform(0.8, 1.25), "f0_shift": pitch}
    if voice == "kal16":
        settings["int_f0_target_mean"] = 100 * pitch
    options = [part for k, v in settings.items() for part in ("--setf", f"{k}={v:.3f}")]
    run(["flite", "-voice", voice, *options, "-t", text, "-o", path], text)
    return f"flite {voice}"


def pico(rng: Rng, text: str, path: str, held_out: bool) -> str:  # noqa: ARG001 - none is
    from py_nanotts import NanoTTS  # noqa: PLC0415 - only who makes the data has it

    voice, speed, pitch = str(rng.choice(PICO)), rng.uniform(0.8, 1.25), np.exp(rng.normal(0, 0.12))
    said = NanoTTS().speak(text, voice=voice, speed=float(speed), pitch=float(pitch))
    soundfile.write(path, np.frombuffer(said, "<i2"), RATE)
    return f"pico {voice}"


def rhvoice(rng: Rng, text: str, path: str, held_out: bool) -> str:  # noqa: ARG001 - none is
    voice, rate, pitch = str(rng.choice(RHVOICE)), rng.integers(80, 125), rng.integers(85, 118)
    run(["RHVoice-test", "-p", voice, "-r", str(rate), "-t", str(pitch), "-o", path], text)
    return f"rhvoice {voice}"


def festival(rng: Rng, text: str, path: str, held_out: bool) -> str:  # noqa: ARG001 - all is
    voice = str(rng.choice(FESTIVAL))
    run(["text2wave", "-eval", f"(voice_{voice})", "-o", path], text)
    return f"festival {voice}"


ENGINES: dict[str, Callable[[Rng, str, str, bool], str]] = {
    "espeak-ng": espeak, "flite": flite, "pico": pico, "rhvoice": rhvoice, "festival": festival,
}  # fmt: skip


def speech(rng: Rng, texts: Sequence[str], engines: Sequence[str], held_out: bool) -> Clip:
    """The texts, each by a voice of its own, with pauses between them."""
    waves: list[np.ndarray] = []
    voices: list[str] = []
    for text in texts:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            path = f"{folder}/speech.wav"
            voices.append(ENGINES[str(rng.choice(engines))](rng, text, path, held_out))
            wave = load(path)
        if waves:
            waves.append(np.zeros(int(rng.uniform(0.05, 0.7) * RATE)))
        waves.append(wave / (np.abs(wave).max(initial=0) + 1e-9) * rng.uniform(0.4, 1))
    return np.concatenate(waves), " ".join(map(letters, texts)), ", ".join(voices)


def background(rng: Rng, kind: str) -> Clip:
    """Music or other sounds without speech."""
    wave, source = music(rng) if kind == "music" else sound(rng, kind)
    wave = torchaudio.functional.resample(torch.from_numpy(wave).float(), 24_000, RATE).numpy()
    return np.asarray(wave / (np.abs(wave).max(initial=0) + 1e-9)), "", source


# ---- the parts --------------------------------------------------------------------------------

Job = tuple[Callable[..., Clip], tuple[object, ...]]  # called as function(rng, *arguments)


def work(task: tuple[str, int, Job]) -> tuple[np.ndarray, str, str]:
    name, index, (function, arguments) = task
    rng = np.random.default_rng([zlib.crc32(name.encode()), index])
    try:
        wave, text, source = function(rng, *arguments)
    except (subprocess.SubprocessError, soundfile.SoundFileError) as error:
        return np.zeros(0, "<i2"), "", str(error)  # an engine that chokes on a text
    return np.round(wave * 0.7 * 32767).astype("<i2"), text, source


def build(pool: multiprocessing.pool.Pool, folder: Path, name: str, jobs: Iterable[Job]) -> None:
    """Run the jobs of a part and put its two files in place."""
    if all((folder / f"{name}.{kind}").exists() for kind in ("i16", "json")):
        return
    tasks = [(name, number, job) for number, job in enumerate(jobs)]
    made = pool.imap(work, tasks, chunksize=4)
    # Nothing to say, or more than a voice can say: an engine has gone astray.
    clips = (
        (samples, (text, source))
        for samples, text, source in made
        if RATE // 8 < len(samples) < 25 * RATE and len(text) < 25 * len(samples) / RATE
    )
    write_part(folder, name, RATE, clips)


def train_jobs(phrases: Phrases, rng: Rng, clips: int, engines: Sequence[str]) -> list[Job]:
    jobs: list[Job] = []
    for _ in range(clips):
        texts = [phrases.text(rng)]
        if rng.random() < 0.2 and len(texts[0]) < 60:
            texts.append(phrases.text(rng))
        jobs.append((speech, (texts, engines, False)))
    return jobs


def noise_jobs(clips: int) -> list[Job]:
    kinds = [kind for kind in KINDS.split() if kind != "quiet"]
    rng = np.random.default_rng(2)
    return [
        (background, ("music" if i % 8 == 7 else str(rng.choice(kinds)),)) for i in range(clips)
    ]


def references(shared: Path) -> list[str]:
    """The transcripts of the recordings that measure: none of them may be trained on."""
    path = shared / "audio/MANIFEST.tsv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as handle:
        rows = csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [row["transcript"] for row in rows if row["transcript"]]


def divided(shared: Path) -> tuple[list[str], list[str]]:
    """The sentences that measure, which nothing may learn from, and all others."""
    lines = sentences(shared / "train/text/ljspeech.txt", references(shared))
    order = np.random.default_rng(0).permutation(len(lines))
    return [lines[i] for i in order[:300]], [lines[i] for i in order[300:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--parts", type=int, default=22, help="of 45 minutes each")
    parser.add_argument("--hmm", type=int, default=6, help="such parts of Pico and RHVoice")
    parser.add_argument("--clips", type=int, default=700, help="in a part")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the processes of the pool are enough
    kept_out, lines = divided(options.shared)
    phrases = Phrases(lines, WORDS.read_text(encoding="utf-8").splitlines())
    held: list[tuple[str, tuple[str, ...], bool, int]] = [
        ("test_texts", ("espeak-ng", "flite"), False, 0), ("test_espeak", ("espeak-ng",), True, 0),
        ("test_flite", ("flite",), True, 0), ("test_festival", ("festival",), True, 100),
    ]  # fmt: skip
    with multiprocessing.Pool() as pool:
        build(pool, options.folder, "noise", noise_jobs(240))
        for name, engines, apart, begin in held:
            texts = kept_out[begin : begin + 80]
            build(pool, options.folder, name, [(speech, ([t], engines, apart)) for t in texts])
        for part in range(max(options.parts, options.hmm)):
            for name, count, seed, engines in (
                ("hmm", options.hmm, 4, ("pico", "rhvoice")),
                ("train", options.parts, 1, ("espeak-ng", "flite")),
            ):
                if part < count:
                    rng = np.random.default_rng([seed, part])
                    jobs = train_jobs(phrases, rng, options.clips, engines)
                    build(pool, options.folder, f"{name}_{part:02}", jobs)


if __name__ == "__main__":
    main()
