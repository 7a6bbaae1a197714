"""A renderer one step at a time, for one row on a processor, in as few operations as there can be.

A step of a small network has hundreds of operations, most of them over before the next one has been
found: how many there are decides how long it takes. Here weights lie as they are needed, and what
keys and values become is written where it stays.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from alm_cli.nn.attention import Attention, KVCache
from alm_cli.nn.linear import Linear
from alm_cli.nn.renderer import Renderer
from alm_cli.nn.state import State
from alm_cli.nn.transformer import MLP, Block


class RendererSteps:
    """The weights of a renderer in float32, laid out for single steps; the renderer stays."""

    def __init__(self, renderer: Renderer) -> None:
        blocks = [cast("Block", block) for block in renderer.stack.blocks]
        self.attentions = [cast("Attention", block.attention) for block in blocks]
        self.layers = [_Layer(block) for block in blocks]
        self.enter, self.norm = _Map.of(renderer.enter), renderer.norm
        self.aim = _Map.of(renderer.aim)
        self.heads = [_Map.of(cast("Linear", head)) for head in renderer.heads]
        # Vectors of all books one after another, each book beginning with that of no code.
        vectors = F.pad(renderer.vectors, (0, 0, 1, 0))
        self.vectors, self.width = vectors.flatten(0, 1), renderer.width
        self.places = 1 + torch.arange(renderer.books) * vectors.shape[1]

    def row(self, tone: Tensor, steps: int, state: State | None = None) -> RowSteps:
        """One row, whose tone is [1, width], for so many steps; `state` has those before."""
        return RowSteps(self, tone, steps, state or State())


class RowSteps:
    """The steps of one row, one after another."""

    def __init__(self, layout: RendererSteps, tone: Tensor, steps: int, state: State) -> None:
        self._layout, self._tone = layout, tone
        caches = [cast("KVCache | None", state.get(a, lambda: None)) for a in layout.attentions]
        attention, width = layout.attentions[0], layout.width
        kept = caches[0].kept.shape[3] if caches[0] else 0
        self._next, self._line = caches[0].length if caches[0] else 0, kept
        self._window = attention.window or kept + steps
        self._turns = _turns(attention, self._next + steps)
        # Queries, keys and values of the steps that are seen, for every layer; with a window, so
        # many lines that they are seldom moved.
        room = kept + min(steps, 4 * self._window)
        self._lines = tone.new_empty(len(caches), room, 3 * width)
        size = attention.head_dimension
        pairs = self._lines[..., : 2 * width].view(len(caches), room, -1, size // 2, 2)
        self._turned = torch.view_as_complex(pairs)
        parted = self._lines.view(len(caches), room, 3, -1, size)
        self._queries = parted[:, :, None, 0, :, None]
        self._keys, self._values = (parted[:, None, :, n].transpose(2, 3) for n in (1, 2))
        for layer, cache in enumerate(caches):
            if cache is not None:
                keys, values = cache.kept
                self._keys[layer, :, :, :kept] = _in_pairs(keys, size)
                self._values[layer, :, :, :kept] = values

    def __call__(self, codes: Tensor, condition: Tensor) -> Tensor:
        """Codes of the step before [K], condition [width] -> logits [K, V]."""
        layout = self._layout
        found = layout.vectors.index_select(0, codes + layout.places).view(1, -1)
        x = layout.enter(found) + condition + self._tone
        at, turn = self._place(), self._turns[self._next]
        first = max(0, at + 1 - self._window)
        places = zip(
            layout.layers,
            self._lines.select(1, at).unbind(),
            self._turned.select(1, at).unbind(),
            self._queries.select(1, at).unbind(),
            self._keys.narrow(3, first, at + 1 - first).unbind(),
            self._values.narrow(3, first, at + 1 - first).unbind(),
            strict=True,
        )
        for layer, line, turned, query, keys, values in places:
            line.copy_(layer.inner(layer.norm(x))[0])
            turned.mul_(turn)
            y = F.scaled_dot_product_attention(query, keys, values)
            x = x + layer.out(y.view(1, -1))
            x = x + layer.down(F.gelu(layer.up(layer.mlp_norm(x))))
        self._next, self._line = self._next + 1, at + 1
        aims = layout.aim(layout.norm(x)).view(len(codes), 1, -1).unbind()
        return torch.cat([head(aim) for head, aim in zip(layout.heads, aims, strict=True)])

    def _place(self) -> int:
        """The line of this step; where none is left, what is still seen moves to the front."""
        if self._line == self._lines.shape[1]:
            seen = self._window - 1
            self._lines[:, :seen] = self._lines[:, self._line - seen :].clone()
            self._line = seen
        return self._line


class _Layer:
    """The weights of a block; outputs of q and k that are turned together are neighbours."""

    def __init__(self, block: Block) -> None:
        attention, mlp = cast("Attention", block.attention), cast("MLP", block.mlp)
        columns = [part.weight.t() for part in (attention.q, attention.k)]
        turned = [_in_pairs(x, attention.head_dimension) for x in columns]
        self.inner = _Map(torch.cat([*turned, attention.v.weight.t()], 1), None)
        self.norm, self.mlp_norm = block.attention_norm, block.mlp_norm
        self.out, self.up, self.down = map(_Map.of, (attention.out, mlp.up, mlp.down))


class _Map:
    """A linear map [D, E]: the other way round than usual, which is faster for a single vector."""

    def __init__(self, columns: Tensor, bias: Tensor | None) -> None:
        self._columns, self._bias = columns.contiguous(), bias

    @classmethod
    def of(cls, linear: Linear) -> _Map:
        return cls(linear.weight.t(), linear.bias)

    def __call__(self, x: Tensor) -> Tensor:
        """x [1, D] -> [1, E]."""
        return (
            x @ self._columns if self._bias is None else torch.addmm(self._bias, x, self._columns)
        )


def _in_pairs(x: Tensor, size: int) -> Tensor:
    """x [..., H * size], heads in halves -> the same, what is turned together side by side."""
    return x.view(*x.shape[:-1], -1, 2, size // 2).mT.flatten(-3)


def _turns(attention: Attention, count: int) -> Tensor:
    """How the pairs of a head are turned at the first positions [count, size / 2]: e^(i angle)."""
    assert attention.rotary is not None
    half = attention.head_dimension // 2
    one = torch.zeros(1, 1, count, 2 * half)
    one[..., :half] = 1
    real, imaginary = attention.rotary(one, 0)[0, 0].split(half, -1)
    return torch.complex(real.contiguous(), imaginary.contiguous())
