"""Voices of pocket-tts: exported ones, those that come with a model, and those of recordings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from alm_cli.errors import InputError
from alm_cli.files.audio import read_audio
from alm_cli.nn.resample import resampled
from alm_cli.nn.state import State
from alm_cli.systems.pocket_engine import Engine
from alm_cli.values import Audio

# Folders beside the weights, in either layout.
_FOLDERS = ("embeddings", "voices")
_SUFFIX = ".safetensors"
# Longer recordings are no better; a voice of half an hour would be a mistake.
_LONGEST_S = 30.0
_MOST_POSITIONS = 4096
# How a recording ends: within a pause, as those that the model was trained with.
_PAUSE_S, _FADE_S, _STEP_S, _FLOOR_DB = 0.08, 0.02, 0.02, 35.0


@dataclass(frozen=True, eq=False)
class PocketVoice:
    """A stream that begins with a voice; whoever speaks goes on from a copy."""

    state: State


class Voices:
    """What the voices of a model are called, and how each is had."""

    def __init__(
        self, engine: Engine, folders: Sequence[Path], name: str, first: str | None = None
    ) -> None:
        self._engine, self._name = engine, name
        files = [
            file
            for folder in folders
            for kind in _FOLDERS
            for file in sorted((folder / kind).glob(f"*{_SUFFIX}"))
        ]
        found = {file.stem: file for file in reversed(files)}
        # The one that is taken by itself comes first.
        self._files = {
            key: found[key] for key in sorted(found, key=lambda key: (key != first, key))
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Those that come with the model, its own choice first."""
        return tuple(self._files)

    def voice(self, source: str | Path | Audio | None) -> PocketVoice:
        """The voice of a name, an exported one, that of a recording, or the model's choice."""
        if isinstance(source, Audio):
            return self._heard(source, "the recording")
        if source is None:
            if not self._files:
                raise InputError(
                    f"{self._name} came without voices", hint="give a recording, or an exported one"
                )
            source = next(iter(self._files))
        path = self._files.get(str(source), Path(source).expanduser())
        if not path.is_file():
            near = get_close_matches(str(source), self._files) or self.names
            raise InputError(
                f"there is no voice {str(source)!r}", hint=f"{', '.join(near)}, or a recording"
            )
        if path.suffix == _SUFFIX:
            return PocketVoice(self._exported(path))
        return self._heard(read_audio(path), str(path))

    def _heard(self, audio: Audio, what: str) -> PocketVoice:
        codec = self._engine.codec
        if not codec.hears:
            raise InputError(
                f"{self._name} cannot take the voice of a recording: its encoder was left out",
                hint="take one of its voices, or the weights with voice cloning",
            )
        wave = torch.from_numpy(audio.samples).mean(0, keepdim=True)
        wave = resampled(wave[:, : round(_LONGEST_S * audio.rate)], audio.rate, codec.rate)
        if not wave.abs().max().nan_to_num(0) > 0:
            raise InputError(f"{what}: there is nothing to hear", hint="give a voice")
        heard = self._engine.hear(paused(wave, codec.rate)[None])
        return PocketVoice(self._engine.listen(heard))

    def _exported(self, path: Path) -> State:
        """A stream from a file. InputError: it is of another model, or damaged."""
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: not a readable safetensors file ({error})") from error
        model, state = self._engine.model, State()
        if len(tensors) == 1:
            (latents,) = tensors.values()
            if latents.dim() in (2, 3) and latents.shape[-1] == model.heard and latents.numel():
                heard = latents.view(1, -1, model.heard)[:, :_MOST_POSITIONS].float().mT
                return self._engine.listen(heard)
        layers = _layers(tensors)
        count = len(model.backbone.blocks)
        shape = (model.heads, model.head_dimension)
        if len(layers) != count or any(tuple(pair.shape[3:]) != shape for pair in layers):
            raise InputError(
                f"{path}: not a voice of {self._name}",
                hint=f"an exported voice has keys and values of {count} layers",
            )
        device = model.first.device
        pairs = [pair.float().transpose(2, 3).to(device) for pair in layers]
        if not all(pair.isfinite().all() for pair in pairs):
            raise InputError(f"{path}: not all numbers of this voice are finite")
        keys = [pair[0] if model.rotary == "pairs" else _halved(pair[0]) for pair in pairs]
        model.remember(keys, [pair[1] for pair in pairs], state)
        return state


def _layers(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """Keys and values [2, 1, S, H, D] of each layer in an exported voice; fewer if it is damaged.

    Beside each stands how many positions count. _compat_shape_is_the_number: files of the first
    releases have a tensor `current_end` of so many elements instead.
    """
    layers = []
    for index in range(len(tensors)):
        name = f"transformer.layers.{index}.self_attn"
        pairs, offset = tensors.get(f"{name}/cache"), tensors.get(f"{name}/offset")
        end = tensors.get(f"{name}/current_end")
        if pairs is None or pairs.dim() != 5 or pairs.shape[:2] != (2, 1):
            break
        length = pairs.shape[2]
        if offset is not None and offset.numel():
            length = int(offset.flatten()[0])
        elif end is not None and end.dim():
            length = len(end)
        if not 0 < length <= min(pairs.shape[2], _MOST_POSITIONS):
            break
        layers.append(pairs[:, :, :length])
    names = {name.partition("/")[0] for name in tensors}
    known = all(re.fullmatch(r"transformer\.layers\.\d+\.self_attn", name) for name in names)
    even = len({pair.shape for pair in layers}) == 1
    return layers if known and even and len(names) == len(layers) else []


def _halved(keys: Tensor) -> Tensor:
    """Keys whose features are turned with their neighbours -> as the hub's weights make them."""
    return torch.cat((keys[..., ::2], keys[..., 1::2]), -1)


def paused(wave: Tensor, rate: int) -> Tensor:
    """wave [1, T] -> [1, U], which ends in a short pause instead of a long one, or of speech."""
    step = max(1, int(_STEP_S * rate))
    whole = wave.shape[-1] // step * step
    if not whole:
        return wave
    power = wave[0, :whole].view(-1, step).square().mean(-1)
    loudness = 20 * torch.log10(power.sqrt() + 1e-12)
    loud = (loudness > loudness.max() - _FLOOR_DB).nonzero()
    end = (int(loud[-1]) + 1) * step
    fade = min(int(_FADE_S * rate), end)
    wave = wave[:, :end].clone()
    wave[:, end - fade :] *= torch.linspace(1, 0, fade)
    return torch.cat((wave, wave.new_zeros(1, int(_PAUSE_S * rate))), -1)
