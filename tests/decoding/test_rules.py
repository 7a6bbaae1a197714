"""The rules of what may be written next, against those of `openai-whisper`, row by row."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from alm_cli.decoding.rules import Rules, TimestampRules

# A vocabulary in small: text below 20, the end, some marks, 31 timestamps.
END, NO_TIMESTAMPS, FIRST, SIZE = 20, 26, 27, 58
STAMP = [FIRST + n for n in range(31)]

HISTORIES = {
    "section 5.6 d: the first is an early timestamp": [],
    "section 5.6 b: after the first timestamp comes text": [STAMP[3]],
    "text after the first timestamp": [STAMP[3], 5],
    "section 5.6 b: after text and timestamp, another one or the end": [STAMP[3], 5, STAMP[9]],
    "section 5.6 c: the next stretch may begin where the last ended": [STAMP[0], 5, STAMP[0]],
    "section 5.6 b: after two timestamps comes text": [STAMP[3], 5, STAMP[9], STAMP[9]],
    "section 5.6 c: timestamps never go back": [STAMP[3], 5, STAMP[9], STAMP[12], 4],
    "section 5.6 c: to the last": [STAMP[3], 5, STAMP[30], STAMP[30], 7],
    "text alone": [4, 4, 7],
    "one text": [4],
    "the end": [STAMP[3], 5, END],
    "after the end": [STAMP[3], 5, END, END],
}


def applied(logits: torch.Tensor, history: list[int], rules: Rules) -> torch.Tensor:
    """logits [R, V] after the same history in every row."""
    changed = logits.clone()
    rules.apply(changed, torch.tensor([history] * len(logits), dtype=torch.long))
    return changed


@pytest.mark.oracle
@pytest.mark.parametrize("most", [None, 0, 10])
@pytest.mark.parametrize("name", HISTORIES)
def test_rules_are_those_of_the_other(name: str, most: int | None) -> None:
    theirs = pytest.importorskip("whisper.decoding", reason="needs the package openai-whisper")
    tokenizer = SimpleNamespace(
        eot=END, no_timestamps=NO_TIMESTAMPS, timestamp_begin=FIRST, encode=lambda _: [2]
    )
    history = HISTORIES[name]
    # From timestamps that are hardly likely to such that are likelier than any text.
    logits = torch.randn(40, SIZE, generator=torch.Generator().manual_seed(len(name)))
    logits[:, FIRST:] += torch.linspace(-4, 3, 40)[:, None]
    prompt = [24, 22, 23]
    expected = logits.clone()
    tokens = torch.tensor([prompt + history] * len(logits))
    for rule in (
        theirs.SuppressBlank(tokenizer, len(prompt)),
        theirs.SuppressTokens([0, 22, 23]),
        theirs.ApplyTimestampRules(tokenizer, len(prompt), most),
    ):
        rule.apply(expected, tokens)
    rules = Rules(
        never=torch.tensor([0, 22, 23, NO_TIMESTAMPS]),
        not_first=torch.tensor([2, END]),
        timestamps=TimestampRules(end=END, first=FIRST, most_initial=most),
    )
    assert torch.equal(applied(logits, history, rules), expected)


def test_section_5_6_e_timestamps_win_together_over_the_best_text() -> None:
    rules = Rules(
        never=torch.tensor([], dtype=torch.long),
        not_first=torch.tensor([END]),
        timestamps=TimestampRules(end=END, first=FIRST),
    )
    logits = torch.full((2, SIZE), -20.0)
    logits[:, 3] = 2.0
    logits[:, FIRST:] = 0.0  # each less likely than the text, together likelier than e^2
    logits[1, FIRST + 9 :] = -20.0
    changed = applied(logits, [STAMP[0], 5], rules)
    assert changed[0, 3] == -torch.inf
    assert changed[0].argmax() > FIRST
    # The rule looks at what is left after the others: timestamp 0 is over by now.
    logits[1, FIRST : FIRST + 8] = -20.0
    assert applied(logits, [STAMP[0], 5], rules)[1, 3] == 2.0


def test_without_timestamps_the_mark_for_that_may_be_written() -> None:
    rules = Rules(never=torch.tensor([7]), not_first=torch.tensor([END, 2]))
    logits = torch.zeros(1, SIZE)
    first, later = applied(logits, [], rules), applied(logits, [4], rules)
    assert first[0, NO_TIMESTAMPS] == later[0, NO_TIMESTAMPS] == 0
    assert (first[0] == -torch.inf).nonzero()[:, 0].tolist() == [2, 7, END]
    assert (later[0] == -torch.inf).nonzero()[:, 0].tolist() == [7]


def test_rows_do_not_see_one_another() -> None:
    rules = Rules(
        never=torch.tensor([1]),
        not_first=torch.tensor([END]),
        timestamps=TimestampRules(end=END, first=FIRST, most_initial=5),
    )
    histories = torch.tensor([h for h in HISTORIES.values() if len(h) == 4])
    logits = torch.randn(len(histories), SIZE, generator=torch.Generator().manual_seed(1))
    together = logits.clone()
    rules.apply(together, histories)
    for row, history in enumerate(histories.tolist()):
        assert torch.equal(together[row], applied(logits[row : row + 1], history, rules)[0])
