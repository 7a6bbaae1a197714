"""VALL-E: speech as a language, in the voice of three seconds of it (arXiv:2301.02111).

Phonemes and the codes of a voice go before. The first codebook of EnCodec is written code by code;
each of the other seven is found at once, by a network that an embedding of the book steers (AdaLN).
This is VALL-E X (arXiv:2303.03926) as its public checkpoint has it: phonemes of three languages,
each told by an embedding of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.checkpoints.family import Family, Settings, SettingsError
from alm_cli.checkpoints.keymap import Shape, rename
from alm_cli.checkpoints.split import SplitKeyMap
from alm_cli.nn.attention import Attention
from alm_cli.nn.linear import Linear
from alm_cli.nn.state import State
from alm_cli.nn.transformer import MLP, Block, Transformer

LANGUAGES = ("en", "zh", "ja")
_HEAD = 64  # features of a head in the published model
_POSITIONS = 4000


@dataclass(frozen=True, kw_only=True)
class ValleConfig:
    """The sizes, those of both networks alike."""

    dimension: int
    heads: int
    layers: int
    phonemes: int
    codes: int
    books: int

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> ValleConfig:
        """Read the settings that `sniff` makes of the tensors; there is no published file."""
        settings = Settings(raw)
        config = cls(
            dimension=settings.number("d_model", 1024),
            heads=settings.number("nhead", 16, most=256),
            layers=settings.number("num_layers", 12, most=256),
            phonemes=settings.number("text_tokens", 2048),
            codes=settings.number("audio_tokens", 1024),
            books=settings.number("num_quantizers", 8, most=32),
        )
        settings.finish()
        if config.dimension % config.heads or config.books < 2:
            raise SettingsError(
                f"nhead, {config.heads}, does not divide d_model, {config.dimension}, or there is "
                "one book only",
                hint="take the settings that came with the weights",
                keys=frozenset({"nhead", "num_quantizers"}),
            )
        return config


class ValleX(nn.Module):
    """Phonemes [1, S] with their languages and a voice's codes -> codes of speech.

    `end` is the code that ends the first book.
    """

    def __init__(self, config: ValleConfig) -> None:
        super().__init__()
        self.books, self.codes, self.phonemes = config.books, config.codes, config.phonemes
        self.end = config.codes
        self.first = FirstBook(config)
        self.rest = OtherBooks(config)


class _Reader(nn.Module):
    """Phonemes with their languages as vectors at their positions."""

    def __init__(self, config: ValleConfig) -> None:
        super().__init__()
        wide = config.dimension
        self.phonemes = _embedding(config.phonemes, wide)
        self.languages = _embedding(len(LANGUAGES), wide)
        self.text_scale = nn.Parameter(torch.ones(1))
        self.audio_scale = nn.Parameter(torch.ones(1))

    def read(self, phonemes: Tensor, languages: Tensor) -> Tensor:
        """phonemes and languages [1, S] -> [1, S, D]."""
        x: Tensor = self.phonemes(phonemes) + self.languages(languages)
        return x + self.text_scale * _positions(0, x)

    def placed(self, x: Tensor, begin: int = 0) -> Tensor:
        """x [1, F, D] of codes -> [1, F, D]; their positions begin anew after the phonemes."""
        return x + self.audio_scale * _positions(begin, x)


class FirstBook(_Reader):
    """The codes of the first book, one after another.

    Phonemes see one another, and no code; a code sees all phonemes and the codes before it.
    """

    def __init__(self, config: ValleConfig) -> None:
        super().__init__(config)
        wide = config.dimension
        # Behind the codes and their end stands what they begin with.
        self.audio = _embedding(config.codes + 2, wide)
        self._begin = config.codes + 1
        attention = partial(_PrefixAttention, wide, config.heads, bias=True, causal=True)
        self.transformer = Transformer(
            Block(attention(), _mlp(wide), partial(nn.LayerNorm, wide))
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(wide)
        self.output = Linear(wide, config.codes + 1, bias=False)

    def hear(self, phonemes: Tensor, languages: Tensor, voice: Tensor, state: State) -> Tensor:
        """phonemes, languages [1, S], codes of the voice [1, P] -> logits [1, V] of the next."""
        x = self.read(phonemes, languages)
        codes = torch.cat((voice.new_full((1, 1), self._begin), voice), 1)
        x = torch.cat((x, self.placed(self.audio(codes))), 1)
        hidden = _hidden(phonemes.shape[1], x.shape[1], x)
        x = self.transformer(x, state=state, bias=hidden)
        return self.output(self.norm(x[:, -1])).float()

    def forward(self, code: Tensor, place: int, state: State) -> Tensor:
        """code [1, 1], the one at `place` after the beginning -> logits [1, V] of the next."""
        x = self.transformer(self.placed(self.audio(code), place), state=state)
        return self.output(self.norm(x[:, -1])).float()


class _PrefixAttention(Attention):
    """As `Attention`; where a bias is given, it alone says what is hidden."""

    def _products(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """q [B, H, S, D], k and v [B, H, K, D] -> [B, H, S, D]."""
        if bias is None:
            return super()._products(q, k, v)
        return F.scaled_dot_product_attention(q, k, v, bias)


class OtherBooks(_Reader):
    """The codes of books 2 to 8, each at all frames at once."""

    def __init__(self, config: ValleConfig) -> None:
        super().__init__(config)
        wide = config.dimension
        # The first book may contain its end, in training.
        sizes = (config.codes + 1, *(config.codes,) * (config.books - 1))
        self.audio = nn.ModuleList(_embedding(size, wide) for size in sizes)
        self.stages = nn.ParameterList(torch.zeros(1, wide) for _ in range(config.books - 1))
        self.blocks = nn.ModuleList(_SteeredBlock(wide, config.heads) for _ in range(config.layers))
        self.norm = _SteeredNorm(wide)
        self.outputs = nn.ModuleList(
            Linear(wide, config.codes, bias=False) for _ in range(config.books - 1)
        )

    def forward(self, text: Tensor, known: Tensor, book: int, begin: int) -> Tensor:
        """text [1, S, D], known [1, F, D] -> logits [1, F - begin, V] of a book, from 1.

        `text` are phonemes as `read` has them, `known` the sums of `summed`.
        """
        x, stage = torch.cat((text, self.placed(known)), 1), self.stages[book - 1]
        for block in self.blocks:
            x = block(x, stage)
        x = self.norm(x[:, text.shape[1] + begin :], stage)
        return self.outputs[book - 1](x).float()

    def summed(self, codes: Tensor) -> Tensor:
        """codes [1, K, F] of the first K books -> [1, F, D]."""
        parts = (self.audio[book](codes[:, book]) for book in range(codes.shape[1]))
        return sum(parts, torch.zeros((), device=codes.device))


class _SteeredNorm(nn.Module):
    """Vectors brought to one size, then scaled and moved as a vector says (AdaLN)."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.steer = Linear(dimension, 2 * dimension)
        self.norm = nn.LayerNorm(dimension)

    def forward(self, x: Tensor, stage: Tensor) -> Tensor:
        """x [B, S, D], stage [1, D] -> [B, S, D]."""
        scale, move = self.steer(stage).chunk(2, -1)
        return scale * self.norm(x) + move


