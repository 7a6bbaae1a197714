"""alm-tts: the English speaker that ships in the package, on the first codebooks of alm-codec.

Plan, then render. A small transformer reads the sounds of a line and says how long each lasts; what
it knows of them, laid out in time, is the condition under which another one predicts the codes of
all frames of a stretch together, a codebook after the other, in the manner of SoundStorm
(arXiv:2305.09636); or, if it is `causal`, those of one frame after another, all codebooks a step
with the delay pattern of MusicGen (arXiv:2306.05284). Sounds have their places before a code is
drawn, so none is left out, repeated, or endless.

A voice is a vector, made of the codes of a recording. Codes enter and leave by the vectors of their
codebooks, which the codec has arranged: what sounds alike lies near.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import KeyMap, rename
from alm_cli.errors import ModelError
from alm_cli.nn.renderer import Frames, Renderer, rotary_stack
from alm_cli.text.sounds import SYMBOLS


@dataclass(frozen=True, kw_only=True)
class AlmTtsConfig:
    """Times are counted in units of `unit` samples, `group` of them to a frame of the codec.

    Frame f holds the units that end `lead` units before the end of the f-th group: the codec looks
    so far ahead.
    """

    rate: int = 24_000
    unit: int = 240
    group: int = 4
    lead: int = 3
    codebooks: int = 8
    vocabulary: int = 1024
    latent: int = 128
    text_width: int = 192
    text_depth: int = 4
    text_heads: int = 3
    voice_width: int = 128
    width: int = 256
    depth: int = 6
    heads: int = 4
    causal: bool = True
    voices: tuple[str, ...] = ()

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> AlmTtsConfig:
        """Read `config.json`; ModelError for anything that this version cannot compute."""
        settings = Settings(raw)
        defaults = asdict(cls())
        del defaults["causal"], defaults["voices"]
        values = {name: settings.number(name, default) for name, default in defaults.items()}
        causal = settings.truth("causal", True)
        voices = settings.names("voices")
        settings.finish()
        for heads, width in (("heads", "width"), ("text_heads", "text_width")):
            if values[width] % (2 * values[heads]):
                raise ModelError(f"config.json: {width} is not an even number for each of {heads}")
        return cls(**values, causal=causal, voices=voices)


class Reader(nn.Module):
    """The sounds of a line in the context of all of it, and how long each of them lasts."""

    def __init__(self, config: AlmTtsConfig) -> None:
        super().__init__()
        width = config.text_width
        self.symbols = nn.Embedding(len(SYMBOLS), width)
        self.first = nn.Embedding(2, width)
        self.voice = nn.Linear(config.voice_width, width)
        self.stack = rotary_stack(width, config.text_depth, config.text_heads, causal=False)
        self.norm = nn.LayerNorm(width)
        self.length = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))

    def forward(
        self, symbols: Tensor, first: Tensor, voice: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """symbols and first [B, N], voice [B, W] -> features [B, N, D], log of units [B, N].

        `first` is 1 where a word begins; `mask` [B, 1, 1, N] is added to the products.
        """
        x = self.symbols(symbols) + self.first(first) + self.voice(voice)[:, None]
        x = self.norm(self.stack(x, bias=mask))
        return x, self.length(x)[..., 0]


class Voice(nn.Module):
    """What is common to all frames of a recording: who speaks, and how high."""

    def __init__(self, config: AlmTtsConfig) -> None:
        super().__init__()
        width = config.text_width
        self.enter = nn.Linear(config.latent, width)
        self.near = nn.ModuleList(nn.Conv1d(width, width, 5, padding=2) for _ in range(2))
        self.weigh = nn.Linear(width, 1)
        self.leave = nn.Linear(2 * width, config.voice_width)

    def forward(self, latents: Tensor, mask: Tensor | None = None) -> Tensor:
        """latents [B, F, D] -> [B, W]; `mask` [B, F] is added to the weights of the frames."""
        x = F.gelu(self.enter(latents))
        for conv in self.near:
            x = x + F.gelu(conv(x.mT)).mT
        weights = self.weigh(x)[..., 0]
        weights = (weights if mask is None else weights + mask).softmax(-1)[..., None]
        mean = (weights * x).sum(1)
        spread = (weights * (x - mean[:, None]).square()).sum(1).add(1e-5).sqrt()
        return torch.tanh(self.leave(torch.cat([mean, spread], -1)))


class AlmTts(Renderer):
    """Sounds and a voice -> codes of alm-codec."""

    named: Tensor

    def __init__(self, config: AlmTtsConfig) -> None:
        super().__init__(
            books=config.codebooks,
            vocabulary=config.vocabulary,
            latent=config.latent,
            width=config.width,
            depth=config.depth,
            heads=config.heads,
            causal=config.causal,
        )
        self.config, self.rate = config, config.rate
        self.frames = Frames(config.group, config.lead)
        width = config.width
        self.reader, self.voice = Reader(config), Voice(config)
        self.place = nn.Linear(config.text_width + 2, config.text_width)
        self.gather = nn.Linear(config.group * config.text_width, width)
        self.spread = nn.Conv1d(width, width, 5, padding=2)
        self.tone = nn.Linear(config.voice_width, width)
        # What `voice` made of recordings of the voices that have names.
        self.register_buffer("named", torch.zeros(len(config.voices), config.voice_width))

    def condition(self, features: Tensor, units: Tensor) -> Tensor:
        """features [N, D], units [N] that each lasts -> [F, width]: what is said in each frame."""
        total = int(units.sum())
        owner = torch.repeat_interleave(torch.arange(len(units), device=units.device), units)
        begins = units.cumsum(0) - units
        inside = torch.arange(total, device=units.device) - begins[owner]
        lasts = units[owner].to(features.dtype)
        places = torch.stack([(inside + 0.5) / lasts, lasts.log() / 3], -1).to(features.dtype)
        x = self.place(torch.cat([features[owner], places], -1))
        return self.frames.condition(x, self.gather, self.spread)


# Our own files use our own names.
KEYS = KeyMap(rename("{name:*}", "{name}"))

FAMILY = Family(AlmTtsConfig.from_hub, AlmTts, KEYS)
