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
from torch.nn import functional as F

from alm_cli.errors import UsageError
from alm_cli.nn.linear import Linear, Make, StepLinear
from alm_cli.nn.rounded import largest, rounded_rows

# The libraries of these products; both names stand for FBGEMM here.
_ENGINES = ("fbgemm", "x86")
_FEW = 8
_LEAST = 1e-20  # what a row of zeros is divided by
# Whether vectors have 7 bits.
_NARROW = False


class HalfLinear(nn.Module):
    """A linear map of half floats, computed in float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self._packed = torch.ops.quantized.linear_prepack_fp16(weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] float32 -> [..., E]."""
        return torch.ops.quantized.linear_dynamic_fp16(x, self._packed)


class SteadyHalfLinear(HalfLinear):
    """The same, which rounds a row as it does with any other rows beside it.

    FBGEMM computes up to six rows together. With three and more it adds in one order; with one or
    two, which may be what is left of any number, in another one.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] float32 -> [..., E]."""
        rows = x.reshape(-1, x.shape[-1])
        count = len(rows)
        if count % 6 not in (1, 2):
            return super().forward(x)
        y = super().forward(F.pad(rows, (0, 0, 0, 3 - count % 3)))
        return y[:count].view(*x.shape[:-1], -1)


class Int8Linear(nn.Module):
    """A linear map of 8-bit weights, a scale for each output, and 8-bit vectors, a scale for each.

    Processors without an instruction for four products (VNNI) add the first two in 16 bits, where
    two of the largest overflow; torch gives the vectors 7 bits for that. Most of the error of a
    model comes from its vectors, though, so there the weights make room: two neighbours are 128 at
    most, which costs them half a bit. The codes of MusicGen, guided by 3, are 0.013 nats from those
    in float32 so, 0.034 with 7 bits, and nothing is computed beside.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        room = largest if torch.cpu._is_vnni_supported() else _largest_pair
        rounded, scales = rounded_rows(weight, room)
        zeros = torch.zeros(len(weight), dtype=torch.long)
        quantised = torch._make_per_channel_quantized_tensor(rounded, scales.double(), zeros, 0)
        self._packed = torch.ops.quantized.linear_prepack(quantised, None)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] float32 -> [..., E]."""
        # The product has one scale for all of x. Rows of one step of decoding are of a size.
        if x.numel() <= _FEW * x.shape[-1]:
            y = torch.ops.quantized.linear_dynamic(x, self._packed, _NARROW)
            return y if self.bias is None else y.add_(self.bias)
        # Others are brought to one before.
        sizes = _sizes(x)
        y = torch.ops.quantized.linear_dynamic(x / sizes, self._packed, _NARROW)
        return y.mul_(sizes) if self.bias is None else torch.addcmul(self.bias, y, sizes)


class SteadyInt8Linear(Int8Linear):
    """The same, which rounds a row as it does with any other rows beside it."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias)
        # One more row, so that the numbers of all rows always go from -1 to 1.
        self._ends = F.pad(weight.new_tensor([1.0, -1.0]), (0, weight.shape[1] - 2))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] float32 -> [..., E]."""
        rows = x.reshape(-1, x.shape[-1])
        sizes, even = _sizes(rows), rows.new_empty(len(rows) + 1, rows.shape[1])
        torch.div(rows, sizes, out=even[:-1])
        even[-1] = self._ends
        y = torch.ops.quantized.linear_dynamic(even, self._packed, _NARROW)[:-1]
        y = y.mul_(sizes) if self.bias is None else torch.addcmul(self.bias, y, sizes)
        return y.view(*x.shape[:-1], -1)


def _sizes(x: Tensor) -> Tensor:
    """x [..., D] -> [..., 1], the size of the largest number of each vector."""
    # torch.linalg.vector_norm finds the same, and takes as long as the product.
    return x.abs().amax(-1, keepdim=True).clamp_(min=_LEAST)


def _largest_pair(rows: Tensor) -> Tensor:
    """rows [E, D] -> [E], the largest sum of the sizes of two that are added in 16 bits."""
    sizes = F.pad(rows.abs(), (0, rows.shape[1] % 2))
    return sizes.view(len(rows), -1, 2).sum(2).amax(1)


def can_pack() -> bool:
    """Whether torch has these products on this machine."""
    return torch.backends.quantized.engine in _ENGINES


def pack_exactly(model: nn.Module, make: Make = HalfLinear) -> bool:
    """Pack the linear maps of `model` as half floats, in their place, if that changes no weight.

    `make` is one of the maps above. False: it would, or this machine cannot; nothing was done.
    """
    if not can_pack() or not all(map(_is_half, _weights(model))):
        return False
    pack_with(model, make)
    return True


def pack_int8(model: nn.Module, make: Make = Int8Linear) -> None:
    """Round the weights of the linear maps of `model` to 8 bits, in their place.

    `make` is one of the maps above. Where the processor multiplies bfloat16, parts that have a
    method `keep_narrow` keep as that what they read as often as their weights. UsageError: this
    machine has no products of such numbers.
    """
    if not can_pack():
        raise UsageError("int8 needs an x86 processor", hint="--dtype float32")
    pack_with(model, make)
    if torch.cpu._is_avx512_bf16_supported():
        for part in model.modules():
            if hasattr(part, "keep_narrow"):
                part.keep_narrow(torch.bfloat16)  # type: ignore[operator]


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
    # Nothing here holds a weight but its part, which lets go of it as soon as it is packed.
    parts = [part for part in model.modules() if not isinstance(part, Linear)]

    def pack(part: nn.Module) -> None:
        for name, child in list(part.named_children()):
            if isinstance(child, Linear):
                setattr(part, name, make(child.weight.data, child.bias))

    with ThreadPoolExecutor(min(8, torch.get_num_threads())) as pool:
        own: list[Callable[[Make], None]] = [p.pack for p in parts if hasattr(p, "pack")]  # type: ignore[misc]
        list(pool.map(lambda work: work(make), own))
        list(pool.map(pack, parts))