class _SteeredBlock(nn.Module):
    """As `Block`, with norms that are steered."""

    def __init__(self, dimension: int, heads: int) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = _SteeredNorm(dimension), _SteeredNorm(dimension)
        self.attention = Attention(dimension, heads, bias=True)
        self.mlp = _mlp(dimension)

    def forward(self, x: Tensor, stage: Tensor) -> Tensor:
        """x [B, S, D], stage [1, D] -> [B, S, D]."""
        x = x + self.attention(self.attention_norm(x, stage))
        return x + self.mlp(self.mlp_norm(x, stage))


def _mlp(dimension: int) -> MLP:
    return MLP(dimension, 4 * dimension, bias=True, activation=F.relu)


def _embedding(count: int, dimension: int) -> nn.Embedding:
    # Not random at first: on the meta device that would import torch's compiler.
    return nn.Embedding(count, dimension, _weight=torch.zeros(count, dimension))


def _hidden(phonemes: int, length: int, like: Tensor) -> Tensor:
    """[1, 1, S, S], minus infinity where a position may not look."""
    places = torch.arange(length, device=like.device)
    later = places > places[:, None].clamp(min=phonemes - 1)
    return torch.zeros_like(later, dtype=like.dtype).masked_fill(later, -torch.inf)[None, None]


