"""Sound that was kept: speech gone on from, or any heard again from its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from alm_cli.catalog import CATALOG
from alm_cli.errors import InputError, ModelError
from alm_cli.files.audio import read_audio
from alm_cli.files.tokens import TOKEN_SUFFIX, iter_tokens, read_tokens
from alm_cli.nn.resample import resampled
from alm_cli.systems.codec import Codec, load_codec
from alm_cli.systems.speaker import Speaker, Spoken
from alm_cli.systems.speech import Speech, joined
from alm_cli.text.lines import Piece
from alm_cli.values import Audio, Tokens


def clip_before(speaker: Speaker, clip: Path) -> Spoken:
    """A recording, or tokens, as what a speaker said last. InputError: it goes on from none."""
    name = getattr(speaker, "codec", None)
    if not isinstance(name, str):
        raise InputError(
            f"{speaker.name} cannot go on from a recording", hint="give it as --voice, perhaps"
        )
    codec = load_codec(name, device="cpu")
    if clip.suffix.lower() == TOKEN_SUFFIX:
        tokens = read_tokens(clip)
        if not isinstance(tokens, Tokens) or tokens.origin.codec != codec.name:
            raise InputError(f"{clip}: made by {tokens.origin.codec}", hint=f"it must be {name}")
        return Spoken(samples=codec.decode(tokens).samples[0], tokens=tokens)
    audio = read_audio(clip)
    mono = audio.samples.mean(0, dtype=np.float64).astype(np.float32)
    if audio.rate != speaker.rate:
        mono = resampled(torch.from_numpy(mono)[None], audio.rate, speaker.rate)[0].numpy()
    if not len(mono):
        raise InputError(f"{clip}: holds no audio")
    return Spoken(samples=mono, tokens=codec.encode(Audio(mono[None], speaker.rate)))


def replayed(path: Path, device: str = "auto") -> Speech:
    """The sound of the tokens of one text after another, with the pauses noted in them.

    InputError: they are of a codec that is not in the catalogue, or features.
    """
    pieces, spoken, rate = list[Piece](), list[Spoken](), 0
    for tokens, audio in _decoded(path, device):
        rate = audio.rate
        pieces.append(Piece(tokens.origin.notes.get("text") or "-", _pause(tokens), exact=True))
        spoken.append(Spoken(samples=audio.samples.mean(0), tokens=tokens))
    return joined(pieces, spoken, rate)


def heard_again(path: Path, device: str = "auto") -> Audio:
    """The sound of all tokens in a file, one recording after another. InputError: as `replayed`."""
    parts = [audio for _, audio in _decoded(path, device)]
    if len({part.channels for part in parts}) > 1:
        raise InputError(f"{path}: holds recordings of different channels")
    return Audio(np.concatenate([part.samples for part in parts], 1), parts[0].rate)


def _decoded(path: Path, device: str) -> Iterator[tuple[Tokens, Audio]]:
    """Recordings in a token file, at least one, and how they sound, all of one rate."""
    codecs: dict[str, Codec] = {}
    rate = 0
    for tokens in _recordings(path):
        name = tokens.origin.codec
        # A path, too, may stand in a file that somebody sent.
        if all(card.name != name for card in CATALOG):
            raise ModelError(
                f"{path}: made by {name!r}, which alm does not know",
                hint=f"`alm decode {path} --model FOLDER --force` takes the folder of that codec"
                + (", facebook/encodec_32khz of the hub" if name == "encodec-32khz" else ""),
            )
        codecs[name] = codecs.get(name) or load_codec(name, device=device)
        audio = codecs[name].decode(tokens)
        if rate and audio.rate != rate:
            raise InputError(f"{path}: holds recordings of different rates")
        rate = audio.rate
        yield tokens, audio
    if not codecs:
        raise InputError(f"{path}: holds no tokens")


def _recordings(path: Path) -> Iterator[Tokens]:
    """The recordings in a token file, each in one piece."""
    try:
        with path.open("rb") as file:
            for tokens in iter_tokens(file, name=str(path)):
                if not isinstance(tokens, Tokens):
                    raise InputError(f"{path}: holds features, which no codec here decodes")
                if tokens.origin.segment or not tokens.origin.final:
                    raise InputError(f"{path}: tokens in segments", hint="`alm decode` takes these")
                yield tokens
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def _pause(tokens: Tokens) -> float:
    """The pause that was noted; what makes no sense is none."""
    try:
        seconds = float(tokens.origin.notes.get("pause_s", "0"))
    except ValueError:
        return 0.0
    return seconds if 0 <= seconds <= 3600 else 0.0
