"""Reference models of `transformers` with random weights, written as checkpoints that we load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from alm_cli.checkpoints.load import load
from alm_cli.codecs.encodec import Encodec

HEADERS = Path(__file__).parent / "fixtures" / "headers"


def header(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published checkpoint, from its fixture with layer numbers collapsed.

    `-` is the shape of a single number.
    """
    shapes = {}
    for line in (HEADERS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            names, _, shape = line.rpartition(" ")
            sizes = () if shape == "-" else tuple(map(int, shape.split("x")))
            shapes.update(dict.fromkeys(_expanded(names.strip()), sizes))
    return shapes


def _expanded(names: str) -> Iterator[str]:
    """`a.{0..2}.b` -> a.0.b, a.1.b, a.2.b; `{0,3}` lists."""
    before, brace, rest = names.partition("{")
    if not brace:
        yield names
        return
    inside, _, after = rest.partition("}")
    first, dots, last = inside.partition("..")
    for value in range(int(first), int(last) + 1) if dots else inside.split(","):
        yield from _expanded(f"{before}{value}{after}")


@dataclass(frozen=True)
class EncodecPair:
    """The same weights twice: as published elsewhere, and loaded by us from its checkpoint."""

    theirs: Any
    ours: Encodec

    @property
    def bandwidths(self) -> list[float]:
        return list(self.theirs.config.target_bandwidths)

    def their_codes(self, wave: Tensor, bandwidth: float) -> Tensor:
        """wave [B, C, T] -> codes [B, K, F]."""
        codes: Tensor = self.theirs.encode(wave, bandwidth=bandwidth).audio_codes[0]
        return codes

    def their_wave(self, codes: Tensor) -> Tensor:
        """codes [B, K, F] -> wave [B, C, T]."""
        wave: Tensor = self.theirs.decode(codes[None], [None]).audio_values
        return wave


@torch.no_grad()
def encodec_pair(folder: Path, **config: Any) -> EncodecPair:
    """A pair with weights under which activations are as large, and codes as varied, as in life."""
    from transformers import EncodecConfig, EncodecModel

    torch.manual_seed(0)
    theirs = EncodecModel(EncodecConfig(**config)).eval()
    # The default weights halve the signal in every layer, until only biases are left.
    _amplify(theirs.encoder, 2.0)
    _amplify(theirs.decoder, 1.6)
    _amplify(theirs.decoder.layers[-1], 0.25)
    _fill_codebooks(theirs)
    theirs.save_pretrained(folder)
    ours = load(folder).model
    assert isinstance(ours, Encodec)
    return EncodecPair(theirs, ours)


def _amplify(part: nn.Module, gain: float) -> None:
    """Multiply the weights of all convolutions."""
    for module in part.modules():
        if nn.utils.parametrize.is_parametrized(module, "weight"):
            module.parametrizations.weight.original0.mul_(gain)


def _fill_codebooks(model: Any) -> None:
    """Spread each codebook over what it will code; as they start, all zeros, every code is 0."""
    seconds = torch.linspace(0, 1, 12_000)
    sweep = torch.sin(8000 * seconds**2) * seconds + torch.randn(12_000) * 0.1
    latents = model.encoder(sweep.expand(1, model.config.audio_channels, -1))
    residual = latents[0].T
    for layer in model.quantizer.layers:
        vectors = layer.codebook.embed
        vectors.normal_().mul_(residual.std(0)).add_(residual.mean(0))
        residual = residual - layer.decode(layer.encode(residual.T[None]))[0].T


@torch.no_grad()
def assert_same_codes(pair: EncodecPair, wave: Tensor, bandwidth: float) -> Tensor:
    """Our codes, which are theirs; the message says how near a tie the first difference is."""
    theirs = pair.their_codes(wave, bandwidth)
    ours = pair.ours.encode(wave, theirs.shape[1])
    assert ours.shape == theirs.shape
    differing = (ours != theirs).nonzero().tolist()
    if differing:
        margin = _margin(pair, wave, theirs, *differing[0])
        raise AssertionError(
            f"{len(differing)} of {theirs.numel()} codes differ at {wave.shape[-1]} samples, first "
            f"{differing[0]}, relative margin {margin:.1e} (float noise if below 1e-5)"
        )
    return ours


def _margin(
    pair: EncodecPair, wave: Tensor, codes: Tensor, row: int, book: int, frame: int
) -> float:
    """How much farther, relatively, the second nearest vector is than the nearest."""
    residual = pair.theirs.encoder(wave[row : row + 1])[0, :, frame].double()
    for level in range(book):
        residual = (
            residual - pair.theirs.quantizer.layers[level].codebook.embed[codes[row, level, frame]]
        )
    distance = (pair.theirs.quantizer.layers[book].codebook.embed - residual).square().sum(-1)
    nearest, second = distance.topk(2, largest=False).values.tolist()
    return float((second - nearest) / max(second, 1e-30))
