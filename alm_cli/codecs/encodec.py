"""EnCodec at 24, 32 and 48 kHz (arXiv:2210.13438; MusicGen's at 32 kHz: arXiv:2306.05284).

24 kHz is causal. 32 kHz is centred: it looks ahead, so a stream lags by some frames. 48 kHz is
stereo, centred and normalised over time: it works in segments of a second that overlap by 1 %, each
divided by its loudness. The reference for its last segments is the original package, which encodes
the short ones as they are; the processor of `transformers` fills them with silence first, which
changes their loudness and codes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil, log2, prod
from typing import Any

import torch
from torch import Tensor

from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import KeyMap, Shape, drop, fold_weight_norm, rename
from alm_cli.errors import InputError
from alm_cli.nn.autoencoder import Autoencoder
from alm_cli.nn.conv import Conv, ConvTranspose, Padding
from alm_cli.nn.quantize import ResidualVQ
from alm_cli.nn.recurrent import ResidualLSTM
from alm_cli.nn.seanet import NormedConv, NormedConvTranspose, seanet_parts
from alm_cli.nn.segments import OverlapAdd, Segments
from alm_cli.nn.stack import ConvDecoder, ConvEncoder, StackParts, StackSpec
from alm_cli.nn.state import State

# What those keys mean that together make the segments of 48 kHz, where they are not there.
_ABSENT = {"normalize": False, "chunk_length_s": None, "overlap": None, "use_causal_conv": True}
_PADDINGS: Mapping[object, Padding] = {"reflect": "reflect", "constant": "zeros"}


@dataclass(frozen=True, kw_only=True)
class EncodecConfig:
    """The architecture, in the words of the kit."""

    stack: StackSpec
    rate: int
    unit_kernel: int
    compress: int  # features of a residual unit over those inside it
    convolved_skip: bool
    lstm_layers: int
    codebooks: int
    vocabulary: int
    causal: bool
    padding: Padding
    segmented: bool  # a second at a time, normalised

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> EncodecConfig:
        """Read the published `config.json`; what this file does not build is an error."""
        settings = Settings(_ABSENT | dict(raw))
        ratios = settings.numbers("upsampling_ratios", (8, 5, 4, 2))
        units = settings.number("num_residual_layers", 1, most=16)
        growth = settings.number("dilation_growth_rate", 2)
        config = cls(
            stack=StackSpec(
                channels=settings.number("audio_channels", 1),
                width=settings.number("num_filters", 32),
                features=settings.number("hidden_size", 128),
                ratios=ratios[::-1],  # the file lists the decoder's
                dilations=tuple(growth**unit for unit in range(units)),
                kernel=settings.number("kernel_size", 7),
                last_kernel=settings.number("last_kernel_size", 7),
            ),
            rate=settings.number("sampling_rate", 24_000),
            unit_kernel=settings.number("residual_kernel_size", 3),
            compress=settings.number("compress", 2),
            convolved_skip=settings.truth("use_conv_shortcut", True),
            lstm_layers=settings.number("num_lstm_layers", 2, most=16),
            codebooks=_codebooks(settings, prod(ratios)),
            vocabulary=settings.number("codebook_size", 1024),
            causal=settings.truth("use_causal_conv", True),
            padding=_PADDINGS.get(raw.get("pad_mode"), "reflect"),
            segmented=raw.get("norm_type") == "time_group_norm",
        )
        settings.only("codebook_dim", config.stack.features, None)
        settings.only("pad_mode", *_PADDINGS)
        settings.only("norm_type", "weight_norm", "time_group_norm")
        settings.only("trim_right_ratio", 1.0)
        # These go together: what is normalised over time must be cut into segments.
        settings.only("normalize", config.segmented)
        settings.only("chunk_length_s", 1.0 if config.segmented else None)
        settings.only("overlap", 0.01 if config.segmented else None)
        if config.segmented:
            settings.only("use_causal_conv", False)
        settings.finish()
        return config


def _codebooks(settings: Settings, hop: int) -> int:
    """How many books the highest of the published bandwidths, in kbps, pays for."""
    kbps = settings.amounts("target_bandwidths", (1.5, 3.0, 6.0, 12.0, 24.0))[-1]
    bits = ceil(log2(settings.number("codebook_size", 1024)))
    frame_rate = ceil(settings.number("sampling_rate", 24_000) / hop)
    exactly = 1000 * kbps * (1 + 1e-9)  # 2.2 kbps is four times 550 bits, whatever rounding makes
    return settings.within("target_bandwidths", int(exactly // (frame_rate * max(bits, 1))))


class Encodec(Autoencoder):
    """wave [B, C, T] <-> codes [B, K, ceil(T / hop)].

    The convolutions mirror the signal at its start, so a causal stream begins with its seventh
    frame; after that it looks back only. A centred one always lags by what it looks ahead to.
    """

    def __init__(self, config: EncodecConfig) -> None:
        stack, parts = config.stack, _parts(config)
        quantizer = ResidualVQ(config.codebooks, config.vocabulary, stack.features)
        super().__init__(ConvEncoder(stack, parts), quantizer, ConvDecoder(stack, parts))
        self.rate, self.channels, self.hop = config.rate, stack.channels, prod(stack.ratios)
        self.vocabularies = (config.vocabulary,) * config.codebooks


class SegmentedEncodec(Encodec):
    """wave [B, C, T] <-> codes [B, K, F], segment by segment, loudness in `State.side`.

    The codes of all segments stand one after another, `frame_multiple` of each; the last one, or
    the last two, have fewer. `side["scale"]` [segments, B] is by what each was divided; decoding
    without it leaves them as loud as the network makes them.
    """

    def __init__(self, config: EncodecConfig) -> None:
        super().__init__(config)
        length, stride = config.rate, int(0.99 * config.rate)
        self.cut, self.join = Segments(length, stride), OverlapAdd(stride)
        self.frame_multiple = self.block_frames = ceil(length / self.hop)
        self.group_samples = stride  # by which so many frames advance

    def encode(
        self, wave: Tensor, codebooks: int | None = None, state: State | None = None
    ) -> Tensor:
        """wave [B, C, T] -> codes [B, K, F] int64."""
        if state is None and len(wave) > 1:
            return torch.cat([self.encode(row, codebooks) for row in torch.split(wave, 1)])
        segments = self.cut(wave, state)
        scales = [_loudness(segment) for segment in segments]
        found = [
            self._encoded(codebooks, segment / scale[:, None, None], None)
            for segment, scale in zip(segments, scales, strict=True)
        ]
        if state is not None:
            state.side["scale"] = torch.stack(scales) if scales else wave.new_zeros(0, len(wave))
        return torch.cat(found, -1) if found else self._no_codes(wave, codebooks)

    def decode(self, codes: Tensor, state: State | None = None) -> Tensor:
        """codes [B, K, F] -> wave [B, C, n], at least as long as what was encoded."""
        if state is None and len(codes) > 1:
            return torch.cat([self.decode(row) for row in torch.split(codes, 1)])
        scales = None if state is None else state.side.get("scale")
        sizes = self._sizes(codes.shape[-1], None if scales is None else len(scales))
        pieces = torch.split(codes, sizes, -1) if sizes else ()
        waves = [self._decoded(piece, None) for piece in pieces]
        if scales is not None:
            pairs = zip(waves, scales, strict=True)
            waves = [wave * scale[:, None, None].to(wave) for wave, scale in pairs]
        silence = torch.zeros(len(codes), self.channels, 0, device=codes.device)
        return self.join(waves or [silence], state)

    def _sizes(self, frames: int, segments: int | None) -> list[int]:
        """How many frames each segment has; from their number, where it is known.

        Segments overlap, so that the last but one can be short as well: of 47 620 samples the first
        segment has 149 frames and the second, which begins at sample 47 520, has one.
        """
        full = self.frame_multiple
        whole = [full] * (frames // full) + [frames % full] * (frames % full > 0)
        if segments is None or segments < 2:
            sizes = whole
        else:
            rest = frames - full * (segments - 2)
            pairs = (self._last_two(over) for over in range(1, self.cut.length - self.cut.stride))
            last = next((pair for pair in pairs if sum(pair) == rest), (full, rest - full))
            sizes = [full] * (segments - 2) + list(last)
        if segments not in (None, len(sizes)) or not all(0 < size <= full for size in sizes):
            raise InputError(
                f"{frames} frames of codes with {segments} scales",
                hint="the tokens are damaged or were cut apart",
            )
        return sizes

    def _last_two(self, over: int) -> tuple[int, int]:
        """Frames of the last two segments where `over` samples follow the last one's beginning."""
        return ceil((self.cut.stride + over) / self.hop), ceil(over / self.hop)


