"""MAGNeT: music and sounds by masked parallel decoding, four codebooks of EnCodec (2401.04577).

A transformer that sees all frames at once, those before and those after, listens to a text and
tells what the masked codes of one codebook are; `alm_cli.decoding.masked` asks it. The finer
codebooks, which hang on what is near, look at some tenths of a second only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from alm_cli.checkpoints.audiocraft import audiocraft_settings
from alm_cli.checkpoints.audiocraft_lm import (
    CFG,
    KIND,
    LM,
    ONLY,
    STACKED,
    TABLE,
    UNUSED,
    lm_keys,
    reader_name,
    text_features,
)
from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import Shape
from alm_cli.checkpoints.split import SplitKeyMap
from alm_cli.nn.attention import CrossAttention
from alm_cli.nn.band import BandAttention
from alm_cli.nn.linear import Linear
from alm_cli.nn.transformer import MLP

Pair = tuple[Tensor, Tensor]  # keys and values

_KIND = "transformer_lm_magnet"
# What is read of the settings beside those of the three sections.
_SECTIONS = (f"{LM}.", "fuser.", "conditioners.description.")
_SINGLE = frozenset({
    "channels", "compression_model_n_q", "dataset.segment_duration",
    "interleave_stereo_codebooks.use", KIND, "masking.span_len",
})  # fmt: skip
# What the program fills in from elsewhere.
_FILLED = frozenset(
    f"{LM}.{key}" for key in ("compression_model_framerate", "segment_duration", "span_len")
)
# What every published model has.
_ONLY: Mapping[str, tuple[object, ...]] = {
    **ONLY,
    f"{LM}.causal": (False,),
    "channels": (1,),
    "fuser.cross": (["description"],),
    "fuser.prepend": ([], None),
    "interleave_stereo_codebooks.use": (False, None),
    KIND: (_KIND,),
}


@dataclass(frozen=True, kw_only=True)
class MagnetConfig:
    """The architecture; codebooks after the first look `reach` frames far, None: at all.

    `span` frames are masked together; `seconds` are made at a time. Texts are read by the T5 that
    is called `text_encoder`.
    """

    dimension: int
    heads: int
    layers: int
    hidden: int
    books: int
    vocabulary: int
    reach: int | None
    span: int
    seconds: int
    text_encoder: str
    text_dimension: int

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> MagnetConfig:
        """Read what `sniff` found; what this file does not build is an error."""
        settings = Settings({key: raw[key] for key in raw.keys() - UNUSED - _FILLED}, CFG)
        dimension = settings.number(f"{LM}.dim", 1024)
        heads = settings.number(f"{LM}.num_heads", 16, most=256)
        reach = raw.get(f"{LM}.subcodes_context", 5)
        near = type(reach) is int and -1 <= reach < 1_000_000
        config = cls(
            dimension=dimension,
            heads=heads,
            layers=settings.number(f"{LM}.num_layers", 24, most=256),
            hidden=settings.number(f"{LM}.hidden_scale", 4, most=64) * dimension,
            books=settings.number(f"{LM}.n_q", 4, most=64),
            vocabulary=settings.number(f"{LM}.card", 2048),
            reach=reach if near and reach != -1 else None,  # type: ignore[arg-type]
            span=settings.number("masking.span_len", 3, most=1000),
            seconds=settings.number("dataset.segment_duration", 10, most=600),
            text_encoder=reader_name(settings, raw),
            text_dimension=settings.number("text_dimension", 768),
        )
        settings.only(f"{LM}.subcodes_context", reach)
        settings.require(f"{LM}.subcodes_context", near, "a whole number from -1")
        # Sines and cosines share the features, and need two of each.
        fits = dimension > 2 and dimension % heads == 0 == dimension % 2
        settings.require(f"{LM}.num_heads", fits, "a divisor of dim, which is even")
        # Sizes that the tensors do not have would fill the memory before anybody notices.
        settings.only("table", (config.vocabulary + 1, dimension))
        for key, supported in _ONLY.items():
            settings.only(key, *supported)
        settings.finish()
        return config


class Magnet(nn.Module):
    """Codes [R, K, F], many of them masked, and what was heard of a text -> logits of a book."""

    def __init__(self, config: MagnetConfig) -> None:
        super().__init__()
        self.config = config
        wide, codes = config.dimension, config.vocabulary
        self.mask = codes
        # Not random at first: on the meta device that would import torch's compiler.
        tables = (torch.zeros(codes + 1, wide) for _ in range(config.books))
        self.embeddings = nn.ModuleList(
            nn.Embedding(codes + 1, wide, _weight=table) for table in tables
        )
        self.text = Linear(config.text_dimension, wide, bias=True)
        self.blocks = nn.ModuleList(MagnetBlock(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(wide)
        self.heads = nn.ModuleList(Linear(wide, codes, bias=False) for _ in range(config.books))

    def listen(self, text: Tensor) -> tuple[Pair, ...]:
        """text [1, N, E], all of it words, as T5 reads them -> what each block hears of it."""
        memory = self.text(text.to(self.norm.weight))
        return tuple(block.cross.heard(memory) for block in self._blocks())

    def forward(self, codes: Tensor, book: int, heard: Sequence[Pair]) -> Tensor:
        """codes [R, K, F] -> logits of `book` [R, F, V]; only the first row hears the text.

        The others are told nothing. That is what zeros in place of a text come to, which have
        neither keys nor values: no map here has a bias.
        """
        x = sum(table(codes[:, k]) for k, table in enumerate(self.embeddings))
        assert isinstance(x, Tensor)
        x = x + _positions(codes.shape[2], x.shape[2], codes.device).to(x)
        # The first codebook hangs on everything, the others on what is near.
        reach = self.config.reach if book else None
        for block, pair in zip(self._blocks(), heard, strict=True):
            x = block(x, pair, reach)
        y: Tensor = self.heads[book](self.norm(x))
        return y

    def _blocks(self) -> Sequence[MagnetBlock]:
        return list(self.blocks)  # type: ignore[arg-type]


class MagnetBlock(nn.Module):
    """Attention to all frames or the near ones, to the text, and a feed-forward part."""

    def __init__(self, config: MagnetConfig) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, config.dimension)
        self.attention_norm = norm()
        self.attention = BandAttention(config.dimension, config.heads)
        self.cross_norm = norm()
        self.cross = CrossAttention(config.dimension, config.heads)
        self.mlp_norm, self.mlp = norm(), MLP(config.dimension, config.hidden)

    def forward(self, x: Tensor, heard: Pair, reach: int | None) -> Tensor:
        """x [R, S, D] -> [R, S, D]; only the first row hears."""
        x = x + self.attention.within(self.attention_norm(x), reach)
        told = x[:1] + self.cross(self.cross_norm(x[:1]), heard)
        x = torch.cat([told, x[1:]])
        return x + self.mlp(self.mlp_norm(x))


def guided(told: Tensor, untold: Tensor, scale: float) -> Tensor:
    """logits with and without the text -> [...], the first `scale` times as far (2207.12598)."""
    return untold + (told - untold) * scale


def _positions(length: int, dimension: int, device: torch.device) -> Tensor:
    """[S, D] cosines, then sines, of the positions from 0 on."""
    half = torch.arange(dimension // 2, device=device, dtype=torch.float32)
    # One less than their number, as in tensor2tensor: the slowest takes the whole of 10,000.
    speeds = torch.full([], 10_000.0, device=device) ** (half / (dimension // 2 - 1))
    angles = torch.arange(length, device=device)[:, None].float() / speeds
    return torch.cat([angles.cos(), angles.sin()], -1)


KEYS = SplitKeyMap(STACKED, *lm_keys("", "text", "heads"))


def sniff(shapes: Mapping[str, Shape], said: Mapping[str, object]) -> Mapping[str, object] | None:
    """The settings that a checkpoint of AudioCraft says of itself, if it is a MAGNeT."""
    if TABLE not in shapes:
        return None
    told = audiocraft_settings(said)
    if told.get(KIND) != _KIND:
        return None
    kept = {key: x for key, x in told.items() if key.startswith(_SECTIONS) or key in _SINGLE}
    return kept | {"table": tuple(shapes[TABLE]), "text_dimension": text_features(shapes)}


FAMILY = Family(MagnetConfig.from_hub, Magnet, KEYS, sniff)
