"""Tiny Whispers with random weights that say something, twice: as published, and loaded by us."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from alm_cli.systems.transcriber import Recording, TranscribeAsk, Transcriber, load_transcriber
from alm_cli.values import Segment

ENGLISH, MANY, MORE = 51_864, 51_865, 51_866
RATE = 16_000
Samples = NDArray[np.float32]
GREEDY: dict[str, Any] = {"temperature": (0.0,), "beam_size": None, "best_of": None}
BEAMS: dict[str, Any] = {"temperature": (0.0,), "beam_size": 5, "best_of": None}


@dataclass(frozen=True)
class Pair:
    """The same weights as `openai-whisper` builds them, and as a transcriber of ours."""

    theirs: Any
    ours: Transcriber
    file: Path

    def said(self, samples: Samples, **ask: Any) -> tuple[dict[str, Any], list[Segment]]:
        """What both make of a recording."""
        given = {"language": "en", **ask}
        with warnings.catch_warnings():
            # That there is a GPU as well, and that words of translations are doubtful.
            warnings.simplefilter("ignore")
            theirs = self.theirs.transcribe(samples, fp16=False, **_theirs(given))
        return theirs, list(self.ours.segments(blocks(samples), TranscribeAsk(**given)))

    def same(self, samples: Samples, **ask: Any) -> list[Segment]:
        """What both make of a recording, which must be the same."""
        theirs, ours = self.said(samples, **ask)
        assert_same(theirs, ours)
        return ours


def _theirs(ask: Mapping[str, Any]) -> dict[str, Any]:
    """Lists for tuples, and no options of ours."""
    named = {key: list(value) if isinstance(value, tuple) else value for key, value in ask.items()}
    return {key: value for key, value in named.items() if key != "seed"}


@torch.no_grad()
def random_whisper(vocabulary: int, *, seed: int = 0, end: float = 14.0, bands: int = 80) -> Any:
    """A model of `openai-whisper` whose texts hang on what it hears, have timestamps, and end."""
    model = pytest.importorskip("whisper.model", reason="needs the package openai-whisper")
    wide = 32
    dims = model.ModelDimensions(bands, 1500, wide, 2, 1, vocabulary, 448, wide, 2, 2)
    whisper = model.Whisper(dims).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, weights in whisper.named_parameters():
        noise = torch.randn(weights.shape, generator=generator)
        if "ln" in name.split(".")[-2]:
            weights.fill_(1.0 if name.endswith("weight") else 0.0)
        elif weights.ndim == 1:
            weights.copy_(0.1 * noise)
        else:
            inputs = 4 if "embedding" in name else weights[0].numel()
            weights.copy_(noise * (1.0 if "embedding" in name else 2.5) / inputs**0.5)
    for block in whisper.decoder.blocks:
        block.cross_attn.out.weight.mul_(8.0)
    # A direction that all texts have in common makes ends and timestamps likely.
    common = torch.randn(wide, generator=generator)
    common /= common.norm()
    whisper.decoder.ln.bias.copy_(common)
    tokens = whisper.decoder.token_embedding.weight
    tokens[50_256 + (vocabulary > ENGLISH)] += end * common
    tokens[vocabulary - 1501 :] += 2.0 * common
    return whisper


def pair(folder: Path, vocabulary: int, *, batch: int = 1, **weights: Any) -> Pair:
    """The weights in a file of OpenAI's format, which we load."""
    theirs = random_whisper(vocabulary, **weights)
    file = folder / f"{vocabulary}.pt"
    state = {key: value.contiguous() for key, value in theirs.state_dict().items()}
    torch.save({"dims": asdict(theirs.dims), "model_state_dict": state}, file)
    return Pair(theirs, load_transcriber(file, device="cpu", batch=batch), file)


def assert_same(theirs: Mapping[str, Any], ours: Sequence[Segment]) -> None:
    """Tokens, times, seek and temperature are equal, and numbers but for rounding."""
    assert len(ours) == len(theirs["segments"])
    for their, our in zip(theirs["segments"], ours, strict=True):
        assert our.tokens == tuple(their["tokens"])
        assert our.text == their["text"]
        # _compat_one_position: what has a single position in time has NaN for attention there, and
        # so begins one position before the window; it has no length, so no text either.
        exact = 0.0 if our.text else 0.0201
        assert our.seek == their["seek"]
        assert our.start_s == pytest.approx(their["start"], abs=exact, rel=0)
        assert our.end_s == pytest.approx(their["end"], abs=exact, rel=0)
        assert our.temperature == their["temperature"]
        assert our.compression_ratio == their["compression_ratio"]
        assert our.avg_logprob == pytest.approx(their["avg_logprob"], abs=2e-4)
        assert our.no_speech_prob == pytest.approx(their["no_speech_prob"], abs=1e-5, rel=1e-3)
        assert our.language == theirs["language"]
        assert [word.text for word in our.words] == [w["word"] for w in their.get("words", ())]
        for word, other in zip(our.words, their.get("words", ()), strict=True):
            assert (word.start_s, word.end_s) == (other["start"], other["end"])
            assert word.probability == pytest.approx(other["probability"], abs=1e-5)


def blocks(samples: Samples, size: int = 50_000) -> Recording:
    """A recording in blocks that fit nothing."""
    edges = range(0, len(samples), size)
    return lambda: (samples[edge : edge + size] for edge in edges)


def synthetic(seconds: float, seed: int = 0) -> Samples:
    """Hums, hisses, clicks and pauses."""
    draw = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    hum = np.sin(2 * np.pi * (120 + 40 * np.sin(time * (1 + seed % 5))) * time * (1 + time / 40))
    hiss = draw.standard_normal(len(time)) * (np.sin(time * 3 + seed) > 0.3)
    clicks = (draw.random(len(time)) > 0.9997) * 0.8
    loud = np.sin(time * 0.9 + seed) > -0.6
    return ((0.2 * hum + 0.08 * hiss + clicks) * loud).astype(np.float32)


def edge_cases() -> Iterator[tuple[str, Samples]]:
    """Recordings that break programs."""
    yield "silence", np.zeros(3 * RATE, np.float32)
    yield "one sample", np.full(1, 0.5, np.float32)
    yield "one frame", synthetic(0.01)
    yield "a frame less a sample", synthetic(0.02)[:319]
    click = np.zeros(2 * RATE, np.float32)
    click[RATE] = 1.0
    yield "a click", click
    yield "noise", 0.3 * np.random.default_rng(1).standard_normal(4 * RATE).astype(np.float32)
    yield "clipped", np.clip(9 * synthetic(3.0, 2), -1, 1)
    yield "faint", 1e-4 * synthetic(3.0, 3)
    yield "constant", np.full(RATE, 0.25, np.float32)
    yield "a click after silence", np.concatenate([np.zeros(31 * RATE, np.float32), click])
    yield "30 s", synthetic(30.0, 4)
    yield "30 s and a sample", synthetic(30.0 + 1 / RATE, 5)
    yield "31 s", synthetic(31.0, 6)
    yield "65 s", synthetic(65.0, 7)


def recorded(shared: Path, count: int) -> Iterator[tuple[str, Samples]]:
    """Speech of many people and languages at 16 kHz."""
    found = 0
    for path in sorted((shared / "audio").rglob("*.*")):
        if path.suffix not in (".wav", ".flac") or found == count:
            continue
        about = soundfile.info(path)
        if about.samplerate == RATE and about.channels == 1 and about.duration < 16:
            found += 1
            samples, _ = soundfile.read(path, dtype="float32")
            yield path.name, samples
    if found < count:
        pytest.skip(f"only {found} recordings at 16 kHz in {shared}")
