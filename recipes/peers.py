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

from alm_cli.bench.codec_peers import HUB, Calls


@dataclass(frozen=True)
class Peer:
    """A codec of `transformers`: its settings, and how it is asked."""

    model: str
    settings: dict[str, Any]
    calls: Calls
    rate: int
    codebooks: int
    channels: int = 1
    original: Callable[[], Original | None] = field(default=lambda: None)

    def encode(self, model: Any, wave: Tensor) -> Any:
        """wave [B, C, T] -> what `decode` takes and `codes` reads as [B, K, F]."""
        return self.calls.encode(model, wave, self.codebooks)

    def decode(self, model: Any, made: Any) -> Tensor:
        """What `encode` gave -> wave [B, C, T]."""
        return self.calls.decode(model, made)

    def codes(self, made: Any) -> Tensor:
        """What `encode` gave -> codes [B, K, F]."""
        return self.calls.codes(made)

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
        HUB["encodec"],
        rate=24_000,
        codebooks=8,
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
        HUB["encodec"],
        rate=48_000,
        channels=2,
        codebooks=4,
        original=lambda: _encodec("48khz", 6.0),
    ),
    "dac-44khz": Peer("DacModel", {"sampling_rate": 44_100}, HUB["dac"], rate=44_100, codebooks=9),
    "mimi": Peer("MimiModel", {}, HUB["mimi"], rate=24_000, codebooks=8),
}
