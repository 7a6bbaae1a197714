"""Masked parallel decoding: all codes at once, and again those that were least likely.

After MaskGIT (arXiv:2202.04200): one codebook after another, first all masked; each look at all
frames draws a code for every place, and the worst are masked again, ever fewer, by a cosine. So a
matrix of any number of frames takes as many steps as were asked for (MAGNeT 20 + 10 + 10 + 10,
SoundStorm 16 + 1 + ... + 1), each as dear as reading all of it: nothing is remembered between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from alm_cli.decoding.sampling import Sampling

# (codes [B, K, F] with masked places, book, share of it that is masked) -> logits [B, F, V]
Predict = Callable[[Tensor, int, float], Tensor]

# Logits are divided by no less.
_COLDEST = 1e-2
# Below every score, so that what was kept once is kept for good.
_KEPT = -1e4


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look at a codebook: the share that is masked before, and how codes are drawn after.

    `masked` is a number of float32.
    """

    masked: float
    temperature: float
    greedy: bool = False


def magnet_looks(count: int, temperature: float) -> tuple[Look, ...]:
    """MAGNeT's (arXiv:2401.04577): the share falls to zero, the temperature linearly with it.

    Temperature 0 takes the likeliest.
    """
    shares = torch.cos(torch.linspace(0, 1, count) * pi * 0.5).tolist()
    return tuple(
        Look(
            masked=share,
            temperature=temperature * ((count - 1 - place) / count),
            greedy=temperature == 0,
        )
        for place, share in enumerate(shares)
    )


def soundstorm_looks(count: int, temperature: float = 1.0) -> tuple[Look, ...]:
    """SoundStorm's (arXiv:2305.09636): nothing is masked after the last, which is greedy.

    So a fine codebook, which has one look, takes the likeliest everywhere.
    """
    shares = torch.cos(torch.arange(count) / count * pi * 0.5).tolist()
    return tuple(
        Look(masked=share, temperature=temperature, greedy=place == count - 1)
        for place, share in enumerate(shares)
    )


def annealed(masked: float, first: float, last: float) -> float:
    """The guidance of a look: `first` while all is masked, `last` when nothing is."""
    return masked * first + (1 - masked) * last


def fill(
    predict: Predict,
    masked: Tensor,
    books: Sequence[Sequence[Look]],
    how: Sampling,
    noise: Sequence[torch.Generator],
    *,
    span: int = 1,
) -> Tensor:
    """masked [B, K, F], all of it the code that masks -> codes [B, K, F - F % span].

    `books` has the looks at each codebook. Codes are masked in spans of `span` frames; what is too
    short for one at the end is left away. Row b draws from `noise[b]`, at every place of every
    look, also where the code stays; its neighbours do not matter. Of `how`, temperature is in the
    looks, and the nucleus goes before the k likeliest: with one there is not the other.
    """
    codes = masked[..., : masked.shape[2] // span * span].clone()
    mask = int(masked[0, 0, 0])
    for book, looks in enumerate(books):
        scores = torch.zeros(len(codes), codes.shape[2] // span, device=codes.device)
        for look in looks:
            chosen = _worst(scores, look.masked)
            hidden = chosen.repeat_interleave(span, 1)
            codes[:, book] = codes[:, book].masked_fill(hidden, mask)
            logits = predict(codes, book, look.masked).float()
            rows = [_drawn(row, look, how, own) for row, own in zip(logits, noise, strict=True)]
            drawn, certain = (torch.stack(parts) for parts in zip(*rows, strict=True))
            codes[:, book] = torch.where(hidden, drawn, codes[:, book])
            surest = certain.view(*scores.shape, span).amax(-1)
            scores = (1 - surest).masked_fill(~chosen, _KEPT)
    return codes


def _worst(scores: Tensor, share: float) -> Tensor:
    """scores [B, N] -> whether a span is masked [B, N]: at least one is, those that score most."""
    # In float32, as the share: half a rounding more may be a span more.
    count = max(int(torch.tensor(share) * scores.shape[1]), 1)
    return torch.zeros_like(scores, dtype=torch.bool).scatter(1, scores.topk(count).indices, True)


def _drawn(
    logits: Tensor, look: Look, how: Sampling, noise: torch.Generator
) -> tuple[Tensor, Tensor]:
    """logits [F, V] -> codes [F] and how likely they were [F].

    The nucleus is drawn from, but not scored by: what it leaves out counts. The k likeliest share
    all of the probability (`audiocraft`).
    """
    chances = (logits / max(look.temperature, _COLDEST)).softmax(-1)
    if look.greedy:
        tokens = logits.argmax(-1, keepdim=True)
    elif how.top_p < 1:
        ordered, places = chances.sort(dim=-1, descending=True)
        ordered = ordered * (ordered.cumsum(-1) - ordered <= how.top_p)
        ordered = ordered / ordered.sum(-1, keepdim=True)
        tokens = places.gather(-1, torch.multinomial(ordered, 1, generator=noise))
    else:
        if 0 < how.top_k < chances.shape[-1]:
            chances = chances * (chances >= chances.topk(how.top_k).values[:, -1:])
            chances = chances / chances.sum(-1, keepdim=True)
        tokens = torch.multinomial(chances, 1, generator=noise)
    return tokens[:, 0], chances.gather(-1, tokens)[:, 0]
