"""Who judges music: essentia hears tempo and key, a network fitted here hears the instruments."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.music.compose import compose
from alm_cli.music.score import NAMES, Score
from alm_cli.systems.codec import Codec
from alm_cli.values import Audio
from recipes.evaluate_asr import helper
from recipes.losses import mel_filters
from recipes.music_render import RATE, rendered, some_tags

SIZE, HOP, BANDS = 1024, 256, 64
STRETCH = 2 * RATE // HOP  # frames of a stretch whose statistics are taken


Judge = Callable[[np.ndarray], tuple[float, int, bool]]


def essentia(python: Path | None) -> Judge:
    """Samples [n] at `RATE` -> tempo, tonic, whether it is minor."""
    hear = helper(python, _ESSENTIA)
    if hear is None:
        raise SystemExit("essentia is not to be had: --essentia names a Python that has it")

    def judge(wave: np.ndarray) -> tuple[float, int, bool]:
        said = json.loads(hear(wave))
        return float(said["bpm"]), int(said["tonic"]), bool(said["minor"])

    return judge


# The median of what passes between beats numbers them, so that a missed one does no harm; the line
# through them is more exact than the tempo that is told.
_ESSENTIA = f"""
import json, sys
import numpy as np
import essentia
essentia.log.infoActive = essentia.log.warningActive = False
from essentia import standard
names = ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"]
others = {{"Db": 1, "D#": 3, "Gb": 6, "G#": 8, "A#": 10}}
up = standard.Resample(inputSampleRate={RATE}, outputSampleRate=44100)
beats_of = standard.RhythmExtractor2013(method="METHOD", minTempo=60, maxTempo=180)
key_of = standard.KeyExtractor(profileType="PROFILE")
print("ready", flush=True)
while size := sys.stdin.buffer.read(4):
    wave = np.frombuffer(sys.stdin.buffer.read(int.from_bytes(size, "little")), "<i2") / 32768
    wave = up(wave.astype(np.float32))
    bpm, beats = beats_of(wave)[:2]
    if len(beats) > 3:
        number = np.cumsum([0, *np.rint(np.diff(beats) / np.median(np.diff(beats)))])
        bpm = 60 / np.polyfit(number, beats, 1)[0]
    key, scale, _ = key_of(wave)
    tonic = others[key] if key in others else names.index(key)
    print(json.dumps(dict(bpm=float(bpm), tonic=tonic, minor=scale == "minor")), flush=True)
