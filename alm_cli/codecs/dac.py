"""DAC at 16, 24 and 44.1 kHz: music and speech in 9 to 32 codebooks (arXiv:2306.06546)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil, prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import KeyMap, Shape, Verb, fold_weight_norm, rename
from alm_cli.errors import UsageError
from alm_cli.nn.blocks import in_blocks
from alm_cli.nn.conv import Conv
from alm_cli.nn.projected_vq import ProjectedVQ
from alm_cli.nn.snake import DILATIONS, Snake, snake_down, snake_up
from alm_cli.nn.stack import Chain
from alm_cli.nn.state import State
from alm_cli.nn.unpadded import needed_length, unpadded, unpadded_length

# The loaders of both layouts know the stages by number.
_STAGES = 8
# Settings that only training feels, and one that published files state wrongly: hop_length is 512
# in that of 24 kHz as well, where the ratios make 320.
_UNUSED = {"quantizer_dropout", "commitment_loss_weight", "codebook_loss_weight", "hop_length"}


@dataclass(frozen=True, kw_only=True)
class DacConfig:
    """The architecture, in the words of the kit."""

    rate: int
    width: int  # features after the encoder's first convolution, doubled by every stage
    decoder_width: int  # features after the decoder's first convolution, halved by every stage
    features: int  # of the latent
    ratios: tuple[int, ...]  # by which the encoder's stages shorten the signal, in its order
    codebooks: int
    vocabulary: int
    dimension: int  # of a codebook

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> DacConfig:
        """Read the published `config.json`; what this file does not build is an error."""
        settings = Settings({key: value for key, value in raw.items() if key not in _UNUSED})
        ratios = settings.numbers("downsampling_ratios", (2, 4, 8, 8))
        settings.within("downsampling_ratios", len(ratios), most=_STAGES)
        back = list(reversed(ratios))
        settings.only("upsampling_ratios", back, tuple(back))
        width = settings.number("encoder_hidden_size", 64)
        config = cls(
            rate=settings.number("sampling_rate", 16_000),
            width=width,
            decoder_width=settings.number("decoder_hidden_size", 1536),
            features=settings.number("hidden_size", width * 2 ** len(ratios)),
            ratios=ratios,
            codebooks=settings.number("n_codebooks", 9, most=256),
            vocabulary=settings.number("codebook_size", 1024),
            dimension=settings.number("codebook_dim", 8),
        )
        settings.finish()
        return config


class Dac(nn.Module):
    """wave [B, 1, T] <-> codes [B, K, ceil(T / hop)]; of the wave, the last few samples may lack.

    The signal is filled up with zeros to whole frames. Convolutions look ahead, so in a stream
    about eight frames come later than their samples.
    """

    channels = 1
    delay = 0
    by_blocks = True
    # About half a second: its widest activations stay near the processor.
    block_frames = 40

    def __init__(self, config: DacConfig) -> None:
        super().__init__()
        self.rate, self.hop = config.rate, prod(config.ratios)
        self.vocabularies = (config.vocabulary,) * config.codebooks
        self.encoder = _encoder(config)
        self.quantizer = ProjectedVQ(
            config.features, config.vocabulary, config.dimension, (1,) * config.codebooks
        )
        self.decoder = _decoder(config)

    def encode(
        self, wave: Tensor, codebooks: int | None = None, state: State | None = None
    ) -> Tensor:
        """wave [B, 1, T] -> codes [B, K, F] int64."""
        if state is None and wave.device.type == "cpu" and wave.shape[-1]:
            step = partial(self._encoded, codebooks)
            return in_blocks(step, wave, self.block_frames * self.hop)
        return self._encoded(codebooks, wave, state)

    def decode(self, codes: Tensor, state: State | None = None) -> Tensor:
        """codes [B, K, F] -> wave [B, 1, n], n a little less than F * hop where ratios are odd."""
        if state is None and codes.device.type == "cpu" and codes.shape[-1]:
            return in_blocks(self._decoded, codes, self.block_frames)
        return self._decoded(codes, state)

    def windowed(self, seconds: float) -> WindowedDac:
        """The variant that works in windows of `seconds`, as the first release's `compress`."""
        return WindowedDac(self, seconds)

    def _encoded(self, codebooks: int | None, wave: Tensor, state: State | None) -> Tensor:
        if state is None or state.last:
            wave = F.pad(wave, (0, -wave.shape[-1] % self.hop))
        if not wave.shape[-1] and state is None:
            return self.quantizer.encode(wave.new_zeros(len(wave), 1, 0), codebooks)
        return self.quantizer.encode(self.encoder(wave.to(self.dtype), state), codebooks)

    def _decoded(self, codes: Tensor, state: State | None) -> Tensor:
        if not codes.shape[-1] and state is None:
            return torch.zeros(codes.shape[0], 1, 0, device=codes.device)
        latents = self.quantizer.decode(codes).to(self.dtype)
        return torch.tanh(self.decoder(latents, state)).float()

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


