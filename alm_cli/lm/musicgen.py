"""MusicGen: words, and a melody perhaps, to the codes of EnCodec at 32 kHz (arXiv:2306.05284).

T5 reads the words; a decoder listens to them and tells a code of each codebook at every step, each
book one step after the one before. The forms that follow a melody do not listen while they go: they
read the melody and the words first, as if these were what had been played before. The codec is in
the checkpoint as well, but a model of its own: `alm_cli.systems.musicgen_composer` loads it. In the
layout of AudioCraft neither the codec nor T5 is in there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import cast

import torch
from torch import Tensor, nn

from alm_cli.checkpoints.audiocraft_lm import (
    KIND,
    STACKED,
    lm_keys,
    melody_keys,
    musicgen_sizes,
    sniff_musicgen,
)
from alm_cli.checkpoints.family import Family, Settings, SettingsError
from alm_cli.checkpoints.generic import GENERIC, finish_section
from alm_cli.checkpoints.keymap import drop, rename
from alm_cli.checkpoints.split import SplitKeyMap
from alm_cli.checkpoints.t5 import t5_keys, t5_sizes
from alm_cli.nn.chroma import PITCHES
from alm_cli.nn.guided import GuidedBlock, Pair, StepAttention, TextAttention
from alm_cli.nn.linear import Linear
from alm_cli.nn.state import State
from alm_cli.nn.t5 import T5Encoder, T5Spec
from alm_cli.nn.transformer import MLP, Block

_MELODY = "musicgen_melody"
_SECTIONS = ("text_encoder", "audio_encoder", "decoder")
# Settings of training, of generation, and one that only the makers' own tools ask for.
_UNUSED = GENERIC | {
    "activation_dropout", "attention_dropout", "classifier_dropout", "initializer_factor",
    "layerdrop", "max_position_embeddings", "sampling_rate", "tie_word_embeddings",
}  # fmt: skip
# Positions whose sines are computed at a time.
_TABLE = 1024


@dataclass(frozen=True, kw_only=True)
class MusicGenConfig:
    """The architecture; `codes` are those of each of `books`, which are of so many `channels`.

    `melody` is how many frames of one are read, 0 where none can be followed; `seconds` are made at
    a time. Where T5 is not in the checkpoint, it is that called `reader`, of which `text` has but
    the dimension.
    """

    text: T5Spec
    codec: Mapping[str, object]
    dimension: int
    layers: int
    heads: int
    hidden: int
    codes: int
    books: int
    channels: int
    melody: int
    seconds: int = 30
    reader: str = ""

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> MusicGenConfig:
        """Read the published `config.json`, or AudioCraft's settings; the unknown is an error."""
        if KIND in raw:
            sizes = musicgen_sizes(raw)
            return cls(text=T5Spec(dimension=sizes.pop("text_dimension")), codec={}, **sizes)
        follows = raw.get("model_type") == _MELODY
        text, codec, decoder = (_section(raw, name) for name in _SECTIONS)
        settings = Settings({key: raw[key] for key in raw.keys() - _UNUSED - set(_SECTIONS)})
        melody = settings.number("chroma_length", 235, most=10_000) if follows else 0
        if follows:
            settings.only("num_chroma", PITCHES)
        settings.finish()
        own = Settings({key: decoder[key] for key in decoder.keys() - _UNUSED})
        config = cls(
            text=T5Spec(**t5_sizes(text, "text_encoder")),
            codec={key: value for key, value in codec.items() if key not in GENERIC},
            dimension=own.number("hidden_size", 1024),
            layers=own.number("num_hidden_layers", 24, most=256),
            heads=own.number("num_attention_heads", 16, most=256),
            hidden=own.number("ffn_dim", 4096),
            codes=own.number("vocab_size", 2048),
            books=own.number("num_codebooks", 4, most=64),
            channels=own.number("audio_channels", 1, most=2),
            melody=melody,
        )
        own.only("activation_function", "gelu")
        own.only("scale_embedding", False)
        fits = config.dimension % 2 == 0 == config.dimension % config.heads
        own.require("num_attention_heads", fits, "a divisor of hidden_size, which is even")
        # A map of twelve pitches to as many features is left out, and two features have no order.
        own.require("hidden_size", config.dimension not in (2, PITCHES), "neither 2 nor 12")
        paired = config.books % config.channels == 0
        own.require("num_codebooks", paired, "equally many for each channel")
        # What is before the first code and after the last one has the number after all codes.
        for key in ("bos_token_id", "pad_token_id"):
            own.require(key, decoder.get(key, config.codes) in (config.codes, None), "vocab_size")
        heard = decoder.get("cross_attention_hidden_size")
        own.require("cross_attention_hidden_size", heard is None, "null (others are not built)")
        finish_section(own, "decoder")
        return config


