"""From logits to texts: the likeliest token each time, samples, and beams with patience.

Rows of one recording lie side by side. A search begins with the logits [B, V] that follow the
prompts, one row for each of B recordings, and lets the model widen its rows itself. Beams are those
of Kasai et al., arXiv:2204.05424; the length penalty is that of Wu et al., arXiv:1609.08144.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from alm_cli.decoding.rules import Rules
from alm_cli.decoding.sampling import noise_of


class Continuation(Protocol):
    """A model in the middle of its rows."""

    def __call__(self, tokens: Tensor) -> Tensor:
        """tokens [R] -> logits [R, V] float32 of what follows them, to be changed at will."""

    def reorder(self, rows: Tensor) -> None:
        """Let row i go on as row `rows[i]` was.

        There may be more rows than before, equally many of each recording, or recordings without.
        """


@dataclass(frozen=True)
class Hypothesis:
    """What may have been said, without the end of text, and its log-probability with it."""

    tokens: tuple[int, ...]
    sum_logprob: float

    @property
    def avg_logprob(self) -> float:
        """Log-probability per token, the end of text among them."""
        return self.sum_logprob / (len(self.tokens) + 1)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What every search keeps to: the rules, the id that ends a text, the most tokens of one."""

    rules: Rules
    end: int
    limit: int


def likeliest(
    model: Continuation,
    logits: Tensor,
    bounds: Bounds,
    *,
    temperature: float = 0.0,
    draws: Tensor | None = None,
) -> list[list[Hypothesis]]:
    """logits [B, V] -> a text for each recording: of the likeliest token each time.

    With `temperature` above 0, `draws` [B, N, limit] decide instead, so there are N texts. Their
    log-probabilities are those of the model, whatever the temperature.
    """
    width = 1 if draws is None else draws.shape[1]
    rows = _Rows(logits.shape[0], width, bounds.limit, logits.device)
    if width > 1:
        logits = logits.repeat_interleave(width, 0)
        model.reorder(torch.arange(len(rows.live), device=logits.device).repeat_interleave(width))
    found: dict[int, list[Hypothesis]] = {}
    for step in range(bounds.limit):
        bounds.rules.apply(logits, rows.history)
        if draws is None:
            tokens = logits.argmax(1)
        else:
            chances = draws[rows.live, :, step].flatten().to(logits.device)
            tokens = drawn(logits, temperature, chances)
        rows.write(tokens, logits.log_softmax(1).gather(1, tokens[:, None])[:, 0], bounds)
        closed = (rows.history[:, -1] == bounds.end).view(-1, width).all(1).tolist()
        if step == bounds.limit - 1:
            closed = [True] * len(closed)
        for place, number in enumerate(rows.live):
            if closed[place] and number not in found:
                found[number] = [rows.text(place * width + n, bounds.end) for n in range(width)]
        if all(closed):
            break
        rows.narrow(model, closed)
        logits = model(rows.history[:, -1])
    return [found[number] for number in range(len(found))]


def drawn(logits: Tensor, temperature: float, chances: Tensor) -> Tensor:
    """logits [R, V], chances [R] in 0..1 -> tokens [R], by inverting the distribution function."""
    # In double precision: the tail of a large vocabulary is lost in sums of float32.
    mass = (logits.double() / temperature).softmax(1).cumsum(1)
    whole = mass[:, -1]
    # Below the whole, or a chance that rounds to 1 would draw what has no probability.
    aims = torch.minimum(chances * whole, torch.nextafter(whole, torch.zeros_like(whole)))
    return torch.searchsorted(mass, aims[:, None], right=True)[:, 0]


def draws(seed: int, place: int, temperature: float, rows: int, count: int) -> Tensor:
    """[rows, count] float64 in 0..1, of generators of their own for each row.

    They follow from the arguments alone, so a text does not depend on what is decoded with it.
    """
    noise = (noise_of(seed, place, repr(temperature), row) for row in range(rows))
    return torch.stack([torch.rand(count, generator=n, dtype=torch.float64) for n in noise])


def beams(
    model: Continuation, logits: Tensor, bounds: Bounds, *, width: int, patience: float = 1.0
) -> list[list[Hypothesis]]:
    """logits [B, V] -> the texts of `width` beams, until width * patience have ended.

    Those that ended come in the order in which they did; where they are fewer than the beams, the
    best of the unfinished follow.
    """
    wanted = round(width * patience)
    rows = _Rows(logits.shape[0], width, bounds.limit, logits.device)
    found: list[list[Hypothesis]] = [[] for _ in rows.live]
    settled: set[int] = set()
    for step in range(bounds.limit):
        bounds.rules.apply(logits, rows.history)
        candidates = _Candidates(logits, rows, width, bounds.end)
        for place, row, score in candidates.ended():
            texts = found[rows.live[place]]
            if len(texts) < wanted:
                texts.append(Hypothesis(tuple(rows.history[row].tolist()), score))
        origins = candidates.go_on()
        closed = [len(found[number]) >= wanted for number in rows.live]
        if step == bounds.limit - 1:
            closed = [True] * len(closed)
        for place, number in enumerate(rows.live):
            if closed[place] and number not in settled:
                settled.add(number)
                found[number] += rows.unfinished(place, width - len(found[number]))
        if all(closed):
            break
        if not step or not torch.equal(origins, torch.arange(len(origins), device=origins.device)):
            model.reorder(origins)
        rows.narrow(model, closed)
        logits = model(rows.history[:, -1])
    return found


