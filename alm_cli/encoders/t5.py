"""T5's encoder by itself (arXiv:1910.10683): models that listen to a text keep it beside them."""

from __future__ import annotations

from collections.abc import Mapping

from alm_cli.checkpoints.family import Family
from alm_cli.checkpoints.keymap import KeyMap, drop
from alm_cli.checkpoints.t5 import t5_keys, t5_sizes
from alm_cli.nn.t5 import T5Encoder, T5Spec

KEYS = KeyMap(*t5_keys("", ""), drop("decoder.*"), drop("lm_head.weight"))


def read_config(raw: Mapping[str, object]) -> T5Spec:
    """Read the published `config.json`; what the encoder does not build is an error."""
    return T5Spec(**t5_sizes(raw, "text_encoder"))


FAMILY = Family(read_config, T5Encoder, KEYS)
