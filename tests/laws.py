"""The laws that every stateful part and every codec keeps, stated once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from alm_cli.nn.state import State

# What a part does to [B, ..., T], alone or as the next piece of a stream.
Step = Callable[[Tensor, State | None], Tensor]


def pieces(x: Tensor, ends: Sequence[int]) -> list[Tensor]:
    """x [B, ..., T] cut at `ends` and at its own end."""
    edges = [0, *sorted({end for end in ends if 0 < end < x.shape[-1]}), x.shape[-1]]
    return [x[..., begin:end] for begin, end in zip(edges, edges[1:], strict=False)]


def streamed(step: Step, x: Tensor, ends: Sequence[int]) -> Tensor:
    """The outputs of one stream that is fed in pieces."""
    state, parts, made = State(), pieces(x, ends), []
    for index, part in enumerate(parts, 1):
        state.last = index == len(parts)
        made.append(step(part, state))
    return torch.cat(made, -1)


@torch.no_grad()
def streaming_equals_whole(step: Step, x: Tensor, ends: Sequence[int], atol: float = 1e-5) -> None:
    """Any chunking equals the whole; exactly where the output is codes."""
    whole, stream = step(x, None), streamed(step, x, ends)
    if whole.is_floating_point():
        torch.testing.assert_close(stream, whole, atol=atol, rtol=0)
    else:
        assert stream.shape == whole.shape
        assert int((stream != whole).sum()) == 0


@torch.no_grad()
def batch_equals_single(step: Step, x: Tensor, atol: float = 1e-5) -> None:
    """A row does not see its neighbours."""
    rows = torch.cat([step(row, None) for row in x.split(1)])
    torch.testing.assert_close(step(x, None), rows, atol=atol, rtol=0)


@torch.no_grad()
def past_is_fixed(step: Step, x: Tensor, known: int, settled: int, atol: float = 1e-5) -> None:
    """Of the output, `settled` steps depend on the first `known` samples only, and no more do."""
    changed = x.clone()
    changed[..., known:] = changed[..., known:].flip(-1)
    before, after = step(x, None), step(changed, None)
    torch.testing.assert_close(after[..., :settled], before[..., :settled], atol=atol, rtol=0)
    assert not torch.equal(after[..., settled:], before[..., settled:])


def every(size: int, length: int) -> list[int]:
    """Cuts after every `size` samples."""
    return list(accumulate([size] * (length // size)))
