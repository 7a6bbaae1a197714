"""What may be written next: rules on logits, for all rows at once (arXiv:2212.04356, section 4.5).

Ids are ordered as in Whisper: text, the end of text, other marks, and timestamps last, in order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_NEVER = -torch.inf


@dataclass(frozen=True, kw_only=True)
class TimestampRules:
    """Timestamps come in pairs, never go back, and where they are likelier than any text, win.

    `end` is the id of the end of text, `first` that of the timestamp 0; the very first one is at
    most `most_initial` steps later, where that is given.
    """

    end: int
    first: int
    most_initial: int | None = None

    def apply(self, logits: Tensor, history: Tensor) -> None:
        """logits [R, V] after history [R, S], changed in place: what the rules forbid is -inf."""
        timestamps, words = logits[:, self.first :], logits[:, : self.first]
        if history.shape[1]:
            self._in_pairs(logits, history)
        else:
            words.fill_(_NEVER)
            if self.most_initial is not None:
                timestamps[:, self.most_initial + 1 :] = _NEVER
        # Both sides without the normalisation that they share.
        likelier = timestamps.logsumexp(1) > words.amax(1)
        _fill_rows(words, likelier)

    def _in_pairs(self, logits: Tensor, history: Tensor) -> None:
        """After a text and a timestamp comes another, or the end; after two timestamps, text."""
        last = history[:, -1] >= self.first
        # The first timestamp stands alone, as if one had come before it.
        before = history[:, -2] >= self.first if history.shape[1] > 1 else torch.ones_like(last)
        closing = last & ~before
        # The next stretch may begin where the last one ended, but must not end where it begins.
        latest = history.amax(1) - self.first
        soonest = torch.where(closing, latest, latest + 1).clamp(min=0)
        soonest = torch.where(last & before, logits.shape[1], soonest)
        timestamps = logits[:, self.first :]
        steps = torch.arange(timestamps.shape[1], device=logits.device)
        timestamps.masked_fill_(steps < soonest[:, None], _NEVER)
        # _compat_marks: only text is forbidden here, not the marks between text and timestamps.
        _fill_rows(logits[:, : self.end], closing)


def _fill_rows(logits: Tensor, rows: Tensor) -> None:
    """Forbid all of the rows [R] that are true; most are not, and the text is most of the work."""
    chosen = rows.nonzero()[:, 0]
    if len(chosen):
        logits.index_fill_(0, chosen, _NEVER)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Ids that are `never` written, those that are `not_first`, and the rules of timestamps."""

    never: Tensor
    not_first: Tensor
    timestamps: TimestampRules | None = None

    def apply(self, logits: Tensor, history: Tensor) -> None:
        """logits [R, V] after history [R, S], changed in place: what the rules forbid is -inf.

        `history` is what has been written since the prompt.
        """
        if not history.shape[1]:
            logits.index_fill_(1, self.not_first, _NEVER)
        logits.index_fill_(1, self.never, _NEVER)
        if self.timestamps is not None:
            self.timestamps.apply(logits, history)
