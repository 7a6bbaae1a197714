"""Dia as a speaker: dialogues of `[S1]` and `[S2]`, several at a time, or streamed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from alm_cli.checkpoints.load import Loaded, load
from alm_cli.codecs.dac import Dac
from alm_cli.decoding.delays import delay, undelay
from alm_cli.decoding.sampling import Sampling, filtered
from alm_cli.errors import InputError, ModelError
from alm_cli.files.audio import read_audio
from alm_cli.files.recognise import KNOWN_SUFFIXES, read_any
from alm_cli.lm.dia import BEGIN, END, PAD, Dia, Heard, ended, guided
from alm_cli.nn.llama import Streams
from alm_cli.nn.state import State
from alm_cli.runtime import inference, seeded
from alm_cli.systems.frame_speaker import FrameSpeaker, Said, Samples
from alm_cli.systems.past_speech import Codes, Past, numbers, words_beside
from alm_cli.systems.placing import placed
from alm_cli.systems.plain_english import check_english, longest_s, spaced, wordless
from alm_cli.systems.speaker import Line, Spoken
from alm_cli.values import Audio, Latents, Tokens

_CODEC = "dac-44khz"
# As published: generation_config.json.
_USUAL, _GUIDANCE = Sampling(temperature=1.8, top_k=50, top_p=0.9), 3.0
# As bytes: who speaks.
_SPEAKERS = {"[S1]": "\x01", "[S2]": "\x02"}
_LONGEST = 250
# Lines that are computed together, each in two rows. On a processor always two, though one be
# empty: what a row of a product is to the last bit depends on how many rows there are.
_LINES, _LINES_ON_GPU = 2, 16
# Frames that are decoded at a time, 186 ms.
_PIECE = 16


@dataclass(frozen=True, eq=False)
class DiaVoice:
    """What was said, and its codes [K, F]; none is a voice of the model's own, by the seed."""

    text: str = ""
    codes: Codes | None = None


class DiaSpeaker(FrameSpeaker):
    """A loaded Dia; nothing about it changes after loading.

    Text may have `[S1]` and `[S2]` for two speakers, and `(laughs)`, `(sighs)` and the like. A
    voice is a recording together with its words: `clip.wav` needs `clip.txt`; token files of what
    this model said have their words in them.
    """

    voices: tuple[str, ...] = ()
    longest = _LONGEST
    language = "en"

    def __init__(self, model: Dia, codec: Dac, name: str, sha256: tuple[str, str]) -> None:
        """`sha256` are those of the weights, of this model and of its codec."""
        books = len(model.lags)
        super().__init__(name, codec, _CODEC, books, sha256)
        self._model, self._codec = model, codec
        self._device = model.text_embedding.weight.device
        self._past = Past(codec, _CODEC, books, END, self._device)

    def voice(self, source: str | Path | Audio | None) -> DiaVoice:
        """See `Speaker`. InputError: there is no such file, or a recording has no words."""
        if source is None:
            return DiaVoice()
        if isinstance(source, Audio):
            raise wordless("a recording")
        path = Path(source).expanduser()
        if not path.is_file():
            raise InputError(
                f"there is no voice {str(source)!r}", hint=f"{self.name} takes a recording"
            )
        if path.suffix in KNOWN_SUFFIXES:
            return self._known(read_any(path, str(path)))
        text = words_beside(path)
        self.check(text)
        return DiaVoice(_tagged(text), self._past.codes(read_audio(path)))

    def check(self, text: str) -> None:
        """InputError: empty, too long, phonemes, or letters that English is not written with."""
        said = _tagged(spaced(text))
        check_english(text, self.name)
        if len(_bytes(said)) > self._model.text_positions or self._frames(said) > self._room:
            raise InputError(
                f"{len(said)} characters are too long for one line of {self.name}",
                hint=f"lines of up to {self.longest} characters go well",
            )

    def _said(self, lines: Sequence[Line]) -> Iterator[Said]:
        prompts = [self._prompt(line) for line in lines]
        return _Speech(self._model, self._codec).say(lines, prompts)

    def _prompt(self, line: Line) -> _Prompt:
        """What is read before a line. InputError: what the line asks for cannot be done."""
        self.check(line.text)
        line.keep_pace_of(self.name)
        voice = DiaVoice() if line.voice is None else line.voice
        if not isinstance(voice, DiaVoice):
            raise InputError(f"this is no voice of {self.name}")
        # What was said last is the same voice.
        voice = voice if line.before is None else self._known(line.before)
        text, own = _tagged(spaced(line.text)), np.zeros((len(self._model.lags), 0), np.int32)
        codes, most = own if voice.codes is None else voice.codes, self._frames(text)
        tokens = _bytes(f"{voice.text} {text}".strip())
        if len(tokens) > self._model.text_positions or codes.shape[1] + most > self._room:
            raise InputError(
                "the recording of the voice is too long", hint="take one of 5 to 10 seconds"
            )
        return _Prompt(tokens, torch.from_numpy(codes.astype(np.int64)).to(self._device), most)

    def _frames(self, text: str) -> int:
        """How many frames a text may take."""
        return round(longest_s(text) * self._codec.rate / self._codec.hop)

    @property
    def _room(self) -> int:
        """How many frames there are positions for."""
        return self._model.positions - max(self._model.lags) - 1

    def _known(self, said: Spoken | Tokens | Latents) -> DiaVoice:
        """What was said before. InputError: see `Past`."""
        text, codes = self._past.known(said)
        return DiaVoice(_tagged(text), codes)

    def _notes(self, line: Line) -> dict[str, str]:
        return {"text": _tagged(spaced(line.text))}


