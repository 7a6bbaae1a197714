"""Whisper: writes down or translates 30 s of speech in up to 100 languages (arXiv:2212.04356)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.checkpoints.family import Family, Settings, SettingsError
from alm_cli.checkpoints.keymap import KeyMap, Shape, drop, rename
from alm_cli.nn.attention import Attention, CrossAttention
from alm_cli.nn.audio_encoder import AudioEncoder, AudioEncoderSpec
from alm_cli.nn.linear import Make, product
from alm_cli.nn.state import State
from alm_cli.nn.transformer import MLP, CrossBlock

Heads = tuple[tuple[int, int], ...]
Pair = tuple[Tensor, Tensor]  # keys and values

# Vocabularies from this size on have languages; smaller ones are English only.
_MULTILINGUAL = 51_865
_GENERATION = "generation_config.json"
# Settings of training, of generation (this program has its own) and of other heads.
_UNUSED = frozenset({
    "_attn_implementation_autoset", "activation_dropout", "alignment_heads", "apply_spec_augment",
    "attention_dropout", "begin_suppress_tokens", "bos_token_id", "chunk_size_feed_forward",
    "classifier_proj_size", "decoder_layerdrop", "decoder_start_token_id", "dropout",
    "encoder_layerdrop", "eos_token_id", "forced_decoder_ids", "gradient_checkpointing",
    "id2label", "init_std", "is_encoder_decoder", "label2id", "lang_ids", "mask_feature_length",
    "mask_feature_min_masks", "mask_feature_prob", "mask_time_length", "mask_time_min_masks",
    "mask_time_prob", "max_length", "median_filter_width", "num_hidden_layers", "output_attentions",
    "output_hidden_states", "pad_token_id", "problem_type", "suppress_ids", "suppress_tokens",
    "use_cache", "use_weighted_layer_sum",
})  # fmt: skip

# Heads (layer, head) that follow the speech, of the published models, by the decoder's layers and
# heads and the vocabulary. Large-v1 has the sizes of large-v2; its own file of settings tells them.
_ALIGNMENT: Mapping[tuple[int, int, int], str] = {
    (4, 6, 51_865): "2.2 3.0 3.2 3.3 3.4 3.5",
    (4, 6, 51_864): "1.0 2.0 2.5 3.0 3.1 3.2 3.3 3.4",
    (6, 8, 51_865): "3.1 4.2 4.3 4.7 5.1 5.2 5.4 5.6",
    (6, 8, 51_864): "3.3 4.7 5.1 5.5 5.7",
    (12, 12, 51_865): "5.3 5.9 8.0 8.4 8.7 8.8 9.0 9.7 9.9 10.5",
    (12, 12, 51_864): "6.6 7.0 7.3 7.8 8.2 8.5 8.7 9.0 9.4 9.8 9.10 10.0 10.1 10.2 10.3 10.6 10.11"
    " 11.2 11.4",
    (24, 16, 51_865): "13.15 15.4 15.15 16.1 20.0 23.4",
    (24, 16, 51_864): "11.4 14.1 14.12 14.14 15.4 16.0 16.4 16.9 17.12 17.14 18.7 18.10 18.15 20.0"
    " 20.3 20.9 20.14 21.12",
    (32, 20, 51_865): "10.12 13.17 16.11 16.12 16.13 17.15 17.16 18.4 18.11 18.19 19.11 21.2 21.3"
    " 22.3 22.9 22.12 23.5 23.7 23.13 25.5 26.1 26.12 27.15",
    (32, 20, 51_866): "7.0 10.17 12.18 13.12 16.1 17.14 19.11 21.4 24.1 25.6",
    (4, 20, 51_866): "2.4 2.11 3.3 3.6 3.11 3.14",
}


@dataclass(frozen=True, kw_only=True)
class WhisperConfig:
    """The architecture; `alignment_heads` are (layer, head) of the decoder."""

    encoder: AudioEncoderSpec
    layers: int
    heads: int
    hidden: int
    vocabulary: int
    positions: int
    alignment_heads: Heads

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> WhisperConfig:
        """Read the published `config.json`; what this file does not build is an error."""
        told = raw.get(_GENERATION)
        settings = Settings({key: raw[key] for key in raw.keys() - _UNUSED - {_GENERATION}})
        dimension = settings.number("d_model", 384)
        layers = settings.number("decoder_layers", 4, most=256)
        heads = settings.number("decoder_attention_heads", 6, most=256)
        vocabulary = settings.number("vocab_size", 51_865)
        config = cls(
            encoder=AudioEncoderSpec(
                bands=settings.number("num_mel_bins", 80),
                positions=settings.number("max_source_positions", 1500),
                dimension=dimension,
                heads=settings.number("encoder_attention_heads", 6, most=256),
                layers=settings.number("encoder_layers", 4, most=256),
                hidden=settings.number("encoder_ffn_dim", 1536),
            ),
            layers=layers,
            heads=heads,
            hidden=settings.number("decoder_ffn_dim", 1536),
            vocabulary=vocabulary,
            positions=settings.number("max_target_positions", 448),
            alignment_heads=_alignment(told, (layers, heads, vocabulary)),
        )
        settings.only("activation_function", "gelu")
        settings.only("scale_embedding", False)
        settings.only("tie_word_embeddings", True)
        settings.finish()
        _check(config)
        return config


def _check(config: WhisperConfig) -> None:
    """Refuse what does not divide."""
    wide = config.encoder.dimension
    for key, heads in (
        ("encoder_attention_heads", config.encoder.heads),
        ("decoder_attention_heads", config.heads),
    ):
        if wide % heads:
            raise SettingsError(
                f"config.json: {key}, {heads}, does not divide d_model, {wide}",
                hint="take the config.json that came with the weights",
                keys=frozenset({key}),
            )


def _alignment(told: object, sizes: tuple[int, int, int]) -> Heads:
    """The heads that follow the speech: as told beside config.json, as known, or a guess."""
    found = told.get("alignment_heads") if isinstance(told, Mapping) else None
    layers, heads, _ = sizes
    if found is not None:
        pairs = found if isinstance(found, list) else []
        if not pairs or not all(_is_head(pair, layers, heads) for pair in pairs):
            raise SettingsError(
                f"{_GENERATION}: alignment_heads are not heads of {layers} layers of {heads}",
                hint="take the file that came with the weights, or none",
                keys=frozenset({_GENERATION}),
            )
        return tuple((layer, head) for layer, head in pairs)
    if sizes in _ALIGNMENT:
        known = (pair.split(".") for pair in _ALIGNMENT[sizes].split())
        return tuple((int(layer), int(head)) for layer, head in known)
    upper = range(layers // 2, layers)
    return tuple((layer, head) for layer in upper for head in range(heads))


def _is_head(pair: object, layers: int, heads: int) -> bool:
    """Whether it is [layer, head]."""
    return (
        isinstance(pair, list)
        and [type(value) for value in pair] == [int, int]
        and pair[0] in range(layers)
        and pair[1] in range(heads)
    )


class Whisper(nn.Module):
    """mel [B, M, F] and tokens so far [R, S] -> what may come next [R, S, V].

    Frames of 10 ms become positions of 20 ms. R rows of tokens may be several for each of B
    recordings (beams); those of one recording lie beside one another.
    """

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.bands, self.vocabulary = config.encoder.bands, config.vocabulary
        self.audio_positions = config.encoder.positions
        self.text_positions = config.positions
        self.alignment_heads = config.alignment_heads
        self.multilingual = config.vocabulary >= _MULTILINGUAL
        # Of the tokens 51765 are text, tasks and times, in multilingual models one more.
        self.languages = config.vocabulary - 51_765 - self.multilingual
        self.encoder = AudioEncoder(config.encoder)
        self.decoder = TextDecoder(config)

    def encode(self, mel: Tensor) -> Tensor:
        """mel [B, M, F] -> memory [B, ceil(F / 2), D]; F is 3000, fewer hide the rest."""
        return self.encoder(mel)

    def decode(
        self,
        tokens: Tensor,
        memory: Tensor,
        state: State | None = None,
        *,
        at: Sequence[int] | None = None,
    ) -> Tensor:
        """tokens [R, S], memory [B, P, D] -> logits [R, S, V] float32 of what follows each.

        With `state`, they continue the rows that it knows; its first call hears the memory, later
        ones do not look at it again. `at`: of these places only, [R, len(at), V].
        """
        return self.decoder(tokens, memory, state, at)

    def listen(self, memory: Tensor) -> State:
        """A State before its first token, to be copied with `fork` for every new attempt."""
        state = State()
        self.decoder.listen(memory, state)
        return state

    def attend(self, tokens: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """tokens [1, S], memory [1, P, D] -> logits [1, S, V], scores [alignment heads, S, P].

        The scores are those of the decoder's attention to the memory before the softmax, float32.
        """
        return self.decoder.attend(tokens, memory, self.alignment_heads)


class TextDecoder(nn.Module):
    """The half that writes: tokens [R, S] -> logits [R, S, V]."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        wide = config.encoder.dimension
        # Not random at first: on the meta device that would import torch's compiler.
        table = torch.zeros(config.vocabulary, wide)
        self.embedding: nn.Embedding | HalfRows = nn.Embedding(
            config.vocabulary, wide, _weight=table
        )
        self.positions = nn.Parameter(torch.zeros(config.positions, wide))
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(wide)
        self.output: nn.Module | None = None

    def pack(self, make: Make) -> None:
        """Let a part that `make` makes of the embedding take its place in the last product."""
        weight = self.embedding.weight.data
        self.output, self.embedding = make(weight, None), HalfRows(weight)

    def keep_narrow(self, dtype: torch.dtype) -> None:
        """Keep what is heard of a recording, which is as large as the weights, in this type."""
        for block in self.blocks:
            cast(CrossBlock, block).cross.kept = dtype

    def forward(
        self, tokens: Tensor, memory: Tensor, state: State | None, at: Sequence[int] | None
    ) -> Tensor:
        """tokens [R, S], memory [B, P, D] -> logits [R, S or len(at), V] float32."""
        heard = self.listen(memory, State() if state is None else state)
        x = self._embedded(tokens, heard)
        for block, one in self._layers(heard):
            x = block(x, one, state)
        return self._logits(x if at is None else x[:, list(at)])

    def listen(self, memory: Tensor, state: State) -> Heard:
        """memory [B, P, D] -> what all layers make of it, made once for a `state`."""
        heard = state.get(self, lambda: self._heard(memory))
        state.put(self, heard)
        return heard

    def attend(self, tokens: Tensor, memory: Tensor, heads: Heads) -> tuple[Tensor, Tensor]:
        """tokens [1, S], memory [1, P, D] -> logits [1, S, V], scores [heads, S, P]."""
        heard = self._heard(memory)
        x = self._embedded(tokens, heard)
        found: dict[tuple[int, int], Tensor] = {}
        for layer, (block, one) in enumerate(self._layers(heard)):
            asked = [head for of, head in heads if of == layer]
            x, scores = block.scored(x, one, asked)
            found |= {(layer, head): of for head, of in zip(asked, scores[0], strict=True)}
        return self._logits(x), torch.stack([found[head] for head in heads])

    def _heard(self, memory: Tensor) -> Heard:
        return Heard([cast(CrossBlock, block).cross.heard(memory) for block in self.blocks])

    def _layers(self, heard: Heard) -> Iterator[tuple[CrossBlock, Pair]]:
        """Every block, and what it heard."""
        for block, one in zip(self.blocks, heard.layers, strict=True):
            yield cast(CrossBlock, block), one

    def _embedded(self, tokens: Tensor, heard: Heard) -> Tensor:
        """tokens [R, S] -> [R, S, D], at the positions after those that `heard` has counted."""
        heard.rows = len(tokens)
        x: Tensor = self.embedding(tokens).to(self.positions.dtype)
        return x + heard.places(self.positions, tokens.shape[1])

    def _logits(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        y = product(x, self.embedding.weight) if self.output is None else self.output(x)
        return y.float()


class HalfRows(nn.Module):
    """An embedding of half floats; a buffer, so that it remains one wherever the model goes."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.half())

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [R, S] -> [R, S, D], half floats."""
        return F.embedding(tokens, self.weight)


class Heard:
    """Keys and values of the recordings for every layer, and what was written about them so far.

    `rows` of tokens, equally many for each recording, are `length` long.
    """

    def __init__(self, layers: list[Pair], length: int = 0) -> None:
        self.layers = layers
        self.rows = len(layers[0][0])
        self.length = length

    def places(self, table: Tensor, count: int) -> Tensor:
        """table [N, D] -> [count, D], the rows of the next tokens, which count as written."""
        begin, self.length = self.length, self.length + count
        assert self.length <= len(table), f"{self.length} tokens, where there are {len(table)}"
        return table[begin : self.length]

    def reorder(self, rows: Tensor) -> None:
        """Keep the recordings of the chosen rows, each once."""
        count, before = len(self.layers[0][0]), self.rows
        self.rows = len(rows)
        if count == 1:
            return
        recordings = rows // (before // count)
        chosen, each = torch.unique_consecutive(recordings, return_counts=True)
        chosen = chosen if len(each.unique()) == 1 else recordings  # one asked for twice
        if chosen.tolist() != list(range(count)):
            self.layers = [(keys[chosen], values[chosen]) for keys, values in self.layers]

    def rewind(self, steps: int) -> None:
        """Forget the last tokens."""
        self.length -= steps

    def fork(self) -> Heard:
        """The same recordings and length for rows that go on apart from these."""
        other = Heard(self.layers, self.length)
        other.rows = self.rows
        return other


def _block(config: WhisperConfig) -> CrossBlock:
    # _compat_key_bias: keys have no bias; it would be the same for all of them, and fall out.
    kind = partial(CrossAttention, bias=True, key_bias=False)
    wide, heads = config.encoder.dimension, config.heads
    attention = Attention(wide, heads, bias=True, key_bias=False, causal=True, steady=True)
    mlp = MLP(wide, config.hidden, bias=True)
    return CrossBlock(attention, kind(wide, heads), mlp, partial(nn.LayerNorm, wide))


# The hub's names, with the prefix of models that have a head, and those of OpenAI's program.
_ROOT = "{root:model.,}"
_HUB = f"{_ROOT}{{half:encoder,decoder}}.layers.{{i}}"
_OPENAI = "{half:encoder,decoder}.blocks.{i}"
_OURS = "{half}.blocks.{i}"
_OF = "{of:weight,bias}"
_ATTENTIONS = (("self_attn", "attn", "attention"), ("encoder_attn", "cross_attn", "cross"))
_PARTS = (("query", "q"), ("key", "k"), ("value", "v"), ("out", "out"))
_IN_BLOCK = (
    ("self_attn_layer_norm", "attn_ln", "attention_norm"),
    ("encoder_attn_layer_norm", "cross_attn_ln", "cross_norm"),
    ("final_layer_norm", "mlp_ln", "mlp_norm"),
    ("fc1", "mlp.0", "mlp.up"),
    ("fc2", "mlp.2", "mlp.down"),
)

KEYS = KeyMap(
    rename(f"{_ROOT}encoder.{{conv:conv1,conv2}}.{_OF}", "encoder.{conv}.{of}"),
    rename(f"{_ROOT}{{half:encoder,decoder}}.embed_positions.weight", "{half}.positions"),
    rename("{half:encoder,decoder}.positional_embedding", "{half}.positions"),
    rename(f"{_ROOT}decoder.embed_tokens.weight", "decoder.embedding.weight"),
    rename("decoder.token_embedding.weight", "decoder.embedding.weight"),
    *(
        rename(f"{_HUB}.{hub}.{{part:q,k,v,out}}_proj.{_OF}", f"{_OURS}.{ours}.{{part}}.{{of}}")
        for hub, _, ours in _ATTENTIONS
    ),
    *(
        rename(f"{_OPENAI}.{theirs}.{name}.{_OF}", f"{_OURS}.{ours}.{part}.{{of}}")
        for _, theirs, ours in _ATTENTIONS
        for name, part in _PARTS
    ),
    *(rename(f"{_HUB}.{hub}.{_OF}", f"{_OURS}.{ours}.{{of}}") for hub, _, ours in _IN_BLOCK),
    *(rename(f"{_OPENAI}.{name}.{_OF}", f"{_OURS}.{ours}.{{of}}") for _, name, ours in _IN_BLOCK),
    rename(f"{_ROOT}{{half:encoder,decoder}}.layer_norm.{_OF}", "{half}.norm.{of}"),
    rename(f"encoder.ln_post.{_OF}", "encoder.norm.{of}"),
    rename(f"decoder.ln.{_OF}", "decoder.norm.{of}"),
    drop("proj_out.weight"),  # tied to the embedding
)


def sniff(shapes: Mapping[str, Shape], said: Mapping[str, object]) -> Mapping[str, object] | None:
    """The settings of a checkpoint with the names of OpenAI's program, which has its `dims`.

    The shapes tell all but the heads; without `dims` these have 64 features, as in every
    published model.
    """
    first = shapes.get("encoder.conv1.weight", ())
    tokens = shapes.get("decoder.token_embedding.weight", ())
    places = [shapes.get(f"{half}.positional_embedding", ()) for half in ("encoder", "decoder")]
    hidden = [shapes.get(f"{half}.blocks.0.mlp.0.weight", ()) for half in ("encoder", "decoder")]
    if len(first) != 3 or any(len(shape) != 2 for shape in (tokens, *places, *hidden)):
        return None
    dims = said.get("dims")
    told = dims if isinstance(dims, Mapping) else {}
    usual = max(1, first[0] // 64)
    layers = [
        len([name for name in shapes if name.startswith(half) and name.endswith(".mlp.0.weight")])
        for half in ("encoder", "decoder")
    ]
    return {
        "model_type": "whisper",
        "num_mel_bins": first[1],
        "d_model": first[0],
        "vocab_size": tokens[0],
        "max_source_positions": places[0][0],
        "max_target_positions": places[1][0],
        "encoder_layers": layers[0],
        "decoder_layers": layers[1],
        "encoder_ffn_dim": hidden[0][0],
        "decoder_ffn_dim": hidden[1][0],
        "encoder_attention_heads": told.get("n_audio_head", usual),
        "decoder_attention_heads": told.get("n_text_head", usual),
    }


FAMILY = Family(WhisperConfig.from_hub, Whisper, KEYS, sniff, beside=(_GENERATION,))
