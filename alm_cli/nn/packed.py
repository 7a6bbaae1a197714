"""Weights packed for fast products on x86 processors: as half floats, or as 8-bit numbers.

A step of decoding takes as long as its weights take to be read. Those of most published models are
half floats, whatever their files hold them as: kept as such they are read in half the time, and
products, which are computed in float32, remain what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from alm_cli.errors import UsageError
from alm_cli.nn.linear import Linear, Make, StepLinear

# The libraries of these products; both names stand for FBGEMM here.
_ENGINES = ("fbgemm", "x86")
_FEW = 8
# What a row of zeros is divided by.
_LEAST = 1e-20


class HalfLinear(nn.Module):
    """A linear map of half floats, computed in float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self._packed = torch.ops.quantized.linear_prepack_fp16(weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] float32 -> [..., E]."""
        return torch.ops.quantized.linear_dynamic_fp16(x, self._packed)


class Int8Linear(nn.Module):
    """A linear map of 8-bit weights, a scale for each output, and 7-bit vectors, a scale for each.

    With 8 bits for both, sums of two products overflow on processors without an instruction for
    four (VNNI).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        scales = weight.abs().amax(1).clamp(min=_LEAST) / 127
        rounded = (weight / scales[:, None]).round_().to(torch.int8)
        zeros = torch.zeros(len(weight), dtype=torch.long)
        quantised = torch._make_per_channel_quantized_tensor(rounded, scales.double(), zeros, 0)
        self._packed = torch.ops.quantized.linear_prepack(quantised, None)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] float32 -> [..., E]."""
        # The product has one scale for all of x. Rows of one step of decoding are of a size.
        if x.numel() <= _FEW * x.shape[-1]:
            y = torch.ops.quantized.linear_dynamic(x, self._packed, True)
            return y if self.bias is None else y.add_(self.bias)
        # Others are brought to one before.
        sizes = torch.linalg.vector_norm(x, torch.inf, -1, keepdim=True).clamp_(min=_LEAST)
        y = torch.ops.quantized.linear_dynamic(x / sizes, self._packed, True)
        return y.mul_(sizes) if self.bias is None else torch.addcmul(self.bias, y, sizes)


def can_pack() -> bool:
    """Whether torch has these products on this machine."""
    return torch.backends.quantized.engine in _ENGINES


def pack_exactly(model: nn.Module) -> bool:
    """Pack the linear maps of `model` as half floats, in their place, if that changes no weight.

    False: it would, or this machine cannot; nothing was done.
    """
    if not can_pack() or not all(map(_is_half, _weights(model))):
        return False
    pack_with(model, HalfLinear)
    return True


def pack_int8(model: nn.Module) -> None:
    """Round the weights of the linear maps of `model` to 8 bits, in their place.

    UsageError: this machine has no products of such numbers.
    """
    if not can_pack():
        raise UsageError("int8 needs an x86 processor", hint="--dtype float32")
    pack_with(model, Int8Linear)


def _weights(model: nn.Module) -> Iterator[Tensor]:
    """All that would be packed."""
    kinds = Linear | StepLinear | nn.Embedding
    return (part.weight for part in model.modules() if isinstance(part, kinds))


def _is_half(weight: Tensor) -> bool:
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    # A few rows first: what is no half float shows at once.
    return on_cpu and all(torch.equal(w.half().float(), w) for w in (weight[:8], weight))


def pack_with(model: nn.Module, make: Make) -> None:
    """Replace all linear maps of `model` by what `make` makes of them, in their place.

    Parts that multiply by weights in a way of their own have a method `pack` for it. Packing takes
    one core a second for 50 to 100 million weights, so several cores share it.
    """
    parts = list(model.modules())
    with ThreadPoolExecutor(min(8, torch.get_num_threads())) as pool:
        own: list[Callable[[Make], None]] = [p.pack for p in parts if hasattr(p, "pack")]  # type: ignore[misc]
        list(pool.map(lambda work: work(make), own))
        left = [
            (part, name, pool.submit(make, child.weight.data, child.bias))
            for part in parts
            for name, child in part.named_children()
            if isinstance(child, Linear)
        ]
        for part, name, made in left:
            setattr(part, name, made.result())
