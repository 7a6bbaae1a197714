"""How published checkpoints describe a HiFi-GAN, be it alone or within a model that speaks."""

from __future__ import annotations

from typing import Any

from alm_cli.checkpoints.family import Settings
from alm_cli.checkpoints.keymap import Verb, fold_weight_norm, rename


def upsampler_sizes(settings: Settings, features: int) -> dict[str, Any]:
    """The fields of an UpsamplerSpec but `last_bias`."""
    width = settings.number("upsample_initial_channel", 512)
    ratios = settings.numbers("upsample_rates", (8, 8, 2, 2))
    kernels = settings.numbers("upsample_kernel_sizes", (16, 16, 4, 4))
    units = settings.numbers("resblock_kernel_sizes", (3, 7, 11))
    settings.only("resblock_dilation_sizes", [[1, 3, 5] for _ in units])
    settings.only("leaky_relu_slope", 0.1)
    halves = 2 ** len(ratios)
    settings.require("upsample_initial_channel", width % halves == 0, f"a multiple of {halves}")
    pairs = list(zip(ratios, kernels, strict=False))
    fits = len(kernels) == len(ratios) and all(k >= r and (k - r) % 2 == 0 for r, k in pairs)
    wanted = "as long as upsample_rates, each the rate and an even number more"
    settings.require("upsample_kernel_sizes", fits, wanted)
    settings.require("resblock_kernel_sizes", all(unit % 2 for unit in units), "odd numbers")
    return {
        "features": features,
        "width": width,
        "ratios": ratios,
        "kernels": kernels,
        "unit_kernels": units,
        "dilations": ((1, 3, 5),) * len(units),
        "slope": 0.1,
    }


def upsampler_keys(theirs: str, ours: str) -> tuple[Verb, ...]:
    """Where the tensors of one called `theirs` go in our part `ours`."""
    parts = (
        ("conv_pre", "first"),
        ("conv_post", "last"),
        ("upsampler.{i}", "ups.{i}"),
        ("resblocks.{i}.convs1.{j}", "branches.{i}.{j}.first"),
        ("resblocks.{i}.convs2.{j}", "branches.{i}.{j}.second"),
    )
    return tuple(
        verb
        for hub, name in parts
        for verb in (
            fold_weight_norm(f"{theirs}{hub}", f"{ours}{name}.weight"),
            rename(f"{theirs}{hub}.bias", f"{ours}{name}.bias"),
        )
    )
