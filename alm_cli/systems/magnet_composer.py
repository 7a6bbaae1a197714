"""MAGNeT as a composer: a text, ten or thirty seconds of codes at once, and EnCodec at the end."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alm_cli.checkpoints.fetch import fetch
from alm_cli.checkpoints.load import Loaded
from alm_cli.decoding.masked import annealed, fill, magnet_looks
from alm_cli.decoding.sampling import Sampling
from alm_cli.errors import InputError, ModelError
from alm_cli.lm.magnet import Magnet, guided
from alm_cli.nn.t5 import T5Encoder, round_text
from alm_cli.runtime import inference, seeded
from alm_cli.systems.ahead import one_core_each
from alm_cli.systems.audiocraft_parts import codec_beside, text_reader
from alm_cli.systems.codec import Codec
from alm_cli.systems.composer import Music, Piece
from alm_cli.systems.placing import placed
from alm_cli.systems.spoken_codes import sound, spoken_origin, whole
from alm_cli.text.t5_text import T5Text
from alm_cli.values import Tokens

Samples = NDArray[np.float32]

# The looks at each codebook, the guidance of the first of them and of the last: as `audiocraft`
# has them where it is not told otherwise, for all its models.
_LOOKS = (20, 10, 10, 10)
_FEWER = 10
_GUIDANCE = (10.0, 1.0)
_SAMPLING = Sampling(temperature=3.0, top_p=0.9)


class MagnetComposer:
    """A loaded MAGNeT; nothing about it changes after loading.

    It makes a clip of one length, of which a shorter piece is the beginning. Codes come in spans,
    so a clip may end some frames early (10 s have 9.96 s of music); silence fills it up. The
    guidance of a piece is that of the first look, and falls to 1; its temperature falls to 0.
    """

    channels = 1
    scores = False

    def __init__(
        self,
        model: Magnet,
        reader: T5Encoder,
        text: T5Text,
        codec: Codec,
        *,
        name: str,
        weights_sha256: str,
    ) -> None:
        self.name, self.weights_sha256 = name, weights_sha256
        self.rate, self.codec = codec.rate, codec.name
        self.longest = model.config.seconds
        self._frames = int(self.longest * codec.frame_rate)
        if self._frames < model.config.span:
            raise ModelError(f"{name}: {self.longest} s at a time, too little for {codec.name}")
        self._model, self._reader, self._text, self._codec = model, reader, text, codec

    def check(self, piece: Piece) -> tuple[str, ...]:
        """See `Composer`; there is no melody, no going on, no loop, and nothing longer."""
        lacks = {
            "follows no melody": piece.melody is not None,
            "does not go on from a recording": piece.past is not None,
            "makes no loops": piece.loop,
        }
        for lack in (lack for lack, asked in lacks.items() if asked):
            raise InputError(f"{self.name} {lack}", hint="`alm models` lists other composers")
        if piece.seconds > self.longest:
            raise InputError(
                f"{piece.seconds:g} s, where {self.name} makes {self.longest} s at most"
            )
        if piece.top_k and piece.top_p not in (None, 1.0):
            raise InputError(f"{self.name} draws by top-k or by top-p", hint="give one of them")
        self._text.ids(piece.prompt)
        unknown = self._text.unknown(piece.prompt)
        return (f"{self.name} cannot read {', '.join(unknown)}",) if unknown else ()

    def compose(self, pieces: Sequence[Piece]) -> list[Music]:
        """See `Composer`; one after another, since a clip fills the machine by itself."""
        for piece in pieces:
            self.check(piece)
        return [self._music(piece) for piece in pieces]

    def stream(self, piece: Piece) -> Generator[Samples, None, Music]:
        """See `Composer`; nothing is known before all of it is."""
        self.check(piece)
        music = self._music(piece)
        yield music.samples
        return music

    def _music(self, piece: Piece) -> Music:
        samples = round(piece.seconds * self.rate)
        with inference():
            codes = self._codes(piece)[:, : max(1, -(-samples // self._codec.hop))]
            tokens = self._tokens(piece, codes)
            made = whole(sound(self._codec, tokens))[:samples]
        filled = np.pad(made, (0, samples - len(made)))
        return Music(samples=filled[None], tokens=tokens)

    def _tokens(self, piece: Piece, codes: Tensor) -> Tokens:
        """codes [K, F] with where they come from."""
        codec, (books, frames) = self._codec, codes.shape
        length = min(round(piece.seconds * self.rate), frames * codec.hop)
        notes = {"model": self.name, "seed": str(piece.seed), "text": piece.prompt}
        origin = spoken_origin(
            codec, codec.name, codec.weights_sha256, books=books, length=length, notes=notes
        )
        return Tokens(codes.cpu().numpy().astype(np.int32)[None], origin)

    def _codes(self, piece: Piece) -> Tensor:
        """codes [K, F] of a whole clip."""
        model, device = self._model, self._codec.device
        first, last = piece.guidance if piece.guidance is not None else _GUIDANCE[0], _GUIDANCE[1]
        how = piece.sampling(_SAMPLING)
        if piece.top_k:
            how = replace(how, top_p=1.0)
        # What it hears is little, and rounds otherwise where several cores share it.
        with one_core_each():
            ids = torch.tensor([self._text.ids(piece.prompt)], device=device)
            heard = model.listen(self._reader(ids, torch.ones_like(ids)))

        def predict(codes: Tensor, book: int, masked: float) -> Tensor:
            if first == last == 1:
                return model(codes, book, heard)
            told, untold = model(codes.repeat(2, 1, 1), book, heard).float()
            return guided(told, untold, annealed(masked, first, last))[None]

        books = model.config.books
        looks = (*_LOOKS, *[_FEWER] * books)[:books]
        return fill(
            predict,
            torch.full((1, books, self._frames), model.mask, device=device),
            [magnet_looks(count, how.temperature) for count in looks],
            how,
            [seeded(piece.seed, device)],
            span=model.config.span,
        )[0]


def composer(
    loaded: Loaded, source: str | Path, *, device: torch.device, dtype: str = "float32"
) -> MagnetComposer:
    """A composer of a loaded MAGNeT, from its card or from the folder or file `source`.

    Beside the weights lie those of EnCodec; T5 lies in a folder there that has its name, or comes
    from the catalogue. `dtype` may also be "int8", for the linear maps on a processor; the codec
    stays in float32, and so does T5, whose weights alone are rounded then. ModelError: a part is
    missing, or does not go with the others.
    """
    path = fetch(loaded.card) if loaded.card else Path(source).expanduser()
    folder = path if path.is_dir() else path.parent
    model = loaded.model
    assert isinstance(model, Magnet)
    config = model.config
    reader, text = text_reader(folder, config.text_encoder, config.text_dimension, device)
    placed(model, device, dtype)
    if dtype == "int8":
        round_text(reader)
    return MagnetComposer(
        model,
        reader,
        text,
        codec_beside(folder, (config.vocabulary,) * config.books, device),
        name=loaded.name,
        weights_sha256=loaded.weights_sha256,
    )
