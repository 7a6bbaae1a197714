"""alm-asr: the English recogniser that ships in the package, letters and sounds by CTC.

Whisper's log-mel bands (80, every 10 ms) enter as a picture, so that a voice with other resonances
is the same picture moved; ConvNeXt blocks (arXiv:2201.03545) follow, the outer ones every 40 ms and
the inner ones every 80 ms, where most of the work is done (the shape of Zipformer,
arXiv:2310.11230). Every 40 ms it says two frames of 20 ms, since fast talkers say more letters than
25 a second hold. Connectionist temporal classification: Graves et al., 2006.

Everything is convolution: a frame depends on some four seconds on either side, and on the mean of
the whole recording, which is subtracted from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import KeyMap, rename
from alm_cli.nn.convnext import ConvNeXtBlock
from alm_cli.nn.mel import Power, slaney_filters
from alm_cli.text.phonemes import PHONEMES

# The first of each is the blank.
LETTERS = ("", " ", "'", *"abcdefghijklmnopqrstuvwxyz")
SOUNDS = ("", *PHONEMES)

_RATE, _WINDOW, _HOP, _BANDS = 16_000, 400, 160, 80
_STRIDE = 8  # spectra to an inner frame
_FRAMES = 4  # output frames to an inner frame
_FLOOR = 6.0  # decades below the loudest where nothing is heard any more


@dataclass(frozen=True, kw_only=True)
class AlmAsrConfig:
    """The architecture: `before` and `after` blocks every 40 ms, `inner` ones every 80 ms."""

    channels: int = 24
    dimension: int = 256
    before: int = 2
    inner: int = 8
    after: int = 1
    outer_expansion: int = 2
    inner_expansion: int = 6
    outer_kernel: int = 9
    inner_kernel: int = 11

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> AlmAsrConfig:
        """Read `config.json`; ModelError for anything that this version cannot compute."""
        settings = Settings(raw)
        defaults = asdict(cls())
        values = {name: settings.number(name, default) for name, default in defaults.items()}
        settings.finish()
        return cls(**values)


class Ear(nn.Module):
    """wave [B, T] -> log-mel [B, F, 80], T a multiple of the hop, less their mean.

    Silence hardly counts in the mean (frames weigh as the fourth root of their power), so that it
    is the same however much of it surrounds the speech.
    """

    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.power = Power(_WINDOW, _HOP)
        filters = slaney_filters(_BANDS, _WINDOW, _RATE)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, wave: Tensor, mask: Tensor | None = None) -> Tensor:
        """wave [B, T], mask [B, F, 1] -> [B, F, 80]; the mask is 0 after a recording's end."""
        # Zeros after the end: what is heard of a recording must not depend on what it is padded to.
        power = self.power(F.pad(wave, (0, _WINDOW)))[:, : wave.shape[1] // _HOP]
        power = power @ self.filters
        mask = torch.ones_like(power[..., :1]) if mask is None else mask
        level = (power * mask).amax((1, 2), keepdim=True).clamp(min=1e-8)
        power = power / level
        weight = power.mean(-1, keepdim=True).clamp(min=1e-8).sqrt().sqrt() * mask
        bands = power.clamp(min=10**-_FLOOR).log10()
        mean = (bands * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1e-8)
        return (bands - mean) * mask


class Stem(nn.Module):
    """Pictures of spectra [B, 4 F, 80] -> vectors [B, F, D], two convolutions over both axes."""

    def __init__(self, channels: int, dimension: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, 2, padding=1)
        self.second = nn.Conv2d(channels, 2 * channels, 3, 2, padding=1)
        self.leave = nn.Linear(2 * channels * _BANDS // 4, dimension)
        self.norm = nn.LayerNorm(dimension)

    def forward(self, bands: Tensor) -> Tensor:
        """bands [B, 4 F, 80] -> [B, F, D]."""
        x = F.silu(self.first(bands[:, None]))
        x = F.silu(self.second(x)).transpose(1, 2).flatten(2)
        return self.norm(self.leave(x))


class AlmAsr(nn.Module):
    """wave [B, 1, T] at 16 kHz -> log-probabilities [B, F, V] of letters, F = ceil(T / 320).

    The frame i is about the samples from 320 i to 320 (i + 1). The same vectors tell of sounds,
    which are easier to learn than how they are spelt.
    """

    rate, channels, hop = _RATE, 1, _HOP * _STRIDE // _FRAMES
    vocabulary, sounds = LETTERS, SOUNDS

    def __init__(self, config: AlmAsrConfig) -> None:
        super().__init__()
        self.config = config
        wide, inner = config.dimension, config.inner
        self.ear = Ear()
        self.stem = Stem(config.channels, wide)
        outer = wide, config.outer_expansion * wide, config.outer_kernel
        deep = wide, config.inner_expansion * wide, config.inner_kernel
        count = config.before + inner + config.after
        self.before = _blocks(config.before, count, *outer)
        self.gather = nn.Linear(2 * wide, wide)
        self.inner = _blocks(inner, count, *deep)
        self.spread = nn.Linear(wide, 2 * wide)
        self.after = _blocks(config.after, count, *outer)
        self.norm = nn.LayerNorm(wide)
        self.head = nn.Linear(wide, 2 * len(self.vocabulary))
        self.sound_head = nn.Linear(wide, 2 * len(self.sounds))

    def frames(self, samples: int) -> int:
        """How many frames a recording of so many samples gets."""
        return -(-samples // self.hop)

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        """wave [B, 1, T] -> [B, F, V]; `lengths` [B] in samples where rows end in padding."""
        return self.both(wave, lengths)[..., : len(self.vocabulary)]

    def both(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        """wave [B, 1, T] -> log-probabilities [B, F, V + S] of letters, then of sounds."""
        samples = wave.shape[-1]
        if not samples:
            return wave.new_zeros(len(wave), 0, len(self.vocabulary) + len(self.sounds))
        x, _ = self.read(*self.heard(wave, lengths))
        return torch.cat((self.letters(x), self.phonemes(x)), -1)[:, : self.frames(samples)]

    def heard(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """wave [B, 1, T] -> bands [B, 8 N, 80] and, with lengths, the mask [B, 8 N, 1]."""
        step = _HOP * _STRIDE
        wave = F.pad(wave[:, 0], (0, -wave.shape[-1] % step))
        mask = None
        if lengths is not None:
            places = torch.arange(wave.shape[1], device=wave.device)
            wave = wave * (places < lengths[:, None])
            count = (lengths + step - 1) // step * _STRIDE
            mask = (places[: wave.shape[1] // _HOP] < count[:, None])[..., None].float()
        return self.ear(wave, mask), mask

    def letters(self, x: Tensor) -> Tensor:
        """x [B, 2 N, D] -> log-probabilities [B, 4 N, V] of letters."""
        return _said(self.head(x), len(self.vocabulary))

    def phonemes(self, x: Tensor) -> Tensor:
        """x [B, 2 N, D] -> log-probabilities [B, 4 N, S] of sounds."""
        return _said(self.sound_head(x), len(self.sounds))

    def read(self, bands: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Bands [B, 8 N, 80] -> vectors [B, 2 N, D], and inner ones half way [B, N, D]."""
        fine, coarse = (None, None) if mask is None else (mask[:, ::4], mask[:, ::8])
        x = _through(self.before, self.stem(bands), fine)
        skip = x
        y = self.gather(x.reshape(len(x), -1, 2 * x.shape[2]))
        half = len(self.inner) // 2
        y = middle = _through(self.inner[:half], y, coarse)
        y = _through(self.inner[half:], y, coarse)
        x = _through(self.after, skip + self.spread(y).reshape(skip.shape), fine)
        return self.norm(x), middle


def _said(logits: Tensor, symbols: int) -> Tensor:
    """logits [B, 2 N, 2 S] -> log-probabilities [B, 4 N, S]: two frames stand in one."""
    return logits.reshape(len(logits), -1, symbols).log_softmax(-1)


def _blocks(depth: int, count: int, dimension: int, hidden: int, kernel: int) -> nn.ModuleList:
    """Blocks of a network that has `count` of them in all."""
    return nn.ModuleList(
        ConvNeXtBlock(dimension, hidden, kernel, scale=count**-0.5, causal=False)
        for _ in range(depth)
    )


def _through(blocks: nn.ModuleList, x: Tensor, mask: Tensor | None) -> Tensor:
    """x [B, F, D] -> [B, F, D]; no block sees anything after the end of a recording."""
    for block in blocks:
        x = block(x if mask is None else x * mask)
    return x


# Our own files use our own names.
KEYS = KeyMap(rename("{name:*}", "{name}"))

FAMILY = Family(AlmAsrConfig.from_hub, AlmAsr, KEYS)
