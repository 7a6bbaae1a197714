"""What the trainings of the renderers share: how they begin, pasts that are wrong, losses of books.

A model that draws its own past meets errors that no recording has. It learns to go on in spite of
them: some codes of the past are others than they were, and all codes of some frames are unknown.
The higher the book, the less its past is to be trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from alm_cli.checkpoints.load import load
from alm_cli.nn.renderer import Renderer

R = TypeVar("R", bound=Renderer)


def started(model: R, codec: str) -> R:
    """The model with the codebooks of a codec, and weights that begin small where they must."""
    quantizer = load(codec).model.quantizer
    model.know([book.vectors for book in quantizer.codebooks])  # type: ignore[union-attr]
    for head, vectors in zip(model.heads, model.vectors, strict=True):
        head.weight.data.copy_(vectors)  # type: ignore[operator]
        head.bias.data.zero_()  # type: ignore[operator]
    model.aim.weight.data.mul_(0.3 / model.vectors.shape[-1] ** 0.5)
    for name, parameter in model.named_parameters():
        if name.endswith(("out.weight", "down.weight")):
            parameter.data.mul_(0.5)
    return model


def disturbed(
    rng: np.random.Generator, inputs: Tensor, vocabulary: int, spoilt: Sequence[float], gone: float
) -> Tensor:
    """Codes of the past [B, K, S]: of each book the part `spoilt` is wrong, `gone` of the steps."""
    generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
    chance = torch.rand(inputs.shape, generator=generator).to(inputs.device)
    wrong = torch.randint(0, vocabulary, inputs.shape, generator=generator).to(inputs.device)
    often = torch.tensor(spoilt, device=inputs.device)[:, None]
    unknown = torch.rand(inputs.shape[0], 1, inputs.shape[2], generator=generator) < gone
    mixed = torch.where(chance < often, wrong, inputs)
    return torch.where((inputs < 0) | unknown.to(inputs.device), -1, mixed)


def book_losses(logits: Tensor, wanted: Tensor) -> Tensor:
    """logits [B, K, S, V], codes [B, K, S], -1 where none is asked -> a loss a book [K]."""
    pairs = zip(logits.unbind(1), wanted.unbind(1), strict=True)
    return torch.stack(
        [
            F.cross_entropy(own.flatten(0, 1), codes.flatten(), ignore_index=-1)
            for own, codes in pairs
        ]
    )


def weighed(losses: Tensor, weights: Sequence[float]) -> tuple[Tensor, dict[str, float]]:
    """The weighted mean of the books' losses [K], and what to tell of each."""
    shares = torch.tensor(weights, device=losses.device)
    told = {f"book {k}": loss for k, loss in enumerate(losses.detach().tolist())}
    return (losses * shares).sum() / shares.sum(), told
