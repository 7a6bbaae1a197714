"""SpeechTokenizer: 16 kHz, 50 frames a second, level 0 carries content (arXiv:2308.16692).

The first codebook was trained to say what a layer of HuBERT says, so it is a stream of semantic
tokens (`--codebooks 1`); the seven others add voice and manner. Memory runs in both directions over
the whole signal, so every code depends on every sample: a stream keeps 205 KB a second until its
end, and a recording cut in two has other codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import prod

from torch import nn

from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import KeyMap, Shape, drop, fold_weight_norm, rename
from alm_cli.nn.autoencoder import Autoencoder
from alm_cli.nn.conv import Conv, ConvTranspose
from alm_cli.nn.quantize import ResidualVQ
from alm_cli.nn.recurrent import ResidualLSTM, ResidualTwoWayLSTM
from alm_cli.nn.seanet import seanet_parts
from alm_cli.nn.snake import Snake
from alm_cli.nn.stack import ConvDecoder, ConvEncoder, Elu, StackSpec

# The settings that change what is computed; the published file says how to train as well.
_SETTINGS = (
    "n_filters", "strides", "dimension", "semantic_dimension", "bidirectional", "dilation_base",
    "residual_kernel_size", "n_residual_layers", "lstm_layers", "activation", "codebook_size",
    "n_q", "sample_rate",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SpeechTokenizerConfig:
    """The architecture, in the words of the kit."""

    stack: StackSpec
    rate: int
    unit_kernel: int
    lstm_layers: int
    snake: bool  # as in the edition of AnyGPT, else exponential linear units
    codebooks: int
    vocabulary: int

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> SpeechTokenizerConfig:
        """Read the architecture from the published `config.json`; ModelError for what is else."""
        settings = Settings(raw)
        strides = settings.numbers("strides", (8, 5, 4, 2))
        units = settings.number("n_residual_layers", 1, most=16)
        growth = settings.number("dilation_base", 2)
        config = cls(
            stack=StackSpec(
                channels=1,
                width=settings.number("n_filters", 64),
                features=settings.number("dimension", 1024),
                ratios=strides[::-1],  # the file lists the decoder's
                dilations=tuple(growth**unit for unit in range(units)),
            ),
            rate=settings.number("sample_rate", 16_000),
            unit_kernel=settings.number("residual_kernel_size", 3),
            lstm_layers=settings.number("lstm_layers", 2, most=16),
            snake=raw.get("activation") == "Snake",
            codebooks=settings.number("n_q", 8, most=256),
            vocabulary=settings.number("codebook_size", 1024),
        )
        settings.number("semantic_dimension", 768)  # of the teacher
        settings.only("bidirectional", True)
        settings.only("activation", "ELU", "Snake")
        settings.finish()
        return config


class SpeechTokenizer(Autoencoder):
    """wave [B, 1, T] <-> codes [B, K, ceil(T / hop)]; encoding answers at the end of a stream."""

    channels = 1
    block_frames = 50
    by_blocks = False  # the memory that runs backwards begins at the end of the recording

    def __init__(self, config: SpeechTokenizerConfig) -> None:
        stack, layers = config.stack, config.lstm_layers
        conv = partial(Conv, causal=False, padding="reflect")
        activation = Snake if config.snake else _elu
        parts = partial(
            seanet_parts,
            conv=conv,
            up=partial(ConvTranspose, causal=False),
            activation=activation,
            kernel=config.unit_kernel,
        )
        encoder = ConvEncoder(stack, parts(context=lambda d: ResidualTwoWayLSTM(d, layers)))
        # Both directions arrive at the end of the encoder, one beside the other.
        wide = 2 * stack.width * 2 ** len(stack.ratios)
        encoder[-2], encoder[-1] = activation(wide), conv(wide, stack.features, stack.last_kernel)
        super().__init__(
            encoder,
            ResidualVQ(config.codebooks, config.vocabulary, stack.features),
            ConvDecoder(stack, parts(context=lambda d: ResidualLSTM(d, layers))),
        )
        self.rate, self.hop = config.rate, prod(stack.ratios)
        self.vocabularies = (config.vocabulary,) * config.codebooks


def _elu(_width: int) -> nn.Module:
    return Elu()


# The layout of EnCodec's first release, in which every module is wrapped once more.
_LAYER = "{half:encoder,decoder}.model.{i}"
_CONV = "{conv:conv.conv,convtr.convtr}"
_ROLES = (("", ""), (".block.1", ".first"), (".block.3", ".second"), (".shortcut", ".skip"))
_CODEBOOK = "quantizer.vq.layers.{i}._codebook"

KEYS = KeyMap(
    *(
        rule
        for theirs, ours in _ROLES
        for rule in (
            fold_weight_norm(f"{_LAYER}{theirs}.{_CONV}", f"{{half}}.{{i}}{ours}.weight"),
            rename(f"{_LAYER}{theirs}.{_CONV}.bias", f"{{half}}.{{i}}{ours}.bias"),
        )
    ),
    rename(f"{_LAYER}.alpha", "{half}.{i}.alpha"),
    rename(f"{_LAYER}.block.0.alpha", "{half}.{i}.before.alpha"),
    rename(f"{_LAYER}.block.2.alpha", "{half}.{i}.between.alpha"),
    rename(f"{_LAYER}.lstm.{{name:*}}", "{half}.{i}.lstm.{name}"),
    rename(f"{_CODEBOOK}.embed", "quantizer.codebooks.{i}.vectors"),
    drop(f"{_CODEBOOK}.{{name:embed_avg,cluster_size,inited}}"),  # what training updates
    drop("transform.{part:weight,bias}"),  # from the first codebook to its teacher
)


def sniff(shapes: Mapping[str, Shape], said: Mapping[str, object]) -> Mapping[str, object] | None:
    """The settings of a checkpoint whose memory runs in both directions; its file names no type."""
    backwards = any(
        name.startswith("encoder.model.") and name.endswith("lstm.weight_ih_l0_reverse")
        for name in shapes
    )
    if not backwards or "quantizer.vq.layers.0._codebook.embed" not in shapes:
        return None
    return {key: said[key] for key in _SETTINGS if key in said}


FAMILY = Family(SpeechTokenizerConfig.from_hub, SpeechTokenizer, KEYS, sniff)
