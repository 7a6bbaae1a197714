"""A transformer that renders: what a frame shall be -> its codes, all codebooks in one step.

Codes follow the delay pattern of MusicGen (arXiv:2306.05284). They enter and leave by the vectors
of their codebooks, which the codec has arranged: what sounds alike lies near.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.attention import Attention
from alm_cli.nn.linear import Linear, product
from alm_cli.nn.position import Rotary
from alm_cli.nn.state import State
from alm_cli.nn.transformer import MLP, Block, Transformer


def rotary_stack(
    width: int, depth: int, heads: int, *, causal: bool, window: int | None = None
) -> Transformer:
    """Blocks of attention with rotary positions and a feed-forward part four times as wide."""
    norm = partial(nn.LayerNorm, width)
    return Transformer(
        Block(
            Attention(width, heads, causal=causal, window=window, rotary=Rotary("halves")),
            MLP(width, 4 * width, bias=True),
            norm,
        )
        for _ in range(depth)
    )


@dataclass(frozen=True)
class Frames:
    """How units of time become frames of a codec: `group` of them each.

    Frame f holds the units that end `lead` units before the end of the f-th group: the codec looks
    so far ahead.
    """

    group: int
    lead: int

    def count(self, units: int) -> int:
        """The frames of so many units."""
        return -(-(units + self.lead) // self.group)

    def condition(self, x: Tensor, gather: nn.Module, spread: nn.Module) -> Tensor:
        """x [units, D] -> [F, width]: each frame of its units, then of the frames around it."""
        frames = self.count(len(x))
        x = F.pad(x, (0, 0, self.lead, frames * self.group - self.lead - len(x)))
        x = gather(x.view(frames, -1))
        return x + F.gelu(spread(x.mT[None])[0]).mT


class Renderer(nn.Module):
    """A condition for each frame, and the codes so far -> codes of a codec.

    A model is one by inheritance, and adds what makes conditions: its tensors keep plain names.
    With a `window` a step looks back at so many, itself one of them. One that keeps no vectors in
    its checkpoint has to `know` the codec before anything else.

    If it is not `causal`, frames see one another, and are those of the codec, without a delay: what
    is known of their codes goes in, what belongs in the places of the others comes out.
    """

    vectors: Tensor
    scales: Tensor
    untold: Tensor

    def __init__(
        self,
        *,
        books: int,
        vocabulary: int,
        latent: int,
        width: int,
        depth: int,
        heads: int,
        window: int | None = None,
        keeps_vectors: bool = True,
        causal: bool = True,
    ) -> None:
        super().__init__()
        self.books, self.width, self.causal = books, width, causal
        self.lags = tuple(range(books)) if causal else (0,) * books
        self.enter = Linear(books * latent, width)
        self.stack = rotary_stack(width, depth, heads, causal=causal, window=window)
        self.norm = nn.LayerNorm(width)
        self.aim = Linear(width, books * latent, bias=True)
        # They begin as the vectors of the codebooks, so that likely codes are those nearby.
        self.heads = nn.ModuleList(Linear(latent, vocabulary, bias=True) for _ in range(books))
        # The condition of steps of which nothing is told.
        self.register_buffer("untold", torch.zeros(width), persistent=False)
        # The codebooks of the codec, each scaled to vectors of mean square 1.
        vectors = torch.zeros(books, vocabulary, latent)
        self.register_buffer("vectors", vectors, persistent=keeps_vectors)
        self.register_buffer("scales", torch.ones(books), persistent=keeps_vectors)

    def know(self, books: Sequence[Tensor]) -> None:
        """Learn the vectors of a codec's codebooks, each [V, D]."""
        for book, vectors in enumerate(books[: self.books]):
            scale = vectors.square().mean().sqrt()
            self.vectors[book] = vectors / scale
            self.scales[book] = scale

    def latents(self, codes: Tensor) -> Tensor:
        """codes [B, K, F] -> what the codec's decoder would get of them [B, F, D]."""
        found = self.looked_up(codes)
        return torch.einsum("bkfd,k->bfd", found, self.scales[: codes.shape[1]])

    def looked_up(self, codes: Tensor) -> Tensor:
        """codes [B, K, F], negative where there is none yet -> vectors [B, K, F, D]."""
        books = torch.arange(codes.shape[1], device=codes.device)[:, None]
        return self.vectors[books, codes.clamp(min=0)] * (codes >= 0)[..., None]

    def forward(
        self, inputs: Tensor, condition: Tensor, tone: Tensor, state: State | None = None
    ) -> Tensor:
        """Codes of the step before [B, K, S], condition [B, S, width], tone [B, width] -> logits.

        Logits are [B, K, S, V]; steps are those of the delay pattern, and a code that the pattern
        does not have is -1. The tone is what all steps have in common.
        """
        x = self.norm(self.read(inputs, condition, tone, state))
        aims = self.aim(x).unflatten(-1, (self.books, -1))
        return torch.stack([head(aims[:, :, k]) for k, head in enumerate(self.heads)], 1)

    def asked(self, book: int, inputs: Tensor, condition: Tensor, tone: Tensor) -> Tensor:
        """As `forward`, of one book only -> logits [B, S, V]."""
        x = self.norm(self.read(inputs, condition, tone))
        size = self.vectors.shape[-1]
        aim = product(x, self.aim.weight[book * size : (book + 1) * size])
        assert self.aim.bias is not None
        logits: Tensor = self.heads[book](aim + self.aim.bias[book * size : (book + 1) * size])
        return logits

    def read(
        self,
        inputs: Tensor,
        condition: Tensor,
        tone: Tensor,
        state: State | None = None,
        hidden: Tensor | None = None,
    ) -> Tensor:
        """As `forward`, for steps after which nothing is drawn -> features [B, S, width].

        `hidden` [B, 1, 1, S] is minus infinity where a row that sees what comes later has ended.
        """
        found = self.looked_up(inputs).transpose(1, 2).flatten(2)
        x = self.enter(found) + condition + tone[:, None]
        y: Tensor = self.stack(x, state=state, bias=hidden)
        return y
