"""MusicGen as a composer: words, a melody, what was played before, and EnCodec at the end.

On a GPU the pieces of a batch take their steps together. On a CPU they are made one by one: no
matrix product there rounds a row as it does with other rows beside it, and a draw that flips is
another piece.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from alm_cli.checkpoints.fetch import fetch
from alm_cli.checkpoints.load import Loaded, build
from alm_cli.checkpoints.parts import part_of
from alm_cli.checkpoints.reader import Checkpoint, open_checkpoint
from alm_cli.codecs.encodec import FAMILY as ENCODEC
from alm_cli.decoding.sampling import Sampling
from alm_cli.errors import InputError, ModelError
from alm_cli.lm.musicgen import MusicGen
from alm_cli.nn.chroma import HOP, RATE
from alm_cli.nn.rounded import RoundedEmbedding, take_from_file
from alm_cli.nn.t5 import round_text
from alm_cli.runtime import give_back, inference
from alm_cli.systems.ahead import in_turn, one_core_each
from alm_cli.systems.audiocraft_parts import CodecBeside, codec_beside, text_reader
from alm_cli.systems.codec import Codec, CodecModel
from alm_cli.systems.composer import Music, Piece, Samples
from alm_cli.systems.followed import followed
from alm_cli.systems.musicgen_engine import STRIDE_S, WINDOW_S, Engine, Work
from alm_cli.systems.placing import placed
from alm_cli.systems.spoken_codes import spoken_origin
from alm_cli.text.t5_text import T5Text, load_t5_text
from alm_cli.values import Audio, Origin, Tokens

_CODEC = "encodec-32khz"
# As AudioCraft does; `transformers` keeps the 50 likeliest unless told otherwise.
_USUAL, _GUIDANCE = Sampling(top_k=250), 3.0
# Frames of the first blocks of a stream, and of all later ones.
_BLOCKS = (25, 50, 100)
# More of a recording than is gone on from, so that the codec has heard something before.
_BEFORE_S = 2


class MusicGenComposer:
    """A loaded MusicGen; nothing about it changes after loading."""

    scores = False

    def __init__(
        self,
        model: MusicGen,
        text: T5Text,
        codecs: Codecs | CodecBeside,
        name: str,
        weights_sha256: str,
        cache: torch.dtype | None = None,
    ) -> None:
        """`cache` is the number type in which keys and values are kept, if another one."""
        config, codec = model.config, codecs.decoder
        self.name, self.weights_sha256 = name, weights_sha256
        self.rate, self.channels, self.codec = codec.rate, config.channels, codec.name
        self.model, self._text, self._codecs = model, text, codecs
        self._device = model.decoder.norm.weight.device
        # A model that was trained on other lengths goes on in windows of its own.
        shares = (config.seconds, config.seconds * STRIDE_S / WINDOW_S)
        window, stride = (round(s * codec.frame_rate) for s in shares)
        rate = RATE / HOP / codec.frame_rate
        self._engine = Engine(model, window=window, stride=stride, melody_rate=rate, cache=cache)
        self._before = window - stride

    def check(self, piece: Piece) -> tuple[str, ...]:
        """See `Composer`: words that T5 has no pieces for have no effect."""
        if piece.loop:
            raise InputError(f"{self.name} makes no loops", hint="alm-music does")
        if piece.melody is not None and not self.model.config.melody:
            raise InputError(
                f"{self.name} follows no melody", hint="musicgen-melody and its kin do"
            )
        if not self._samples(piece):
            raise InputError(f"{piece.seconds} s are less than a sample")
        if isinstance(piece.past, Audio) and not piece.past.length:
            raise InputError("there is nothing to go on from")
        if isinstance(piece.past, Tokens):
            self._check_tokens(piece.past)
        piece.sampling(_USUAL)
        self._text.ids(piece.prompt)
        unknown = self._text.unknown(piece.prompt)
        return tuple(f"{self.name} does not know {what!r}" for what in unknown)

    def compose(self, pieces: Sequence[Piece]) -> list[Music]:
        """See `Composer`."""
        works = [self._work(piece) for piece in pieces]
        made: list[Music | None] = [None] * len(pieces)
        for rows in self._groups(works):
            frames = in_turn(self._engine.frames([works[row] for row in rows]))
            if len(rows) == 1:
                made[rows[0]] = _whole(self._streamed(pieces[rows[0]], works[rows[0]], frames))
                continue
            codes = torch.stack(list(frames))
            for row, own in zip(rows, codes.unbind(1), strict=True):
                kept = iter(own[: works[row].frames, None])
                made[row] = _whole(self._streamed(pieces[row], works[row], kept))
        return cast("list[Music]", made)

    def stream(self, piece: Piece) -> Generator[Samples, None, Music]:
        """See `Composer`; the first half second is heard after some 30 steps."""
        # What cannot be made is refused at once, not with the first samples.
        work = self._work(piece)
        return self._streamed(piece, work, in_turn(self._engine.frames([work])))

    def ids(self, prompt: str) -> list[int]:
        """The numbers of a prompt's tokens. InputError: nothing is in it, or too much."""
        return self._text.ids(prompt)

    def codes(self, piece: Piece) -> Tensor:
        """The codes [K, F] of a piece, without what they sound like. InputError: see `Composer`."""
        work = self._work(piece)
        return torch.cat(list(in_turn(self._engine.frames([work])))).T

    def logits(self, piece: Piece, codes: Tensor) -> Tensor:
        """codes [1, K, F] as if they were those of a piece -> logits [F, K, V] of each frame."""
        work = self._work(piece)
        with inference():
            return self._engine.logits(work, codes)

    def _groups(self, works: Sequence[Work]) -> Iterator[list[int]]:
        """Which works are made together."""
        alike: dict[object, list[int]] = {}
        for row, work in enumerate(works):
            alone = self._device.type == "cpu"
            alike.setdefault(row if alone else self._engine.kind(work), []).append(row)
        return iter(alike.values())

    def _streamed(
        self, piece: Piece, work: Work, frames: Iterator[Tensor]
    ) -> Generator[Samples, None, Music]:
        """The samples of a piece, from codes [1, K] of its frames."""
        sound = _Sound(self._codecs.decoder, self._by_channel(work.past), self._origin(piece))
        blocks: list[Samples] = []
        for codes in frames:
            for block in sound.push(self._by_channel(codes.T)):
                blocks.append(block)
                yield block
        for block in sound.finish():
            blocks.append(block)
            yield block
        return Music(samples=np.concatenate(blocks, 1), tokens=sound.tokens)

    def _work(self, piece: Piece) -> Work:
        """A piece as the model takes it. InputError: see `check`."""
        self.check(piece)
        with inference():
            ids = torch.tensor([self._text.ids(piece.prompt)], device=self._device)
            melody = None
            if piece.melody is not None:
                # A piece of several windows hears more of the melody than one of them has.
                longest = max(self.model.config.seconds, piece.seconds)
                melody = followed(piece.melody, longest).to(self._device)
            return Work(
                words=self.model.memory(ids, torch.ones_like(ids)),
                past=self._past(piece.past),
                frames=-(-self._samples(piece) // self._codecs.decoder.hop),
                melody=melody,
                how=piece.sampling(_USUAL),
                guidance=_GUIDANCE if piece.guidance is None else piece.guidance,
                seed=piece.seed,
            )

    def _samples(self, piece: Piece) -> int:
        return round(piece.seconds * self.rate)

    def _past(self, past: Audio | Tokens | None) -> Tensor:
        """The last codes [K, P] of what is gone on from."""
        if past is None:
            none = torch.zeros(self.model.config.books, 0, dtype=torch.long)
            return none.to(self._device)
        if isinstance(past, Audio):
            kept = round((self._before / self._codecs.decoder.frame_rate + _BEFORE_S) * past.rate)
            samples = past.samples[:, -kept:]
            if self.channels == 1 or past.channels != self.channels:
                samples = samples.mean(0, dtype=np.float64, keepdims=True).astype(np.float32)
            past = self._codecs.encoder.encode(
                Audio(samples, past.rate),
                codebooks=self.model.config.books // self.channels,
                channels="dual",
            )
        codes = torch.from_numpy(past.codes[:, :, -self._before :].astype(np.int64))
        codes = codes.expand(self.channels, -1, -1)
        # Of two channels, the books stand beside one another.
        return codes.transpose(0, 1).flatten(0, 1).to(self._device)

    def _by_channel(self, codes: Tensor) -> Tensor:
        """codes [K, F] -> [S, K / S, F], a stream for each channel."""
        books = len(codes) // self.channels
        return codes.reshape(books, self.channels, codes.shape[1]).transpose(0, 1)

    def _check_tokens(self, tokens: Tokens) -> None:
        """InputError: they are not what the model writes."""
        books = self.model.config.books // self.channels
        if tokens.origin.codec != self.codec or tokens.codebooks < books or not tokens.frames:
            raise InputError(
                f"tokens of {tokens.origin.codec} with {tokens.codebooks} codebooks",
                hint=f"{self.name} goes on from {self.codec} with {books}",
            )
        if tokens.streams not in (1, self.channels):
            raise InputError(
                f"tokens of {tokens.streams} channels, where {self.name} has {self.channels}"
            )
        if not 0 <= tokens.codes.min() <= tokens.codes.max() < self.model.config.codes:
            raise InputError("codes outside the codebooks", hint="the tokens are damaged")

    def _origin(self, piece: Piece) -> Origin:
        """Where the tokens of a piece come from."""
        codec = self._codecs.decoder
        notes = {"model": self.name, "seed": str(piece.seed), "text": piece.prompt}
        origin = spoken_origin(
            codec,
            codec.name,
            codec.weights_sha256,
            books=self.model.config.books // self.channels,
            length=self._samples(piece),
            notes=notes | ({"channels": "dual"} if self.channels > 1 else {}),
        )
        return replace(origin, source_channels=self.channels)


class _Sound:
    """Codes of one frame after another -> samples [S, n], block by block, and tokens in the end.

    What was before is decoded too, so that the beginning follows it, and is no part of the result.
    """

    def __init__(self, codec: Codec, past: Tensor, origin: Origin) -> None:
        self._decoder, self._origin, self._past = codec.decoder(), origin, past
        self._waiting = [past]
        self._made: list[Tensor] = []
        self._segments = 0
        self._skip = past.shape[2] * codec.hop

    def push(self, codes: Tensor) -> Iterator[Samples]:
        """codes [S, K, 1] of the next frame."""
        block = _BLOCKS[min(self._segments, len(_BLOCKS) - 1)]
        past = self._past.shape[2] if not self._segments else 0
        # The last frame stays with the end, so that this has one.
        if sum(codes.shape[2] for codes in self._waiting) - past >= block:
            yield from self._decoded(final=False)
        self._waiting.append(codes)
        self._made.append(codes)

    def finish(self) -> Iterator[Samples]:
        """What is left."""
        yield from self._decoded(final=True)

    @property
    def tokens(self) -> Tokens:
        """All that was pushed."""
        return Tokens(_numbers(torch.cat(self._made, 2)), self._origin)

    def _decoded(self, *, final: bool) -> Iterator[Samples]:
        """The samples of the codes that wait."""
        codes, hop = torch.cat(self._waiting, 2), self._origin.hop
        before = self._past.shape[2] + len(self._made) - codes.shape[2]
        length = codes.shape[2] * hop
        if final:
            length = self._past.shape[2] * hop + self._origin.source_length - before * hop
        origin = replace(self._origin, source_length=length, segment=self._segments, final=final)
        self._waiting, self._segments = [], self._segments + 1
        # Convolutions round otherwise where they are shared among threads: one does all of it.
        with one_core_each():
            blocks = list(self._decoder.push(Tokens(_numbers(codes), origin)))
        for block in blocks:
            kept = block[:, self._skip :]
            self._skip = max(0, self._skip - block.shape[1])
            if kept.shape[1]:
                yield np.ascontiguousarray(kept)


class Codecs:
    """The codec of a checkpoint at `path`: half of it, and all of it when something is to be heard.

    ModelError: it is not in there, or not the one whose codes the model writes.
    """

    def __init__(self, model: MusicGen, path: Path, sha256: str, device: torch.device) -> None:
        self._settings: Mapping[str, object] = model.config.codec
        self._path, self._sha256, self._device = path, sha256, device
        self.decoder = self._codec(deaf=True)
        books, codes = model.config.books // model.config.channels, model.config.codes
        if self.decoder.vocabularies[:books] != (codes,) * books or self.decoder.channels != 1:
            raise ModelError(
                f"{path}: the codec has other codes than the model",
                hint="config.json and the weights must belong together",
            )

    @cached_property
    def encoder(self) -> Codec:
        """For what is gone on from."""
        return self._codec(deaf=False)

    def _codec(self, *, deaf: bool) -> Codec:
        checkpoint = part_of(open_checkpoint(self._path), "audio_encoder.")
        family = ENCODEC
        if deaf:
            shapes = {k: v for k, v in checkpoint.shapes.items() if not k.startswith("encoder.")}
            checkpoint = Checkpoint(shapes, checkpoint.files, checkpoint.read)
            family = replace(ENCODEC, model=_deaf)
        model = build(family, family.read_config(self._settings), checkpoint).to(self._device)
        return Codec(cast(CodecModel, model), _CODEC, self._sha256, device=self._device)


def _deaf(config: object) -> torch.nn.Module:
    """EnCodec without the half that hears, which takes as much memory as the other."""
    model = ENCODEC.model(config)
    del model.encoder
    return model


def composer(
    loaded: Loaded, source: str | Path, *, device: torch.device, dtype: str
) -> MusicGenComposer:
    """A composer of a loaded MusicGen, from its card or from the folder or file `source`.

    `dtype` may also be "int8", for the weights on a processor; keys and values are bfloat16 then.
    The codec stays in float32, and so does what the text encoder computes. In the layout of
    AudioCraft both lie beside the weights: see `audiocraft_parts`. ModelError: there is no
    tokenizer, or the codec is missing. UsageError: there is no int8 here.
    """
    path = fetch(loaded.card) if loaded.card else Path(source).expanduser()
    folder = path if path.is_dir() else path.parent
    model = cast(MusicGen, loaded.model)
    config = model.config
    if dtype == "int8":
        tables = (cast(torch.nn.Embedding, table) for table in model.decoder.embeddings)
        model.decoder.embeddings = torch.nn.ModuleList(
            RoundedEmbedding(table.weight.data) for table in tables
        )
    placed(model.decoder, device, dtype, steps=[model.decoder])
    if config.reader:
        size, rounds = config.text.dimension, dtype == "int8"
        model.text, text = text_reader(folder, config.reader, size, device, mapped=rounds)
    else:
        text = load_t5_text(folder, config.text.vocabulary)
    if dtype == "int8":
        round_text(model.text)
        for part in (model.words, model.pitches):
            if part is not None:
                take_from_file(part)
        give_back()
    sha256 = loaded.weights_sha256
    codecs: Codecs | CodecBeside
    if config.reader:
        books = (config.codes,) * (config.books // config.channels)
        codecs = CodecBeside(codec_beside(folder, books, device))
    else:
        codecs = Codecs(model, path, sha256, device)
    give_back()
    # Keys and values of half a minute are as large as the rounded weights.
    cache = torch.bfloat16 if dtype == "int8" else None
    return MusicGenComposer(model.to(device).eval(), text, codecs, loaded.name, sha256, cache)


def _whole(stream: Generator[Samples, None, Music]) -> Music:
    """What a stream returns in the end."""
    while True:
        try:
            next(stream)
        except StopIteration as end:
            assert isinstance(end.value, Music)
            return end.value


def _numbers(codes: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """As they are stored."""
    return codes.cpu().numpy().astype(np.int32)