def _positions(begin: int, like: Tensor) -> Tensor:
    """[S, D] from position `begin` on, for `like` [B, S, D]."""
    table = _sines(like.shape[-1], like.device, like.dtype)
    assert begin + like.shape[1] <= len(table), f"more than {len(table)} positions"
    return table[begin : begin + like.shape[1]]


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _sines(dimension: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[positions, D], sines and cosines in turn."""
    places = torch.arange(_POSITIONS).float()[:, None]
    exponents = torch.arange(0, dimension, 2).float() * -(log(1e4) / dimension)
    angles = places * exponents.exp()
    return torch.stack((angles.sin(), angles.cos()), 2).flatten(1).to(device, dtype)


_OF = "{of:weight,bias}"
_EMBEDDING = "word_embeddings.weight"
_HALVES = (("ar", "first", "transformer.blocks"), ("nar", "rest", "blocks"))

KEYS = SplitKeyMap(
    dict.fromkeys(("in_proj_weight", "in_proj_bias"), ("q", "k", "v")),
    *(
        rename(theirs, ours)
        for half, whole, blocks in _HALVES
        for theirs, ours in (
            (f"{half}_text_embedding.{_EMBEDDING}", f"{whole}.phonemes.weight"),
            (f"{half}_language_embedding.{_EMBEDDING}", f"{whole}.languages.weight"),
            *(
                (f"{half}_{kind}_position.alpha", f"{whole}.{kind}_scale")
                for kind in ("text", "audio")
            ),
            *(
                (
                    f"{half}_decoder.layers.{{i}}.self_attn.in_proj_{of}.{{part:q,k,v}}",
                    f"{whole}.{blocks}.{{i}}.attention.{{part}}.{of}",
                )
                for of in ("weight", "bias")
            ),
            *(
                (
                    f"{half}_decoder.layers.{{i}}.{name}.{_OF}",
                    f"{whole}.{blocks}.{{i}}.{part}.{{of}}",
                )
                for name, part in (
                    ("self_attn.out_proj", "attention.out"),
                    ("linear1", "mlp.up"),
                    ("linear2", "mlp.down"),
                )
            ),
        )
    ),
    *(
        rename(f"ar_decoder.{theirs}.{_OF}", f"first.{ours}.{{of}}")
        for theirs, ours in (
            ("layers.{i}.norm1", "transformer.blocks.{i}.attention_norm"),
            ("layers.{i}.norm2", "transformer.blocks.{i}.mlp_norm"),
            ("norm", "norm"),
        )
    ),
    *(
        rename(f"nar_decoder.{theirs}.{inner}.{_OF}", f"rest.{ours}.{part}.{{of}}")
        for theirs, ours in (
            ("layers.{i}.norm1", "blocks.{i}.attention_norm"),
            ("layers.{i}.norm2", "blocks.{i}.mlp_norm"),
            ("norm", "norm"),
        )
        for inner, part in (("project_layer", "steer"), ("norm", "norm"))
    ),
    rename(f"ar_audio_embedding.{_EMBEDDING}", "first.audio.weight"),
    rename("ar_predict_layer.weight", "first.output.weight"),
    rename(f"nar_audio_embeddings.{{i}}.{_EMBEDDING}", "rest.audio.{i}.weight"),
    rename("nar_predict_layers.{i}.weight", "rest.outputs.{i}.weight"),
    rename(f"nar_stage_embeddings.{{i}}.{_EMBEDDING}", "rest.stages.{i}"),
)


def sniff(
    shapes: Mapping[str, Shape],
    said: Mapping[str, object],  # noqa: ARG001
) -> Mapping[str, object] | None:
    """The settings of the published checkpoint, whose tensors tell all but the heads.

    These have 64 features; smaller models have one.
    """
    text = shapes.get(f"ar_text_embedding.{_EMBEDDING}", ())
    output = shapes.get("ar_predict_layer.weight", ())
    if len(text) != 2 or len(output) != 2 or f"ar_language_embedding.{_EMBEDDING}" not in shapes:
        return None
    layers = [
        name for name in shapes if name.startswith("ar_decoder.") and "linear1.weight" in name
    ]
    books = [name for name in shapes if name.startswith("nar_audio_embeddings.")]
    return {
        "d_model": text[1],
        "nhead": max(1, text[1] // _HEAD),
        "num_layers": len(layers),
        "text_tokens": text[0],
        "audio_tokens": output[0] - 1,
        "num_quantizers": len(books),
    }


FAMILY = Family(ValleConfig.from_hub, ValleX, KEYS, sniff)
