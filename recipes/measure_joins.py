"""How well pieces of long speech go together: loudness, pitch, pauses and clicks at the joins.

python -m recipes.measure_joins [--model alm-tts] [--voice NAME] [--seed N] [TEXTFILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alm_cli.systems.speaker import load_speaker
from alm_cli.systems.speech import Narrator, Said, Speech, SpeechAsk, Work
from alm_cli.text.lines import cut
from alm_cli.text.reading import read_aloud

Samples = NDArray[np.float32]

TEXT = """
The harbour was quiet when we arrived. Two boats lay at the pier, and a third was coming in. Nobody
spoke for a while. Then the old man laughed, took off his cap, and pointed at the hills! "Over
there," he said, "is the house that my father built; it has stood for sixty years." Would it stand
for sixty more? We did not ask. The path went up through the trees, past a mill that no longer
turned, and ended at a low white wall.

Inside it was cool. A clock ticked. On the table there were bread, cheese, a jug of water and three
glasses. We sat down, and he told us of the winter when the sea froze.
"""


def levels(samples: Samples, rate: int) -> NDArray[np.float64]:
    """The level in dB of each frame of 20 ms that is not quiet."""
    size = rate // 50
    frames = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    level = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-12)
    return level[level > level.max(initial=-120) - 30]


def pitches(samples: Samples, rate: int) -> NDArray[np.float64]:
    """The pitch in semitones of each frame of 40 ms that is clearly voiced, by autocorrelation."""
    size, least, most = rate // 25, rate // 400, rate // 60
    found = []
    for start in range(0, len(samples) - 2 * size, size // 2):
        frame = samples[start : start + 2 * size].astype(np.float64)
        frame = frame - frame.mean()
        spectrum = np.abs(np.fft.rfft(frame, 4 * size)) ** 2
        alike = np.fft.irfft(spectrum)[: 2 * size]
        lag = least + int(alike[least:most].argmax())
        if alike[0] > 1e-4 * size and alike[lag] > 0.5 * alike[0]:
            found.append(12 * np.log2(rate / lag / 100))
    return np.array(found)


def steps(pieces: list[Samples], rate: int) -> dict[str, float]:
    """Steps between neighbouring pieces, and between the halves of each, and their ratio."""
    told = {}
    for name, measure in (("level_db", levels), ("pitch_semitones", pitches)):
        whole = [measure(piece, rate) for piece in pieces]
        middle = [float(np.median(piece)) for piece in whole if len(piece) > 3]
        halves = [np.array_split(piece, 2) for piece in whole if len(piece) > 7]
        at_joins = float(np.mean(np.abs(np.diff(middle))))
        inside = float(np.mean([abs(np.median(one) - np.median(two)) for one, two in halves]))
        told |= {f"{name}_at_joins": at_joins, f"{name}_inside": inside}
        told[f"{name}_ratio"] = at_joins / max(1e-9, inside)
    return told


def pauses(speech: Speech) -> list[tuple[float, float]]:
    """The pause that each join should have, and the quiet that is there, in seconds."""
    found = []
    quiet = 0.01 * float(np.abs(speech.samples).max())
    for piece, after in zip(speech.pieces, speech.pieces[1:], strict=False):
        start, end = (round(second * speech.rate) for second in _around(piece, after))
        loud = np.flatnonzero(np.abs(speech.samples[start:end]) > quiet)
        found.append((piece.pause_s, float(np.diff(loud).max(initial=0)) / speech.rate))
    return found


def _around(piece: Said, after: Said) -> tuple[float, float]:
    return max(0.0, piece.end_s - 0.3), after.start_s + 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", nargs="?", type=Path)
    parser.add_argument("--model", default="alm-tts")
    parser.add_argument("--voice")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    speaker = load_speaker(given.model)
    text = given.text.read_text(encoding="utf-8") if given.text else TEXT
    pieces = cut([text], speaker.longest, read_aloud)
    ask = SpeechAsk(seed=given.seed, voice=speaker.voice(given.voice))
    (speech,) = Narrator(speaker).say([Work(pieces, ask)])
    if not isinstance(speech, Speech):
        raise speech
    spans = [(round(p.start_s * speech.rate), round(p.end_s * speech.rate)) for p in speech.pieces]
    told = steps([speech.samples[start:end] for start, end in spans], speech.rate)
    asked, made = np.array(pauses(speech)).T
    jumps = np.abs(np.diff(speech.samples))
    joins = np.concatenate([jumps[end : end + speech.rate // 20] for _, end in spans[:-1]])
    told["pause_error_s_mean"] = float(np.abs(asked - made).mean())
    told["pause_error_s_most"] = float(np.abs(asked - made).max())
    told["jump_at_joins_to_999th_permille"] = float(joins.max() / np.quantile(jumps, 0.999))
    told |= {"pieces": len(pieces), "seconds": speech.seconds}
    print(json.dumps({name: round(value, 4) for name, value in told.items()}, indent=1))


if __name__ == "__main__":
    main()
