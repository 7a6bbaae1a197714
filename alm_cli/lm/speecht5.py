"""SpeechT5: text to a mel spectrogram, two frames a step, in the voice of an x-vector.

arXiv:2110.07205. What it heard of itself passes a dropout that stays on, as in Tacotron 2
(arXiv:1712.05884): without it the model loses its way. So the same line sounds a little different
with every seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import KeyMap, drop, merge, rename
from alm_cli.nn.attention import Attention, CrossAttention
from alm_cli.nn.conformer import by_distance
from alm_cli.nn.linear import Linear
from alm_cli.nn.narrow import NarrowConv
from alm_cli.nn.state import State
from alm_cli.nn.transformer import MLP, PostNormBlock

Pair = tuple[Tensor, Tensor]  # keys and values

# Settings of training, of generation, and of SpeechT5's other halves, which hear.
_UNUSED = frozenset({
    "activation_dropout", "apply_spec_augment", "attention_dropout", "bos_token_id",
    "chunk_size_feed_forward", "conv_bias", "conv_dim", "conv_kernel", "conv_stride",
    "decoder_layerdrop", "decoder_start_token_id", "encoder_layerdrop", "feat_extract_activation",
    "feat_extract_norm", "feat_proj_dropout", "guided_attention_loss_num_heads",
    "guided_attention_loss_scale", "guided_attention_loss_sigma", "hidden_dropout", "id2label",
    "initializer_range", "is_encoder_decoder", "label2id", "mask_feature_length",
    "mask_feature_min_masks", "mask_feature_prob", "mask_time_length", "mask_time_min_masks",
    "mask_time_prob", "max_length", "num_conv_pos_embedding_groups", "num_conv_pos_embeddings",
    "num_feat_extract_layers", "num_hidden_layers", "output_attentions", "output_hidden_states",
    "pad_token_id", "positional_dropout", "problem_type", "scale_embedding",
    "speech_decoder_postnet_dropout", "tie_word_embeddings", "use_cache",
    "use_guided_attention_loss",
})  # fmt: skip
# How much of what a layer says is kept, and the chance from which on speech has ended.
_KEPT = _ENDS = 0.5


@dataclass(frozen=True, kw_only=True)
class SpeechT5Config:
    """The architecture."""

    vocabulary: int
    end: int  # the token that ends a text
    dimension: int
    layers: int
    heads: int
    hidden: int
    decoder_layers: int
    decoder_heads: int
    decoder_hidden: int
    furthest: int  # distance that the encoder tells from farther ones
    texts: int  # tokens that a text may have
    steps: int  # that speech may take
    bands: int
    frames: int  # of each step
    entry_layers: int
    entry: int
    voice: int
    exit_layers: int
    exit: int
    exit_kernel: int

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> SpeechT5Config:
        """Read the published `config.json`; what this file does not build is an error."""
        settings = Settings({key: raw[key] for key in raw.keys() - _UNUSED})
        config = cls(
            vocabulary=settings.number("vocab_size", 81),
            end=settings.number("eos_token_id", 2),
            dimension=settings.number("hidden_size", 768),
            layers=settings.number("encoder_layers", 12, most=256),
            heads=settings.number("encoder_attention_heads", 12, most=256),
            hidden=settings.number("encoder_ffn_dim", 3072),
            decoder_layers=settings.number("decoder_layers", 6, most=256),
            decoder_heads=settings.number("decoder_attention_heads", 12, most=256),
            decoder_hidden=settings.number("decoder_ffn_dim", 3072),
            furthest=settings.number("encoder_max_relative_position", 160, most=100_000),
            texts=settings.number("max_text_positions", 450),
            steps=settings.number("max_speech_positions", 4000, most=100_000),
            bands=settings.number("num_mel_bins", 80, most=4096),
            frames=settings.number("reduction_factor", 2, most=64),
            entry_layers=settings.number("speech_decoder_prenet_layers", 2, most=64),
            entry=settings.number("speech_decoder_prenet_units", 256),
            voice=settings.number("speaker_embedding_dim", 512),
            exit_layers=settings.number("speech_decoder_postnet_layers", 5, most=64),
            exit=settings.number("speech_decoder_postnet_units", 256),
            exit_kernel=settings.number("speech_decoder_postnet_kernel", 5, most=99),
        )
        settings.only("hidden_act", "gelu")
        settings.only("layer_norm_eps", 1e-5)
        # _compat_kept: the reference keeps a number with this probability and divides by one less
        # it; only of a half these mean the same.
        settings.only("speech_decoder_prenet_dropout", _KEPT)
        even = config.dimension % 2 == 0 and config.dimension % config.heads == 0
        settings.require("encoder_attention_heads", even, "a divisor of hidden_size, which is even")
        divides = config.dimension % config.decoder_heads == 0
        settings.require("decoder_attention_heads", divides, "a divisor of hidden_size")
        settings.require("eos_token_id", config.end < config.vocabulary, "below vocab_size")
        settings.require("speech_decoder_postnet_kernel", config.exit_kernel % 2 == 1, "odd")
        settings.finish()
        return config


class SpeechT5(nn.Module):
    """tokens [1, S] and a voice [1, E] -> mel [1, M, F], `frames` a step."""

    def __init__(self, config: SpeechT5Config) -> None:
        super().__init__()
        self.end, self.texts, self.steps = config.end, config.texts, config.steps
        self.vocabulary, self.voice_size = config.vocabulary, config.voice
        self.encoder = TextEncoder(config)
        self.enter = Entry(config)
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(config.decoder_layers))
        self.frames, self.bands = config.frames, config.bands
        self.mel = Linear(config.dimension, config.bands * config.frames)
        self.stop = Linear(config.dimension, config.frames)
        self.leave = Exit(config)

    def read(self, tokens: Tensor) -> list[Pair]:
        """tokens [1, S] -> what every layer hears of them."""
        memory = self.encoder(tokens)
        return [cast(DecoderBlock, block).cross.heard(memory) for block in self.blocks]

    def step(
        self, frame: Tensor, heard: list[Pair], voice: Tensor, masks: list[Tensor], state: State
    ) -> tuple[Tensor, float]:
        """frame [1, M], the last of the step before -> mel [1, M, frames], chance of the end."""
        x = self.enter(frame, voice, masks, state)[:, None]
        for block, one in zip(self.blocks, heard, strict=True):
            x = block(x, one, state)
        mel = self.mel(x[:, 0]).view(1, self.frames, self.bands).mT
        return mel, float(torch.sigmoid(self.stop(x[:, 0])).sum())

    def speak(
        self, heard: list[Pair], voice: Tensor, masks: Masks | None, most: int
    ) -> Iterator[tuple[Tensor, bool]]:
        """Spectra [1, M, frames] before `leave`, and whether this one ends, at most so many."""
        state, none = State(), list[Tensor]()
        frame = self.mel.weight.new_zeros(1, self.bands)
        most = min(most, self.steps)
        for place in range(most):
            mel, ends = self.step(frame, heard, voice, masks(place) if masks else none, state)
            frame = mel[..., -1]
            last = ends >= _ENDS or place == most - 1
            yield mel, last
            if last:
                return


class Masks:
    """What the dropout keeps at every step, from one generator.

    `transformers` draws for all steps so far anew at each, and uses the last: so do we, and with
    the same generator keep the same.
    """

    def __init__(self, model: SpeechT5, noise: torch.Generator) -> None:
        sizes = (cast(Linear, layer).out_features for layer in model.enter.layers)
        self._sizes, self._noise = tuple(sizes), noise
        self._like = model.mel.weight

    def __call__(self, place: int) -> list[Tensor]:
        """Of each layer [1, units], 0 or 1."""
        drawn = (torch.empty(place + 1, size) for size in self._sizes)
        return [mask.bernoulli_(_KEPT, generator=self._noise)[-1:].to(self._like) for mask in drawn]


class TextEncoder(nn.Module):
    """tokens [1, S] -> [1, S, D]."""

    def __init__(self, config: SpeechT5Config) -> None:
        super().__init__()
        wide, furthest = config.dimension, config.furthest
        table = torch.zeros(config.vocabulary, wide)
        self.embedding = nn.Embedding(config.vocabulary, wide, _weight=table)
        self.position_scale = nn.Parameter(torch.ones(()))
        self.norm = nn.LayerNorm(wide)
        self.distances = nn.Parameter(torch.zeros(2 * furthest, wide // config.heads))
        self.blocks = nn.ModuleList(
            PostNormBlock(
                SharedDistances(wide, config.heads, bias=True),
                MLP(wide, config.hidden, bias=True),
                partial(nn.LayerNorm, wide),
            )
            for _ in range(config.layers)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [1, S] -> [1, S, D]."""
        x = self.embedding(tokens)
        places = _sinusoids(tokens.shape[1], x.shape[-1]).to(x)
        x = self.norm(x + self.position_scale * places)
        for block in self.blocks:
            x = block(x, None, None, self.distances)
        return x