class WindowedDac(nn.Module):
    """DAC without padding, window by window: other codes, and more, than those of the whole.

    Windows overlap by what the convolutions lose, so the signal, with a delay's worth of zeros
    before and behind it, is cut at `step` samples, each cut has `frames` frames, and decodes to
    `step` samples. A signal no longer than one window is coded whole, with padding.
    """

    channels = 1
    delay = 0

    def __init__(self, model: Dac, seconds: float) -> None:
        super().__init__()
        self.model, self.seconds = model, seconds
        self.rate, self.hop, self.vocabularies = model.rate, model.hop, model.vocabularies
        whole = Chain(model.encoder, model.decoder)
        # What one output of encoder and decoder needs is more than what it stands for; half of
        # that comes before it.
        least = unpadded_length(whole, 0)
        self._lead = (needed_length(whole, least) - least) // 2
        wanted = int(seconds * self.rate) if 0 < seconds < 1e6 else 0
        self._window = ceil(wanted / self.hop) * self.hop
        self.step = unpadded_length(whole, self._window)
        self.frames = unpadded_length(model.encoder, self._window)
        self._most_whole = ceil(wanted / self.hop)
        # The second clause follows from the first where the encoder loses less than the decoder.
        if self.step < 1 or 2 * self.frames <= self._most_whole:
            shortest = needed_length(whole, 1) / self.rate
            raise UsageError(
                f"windows of {seconds:g} s are too short for the network",
                hint=f"take at least {ceil(shortest * 100 + 1) / 100:g} s",
            )
        self.block_frames = self.frame_multiple = self.frames

    def encode(
        self, wave: Tensor, codebooks: int | None = None, state: State | None = None
    ) -> Tensor:
        """wave [B, 1, T] -> codes [B, K, F] int64."""
        step = partial(self._encoded, codebooks)
        if state is None:
            return in_blocks(step, wave, max(1, wave.shape[-1]))
        return step(wave, state)

    def decode(self, codes: Tensor, state: State | None = None) -> Tensor:
        """codes [B, K, F] -> wave [B, 1, n]."""
        if state is None:
            return in_blocks(self._decoded, codes, max(1, codes.shape[-1]))
        return self._decoded(codes, state)

    def _encoded(self, codebooks: int | None, wave: Tensor, state: State) -> Tensor:
        past = state.get(self, lambda: _Past(wave[..., :0]))
        rest, length = torch.cat((past.rest, wave), -1), past.length + wave.shape[-1]
        # In the words of the reference, so with its rounding.
        if length / self.rate <= self.seconds:
            state.put(self, _Past(rest, length))
            return self.model.encode(rest if state.last else rest[..., :0], codebooks)
        if not past.begun:
            rest = F.pad(rest, (self._lead, 0))
        begin, found = past.begin, [self.model.encode(wave[..., :0], codebooks)]
        # Every sample begins a window or lies behind the beginning of one, as the reference counts
        # before it adds the zeros; so the last windows may see little but zeros.
        while rest.shape[-1] >= self._window or (state.last and begin < length):
            window = rest[..., : self._window]
            window = F.pad(window, (0, self._window - window.shape[-1]))
            latents = unpadded(self.model.encoder, window.to(self.model.dtype))
            found.append(self.model.quantizer.encode(latents, codebooks))
            rest, begin = rest[..., self.step :], begin + self.step
        state.put(self, _Past(rest.clone(), length, begin, begun=True))
        return torch.cat(found, -1)

    def _decoded(self, codes: Tensor, state: State) -> Tensor:
        past = state.get(self, lambda: _Past(codes[..., :0]))
        rest = torch.cat((past.rest, codes), -1)
        # No whole signal has as many frames as the first two windows.
        begun = past.begun or rest.shape[-1] > self._most_whole
        if not begun and state.last:
            return self.model.decode(rest)
        made = [self.model.decode(codes[..., :0])]
        while begun and (rest.shape[-1] >= self.frames or (state.last and rest.shape[-1])):
            group, rest = rest[..., : self.frames], rest[..., self.frames :]
            # What is left of a group that was cut may be too short for the network.
            if unpadded_length(self.model.decoder, group.shape[-1]) > 0:
                latents = self.model.quantizer.decode(group).to(self.model.dtype)
                made.append(torch.tanh(unpadded(self.model.decoder, latents)).float())
        state.put(self, _Past(rest.clone(), begun=begun))
        return torch.cat(made, -1)


@dataclass(frozen=True)
class _Past:
    """What waits for its window, samples so far, and where in the padded signal it begins."""

    rest: Tensor
    length: int = 0
    begin: int = 0
    begun: bool = False


def _encoder(config: DacConfig) -> Chain:
    width, stages = config.width, []
    for ratio in config.ratios:
        stages.append(snake_down(width, ratio))
        width *= 2
    return _named(
        Conv(1, config.width, 7, causal=False),
        stages,
        Snake(width),
        Conv(width, config.features, 3, causal=False),
    )


