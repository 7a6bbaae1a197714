"""What decoders keep of what they have written or said: counted from their shape, and as it is."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from alm_cli.bench.reports import Cell, Column
from alm_cli.lm.musicgen import MusicGen, Told
from alm_cli.lm.whisper import Heard, Whisper
from alm_cli.nn.attention import KVCache
from alm_cli.nn.renderer import Renderer
from alm_cli.nn.state import State
from alm_cli.planning import LanguageModel
from alm_cli.runtime import inference

_WINDOW_FRAMES = 3000  # of the spectrogram, 30 s; the encoder makes one vector of two
_WARM_UP = 1

CACHE_COLUMNS = (
    Column(key="cache_predicted_mb", title="cache, predicted", unit="MB", meaning="100 tokens"),
    Column(key="cache_kept_mb", title="cache, kept", unit="MB", meaning="keys and values in use"),
    Column(key="cache_off", title="cache, off by", unit="%", meaning="kept against predicted"),
    Column(key="cache_allocated_mb", title="cache, allocated", unit="MB", meaning="with room"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Bytes of keys and values after `tokens` of one text.

    `predicted` follows from layers, heads and positions; `kept` is what the tensors hold that are
    still looked at, `allocated` with the room for tokens to come. `first_token_s` is the time from
    a spectrogram to the first token of Whisper.
    """

    tokens: int
    predicted: int
    kept: int
    allocated: int
    first_token_s: float | None = None

    def cells(self) -> dict[str, Cell]:
        """As `CACHE_COLUMNS`."""
        return {
            "cache_predicted_mb": self.predicted / 1e6,
            "cache_kept_mb": self.kept / 1e6,
            "cache_off": 100 * (self.kept / self.predicted - 1),
            "cache_allocated_mb": self.allocated / 1e6,
        }


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


@torch.inference_mode()
def renderer_cache(model: Renderer, tokens: int = 100) -> Cache:
    """Say nothing for so many steps, one frame of all codebooks in each."""
    told = model.vectors.new_zeros(1, 1, model.width)
    codes = torch.full((1, model.books, 1), -1, device=told.device)
    with inference():
        state = State()
        for _ in range(tokens):
            model(codes, told, told[:, 0], state)
    shape = LanguageModel(
        layers=len(model.stack.blocks),
        kv_heads=1,
        head_dim=model.width,  # all heads together
        kv_dtype=str(told.dtype).removeprefix("torch."),
    )
    kept, allocated = _bytes(state)
    return Cache(
        tokens=tokens,
        predicted=shape.cache_bytes(tokens),
        kept=kept,
        allocated=allocated,
    )


@torch.inference_mode()
def musicgen_cache(model: MusicGen, tokens: int = 100) -> Cache:
    """So many steps of one piece: two rows, of which only the first is told something."""
    config, weight = model.config, model.decoder.norm.weight
    nothing = weight.new_zeros(1, 1, config.dimension)
    told = model.decoder.hear(nothing) if not config.melody else Told(read=None)
    codes = torch.full((2, config.books, 1), config.codes, device=weight.device)
    with inference():
        state = State()
        for _ in range(tokens):
            model.decoder(codes, told, state)
    shape = LanguageModel(
        layers=config.layers,
        kv_heads=1,
        head_dim=config.dimension,  # all heads together
        kv_dtype=str(weight.dtype).removeprefix("torch."),
    )
    kept, allocated = _bytes(state)
    predicted = len(codes) * shape.cache_bytes(tokens)
    return Cache(tokens=tokens, predicted=predicted, kept=kept, allocated=allocated)


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
