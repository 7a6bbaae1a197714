"""Speculative decoding: whatever the draft says, the text is that of the large model alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from alm_cli.decoding.rules import Rules, TimestampRules
from alm_cli.decoding.search import Bounds, likeliest
from alm_cli.decoding.speculation import Tally, speculate
from alm_cli.errors import UsageError
from alm_cli.systems.transcriber import TranscribeAsk, load_transcriber
from alm_cli.systems.whisper_transcriber import WhisperTranscriber
from alm_cli.values import Segment
from tests.decoding.whispers import ENGLISH, MANY, MORE, Samples, blocks, pair, synthetic

pytestmark = pytest.mark.usefixtures("one_thread")

GREEDY = TranscribeAsk(
    language="en", temperature=(0.0,), beam_size=None, best_of=None, no_speech_threshold=None
)
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"without_timestamps": True, "suppress_tokens": ""},
    {"initial_prompt": "so it goes " * 90, "word_timestamps": True},
)
# Weights that say something.
SEEDS = {ENGLISH: 2, MANY: 7, MORE: 6}
BANDS = {ENGLISH: 80, MANY: 80, MORE: 128}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], Path]:
    """A model of each vocabulary, and one that often says the same."""
    pytest.importorskip("whisper", reason="needs the package openai-whisper")
    folder = tmp_path_factory.mktemp("whispers")
    found = {}
    for size, seed in SEEDS.items():
        file = found[size, "itself"] = pair(
            folder, size, seed=seed, bands=BANDS[size], end=7.0
        ).file
        saved = torch.load(file, weights_only=True)
        noise = torch.Generator().manual_seed(0)
        for weights in saved["model_state_dict"].values():
            weights *= 1 + 0.05 * torch.randn(weights.shape, generator=noise)
        found[size, "noisy"] = folder / f"{size}-noisy.pt"
        torch.save(saved, found[size, "noisy"])
    return found


def loaded(file: Path, **more: Any) -> WhisperTranscriber:
    found = load_transcriber(file, device="cpu", **more)
    assert isinstance(found, WhisperTranscriber)
    return found


def said(transcriber: WhisperTranscriber, samples: Samples, ask: TranscribeAsk) -> list[Segment]:
    return list(transcriber.segments(blocks(samples), ask))


def assert_same(found: Sequence[Segment], expected: Sequence[Segment]) -> None:
    """The same tokens and times, and log-probabilities but for rounding."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.tokens == other.tokens
        assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-4)
        exact = replace(one, avg_logprob=0.0, no_speech_prob=0.0)
        assert exact == replace(other, avg_logprob=0.0, no_speech_prob=0.0)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("vocabulary", "draft"),
    [(ENGLISH, "noisy"), (MANY, "noisy"), (MORE, "noisy"), (MANY, "itself")],
)
def test_texts_are_those_of_the_model_alone(
    files: dict[tuple[int, str], Path], vocabulary: int, draft: str
) -> None:
    file = files[vocabulary, "itself"]
    alone, drafted = loaded(file), loaded(file, draft=files[vocabulary, draft])
    tokens = 0
    for seed, more in enumerate(OPTIONS if vocabulary == MANY else OPTIONS[:2]):
        ask, samples = replace(GREEDY, **more), synthetic(2.0 + seed, seed)
        expected = said(alone, samples, ask)
        assert_same(said(drafted, samples, ask), expected)
        tokens += sum(len(segment.tokens) for segment in expected)
    assert tokens > 20
    assert alone.acceptance is None
    assert drafted.acceptance is not None
    assert drafted.acceptance == 1 if draft == "itself" else 0 < drafted.acceptance < 1


@pytest.mark.oracle
def test_batches_change_no_text(files: dict[tuple[int, str], Path]) -> None:
    recordings = [synthetic(1.0 + n, n) for n in range(3)]
    alone = loaded(files[MANY, "itself"])
    drafted = loaded(files[MANY, "itself"], draft=files[MANY, "noisy"], batch=3)
    found: dict[int, list[Segment]] = {}

    def work(number: int) -> None:
        found[number] = said(drafted, recordings[number], GREEDY)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(recordings))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, samples in enumerate(recordings):
        assert_same(found[number], said(alone, samples, GREEDY))
    batched = replace(GREEDY, batched=True)
    samples = synthetic(31.0, 5)
    assert_same(said(drafted, samples, batched), said(alone, samples, batched))