def _decoder(config: DacConfig) -> Chain:
    width, stages = config.decoder_width, []
    for ratio in reversed(config.ratios):
        # Odd ratios lack one sample at the end, as the references leave out an output padding.
        stages.append(snake_up(width, ratio, right=ceil(ratio / 2)))
        width //= 2
    return _named(
        Conv(config.features, config.decoder_width, 7, causal=False),
        stages,
        Snake(width),
        Conv(width, 1, 7, causal=False),
    )


def _named(first: Conv, stages: list[Chain], activation: Snake, last: Conv) -> Chain:
    parts = {"first": first, "stages": Chain(*stages), "activation": activation, "last": last}
    return Chain(OrderedDict(parts))


def _sniff(shapes: Mapping[str, Shape], said: Mapping[str, object]) -> Mapping[str, object] | None:
    """The settings of a file of the first release, which has its arguments beside the weights."""
    metadata = said.get("metadata")
    raw = metadata.get("kwargs") if isinstance(metadata, Mapping) else None
    if not isinstance(raw, Mapping) or "decoder.model.0.bias" not in shapes:
        return None
    given = {str(key): value for key, value in raw.items() if value is not None}
    return {_ARGUMENTS.get(key, key): value for key, value in given.items()}


_ARGUMENTS = {
    "encoder_dim": "encoder_hidden_size",
    "encoder_rates": "downsampling_ratios",
    "latent_dim": "hidden_size",
    "decoder_dim": "decoder_hidden_size",
    "decoder_rates": "upsampling_ratios",
    "sample_rate": "sampling_rate",
}

_UNIT = {"snake1.alpha": "before.alpha", "snake2.alpha": "between.alpha"}
_UNIT |= {f"conv1.{name}": f"first.{name}" for name in ("weight", "bias")}
_UNIT |= {f"conv2.{name}": f"second.{name}" for name in ("weight", "bias")}
# Within a stage, the reference's place of the activation, the convolution, and the first unit.
_PLACES = {"encoder": (3, 4, 0), "decoder": (0, 1, 2)}


def _hub_keys() -> list[Verb]:
    """The layout of the hub: no weight norm, and a name for each part."""
    verbs = []
    for half, (activation, conv, unit) in _PLACES.items():
        stage, ours = f"{half}.block.{{i}}", f"{half}.stages.{{i}}"
        name = "{name:weight,bias}"
        verbs += [
            rename(f"{half}.conv1.{name}", f"{half}.first.{{name}}"),
            rename(f"{half}.snake1.alpha", f"{half}.activation.alpha"),
            rename(f"{half}.conv2.{name}", f"{half}.last.{{name}}"),
            rename(f"{stage}.snake1.alpha", f"{ours}.{activation}.alpha"),
            rename(f"{stage}.{{conv:conv1,conv_t1}}.{name}", f"{ours}.{conv}.{{name}}"),
        ]
        for place in range(len(DILATIONS)):
            verbs += [
                rename(f"{stage}.res_unit{place + 1}.{theirs}", f"{ours}.{unit + place}.{part}")
                for theirs, part in _UNIT.items()
            ]
    return verbs


def _release_keys() -> list[Verb]:
    """The layout of the first release: weight norm, and a number for each part."""
    half = "{half:encoder,decoder}.{list:block,model}"
    last = f"{half}.{{last:{','.join(str(stages + 2) for stages in range(1, _STAGES + 1))}}}"
    verbs = [
        *_convolution(f"{half}.0", "{half}.first"),
        rename(f"{half}.{{i}}.alpha", "{half}.activation.alpha"),
        *_convolution(last, "{half}.last"),
    ]
    for stage in range(_STAGES):
        part, ours = f"{half}.{stage + 1}.block.{{j}}", f"{{half}}.stages.{stage}.{{j}}"
        verbs += [
            rename(f"{part}.alpha", f"{ours}.alpha"),
            *_convolution(part, ours),
            rename(f"{part}.block.0.alpha", f"{ours}.before.alpha"),
            *_convolution(f"{part}.block.1", f"{ours}.first"),
            rename(f"{part}.block.2.alpha", f"{ours}.between.alpha"),
            *_convolution(f"{part}.block.3", f"{ours}.second"),
        ]
    return verbs


def _convolution(theirs: str, ours: str) -> tuple[Verb, Verb]:
    return fold_weight_norm(theirs, f"{ours}.weight"), rename(f"{theirs}.bias", f"{ours}.bias")


_BOOK, _OUR_BOOK = "quantizer.quantizers.{i}", "quantizer.books.{i}"

KEYS = KeyMap(
    *_hub_keys(),
    *_release_keys(),
    *_convolution(f"{_BOOK}.in_proj", f"{_OUR_BOOK}.into"),
    *_convolution(f"{_BOOK}.out_proj", f"{_OUR_BOOK}.out"),
    rename(f"{_BOOK}.codebook.weight", f"{_OUR_BOOK}.vectors"),
)

FAMILY = Family(DacConfig.from_hub, Dac, KEYS, _sniff)