@dataclass(frozen=True, eq=False)
class _Prompt:
    """Bytes of a text, codes [K, F] that were said, and how many frames may follow."""

    tokens: list[int]
    codes: Tensor
    most: int


class _Row:
    """A line that is being said: columns of delayed codes, and what is known of them."""

    def __init__(self, index: int, line: Line, prompt: _Prompt, lags: Sequence[int]) -> None:
        self.index, self.how, self.lags = index, line.sampling(_USUAL), lags
        self.noise = seeded(line.seed, prompt.codes.device)
        self.states = State(), State()
        self.sound = State()
        self.logits = torch.zeros(0)  # with the text and without it [2, K, V]
        self.heard: tuple[Heard, Heard] = ((), ())
        self._lags, self._late = torch.tensor(lags, device=prompt.codes.device), max(lags)
        begun = torch.nn.functional.pad(prompt.codes, (1, 0), value=BEGIN)
        forced = delay(begun[None], lags, -1)[0].T
        early = torch.arange(len(forced), device=forced.device)[:, None] < self._lags
        self._forced = forced.masked_fill(early, BEGIN)
        self.columns = list(self._forced[: begun.shape[1]])
        self._given = prompt.codes.shape[1]  # frames that were given out already, or not made
        self._last = self._given + prompt.most
        self._end: int | None = None  # the column where codebook 0 ends

    def draw(self) -> None:
        """The next column, from the logits."""
        place = len(self.columns)
        logits = ended(guided(self.logits[0], self.logits[1], _GUIDANCE, self.how.top_k or 1 << 20))
        if self._end is None and (place > self._last or not logits[0].isfinite()[:END].any()):
            self._end = place
        if self.how.temperature:
            chances = filtered(logits, self.how).softmax(-1)
            # Of all codebooks at once, as the reference draws.
            column = torch.multinomial(chances, 1, generator=self.noise)[:, 0]
        else:
            column = logits.argmax(-1)
        if self._end is not None:
            past = place - self._end - self._lags
            column = torch.where(past == 0, END, torch.where(past > 0, PAD, column))
        if place < len(self._forced):
            column = torch.where(self._forced[place] < 0, column, self._forced[place])
        self.columns.append(column)

    @property
    def done(self) -> bool:
        """Whether all frames before the end are known."""
        return self._end is not None and len(self.columns) >= self._end + self._late

    def frames(self) -> Tensor | None:
        """codes [K, F] that are to be decoded next: a piece, at the end all that is left."""
        begin = self._given
        known = len(self.columns) - 1 - self._late
        if self.done:
            assert self._end is not None
            self._given = self._end - 1
        elif known >= begin + _PIECE:
            self._given = begin + _PIECE
        if self._given <= begin:
            return None
        codes = undelay(torch.stack(self.columns[begin + 1 :]).T[None], self.lags)
        return codes[0, :, : self._given - begin]


