"""Vocos, another decoder for the tokens of EnCodec at 24 kHz (arXiv:2306.00814).

Better speech from the same codes: EnCodec's own decoder makes waves sample by sample, Vocos makes
spectra frame by frame. It was trained for 1.5, 3, 6 and 12 kbps, which are 2, 4, 8 and 16 books.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import KeyMap, Shape, drop, rename
from alm_cli.errors import InputError
from alm_cli.nn.blocks import in_blocks
from alm_cli.nn.conv import Conv
from alm_cli.nn.convnext import ConditionedNorm, ConvNeXt, ConvNeXtBlock
from alm_cli.nn.istft import ISTFTHead
from alm_cli.nn.state import State


@dataclass(frozen=True, kw_only=True)
class VocosConfig:
    """The architecture; the defaults are those of the published model."""

    rate: int
    hop: int
    window: int
    features: int  # of a row of the codebooks
    codebooks: int
    vocabulary: int
    conditions: int  # bitrates, each twice the one before
    width: int
    hidden: int
    depth: int

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> VocosConfig:
        """Read what `sniff` makes of the tensors; ModelError for what does not go together."""
        settings = Settings(raw)
        hop = settings.number("hop", 320)
        config = cls(
            rate=settings.number("rate", 24_000),
            hop=hop,
            window=4 * hop,
            features=settings.number("features", 128),
            codebooks=settings.number("codebooks", 16, most=256),
            vocabulary=settings.number("vocabulary", 1024),
            conditions=settings.number("conditions", 4, most=8),
            width=settings.number("width", 384),
            hidden=settings.number("hidden", 1152),
            depth=settings.number("depth", 8, most=64),
        )
        settings.within("hop", hop % 2 + 1, most=1)
        settings.within("conditions", config.codebooks >> (config.conditions - 1))
        settings.finish()
        return config


class Vocos(nn.Module):
    """codes [B, K, F] -> wave [B, 1, F * hop]. It cannot encode."""

    channels = 1
    delay = 0
    block_frames = 150

    vectors: Tensor

    def __init__(self, config: VocosConfig) -> None:
        super().__init__()
        self.rate, self.hop = config.rate, config.hop
        self.vocabularies = (config.vocabulary,) * config.codebooks
        # How many books each of its bitrates has.
        self.depths = [config.codebooks >> i for i in reversed(range(config.conditions))]
        rows = config.codebooks * config.vocabulary
        self.register_buffer("vectors", torch.zeros(rows, config.features))
        norm = partial(ConditionedNorm, config.conditions)
        block = partial(ConvNeXtBlock, causal=False, norm=norm)
        self.enter = Conv(config.features, config.width, 7, causal=False)
        self.norm = norm(config.width)
        self.stack = ConvNeXt(config.depth, config.width, config.hidden, block=block)
        self.final_norm = nn.LayerNorm(config.width, eps=1e-6)
        self.head = ISTFTHead(config.width, config.window, config.hop)

    def decode(self, codes: Tensor, state: State | None = None) -> Tensor:
        """codes [B, K, F] -> wave [B, 1, F * hop].

        Of a number of books that it was not trained for, it takes the first that make the next
        lower one. InputError: there are too few.
        """
        if not codes.shape[-1] and (state is None or not state.knows(self.enter)):
            return torch.zeros(codes.shape[0], 1, 0, device=codes.device)
        condition = sum(depth <= codes.shape[1] for depth in self.depths) - 1
        if condition < 0:
            raise InputError(
                f"{codes.shape[1]} codebook, where this decoder needs {self.depths[0]} or more",
                hint="encode at 1.5 kbps or more, or decode with the codec itself",
            )
        step = partial(self._decoded, condition)
        codes = codes[:, : self.depths[condition]]
        if state is None and codes.device.type == "cpu":
            return in_blocks(step, codes, self.block_frames)
        return step(codes, state)

    def _decoded(self, condition: int, codes: Tensor, state: State | None) -> Tensor:
        first = torch.arange(codes.shape[1], device=codes.device) * self.vocabularies[0]
        x = F.embedding(codes + first[:, None], self.vectors).sum(1)
        x = self.enter(x.mT.to(self.enter.weight.dtype), state).mT
        x = self.stack(self.norm(x, condition), state, condition)
        wave: Tensor = self.head(self.final_norm(x), state)
        return wave


KEYS = KeyMap(
    rename("feature_extractor.codebook_weights", "vectors"),
    rename("backbone.embed.{part:weight,bias}", "enter.{part}"),
    rename("backbone.norm.{part:scale,shift}.weight", "norm.{part}"),
    rename("backbone.convnext.{i}.dwconv.{part:weight,bias}", "stack.blocks.{i}.mix.{part}"),
    rename("backbone.convnext.{i}.norm.{part:scale,shift}.weight", "stack.blocks.{i}.norm.{part}"),
    rename("backbone.convnext.{i}.pwconv1.{part:weight,bias}", "stack.blocks.{i}.up.{part}"),
    rename("backbone.convnext.{i}.pwconv2.{part:weight,bias}", "stack.blocks.{i}.down.{part}"),
    rename("backbone.convnext.{i}.gamma", "stack.blocks.{i}.scale"),
    rename("backbone.final_layer_norm.{part:weight,bias}", "final_norm.{part}"),
    rename("head.out.{part:weight,bias}", "head.out.{part}"),
    drop("head.istft.window"),  # computed
    drop("feature_extractor.encodec.*"),  # the encoder, in checkpoints from training
)


def sniff(shapes: Mapping[str, Shape], said: Mapping[str, object]) -> Mapping[str, object] | None:  # noqa: ARG001
    """The settings, which the published config.yaml has and the shapes have as well.

    What they do not say is fixed by the paper: a window of four hops, codebooks of 1024.
    """
    vectors = shapes.get("feature_extractor.codebook_weights", ())
    hidden = shapes.get("backbone.convnext.0.pwconv1.weight", ())
    norms = shapes.get("backbone.norm.scale.weight", ())
    spectrum = shapes.get("head.out.bias", ())
    if [len(shape) for shape in (vectors, hidden, norms, spectrum)] != [2, 2, 2, 1]:
        return None
    return {
        "hop": (spectrum[0] - 2) // 4,
        "features": vectors[1],
        "codebooks": vectors[0] // 1024,
        "conditions": norms[0],
        "width": norms[1],
        "hidden": hidden[0],
        "depth": sum(name.endswith(".gamma") for name in shapes),
    }


FAMILY = Family(VocosConfig.from_hub, Vocos, KEYS, sniff)
