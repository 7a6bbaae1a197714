"""Audio tokens: `alm` on the command line, and the same in Python under the names below.

tokens = alm_cli.load_codec().encode(alm_cli.read_audio("talk.wav"))
codes = alm_cli.read_tokens("talk.alm").codes
text = alm_cli.load_transcriber("alm-asr").transcribe(alm_cli.read_audio("talk.wav")).text
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alm_cli.errors import AlmError, FormatError, InputError, ModelError, UsageError
    from alm_cli.files.audio import open_audio, open_writer, read_audio
    from alm_cli.files.shards import open_shards, read_shard
    from alm_cli.files.tokens import iter_tokens, read_tokens, write_tokens
    from alm_cli.systems.codec import Codec, load_codec
    from alm_cli.systems.transcriber import TranscribeAsk, Transcriber, load_transcriber
    from alm_cli.values import Audio, Latents, Origin, Segment, Tokens, Transcript, Word

__version__ = "0.1.0"

__all__ = [
    "AlmError",
    "Audio",
    "Codec",
    "FormatError",
    "InputError",
    "Latents",
    "ModelError",
    "Origin",
    "Segment",
    "Tokens",
    "TranscribeAsk",
    "Transcriber",
    "Transcript",
    "UsageError",
    "Word",
    "__version__",
    "iter_tokens",
    "load_codec",
    "load_transcriber",
    "open_audio",
    "open_shards",
    "open_writer",
    "read_audio",
    "read_shard",
    "read_tokens",
    "write_tokens",
]

_HOMES = {
    "alm_cli.errors": ("AlmError", "FormatError", "InputError", "ModelError", "UsageError"),
    "alm_cli.files.audio": ("open_audio", "open_writer", "read_audio"),
    "alm_cli.files.shards": ("open_shards", "read_shard"),
    "alm_cli.files.tokens": ("iter_tokens", "read_tokens", "write_tokens"),
    "alm_cli.systems.codec": ("Codec", "load_codec"),
    "alm_cli.systems.transcriber": ("TranscribeAsk", "Transcriber", "load_transcriber"),
    "alm_cli.values": (
        *("Audio", "Latents", "Origin", "Tokens"),
        *("Segment", "Transcript", "Word"),
    ),
}


def __getattr__(name: str) -> object:
    """A public name, imported on first use, so that `import alm_cli` costs nothing."""
    for home, names in _HOMES.items():
        if name in names:
            value: object = getattr(import_module(home), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
