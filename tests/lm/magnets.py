"""Tiny MAGNeTs: weights, checkpoints as AudioCraft exports them, and AudioCraft's own program.

The program's modules are imported one by one, with stand-ins for what else they import; attention
is what xformers documents of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor

from tests.fixtures.golden.make_mimi_kyutai import hashed

SIZES: dict[str, int] = {"n_q": 4, "card": 32, "dim": 32, "num_heads": 2, "num_layers": 2}
TEXT = 12  # features of a word
REACH = 5

# As `OmegaConf.to_yaml` writes it, of what matters and some that does not.
CFG = """\
lm_model: {kind}
codebooks_pattern:
  modeling: parallel
  parallel:
    empty_initial: -1
transformer_lm:
  dim: {dim}
  num_heads: {num_heads}
  num_layers: {num_layers}
  hidden_scale: 4
  n_q: {n_q}
  card: {card}
  dropout: 0.0
  emb_lr: null
  activation: gelu
  norm_first: true
  bias_ff: false
  bias_attn: false
  bias_proj: false
  past_context: null
  causal: false
  custom: false
  memory_efficient: true
  attention_as_float32: false
  layer_scale: null
  positional_embedding: sin
  xpos: false
  checkpointing: none
  weight_init: gaussian
  depthwise_init: current
  zero_bias_init: true
  norm: layer_norm
  cross_attention: false
  qk_layer_norm: false
  qk_layer_norm_cross: false
  attention_dropout: null
  kv_repeat: 1
  two_step_cfg: false
  subcodes_context: {reach}
  compression_model_framerate: 50
  segment_duration: 0
  span_len: -1
classifier_free_guidance:
  training_dropout: 0.3
  inference_coef: 3.0
attribute_dropout: {{}}
fuser:
  cross_attention_pos_emb: false
  cross_attention_pos_emb_scale: 1
  sum: []
  prepend: []
  cross:
  - description
  input_interpolate: []
conditioners:
  description:
    model: t5
    t5:
      name: {text_encoder}
      finetune: false
      word_dropout: 0.3
      normalize_text: false
channels: 1
sample_rate: 32000
dataset:
  batch_size: 192
  segment_duration: {seconds}
masking:
  span_len: 3
generate:
  audio:
    sample_rate: ${{sample_rate}}
"""


def shapes(sizes: Mapping[str, int] = SIZES, text: int = TEXT) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that AudioCraft writes for such sizes."""
    wide, codes = sizes["dim"], sizes["card"]
    found: dict[str, tuple[int, ...]] = {}
    for book in range(sizes["n_q"]):
        found[f"emb.{book}.weight"] = (codes + 1, wide)
        found[f"linears.{book}.weight"] = (codes, wide)
    for layer in range(sizes["num_layers"]):
        name = f"transformer.layers.{layer}"
        for attention in ("self_attn", "cross_attention"):
            found[f"{name}.{attention}.in_proj_weight"] = (3 * wide, wide)
            found[f"{name}.{attention}.out_proj.weight"] = (wide, wide)
        found[f"{name}.linear1.weight"], found[f"{name}.linear2.weight"] = (
            (4 * wide, wide),
            (wide, 4 * wide),
        )
        for norm in ("norm1", "norm_cross", "norm2"):
            found[f"{name}.{norm}.weight"] = found[f"{name}.{norm}.bias"] = (wide,)
    found["out_norm.weight"] = found["out_norm.bias"] = (wide,)
    projection = "condition_provider.conditioners.description.output_proj"
    return found | {f"{projection}.weight": (wide, text), f"{projection}.bias": (wide,)}


