"""How near to a tie codes were chosen, seen from outside: by watching a model compare distances."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Below this a rounding error of float32 may well choose the other vector.
NEAR_TIE = 1e-5
_LEAST, _GREATEST = ("min", "argmin"), ("max", "argmax")


@dataclass(frozen=True, kw_only=True)
class Margins:
    """By how much the second nearest vector is farther, as a part of its distance.

    Distances are whatever the model compares, squared or not, or scores. For each codebook the
    first percentile and the median over its codes, and the share of codes with less than NEAR_TIE.
    """

    lowest: tuple[float, ...]
    median: tuple[float, ...]
    ties: tuple[float, ...]


class Watch(TorchFunctionMode):
    """While entered: notes every search for the best of as many numbers as a codebook has.

    Quantisers differ in what they compare and how, but all that search a codebook end with a
    minimum or maximum over it. Whether what was seen made the codes is checked by `margins`.
    """

    def __init__(self, vocabularies: Collection[int]) -> None:
        super().__init__()
        self._sizes = frozenset(vocabularies)
        self._seen: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],  # noqa: ARG002
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in _LEAST + _GREATEST and isinstance(args[0], Tensor):
            found = result if isinstance(result, Tensor) else result.indices
            self._note(args[0], found, greatest=name in _GREATEST)
        return result

    def _note(self, compared: Tensor, found: Tensor, greatest: bool) -> None:
        """compared [..., V], where it was best [...]."""
        if compared.ndim < 2 or compared.shape[-1] not in self._sizes:
            return
        if found.shape != compared.shape[:-1]:
            return
        best, second = compared.float().topk(2, largest=greatest).values.unbind(-1)
        margin = (second - best).abs() / second.abs().clamp(min=1e-30)
        self._seen.append((found.flatten().cpu(), margin.flatten().cpu()))

    def margins(self, codes: NDArray[np.int32], strides: Sequence[int] = ()) -> Margins | None:
        """The margins of codes [1, K, F], or None where they were not found by what was seen."""
        books = codes.shape[1]
        if not self._seen or codes.shape[0] != 1 or len(self._seen) % books:
            return None
        rows = []
        for book, stride in zip(range(books), strides or (1,) * books, strict=False):
            found, margin = (
                torch.cat(parts).numpy() for parts in zip(*self._seen[book::books], strict=True)
            )
            if not np.array_equal(found, codes[0, book, ::stride]) or not found.size:
                return None
            share = float((margin < NEAR_TIE).mean())
            rows.append((*map(float, np.quantile(margin, (0.01, 0.5))), share))
        lowest, median, ties = zip(*rows, strict=True)
        return Margins(lowest=lowest, median=median, ties=ties)
