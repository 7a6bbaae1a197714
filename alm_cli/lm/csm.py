"""CSM: speech of several speakers, in the light of what was said before (Sesame, 2025).

A Llama reads a conversation, text and the frames of Mimi in turn, and tells the first codebook of
the next frame; from its last vector, a smaller one tells the other codebooks, one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from alm_cli.checkpoints.family import Family, Settings, SettingsError
from alm_cli.checkpoints.keymap import KeyMap, Shape, Step, drop, merge, rename
from alm_cli.checkpoints.llama import llama_keys, llama_sizes, llama_turns, torchtune_keys
from alm_cli.nn.linear import Linear, StepLinear
from alm_cli.nn.llama import Llama, LlamaSpec
from alm_cli.nn.position import Rotary, Stretch
from alm_cli.nn.state import State

# logits [B, V] -> what is taken of each row [B]
Choose = Callable[[Tensor], Tensor]
# The base of rotary angles, and how they are stretched.
Turns = tuple[float, "Stretch | None"]

_BASE = 500_000.0
# Of the heads, in the checkpoints of the authors' program, whose names and shapes do not tell.
_BACKBONE_HEAD, _DEPTH_HEAD = 64, 128
_BACKBONE = {
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 8192,
}
_DEPTH = {
    "hidden_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 8192,
}
# Settings of training and of the interface of a library, tokens that stand for frames in its
# texts, and what the authors' program calls its sizes.
_UNUSED = frozenset({
    "attention_dropout", "audio_eos_token_id", "audio_token_id", "backbone_flavor", "bos_token_id",
    "codebook_pad_token_id", "decoder_flavor", "eos_token_id", "initializer_range", "pad_token_id",
    "tie_word_embeddings", "transformers_weights", "use_cache",
})  # fmt: skip
_PARTS = frozenset({"codec_config", "depth_decoder_config"})


@dataclass(frozen=True, kw_only=True)
class CsmConfig:
    """The architecture; `codec` are the settings of the Mimi in the checkpoint, None: it has none.

    A frame has `codebooks` codes out of `codes`, a few more than Mimi has.
    """

    backbone: LlamaSpec
    depth: LlamaSpec
    turns: tuple[Turns, Turns]
    codebooks: int
    codes: int
    texts: int
    positions: int
    codec: Mapping[str, object] | None

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> CsmConfig:
        """Read the published `config.json`; what this file does not build is an error."""
        own = {key: raw[key] for key in raw.keys() - _UNUSED - _PARTS}
        settings = Settings(own)
        backbone = LlamaSpec(**llama_sizes(settings, _BACKBONE))
        books = settings.number("num_codebooks", 32, most=256)
        codes = settings.number("vocab_size", 2051)
        codec = raw.get("codec_config")
        depth, depth_turns = _depth(
            _part(raw.get("depth_decoder_config")), (backbone.dimension, books, codes)
        )
        config = cls(
            backbone=backbone,
            depth=depth,
            turns=(_turns(settings, own), depth_turns),
            codebooks=books,
            codes=codes,
            texts=settings.number("text_vocab_size", 128_256),
            positions=settings.number("max_position_embeddings", 2048),
            codec=None if codec is None else _part(codec),
        )
        settings.only("codebook_eos_token_id", 0)
        settings.only("tie_codebooks_embeddings", True)
        settings.only("audio_num_codebooks", books)
        settings.only("audio_vocab_size", codes)
        settings.finish()
        return config


def _part(raw: object) -> Mapping[str, object]:
    """A part of config.json; none means the defaults."""
    if raw is None:
        return {}
    if isinstance(raw, Mapping):
        return raw
    raise SettingsError(
        f"config.json: {' or '.join(sorted(_PARTS))} is not an object",
        hint="take the config.json that came with the weights",
        keys=_PARTS,
    )


def _depth(raw: Mapping[str, object], shared: tuple[int, int, int]) -> tuple[LlamaSpec, Turns]:
    """The smaller Llama; `shared` are the sizes that it has in common with the larger one."""
    own = {key: value for key, value in raw.items() if key not in _UNUSED}
    settings, (wide, books, codes) = Settings(own), shared
    spec, turns = LlamaSpec(**llama_sizes(settings, _DEPTH)), _turns(settings, own)
    settings.only("backbone_hidden_size", wide)
    settings.only("num_codebooks", books)
    settings.only("vocab_size", codes)
    settings.number("max_position_embeddings", books + 1)
    try:
        settings.finish()
    except SettingsError as error:
        message = error.message.replace("config.json", "config.json, depth_decoder_config", 1)
        keys = frozenset({"depth_decoder_config"})
        raise SettingsError(message, error.hint or "", keys) from error
    return spec, turns


def _turns(settings: Settings, raw: Mapping[str, object]) -> Turns:
    base, stretch = llama_turns(settings, raw, _BASE)
    return base, None if stretch is None else Stretch(**stretch)


class Csm(nn.Module):
    """Text and frames -> vectors [1, S, D] -> the next frame [B, K], and so on.

    What is heard is embedded (`text`, `frames`), read (`read`), and answered (`frame`).
    """

    def __init__(self, config: CsmConfig) -> None:
        super().__init__()
        self.codebooks, self.codes, self.positions = (
            config.codebooks,
            config.codes,
            config.positions,
        )
        wide = config.backbone.dimension
        turns, depth_turns = (Rotary("halves", *turns) for turns in config.turns)
        self.text_embedding = _embedding(config.texts, wide)
        self.audio_embedding = _embedding(config.codebooks * config.codes, wide)
        self.backbone = Llama(config.backbone, turns)
        self.first = Linear(wide, config.codes, bias=False)
        self.projection = Linear(wide, config.depth.dimension, bias=False)
        self.depth = Llama(config.depth, depth_turns)
        self.others = StepLinear(config.codebooks - 1, config.depth.dimension, config.codes)

    def text(self, tokens: Tensor) -> Tensor:
        """tokens [B, S] -> vectors [B, S, D]."""
        return self.text_embedding(tokens)

    def frames(self, codes: Tensor) -> Tensor:
        """codes [B, F, K] -> vectors [B, F, D], for each frame the sum over its codebooks."""
        books = torch.arange(self.codebooks, device=codes.device) * self.codes
        return self.audio_embedding(codes + books).sum(-2)

    def read(self, x: Tensor, state: State) -> Tensor:
        """x [B, S, D], which goes on from `state` -> the last vector [B, D] of each row."""
        y: Tensor = self.backbone(x, state)[:, -1]
        return y

    def frame(self, hidden: Tensor, choose: Choose) -> Tensor:
        """hidden [B, D] of `read` -> codes [B, K] of the next frame.

        `choose` is asked for each codebook in turn, with logits [B, V] float32.
        """
        codes = [choose(self.first(hidden).float())]
        state = State()
        # The vector by itself, not together with the first code: so all products of a frame have
        # as many rows, and what a row says does not depend on how many others there are.
        self._deeper(hidden, state)
        for book in range(self.codebooks - 1):
            x = self._deeper(self.audio_embedding(codes[-1] + book * self.codes), state)
            codes.append(choose(self.others(x, book).float()))
        return torch.stack(codes, 1)

    def _deeper(self, x: Tensor, state: State) -> Tensor:
        """x [B, D] at the next position of the depth -> [B, d]."""
        y: Tensor = self.depth(self.projection(x)[:, None], state)[:, -1]
        return y


def _embedding(count: int, wide: int) -> nn.Embedding:
    # Not random at first: on the meta device that would import torch's compiler.
    return nn.Embedding(count, wide, _weight=torch.zeros(count, wide))


_TABLE = "backbone_model.embed_tokens.embed_audio_tokens.weight"
_SAME_TABLE = "depth_decoder.model.embed_tokens.weight"


class _Keys(KeyMap):
    """The table of codes has two names, of which the hub's library writes one or both."""

    def plan(self, theirs: Mapping[str, Shape], ours: Mapping[str, Shape]) -> list[Step]:
        """How their tensors become our parameters; a ModelError lists everything that misfits."""
        again = {_SAME_TABLE} if _TABLE in theirs else set()
        return super().plan({name: theirs[name] for name in theirs if name not in again}, ours)


