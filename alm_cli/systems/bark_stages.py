"""Bark's three stages at work: what is drawn, by whose rules, window by window.

The rows of a batch are never filled up: all of them have as many tokens behind them, one that has
ended leaves, and each draws from a generator of its own. So a row cannot hear of its neighbours,
and none ends in noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor

import torch
from torch import Tensor

from alm_cli.decoding.sampling import Sampling, filtered, sample
from alm_cli.lm.bark import Bark, FineStage, HubSampling, Numbers
from alm_cli.nn.state import State

Noise = Sequence[torch.Generator]


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How tokens are drawn: by the rules of Suno's program or by those of `transformers`.

    Suno's (`suno`) end the semantic tokens where their end is drawn or, after the temperature, has
    a chance of `least_end` (0.2) or more; the nucleus is cut before the temperature, and the second
    book takes its own codes alone. Those of `transformers` ask whether the chance exceeds
    `least_end` (by default never) before the temperature, and leave the second book all tokens from
    its first code on. `fine` 0 takes the likeliest.
    """

    semantic: Sampling
    coarse: Sampling
    fine: float
    least_end: float | None
    suno: bool

    def with_temperature(self, temperature: float) -> Manner:
        """The same for another temperature of the first two stages; 0 is for the third as well."""
        return replace(
            self,
            semantic=replace(self.semantic, temperature=temperature),
            coarse=replace(self.coarse, temperature=temperature),
            fine=self.fine if temperature else 0.0,
        )

    def semantic_tokens(self, logits: Tensor, end: int, noise: Noise) -> Tensor:
        """logits [B, V] -> tokens [B]; where `end` is drawn or must come, it is `end`."""
        if self.suno:
            logits = self._cut(logits[:, : end + 1], self.semantic)
            tokens = sample(logits, _rest(self.semantic), noise)
            if self.least_end is not None:
                chance = (logits / (self.semantic.temperature or 1.0)).softmax(-1)[:, end]
                tokens = tokens.masked_fill(chance >= self.least_end, end)
            return tokens
        logits = _only(logits, 0, end + 1)
        if self.least_end is not None:
            must = (logits.softmax(-1)[:, end] > self.least_end)[:, None]
            logits = torch.where(must, _only(logits, end, end + 1), logits)
        return sample(logits, self.semantic, noise)

    def coarse_tokens(self, logits: Tensor, begin: int, codes: int, noise: Noise) -> Tensor:
        """logits [B, V] -> tokens [B] of the book whose `codes` tokens begin at `begin`."""
        if self.suno:
            logits = self._cut(logits[:, begin : begin + codes], self.coarse)
            return sample(logits, _rest(self.coarse), noise) + begin
        return sample(_only(logits, begin, begin + codes), self.coarse, noise)

    def fine_codes(self, logits: Tensor, noise: torch.Generator) -> Tensor:
        """logits [F, V] -> codes [F]."""
        if not self.fine:
            return logits.argmax(-1)
        chances = (logits / self.fine).softmax(-1)
        return torch.multinomial(chances, 1, generator=noise)[:, 0]

    def _cut(self, logits: Tensor, how: Sampling) -> Tensor:
        """Minus infinity outside the nucleus and the likeliest, both before the temperature."""
        logits = filtered(logits, Sampling(top_p=how.top_p))
        return filtered(logits, Sampling(top_k=how.top_k))


def _rest(how: Sampling) -> Sampling:
    """What is left to do after the cut."""
    return Sampling(temperature=how.temperature)


def _only(logits: Tensor, begin: int, end: int) -> Tensor:
    """logits [B, V] -> [B, V], minus infinity outside of `begin` to `end`."""
    allowed = torch.full_like(logits, -torch.inf)
    allowed[:, begin:end] = logits[:, begin:end]
    return allowed


SUNO = Manner(
    semantic=Sampling(temperature=0.7),
    coarse=Sampling(temperature=0.7),
    fine=0.5,
    least_end=0.2,
    suno=True,
)