def _loudness(segment: Tensor) -> Tensor:
    """segment [B, C, T] -> by what it is divided [B]."""
    return segment.mean(1).square().mean(-1).sqrt() + 1e-8


def build(config: EncodecConfig) -> Encodec:
    """The model that a configuration describes."""
    return SegmentedEncodec(config) if config.segmented else Encodec(config)


def _parts(config: EncodecConfig) -> StackParts:
    local = partial(Conv, causal=config.causal, padding=config.padding)
    normed = partial(NormedConv, causal=False, padding=config.padding)
    up = partial(ConvTranspose, causal=config.causal)
    return seanet_parts(
        context=lambda width: ResidualLSTM(width, config.lstm_layers),
        conv=normed if config.segmented else local,
        up=NormedConvTranspose if config.segmented else up,
        kernel=config.unit_kernel,
        compress=config.compress,
        convolved_skip=config.convolved_skip,
    )


# Both the layout of the hub and that of the first release (`.th`), which wraps modules once more.
_LAYER = "{half:encoder,decoder}.{list:layers,model}.{i}"
_CONV = "{conv:conv,conv.conv,convtr.convtr}"
_NORM = "{norm:norm,conv.norm,convtr.norm}.{part:weight,bias}"
_ROLES = (("", ""), (".block.1", ".first"), (".block.3", ".second"), (".shortcut", ".skip"))
_CODEBOOK = "quantizer.{list:layers,vq.layers}.{i}.{book:codebook,_codebook}"

