"""The reference implementations that codecs are measured against: random weights, published sizes.

Each peer writes its own checkpoint, which `alm` then reads, so both sides have the same weights.
`transformers` always; the package of the authors where it is installed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Peer:
    """A codec of `transformers`: its settings, and how it encodes and decodes.

    `encode(model, wave [B, C, T])` gives what `decode(model, ...)` takes and `codes` reads as
    [B, K, F].
    """

    model: str
    settings: dict[str, Any]
    rate: int
    codebooks: int
    encode: Callable[[Any, Tensor], Any]
    decode: Callable[[Any, Any], Tensor]
    codes: Callable[[Any], Tensor]
    channels: int = 1
    original: Callable[[], Original | None] = field(default=lambda: None)

    def write(self, folder: Path) -> Path:
        """Write a checkpoint with random weights and filled codebooks."""
        import transformers

        torch.manual_seed(0)
        config = getattr(transformers, f"{self.model.removesuffix('Model')}Config")(**self.settings)
        model = getattr(transformers, self.model)(config)
        for name, buffer in model.named_buffers():
            if name.endswith(("codebook.embed", "codebook.embed_sum")):  # all zeros to begin with
                buffer.normal_()
        model.save_pretrained(folder)
        return folder

    def load(self, folder: Path) -> nn.Module:
        """The checkpoint as the reference loads it, ready for inference."""
        import transformers

        loaded: nn.Module = getattr(transformers, self.model).from_pretrained(folder)
        return loaded.train(False)


@dataclass(frozen=True)
class Original:
    """The authors' package with random weights: speed does not depend on their values."""

    name: str
    encode: Callable[[Tensor], Any]
    decode: Callable[[Any], object]


def _encodec(kind: str, kbps: float) -> Original | None:
    """The package `encodec`, if it is installed."""
    if importlib.util.find_spec("encodec") is None:
        return None
    from encodec import EncodecModel  # type: ignore[import-not-found]

    model = getattr(EncodecModel, f"encodec_model_{kind}")(pretrained=False).train(False)
    model.set_target_bandwidth(kbps)
    return Original("encodec", model.encode, model.decode)


PEERS = {
    "encodec-24khz": Peer(
        "EncodecModel",
        {},
        rate=24_000,
        codebooks=8,
        encode=lambda model, wave: model.encode(wave, bandwidth=6.0),
        decode=lambda model, made: model.decode(made.audio_codes, made.audio_scales).audio_values,
        codes=lambda made: made.audio_codes[0],
        original=lambda: _encodec("24khz", 6.0),
    ),
    "encodec-48khz": Peer(
        "EncodecModel",
        {
            "sampling_rate": 48_000,
            "audio_channels": 2,
            "normalize": True,
            "chunk_length_s": 1.0,
            "overlap": 0.01,
            "norm_type": "time_group_norm",
            "use_causal_conv": False,
            "target_bandwidths": [3.0, 6.0, 12.0, 24.0],
        },
        rate=48_000,
        channels=2,
        codebooks=4,
        encode=lambda model, wave: model.encode(wave, torch.ones_like(wave[:, :1]), bandwidth=6.0),
        decode=lambda model, made: model.decode(made.audio_codes, made.audio_scales).audio_values,
        codes=lambda made: torch.cat(list(made.audio_codes), -1),
        original=lambda: _encodec("48khz", 6.0),
    ),
    "dac-44khz": Peer(
        "DacModel",
        {"sampling_rate": 44_100},
        rate=44_100,
        codebooks=9,
        # As its feature extractor does: whole frames.
        encode=lambda model, wave: model.encode(
            nn.functional.pad(wave, (0, -wave.shape[-1] % 512))
        ),
        decode=lambda model, made: model.decode(audio_codes=made.audio_codes).audio_values,
        codes=lambda made: made.audio_codes,
    ),
    "mimi": Peer(
        "MimiModel",
        {},
        rate=24_000,
        codebooks=8,
        encode=lambda model, wave: model.encode(wave, num_quantizers=8),
        decode=lambda model, made: model.decode(made.audio_codes).audio_values,
        codes=lambda made: made.audio_codes,
    ),
}