@pytest.mark.oracle
def test_fallback_draws_without_a_draft(files: dict[tuple[int, str], Path]) -> None:
    ask = replace(GREEDY, temperature=(0.0, 0.8), best_of=2, logprob_threshold=-1e-6)
    samples = synthetic(4.0, 3)
    expected = said(loaded(files[MANY, "itself"]), samples, ask)
    assert {segment.temperature for segment in expected} == {0.8}
    assert_same(
        said(loaded(files[MANY, "itself"], draft=files[MANY, "noisy"]), samples, ask), expected
    )


@pytest.mark.oracle
def test_what_cannot_draft_is_refused(files: dict[tuple[int, str], Path]) -> None:
    for other in (files[MORE, "itself"], files[ENGLISH, "itself"], "alm-asr"):
        with pytest.raises(UsageError, match="cannot draft for"):
            loaded(files[MANY, "itself"], draft=other)
    with pytest.raises(UsageError, match="needs no draft"):
        load_transcriber("alm-asr", device="cpu", draft=files[MANY, "noisy"])
    drafted = loaded(files[MANY, "itself"], draft=files[MANY, "noisy"])
    with pytest.raises(UsageError, match="drafts no beams"):
        said(drafted, synthetic(1.0), replace(GREEDY, beam_size=5))


class Table:
    """A model whose next token hangs on all that it has read, by chance; it counts its calls."""

    def __init__(self, seed: int, wrong: float = 0.0) -> None:
        self.read: list[int] = []
        self.calls = 0
        self._seed, self._wrong = seed, wrong

    def next(self) -> Tensor:
        """What follows all that was read."""
        key = hash((self._seed, *self.read)) % (1 << 31)
        generator = torch.Generator().manual_seed(key)
        logits = torch.randn(SIZE, generator=generator)
        if torch.rand(1, generator=generator) < self._wrong:
            logits = logits.flip(0)
        return logits

    def __call__(self, tokens: Sequence[int]) -> Tensor:
        self.calls += 1
        found = []
        for token in tokens:
            self.read.append(token)
            found.append(self.next())
        return torch.stack(found)

    def rewind(self, count: int) -> None:
        del self.read[len(self.read) - count :]

    def reorder(self, rows: Tensor) -> None:
        assert rows.tolist() == [0]


class OneByOne(Table):
    """The same for the search."""

    def __call__(self, tokens: Tensor) -> Tensor:  # type: ignore[override]
        return super().__call__(tokens.tolist())


SIZE, END = 40, 20
RULES = Rules(
    never=torch.tensor([3]),
    not_first=torch.tensor([END, 5]),
    timestamps=TimestampRules(end=END, first=25, most_initial=6),
)


@pytest.mark.parametrize("wrong", [0.0, 0.2, 1.0], ids=["right", "mostly right", "wrong"])
@pytest.mark.parametrize("limit", [1, 2, 9, 60])
def test_every_token_is_the_choice_of_the_model(wrong: float, limit: int) -> None:
    bounds = Bounds(rules=RULES, end=END, limit=limit)
    calls = [0, 0]
    for seed in range(20):
        alone, model, draft = OneByOne(seed), Table(seed), Table(seed, wrong)
        (expected,) = likeliest(alone, alone.next()[None], bounds)[0]
        tally = Tally()
        found = speculate(model, draft, model.next(), bounds, tally)
        assert found.tokens == expected.tokens
        assert found.sum_logprob == pytest.approx(expected.sum_logprob, abs=1e-4)
        assert 0 <= tally.accepted <= tally.drafted
        # All that they read is what was written, though not the last of it.
        for one in (model, draft):
            assert tuple(one.read[: len(found.tokens)]) == found.tokens[: len(one.read)]
        calls[0], calls[1] = calls[0] + alone.calls, calls[1] + model.calls
    if limit == 60 and not wrong:
        assert calls[1] < calls[0] / 2
