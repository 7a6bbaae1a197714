"""Dia as a speaker: dialogues of `[S1]` and `[S2]`, several at a time, or streamed."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alm_cli.checkpoints.load import Loaded, load
from alm_cli.codecs.dac import Dac
from alm_cli.decoding.delays import delay, undelay
from alm_cli.decoding.sampling import Sampling, filtered
from alm_cli.errors import InputError, ModelError, UsageError
from alm_cli.files.audio import read_audio
from alm_cli.files.recognise import KNOWN_SUFFIXES, read_any
from alm_cli.lm.dia import BEGIN, END, PAD, Dia, Heard, ended, guided
from alm_cli.nn.llama import Streams
from alm_cli.nn.packed import pack_exactly, pack_int8
from alm_cli.nn.resample import resampled
from alm_cli.nn.state import State
from alm_cli.runtime import dtype_of, inference, place, seeded
from alm_cli.systems.plain_english import check_english, longest_s, spaced, wordless
from alm_cli.systems.speaker import Line, Spoken
from alm_cli.values import Audio, Latents, Origin, Tokens

Samples = NDArray[np.float32]
Codes = NDArray[np.int32]
# The number of a line, codes [K, F], and their samples.
Said = tuple[int, Codes, Samples]

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


class DiaSpeaker:
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
        self.name, self.rate = name, codec.rate
        self.weights_sha256, self._codec_sha256 = sha256
        self._model, self._codec = model, codec
        self._device = model.text_embedding.weight.device

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
        words = path.with_suffix(".txt")
        if not words.is_file():
            raise wordless(str(path))
        text = spaced(words.read_text(encoding="utf-8", errors="replace"))
        self.check(text)
        return DiaVoice(_tagged(text), self._codes(read_audio(path)))

    def check(self, text: str) -> None:
        """InputError: empty, too long, phonemes, or letters that English is not written with."""
        said = _tagged(spaced(text))
        check_english(text, self.name)
        if len(_bytes(said)) > self._model.text_positions or self._frames(said) > self._room:
            raise InputError(
                f"{len(said)} characters are too long for one line of {self.name}",
                hint=f"lines of up to {self.longest} characters go well",
            )

    def say(self, lines: Sequence[Line]) -> list[Spoken]:
        """Lines together, as a batch; each sounds as it does alone. InputError: see `Speaker`."""
        said: list[list[Said]] = [[] for _ in lines]
        for one in self._said(lines):
            said[one[0]].append(one)
        return [self._spoken(line, parts) for line, parts in zip(lines, said, strict=True)]

    def stream(self, line: Line) -> Generator[Samples, None, Spoken]:
        """The samples of a line, some 0.2 s at a time; together, those of `say`."""
        return self._streamed(line, self._said([line]))

    def _streamed(self, line: Line, said: Iterator[Said]) -> Generator[Samples, None, Spoken]:
        parts: list[Said] = []
        for one in said:
            parts.append(one)
            yield one[2]
        return self._spoken(line, parts)

    def _said(self, lines: Sequence[Line]) -> Iterator[Said]:
        prompts = [self._prompt(line) for line in lines]
        return _Speech(self._model, self._codec).say(lines, prompts)

    def _prompt(self, line: Line) -> _Prompt:
        """What is read before a line. InputError: what the line asks for cannot be done."""
        self.check(line.text)
        if line.speed != 1 or line.duration_s is not None:
            raise InputError(
                f"{self.name} decides itself how fast it speaks",
                hint="ask for no speed or duration",
            )
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
        """What was said before. InputError: in which words is not known, or not in these codes."""
        tokens = said.tokens if isinstance(said, Spoken) else said
        if isinstance(tokens, Tokens) and "text" in tokens.origin.notes:
            codes, books = tokens.codes[0], len(self._model.lags)
            fits = tokens.origin.codec == _CODEC and tokens.codebooks == books
            if not fits or codes.min(initial=0) < 0 or codes.max(initial=0) >= END:
                raise InputError(f"these are not tokens of {_CODEC} with {books} codebooks")
            return DiaVoice(_tagged(tokens.origin.notes["text"]), codes)
        if isinstance(said, Spoken) and said.words:
            text = _tagged(spaced("".join(word.text for word in said.words)))
            return DiaVoice(text, self._codes(Audio(said.samples[None], self.rate)))
        raise wordless("what was said before")

    def _codes(self, audio: Audio) -> Codes:
        """A recording -> codes [K, F]."""
        with inference():
            mono = torch.from_numpy(audio.samples).mean(0, keepdim=True)
            wave = resampled(mono, audio.rate, self._codec.rate)
            codes = self._codec.encode(wave[None].to(self._device), len(self._model.lags))
        return _numbers(codes[0])

    def _spoken(self, line: Line, said: Sequence[Said]) -> Spoken:
        codec, none = self._codec, np.zeros((len(self._model.lags), 0), np.int32)
        all_codes = np.concatenate([none, *(codes for _, codes, _ in said)], 1)
        whole = np.concatenate([np.zeros(0, np.float32), *(wave for _, _, wave in said)])
        origin = Origin(
            codec=_CODEC,
            weights_sha256=self._codec_sha256,
            rate=codec.rate,
            hop=codec.hop,
            frame_rate=codec.rate / codec.hop,
            vocabularies=codec.vocabularies[: len(all_codes)],
            channels=1,
            source_rate=codec.rate,
            source_channels=1,
            source_length=len(whole),
            source_sha256="",
            # Whoever goes on from here has to know the words.
            notes={"text": _tagged(spaced(line.text))},
        )
        return Spoken(samples=whole, tokens=Tokens(all_codes[None], origin))


@dataclass(frozen=True, eq=False)
class _Prompt:
    """Bytes of a text, codes [K, F] that were said, and how many frames may follow."""

    tokens: list[int]
    codes: Tensor
    most: int


class _Row:
    """A line that is being said: columns of delayed codes, and what is known of them."""

    def __init__(self, index: int, line: Line, prompt: _Prompt, lags: Sequence[int]) -> None:
        self.index, self.how, self.lags = index, _sampling(line), lags
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
                said.append((row.index, _numbers(frames), cast(Samples, wave[0, 0].cpu().numpy())))
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


def _sampling(line: Line) -> Sampling:
    """How a line is drawn; what it leaves open as the model is published."""
    asked = {"temperature": line.temperature, "top_k": line.top_k, "top_p": line.top_p}
    usual = {name: getattr(_USUAL, name) for name in asked}
    return Sampling(**usual | {name: value for name, value in asked.items() if value is not None})


def _tagged(text: str) -> str:
    """A text that says who speaks first."""
    return text if text.startswith(tuple(_SPEAKERS)) else f"[S1] {text}"


def _bytes(text: str) -> list[int]:
    """What the model reads."""
    for tag, byte in _SPEAKERS.items():
        text = text.replace(tag, byte)
    return list(text.encode())


def _numbers(codes: Tensor) -> Codes:
    return cast(Codes, codes.cpu().numpy().astype(np.int32))


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
    rounded = dtype == "int8"
    # Again for inference: that is when matrices that are used together are laid side by side.
    place(model, device, dtype_of("float32" if rounded else dtype)).eval()
    if rounded and device.type != "cpu":
        raise UsageError("int8 is for processors", hint="--dtype float16")
    if rounded:
        pack_int8(model)
    else:
        pack_exactly(model)
    sha256 = loaded.weights_sha256, alone.weights_sha256
    return DiaSpeaker(model, codec.to(device), loaded.name, sha256)
