"""Make the three small sounds in sample_audio/ that the examples and tests use.

    python recipes/samples.py [FOLDER]

speech.wav is flite's voice slt, whose licence permits any use of what it says; music.wav is a
short piece composed and rendered here with the FluidR3 sound font (MIT); noise.wav is computed.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

from recipes.clips import RATE, finished, noise, ringing, slow
from recipes.scores import compose, play_score

SENTENCE = "Sound is a wave that travels through the air. A model that hears can answer it."


def speech(path: Path) -> None:
    subprocess.run(["flite", "-voice", "slt", "-t", SENTENCE, "-o", str(path)], check=True)


def music(path: Path, seconds: float = 6.0, rate: int = 44100) -> None:
    """Piano, guitar, bass and drums for a few seconds, in stereo, faded at the end."""
    score = compose(np.random.default_rng(7), [0, 24, 33], seconds, "band")
    play_score(score, path, rate)
    wave, _ = soundfile.read(path, frames=int(seconds * rate))
    wave *= 0.7 / np.abs(wave).max()
    wave[-rate // 2 :] *= np.linspace(1, 0, rate // 2)[:, None]
    soundfile.write(path, wave, rate, subtype="PCM_16")


def texture(path: Path, seconds: float = 4.0) -> None:
    """Wind with a few drops of rain, in mono."""
    rng, count = np.random.default_rng(11), int(seconds * RATE)
    wave = noise(rng, count, 1.5, 100, 2000) * slow(rng, count, 1.5, 0.1)
    for start in rng.integers(0, count - RATE // 10, 150):
        drop = ringing(rng, 2, 1000, 6000, 0.01)
        wave[start : start + len(drop)] += 2 * drop
    soundfile.write(path, finished(rng, wave), RATE, subtype="PCM_16")


def main() -> None:
    default = Path(__file__).parent.parent / "sample_audio"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    folder.mkdir(parents=True, exist_ok=True)
    speech(folder / "speech.wav")
    music(folder / "music.wav")
    texture(folder / "noise.wav")


if __name__ == "__main__":
    main()
