"""HiFi-GAN by itself: waves from the mel spectrograms of SpeechT5 (arXiv:2010.05646)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import KeyMap, rename
from alm_cli.checkpoints.upsampler import upsampler_keys, upsampler_sizes
from alm_cli.nn.state import State
from alm_cli.nn.upsampler import UpsamplerSpec, WaveUpsampler

_SIZES = {"upsample_rates": [4, 4, 4, 4], "upsample_kernel_sizes": [8, 8, 8, 8]}


@dataclass(frozen=True, kw_only=True)
class HifiGanConfig:
    """The architecture."""

    rate: int
    upsampler: UpsamplerSpec
    normalised: bool  # spectrograms have yet to be

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> HifiGanConfig:
        """Read the published `config.json`; what this file does not build is an error."""
        settings = Settings({**_SIZES, **raw})
        bands = settings.number("model_in_dim", 80, most=4096)
        config = cls(
            rate=settings.number("sampling_rate", 16_000),
            upsampler=UpsamplerSpec(**upsampler_sizes(settings, bands)),
            normalised=settings.truth("normalize_before", True),
        )
        settings.amount("initializer_range", 0.01)
        settings.finish()
        return config


class HifiGan(nn.Module):
    """mel [B, M, F] -> wave [B, 1, F * hop]."""

    mean: Tensor
    scale: Tensor

    def __init__(self, config: HifiGanConfig) -> None:
        super().__init__()
        self.rate, self.hop = config.rate, prod(config.upsampler.ratios)
        self.bands, self.normalised = config.upsampler.features, config.normalised
        self.upsampler = WaveUpsampler(config.upsampler)
        self.register_buffer("mean", torch.zeros(self.bands))
        self.register_buffer("scale", torch.ones(self.bands))

    def forward(self, mel: Tensor, state: State | None = None) -> Tensor:
        """mel [B, M, F] -> wave [B, 1, F * hop]; with `state`, the next F frames of one."""
        if self.normalised:
            mel = (mel - self.mean[:, None]) / self.scale[:, None]
        return self.upsampler(mel, state)


KEYS = KeyMap(
    rename("{part:mean,scale}", "{part}"),
    *upsampler_keys("", "upsampler."),
)

FAMILY = Family(HifiGanConfig.from_hub, HifiGan, KEYS)
