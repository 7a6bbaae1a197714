"""Stacks of attention and feed-forward parts (arXiv:1706.03762)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.attention import CrossAttention
from alm_cli.nn.linear import Linear
from alm_cli.nn.state import State


class MLP(nn.Module):
    """Two linear layers and an activation, each vector by itself."""

    def __init__(
        self,
        dimension: int,
        hidden: int,
        *,
        bias: bool = False,
        activation: Callable[[Tensor], Tensor] = F.gelu,
    ) -> None:
        super().__init__()
        self.up = Linear(dimension, hidden, bias=bias)
        self.activation = activation
        self.down = Linear(hidden, dimension, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] -> [..., D]."""
        return self.down(self.activation(self.up(x)))


class Add(nn.Module):
    """The plain residual connection."""

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """x, branch [..., D] -> [..., D]."""
        return x + branch


class Block(nn.Module):
    """Attention, then a feed-forward part: each sees its input normalised and is added to it.

    `norm` makes the part before either of the two, `add` the one that adds it.
    """

    def __init__(
        self,
        attention: nn.Module,
        mlp: nn.Module,
        norm: Callable[[], nn.Module],
        add: Callable[[], nn.Module] = Add,
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention, self.attention_add = norm(), attention, add()
        self.mlp_norm, self.mlp, self.mlp_add = norm(), mlp, add()

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        state: State | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """x [B, S, D] -> [B, S, D]; the rest is for the attention."""
        y = self.attention(self.attention_norm(x), memory, state, bias)
        x = self.attention_add(x, y)
        return self.mlp_add(x, self.mlp(self.mlp_norm(x)))


class PostNormBlock(nn.Module):
    """Attention, then a feed-forward part: each is added to its input, the sum normalised."""

    def __init__(self, attention: nn.Module, mlp: nn.Module, norm: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.attention, self.attention_norm = attention, norm()
        self.mlp, self.mlp_norm = mlp, norm()

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        state: State | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """x [B, S, D] -> [B, S, D]; the rest is for the attention."""
        x = self.attention_norm(x + self.attention(x, memory, state, bias))
        return self.mlp_norm(x + self.mlp(x))


class CrossBlock(nn.Module):
    """Attention to what came before, attention to a memory, then a feed-forward part.

    Each sees its input normalised and is added to it.
    """

    def __init__(
        self,
        attention: nn.Module,
        cross: CrossAttention,
        mlp: nn.Module,
        norm: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention = norm(), attention
        self.cross_norm, self.cross = norm(), cross
        self.mlp_norm, self.mlp = norm(), mlp

    def forward(
        self, x: Tensor, heard: tuple[Tensor, Tensor], state: State | None = None
    ) -> Tensor:
        """x [R, S, D] -> [R, S, D]; `heard` is what `cross` made of the memory."""
        x = x + self.attention(self.attention_norm(x), state=state)
        x = x + self.cross(self.cross_norm(x), heard)
        return x + self.mlp(self.mlp_norm(x))

    def scored(
        self, x: Tensor, heard: tuple[Tensor, Tensor], heads: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """x [B, S, D] -> [B, S, D], and how some heads look at the memory: [B, heads, S, M]."""
        x = x + self.attention(self.attention_norm(x))
        y = self.cross_norm(x)
        x = x + self.cross(y, heard)
        return x + self.mlp(self.mlp_norm(x)), self.cross.scores(y, heard[0], heads)


class Transformer(nn.Module):
    """Blocks one after another."""

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        state: State | None = None,
        bias: Tensor | None = None,
        depth: int | None = None,
    ) -> Tensor:
        """x [B, S, D] -> [B, S, D], what the first `depth` blocks make of it, or all."""
        for block in islice(self.blocks, depth):
            x = block(x, memory, state, bias)
        return x
