"""Foreign tensor names to ours: a total and exact map made of six verbs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from alm_cli.errors import ModelError

Shape = tuple[int, ...]
Combine = Callable[..., Tensor]

_PLACEHOLDER = re.compile(r"\{(\w+)(?::([^}]*))?\}|\*")
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_LINES = 24


@dataclass(frozen=True)
class Rule:
    """Tensors named like `sources` become `target` together; without a target they are dropped.

    In a source `{i}` stands for a number, `{half:encoder,decoder}` for one of the words and
    `{name:*}` or `*` for any text; the target repeats what it needs of them as `{half}`. What is
    only `offered` is dropped too where the model has no such target.
    """

    sources: tuple[str, ...]
    target: str | None
    combine: Combine
    offered: bool = False


@dataclass(frozen=True)
class Tie:
    """`target` has the values of `like` unless the checkpoint brings its own."""

    target: str
    like: str


Verb = tuple[Rule | Tie, ...]


def rename(source: str, target: str) -> Verb:
    """The tensor `source` is our `target`."""
    return (Rule((source,), target, _itself),)


def merge(sources: Iterable[str], target: str, combine: Combine) -> Verb:
    """Our `target` is `combine` of several tensors, called with them in their order."""
    return (Rule(tuple(sources), target, combine),)


def fold_weight_norm(source: str, target: str) -> Verb:
    """The weight of a module, from its magnitude and direction in any spelling or folded before."""
    original = f"{source}.parametrizations.weight.original"
    return (
        Rule((f"{source}.weight_g", f"{source}.weight_v"), target, folded),
        Rule((f"{original}0", f"{original}1"), target, folded),
        Rule((f"{source}.weight",), target, _itself),
    )


def tie(target: str, like: str) -> Verb:
    """Our `target` has the values of our `like` unless the checkpoint brings its own."""
    return (Tie(target, like),)


def drop(source: str) -> Verb:
    """Tensors that inference does not need."""
    return (Rule((source,), None, _itself),)


def offer(source: str, target: str) -> Verb:
    """The tensor `source` is our `target` in models that have it; others do not need it."""
    return (Rule((source,), target, _itself, offered=True),)


def folded(magnitude: Tensor, direction: Tensor) -> Tensor:
    """magnitude [D, 1, ...], direction [D, ...] -> weight [D, ...], in float32."""
    direction = direction.float()
    norm = torch.linalg.vector_norm(direction.flatten(1), dim=1).view_as(magnitude)
    return direction * (magnitude.float() / norm)


def _itself(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Step:
    """One parameter of ours and what it is made of."""

    target: str
    sources: tuple[str, ...]
    combine: Combine


class KeyMap:
    """Verbs that use every tensor of a checkpoint once and fill every parameter of a model once."""

    def __init__(self, *verbs: Verb) -> None:
        entries = [entry for verb in verbs for entry in verb]
        self._ties = [entry for entry in entries if isinstance(entry, Tie)]
        self._patterns = [
            (re.compile(_regex(source)), place, entry)
            for entry in entries
            if isinstance(entry, Rule)
            for place, source in enumerate(entry.sources)
        ]

    def plan(self, theirs: Mapping[str, Shape], ours: Mapping[str, Shape]) -> list[Step]:
        """How their tensors become our parameters; a ModelError lists everything that misfits."""
        problems: list[tuple[str, str]] = []
        steps: dict[str, Step] = {}
        for step, problem in self._steps(theirs, ours, problems):
            if step.target in steps:
                problem = (step.target, "filled twice")
            if problem:
                problems.append(problem)
            # Entered in any case, so that it is not called missing as well.
            steps[step.target] = step
        for knot in self._ties:
            if knot.like in steps and knot.target not in steps:
                like = steps[knot.like]
                steps[knot.target] = Step(knot.target, like.sources, like.combine)
        missing = [name for name in ours if name not in steps]
        problems += [(name, f"missing, {_text(ours[name])}") for name in missing]
        if problems:
            raise _report(problems)
        return list(steps.values())

    def _steps(
        self,
        theirs: Mapping[str, Shape],
        ours: Mapping[str, Shape],
        problems: list[tuple[str, str]],
    ) -> Iterator[tuple[Step, tuple[str, str] | None]]:
        """What their tensors could make, each with what is wrong with it."""
        gathered: dict[tuple[Rule, str], dict[int, str]] = {}
        for name, shape in theirs.items():
            matches = [
                (rule, place, match)
                for pattern, place, rule in self._patterns
                if (match := pattern.fullmatch(name))
            ]
            if len(matches) != 1:
                kind = "taken by several rules" if matches else "unknown"
                problems.append((name, f"{kind}, {_text(shape)}"))
                continue
            rule, place, match = matches[0]
            if rule.target is None:
                continue
            target = _filled(rule.target, match)
            if rule.offered and target not in ours:
                continue
            if gathered.setdefault((rule, target), {}).setdefault(place, name) != name:
                problems.append((name, "one of two tensors for the same place"))
        for (rule, target), places in gathered.items():
            sources = tuple(places[place] for place in sorted(places))
            yield (step := Step(target, sources, rule.combine)), _misfit(step, rule, theirs, ours)


def _regex(source: str) -> str:
    """The regular expression of a name with placeholders."""
    parts, end, seen = [], 0, set[str]()
    for hole in _PLACEHOLDER.finditer(source):
        parts.append(re.escape(source[end : hole.start()]))
        end = hole.end()
        name, words = hole.groups()
        kind = {None: r"\d+", "*": ".+"}.get(words) or "|".join(map(re.escape, words.split(",")))
        if name is None:
            parts.append(".*")
        else:
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{kind})")
            seen.add(name)
    return "".join(parts) + re.escape(source[end:])


def _filled(target: str, match: re.Match[str]) -> str:
    """The target with what its placeholders stood for."""
    return _PLACEHOLDER.sub(lambda hole: match[hole[1]], target)


def _misfit(
    step: Step, rule: Rule, theirs: Mapping[str, Shape], ours: Mapping[str, Shape]
) -> tuple[str, str] | None:
    """The tensor for which a step cannot be done, and why; or None."""
    first = step.sources[0]
    if len(step.sources) < len(rule.sources):
        return first, f"alone, where {len(rule.sources)} tensors make one"
    if step.target not in ours:
        return first, "has no place in the model"
    try:
        made = step.combine(*(torch.empty(theirs[name], device="meta") for name in step.sources))
    except (RuntimeError, IndexError, ValueError):
        shapes = " with ".join(_text(theirs[name]) for name in step.sources)
        return first, f"cannot be combined, {shapes}"
    shape = tuple(made.shape)
    if shape != ours[step.target]:
        return first, f"{_text(shape)}, where the model has {_text(ours[step.target])}"
    return None


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "a single value"


def _report(problems: Iterable[tuple[str, str]]) -> ModelError:
    """All problems, those that differ in layer numbers only as one line."""
    kinds: dict[str, list[str]] = {}
    for name, kind in problems:
        kinds.setdefault(kind, []).append(name)
    lines = [f"{name}: {kind}" for kind, names in kinds.items() for name in collapse(names)]
    shown = lines[:_LINES] + [f"and {len(lines) - _LINES} more"] * (len(lines) > _LINES)
    return ModelError(
        "the checkpoint does not fit the model:\n  " + "\n  ".join(shown),
        hint="config.json and the weights must belong together",
    )


def collapse(names: Iterable[str]) -> list[str]:
    """Names whose layer numbers alone differ as one: `blocks.{0..31}.bias`; no name is invented."""
    lines = [_NUMBER.split(f".{name}.") for name in names]
    numbers = [_NUMBER.findall(f".{name}.") for name in names]
    keys = [(tuple(text), tuple(found)) for text, found in zip(lines, numbers, strict=True)]
    depth = max((len(found) for _, found in keys), default=0)
    for place in reversed(range(depth)):
        groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
        for text, found in keys:
            if place < len(found):
                rest = (*found[:place], "", *found[place + 1 :])
                groups.setdefault((text, rest), []).append(found[place])
            else:
                groups.setdefault((text, found), [])
        keys = [
            (text, (*rest[:place], _span(values), *rest[place + 1 :]) if values else rest)
            for (text, rest), values in groups.items()
        ]
    return ["".join(_woven(text, found))[1:-1] for text, found in keys]


def _woven(text: tuple[str, ...], found: tuple[str, ...]) -> Iterator[str]:
    for piece, number in zip(text, (*found, ""), strict=True):
        yield piece + number


def _span(values: list[str]) -> str:
    """`3`, `{0..5}` or `{0,3,6}`."""
    numbers = sorted(map(int, values))
    if len(numbers) == 1:
        return values[0]
    if numbers == list(range(numbers[0], numbers[-1] + 1)) and len(numbers) > 2:
        return f"{{{numbers[0]}..{numbers[-1]}}}"
    return f"{{{','.join(map(str, numbers))}}}"
