"""What the tests of the commands share: the program in this process, and two small codecs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from alm_cli.app import app
from alm_cli.files.audio import open_writer

Alm = Callable[..., Result]
Record = Callable[..., Path]


@pytest.fixture
def alm() -> Alm:
    """The program in this process: arguments, then `input=` bytes; a result with exit_code."""

    def run(*arguments: object, input: bytes = b"") -> Result:
        result = CliRunner().invoke(app, [str(word) for word in arguments], input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """A recording of noise, the same for the same length, under `tmp_path`."""

    def write(
        name: str, length: int = 3000, rate: int = 24_000, channels: int = 1, gain: float = 0.1
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_writer(path, rate=rate, channels=channels) as writer:
            generator = np.random.default_rng(length)
            samples = gain * generator.standard_normal((channels, length))
            writer.write(samples.astype(np.float32))
        return path

    return write


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small random codec: 24 kHz, hop 96, four codebooks of 32."""
    return make_codec(tmp_path_factory.mktemp("models") / "small", seed=0)


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec of the same name and shape with other weights."""
    return make_codec(tmp_path_factory.mktemp("others") / "small", seed=1)


def make_codec(folder: Path, seed: int) -> Path:
    """A random codec in the form in which models are loaded."""
    import torch
    from safetensors.torch import save_file

    from alm_cli.codecs.alm_codec import AlmCodec, AlmCodecConfig

    config = AlmCodecConfig(
        fine_hop=48, synthesis_hop=24, window=96, delay=96, codebooks=4, vocabulary=32, latent=8,
        encoder_depth=1, encoder_width=16, context_width=16, decoder_depth=1, decoder_width=16,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = AlmCodec(config)
    for book in model.quantizer.codebooks:
        book.vectors.data.normal_(std=0.5)
    folder.mkdir(parents=True)
    weights = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    settings = {"model_type": "alm_codec", **asdict(config)}
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def program() -> Sequence[str]:
    """The command that starts the program in a process of its own."""
    return [sys.executable, "-m", "alm_cli"]
