"""Facts about audio, tokens, models and plans: gathered as a dictionary, shown as lines."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from alm_cli.catalog import ModelCard, find_card
from alm_cli.errors import InputError, ModelError
from alm_cli.planning import PCM_BITS, LanguageModel, TokenRate, positions

Facts = dict[str, Any]

# Key -> label and unit, in the order in which they are shown.
_LABELS = {
    "kind": ("kind", ""),
    "container": ("format", ""),
    "codec": ("codec", ""),
    "note": ("about", ""),
    "items": ("items", ""),
    "done": ("items done", ""),
    "failed": ("items failed", ""),
    "shards": ("shards", ""),
    "shards_finished": ("shards finished", ""),
    "rate": ("sample rate", "Hz"),
    "channels": ("channels", ""),
    "bytes": ("file size", "bytes"),
    "frame_rate": ("frame rate", "Hz"),
    "codebooks": ("codebooks", ""),
    "dimensions": ("dimensions", ""),
    "streams": ("streams", ""),
    "vocabulary": ("vocabulary", ""),
    "bits_per_frame": ("bits per frame", ""),
    "kbps": ("bitrate", "kbps"),
    "kbps_on_disk": ("bitrate on disk", "kbps"),
    "pcm_kbps": ("bitrate as 16-bit PCM", "kbps"),
    "pcm_ratio": ("smaller than 16-bit PCM", "times"),
    "tokens_per_second": ("tokens per second", ""),
    "tokens_per_minute": ("tokens per minute", ""),
    "seconds": ("length", "s"),
    "frames": ("length in frames", "frames"),
    "tokens": ("length in tokens", "tokens"),
    "positions": ("context used", "positions"),
    "context": ("context of the model", "positions"),
    "context_seconds": ("audio that fits", "s"),
    "kv_cache_bytes": ("key-value cache", "bytes"),
    "parameters": ("parameters", ""),
    "weights_sha256": ("weights", ""),
    "source": ("source", ""),
    "licence": ("licence", ""),
    "needs": ("needs", ""),
    "restricted": ("restricted", ""),
    "voices": ("voices", ""),
    "longest": ("longest line", "characters"),
    "program": ("made by", ""),
}


@dataclass(frozen=True, kw_only=True)
class Reader:
    """The language model that shall read the tokens; `context` is how many positions it has."""

    compression: float = 1.0
    model: LanguageModel | None = None
    context: int | None = None


def show(facts: Mapping[str, Any]) -> str:
    """Facts as lines for people."""
    lines = []
    for key, (label, unit) in _LABELS.items():
        if key in facts:
            value = facts[key]
            text = f"{round(value, 3)}" if isinstance(value, float) else f"{value}"
            if key.endswith("bytes") and value >= 1024:
                text = f"{_binary(value)}, {text}"
            lines.append(f"  {label:<25}{text} {unit}".rstrip())
    return "\n".join(lines)


def rate_facts(rate: TokenRate) -> Facts:
    """A token format."""
    facts: Facts = {"frame_rate": rate.frame_rate, "codebooks": rate.codebooks}
    if rate.streams > 1:
        facts["streams"] = rate.streams
    if rate.vocabularies:
        sizes = sorted(set(rate.vocabularies))
        facts["vocabulary"] = sizes[0] if len(sizes) == 1 else list(rate.vocabularies)
        facts |= {"bits_per_frame": rate.bits_per_frame, "kbps": round(rate.kbps, 6)}
    facts["tokens_per_second"] = rate.tokens_per_second
    facts["tokens_per_minute"] = rate.tokens_per_second * 60
    return facts


def plan_facts(rate: TokenRate, seconds: float | None, reader: Reader | None) -> Facts:
    """What `seconds` of audio come to, and what they cost a language model."""
    facts: Facts = {}
    if seconds is not None:
        facts |= {"seconds": round(seconds, 6), "frames": rate.frames(seconds)}
        facts["tokens"] = rate.tokens(seconds)
    if reader is None:
        return facts
    if reader.context is not None:
        per_second = rate.tokens_per_second / reader.compression
        facts |= {"context": reader.context, "context_seconds": reader.context / per_second}
    if seconds is not None:
        facts["positions"] = positions(facts["tokens"], reader.compression)
        if reader.model is not None:
            facts["kv_cache_bytes"] = reader.model.cache_bytes(facts["positions"])
    return facts


def card_rate(card: ModelCard, codebooks: int | None = None) -> TokenRate:
    """The token format of a catalogued codec, with its first `codebooks`.

    Features count as one token a frame, as they do for the model that reads them.
    """
    sizes = card.vocabularies[:codebooks]
    return TokenRate(
        frame_rate=card.frame_rate,
        codebooks=len(sizes) or 1,
        vocabularies=sizes,
        strides=card.strides[:codebooks],
    )


def card_facts(card: ModelCard) -> Facts:
    """A catalogued model."""
    # What recognisers write is text, however they write it.
    tokens = card.task not in ("recogniser", "part")
    others = map(find_card, card.needs)
    return {
        "kind": card.task if card.task in ("recogniser", "speaker", "composer") else "model",
        "name": card.name,
        "note": card.note,
        "rate": card.rate,
        **(_sizes(card_rate(card), card.rate, 1, card.dimension) if tokens else {}),
        "parameters": card.parameters,
        "source": card.source or "a formula, without weights",
        "licence": card.licence,
        **({"needs": ", ".join(f"{o.name} ({o.licence})" for o in others)} if card.needs else {}),
        **({"restricted": _restriction(card)} if card.restricted else {}),
    }


def _restriction(card: ModelCard) -> str:
    from alm_cli.checkpoints.licences import is_accepted

    accepted = "accepted" if is_accepted(card) else "to be accepted with --accept-license"
    return f"not for every use; {accepted}"


def _sizes(rate: TokenRate, sample_rate: int, channels: int, dimension: int) -> Facts:
    """What a frame of a model comes to, be it codes or features."""
    facts = rate_facts(rate)
    if rate.vocabularies:
        return facts | {"pcm_ratio": rate.pcm_ratio(sample_rate, channels)}
    return facts | {"codebooks": 0, "dimensions": dimension}


def facts_of(name: str, rate: TokenRate, reader: Reader | None) -> Facts:
    """A recording (at the token `rate`), tokens in a file or in shards, or a model."""
    from alm_cli.commands.shard_facts import is_shard, shard_facts

    path = Path(name)
    if is_shard(path):
        return shard_facts(path)
    if not path.exists() and os.sep not in name:
        try:
            return card_facts(find_card(name))
        except ModelError as error:
            raise InputError(f"{name}: neither a file nor a model", error.hint) from error
    if path.is_dir() or path.suffix == ".safetensors":
        return _model_facts(name)
    if holds_tokens(path):
        return _token_facts(path, reader)
    return _audio_facts(path, rate, reader)


def holds_tokens(path: Path) -> bool:
    """Whether a file is a token file, by its suffix or, where that says nothing, its start."""
    from alm_cli.files.audio import AUDIO_SUFFIXES
    from alm_cli.files.tokens import TOKEN_SUFFIX

    suffix = path.suffix.lower()
    if suffix == TOKEN_SUFFIX or suffix in AUDIO_SUFFIXES or not path.is_file():
        return suffix == TOKEN_SUFFIX
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _audio_facts(path: Path, rate: TokenRate, reader: Reader | None) -> Facts:
    from alm_cli.files.audio import probe_audio

    info = probe_audio(path)
    facts: Facts = {
        "kind": "audio",
        "container": info.container,
        "rate": info.rate,
        "channels": info.channels,
        "bytes": info.bytes,
        "pcm_kbps": info.rate * info.channels * PCM_BITS / 1000,
    }
    seconds = info.seconds if info.length is None else info.length / info.rate
    facts |= rate_facts(rate) | plan_facts(rate, seconds, reader)
    if rate.vocabularies:
        facts["pcm_ratio"] = rate.pcm_ratio(info.rate, info.channels)
    return facts


def _token_facts(path: Path, reader: Reader | None) -> Facts:
    from alm_cli.files.tokens import probe_tokens

    info = probe_tokens(path)
    origin, seconds = info.origin, info.origin.seconds
    rate = TokenRate(
        frame_rate=origin.frame_rate,
        codebooks=info.codebooks,
        strides=origin.strides,
        vocabularies=origin.vocabularies,
        streams=info.streams,
    )
    facts: Facts = {
        "kind": info.kind,
        "codec": origin.codec,
        "rate": origin.source_rate,
        "channels": origin.source_channels,
        "bytes": info.file_bytes,
        **rate_facts(rate),
        **plan_facts(rate, seconds, reader),
        "frames": info.frames,
        "tokens": ceil(info.frames * rate.codes_per_frame),
        "segments": info.segments,
        "weights_sha256": origin.weights_sha256,
        "program": info.program,
    }
    if info.dimensions:
        facts["dimensions"] = info.dimensions
    if seconds:
        pcm = origin.source_rate * origin.source_channels * PCM_BITS / 1000
        facts["pcm_kbps"] = pcm
        facts["kbps_on_disk"] = info.file_bytes * 8 / 1000 / seconds
        facts["pcm_ratio"] = pcm / facts["kbps_on_disk"]
    return facts


def _model_facts(name: str) -> Facts:
    from alm_cli.systems.codec import load_codec

    try:
        codec = load_codec(name, device="cpu")
    except ModelError:
        for facts in (_speaker_facts, _composer_facts):
            with suppress(ModelError):
                return facts(name)
        raise
    sizes = codec.vocabularies
    rate = TokenRate(
        frame_rate=codec.frame_rate,
        codebooks=len(sizes) or 1,
        vocabularies=sizes,
        strides=codec.strides,
    )
    dimension = 0 if sizes else codec.model.dimension
    return {
        "kind": "model",
        "name": codec.name,
        "rate": codec.rate,
        "channels": codec.channels,
        **_sizes(rate, codec.rate, codec.channels, dimension),
        "weights_sha256": codec.weights_sha256,
    }


def _speaker_facts(name: str) -> Facts:
    from alm_cli.systems.speaker import load_speaker

    speaker = load_speaker(name, device="cpu")
    return {
        "kind": "speaker",
        "name": speaker.name,
        "rate": speaker.rate,
        "voices": ", ".join(speaker.voices) or "recordings",
        "longest": speaker.longest,
        "weights_sha256": speaker.weights_sha256,
    }


def _composer_facts(name: str) -> Facts:
    from alm_cli.systems.composer import load_composer

    composer = load_composer(name, device="cpu")
    return {
        "kind": "composer",
        "name": composer.name,
        "rate": composer.rate,
        "channels": composer.channels,
        "codec": composer.codec,
        "weights_sha256": composer.weights_sha256,
    }


def _binary(count: int) -> str:
    """Bytes in binary units: `96.0 MiB`."""
    size, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.1f} {units[0]}"
