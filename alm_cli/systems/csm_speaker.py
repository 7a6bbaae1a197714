"""CSM as a speaker: lines in the light of what was said before, several at a time, or streamed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from alm_cli.checkpoints.fetch import fetch
from alm_cli.checkpoints.load import Loaded, build, load
from alm_cli.checkpoints.parts import contents_sha256, part_of
from alm_cli.checkpoints.reader import open_checkpoint
from alm_cli.codecs.mimi import FAMILY, Mimi
from alm_cli.decoding.sampling import Sampling, sample
from alm_cli.errors import InputError, ModelError
from alm_cli.lm.csm import Csm
from alm_cli.nn.llama import Streams
from alm_cli.nn.state import State
from alm_cli.runtime import inference, seeded
from alm_cli.systems.csm_prompts import CODEC, LONGEST, SPEAKERS, CsmVoice, Prompts, voice_of
from alm_cli.systems.frame_speaker import FrameSpeaker, Said, Samples
from alm_cli.systems.past_speech import numbers
from alm_cli.systems.placing import placed
from alm_cli.systems.plain_english import spaced
from alm_cli.systems.speaker import Line
from alm_cli.text.llama import load_llama_tokenizer
from alm_cli.values import Audio

# As published: generation_config.json.
_USUAL = Sampling(temperature=0.9, top_k=50)
# Rows that are computed together. On a processor always four, though some be empty: what a row of a
# product is to the last bit depends on how many rows there are. To read the weights takes longer.
_ROWS, _ROWS_ON_GPU = 4, 16


class CsmSpeaker(FrameSpeaker):
    """A loaded CSM; nothing about it changes after loading.

    A voice is the number of a speaker, or a recording together with its words: `clip.wav` needs
    `clip.txt`; token files of what this model said have their words in them.
    """

    voices = SPEAKERS
    longest = LONGEST
    language = "en"

    def __init__(
        self, model: Csm, codec: Mimi, prompts: Prompts, name: str, sha256: tuple[str, str]
    ) -> None:
        """`sha256` are those of the weights, of this model and of its codec."""
        super().__init__(name, codec, CODEC, model.codebooks, sha256)
        self._model, self._codec, self._prompts = model, codec, prompts

    def voice(self, source: str | Path | Audio | None) -> CsmVoice:
        """See `Speaker`. InputError: there is none of this name, or a recording has no words."""
        return self._prompts.voice(source)

    def check(self, text: str) -> None:
        """InputError: empty, too long, phonemes, or letters that English is not written with."""
        self._prompts.check(text)

    def _said(self, lines: Sequence[Line]) -> Iterator[Said]:
        for line in lines:
            self._accept(line)
        return _Speech(self._model, self._codec, self._prompts).say(lines)

    def _accept(self, line: Line) -> None:
        """InputError: what the line asks for cannot be done."""
        self.check(line.text)
        line.keep_pace_of(self.name)
        if line.voice is not None and not isinstance(line.voice, CsmVoice):
            raise InputError(f"this is no voice of {self.name}")

    def _notes(self, line: Line) -> dict[str, str]:
        return {"text": spaced(line.text), "speaker": voice_of(line).speaker}


@dataclass(eq=False)
class _Row:
    """A line that is being said: `vector` [1, D] tells its next frame, `left` may still follow."""

    index: int
    vector: Tensor
    state: State
    how: Sampling
    noise: torch.Generator
    left: int
    sound: State = field(default_factory=State)


class _Speech:
    """Lines on their way: as many together as go well, the next as soon as one has ended."""

    def __init__(self, model: Csm, codec: Mimi, prompts: Prompts) -> None:
        self._model, self._codec, self._prompts = model, codec, prompts
        self._rows: list[_Row] = []
        on_cpu = model.text_embedding.weight.device.type == "cpu"
        self._most = _ROWS if on_cpu else _ROWS_ON_GPU

    def say(self, lines: Sequence[Line]) -> Iterator[Said]:
        """Frame by frame, those of several lines in turn."""
        waiting = deque(enumerate(lines))
        while waiting or self._rows:
            # Not around the loop: whoever takes what is said would compute in this mode too.
            with inference():
                while waiting and len(self._rows) < self._most:
                    self._rows.append(self._begun(*waiting.popleft()))
                said = self._step()
            yield from said

    def _begun(self, index: int, line: Line) -> _Row:
        """A line before its first frame."""
        prompt, most = self._prompts.vectors(line)
        state, how = State(), line.sampling(_USUAL)
        vector = self._model.read(prompt, state)
        return _Row(index, vector, state, how, seeded(line.seed, vector.device), most)

    def _step(self) -> list[Said]:
        """One frame of each row that goes on."""
        choose = partial(_choose, self._rows, self._codec.vocabularies[0])
        vectors = _filled(torch.cat([row.vector for row in self._rows]))
        codes = self._model.frame(vectors, choose)[: len(self._rows)]
        # A frame of nothing but zeros is the end.
        speaking = codes.any(1).tolist()
        said = [(r, c) for r, c, more in zip(self._rows, codes, speaking, strict=True) if more]
        for row, _ in said:
            row.left -= 1
        on = [(row, frame) for row, frame in said if row.left]
        self._rows = [row for row, _ in on]
        if on:
            self._listen(torch.stack([frame for _, frame in on]))
        return [(row.index, numbers(f[:, None]), self._wave(row, f)) for row, f in said]

    def _listen(self, codes: Tensor) -> None:
        """Let each row hear its own frame of codes [R, K]."""
        x = _filled(self._model.frames(codes[:, None]))
        vectors = self._model.read(x, Streams([row.state for row in self._rows]))
        for row, vector in zip(self._rows, torch.split(vectors, 1), strict=False):
            row.vector = vector

    def _wave(self, row: _Row, frame: Tensor) -> Samples:
        wave = self._codec.decode(frame[None, :, None], row.sound)
        return cast(Samples, wave[0, 0].cpu().numpy())


def _choose(rows: Sequence[_Row], vocabulary: int, logits: Tensor) -> Tensor:
    """logits [B, V] of the rows, and of some that fill up -> codes [B]."""
    # The last codes are there for training; the codec does not have them.
    logits[:, vocabulary:] = -torch.inf
    codes = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    for how in {row.how for row in rows}:
        places = [place for place, row in enumerate(rows) if row.how == how]
        noise = [rows[place].noise for place in places]
        codes[places] = sample(logits[places], how, noise)
    return codes


def _filled(x: Tensor) -> Tensor:
    """x [R, ...] -> [B, ...], with rows of zeros on a processor, see `_ROWS`."""
    lacking = _ROWS - len(x) if x.device.type == "cpu" else 0
    return torch.cat((x, x.new_zeros(lacking, *x.shape[1:]))) if lacking > 0 else x


def speaker(
    loaded: Loaded, source: str | Path, *, device: torch.device, dtype: str = "float32"
) -> CsmSpeaker:
    """A loaded CSM as a speaker; its files lie at `source`. `dtype` may also be "int8".

    ModelError: there is no tokenizer or no codec. UsageError: no int8 here.
    """
    model = loaded.model
    assert isinstance(model, Csm)
    files = fetch(loaded.card) if loaded.card else Path(source).expanduser()
    tokenizer = load_llama_tokenizer(files, model.text_embedding.num_embeddings)
    codec, codec_sha256 = _codec(loaded, files)
    codec.to(device)
    if len(codec.vocabularies) != model.codebooks:
        raise ModelError(f"{loaded.name} and its {CODEC} have different numbers of codebooks")
    placed(model, device, dtype, steps=[model])
    prompts = Prompts(model, codec, tokenizer, loaded.name)
    sha256 = loaded.weights_sha256, codec_sha256
    return CsmSpeaker(model, codec, prompts, loaded.name, sha256)


def _codec(loaded: Loaded, files: Path) -> tuple[Mimi, str]:
    """The codec of the checkpoint, or by itself where it has none, and the digest of that alone."""
    if loaded.config.codec is None:
        alone = load(CODEC)
        made, sha256 = alone.model, alone.weights_sha256
    else:
        settings = {key: value for key, value in loaded.config.codec.items() if key != "model_type"}
        checkpoint = part_of(open_checkpoint(files), "codec_model.")
        made = build(FAMILY, FAMILY.read_config(settings), checkpoint)
        sha256 = contents_sha256(made)
    assert isinstance(made, Mimi)
    return made, sha256
