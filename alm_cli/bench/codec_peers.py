"""The same codec in other programs, where they are installed: same weights, same audio."""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alm_cli.bench.quality import at_rate
from alm_cli.catalog import find_card
from alm_cli.checkpoints.fetch import fetch
from alm_cli.checkpoints.keymap import KeyMap
from alm_cli.checkpoints.load import load
from alm_cli.checkpoints.reader import open_checkpoint, read_json
from alm_cli.codecs import dac, encodec
from alm_cli.errors import ModelError
from alm_cli.values import Audio


@dataclass(frozen=True, kw_only=True)
class Calls:
    """How a model of another program is asked.

    `encode(model, wave [B, C, T], codebooks)` gives what `decode(model, ...)` takes, and of which
    `codes` reads [B, K, F].
    """

    encode: Callable[[Any, Tensor, int], Any]
    decode: Callable[[Any, Any], Tensor]
    codes: Callable[[Any], Tensor]


@dataclass(frozen=True, kw_only=True)
class CodecPeer:
    """A codec in another program, which gets recordings as ours does: resampling is its work."""

    program: str
    model: Any
    calls: Calls
    rate: int
    channels: int
    device: str = "cpu"
    load_s: float | None = None

    @torch.inference_mode()
    def encode(self, audio: Audio, codebooks: int) -> Any:
        """Mono audio of any rate -> what the program makes of it."""
        wave = torch.from_numpy(at_rate(audio, self.rate).samples).expand(1, self.channels, -1)
        return self.calls.encode(self.model, wave.to(self.device), codebooks)

    def codes(self, made: Any) -> NDArray[np.int64]:
        """Its codes [1, K, F]."""
        return self.calls.codes(made).cpu().numpy().astype(np.int64)

    @torch.inference_mode()
    def decode(self, made: Any, like: Audio) -> Audio:
        """Mono audio of the rate and length of what was encoded."""
        wave = self.calls.decode(self.model, made)[0].mean(0, keepdim=True).float().cpu()
        decoded = at_rate(Audio(wave.numpy(), self.rate), like.rate).samples[:, : like.length]
        missing = like.length - decoded.shape[1]
        return Audio(np.pad(decoded, ((0, 0), (0, missing))), like.rate)


def codec_peer(program: str, source: str, device: str = "cpu") -> CodecPeer:
    """A codec in another program. ModelError: it is not here, or does not know such a codec."""
    make = PROGRAMS[program]
    package = "dac" if program == "descript-audio-codec" else program
    if importlib.util.find_spec(package) is None:
        raise ModelError(f"{program} is not installed", hint=f"pip install {program}")
    path = Path(source).expanduser()
    path = path if path.exists() else fetch(find_card(source))
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old packages with a new torch
        model, calls, rate, channels = make(path)
        model = model.train(False).to(device)
    return CodecPeer(
        program=program,
        model=model,
        calls=calls,
        rate=rate,
        channels=channels,
        device=device,
        load_s=time.perf_counter() - began,
    )


Made = tuple[Any, Calls, int, int]  # a model, its rate and its channels


def _transformers(path: Path) -> Made:
    kind = read_json(path / "config.json").get("model_type") if path.is_dir() else None
    if kind not in HUB:
        raise ModelError(
            f"{path}: transformers is compared on {', '.join(HUB)}",
            hint="give a folder with such a config.json",
        )
    model = import_module("transformers").AutoModel.from_pretrained(path)
    config = model.config
    return model, HUB[str(kind)], config.sampling_rate, getattr(config, "audio_channels", 1)


def _encodec(path: Path) -> Made:
    """The package of the authors, whose two models are built in."""
    loaded = load(path)
    config = loaded.config
    if not isinstance(config, encodec.EncodecConfig) or config.rate not in (24_000, 48_000):
        raise ModelError(f"{path}: the package encodec runs EnCodec at 24 and 48 kHz only")
    kinds = import_module("encodec").EncodecModel
    build = kinds.encodec_model_48khz if config.segmented else kinds.encodec_model_24khz
    model = fill(build(pretrained=False), loaded.model, path, encodec.KEYS)
    return model, _ENCODEC, config.rate, config.stack.channels


def _dac(path: Path) -> Made:
    """The package of the authors, built as the checkpoint says."""
    loaded = load(path)
    config = loaded.config
    if not isinstance(config, dac.DacConfig):
        raise ModelError(f"{path}: the package dac runs DAC only")
    model = import_module("dac").DAC(
        encoder_dim=config.width,
        encoder_rates=list(config.ratios),
        latent_dim=config.features,
        decoder_dim=config.decoder_width,
        decoder_rates=list(reversed(config.ratios)),
        n_codebooks=config.codebooks,
        codebook_size=config.vocabulary,
        codebook_dim=config.dimension,
        sample_rate=config.rate,
    )
    return fill(model, loaded.model, path, dac.KEYS), _DAC, config.rate, 1


