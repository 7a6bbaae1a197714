"""Convolutions of one step: linear maps of the features of each step by itself."""

from __future__ import annotations

from torch import Tensor

from alm_cli.nn.conv import Conv
from alm_cli.nn.linear import product
from alm_cli.nn.state import State


class Pointwise(Conv):
    """x [B, C, T] -> [B, D, T].

    As a matrix product: the last bits of the library's convolution of one step depend on how many
    threads compute it (measured for 192 features to 96 and 384, 125 steps).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1)

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:  # noqa: ARG002
        """x [B, C, T] -> [B, D, T]."""
        return product(x.mT, self.weight[:, :, 0], self.bias).mT