""".replace("METHOD", "multifeature").replace("PROFILE", "edma")


class LogMel(nn.Module):
    """Waves [B, n] -> log-mel spectra [B, bands, frames], as loud as their loudest."""

    filters: Tensor
    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", mel_filters(BANDS, SIZE, RATE))
        self.register_buffer("window", torch.hann_window(SIZE))

    def forward(self, waves: Tensor) -> Tensor:
        power = torch.stft(waves, SIZE, HOP, window=self.window, return_complex=True).abs() ** 2
        mel = torch.einsum("bft,fm->bmt", power, self.filters)
        logs = torch.log(mel + 1e-6)
        return (logs - logs.amax((1, 2), keepdim=True)).clamp(min=-12) / 4 + 1


class Ear(nn.Module):
    """Log-mel spectra -> how likely each instrument plays; what it heard before, for distances."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 24, 48, 64, 64)
        self.mel = LogMel()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride=2 if place < 3 else (2, 1), padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            )
            for place, (before, after) in enumerate(zip(widths, widths[1:], strict=False))
        )
        self.narrow = nn.Conv1d(widths[-1] * BANDS // 16, 96, 1)
        self.decide = nn.Linear(2 * 96, len(NAMES))

    def heard(self, mel: Tensor) -> Tensor:
        """Log-mel [B, bands, frames] -> [B, 192]: means and most of what was heard."""
        x = mel[:, None]
        for layer in self.layers:
            x = layer(x)
        x = F.relu(self.narrow(x.flatten(1, 2)))
        return torch.cat([x.mean(2), x.amax(2)], 1)

    def forward(self, waves: Tensor) -> Tensor:
        """[B, n] -> logits [B, instruments]."""
        return self.decide(F.dropout(self.heard(self.mel(waves)), 0.3, self.training))


def labels(score: Score) -> Tensor:
    """Who plays in a score [instruments]."""
    playing = {note.instrument for note in score.notes}
    return torch.tensor([float(name in playing) for name in NAMES])


def lessons(count: int, seconds: float, codec: Codec | None, name: str) -> tuple[Tensor, Tensor]:
    """Renders of scores in three rooms, every second one through the codec; who plays in them."""
    waves, playing = [], []
    for number in range(count):
        tags = some_tags(f"{name} {number}")
        score = compose(tags, seconds, number)
        wave = rendered(score, room=("dry", "room", "room", "hall")[number % 4])
        if codec is not None and number % 2:
            wave = through(codec, wave)
        waves.append(torch.from_numpy(wave.astype(np.float32)))
        playing.append(labels(score))
    return torch.stack(waves), torch.stack(playing)


def taught(count: int, epochs: int, codec: Codec) -> tuple[Ear, float]:
    """An ear, and how many of its decisions on clean renders of other scores are right (F1)."""
    torch.manual_seed(0)
    waves, playing = lessons(count, 6.0, codec, "lesson")
    ear, rng = Ear(), Random(0)
    optimizer = torch.optim.AdamW(ear.parameters(), 2e-3, weight_decay=0.02)
    steps = epochs * (count // 16)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, max(steps, 2))
    for _ in range(steps):
        rows = rng.sample(range(count), min(16, count))
        start = rng.randrange(0, waves.shape[1] - 4 * RATE)
        batch = waves[rows, start : start + 4 * RATE]
        batch = batch + 10 ** rng.uniform(-5, -3) * torch.randn(batch.shape)
        loss = F.binary_cross_entropy_with_logits(ear(batch), playing[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    ear.eval()
    held, who = lessons(max(4, count // 8), 12.0, None, "held out")
    found = [hears(ear, wave.numpy()) for wave in held]
    wanted = [frozenset(n for n, p in zip(NAMES, row, strict=True) if p) for row in who]
    return ear, agreement(wanted, found)["f1"]


@torch.inference_mode()
def hears(ear: Ear, wave: np.ndarray) -> frozenset[str]:
    """Who plays, in the ear's opinion."""
    logits = ear(torch.from_numpy(wave.astype(np.float32))[None])[0]
    return frozenset(name for name, logit in zip(NAMES, logits.tolist(), strict=True) if logit > 0)


def agreement(
    wanted: Sequence[frozenset[str]], heard: Sequence[frozenset[str]]
) -> dict[str, float]:
    """Shares of the wanted that are heard, of the heard that are wanted, of equal sets; F1."""
    both = sum(len(w & h) for w, h in zip(wanted, heard, strict=True))
    asked, named = sum(map(len, wanted)), sum(map(len, heard))
    equal = sum(w == h for w, h in zip(wanted, heard, strict=True))
    return {
        "recall": both / max(1, asked),
        "precision": both / max(1, named),
        "f1": 2 * both / max(1, asked + named),
        "sets": equal / max(1, len(wanted)),
    }


def through(codec: Codec, wave: np.ndarray) -> np.ndarray:
    """Samples as the codec gives them back."""
    audio = Audio(np.asarray(wave, np.float32)[None], RATE)
    return codec.decode(codec.encode(audio)).samples[0]


@torch.inference_mode()
def statistics(mel: LogMel, waves: Sequence[np.ndarray]) -> np.ndarray:
    """Means and deviations of bands, and of their change, in stretches of two seconds [n, 192]."""
    rows = []
    for wave in waves:
        spectrum = mel(torch.from_numpy(wave.astype(np.float32))[None])[0]
        for part in spectrum.split(STRETCH, 1):
            if part.shape[1] == STRETCH:
                moves = part.diff(dim=1).abs().mean(1)
                rows.append(torch.cat([part.mean(1), part.std(1), moves]))
    return torch.stack(rows).numpy().astype(np.float64)


@torch.inference_mode()
def impressions(ear: Ear, waves: Sequence[np.ndarray]) -> np.ndarray:
    """What the ear hears in stretches of two seconds [n, 192]."""
    rows = []
    for wave in waves:
        parts = ear.mel(torch.from_numpy(wave.astype(np.float32))[None])[0].split(STRETCH, 1)
        full = torch.stack([part for part in parts if part.shape[1] == STRETCH])
        rows.append(ear.heard(full))
    return torch.cat(rows).numpy().astype(np.float64)


def frechet(one: np.ndarray, other: np.ndarray) -> float:
    """The Frechet distance of two clouds [n, d] as Gaussians (Kilgour et al. 2019)."""
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    apart = ((one.mean(0) - other.mean(0)) ** 2).sum()
    return float(apart + np.trace(first) + np.trace(second) - 2 * shared)
