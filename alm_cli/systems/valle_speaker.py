"""VALL-E X as a speaker: phonemes in the voice of a short recording, over EnCodec at 6 kbps.

Its own program makes phonemes of English with a dictionary that is not ours to ship. Here they are
written, `[[həˈloʊ]]`, or made of text by espeak-ng, where that is installed, and brought to the
letters that the model knows; the stress that espeak-ng marks stands before the vowel, not before
the syllable.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alm_cli.checkpoints.load import Loaded
from alm_cli.decoding.sampling import Sampling, sample
from alm_cli.errors import InputError, ModelError
from alm_cli.files.audio import read_audio
from alm_cli.files.npz import read_npz
from alm_cli.lm.valle import LANGUAGES, ValleX
from alm_cli.nn.state import State
from alm_cli.runtime import inference, seeded
from alm_cli.systems.codec import Codec, load_codec
from alm_cli.systems.placing import placed
from alm_cli.systems.speaker import Line, Spoken
from alm_cli.systems.spoken_codes import sound, spoken_tokens, whole
from alm_cli.text.espeak import espeak_phonemes
from alm_cli.values import Audio, Tokens

Samples = NDArray[np.float32]

_CODEC = "encodec-24khz"
# The letters of the published tokenizer, bpe_69.json, after five special ones; it joins none.
_FIRST_LETTER, _UNKNOWN = 5, 0
_LETTERS = "!#*,-.=?NQ^_`abdefghijklmnopstuvwxyz~æçðŋɑɔəɛɥɪɫɯɸɹɾʃʊʑʒʰˈˌθ…⁼↑→↓"
_NUMBERS = {letter: _FIRST_LETTER + place for place, letter in enumerate(_LETTERS)}
# What espeak-ng and dictionaries write otherwise; the model has no long vowels and no affricates.
_SPELLED = (
    *(("ɜː", "əɹ"), ("ɚ", "əɹ"), ("ɝ", "əɹ"), ("n̩", "ən"), ("l̩", "əl"), ("ː", ""), ("ʌ", "ə")),
    *(("ɐ", "ə"), ("ᵻ", "ɪ"), ("ɡ", "g"), ("ɒ", "ɑ"), ("ʔ", "t"), ("ʤ", "dʒ"), ("ʧ", "tʃ")),
    *(("r", "ɹ"), ("ɜ", "ə"), ("...", "…"), ("\N{COMBINING TILDE}", "")),
)
_DARK = re.compile(r"l(?=[^aeiouæɑɔəɛɪʊ _]*(?:_|$))")
_PHONEMES = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_ENDS = ".,!?-…~"
# A recording that tells a voice: three seconds are enough, and longer ones take their time.
_VOICE_S = 15
_PARTS = ("audio_tokens", "text_tokens", "lang_code")
# So many codes of 13 ms for a phoneme, and no more (_compat_hard_stop).
_MOST_FOR_A_PHONEME = 16


@dataclass(frozen=True, eq=False)
class ValleVoice:
    """What was said: phonemes [S], the codes [8, P] of how, and the language."""

    phonemes: NDArray[np.int64]
    codes: NDArray[np.int64]
    language: int = 0


@dataclass(frozen=True, kw_only=True)
class ValleSpoken(Spoken):
    """As `Spoken`; `said` is what the next line can go on from."""

    said: ValleVoice


class ValleSpeaker:
    """A loaded VALL-E X; nothing about it changes after loading.

    A voice is a `.npz` file as its own program makes them, or a recording of up to 15 s together
    with its words: `clip.wav` needs `clip.txt`. Without one, the model makes one up for the seed.
    """

    voices: tuple[str, ...] = ()
    longest = 120

    def __init__(self, model: ValleX, codec: Codec, name: str, weights_sha256: str) -> None:
        self.name, self.weights_sha256, self.rate = name, weights_sha256, codec.rate
        self._model, self._codec = model, codec

    def voice(self, source: str | Path | Audio | None) -> ValleVoice | None:
        """See `Speaker`. InputError: there is none of this name, or a recording has no words."""
        if source is None:
            return None
        if isinstance(source, Audio):
            raise _wordless(self.name)
        path = Path(source).expanduser()
        if not path.is_file():
            raise InputError(f"{path}: no such voice", hint="a .npz file, or a recording and .txt")
        if path.suffix == ".npz":
            return _preset(path, self._model)
        words = path.with_suffix(".txt")
        if not words.is_file():
            raise _wordless(self.name)
        audio = read_audio(path)
        if not 0 < audio.seconds <= _VOICE_S:
            raise InputError(f"{path}: {audio.seconds:.1f} s, where a voice takes up to {_VOICE_S}")
        codes = self._codec.encode(audio, codebooks=self._model.books).codes[0]
        text = words.read_text(encoding="utf-8", errors="replace")
        return ValleVoice(np.array(self._phonemes(text)), codes.astype(np.int64))

    def check(self, text: str) -> None:
        """See `Speaker`: empty, or phonemes of which the model has no letter."""
        self._phonemes(text)

    def say(self, lines: Sequence[Line]) -> list[Spoken]:
        """See `Speaker`; one after another, so that no line can hear of its neighbours."""
        texts = [self._accepted(line) for line in lines]
        return [self._spoken(text, line) for text, line in zip(texts, lines, strict=True)]

    def stream(self, line: Line) -> Generator[Samples, None, Spoken]:
        """See `Speaker`; nothing is known before the last of the eight books has been found.

        In the end it returns what `say` does.
        """
        text = self._accepted(line)
        return self._streamed(text, self._tokens(text, line))

    def _streamed(self, text: list[int], tokens: Tokens) -> Generator[Samples, None, Spoken]:
        heard = list[Samples]()
        for block in sound(self._codec, tokens):
            heard.append(block)
            yield block
        return _spoken(text, tokens, whole(iter(heard)))

    def _spoken(self, text: list[int], line: Line) -> Spoken:
        tokens = self._tokens(text, line)
        return _spoken(text, tokens, whole(sound(self._codec, tokens)))

    def _accepted(self, line: Line) -> list[int]:
        """The phonemes of a line. InputError: it cannot be said, or not so."""
        line.keep_pace_of(self.name)
        if line.voice is not None and not isinstance(line.voice, ValleVoice):
            raise InputError(f"this is no voice of {self.name}")
        if line.before is not None and not isinstance(line.before, ValleSpoken):
            raise InputError(f"{self.name} goes on from what it said itself, and nothing else")
        return self._phonemes(line.text)

    def _phonemes(self, text: str) -> list[int]:
        """Numbers of letters; a stretch that ends without a point gets one, as in training."""
        parts = _PHONEMES.split(text)
        spoken = (
            part if place % 2 else espeak_phonemes(part) if part.strip() else " "
            for place, part in enumerate(parts)
        )
        letters = re.sub(r"\s+", " ", " ".join(spoken)).strip()
        for theirs, ours in _SPELLED:
            letters = letters.replace(theirs, ours)
        letters = re.sub(r" ([.,!?…~])", r"\1", letters).replace(" ", "_")
        letters = _DARK.sub("ɫ", letters)
        if not any(letter.isalpha() for letter in letters):
            raise InputError("there is nothing to say")
        unknown = dict.fromkeys(letter for letter in letters if letter not in _NUMBERS)
        if unknown:
            raise InputError(f"{self.name} has no phonemes {' '.join(unknown)}")
        return [_NUMBERS[letter] for letter in letters + "." * (letters[-1] not in _ENDS)]

    def _tokens(self, text: list[int], line: Line) -> Tokens:
        """What is said, as the codec decodes it."""
        with inference():
            codes = _said(self._model, text, self._past(line), line, self._codec.device)
        return spoken_tokens(self._codec, codes.cpu().numpy())

    def _past(self, line: Line) -> ValleVoice | None:
        """What the line goes on from: its voice, or where it has none, what was said before."""
        said = line.before.said if isinstance(line.before, ValleSpoken) else None
        before = said if said is not None and said.codes.shape[1] else None
        return cast("ValleVoice | None", line.voice) or before


def _spoken(text: list[int], tokens: Tokens, samples: Samples) -> ValleSpoken:
    said = ValleVoice(np.array(text), tokens.codes[0].astype(np.int64))
    return ValleSpoken(samples=samples, tokens=tokens, said=said)


def _wordless(name: str) -> InputError:
    return InputError(
        f"{name} must know what is said in a recording of a voice",
        hint="put its words into a .txt file of the same name beside it",
    )


def _said(
    model: ValleX, text: list[int], voice: ValleVoice | None, line: Line, device: torch.device
) -> Tensor:
    """Codes [8, F] of a line."""
    how = Sampling(
        temperature=1.0 if line.temperature is None else line.temperature,
        top_k=line.top_k or 0,
        top_p=1.0 if line.top_p is None else line.top_p,
    )
    known = [] if voice is None else voice.phonemes.tolist()
    language = 0 if voice is None else voice.language
    # What is said is English; who says it may have said something else.
    languages = torch.tensor([[language] * len(known) + [0] * len(text)], device=device)
    phonemes = torch.tensor([[*known, *text]], device=device)
    codes = np.zeros((model.books, 0), np.int64) if voice is None else voice.codes
    past = torch.from_numpy(codes)[None].to(device)
    noise = seeded(line.seed, device)
    first = first_book(model, phonemes, languages, past[:, 0], how, noise)
    return other_books(model, phonemes, languages, past, first)[0]


@torch.no_grad()
def first_book(
    model: ValleX,
    phonemes: Tensor,
    languages: Tensor,
    voice: Tensor,
    how: Sampling,
    noise: torch.Generator,
) -> Tensor:
    """phonemes, languages [1, S], first codes of the voice [1, P] -> new ones [1, F]."""
    state, made = State(), []
    logits = model.first.hear(phonemes, languages, voice, state)
    most = _MOST_FOR_A_PHONEME * phonemes.shape[1]
    for count in range(1, most + 1):
        code = sample(logits, how, [noise])[:, None]
        if code.item() == model.end:
            break
        made.append(code)
        if count < most:
            logits = model.first(code, voice.shape[1] + count, state)
    return torch.cat(made, 1) if made else voice[:, :0]


@torch.no_grad()
def other_books(
    model: ValleX, phonemes: Tensor, languages: Tensor, voice: Tensor, first: Tensor
) -> Tensor:
    """voice [1, 8, P], first [1, F] -> all codes [1, 8, F], of each book the likeliest."""
    rest, past = model.rest, voice.shape[2]
    text = rest.read(phonemes, languages)
    made = first[:, None]
    if not first.shape[1]:
        return made.expand(-1, model.books, -1)
    whole = rest.summed(voice) if past else None
    for book in range(1, model.books):
        known = rest.summed(made)
        known = known if whole is None else torch.cat((whole, known), 1)
        codes = rest(text, known, book, past).argmax(-1)
        made = torch.cat((made, codes[:, None]), 1)
    return made


def _preset(path: Path, model: ValleX) -> ValleVoice:
    """A voice as the model's own program saves it. InputError: it is none."""
    arrays = read_npz(path, _PARTS)
    if len(arrays) < len(_PARTS):
        raise InputError(f"{path}: not a voice of VALL-E", hint=f"it has {', '.join(_PARTS)}")
    audio, text, language = (arrays[name] for name in _PARTS)
    fits = audio.ndim == 3 and audio.shape[0] == 1 and audio.shape[2] == model.books
    fits = fits and text.ndim == 2 and text.shape[0] == 1 and language.size == 1
    fits = (
        fits and _within(audio, model.codes, _VOICE_S * 75) and _within(text, model.phonemes, 999)
    )
    if not fits or not _within(language, len(LANGUAGES), 1):
        raise InputError(f"{path}: not the arrays of a voice of VALL-E")
    # _compat_languages: its program numbers those of voices (zh, ja, en) unlike those of the model.
    spoken = (1, 2, 0)[int(language.reshape(-1)[0])]
    return ValleVoice(text[0].astype(np.int64), audio[0].T.astype(np.int64).copy(), spoken)


def _within(array: NDArray[Any], below: int, most: int) -> bool:
    """Whether these are whole numbers from 0, up to `most` of them in a row."""
    size = array.shape[1] if array.ndim > 1 else array.size
    whole = array.dtype.kind in "iu" and 0 < size <= most
    return bool(whole and 0 <= array.min() <= array.max() < below)


def speaker(
    loaded: Loaded, source: str | Path, *, device: torch.device, dtype: str = "float32"
) -> ValleSpeaker:
    """A loaded VALL-E X as a speaker; its codec is EnCodec at 24 kHz, from the catalogue.

    `dtype` may also be "int8", for the linear maps on a processor. ModelError: there is no codec.
    UsageError: no int8 here.
    """
    del source  # all that there is lies in the one file
    model = loaded.model
    assert isinstance(model, ValleX)
    if model.phonemes <= max(_NUMBERS.values()):
        raise ModelError(f"{loaded.name}: {model.phonemes} phonemes, too few for their letters")
    codec = load_codec(_CODEC, device=str(device))
    placed(model, device, dtype, steps=[model])
    return ValleSpeaker(model, codec, loaded.name, loaded.weights_sha256)