def hub_manner(hub: HubSampling) -> Manner:
    """What `transformers` does with a checkpoint whose generation_config.json says `hub`."""
    semantic, coarse = (
        Sampling(temperature=hub.temperature[i] if drawn else 0.0, top_k=hub.top_k[i], top_p=p)
        for i, (drawn, p) in enumerate(
            zip((hub.semantic_sampled, hub.coarse_sampled), hub.top_p, strict=True)
        )
    )
    fine = 0.0 if hub.fine_temperature in (None, 1.0) else hub.fine_temperature
    return Manner(
        semantic=semantic, coarse=coarse, fine=fine or 0.0, least_end=hub.least_end, suno=False
    )


@torch.no_grad()
def semantic_tokens(
    model: Bark, text: Tensor, history: Tensor, manner: Manner, noise: Noise
) -> list[Tensor]:
    """text and history [B, inputs], tokens -> semantic tokens [N] of each row.

    Both are filled up to the same length and their vectors added, so that a row has as many
    positions whatever it says.
    """
    stage, numbers = model.semantic, model.numbers
    infer = text.new_full((len(text), 1), numbers.semantic_infer)
    x = torch.cat((stage.embedding(text) + stage.embedding(history), stage.embedding(infer)), 1)
    state, rows = State(), list(range(len(text)))
    made: list[list[Tensor]] = [[] for _ in rows]
    logits = stage(x, state)
    for step in range(1, numbers.semantic_most + 1):
        tokens = manner.semantic_tokens(logits, numbers.semantics, [noise[row] for row in rows])
        goes_on = (tokens != numbers.semantics).tolist()
        for row, token, goes in zip(rows, tokens, goes_on, strict=True):
            if goes:
                made[row].append(token)
        rows, kept = _staying(rows, goes_on, state, text.device)
        if not rows or step == numbers.semantic_most:
            break
        logits = stage(stage.embedding(tokens[kept, None]), state)
    empty = text.new_zeros(0)
    return [torch.stack(row) if row else empty for row in made]


def _staying(
    rows: list[int], stays: Sequence[bool], state: State, device: torch.device
) -> tuple[list[int], Tensor]:
    """The rows that go on, and which of those now in `state` they are; the others leave it."""
    kept = torch.tensor([place for place, stay in enumerate(stays) if stay], device=device)
    if 0 < len(kept) < len(rows):
        state.reorder(kept)
    return [row for row, stay in zip(rows, stays, strict=True) if stay], kept.long()


def coarse_length(numbers: Numbers, semantics: int, manner: Manner) -> int:
    """How many frames so many semantic tokens become.

    _compat_single: `transformers` rounds in single precision, which differs at multiples of 499.
    """
    if manner.suno:
        return floor(semantics * numbers.ratio / 2)
    return int(torch.floor(torch.tensor(semantics) * numbers.ratio / 2))