class _Speech:
    """Lines on their way: as many together as go well, the next as soon as one has ended."""

    def __init__(self, model: Dia, codec: Dac) -> None:
        self._model, self._codec = model, codec
        self._device = model.text_embedding.weight.device
        self._on_cpu = self._device.type == "cpu"
        self._rows: list[_Row] = []

    def say(self, lines: Sequence[Line], prompts: Sequence[_Prompt]) -> Iterator[Said]:
        """Piece by piece, those of several lines in turn."""
        waiting = deque(enumerate(zip(lines, prompts, strict=True)))
        most = _LINES if self._on_cpu else _LINES_ON_GPU
        while waiting or self._rows:
            # Not around the loop: whoever takes what is said would compute in this mode too.
            with inference():
                while waiting and len(self._rows) < most:
                    index, (line, prompt) = waiting.popleft()
                    self._rows.append(
                        self._begun(_Row(index, line, prompt, self._model.lags), prompt)
                    )
                said = self._step()
            yield from said

    def _begun(self, row: _Row, prompt: _Prompt) -> _Row:
        """A line before its first step: with its text, and with as many zeros."""
        tokens = torch.tensor([prompt.tokens], device=self._device)
        row.heard = self._model.read(tokens), self._model.read(torch.zeros_like(tokens))
        columns = torch.stack(row.columns)[None]
        halves = zip(row.heard, row.states, strict=True)
        row.logits = torch.cat([self._model.speak(columns, [h], state) for h, state in halves])
        return row

    def _step(self) -> list[Said]:
        """One column of each row, and the pieces that have become known."""
        said = []
        for row in self._rows:
            row.draw()
            frames = row.frames()
            if frames is not None:
                row.sound.last = row.done
                wave = self._codec.decode(frames[None], row.sound)
                said.append((row.index, numbers(frames), cast(Samples, wave[0, 0].cpu().numpy())))
        self._rows = [row for row in self._rows if not row.done]
        if self._rows:
            self._listen()
        return said

    def _listen(self) -> None:
        """Let each row hear its own last column, with the text and without it."""
        codes = torch.stack([row.columns[-1] for row in self._rows for _ in row.heard])[:, None]
        lacking = 2 * _LINES - len(codes) if self._on_cpu else 0
        filled = torch.cat((codes, codes.new_zeros(lacking, *codes.shape[1:])))
        states = Streams([state for row in self._rows for state in row.states])
        heard = [half for row in self._rows for half in row.heard]
        logits = self._model.speak(filled, heard, states)
        for row, pair in zip(self._rows, torch.split(logits, 2), strict=False):
            row.logits = pair


def _tagged(text: str) -> str:
    """A text that says who speaks first."""
    return text if text.startswith(tuple(_SPEAKERS)) else f"[S1] {text}"


def _bytes(text: str) -> list[int]:
    """What the model reads."""
    for tag, byte in _SPEAKERS.items():
        text = text.replace(tag, byte)
    return list(text.encode())


def speaker(
    loaded: Loaded,
    source: str | Path,  # noqa: ARG001
    *,
    device: torch.device,
    dtype: str = "float32",
) -> DiaSpeaker:
    """A loaded Dia as a speaker, with the codec of the catalogue. `dtype` may also be "int8".

    ModelError: there is no codec. UsageError: no int8 here.
    """
    alone = load(_CODEC)
    model, codec = loaded.model, alone.model
    assert isinstance(model, Dia) and isinstance(codec, Dac)
    if len(codec.vocabularies) < len(model.lags):
        raise ModelError(f"{loaded.name} has more codebooks than {_CODEC}")
    placed(model, device, dtype, steps=[model])
    sha256 = loaded.weights_sha256, alone.weights_sha256
    return DiaSpeaker(model, codec.to(device), loaded.name, sha256)
