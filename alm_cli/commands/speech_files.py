"""What `alm speak` writes beside the sound: its tokens, and when what is said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from alm_cli.errors import InputError
from alm_cli.jobs.sinks import fresh_file

if TYPE_CHECKING:
    from alm_cli.systems.speech import Said
    from alm_cli.values import Latents, Segment, Tokens

# Transcripts that tell the times of words; subtitles show whole pieces.
_WITH_WORDS = frozenset({"json", "jsonl", "textgrid"})


@dataclass(frozen=True)
class Outputs:
    """Where the sound goes (None: standard output), the tokens, and the times, by format."""

    sound: Path | None
    tokens: Path | None
    timestamps: tuple[str, ...]

    @property
    def times(self) -> dict[str, Path]:
        """The file for each format of times."""
        if self.sound is None:
            return {}
        return {name: self.sound.with_suffix(f".{name}") for name in self.timestamps}

    @property
    def tell_words(self) -> bool:
        """Whether any of the formats holds the times of words."""
        return not _WITH_WORDS.isdisjoint(self.timestamps)

    @property
    def further(self) -> list[Path]:
        """All files but that of the sound."""
        return [*self.times.values(), *([] if self.tokens is None else [self.tokens])]

    @property
    def all(self) -> list[Path]:
        """All files."""
        return [*([] if self.sound is None else [self.sound]), *self.further]

    def write(self, pieces: Sequence[Said], model: str, weights_sha256: str) -> None:
        """Write tokens and times. InputError: the model has no tokens to keep."""
        from alm_cli.files.transcripts import About, render

        for format, path in self.times.items():
            about = About(
                file=str(self.sound),
                model=model,
                weights_sha256=weights_sha256,
                words=format in _WITH_WORDS,
            )
            with fresh_file(path) as fresh, fresh.open("w", encoding="utf-8") as file:
                file.writelines(render(format, map(_segment, pieces), about))
        if self.tokens is not None:
            from alm_cli.files.tokens import to_bytes

            parts = [to_bytes(tokens) for tokens in _tokens(pieces, model)]
            with fresh_file(self.tokens) as fresh:
                fresh.write_bytes(b"".join(parts))


def _segment(piece: Said) -> Segment:
    from alm_cli.values import Segment

    return Segment(
        start_s=piece.start_s, end_s=piece.end_s, text=f" {piece.text}", words=piece.words
    )


def _tokens(pieces: Sequence[Said], model: str) -> Iterator[Tokens | Latents]:
    """The tokens of each piece, with its text and the pause after it among the notes."""
    for piece in pieces:
        tokens = piece.spoken.tokens
        if tokens is None:
            raise InputError(f"{model} speaks without tokens", hint="do without --save-tokens")
        notes = {"text": piece.text, "pause_s": repr(piece.pause_s)}
        origin = replace(tokens.origin, notes={**tokens.origin.notes, **notes})
        yield replace(tokens, origin=origin)
