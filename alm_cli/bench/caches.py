"""What Whisper's decoder keeps of a text that it writes: counted from its shape, and as it is."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from alm_cli.lm.whisper import Heard, Whisper
from alm_cli.nn.attention import KVCache
from alm_cli.nn.state import State
from alm_cli.planning import LanguageModel
from alm_cli.runtime import inference

_WINDOW_FRAMES = 3000  # of the spectrogram, 30 s; the encoder makes one vector of two
_WARM_UP = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Bytes of keys and values after `tokens` of one text about one window.

    `predicted` follows from layers, heads and positions; `kept` is what the tensors hold that are
    still looked at, `allocated` with the room for tokens to come. `first_token_s` is the time from
    a spectrogram to the first token.
    """

    tokens: int
    predicted: int
    kept: int
    allocated: int
    first_token_s: float


@torch.inference_mode()
def whisper_cache(model: Whisper, tokens: int = 100) -> Cache:
    """Hear 30 s and write so many tokens, one after another."""
    weight = next(model.parameters())
    mel = weight.new_zeros(1, model.bands, _WINDOW_FRAMES)
    first: list[float] = []
    with inference():
        for _ in range(_WARM_UP + 1):
            began = time.perf_counter()
            memory, state = model.encode(mel), State()
            token = torch.zeros(1, 1, dtype=torch.long, device=mel.device)
            model.decode(token, memory, state)[:, -1].argmax().item()
            first.append(time.perf_counter() - began)
        for _ in range(tokens - 1):
            model.decode(token, memory, state)
    kept, allocated = _bytes(state)
    return Cache(
        tokens=tokens,
        predicted=predicted_bytes(model, tokens, memory),
        kept=kept,
        allocated=allocated,
        first_token_s=first[-1],
    )


def predicted_bytes(model: Whisper, tokens: int, memory: Tensor) -> int:
    """Of all layers: a key and a value for every token, and for every vector of the memory."""
    shape = LanguageModel(
        layers=len(model.decoder.blocks),
        kv_heads=1,
        head_dim=memory.shape[2],  # all heads together
        kv_dtype=str(memory.dtype).removeprefix("torch."),
    )
    return shape.cache_bytes(tokens + memory.shape[1])


def _bytes(state: State) -> tuple[int, int]:
    """What a state keeps, and what it takes."""
    kept = allocated = 0
    for _, value in state.memories():
        if isinstance(value, KVCache):
            kept += value.kept.nbytes
            allocated += value.kept.untyped_storage().nbytes()
        elif isinstance(value, Heard):
            size = sum(keys.nbytes + values.nbytes for keys, values in value.layers)
            kept, allocated = kept + size, allocated + size
    return kept, allocated
