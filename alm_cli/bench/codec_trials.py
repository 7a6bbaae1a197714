"""Codecs on recordings, one after another: there are figures of those heard so far at any time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from alm_cli.bench.classical import Classical
from alm_cli.bench.codec_peers import CodecPeer
from alm_cli.bench.codecs import Bench, Rated, Recording
from alm_cli.bench.quality import code_entropy
from alm_cli.bench.reports import Cell
from alm_cli.errors import AlmError
from alm_cli.files.tokens import to_bytes
from alm_cli.planning import TokenRate
from alm_cli.systems.codec import Codec
from alm_cli.systems.verify import verify_audio
from alm_cli.values import Audio, Tokens


class ClassicalTrial:
    """A classical codec at one bitrate."""

    def __init__(self, bench: Bench, codec: Classical) -> None:
        self.name = codec.name
        self._bench, self._codec = bench, codec
        self._rated: list[Rated] = []
        self._bits = self._seconds = 0.0

    def hear(self, one: Recording) -> None:
        """Measure it on a recording."""
        decoded, size = self._codec.through(one.audio)
        rated = self._bench.rated(one, decoded)
        self._rated.append(rated)
        self._bits, self._seconds = self._bits + 8 * size, self._seconds + decoded.seconds
        self._bench.keep(one, f"{self.name} kbps", decoded)

    def finish(self) -> None:
        """Nothing is measured once: speed of another library in another language says little."""

    def rows(self) -> list[dict[str, Cell]]:
        """The row of what was heard so far, if anything was."""
        if not self._rated:
            return []
        row: dict[str, Cell] = {
            "codec": self.name,
            "program": self._codec.library,
            "kbps": self._codec.kbps,
            "kbps_disk": self._bits / self._seconds / 1000,
        }
        return [row | self._bench.cells(self._rated)]


class CodecTrial:
    """A codec at several numbers of codebooks, and in the last row speed, memory and stability.

    `peers` are other programs with the same weights: a row each, timed in turn with this program.
    `elsewhere` is the same codec on another device. `once` goes into the last row.
    """

    def __init__(
        self,
        bench: Bench,
        codec: Codec,
        points: Sequence[int],
        peers: Sequence[CodecPeer] = (),
        elsewhere: Codec | None = None,
    ) -> None:
        self.name, self.once = codec.name, dict[str, Cell]()
        self._bench, self._codec, self._points, self._peers = bench, codec, points, list(peers)
        self._other_device = elsewhere
        self._tokens: list[Tokens] = []
        self._rated: list[list[Rated]] = []  # of each recording, one for each number of codebooks
        self._theirs: dict[str, list[tuple[int, int, Rated]]] = {one.program: [] for one in peers}
        self._speeds: dict[str, dict[str, Cell]] = {one.program: {} for one in peers}

    def hear(self, one: Recording) -> None:
        """Measure it on a recording, at every number of codebooks."""
        tokens = self._codec.encode(one.audio)
        rated = []
        for count in self._points:
            decoded = self._codec.decode(tokens, codebooks=count)
            rated.append(self._bench.rated(one, decoded))
        theirs = {peer.program: self._elsewhere(peer, one, tokens) for peer in [*self._peers]}
        # All of a recording or nothing of it: an interrupt leaves the same recordings in all rows.
        self._tokens.append(tokens)
        self._rated.append(rated)
        for program, found in theirs.items():
            if found is not None:
                self._theirs[program].append(found)
        self._bench.keep(one, f"{self.name}, {self._kbps(self._points[-1]):.2f} kbps", decoded)

    def _elsewhere(
        self, peer: CodecPeer, one: Recording, tokens: Tokens
    ) -> tuple[int, int, Rated] | None:
        """Codes that are the same in another program, of so many, and how its decoding rates."""
        count = self._points[-1]
        try:
            made = peer.encode(one.audio, count)
            codes = peer.codes(made)
            decoded = peer.decode(made, one.audio)
        except Exception as error:  # a program that fails is no reason to lose all the others
            kind = "" if isinstance(error, AlmError) else f"{type(error).__name__}: "
            self._bench.skipped[peer.program] = f"{kind}{error}"[:200]
            self._peers.remove(peer)
            self._theirs[peer.program].clear()
            return None
        ours = tokens.codes[:, :count]
        frames = max(ours.shape[2], codes.shape[2])
        both = min(ours.shape[2], codes.shape[2])
        same = int((ours[:, :, :both] == codes[:, :, :both]).sum())
        return same, ours.shape[0] * count * frames, self._bench.rated(one, decoded)

    def finish(self) -> None:
        """What takes one recording only: speed in turn with the peers, a cold start, stability."""
        one, count = self._bench.longest, self._points[-1]
        tokens = self._codec.encode(one.audio, codebooks=count)
        works: dict[str, Callable[[], object]] = {
            "encode": lambda: self._codec.encode(one.audio, codebooks=count),
            "decode": lambda: self._codec.decode(tokens),
        }
        for peer in self._peers:
            made = peer.encode(one.audio, count)
            works[f"{peer.program} encode"] = partial(_codes, peer, one.audio, count)
            works[f"{peer.program} decode"] = partial(peer.decode, made, one.audio)
        first = 1000 * _first_frame_s(self._codec, one.audio)
        for key, cell in self._bench.timed(works, one.audio.seconds).items():
            program, _, work = key.rpartition(" ")
            (self._speeds[program] if program else self.once)[work] = cell
        self.once |= {"first_frame_ms": first, **self._stability()}

    def rows(self) -> list[dict[str, Cell]]:
        """A row for each number of codebooks of what was heard so far, and for each program."""
        if not self._tokens:
            return []
        found = []
        for place, count in enumerate(self._points):
            rated = [each[place] for each in self._rated]
            found.append(self._rates(count) | self._bench.cells(rated))
        found[-1] |= self.once
        for program, theirs in self._theirs.items():
            if theirs:
                same, codes = sum(one[0] for one in theirs), sum(one[1] for one in theirs)
                row: dict[str, Cell] = {
                    "codec": self.name,
                    "program": program,
                    "codebooks": self._points[-1],
                    "kbps": self._kbps(self._points[-1]),
                    "agreement": 100 * same / max(1, codes),
                }
                rated = [one[2] for one in theirs]
                found.append(row | self._bench.cells(rated) | self._speeds[program])
        return found

    def _rate(self, count: int) -> TokenRate:
        return TokenRate(
            frame_rate=self._codec.frame_rate,
            codebooks=count,
            vocabularies=self._codec.vocabularies[:count],
            strides=self._codec.strides[:count],
        )

    def _kbps(self, count: int) -> float:
        return self._rate(count).kbps

    def _rates(self, count: int) -> dict[str, Cell]:
        """What the codes cost, all recordings together."""
        codec, rate = self._codec, self._rate(count)
        seconds = sum(tokens.origin.seconds for tokens in self._tokens)
        cut = [_first_books(tokens, count) for tokens in self._tokens]
        codes = np.concatenate([tokens.codes for tokens in cut], axis=2)
        entropies, used = code_entropy(codes, codec.vocabularies), _used(codes, codec.vocabularies)
        strides = codec.strides[:count] or (1,) * count
        entropy = sum(e / s for e, s in zip(entropies, strides, strict=True)) * codec.frame_rate
        return {
            "codec": codec.name,
            "program": "alm",
            "codebooks": count,
            "kbps": rate.kbps,
            "kbps_disk": 8 * sum(len(to_bytes(tokens)) for tokens in cut) / seconds / 1000,
            "kbps_entropy": entropy / 1000,
            "tokens_per_second": rate.tokens_per_second,
            "compression": rate.pcm_ratio(self._tokens[0].origin.source_rate),
            "least_used": 100 * min(used),
            "perplexity": float(np.median([2**bits for bits in entropies])),
        }

    def _stability(self) -> dict[str, Cell]:
        """`alm verify` on ten seconds of the longest recording."""
        audio = self._bench.longest.audio
        start = Audio(audio.samples[:, : 10 * audio.rate], audio.rate)
        found: dict[str, list[float]] = {}
        for measure in verify_audio(self._codec, start, elsewhere=self._other_device).measures:
            if measure.equal is not None:
                found.setdefault(measure.kind, []).append(measure.equal)
            elif measure.kind == "device":
                self._bench.skipped["device"] = measure.reason
        names = {"slice": "slices"}
        return {names.get(kind, kind): min(shares) for kind, shares in found.items()}


def _codes(peer: CodecPeer, audio: Audio, codebooks: int) -> NDArray[np.int64]:
    """The codes of another program, waited for also where a GPU makes them."""
    return peer.codes(peer.encode(audio, codebooks))


def _first_books(tokens: Tokens, count: int) -> Tokens:
    origin = replace(
        tokens.origin,
        vocabularies=tokens.origin.vocabularies[:count],
        strides=tokens.origin.strides[:count],
    )
    return replace(tokens, codes=np.ascontiguousarray(tokens.codes[:, :count]), origin=origin)


def _used(codes: NDArray[np.int32], vocabularies: Sequence[int]) -> list[float]:
    """The share of each codebook's entries that occur in codes [S, K, F]."""
    books = codes.swapaxes(0, 1)
    return [len(np.unique(book)) / size for book, size in zip(books, vocabularies, strict=False)]


def _first_frame_s(codec: Codec, audio: Audio) -> float:
    """From the first sample, in real time, to the first tokens: waiting for audio and computing."""
    stream = codec.encoder(audio.rate, audio.channels, segment_frames=1)
    size = max(1, round(0.02 * audio.rate))
    for begin in range(0, audio.length, size):
        began = time.perf_counter()
        if stream.push(audio.samples[:, begin : begin + size]):
            return min(begin + size, audio.length) / audio.rate + time.perf_counter() - began
    began = time.perf_counter()
    stream.finish()
    return audio.seconds + time.perf_counter() - began
