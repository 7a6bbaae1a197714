"""What audio costs a language model: tokens of encoders with their adapters, and of codecs.

The rules of the adapters are those of their published code, for recordings at 16 kHz; lengths are
in samples. What they give depends on the length alone, never on what is heard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

from alm_cli.bench.reports import Cell, Column
from alm_cli.catalog import CATALOG
from alm_cli.errors import UsageError
from alm_cli.planning import LanguageModel, TokenRate

RATE = 16_000
_HOP = 160  # of a spectrogram: 100 frames a second
_WINDOW = 30 * RATE

# Decoders by layers, heads of keys and values, and features of a head: their published settings.
LANGUAGE_MODELS: Mapping[str, tuple[int, int, int]] = {
    "qwen-7b": (32, 32, 128),
    "qwen2.5-7b": (28, 4, 128),
    "llama-3.1-8b": (32, 8, 128),
    "llama-3.2-1b": (16, 8, 64),
    "ministral-3b": (30, 8, 128),
    "mistral-small-24b": (40, 8, 128),
    "helium-7b": (32, 32, 128),
}

COLUMNS = (
    Column(key="what", title="what"),
    Column(key="rule", title="rule"),
    Column(key="encoder_hz", title="encoder", unit="1/s", digits=1, meaning="vectors before"),
    Column(key="tokens", title="tokens", meaning="of the whole recording"),
    Column(key="tokens_per_minute", title="tokens a minute", digits=0),
    Column(key="per_text", title="of text's", unit="x", meaning="against the same speech as text"),
    Column(key="positions", title="positions", meaning="of the language model's context"),
    Column(key="share", title="share of context", unit="%", digits=1),
    Column(key="fits_min", title="fits", unit="min", digits=1, meaning="of audio in the context"),
    Column(key="cache_per_second_mib", title="cache a second", unit="MiB", digits=3),
    Column(key="cache_mib", title="cache", unit="MiB", digits=1, meaning="keys and values"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """An encoder's vectors a second, and how many tokens its adapter makes of samples."""

    name: str
    rule: str
    encoder_hz: float
    tokens: Callable[[int], int]


def pooled(frames: int, factor: int) -> int:
    """Vectors after pooling or stacking `factor` at a time; the last ones may be fewer."""
    return -(-frames // factor)


def queried(frames: int, window: int, queries: int) -> int:
    """Vectors of a Q-Former with so many queries for each window, the last one filled up."""
    return pooled(frames, window) * queries


def queried_within(frames: int, window: int, queries: int = 1) -> int:
    """The same where windows lie within the frames only, and the rest is dropped."""
    return max(0, (frames - window) // window + 1) * queries


def _frames(samples: int) -> int:
    return pooled(samples, _HOP)


def _qwen2_audio(samples: int) -> int:
    convolved = (_frames(samples) - 1) // 2 + 1
    return max(0, (convolved - 2) // 2 + 1)


def _by_windows(rule: Callable[[int], int]) -> Callable[[int], int]:
    """Recordings in pieces of 30 s, each by itself."""

    def tokens(samples: int) -> int:
        whole, rest = divmod(samples, _WINDOW)
        return whole * rule(_WINDOW) + (rule(rest) if rest else 0)

    return tokens


def _seamless(samples: int) -> int:
    frames = max(0, (samples - 400) // _HOP + 1)
    return pooled(frames, 2) // 8 + 1 if frames else 0


def _granite(samples: int) -> int:
    return queried((samples // _HOP + 1) // 2, 15, 3)


ADAPTERS = (
    Adapter(
        name="qwen2-audio",
        rule="mean of 2",
        encoder_hz=50,
        tokens=_by_windows(_qwen2_audio),
    ),
    Adapter(
        name="voxtral",
        rule="4 stacked, of filled windows of 30 s",
        encoder_hz=50,
        tokens=lambda samples: pooled(samples, _WINDOW) * 375,
    ),
    Adapter(
        name="ultravox",
        rule="8 stacked",
        encoder_hz=50,
        tokens=_by_windows(lambda samples: pooled(_frames(samples), 16)),
    ),
    Adapter(
        name="granite-speech",
        rule="Q-Former, 3 queries for 15",
        encoder_hz=50,
        tokens=_granite,
    ),
    Adapter(
        name="salmonn",
        rule="Q-Former, 1 query for 17, of filled windows of 30 s",
        encoder_hz=50,
        tokens=lambda samples: pooled(samples, _WINDOW) * queried_within(1500, 17),
    ),
    Adapter(
        name="seamless-m4t-v2",
        rule="convolution of 8",
        encoder_hz=50,
        tokens=_seamless,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A recording and who is to hear it: `context` positions, text of `words` a minute.

    A word is `text_tokens` tokens of text (about 4 for 3 words of English).
    """

    model: LanguageModel
    seconds: float = 60.0
    context: int = 8192
    words: float = 150.0
    text_tokens: float = 4 / 3

    def row(self, what: str, rule: str, tokens: int, positions: int) -> dict[str, Cell]:
        """What so many tokens at so many positions cost."""
        minutes = self.seconds / 60
        text = self.words * self.text_tokens * minutes
        cache = self.model.cache_bytes(positions) / 2**20
        return {
            "what": what,
            "rule": rule,
            "tokens": tokens,
            "tokens_per_minute": tokens / minutes,
            "per_text": tokens / text,
            "positions": positions,
            "share": 100 * positions / self.context,
            "fits_min": minutes * self.context / positions if positions else None,
            "cache_per_second_mib": cache / self.seconds,
            "cache_mib": cache,
        }

    def rows(self) -> list[dict[str, Cell]]:
        """Text, every adapter, and every codec flat and delayed."""
        text = ceil(self.words * self.text_tokens * self.seconds / 60)
        told = f"{self.words:g} words a minute"
        rows = [self.row("text", told, text, text)]
        for one in ADAPTERS:
            count = one.tokens(round(self.seconds * RATE))
            row = self.row(one.name, one.rule, count, count)
            rows.append(row | {"encoder_hz": one.encoder_hz})
        for card in CATALOG:
            if card.task == "codec" and card.vocabularies:
                rate = TokenRate(
                    frame_rate=card.frame_rate,
                    codebooks=len(card.vocabularies),
                    vocabularies=card.vocabularies,
                    strides=card.strides,
                )
                rows += self.codes(card.name, rate)
        return rows

    def codes(self, name: str, rate: TokenRate) -> list[dict[str, Cell]]:
        """Codes one after another, or all of a frame in one step, those of each book a step late.

        One codebook is both.
        """
        tokens, frames = rate.tokens(self.seconds), rate.frames(self.seconds)
        rule = f"{rate.codebooks} codebooks, "
        flat = self.row(name, f"{rule}flat", tokens, tokens)
        if rate.codebooks == 1:
            return [flat]
        delayed = self.row(name, f"{rule}delayed", tokens, frames + rate.codebooks - 1)
        return [flat, delayed]


def language_model(name: str, numbers: str = "bfloat16") -> LanguageModel:
    """A known decoder, or `LAYERSxHEADSxFEATURES`. UsageError: neither."""
    sizes = LANGUAGE_MODELS.get(name)
    if sizes is None:
        parts = name.split("x")
        if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
            known = ", ".join(LANGUAGE_MODELS)
            raise UsageError(f"--llm {name!r}", hint=f"{known}, or LAYERSxHEADSxFEATURES: 32x8x128")
        layers, heads, features = map(int, parts)
        sizes = layers, heads, features
    return LanguageModel(layers=sizes[0], kv_heads=sizes[1], head_dim=sizes[2], kv_dtype=numbers)