class SharedDistances(Attention):
    """Attention whose bias is a vector for every distance [2 L, D / H], shared by all layers.

    They begin with the key L - 1 before the query; farther ones count as being so far.
    """

    def _collected(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """q, k and v [B, H, S, D] of the same positions -> [B, H, S, D]."""
        assert bias is not None, "the distances"
        return by_distance(q, k, v, bias, len(bias) // 2 - 1)


class Entry(nn.Module):
    """What was said last, for the decoder: a narrow way with dropout, the place, and the voice."""

    def __init__(self, config: SpeechT5Config) -> None:
        super().__init__()
        wide, narrow = config.dimension, config.entry
        self.layers = nn.ModuleList(
            Linear(narrow if layer else config.bands, narrow)
            for layer in range(config.entry_layers)
        )
        self.out = Linear(narrow, wide)
        self.position_scale = nn.Parameter(torch.ones(()))
        self.voice = Linear(config.voice + wide, wide)
        self.steps = config.steps

    def forward(self, x: Tensor, voice: Tensor, masks: list[Tensor], state: State) -> Tensor:
        """x [1, M], voice [1, E] -> [1, D]; without masks nothing is dropped."""
        place = state.get(self, lambda: 0)
        state.put(self, place + 1)
        for index, layer in enumerate(self.layers):
            x = F.relu(layer(x))
            x = x * masks[index] / (1 - _KEPT) if masks else x
        x = self.out(x)
        x = x + self.position_scale * _sinusoids(self.steps, x.shape[-1])[place].to(x)
        return F.relu(self.voice(torch.cat((x, F.normalize(voice)), -1)))


class DecoderBlock(nn.Module):
    """Attention to the past, to the text, then a feed-forward part; each sum is normalised."""

    def __init__(self, config: SpeechT5Config) -> None:
        super().__init__()
        wide, heads = config.dimension, config.decoder_heads
        self.attention = Attention(wide, heads, bias=True, causal=True)
        self.cross = CrossAttention(wide, heads, bias=True)
        self.mlp = MLP(wide, config.decoder_hidden, bias=True)
        self.attention_norm, self.cross_norm = nn.LayerNorm(wide), nn.LayerNorm(wide)
        self.mlp_norm = nn.LayerNorm(wide)

    def forward(self, x: Tensor, heard: Pair, state: State | None = None) -> Tensor:
        """x [1, S, D] -> [1, S, D]; `heard` is what `cross` made of the text."""
        x = self.attention_norm(x + self.attention(x, state=state))
        x = self.cross_norm(x + self.cross(x, heard))
        return self.mlp_norm(x + self.mlp(x))


class Exit(nn.Module):
    """mel [B, M, F] -> [B, M, F], sharpened by convolutions that look ahead."""

    def __init__(self, config: SpeechT5Config) -> None:
        super().__init__()
        sizes = [config.bands, *[config.exit] * (config.exit_layers - 1), config.bands]
        # Blocks of a stream have few frames: as matrix products they are faster.
        conv = partial(NarrowConv, kernel=config.exit_kernel, bias=False, causal=False)
        pairs = zip(sizes, sizes[1:], strict=False)
        self.convs = nn.ModuleList(conv(inputs, outputs) for inputs, outputs in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) for size in sizes[1:])

    def forward(self, mel: Tensor, state: State | None = None) -> Tensor:
        """mel [B, M, F] -> [B, M, F]; with `state`, the next F frames of one."""
        x, last = mel, len(self.convs) - 1
        for layer, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = conv(x, state)
            if x.shape[-1]:
                x = norm(x)
            x = x if layer == last else torch.tanh(x)
        return x + (mel if state is None else state.aligned(self, mel, x.shape[-1]))


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _sinusoids(length: int, dimension: int) -> Tensor:
    """[S, D]: sines and cosines in turn (arXiv:1706.03762)."""
    slower = torch.exp(torch.arange(0, dimension, 2).float() * -(math.log(10_000.0) / dimension))
    angles = torch.arange(length)[:, None].float() * slower
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(1)


def _backwards(vectors: Tensor) -> Tensor:
    """Theirs [2 L, D] begin with the key that is the farthest ahead."""
    return vectors.flip(0)


_OF = "{of:weight,bias}"
_TEXT, _SPEECH = "speecht5.encoder", "speecht5.decoder"
_IN_BLOCK = (
    ("attention.{part:q,k,v,out}_proj", "attention.{part}"),
    ("self_attn.{part:q,k,v,out}_proj", "attention.{part}"),
    ("encoder_attn.{part:q,k,v,out}_proj", "cross.{part}"),
    ("layer_norm", "attention_norm"),
    ("self_attn_layer_norm", "attention_norm"),
    ("encoder_attn_layer_norm", "cross_norm"),
    ("final_layer_norm", "mlp_norm"),
    ("feed_forward.intermediate_dense", "mlp.up"),
    ("feed_forward.output_dense", "mlp.down"),
)

KEYS = KeyMap(
    rename(f"{_TEXT}.prenet.embed_tokens.weight", "encoder.embedding.weight"),
    rename(f"{_TEXT}.prenet.encode_positions.alpha", "encoder.position_scale"),
    rename(f"{_TEXT}.wrapped_encoder.layer_norm.{_OF}", "encoder.norm.{of}"),
    merge(
        [f"{_TEXT}.wrapped_encoder.embed_positions.pe_k.weight"], "encoder.distances", _backwards
    ),
    *(
        rename(f"{half}.layers.{{i}}.{hub}.{_OF}", f"{blocks}.{{i}}.{ours}.{{of}}")
        for half, blocks in (
            (f"{_TEXT}.wrapped_encoder", "encoder.blocks"),
            (f"{_SPEECH}.wrapped_decoder", "blocks"),
        )
        for hub, ours in _IN_BLOCK
    ),
    rename(f"{_SPEECH}.prenet.layers.{{i}}.{_OF}", "enter.layers.{i}.{of}"),
    rename(f"{_SPEECH}.prenet.final_layer.{_OF}", "enter.out.{of}"),
    rename(f"{_SPEECH}.prenet.encode_positions.alpha", "enter.position_scale"),
    rename(f"{_SPEECH}.prenet.speaker_embeds_layer.{_OF}", "enter.voice.{of}"),
    rename(f"speech_decoder_postnet.feat_out.{_OF}", "mel.{of}"),
    rename(f"speech_decoder_postnet.prob_out.{_OF}", "stop.{of}"),
    rename("speech_decoder_postnet.layers.{i}.conv.weight", "leave.convs.{i}.weight"),
    rename("speech_decoder_postnet.layers.{i}.batch_norm.{name:*}", "leave.norms.{i}.{name}"),
    drop("*.encode_positions.pe"),  # computed
)

FAMILY = Family(SpeechT5Config.from_hub, SpeechT5, KEYS)