def fill(theirs: nn.Module, ours: nn.Module, path: Path, keys: KeyMap) -> nn.Module:
    """Give a model of the authors' package the weights in a checkpoint, in whatever layout.

    The map from names of checkpoints to ours knows their names as well: what becomes the same
    weight of ours is the same weight. ModelError: it does not fit.
    """
    checkpoint = open_checkpoint(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in ours.state_dict().items()}
    stored = {step.target: step for step in keys.plan(checkpoint.shapes, shapes)}
    their_shapes = {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    values: dict[str, Tensor] = {}
    for step in keys.plan(their_shapes, shapes):
        given = stored[step.target]
        tensors = [checkpoint.read(name) for name in given.sources]
        if len(tensors) != len(step.sources):  # magnitude and direction of a folded weight
            weight = given.combine(*tensors)
            norms = torch.linalg.vector_norm(weight.flatten(1), dim=1)
            tensors = [norms.view(their_shapes[step.sources[0]]), weight]
        values |= zip(step.sources, tensors, strict=True)
    theirs.load_state_dict(values, strict=False)  # what training counts stays as it is
    return theirs


def _hub_bandwidth(model: Any, codebooks: int) -> float:
    """The bandwidth in kbps at which EnCodec uses so many codebooks."""
    count = model.quantizer.get_num_quantizers_for_bandwidth
    return _of({count(kbps): kbps for kbps in model.config.target_bandwidths}, codebooks)


def _bandwidth(model: Any, codebooks: int) -> float:
    count = model.quantizer.get_num_quantizers_for_bandwidth
    known = {count(model.frame_rate, kbps): kbps for kbps in model.target_bandwidths}
    return _of(known, codebooks)


def _of(known: Mapping[int, float], codebooks: int) -> float:
    if codebooks not in known:
        counts = ", ".join(map(str, sorted(known)))
        raise ModelError(f"has {counts} codebooks, not {codebooks}")
    return known[codebooks]


def _hub_encodec(model: Any, wave: Tensor, codebooks: int) -> Any:
    return model.encode(wave, bandwidth=_hub_bandwidth(model, codebooks))


def _hub_encodec_wave(model: Any, made: Any) -> Tensor:
    filled = made.last_frame_pad_length
    wave: Tensor = model.decode(
        made.audio_codes, made.audio_scales, last_frame_pad_length=filled
    ).audio_values
    return wave


def _hub_encodec_codes(made: Any) -> Tensor:
    # Segments one after another; the last is filled up, so that all can be one tensor.
    codes = torch.cat(list(made.audio_codes), -1)
    return codes[..., : codes.shape[-1] - made.last_frame_pad_length]


def _hub_dac(model: Any, wave: Tensor, codebooks: int) -> Any:
    # As its feature extractor does: whole frames.
    short = -wave.shape[-1] % int(np.prod(model.config.downsampling_ratios))
    return model.encode(nn.functional.pad(wave, (0, short)), n_quantizers=codebooks)


def _author_encodec(model: Any, wave: Tensor, codebooks: int) -> Any:
    model.set_target_bandwidth(_bandwidth(model, codebooks))
    return model.encode(wave)


# By `model_type`.
HUB: Mapping[str, Calls] = {
    "encodec": Calls(
        encode=_hub_encodec,
        decode=_hub_encodec_wave,
        codes=_hub_encodec_codes,
    ),
    "dac": Calls(
        encode=_hub_dac,
        decode=lambda model, made: model.decode(
            audio_codes=made.audio_codes
        ).audio_values.unsqueeze(1),
        codes=lambda made: made.audio_codes,
    ),
    "mimi": Calls(
        encode=lambda model, wave, codebooks: model.encode(wave, num_quantizers=codebooks),
        decode=lambda model, made: model.decode(made.audio_codes).audio_values,
        codes=lambda made: made.audio_codes,
    ),
}
_ENCODEC = Calls(
    encode=_author_encodec,
    decode=lambda model, made: model.decode(made),
    codes=lambda made: torch.cat([codes for codes, _ in made], -1),
)
_DAC = Calls(
    encode=lambda model, wave, codebooks: model.encode(
        model.preprocess(wave, model.sample_rate), codebooks
    ),
    decode=lambda model, made: model.decode(made[0]),
    codes=lambda made: made[1],
)

# As pip calls them.
PROGRAMS: Mapping[str, Callable[[Path], Made]] = {
    "transformers": _transformers,
    "encodec": _encodec,
    "descript-audio-codec": _dac,
}
