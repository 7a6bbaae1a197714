"""The tempo and the key of what is heard: of notes, or of a recording of any music."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

from alm_cli.music.genres import FASTEST_BPM, SLOWEST_BPM
from alm_cli.music.score import DRUMS, Note
from alm_cli.values import Audio

Numbers = NDArray[np.float64]

# How well the twelve tones above a tonic fit into its key (Krumhansl & Kessler 1982).
_MAJOR = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
_MINOR = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])
# Where several tempi fit, those near this one count most; the width is in octaves. Listeners tap
# somewhat faster, but half beats are gathered too, and that alone draws to double tempi.
_USUAL_BPM, _WIDTH = 90.0, 0.8
_LONGEST_S = 60.0
_RATE = 11_025
_WINDOW, _HOP = 4096, 1024
_FLUX_WINDOW, _FLUX_HOP = 512, 128
# Frames, of three quarters of a second, whose mean is no onset.
_AROUND = 65


@dataclass(frozen=True)
class Pulse:
    """A steady beat: its tempo, and when the first beat is, in seconds from the beginning.

    `clarity` lies between 0, no more than chance, and 1, all falls on beats.
    """

    bpm: float
    first_s: float
    clarity: float


@dataclass(frozen=True)
class HeardKey:
    """A tonic (0 for C), a mode, and how well the music fits them, up to 1."""

    tonic: int
    mode: str
    fit: float


def pulse_of(notes: Sequence[Note]) -> Pulse:
    """The beat on which most notes begin; 120 bpm, clarity 0, of fewer than three."""
    starts = np.array([note.start for note in notes])
    return _pulse(starts, np.array([note.velocity * note.length**0.3 for note in notes]))


def pulse_in(audio: Audio) -> Pulse:
    """The beat of a recording, from where its sound sets in; at most its last minute counts."""
    wave, skipped_s = _mono(audio)
    frames = _spectra(wave, _FLUX_WINDOW, _FLUX_HOP)
    if len(frames) < 2 * _AROUND:
        return _pulse(np.zeros(0), np.zeros(0))
    # Rises of compressed loudness, all bands alike (Klapuri 1999 in short).
    loud = np.log1p(1000 * frames / max(1e-9, float(frames.max())))
    rises = np.maximum(0, loud[2:] - loud[:-2]).sum(1)
    rises = np.maximum(0, rises - np.convolve(rises, np.ones(_AROUND) / _AROUND, "same"))
    times = (np.arange(len(rises)) + 1) * _FLUX_HOP / _RATE + _FLUX_WINDOW / 2 / _RATE
    found = _pulse(times[rises > 0], rises[rises > 0])
    period = 60 / found.bpm
    return Pulse(found.bpm, (found.first_s + skipped_s) % period, found.clarity)


def _pulse(times: Numbers, weights: Numbers) -> Pulse:
    """The tempo at which beats, and halves of them, gather the most weight.

    Of each tempo: how long the sum of weights is, each turned by its place in the beat, and the
    same for half beats (Fourier tempogram, Grosche & Mueller 2011).
    """
    if len(times) < 3 or weights.sum() <= 0:
        return Pulse(120.0, 0.0, 0.0)
    tempi = np.arange(SLOWEST_BPM, FASTEST_BPM + 0.01, 0.25)
    liked = np.exp(-0.5 * (np.log2(tempi / _USUAL_BPM) / _WIDTH) ** 2)
    coarse = tempi[int(np.argmax(_gathered(times, weights, tempi) * liked))]
    near = coarse + np.linspace(-0.25, 0.25, 41)  # for long music the steps are too coarse
    best = float(near[int(np.argmax(_gathered(times, weights, near)))])
    turned = weights @ _turns(times, best)
    period = 60 / best
    first_s = -float(np.angle(turned)) / (2 * np.pi) * period
    return Pulse(best, first_s % period, float(np.abs(turned) / weights.sum()))


def _turns(times: Numbers, tempo: float) -> NDArray[np.complex128]:
    return np.exp(-2j * np.pi * (tempo / 60) * times)


def _gathered(times: Numbers, weights: Numbers, tempi: Numbers) -> Numbers:
    found = np.empty(len(tempi))
    for number, tempo in enumerate(tempi):  # all at once would fill the memory
        turns = _turns(times, tempo)
        found[number] = np.abs(weights @ turns) + 0.6 * np.abs(weights @ (turns * turns))
    return found


def key_of(notes: Sequence[Note]) -> HeardKey:
    """The key of notes, each as much as it lasts; drums have none."""
    amounts = np.zeros(12)
    for note in notes:
        if note.instrument != DRUMS:
            amounts[note.pitch % 12] += note.length * note.velocity
    return _key(amounts)


def key_in(audio: Audio) -> HeardKey:
    """The key of a recording, from the loudness of the twelve tones, at most of its last minute."""
    wave, _ = _mono(audio)
    frames = _spectra(wave, _WINDOW, _HOP)
    frequencies = np.fft.rfftfreq(_WINDOW, 1 / _RATE)
    within = (frequencies > 60) & (frequencies < 2000)
    amounts = np.zeros(12)
    if len(frames):
        # Only peaks: between them drums and windows sound.
        peaks = np.zeros_like(frames)
        middle = frames[:, 1:-1]
        peaks[:, 1:-1] = middle * ((middle > frames[:, :-2]) & (middle >= frames[:, 2:]))
        strengths = np.sqrt(peaks[:, within]).sum(0)
        exact = 12 * np.log2(frequencies[within] / 440) + 9
        nearest = np.round(exact)
        strengths *= np.maximum(0, 1 - (np.abs(exact - nearest) / 0.5) ** 2)
        np.add.at(amounts, nearest.astype(int) % 12, strengths)
        amounts = np.maximum(0, amounts - np.min(amounts))
    return _key(amounts)


def _key(amounts: Numbers) -> HeardKey:
    """The profile that correlates best; then the degrees that tell church modes."""
    if amounts.max(initial=0) <= 0 or np.ptp(amounts) == 0:
        return HeardKey(0, "major", 0.0)
    fits = {
        (tonic, mode): float(np.corrcoef(np.roll(profile, tonic), amounts)[0, 1])
        for mode, profile in (("major", _MAJOR), ("minor", _MINOR))
        for tonic in range(12)
    }
    (tonic, mode), fit = max(fits.items(), key=lambda item: item[1])
    above = np.roll(amounts, -tonic) / amounts.sum()
    if mode == "minor" and above[9] > 0.03 and above[9] > 3 * above[8]:
        mode = "dorian"
    if mode == "major" and above[10] > 0.03 and above[10] > 3 * above[11]:
        mode = "mixolydian"
    return HeardKey(tonic, mode, fit)


def _mono(audio: Audio) -> tuple[Numbers, float]:
    """The end of a recording at `_RATE`, and the seconds before it."""
    wave, rate = audio.samples.mean(0, dtype=np.float64), audio.rate
    skipped = max(0, len(wave) - round(_LONGEST_S * rate))
    return resampled(wave[skipped:], rate, _RATE), skipped / rate


def resampled(wave: Numbers, rate: int, wanted: int) -> Numbers:
    """Samples [n] at another rate, by cutting or padding the spectrum of pieces of ten seconds.

    Good enough to listen to, not for ears: the joins of pieces are faded over a quarter second.
    """
    if rate == wanted or not len(wave):
        return wave
    unit = rate // gcd(rate, wanted)  # as many samples are a whole number at both rates
    piece, fade = 10 * rate, unit * max(1, rate // 4 // unit)
    total = round(len(wave) * wanted / rate)
    out, weights = np.zeros(total + 13 * wanted), np.zeros(total + 13 * wanted)
    for begin in range(0, len(wave), piece):
        start = max(0, begin - fade)
        part = wave[start : begin + piece + fade]
        part = np.pad(part, (0, -len(part) % unit))
        length = len(part) * wanted // rate
        spectrum = np.fft.rfft(part)[: length // 2 + 1]
        found = np.fft.irfft(spectrum, length) * (length / len(part))
        ramp = np.minimum(1, np.arange(1, length + 1) / (fade * wanted / rate))
        window = np.minimum(ramp, ramp[::-1])
        place = start * wanted // rate
        out[place : place + length] += found * window
        weights[place : place + length] += window
    return out[:total] / np.maximum(weights[:total], 1e-9)


def _spectra(wave: Numbers, window: int, hop: int) -> Numbers:
    """Magnitudes [frames, bins] of a wave."""
    if len(wave) < window:
        return np.zeros((0, window // 2 + 1))
    frames = np.lib.stride_tricks.sliding_window_view(wave, window)[::hop]
    return np.abs(np.fft.rfft(frames * np.hanning(window), axis=1))
