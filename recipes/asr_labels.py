"""Write down what real readers say, as further data for alm-asr: 168 clips of LibriSpeech.

    python recipes/asr_labels.py OUT_DIR --shared ../shared

The recordings of `shared/train/speech/librispeech` come without text. Moonshine tiny
(arXiv:2410.15608; the package moonshine-voice 0.0.48, which holds its weights, MIT) hears them, and
alm-asr finds when each word is said. The parts are as those of `recipes/alm_asr_data.py`, with the
borders between the words of a clip, in samples, behind its voice. `readers_00` is trained on;
`test_readers` is every fourteenth clip, of which nothing learns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from alm_cli.errors import InputError
from alm_cli.systems.align import Aligner, load_aligner
from recipes.alm_asr_data import RATE, load
from recipes.asr_text import letters
from recipes.clips import write_part

HELD_OUT = 14


def listener() -> Callable[[np.ndarray], str]:
    """What Moonshine hears in samples at 16 kHz."""
    import moonshine_voice  # noqa: PLC0415 - only who makes the data has it
    from moonshine_voice.transcriber import Transcriber  # noqa: PLC0415

    weights = Path(moonshine_voice.__file__).parent / "assets/tiny-en"
    model = Transcriber(str(weights), moonshine_voice.ModelArch.TINY)
    # Cut off at the first sound, a recording seems to begin with a word.
    before = np.random.default_rng(0).normal(0, 3e-4, int(0.6 * RATE)).astype(np.float32)

    def listen(wave: np.ndarray) -> str:
        padded = np.concatenate((before, wave, np.zeros(RATE // 2, np.float32)))
        lines = model.transcribe_without_streaming(padded.tolist(), RATE).lines
        return " ".join(line.text for line in lines)

    return listen


def borders(aligner: Aligner, wave: np.ndarray, text: str) -> list[int]:
    """Where a clip may be cut between its words, from its first sample to its last."""
    try:
        found = aligner.align(lambda: (wave,), text)
    except InputError:  # too hard for the aligner
        return [0, len(wave)]
    words = [word for segment in found.segments for word in segment.words or ()]
    inner = [int(RATE * (a.end_s + b.start_s) / 2) for a, b in zip(words, words[1:], strict=False)]
    return [0, *inner, len(wave)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    listen, aligner = listener(), load_aligner("alm-asr", device="cpu")
    parts: dict[str, list[tuple[np.ndarray, tuple[str, str, list[int]]]]] = {}
    paths = sorted((options.shared / "train/speech/librispeech").glob("*.flac"))
    for place, path in enumerate(paths):
        wave = load(path)
        text = letters(listen(wave))
        cuts = borders(aligner, wave, text)
        name = "test_readers" if place % HELD_OUT == 0 else "readers_00"
        loud = wave / (np.abs(wave).max() + 1e-9) * 0.7
        samples = np.round(loud * 32767).astype("<i2")
        parts.setdefault(name, []).append((samples, (text, path.stem, cuts)))
    for name, clips in parts.items():
        write_part(options.folder, name, RATE, clips)


if __name__ == "__main__":
    main()