def _section(raw: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = raw.get(key)
    if isinstance(value, Mapping):
        return value
    raise SettingsError(
        f"config.json: {key} is {'missing' if value is None else 'not an object'}",
        hint="take the config.json that came with the weights",
        keys=frozenset({key}),
    )


@dataclass(frozen=True, eq=False)
class Told:
    """What the decoder goes by, for each of B rows.

    `heard` has keys and values of the words for every layer, of which `hidden` [B, 1, 1, M] says
    where there are none; `read` [R, M, D] is what those that follow a melody read first, R being B
    rows with and, where they are guided, as many without.
    """

    heard: tuple[Pair, ...] = ()
    hidden: Tensor | None = None
    read: Tensor | None = None


class MusicGen(nn.Module):
    """Words [B, N] and a melody -> what is told; codes so far -> logits of the next.

    A T5 that is not in the checkpoint is put into `text` by those who load it.
    """

    text: T5Encoder

    def __init__(self, config: MusicGenConfig) -> None:
        super().__init__()
        self.config = config
        if not config.reader:
            self.text = T5Encoder(config.text)
        wide = config.dimension
        same = config.text.dimension == wide and not config.reader
        self.words = None if same else Linear(config.text.dimension, wide)
        self.pitches = Linear(PITCHES, wide) if config.melody else None
        self.decoder = CodeDecoder(config)
        # Codebook k comes k steps late; of two channels each has books of its own.
        self.lags = tuple(book // config.channels for book in range(config.books))

    def memory(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids [B, N], mask [B, N] -> [B, N, D] float32, zeros where nothing stands."""
        x: Tensor = self.text(ids, mask)
        x = x if self.words is None else self.words(x)
        return x * mask[..., None]

    def melody(self, chroma: Tensor) -> Tensor:
        """chroma [B, F, 12] -> [B, F, D] float32."""
        assert self.pitches is not None, "follows no melody"
        return self.pitches(chroma)


class CodeDecoder(nn.Module):
    """Codes [R, K, S] of the last steps -> logits [R, K, V] of the next one."""

    def __init__(self, config: MusicGenConfig) -> None:
        super().__init__()
        wide, books, self.codes = config.dimension, range(config.books), config.codes
        # One more than there are codes: what stands where there is none.
        self.embeddings = nn.ModuleList(_embedding(config.codes + 1, wide) for _ in books)
        kind = _plain if config.melody else _guided
        self.blocks = nn.ModuleList(kind(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(wide)
        self.outputs = nn.ModuleList(Linear(wide, config.codes, bias=False) for _ in books)

    def hear(self, memory: Tensor, mask: Tensor | None = None) -> Told:
        """memory [B, M, D] -> what every layer hears of it; mask [B, M] where rows are filled."""
        hidden = None
        if mask is not None:
            hidden = torch.zeros_like(mask, dtype=memory.dtype)
            hidden = hidden.masked_fill(mask == 0, -torch.inf)[:, None, None]
        blocks = (cast(GuidedBlock, block) for block in self.blocks)
        return Told(tuple(block.cross.heard(memory) for block in blocks), hidden)

    def forward(self, codes: Tensor, told: Told, state: State) -> Tensor:
        """codes [R, K, S] that follow what `state` knows -> logits [R, K, V] float32.

        The first rows are those that are told something, the others are guided by nothing.
        """
        x = self._embedded(codes)
        if told.read is not None and not state.knows(self):
            x = torch.cat((told.read.to(x.dtype), x), 1)
        place = state.get(self, Reached)
        state.put(self, place)
        x = x + place.vectors(x)
        if told.heard:
            for block, heard in zip(self.blocks, told.heard, strict=True):
                x = block(x, heard, state, hidden=told.hidden)
        else:
            for block in self.blocks:
                x = block(x, None, state)
        y = self.norm(x[:, -1])
        return torch.stack([output(y) for output in self.outputs], 1).float()

    def _embedded(self, codes: Tensor) -> Tensor:
        """codes [R, K, S] -> [R, S, D], the sum over the books."""
        first, *rest = (table(codes[:, k]) for k, table in enumerate(self.embeddings))
        return cast(Tensor, sum(rest, first))


class Reached:
    """How many positions a stream has gone through; the same for all its rows."""

    def __init__(self, length: int = 0) -> None:
        self.length = length

    def vectors(self, x: Tensor) -> Tensor:
        """x [R, S, D] -> the vectors [S, D] of its positions, which count as gone through."""
        begin, self.length = self.length, self.length + x.shape[1]
        count = -(-self.length // _TABLE) * _TABLE
        return positions(count, x.shape[-1], x.dtype, x.device)[begin : self.length]


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def positions(count: int, dimension: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[count, D]: cosines, then sines, whose frequencies end at 1 / 10000."""
    half = dimension // 2
    slower = torch.exp(torch.arange(half).float() * -(math.log(10_000.0) / (half - 1)))
    angles = torch.arange(count).float()[:, None] * slower
    return torch.cat((angles.cos(), angles.sin()), 1).to(device, dtype)


def guided(logits: Tensor, scale: float) -> Tensor:
    """logits [R, K, V], rows that were told something before those that were not -> [R / 2, K, V].

    arXiv:2207.12598.
    """
    told, untold = logits.chunk(2)
    return untold + (told - untold) * scale


def _guided(config: MusicGenConfig) -> nn.Module:
    wide, heads = config.dimension, config.heads
    attention = StepAttention(wide, heads, causal=True)
    mlp = MLP(wide, config.hidden)
    return GuidedBlock(attention, TextAttention(wide, heads), mlp, partial(nn.LayerNorm, wide))


def _plain(config: MusicGenConfig) -> nn.Module:
    wide = config.dimension
    attention = StepAttention(wide, config.heads, causal=True)
    return Block(attention, MLP(wide, config.hidden), partial(nn.LayerNorm, wide))


def _embedding(count: int, wide: int) -> nn.Embedding:
    # Not random at first: on the meta device that would import torch's compiler.
    return nn.Embedding(count, wide, _weight=torch.zeros(count, wide))


_LAYER, _OWN = "decoder.model.decoder.layers.{i}", "decoder.blocks.{i}"
_OF = "{of:weight,bias}"
_NORMS = {
    "self_attn_layer_norm": "attention_norm",
    "encoder_attn_layer_norm": "cross_norm",
    "final_layer_norm": "mlp_norm",
}

KEYS = SplitKeyMap(
    STACKED,
    *lm_keys("decoder.", "words", "outputs"),
    *melody_keys("pitches"),
    *t5_keys("text_encoder.", "text."),
    drop("audio_encoder.{name:*}"),  # another model
    rename(f"enc_to_dec_proj.{_OF}", "words.{of}"),
    rename(f"audio_enc_to_dec_proj.{_OF}", "pitches.{of}"),
    rename("decoder.model.decoder.embed_tokens.{k}.weight", "decoder.embeddings.{k}.weight"),
    # In files from before the tables were left out; they follow from their size.
    drop("decoder.model.decoder.embed_positions.weights"),
    *(
        verb
        for theirs, ours in (("self_attn", "attention"), ("encoder_attn", "cross"))
        for verb in (
            rename(f"{_LAYER}.{theirs}.{{p:q,k,v}}_proj.weight", f"{_OWN}.{ours}.{{p}}.weight"),
            rename(f"{_LAYER}.{theirs}.out_proj.weight", f"{_OWN}.{ours}.out.weight"),
        )
    ),
    *(rename(f"{_LAYER}.{t}.{_OF}", f"{_OWN}.{o}.{{of}}") for t, o in _NORMS.items()),
    rename(f"{_LAYER}.fc1.weight", f"{_OWN}.mlp.up.weight"),
    rename(f"{_LAYER}.fc2.weight", f"{_OWN}.mlp.down.weight"),
    rename(f"decoder.model.decoder.layer_norm.{_OF}", "decoder.norm.{of}"),
    rename("decoder.lm_heads.{k}.weight", "decoder.outputs.{k}.weight"),
)

FAMILY = Family(MusicGenConfig.from_hub, MusicGen, KEYS, sniff_musicgen)
