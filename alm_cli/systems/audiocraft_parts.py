"""What AudioCraft's language models need beside their weights: a T5 and an EnCodec."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from alm_cli.catalog import CATALOG, T5_ENCODERS, ModelCard
from alm_cli.checkpoints.fetch import fetch
from alm_cli.checkpoints.load import load
from alm_cli.checkpoints.reader import open_checkpoint
from alm_cli.errors import ModelError
from alm_cli.nn.t5 import T5Encoder
from alm_cli.systems.codec import Codec, CodecModel
from alm_cli.text.t5_text import T5Text, load_t5_text

_CODEC = "compression_state_dict.bin"


@dataclass(frozen=True)
class CodecBeside:
    """A codec of its own, which hears what is gone on from, too."""

    decoder: Codec

    @property
    def encoder(self) -> Codec:
        """The same."""
        return self.decoder


def text_reader(
    folder: Path, name: str, dimension: int, device: torch.device, *, mapped: bool = False
) -> tuple[T5Encoder, T5Text]:
    """The T5 called `name`, and its tokenizer: from a folder in `folder`, or from the catalogue.

    `mapped` weights stay in their file, for those who round them. ModelError: it is in neither, or
    its vectors are not of `dimension`.
    """
    near, card = _within(folder, name), T5_ENCODERS.get(Path(name).name)
    if near is not None and near.is_dir():
        home, loaded = near, load(near, mapped=mapped)
    elif card is not None:
        home, loaded = fetch(card), load(card, mapped=mapped)
    else:
        raise ModelError(f"{folder}: has no {name}", hint=f"put {name} of the hub there")
    found = loaded.model
    if not isinstance(found, T5Encoder) or found.dimension != dimension:
        raise ModelError(f"{home}: not the {name} that the model listens to")
    return found.to(device), load_t5_text(home, loaded.config.vocabulary)


def codec_beside(folder: Path, vocabularies: tuple[int, ...], device: torch.device) -> Codec:
    """EnCodec, whose weights lie in `folder`, or where a file there says.

    ModelError: there is none, or not one with these codebooks.
    """
    file = folder / _CODEC
    if not file.is_file():
        raise ModelError(f"{file}: missing", hint="fetch all files of the model")
    loaded = load(_elsewhere(folder, file) or file)
    found = cast(CodecModel, loaded.model.to(device))
    if getattr(found, "vocabularies", ()) != vocabularies or found.channels != 1:
        raise ModelError(f"{file}: not the codec whose codes the model makes")
    name = f"encodec-{found.rate // 1000}khz"
    return Codec(found, name, loaded.weights_sha256, device=device)


def _elsewhere(folder: Path, file: Path) -> Path | ModelCard | None:
    """The folder or the card of the codec that a file names instead of holding its weights."""
    named = open_checkpoint(file).said.get("pretrained")
    if not isinstance(named, str):
        return None
    near = _within(folder, named)
    if near is not None and near.is_dir():
        return near
    card = next((card for card in CATALOG if named and card.repository[0] == named), None)
    if card is None:
        raise ModelError(
            f"{file}: names {named[:80]!r}, which alm does not know",
            hint=f"put the files of that model into {near or folder}",
        )
    return card


def _within(folder: Path, name: str) -> Path | None:
    """The folder of a repository within another folder: that with the last word of its name."""
    word = name.rpartition("/")[2]
    # Whatever a checkpoint says, this does not lead out of the folder.
    return folder / word if word.strip(".") and "\\" not in word and "\0" not in word else None