def _as_linear(weight: Tensor) -> Tensor:
    """weight [K, D, V] -> [K, V, D]."""
    return weight.mT.contiguous()


KEYS = _Keys(
    *llama_keys("backbone_model", "backbone"),
    *llama_keys("depth_decoder.model", "depth"),
    rename("embed_text_tokens.weight", "text_embedding.weight"),
    rename(_TABLE, "audio_embedding.weight"),
    rename(_SAME_TABLE, "audio_embedding.weight"),
    rename("lm_head.weight", "first.weight"),
    rename("depth_decoder.model.inputs_embeds_projector.weight", "projection.weight"),
    merge(["depth_decoder.codebooks_head.weight"], "others.weight", _as_linear),
    drop("codec_model.*"),  # a model of its own
    # The names of the authors' program.
    *torchtune_keys("backbone", "backbone", _BACKBONE_HEAD),
    *torchtune_keys("decoder", "depth", _DEPTH_HEAD),
    rename("{kind:text,audio}_embeddings.weight", "{kind}_embedding.weight"),
    rename("codebook0_head.weight", "first.weight"),
    rename("projection.weight", "projection.weight"),
    merge(["audio_head"], "others.weight", _as_linear),
)


def sniff(
    shapes: Mapping[str, Shape],
    said: Mapping[str, object],  # noqa: ARG001
) -> Mapping[str, object] | None:
    """The settings of a checkpoint of the authors' program, whose config.json has only names."""
    texts, heads = shapes.get("text_embeddings.weight", ()), shapes.get("audio_head", ())
    if len(texts) != 2 or len(heads) != 3:
        return None
    books, _, codes = heads
    seen = {
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    rope = {"rope_type": "llama3", "rope_theta": _BASE, "factor": 32.0, **seen}
    depth = {"num_codebooks": books + 1, "vocab_size": codes, "rope_parameters": rope}
    return {
        "model_type": "csm",
        "text_vocab_size": texts[0],
        "num_codebooks": books + 1,
        "vocab_size": codes,
        "rope_parameters": rope,
        **_sizes(shapes, "backbone", _BACKBONE_HEAD),
        "depth_decoder_config": {
            **depth,
            "backbone_hidden_size": texts[1],
            **_sizes(shapes, "decoder", _DEPTH_HEAD),
        },
    }


def _sizes(shapes: Mapping[str, Shape], stack: str, head: int) -> dict[str, Any]:
    """What the shapes of the first layer tell; where they are not there, the usual."""
    layer = f"{stack}.layers.0"
    queries = shapes.get(f"{layer}.attn.q_proj.weight", ())
    keys = shapes.get(f"{layer}.attn.k_proj.weight", ())
    gate = shapes.get(f"{layer}.mlp.w1.weight", ())
    if not len(queries) == len(keys) == len(gate) == 2:
        return {}
    ends = f"{stack}.layers.", ".sa_norm.scale"
    return {
        "hidden_size": queries[1],
        "num_attention_heads": max(1, queries[0] // head),
        "num_key_value_heads": max(1, keys[0] // head),
        "head_dim": head,
        "intermediate_size": gate[0],
        "num_hidden_layers": sum(n.startswith(ends[0]) and n.endswith(ends[1]) for n in shapes),
    }


FAMILY = Family(CsmConfig.from_hub, Csm, KEYS, sniff)
