"""alm-codec: the causal 24 kHz codec that ships in the package.

Magnitude spectra in, magnitude spectra out, everything in between at the frame rate. A linear
transform (the principal components of speech and music) does most of the work; ConvNeXt networks
on both sides add what context tells (in the manner of Vocos, arXiv:2306.00814). Between them stands
a residual vector quantiser (SoundStream, arXiv:2107.03312). Phases are continued, not coded (see
`alm_cli.nn.spectral`).

Decoded audio lags by `delay` samples, which lets the causal network look a little ahead: the
driver trims them from the start and feeds as many zeros after the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from threading import Lock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import KeyMap, rename
from alm_cli.errors import ModelError
from alm_cli.nn.convnext import ConvNeXt
from alm_cli.nn.quantize import ResidualVQ
from alm_cli.nn.spectral import Analysis, Synthesis
from alm_cli.nn.state import State


@dataclass(frozen=True, kw_only=True)
class AlmCodecConfig:
    """The architecture: fine frames of `fine_hop` samples, `group` of them to one token frame."""

    rate: int = 24_000
    fine_hop: int = 480
    group: int = 2
    delay: int = 720
    synthesis_hop: int = 240
    window: int = 960
    codebooks: int = 32
    vocabulary: int = 1024
    latent: int = 128
    encoder_depth: int = 4
    encoder_width: int = 224
    context_depth: int = 1
    context_width: int = 320
    decoder_depth: int = 6
    decoder_width: int = 288
    expansion: int = 3

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> AlmCodecConfig:
        """Read `config.json`; ModelError for anything that this version cannot compute."""
        settings = Settings(raw)
        defaults = asdict(cls())
        values = {name: settings.number(name, default) for name, default in defaults.items()}
        settings.finish()
        hop = values["synthesis_hop"]
        if values["window"] % hop or values["fine_hop"] % hop:
            raise ModelError(f"config.json: window and fine_hop are not multiples of {hop}")
        return cls(**values)


class Renderer(nn.Module):
    """Latents to waves: a network for the magnitudes, phases continued from frame to frame."""

    def __init__(self, config: AlmCodecConfig) -> None:
        super().__init__()
        wide, broad, grow = config.decoder_width, config.context_width, config.expansion
        self.group = config.group
        self.widen = nn.Linear(config.latent, broad)
        self.context = ConvNeXt(2 * config.context_depth, broad, grow * broad)
        self.spread = nn.Linear(broad, wide * config.group)
        self.stack = ConvNeXt(config.decoder_depth, wide, grow * wide)
        self.norm = nn.LayerNorm(wide)
        self.synthesis = Synthesis(config.window, config.synthesis_hop)
        per_frame = config.fine_hop // config.synthesis_hop
        self.leave = nn.Linear(wide, self.synthesis.features * per_frame)
        self.recall = nn.Linear(config.latent, self.leave.out_features * config.group)

    def magnitudes(self, latents: Tensor, state: State | None = None) -> Tensor:
        """latents [B, D, F] -> scaled log-energies [B, F * hop / synthesis hop, bins]."""
        plain = self.recall(latents.mT)
        x = self.spread(self.context(self.widen(latents.mT), state))
        x = self.stack(x.reshape(x.shape[0], -1, x.shape[2] // self.group), state)
        x = self.leave(self.norm(x)).reshape(plain.shape) + plain
        return x.reshape(x.shape[0], -1, self.synthesis.features)

    def forward(self, latents: Tensor, state: State | None = None) -> Tensor:
        """latents [B, D, F] -> wave [B, 1, F * hop]."""
        wave: Tensor = self.synthesis(self.magnitudes(latents, state), state)[:, None]
        return wave


# Of several threads that decode at once, one makes what all of them use.
_doubling = Lock()


class AlmCodec(nn.Module):
    """wave -> codes -> wave, causal, any chunking."""

    channels = 1
    block_frames = 100
    by_blocks = fills_up = True

    def __init__(self, config: AlmCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.rate, self.delay = config.rate, config.delay
        self.hop = config.fine_hop * config.group
        self.vocabularies = (config.vocabulary,) * config.codebooks
        narrow, broad, grow = config.encoder_width, config.context_width, config.expansion
        self.analysis = Analysis(config.window, config.synthesis_hop)
        per_frame = config.fine_hop // config.synthesis_hop
        self.enter = nn.Linear(self.analysis.features * per_frame, narrow)
        self.encoder = ConvNeXt(config.encoder_depth, narrow, grow * narrow)
        self.gather = nn.Linear(narrow * config.group, broad)
        self.context = ConvNeXt(config.context_depth, broad, grow * broad)
        self.bottleneck = nn.Linear(broad, config.latent)
        self.project = nn.Linear(self.enter.in_features * config.group, config.latent)
        self.quantizer = ResidualVQ(config.codebooks, config.vocabulary, config.latent)
        self.renderer = Renderer(config)
        self._doubled: tuple[list[tuple[Tensor, int]], Renderer] | None = None

    def latents(self, wave: Tensor, state: State | None = None) -> Tensor:
        """wave [B, 1, T] -> latents before quantisation [B, D, ceil(T / hop)]."""
        wave = F.pad(wave, (0, -wave.shape[2] % self.hop))
        return self.latents_of(self.analysis(wave[:, 0], state), state)

    def latents_of(self, spectra: Tensor, state: State | None = None) -> Tensor:
        """Spectra of the analysis [B, F * hop / synthesis hop, bins] -> latents [B, D, F]."""
        plain = self.project(spectra.reshape(spectra.shape[0], -1, self.project.in_features))
        x = self.enter(spectra.reshape(spectra.shape[0], -1, self.enter.in_features))
        x = self.encoder(x, state)
        x = self.gather(x.reshape(x.shape[0], -1, self.gather.in_features))
        latents: Tensor = (self.bottleneck(self.context(x, state)) + plain).mT
        return latents

    def encode(
        self, wave: Tensor, codebooks: int | None = None, state: State | None = None
    ) -> Tensor:
        """wave [B, 1, T] -> codes [B, K, ceil(T / hop)]."""
        codes: Tensor = self.quantizer.encode(self.latents(wave, state), codebooks)
        return codes

    def decode(self, codes: Tensor, state: State | None = None) -> Tensor:
        """codes [B, K, F] -> wave [B, 1, F * hop]."""
        # In double precision, because the phases rest on decisions that rounding must not change.
        renderer = self._double() if state is None else state.get(self, self._double)
        if state is not None:
            state.put(self, renderer)  # asked for once a stream, not once a block
        wave: Tensor = renderer(self.quantizer.decode(codes).double(), state)
        return wave.float()

    def _double(self) -> Renderer:
        """The renderer with weights in double precision, anew where its own moved or changed."""
        weights = self.renderer.state_dict()
        traces = [_trace(weight) for weight in weights.values()]
        with _doubling, torch.inference_mode(False):
            if self._doubled is None or traces != [(w.data_ptr(), v) for w, v in self._doubled[0]]:
                double = deepcopy(self.renderer).requires_grad_(False).eval()
                doubles = {name: weight.double() for name, weight in weights.items()}
                double.load_state_dict(doubles, assign=True)
                # The weights are kept, so that nothing else can come to lie in their place.
                kept = [
                    (w, version) for w, (_, version) in zip(weights.values(), traces, strict=True)
                ]
                self._doubled = kept, double
            return self._doubled[1]


def _trace(weight: Tensor) -> tuple[int, int]:
    """Where a weight lies, and how often it was changed there."""
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version


# Our own files use our own names.
KEYS = KeyMap(rename("{name:*}", "{name}"))

FAMILY = Family(AlmCodecConfig.from_hub, AlmCodec, KEYS)
