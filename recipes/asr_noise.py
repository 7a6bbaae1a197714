"""What happens to speech before alm-asr hears it: rooms, microphones, noise, other voices."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

RATE = 16_000

Rng = np.random.Generator
Wave = np.ndarray  # float32 samples


def fast_size(count: int) -> int:
    """The next length of which transforms are fast."""
    power = 1 << max(8, (count - 1).bit_length())
    return min(size for size in (power, power * 3 // 4, power * 5 // 8) if size >= count)


def coloured(rng: Rng, count: int, slope: float) -> Wave:
    """Noise of unit variance whose power falls as frequency**-slope."""
    size = fast_size(count)
    hertz = np.maximum(np.fft.rfftfreq(size, 1 / RATE), 20)
    wave = np.fft.irfft(np.fft.rfft(rng.standard_normal(size)) * hertz ** (-slope / 2))[:count]
    return (wave / wave.std()).astype(np.float32)


def room(rng: Rng) -> Wave:
    """The impulse response of a room: the direct sound, some echoes, a tail."""
    decay = rng.uniform(0.08, 0.7)
    clock = np.arange(int(min(decay, 0.5) * RATE)) / RATE
    tail = rng.standard_normal(len(clock)) * 10 ** (-3 * clock / decay)
    tail[: int(rng.uniform(0.003, 0.03) * RATE)] *= 0.1
    for delay in rng.uniform(0.001, 0.03, 6):
        tail[int(delay * RATE)] += rng.choice([-1, 1]) * rng.uniform(2, 8) / (1 + 60 * delay)
    tail /= np.sqrt((tail**2).sum()) * rng.uniform(0.6, 4)
    tail[0] = 1
    return tail.astype(np.float32)


def microphone(rng: Rng, hertz: Wave) -> Wave:
    """The gain of a random microphone at these frequencies, a telephone among them."""
    points, decibels = np.geomspace(60, 8000, 7), rng.normal(0, 5, 7)
    low, high = rng.uniform(20, 350), rng.choice([20e3, rng.uniform(2800, 8000)], p=[0.6, 0.4])
    curve = 10 ** (np.interp(np.log(hertz + 1), np.log(points), decibels) / 20)
    band = 1 / (1 + (low / np.maximum(hertz, 1)) ** 4) / (1 + (hertz / high) ** 12)
    return (curve * band).astype(np.float32)


class Surroundings:
    """Random distortions; `bank` holds int16 sounds without speech, one after another."""

    def __init__(self, bank: np.ndarray, seed: int) -> None:
        rng = np.random.default_rng([seed, 3])
        self.bank = bank
        self.rooms = [room(rng) for _ in range(200)]
        self.colours = [coloured(rng, 40 * RATE, slope) for slope in (0, 0.5, 1, 1, 1.5, 2)]

    def noise(self, rng: Rng, count: int, clips: list[Wave]) -> Wave:
        """Noise of unit variance: coloured, of the bank, or several talkers (of `clips`)."""
        kind = rng.choice(3, p=[0.45, 0.35, 0.2])
        if kind == 0 or (kind == 1 and len(self.bank) < 2 * count):
            wave = _crop(rng, self.colours[int(rng.integers(len(self.colours)))], count)
        elif kind == 1:
            wave = _crop(rng, self.bank, count)
        else:
            wave = np.zeros(count, np.float32)
            for i in rng.integers(0, len(clips), int(rng.integers(4, 8))):
                wave += _crop(rng, clips[i], count)
        wave = wave.astype(np.float32)
        return wave / (wave.std() + 1e-4)

    def without_speech(self, rng: Rng, count: int) -> Wave:
        """What nothing must be heard in: noise, music, sounds, tones, silence."""
        kind = rng.random()
        if kind < 0.08:
            return np.zeros(count, np.float32)
        wave = self.noise(rng, count, [self.bank])
        if kind < 0.3:
            hertz, clock = np.exp(rng.uniform(np.log(60), np.log(5000))), np.arange(count) / RATE
            tone = np.sin(2 * np.pi * hertz * clock + rng.uniform(0, 4) * np.sin(7 * clock))
            wave = wave * rng.uniform(0, 0.3) + tone.astype(np.float32)
        return wave * 10 ** rng.uniform(-3.5, -0.5)

    def around(self, rng: Rng, wave: Wave, clips: list[Wave], strength: float) -> Wave:
        """A clip, faster or slower, between silences, in a room, in noise."""
        if rng.random() < 0.7:
            rate = 1 + strength * rng.uniform(-0.14, 0.14)
            places = np.arange(0, len(wave) - 1, rate, dtype=np.float32)
            wave = np.interp(places, np.arange(len(wave)), wave).astype(np.float32)
        ends = rng.exponential(0.25, 2) if rng.random() < 0.9 else rng.uniform(0, 3, 2)
        before, after = (np.minimum(ends, 3) * RATE).astype(int)
        wave = np.pad(wave, (before, after))
        if rng.random() < 0.5 * strength:
            wave = self._recorded(rng, wave)
        if rng.random() < 0.15 + 0.65 * strength:
            decibels = rng.triangular(2, 22, 45)
            noise = self.noise(rng, len(wave), clips)
            wave = wave + noise * (wave.std() * 10 ** (-decibels / 20))
        peak = np.abs(wave).max(initial=0) + 1e-6
        if rng.random() < 0.1 * strength:
            wave = wave.clip(-peak * (limit := rng.uniform(0.2, 0.8)), peak * limit)
        return np.asarray(wave * (10 ** rng.uniform(-2, 0) / peak), np.float32)

    def _recorded(self, rng: Rng, wave: Wave) -> Wave:
        """In a room, through a microphone, or both."""
        size = fast_size(len(wave) + RATE // 2)
        spectrum = torch.fft.rfft(torch.from_numpy(wave), size)
        kind = rng.choice(3)
        if kind != 0:
            echoes = self.rooms[int(rng.integers(len(self.rooms)))]
            spectrum *= torch.fft.rfft(torch.from_numpy(echoes), size)
        if kind != 1:
            gain = microphone(rng, np.linspace(0, RATE / 2, size // 2 + 1))
            spectrum *= torch.from_numpy(gain)
        return np.asarray(torch.fft.irfft(spectrum, size)[: len(wave)].numpy())


def _crop(rng: Rng, wave: np.ndarray, count: int) -> Wave:
    """So many samples from anywhere, the wave repeated where it is shorter."""
    if len(wave) <= count:
        return np.resize(wave, count).astype(np.float32)
    start = int(rng.integers(0, len(wave) - count))
    return np.asarray(wave[start : start + count]).astype(np.float32)


def other_throats(rng: Rng, bands: Tensor, strength: float) -> Tensor:
    """Bands [B, F, 80] of voices with longer or shorter vocal tracts: warped in frequency."""
    count = bands.shape[2]
    # Centres of Slaney's bands up to 8 kHz: linear up to 1 kHz, then logarithmic.
    mels = np.linspace(0, 15 + np.log(8) / np.log(6.4) * 27, count + 2)[1:-1]
    hertz = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))
    rows = []
    for warp in np.exp(strength * rng.uniform(-0.17, 0.17, len(bands))):
        place = np.interp(hertz * warp, hertz, np.arange(count))
        low = np.minimum(place.astype(int), count - 2)
        matrix = np.zeros((count, count), np.float32)
        matrix[low, np.arange(count)] = 1 - (place - low)
        matrix[low + 1, np.arange(count)] += place - low
        rows.append(matrix)
    return bands @ torch.from_numpy(np.stack(rows)).to(bands.device)


def other_paces(rng: Rng, bands: Tensor, lengths: list[int], strength: float) -> Tensor:
    """Bands [B, F, 80] of talkers who linger here and hurry there, and whose bands differ more or
    less in level; each recording stays as long as it is: so many frames."""
    place = np.tile(np.arange(bands.shape[1], dtype=np.float32), (len(bands), 1))
    for row, frames in zip(place, lengths, strict=True):
        knots = rng.normal(0, strength, frames // 25 + 3)
        pace = np.exp(np.interp(np.arange(frames) / 25, np.arange(len(knots)), knots)).cumsum()
        row[:frames] = (pace - pace[0]) * ((frames - 1) / max(pace[-1] - pace[0], 1.0))
    low = np.minimum(place.astype(int), bands.shape[1] - 2)
    part = torch.from_numpy(place - low)[..., None].float().to(bands.device)
    rows, first = torch.arange(len(bands))[:, None], torch.from_numpy(low)
    level = np.exp(strength * rng.uniform(-0.7, 0.7, (len(bands), 1, 1))).astype(np.float32)
    warped = bands[rows, first] * (1 - part) + bands[rows, first + 1] * part
    return warped * torch.from_numpy(level).to(bands.device)


def holes(rng: Rng, bands: Tensor, strength: float) -> Tensor:
    """Bands [B, F, 80] with stretches of time and of frequency missing (arXiv:1904.08779)."""
    frames, count = bands.shape[1:]
    keep = np.ones((*bands.shape[:2], count), np.float32)
    for row in keep:
        for _ in range(2):
            low = int(rng.integers(0, count))
            row[:, low : low + int(rng.uniform(0, 12) * strength)] = 0
        for _ in range(frames // 250 + 1):
            begin = int(rng.integers(0, frames))
            row[begin : begin + int(rng.uniform(0, 16) * strength)] = 0
    return bands * torch.from_numpy(keep).to(bands.device)
