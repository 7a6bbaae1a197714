"""Checkpoints in which one tensor holds several of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from alm_cli.checkpoints.keymap import Combine, KeyMap, Shape, Step, Verb


class SplitKeyMap(KeyMap):
    """A map that sees some tensors in equal parts, stacked along their first axis.

    `stacked` has the last word of their names and the names of the parts: with
    `{"in_proj_weight": ("q", "k", "v")}`, verbs find the first third of `a.in_proj_weight` under
    the name `a.in_proj_weight.q`.
    """

    def __init__(self, stacked: Mapping[str, tuple[str, ...]], *verbs: Verb) -> None:
        super().__init__(*verbs)
        self._stacked = dict(stacked)

    def plan(self, theirs: Mapping[str, Shape], ours: Mapping[str, Shape]) -> list[Step]:
        """How their tensors become our parameters; a ModelError lists everything that misfits."""
        whole: dict[str, _Part] = {}
        seen: dict[str, Shape] = {}
        for name, shape in theirs.items():
            parts = self._stacked.get(name.rpartition(".")[2], ())
            if not parts or not shape or shape[0] % len(parts):
                seen[name] = shape
                continue
            for index, part in enumerate(parts):
                whole[f"{name}.{part}"] = _Part(name, index, len(parts))
                seen[f"{name}.{part}"] = (shape[0] // len(parts), *shape[1:])
        return [_whole(step, whole) for step in super().plan(seen, ours)]


@dataclass(frozen=True)
class _Part:
    """One of `count` equal parts of a tensor."""

    name: str
    index: int
    count: int

    def of(self, tensor: Tensor) -> Tensor:
        """tensor [count * N, ...] -> [N, ...], a copy, so that the rest need not be kept."""
        return tensor.chunk(self.count)[self.index].clone()


def _whole(step: Step, whole: Mapping[str, _Part]) -> Step:
    """The step in terms of the tensors that are in the checkpoint."""
    parts = [whole.get(source, _Part(source, 0, 1)) for source in step.sources]
    if all(part.count == 1 for part in parts):
        return step

    def combine(*tensors: Tensor) -> Tensor:
        pieces = (part.of(tensor) for part, tensor in zip(parts, tensors, strict=True))
        return step.combine(*pieces)

    joined: Combine = combine
    return Step(step.target, tuple(part.name for part in parts), joined)
