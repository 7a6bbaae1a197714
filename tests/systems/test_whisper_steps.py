"""Steps in memory that does not move: the same texts, whether computed, or replayed on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from alm_cli.decoding.rules import Rules
from alm_cli.decoding.search import Bounds, Hypothesis, beams, draws, likeliest
from alm_cli.lm.whisper import Whisper, WhisperConfig
from alm_cli.nn.state import State
from alm_cli.runtime import inference
from alm_cli.systems.whisper_steps import Steps

END = 20
PROMPT = (1, 2, 3)
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]


@pytest.fixture(scope="module")
def model() -> Whisper:
    """Random weights that write different texts about different recordings."""
    raw: dict[str, Any] = {
        "vocab_size": 51_865, "d_model": 32, "encoder_layers": 1, "decoder_layers": 2,
        "encoder_attention_heads": 2, "decoder_attention_heads": 4, "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32, "max_source_positions": 12, "max_target_positions": 24,
    }  # fmt: skip
    model = Whisper(WhisperConfig.from_hub(raw))
    generator = torch.Generator().manual_seed(0)
    for weights in model.parameters():
        if weights.dim() > 1:
            weights.data = torch.randn(weights.shape, generator=generator) * 0.3
    # So that few tokens are likely, and the end among them.
    model.decoder.embedding.weight.data[40:] *= 0.1
    return model.requires_grad_(False).eval()


class Line:
    """Rows as the model continues them in memory that grows."""

    def __init__(self, model: Whisper, memory: Tensor, state: State) -> None:
        self._model, self._memory, self._state = model, memory, state

    def __call__(self, tokens: Tensor) -> Tensor:
        return self._model.decode(tokens[:, None], self._memory, self._state)[:, -1]

    def reorder(self, rows: Tensor) -> None:
        self._state.reorder(rows)


@pytest.fixture(params=["likeliest", "samples", "beams"])
def search(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def searched(search: str, line: Any, logits: Tensor) -> list[list[Hypothesis]]:
    """Texts of three recordings, of which some end early."""
    nothing = torch.zeros(0, dtype=torch.long, device=logits.device)
    bounds = Bounds(rules=Rules(never=nothing, not_first=nothing), end=END, limit=20)
    if search == "beams":
        return beams(line, logits, bounds, width=3)
    if search == "likeliest":
        return likeliest(line, logits, bounds)
    drawn = torch.stack([draws(0, place, 0.9, 2, 20) for place in range(3)])
    return likeliest(line, logits, bounds, temperature=0.9, draws=drawn)


@pytest.mark.parametrize("device", DEVICES)
def test_texts_are_those_of_memory_that_grows(model: Whisper, search: str, device: str) -> None:
    generator = torch.Generator().manual_seed(1)
    mel = 2 * torch.randn(3, 80, 24, generator=generator).to(device)
    model = model.to(device)
    found = []
    with inference():
        memory = model.encode(mel)
        for kind in (Line, Steps):
            state = State()
            prompts = torch.tensor([PROMPT] * 3, device=device)
            logits = model.decode(prompts, memory, state)[:, -1]
            more = {"capture": device == "cuda"} if kind is Steps else {}
            found.append(searched(search, kind(model, memory, state, **more), logits))
    assert len({texts[0].tokens for texts in found[0]}) > 1
    for one, other in zip(found[0], found[1], strict=True):
        assert [text.tokens for text in one] == [text.tokens for text in other]
        for text, same in zip(one, other, strict=True):
            assert same.sum_logprob == pytest.approx(text.sum_logprob, abs=1e-3)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices gain nothing from a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