def best(texts: Sequence[Hypothesis], length_penalty: float | None = None) -> Hypothesis:
    """The likeliest for its length, the first of equals."""

    def score(text: Hypothesis) -> float:
        length = max(1, len(text.tokens))
        penalty = length if length_penalty is None else ((5 + length) / 6) ** length_penalty
        return text.sum_logprob / penalty

    return texts[int(np.argmax([score(text) for text in texts]))]


class _Rows:
    """What the rows have written so far, and how likely that is.

    `live` are the numbers of the recordings that the rows belong to, `width` rows each.
    """

    def __init__(self, recordings: int, width: int, limit: int, device: torch.device) -> None:
        self.live = list(range(recordings))
        self.width = width
        self.sums = torch.zeros(recordings * width, device=device)
        self._tokens = torch.zeros(recordings * width, limit, dtype=torch.long, device=device)
        self._length = 0

    @property
    def history(self) -> Tensor:
        """Tokens [R, S]."""
        return self._tokens[:, : self._length]

    def write(self, tokens: Tensor, gains: Tensor, bounds: Bounds) -> None:
        """Append tokens [R] of log-probabilities `gains` [R]; rows that have ended stay so."""
        if self._length:
            ended = self.history[:, -1] == bounds.end
            tokens, gains = tokens.masked_fill(ended, bounds.end), gains.masked_fill(ended, 0)
        self._append(tokens, self.sums + gains)

    def go_on(self, origins: Tensor, tokens: Tensor, sums: Tensor) -> None:
        """Let row i be row `origins[i]` and `tokens[i]` after it, of log-probability `sums[i]`."""
        self._tokens = self._tokens[origins]
        self._append(tokens, sums)

    def _append(self, tokens: Tensor, sums: Tensor) -> None:
        self._tokens[:, self._length] = tokens
        self._length += 1
        self.sums = sums

    def text(self, row: int, end: int) -> Hypothesis:
        """What a row says before the end of text, if there is one."""
        tokens = self.history[row].tolist()
        length = tokens.index(end) if end in tokens else len(tokens)
        return Hypothesis(tuple(tokens[:length]), float(self.sums[row]))

    def unfinished(self, place: int, count: int) -> list[Hypothesis]:
        """The `count` likeliest rows of a recording, the best first."""
        first = place * self.width
        sums = self.sums[first : first + self.width].cpu().numpy()
        # Ties in the order of openai-whisper.
        order = np.argsort(sums)[::-1][: max(0, count)]
        return [Hypothesis(tuple(self.history[first + n].tolist()), float(sums[n])) for n in order]

    def narrow(self, model: Continuation, closed: Sequence[bool]) -> None:
        """Let go of the recordings that are done, once they are half of all."""
        going = [place for place, done in enumerate(closed) if not done]
        if 2 * len(going) > len(closed):
            return
        kept = torch.tensor(going, device=self.sums.device)
        rows = (kept[:, None] * self.width + torch.arange(self.width, device=kept.device)).flatten()
        model.reorder(rows)
        self._tokens, self.sums = self._tokens[rows], self.sums[rows]
        self.live = [self.live[place] for place in going]


class _Candidates:
    """How each beam may go on, the likeliest first: [B, beams * (width + 1)]."""

    def __init__(self, logits: Tensor, rows: _Rows, width: int, end: int) -> None:
        self._rows, self._width, count = rows, width, len(rows.live)
        # Equal rows are one candidate: so the first step, where all would be, has one row each.
        first = not rows.history.shape[1]
        beams = 1 if first else width
        gains, tokens = logits.log_softmax(1).topk(width + 1)
        scores = gains if first else rows.sums[:, None] + gains
        # Stable: of equal candidates the one of the earlier beam comes first.
        self._scores, order = scores.view(count, -1).sort(dim=1, descending=True, stable=True)
        self._tokens = tokens.view(count, -1).gather(1, order)
        places = torch.arange(count, device=logits.device)[:, None]
        self._sources = places * beams + order // (width + 1)  # rows of logits
        self._beams = beams
        ends = self._tokens == end
        others = (~ends).cumsum(1)
        self._going = ~ends & (others <= width)
        # What is less likely than all that go on, is not seen.
        self._ended = ends & (others < width)

    def ended(self) -> Iterator[tuple[int, int, float]]:
        """Recording, row and log-probability of the beams that end here, the likeliest first."""
        if bool(self._ended.any()):
            for place, n in self._ended.nonzero().tolist():
                yield place, int(self._sources[place, n]), float(self._scores[place, n])

    def go_on(self) -> Tensor:
        """Write down the others; the rows [R] of the logits that they continue."""
        chosen = self._going.nonzero()[:, 1].view(-1, self._width)
        sources, tokens, sums = (
            part.gather(1, chosen).flatten() for part in (self._sources, self._tokens, self._scores)
        )
        # Before the first step, rows say nothing, so any will do.
        self._rows.go_on(sources, tokens, sums)
        return sources
