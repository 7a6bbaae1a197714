"""How published checkpoints describe the front end that wav2vec 2.0 shares with its successors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from alm_cli.checkpoints.family import Settings, SettingsError
from alm_cli.checkpoints.keymap import Verb, merge, rename

_SIZES = ("conv_dim", "conv_kernel", "conv_stride")


def front_sizes(settings: Settings, raw: Mapping[str, object]) -> dict[str, Any]:
    """The fields of a FrontSpec from `settings`, which read `raw`."""
    widths = settings.numbers("conv_dim", (512,) * 7)
    kernels = settings.numbers("conv_kernel", (10, 3, 3, 3, 3, 2, 2))
    strides = settings.numbers("conv_stride", (5, 2, 2, 2, 2, 2, 2))
    if not len(widths) == len(kernels) == len(strides):
        raise SettingsError(
            f"config.json: {', '.join(_SIZES)} differ in length",
            hint="each of them has a number for every layer",
            keys=frozenset(_SIZES),
        )
    settings.only("num_feat_extract_layers", len(widths))
    settings.only("feat_extract_norm", "group", "layer")
    settings.only("feat_extract_activation", "gelu")
    settings.only("layer_norm_eps", 1e-5)
    return {
        "widths": widths,
        "kernels": kernels,
        "strides": strides,
        "bias": settings.truth("conv_bias", False),
        "over_time": raw.get("feat_extract_norm") != "layer",
    }


def front_keys(model: str) -> tuple[Verb, ...]:
    """Verbs from the tensors of a model, under the prefix `model`, to a FrontEnd `front`.

    The hub's names, and fairseq's, which count the parts of a layer.
    """
    layer = f"{model}feature_extractor.conv_layers.{{i}}"
    return (
        merge([f"{layer}.{{conv:conv,0}}.weight"], "front.convs.{i}.weight", taps_in_order),
        rename(f"{layer}.{{conv:conv,0}}.bias", "front.convs.{i}.bias"),
        rename(f"{layer}.{{norm:layer_norm,2,2.1}}.{{of:weight,bias}}", "front.norms.{i}.{of}"),
    )


def taps_in_order(weight: Tensor) -> Tensor:
    """weight [D, C, k] of a convolution -> [D, k * C], as frames lie behind one another."""
    return weight.mT.flatten(1)
