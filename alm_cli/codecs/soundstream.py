"""SoundStream: convolutions, residual codebooks, convolutions, all causal (arXiv:2107.03312).

The paper's weights were never published: those in `google/lyra` are of another, quantised network
for TFLite, and `lucidrains/audiolm-pytorch` has an architecture of its own and no weights. There is
one public checkpoint of the paper's architecture, in the sizes of NaturalSpeech 2 (16 kHz, 80
frames a second, 16 books, trained on English read speech): `soundstream_variant_naturalspeech2.pt`
of `haydenshively/SoundStream`, which this file reads as it is. `recipes/soundstream.py` trains
small ones of our own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import cast

from torch import Tensor, nn

from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import KeyMap, Shape, Verb, drop, merge, rename
from alm_cli.nn.autoencoder import Autoencoder
from alm_cli.nn.conv import Conv, ConvTranspose, Padding
from alm_cli.nn.quantize import ResidualVQ, TableCodebook, as_table
from alm_cli.nn.stack import (
    Chain,
    ConvDecoder,
    ConvEncoder,
    Elu,
    ResidualUnit,
    StackParts,
    StackSpec,
)

_DILATIONS = (1, 3, 9)


@dataclass(frozen=True, kw_only=True)
class SoundStreamConfig:
    """The architecture; the defaults are the paper's, whose latent has as many features as here."""

    rate: int
    width: int  # features after the first convolution
    features: int  # of the latent
    ratios: tuple[int, ...]  # by which the encoder's stages shorten the signal, in its order
    codebooks: int
    vocabulary: int
    padding: Padding  # before the signal; zeros let a stream answer from the first frame

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> SoundStreamConfig:
        """Read `config.json`, or what `sniff` makes of the tensors."""
        settings = Settings(raw)
        config = cls(
            rate=settings.number("rate", 24_000),
            width=settings.number("width", 32),
            features=settings.number("features", 512),
            ratios=settings.numbers("ratios", (2, 4, 5, 8)),
            codebooks=settings.number("codebooks", 8, most=256),
            vocabulary=settings.number("vocabulary", 1024),
            padding=cast(Padding, raw.get("padding", "zeros")),
        )
        settings.only("padding", "zeros", "reflect")
        settings.finish()
        return config


class SoundStream(Autoencoder):
    """wave [B, 1, T] <-> codes [B, K, ceil(T / hop)], looking back only."""

    channels = 1

    def __init__(self, config: SoundStreamConfig) -> None:
        conv = partial(Conv, padding=config.padding)
        encoder = StackSpec(
            channels=1,
            width=config.width,
            features=config.features,
            ratios=config.ratios,
            dilations=_DILATIONS,
            last_kernel=3,
        )
        # Nothing but the residual units is activated, and those after each convolution.
        parts = StackParts(
            conv=conv, up=ConvTranspose, unit=partial(_unit, conv), activation=_nothing
        )
        books = config.codebooks, config.vocabulary, config.features
        super().__init__(
            ConvEncoder(encoder, parts),
            ResidualVQ(*books, TableCodebook),
            ConvDecoder(replace(encoder, last_kernel=7), parts),
        )
        self.rate, self.hop = config.rate, prod(config.ratios)
        self.vocabularies = (config.vocabulary,) * config.codebooks


def _unit(conv: Callable[..., nn.Module], width: int, dilation: int) -> nn.Module:
    second = Chain(conv(width, width, 1), Elu())
    return ResidualUnit(Chain(), conv(width, width, 7, dilation=dilation), Elu(), second)


def _nothing(_width: int) -> nn.Module:
    return Chain()


def _table(vectors: Tensor) -> Tensor:
    return as_table(vectors.float())


def _published() -> Iterator[Verb]:
    """The public checkpoint nests stages and units, four and three of them; here all is flat."""
    for half in ("encoder", "decoder"):
        places = {"0": "0", "5": "22"}
        for stage in range(4):
            theirs, first = f"{stage + 1}.layers", 1 + 5 * stage
            # An encoder's stage has its units first, a decoder's has them last.
            units, scaling = (first, first + 4) if half == "encoder" else (first + 2, first + 1)
            place = 0 if half == "encoder" else 1
            places[f"{theirs}.{3 * (1 - place)}"] = str(scaling)
            for unit in range(3):
                for layer, role in (("0", "first"), ("2", "second.0")):
                    key = f"{theirs}.{unit + place}.layers.{layer}"
                    places[key] = f"{units + unit}.{role}"
        for source, target in places.items():
            name = f"{half}.layers.{source}.conv.{{part:weight,bias}}"
            yield rename(name, f"{half}.{target}.{{part}}")


_THEIR_BOOK = "quantizer.layers.{i}._codebook"

KEYS = KeyMap(
    *_published(),
    merge([f"{_THEIR_BOOK}.embed"], "quantizer.codebooks.{i}.table", lambda x: _table(x[0])),
    drop(f"{_THEIR_BOOK}.{{name:embed_avg,cluster_size,initted}}"),  # what training updates
    # Our own files use our own names, except that tables are made of vectors.
    rename("{half:encoder,decoder}.{i}.{rest:*}", "{half}.{i}.{rest}"),
    merge(["quantizer.codebooks.{i}.vectors"], "quantizer.codebooks.{i}.table", _table),
)

_DOWN = re.compile(r"encoder\.layers\.[1-4]\.layers\.3\.conv\.weight")
_EMBED = re.compile(r"quantizer\.layers\.\d+\._codebook\.embed")


def sniff(shapes: Mapping[str, Shape], said: Mapping[str, object]) -> Mapping[str, object] | None:  # noqa: ARG001
    """The settings of the public checkpoint, which comes without any; its rate is known."""
    downs = [shapes[name] for name in sorted(shapes) if _DOWN.fullmatch(name)]
    books = [shape for name, shape in shapes.items() if _EMBED.fullmatch(name)]
    last = shapes.get("encoder.layers.5.conv.bias", ())
    if len(downs) != 4 or not books or {len(shape) for shape in (*downs, *books)} != {3}:
        return None
    return {
        "rate": 16_000,
        "width": downs[0][1],
        "features": sum(last),
        "ratios": [shape[2] // 2 for shape in downs],
        "codebooks": len(books),
        "vocabulary": books[0][1],
        "padding": "reflect",
    }


FAMILY = Family(SoundStreamConfig.from_hub, SoundStream, KEYS, sniff)
