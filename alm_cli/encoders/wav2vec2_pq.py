"""wav2vec 2.0's own tokens: product-quantised features, two codes a frame (arXiv:2006.11477)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import KeyMap, drop, rename
from alm_cli.checkpoints.wav2vec2 import front_keys, front_sizes
from alm_cli.nn.frontend import FrontEnd, FrontSpec
from alm_cli.nn.state import State
from alm_cli.nn.whole import answered, heard, standardised

# As for features of the same front end (`alm_cli.encoders.hubert`).
_LONGEST = 1_600_000


@dataclass(frozen=True, kw_only=True)
class Wav2Vec2PQConfig:
    """The front end, the groups of codes and how many codes each has."""

    front: FrontSpec
    groups: int
    vocabulary: int

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> Wav2Vec2PQConfig:
        """Read what of a published `config.json` belongs to the front end and the quantiser."""
        settings = Settings({key: raw[key] for key in raw.keys() & _USED})
        config = cls(
            front=FrontSpec(**front_sizes(settings, raw)),
            groups=settings.number("num_codevector_groups", 2, most=16),
            vocabulary=settings.number("num_codevectors_per_group", 320),
        )
        settings.finish()
        return config


_USED = frozenset({
    "conv_bias", "conv_dim", "conv_kernel", "conv_stride", "feat_extract_activation",
    "feat_extract_norm", "layer_norm_eps", "num_codevector_groups", "num_codevectors_per_group",
    "num_feat_extract_layers",
})  # fmt: skip


class Wav2Vec2PQ(nn.Module):
    """wave [B, 1, T] -> codes [B, K, F], F = (T - 400) // 320 + 1, of the K groups.

    Only the front end is heard, but the signal whole, and in blocks of 100 s beyond them.
    """

    rate, channels, delay = 16_000, 1, 0
    block_frames = 100

    def __init__(self, config: Wav2Vec2PQConfig) -> None:
        super().__init__()
        wide = config.front.widths[-1]
        self.hop = config.front.hop
        self.vocabularies = (config.vocabulary,) * config.groups
        self.normalize = not config.front.over_time
        self.front = FrontEnd(config.front)
        self.norm = nn.LayerNorm(wide)
        self.score = nn.Linear(wide, config.groups * config.vocabulary)

    def encode(
        self, wave: Tensor, codebooks: int | None = None, state: State | None = None
    ) -> Tensor:
        """wave [B, 1, T] -> codes [B, K, F] int64."""
        wave = heard(self, wave, state, None if self.normalize else _LONGEST)
        wave = standardised(wave) if self.normalize else wave
        return answered(partial(self._codes, codebooks), wave, _LONGEST)

    def _codes(self, codebooks: int | None, wave: Tensor) -> Tensor:
        """wave [B, 1, T], whole -> codes [B, K, F] int64: of each group the best score."""
        x = self.norm(self.front(wave[:, 0].to(self.score.weight.dtype)))
        scores = self.score(x).unflatten(-1, (len(self.vocabularies), -1))[:, :, :codebooks]
        return torch.argmax(scores.float(), -1).mT


_MODEL = "{model:wav2vec2.,}"
_OF = "{of:weight,bias}"

KEYS = KeyMap(
    *front_keys(_MODEL),
    rename(f"{_MODEL}feature_projection.layer_norm.{_OF}", "norm.{of}"),
    rename(f"quantizer.weight_proj.{_OF}", "score.{of}"),
    # What makes features of the conv features, and what trains them.
    drop(f"{_MODEL}feature_projection.projection.{{name:*}}"),
    drop(f"{_MODEL}encoder.{{name:*}}"),
    drop(f"{_MODEL}masked_spec_embed"),
    drop("quantizer.codevectors"),
    drop("{head:project_hid,project_q}.{name:*}"),
)

FAMILY = Family(Wav2Vec2PQConfig.from_hub, Wav2Vec2PQ, KEYS)
