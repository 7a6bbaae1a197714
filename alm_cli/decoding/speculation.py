"""A small model drafts, the large one reads several drafted tokens in one pass (arXiv:2211.17192).

For the likeliest token each time the text is the one that the large model would have written alone:
every token is its own choice, the draft only decides how many of them one pass tells. The rules
are applied to both, place by place, each with the history of that place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from alm_cli.decoding.search import Bounds, Hypothesis

# So many tokens are read as fast as one, since their weights are read once; the last is no draft.
MOST_DRAFTED = 7
_FIRST, _MORE = 5, 2


class Rewindable(Protocol):
    """A model in the middle of one row."""

    def __call__(self, tokens: Sequence[int]) -> Tensor:
        """Tokens -> logits [len(tokens), V] float32 of what follows each, to be changed at will."""

    def rewind(self, count: int) -> None:
        """Forget the last tokens."""


@dataclass
class Tally:
    """How many tokens were drafted, and how many of these were what the large model writes."""

    drafted: int = 0
    accepted: int = 0

    @property
    def acceptance(self) -> float | None:
        """Their share; None where nothing was drafted."""
        return self.accepted / self.drafted if self.drafted else None


def speculate(
    model: Rewindable, draft: Rewindable, logits: Tensor, bounds: Bounds, tally: Tally | None = None
) -> Hypothesis:
    """logits [V] after a prompt that both models know -> the text of the likeliest token each time.

    As `likeliest` finds it, as far as the model computes the same for one token and for several.
    """
    text = _Text(bounds, logits.device)
    text.write(text.choose(logits[None]))
    behind, count = 1, _FIRST  # tokens that the draft has not read; how many it writes
    while not text.over:
        room = bounds.limit - text.length - 1
        guesses = _drafted(draft, text, behind, min(count, room))
        found = model([text.last, *guesses])
        accepted = 0
        while not text.over:
            token = text.choose(found[accepted : accepted + 1])
            text.write(token)
            if accepted == len(guesses) or token != guesses[accepted]:
                break
            accepted += 1
        # Neither knows the last token yet, and the draft has not read the last one of its own.
        model.rewind(len(guesses) - accepted)
        draft.rewind(max(0, len(guesses) - 1 - accepted))
        all_right = accepted == len(guesses)
        behind = 1 + all_right if guesses else behind + 1
        count = min(MOST_DRAFTED, count + _MORE) if all_right else max(1, accepted)
        if tally is not None:
            tally.drafted, tally.accepted = tally.drafted + len(guesses), tally.accepted + accepted
    return text.hypothesis()


def _drafted(draft: Rewindable, text: _Text, behind: int, count: int) -> list[int]:
    """Up to `count` tokens that the draft would write next, the end of text at most as the last."""
    guesses: list[int] = []
    unread = text.tokens(behind)
    while len(guesses) < count and text.end not in guesses[-1:]:
        token = text.imagine(draft(unread)[-1:], guesses)
        guesses.append(token)
        unread = [token]
    return guesses


class _Text:
    """What has been written, and how likely that is."""

    def __init__(self, bounds: Bounds, device: torch.device) -> None:
        self._bounds, self.end = bounds, bounds.end
        self._tokens = torch.zeros(1, bounds.limit, dtype=torch.long, device=device)
        self._sum = torch.zeros(1, device=device)
        self.length = 0
        self.last = -1

    @property
    def over(self) -> bool:
        """Whether it has ended, or is as long as it may be."""
        return self.last == self.end or self.length == self._bounds.limit

    def tokens(self, count: int) -> list[int]:
        """The last ones."""
        found: list[int] = self._tokens[0, self.length - count : self.length].tolist()
        return found

    def choose(self, logits: Tensor) -> int:
        """logits [1, V] of what may be next -> what is, counted as written."""
        self._bounds.rules.apply(logits, self._tokens[:, : self.length])
        best = logits.argmax(1)
        self._sum = self._sum + logits.log_softmax(1).gather(1, best[:, None])[:, 0]
        return int(best)

    def write(self, token: int) -> None:
        """Append what was chosen."""
        self._tokens[0, self.length] = token
        self.length, self.last = self.length + 1, token

    def imagine(self, logits: Tensor, guesses: Sequence[int]) -> int:
        """logits [1, V] after further guesses -> what the rules let the draft write."""
        more = torch.tensor([guesses], dtype=torch.long, device=self._tokens.device)
        history = torch.cat((self._tokens[:, : self.length], more), 1)
        self._bounds.rules.apply(logits, history)
        return int(logits.argmax(1))

    def hypothesis(self) -> Hypothesis:
        """All of it."""
        tokens = self.tokens(self.length)
        ended = self.last == self.end
        return Hypothesis(tuple(tokens[: self.length - ended]), float(self._sum))
