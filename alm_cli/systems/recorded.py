"""A step on a GPU as a graph: what is recorded once is started again in one go."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def recorded(step: Callable[[], T]) -> tuple[torch.cuda.CUDAGraph, T]:
    """The graph of a step, and what it gives: memory that every replay writes again."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    graph = torch.cuda.CUDAGraph()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        step()  # libraries allocate what they need in the first call
        # Not `torch.cuda.graph`, which empties caches, and this may be done for every window; other
        # threads may use the GPU meanwhile.
        graph.capture_begin(capture_error_mode="thread_local")
        found = step()
        graph.capture_end()
    torch.cuda.current_stream().wait_stream(aside)
    return graph, found
