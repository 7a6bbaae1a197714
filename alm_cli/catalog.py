"""The models that alm knows by name: one card each, and the only place with their addresses."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from alm_cli.errors import ModelError

Task = Literal["codec"]

_SAFETENSORS = ("config.json", "*.safetensors", "*.safetensors.index.json")
_ASSET = "asset:"


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What is known of a model before it is loaded.

    `source` is `asset:<folder>` for weights in the package, else `<repository>@<revision>`, of
    which `files` are fetched. Rates are in hertz, `parameters` counts the weights in use;
    `vocabularies` is empty for features, of which there are `dimension` a frame. `model_types` are
    those of config.json files that the family reads, by default its own name.
    """

    name: str
    task: Task
    family: str
    source: str
    note: str
    licence: str
    parameters: int
    rate: int
    frame_rate: float
    vocabularies: tuple[int, ...]
    files: tuple[str, ...] = _SAFETENSORS
    dimension: int = 0
    model_types: tuple[str, ...] = ()

    @property
    def asset(self) -> str | None:
        """The folder within the package, None for what is fetched."""
        return self.source.removeprefix(_ASSET) if self.source.startswith(_ASSET) else None

    @property
    def repository(self) -> tuple[str, str]:
        """Repository and revision of what is fetched."""
        repository, _, revision = self.source.partition("@")
        return repository, revision


CATALOG = (
    ModelCard(
        name="alm-codec",
        task="codec",
        family="alm_cli.codecs.alm_codec",
        source="asset:alm-codec",
        note="speech and music, 24 kHz, ours, in the package",
        licence="Apache-2.0",
        parameters=11_681_318,
        rate=24_000,
        frame_rate=25.0,
        vocabularies=(1024,) * 32,
    ),
    ModelCard(
        name="encodec-24khz",
        task="codec",
        family="alm_cli.codecs.encodec",
        # The head of the main branch since July 2023: what an unpinned download gets.
        source="facebook/encodec_24khz@c1dbe2ae3f1de713481a3b3e7c47f357092ee040",
        note="speech and music, 24 kHz, 1.5 to 24 kbps",
        licence="MIT for the code; the card of the weights names none",
        parameters=19_041_121,
        rate=24_000,
        frame_rate=75.0,
        vocabularies=(1024,) * 32,
    ),
)


def find_card(name: str) -> ModelCard:
    """The card of a model; a ModelError suggests the nearest names."""
    cards = {card.name: card for card in CATALOG}
    if name in cards:
        return cards[name]
    near = get_close_matches(name.lower(), cards) or list(cards)
    raise ModelError(
        f"there is no model {name!r}",
        hint=f"{' or '.join(near)}? `alm models` lists all; a folder is written ./{name}",
    )


def family_of(model_type: str) -> str | None:
    """The module that builds the models whose config.json has this `model_type`."""
    for card in CATALOG:
        if model_type in (card.model_types or (card.family.rpartition(".")[2],)):
            return card.family
    return None