@torch.no_grad()
def coarse_codes(
    model: Bark,
    semantics: Sequence[Tensor],
    histories: Sequence[tuple[Tensor, Tensor]],
    manner: Manner,
    noise: Noise,
) -> list[Tensor]:
    """semantics [N] of each row -> codes [2, F] of each, which may lie beyond the book's.

    `histories` are semantic tokens [H] and coarse ones [C] of what was said before, as
    `coarse_history` makes them; all rows have as many.
    """
    stage, numbers = model.coarse, model.numbers
    steps = [2 * coarse_length(numbers, len(row), manner) for row in semantics]
    rows = [row for row, count in enumerate(steps) if count]
    before, past = (len(part) for part in histories[0])
    heard = [torch.cat((h[0], row)) for h, row in zip(histories, semantics, strict=True)]
    device = semantics[0].device
    line = torch.zeros(len(steps), past + max(steps), dtype=torch.long, device=device)
    for row, history in enumerate(histories):
        line[row, :past] = history[1]
    state, known, here = State(), (-1, -1), torch.tensor(rows, device=device).long()
    for step in range(max(steps)):
        seen = known
        if step % numbers.coarse_window == 0:
            middle = before + round(step / numbers.ratio)
            seen = (
                max(0, middle - numbers.semantic_history),
                max(0, past + step - numbers.coarse_history),
            )
        if seen == known:
            # The first windows begin alike: what was heard of them need not be heard again.
            x = line[here, past + step - 1 : past + step]
        else:
            state, known = State(), seen
            prompts = [_coarse_prompt(numbers, heard[row], seen[0]) for row in rows]
            x = torch.cat((torch.stack(prompts), line[here, seen[1] : past + step]), 1)
        logits = stage(stage.embedding(x), state)
        begin = numbers.semantics + step % 2 * numbers.codes
        width = numbers.codes if step % 2 == 0 or manner.suno else logits.shape[1] - begin
        line[here, past + step] = manner.coarse_tokens(
            logits, begin, width, [noise[row] for row in rows]
        )
        rows, _ = _staying(rows, [steps[row] > step + 1 for row in rows], state, device)
        here = torch.tensor(rows, device=device).long()
    made = [line[row, past : past + count] for row, count in enumerate(steps)]
    # _compat_remainder: what transformers drew beyond the book begins again at its first code.
    return [((row - numbers.semantics) % numbers.codes).view(-1, 2).mT for row in made]


def _coarse_prompt(numbers: Numbers, heard: Tensor, begin: int) -> Tensor:
    """heard [N] -> [inputs + 1], what can be seen of the semantic tokens, filled up."""
    prompt = heard.new_full((numbers.inputs + 1,), numbers.coarse_pad)
    seen = heard[begin : begin + numbers.inputs]
    prompt[: len(seen)], prompt[-1] = seen, numbers.coarse_infer
    return prompt


def coarse_history(numbers: Numbers, semantic: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
    """semantic [N], coarse [2, F], what was said before -> the end of both, as tokens [H] and [C].

    _compat_drop: the last two coarse tokens are left out ("for time alignment (sounds better)"),
    and an odd number of them is not made even.
    """
    offsets = torch.arange(2, device=coarse.device) * numbers.codes + numbers.semantics
    flat = (coarse.mT + offsets).flatten()
    count = min(
        numbers.semantic_history,
        len(semantic) - len(semantic) % 2,
        floor(len(flat) / numbers.ratio),
    )
    if not count:
        return semantic[:0], flat[:0]
    return semantic[-count:], flat[-round(count * numbers.ratio) :][:-2]


@torch.no_grad()
def fine_codes(
    model: Bark, coarse: Tensor, history: Tensor | None, manner: Manner, noise: torch.Generator
) -> Tensor:
    """coarse [2, F], history [8, H] of what was said before -> codes [8, F]."""
    stage, numbers = model.fine, model.numbers
    frames, window, hop = coarse.shape[1], numbers.fine_window, numbers.fine_history
    past = coarse.new_zeros(numbers.books, 0) if history is None else history[:, -hop:]
    known = past.shape[1]
    total = max(window, known + frames)
    codes = coarse.new_full((numbers.books, total), numbers.codes)
    codes[:, :known], codes[:2, known : known + frames] = past, coarse
    for turn in range(max(0, ceil((frames - (window - known)) / hop)) + 1):
        begin = min(turn * hop, total - window)
        # What an earlier window found is found once more.
        fill = min(known + turn * hop, total - hop)
        _fill(stage, codes[:, begin : begin + window], fill - begin, numbers.codes, manner, noise)
    return codes[:, known : known + frames]


def _fill(
    stage: FineStage,
    seen: Tensor,
    begin: int,
    count: int,
    manner: Manner,
    noise: torch.Generator,
) -> None:
    """seen [8, F], of which books 3 to 8 are found from frame `begin` on, in place."""
    for book in range(2, len(seen)):
        logits = stage(seen[None], book, begin)[0, :, :count]
        seen[book, begin:] = manner.fine_codes(logits, noise)