def weights(wanted: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """A number for every weight, so large that all of it matters, the same on every machine."""
    made = {}
    for seed, (name, shape) in enumerate(sorted(wanted.items())):
        x = hashed(shape, seed + 1)
        if len(shape) > 1:
            x = x * 3 * (1 if name.startswith("emb") else shape[-1] ** -0.5)
            # What is heard and said may not drown what is there.
            x = x * (0.3 if "cross_attention.out" in name else 1)
            x = x / (6 if name.startswith("linears") else 1)
        elif "norm" in name and name.endswith("weight"):
            x = 1 + 0.5 * x
        else:
            x = 0.2 * x
        made[name] = x
    return made


def words(count: int, seed: int = 1000, features: int = TEXT) -> Tensor:
    """What a T5 might make of a text [count, E]."""
    return 2 * hashed((count, features), seed)


def cfg(**told: object) -> str:
    """What a checkpoint says of itself."""
    usual: dict[str, object] = {"kind": "transformer_lm_magnet", "text_encoder": "t5-base"}
    return CFG.format(**(usual | SIZES | {"reach": REACH, "seconds": 10} | told))


def export(folder: Path, state: Mapping[str, Tensor] | None = None, **told: object) -> Path:
    """A folder with `state_dict.bin`, as AudioCraft's `export_lm` writes it."""
    state = weights(shapes()) if state is None else state
    value = {"best_state": dict(state), "xp.cfg": cfg(**told), "version": "1.3.0", "exported": True}
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(value, folder / "state_dict.bin")
    return folder


def reason() -> str:
    """Why AudioCraft's program cannot be asked here; empty if it can."""
    for name in ("audiocraft", "einops"):
        if find_spec(name) is None:
            return f"{name} is not installed"
    return ""


_STAND_INS = (
    *("flashy", "flashy.distrib", "omegaconf", "num2words", "spacy", "xformers", "xformers.ops"),
    *("audiocraft.modules.chroma", "audiocraft.data", "audiocraft.data.audio"),
    *("audiocraft.data.audio_dataset", "audiocraft.data.audio_utils", "audiocraft.environment"),
    *("audiocraft.quantization", "audiocraft.utils.autocast", "audiocraft.utils.cache"),
)
_PACKAGES = ("audiocraft", "audiocraft.models", "audiocraft.modules", "audiocraft.utils")


@contextmanager
def audiocraft() -> Iterator[dict[str, Any]]:
    """Modules of AudioCraft by their last names, none of which stays imported."""
    spec = find_spec("audiocraft")
    assert spec is not None and spec.submodule_search_locations
    root, before = Path(spec.submodule_search_locations[0]), set(sys.modules)
    try:
        for name in _STAND_INS:
            sys.modules[name] = MagicMock()
        sys.modules["audiocraft.data.audio_dataset"].SegmentInfo = object  # type: ignore[attr-defined]
        ops: Any = sys.modules["xformers.ops"]
        ops.unbind, ops.memory_efficient_attention = torch.unbind, _attended
        sys.modules["xformers"].ops = ops  # type: ignore[attr-defined]
        for name in _PACKAGES:
            package = ModuleType(name)
            package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
            sys.modules[name] = package
        from audiocraft.models import lm_magnet  # type: ignore[import-not-found]
        from audiocraft.modules import (  # type: ignore[import-not-found]
            codebooks_patterns,
            conditioners,
            transformer,
        )

        transformer.set_efficient_attention_backend("xformers")
        yield {
            "lm": lm_magnet,
            "patterns": codebooks_patterns,
            "conditioners": conditioners,
        }
    finally:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in {"audiocraft", *(x.partition(".")[0] for x in _STAND_INS)}:
                del sys.modules[name]


def _attended(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, p: float = 0.0) -> Tensor:
    """[B, S, H, D] each, bias [B, H, S, S] -> [B, S, H, D]."""
    assert not p
    products = torch.einsum("bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k)
    chances = (products if bias is None else products + bias).softmax(-1)
    return torch.einsum("bhqk,bkhd->bqhd", chances, v)


@dataclass(frozen=True)
class Case:
    """What AudioCraft was asked for, in its own words."""

    frames: int
    seed: int
    steps: tuple[int, ...]
    options: Mapping[str, object]
    words: int = 7
    span: int = 3
    seconds: int = 1


def case_options(case: Case) -> dict[str, Any]:
    """The arguments of `MagnetLMModel.generate`."""
    usual = {"max_cfg_coef": 10.0, "min_cfg_coef": 1.0, "temp": 3.0, "top_k": 0, "top_p": 0.9}
    return {**usual, **case.options, "decoding_steps": list(case.steps)}


CASES: dict[str, Case] = {
    "published": Case(50, 7, (20, 10, 10, 10), {}),
    "likeliest": Case(48, 1, (6, 4, 3, 2), {"use_sampling": False, "temp": 0.0}),
    "few": Case(49, 2, (5, 3, 1, 2), {"top_k": 5, "top_p": 0.0, "temp": 1.5, "max_cfg_coef": 3.0}),
    "all": Case(45, 3, (6, 4, 3, 2), {"top_p": 0.0, "temp": 1.0}),
    "unguided": Case(47, 4, (6, 4, 3, 2), {"max_cfg_coef": 1.0, "top_p": 0.8}),
    "single": Case(40, 5, (6, 4, 3, 2), {}, span=1),
    "long": Case(301, 6, (5, 3, 2, 2), {}, words=3, seconds=7),
}


def given_words(said: Any, dimension: int) -> Any:
    """AudioCraft's conditioner of texts that are vectors [N, TEXT], as T5 would have made them."""

    class Given(said.TextConditioner):  # type: ignore[name-defined, misc]
        def tokenize(self, texts: Sequence[Tensor | None]) -> list[Tensor | None]:
            return list(texts)

        def forward(self, texts: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
            longest = max(1 if text is None else len(text) for text in texts)
            padded, mask = torch.zeros(len(texts), longest, TEXT), torch.zeros(len(texts), longest)
            for row, text in enumerate(texts):
                if text is not None:
                    padded[row, : len(text)], mask[row, : len(text)] = text, 1
            return self.output_proj(padded) * mask[..., None], mask

    return Given(TEXT, dimension)


def their_model(modules: Mapping[str, Any], case: Case, state: Mapping[str, Tensor]) -> Any:
    """AudioCraft's model with these weights; conditions are what T5 would have made of words."""
    said = modules["conditioners"]
    fuser = said.ConditionFuser(
        {"cross": ["description"], "prepend": [], "sum": [], "input_interpolate": []}
    )
    model = modules["lm"].MagnetLMModel(
        pattern_provider=modules["patterns"].ParallelPatternProvider(SIZES["n_q"]),
        condition_provider=said.ConditioningProvider(
            {"description": given_words(said, SIZES["dim"])}
        ),
        fuser=fuser,
        subcodes_context=REACH,
        compression_model_framerate=50,
        segment_duration=case.seconds,
        span_len=case.span,
        **SIZES,
        causal=False,
        cross_attention=True,
        memory_efficient=True,
        norm_first=True,
        bias_proj=False,
        bias_ff=False,
        bias_attn=False,
        dropout=0.0,
        activation="gelu",
        device="cpu",
        dtype=torch.float32,
    )
    model.load_state_dict(state)
    return model.eval()


@torch.no_grad()
def their_codes(modules: Mapping[str, Any], case: Case, state: Mapping[str, Tensor]) -> Tensor:
    """codes [K, F] that AudioCraft makes of a case."""
    attributes = modules["conditioners"].ConditioningAttributes
    model = their_model(modules, case, state)
    torch.manual_seed(case.seed)
    codes: Tensor = model.generate(
        conditions=[attributes(text={"description": words(case.words)})],
        max_gen_len=case.frames,
        **case_options(case),
    )
    return codes[0]