KEYS = KeyMap(
    *(
        rule
        for theirs, ours in _ROLES
        for rule in (
            fold_weight_norm(f"{_LAYER}{theirs}.{_CONV}", f"{{half}}.{{i}}{ours}.weight"),
            rename(f"{_LAYER}{theirs}.{_CONV}.bias", f"{{half}}.{{i}}{ours}.bias"),
            rename(f"{_LAYER}{theirs}.{_NORM}", f"{{half}}.{{i}}{ours}.norm.{{part}}"),
        )
    ),
    rename(f"{_LAYER}.lstm.{{name:*}}", "{half}.{i}.lstm.{name}"),
    rename(f"{_CODEBOOK}.embed", "quantizer.codebooks.{i}.vectors"),
    drop(f"{_CODEBOOK}.{{name:embed_avg,cluster_size,inited}}"),  # what training updates
)

_CONV_WEIGHT = re.compile(
    r"encoder\.(?:layers|model)\.(\d+)\.conv(?:\.conv)?"
    r"\.(?:weight|weight_v|parametrizations\.weight\.original1)"
)
_UNIT_BIAS = re.compile(r"encoder\.(?:layers|model)\.1\.block\.1\.conv(?:\.conv)?\.bias")
_EMBED = re.compile(r"quantizer\.(?:layers|vq\.layers)\.\d+\._?codebook\.embed")
_MEMORY = re.compile(r"encoder\.(?:layers|model)\.\d+\.lstm\.weight_ih_l\d+(_reverse)?")


def sniff(shapes: Mapping[str, Shape], said: Mapping[str, object]) -> Mapping[str, object] | None:
    """The settings of a checkpoint without config.json.

    The sizes follow from the shapes. The rest is known of the published models (the `.th` files at
    24 and 48 kHz, MusicGen's at 32 kHz) and written down in checkpoints of AudioCraft.
    """
    convs, units, books, memories = (
        {match: shapes[name] for name in shapes if (match := pattern.fullmatch(name))}
        for pattern in (_CONV_WEIGHT, _UNIT_BIAS, _EMBED, _MEMORY)
    )
    layers = {int(match[1]): shape for match, shape in convs.items() if len(shape) == 3}
    # A memory that runs backwards is SpeechTokenizer's.
    if len(layers) < 3 or not units or not books or any(match[1] for match in memories):
        return None
    places = sorted(layers)
    (width, channels, kernel), last = layers[places[0]], layers[places[-1]]
    ratios = [layers[place][2] // 2 for place in places[1:-1]]
    vocabulary = next(iter(books.values()))[0]
    normed = any(".norm." in name for name in shapes)
    rest = _audiocraft(said) or _published(channels, ratios, normed)
    if rest is None:
        return None
    bits = len(books) * ceil(log2(max(vocabulary, 2)))
    return rest | {
        "audio_channels": channels,
        "num_filters": width,
        "hidden_size": last[0],
        "upsampling_ratios": ratios[::-1],
        "kernel_size": kernel,
        "last_kernel_size": last[2],
        "num_residual_layers": places[1] - 2,
        "compress": width // max(1, next(iter(units.values()))[0]),
        "use_conv_shortcut": any(".shortcut." in name for name in shapes),
        "num_lstm_layers": len(memories),
        "norm_type": "time_group_norm" if normed else "weight_norm",
        "codebook_size": vocabulary,
        "target_bandwidths": [bits * ceil(rest["sampling_rate"] / max(1, prod(ratios))) / 1000],
    }


def _published(channels: int, ratios: list[int], normed: bool) -> dict[str, Any] | None:
    """What the shapes of a published model do not tell."""
    known: dict[tuple[int, tuple[int, ...], bool], dict[str, Any]] = {
        (1, (2, 4, 5, 8), False): {"sampling_rate": 24_000},
        (1, (4, 4, 5, 8), False): {"sampling_rate": 32_000, "use_causal_conv": False},
        (2, (2, 4, 5, 8), True): {
            "sampling_rate": 48_000,
            "use_causal_conv": False,
            "normalize": True,
            "chunk_length_s": 1.0,
            "overlap": 0.01,
        },
    }
    return known.get((channels, tuple(ratios), normed))


def _audiocraft(said: Mapping[str, object]) -> dict[str, Any] | None:
    """What the YAML text in a checkpoint of AudioCraft says, line by line."""
    text = said.get("xp.cfg")
    if not isinstance(text, str):
        return None

    def value(key: str, section: str | None = None) -> str | None:
        lines = rf"^{section}:\n(?: .*\n)*?  {key}" if section else f"^{key}"
        found = re.search(rf"{lines}: *(\S+)", text, re.MULTILINE)
        return found[1] if found else None

    rate = value("sample_rate") or ""
    return {
        "sampling_rate": int(rate) if rate.isascii() and rate.isdigit() else 0,
        "use_causal_conv": value("causal", "encodec") == "true",
        "normalize": value("renormalize", "encodec") == "true",
        "pad_mode": value("pad_mode", "seanet"),
    }


FAMILY = Family(EncodecConfig.from_hub, build, KEYS, sniff)
