"""Checkpoints in which one tensor holds several of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alm_cli.checkpoints.keymap import Combine, KeyMap, Shape, Step, Verb

Sizes = Callable[[str, Mapping[str, Shape]], Sequence[int] | None]


class SplitKeyMap(KeyMap):
    """A map that sees some tensors in equal parts, stacked along their first axis.

    `stacked` has the last word of their names, or the last few, and the names of the parts: with
    `{"in_proj_weight": ("q", "k", "v")}`, verbs find the first third of `a.in_proj_weight` under
    the name `a.in_proj_weight.q`. `sizes` tells those of the parts where they are not equal, from
    the name and all shapes; None where they are.
    """

    def __init__(
        self, stacked: Mapping[str, tuple[str, ...]], *verbs: Verb, sizes: Sizes | None = None
    ) -> None:
        super().__init__(*verbs)
        self._stacked = dict(stacked)
        self._sizes = sizes

    def plan(self, theirs: Mapping[str, Shape], ours: Mapping[str, Shape]) -> list[Step]:
        """How their tensors become our parameters; a ModelError lists everything that misfits."""
        whole: dict[str, _Part] = {}
        seen: dict[str, Shape] = {}
        for name, shape in theirs.items():
            words = name.split(".")
            ends = (".".join(words[place:]) for place in range(len(words)))
            parts = next((self._stacked[end] for end in ends if end in self._stacked), ())
            sizes = self._sizes(name, theirs) if self._sizes and parts else None
            if sizes is None and parts and shape and shape[0] % len(parts) == 0:
                sizes = (shape[0] // len(parts),) * len(parts)
            if sizes is None:
                seen[name] = shape
                continue
            for index, (part, size) in enumerate(zip(parts, sizes, strict=True)):
                whole[f"{name}.{part}"] = _Part(name, index, tuple(sizes))
                seen[f"{name}.{part}"] = (size, *shape[1:])
        return [_whole(step, whole) for step in super().plan(seen, ours)]


@dataclass(frozen=True)
class _Part:
    """One of several parts of a tensor, of these sizes; all of it where there are none."""

    name: str
    index: int = 0
    sizes: tuple[int, ...] = ()

    def of(self, tensor: Tensor) -> Tensor:
        """tensor [sum(sizes), ...] -> [size, ...], a copy, so that the rest need not be kept."""
        return torch.split(tensor, list(self.sizes))[self.index].clone() if self.sizes else tensor


def _whole(step: Step, whole: Mapping[str, _Part]) -> Step:
    """The step in terms of the tensors that are in the checkpoint."""
    parts = [whole.get(source, _Part(source)) for source in step.sources]
    if not any(part.sizes for part in parts):
        return step

    def combine(*tensors: Tensor) -> Tensor:
        pieces = (part.of(tensor) for part, tensor in zip(parts, tensors, strict=True))
        return step.combine(*pieces)

    joined: Combine = combine
    return Step(step.target, tuple(part.name for part in parts), joined)
