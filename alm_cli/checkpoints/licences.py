"""The licences of weights that may not be used for everything, and who has accepted them."""

from __future__ import annotations

import os
from pathlib import Path

from alm_cli.catalog import ModelCard
from alm_cli.errors import ModelError

# A line for each: the name, a tab, and the licence as it was when it was accepted.
_FILE = "accepted-licences"
_VARIABLE = "ALM_ACCEPT_LICENSE"


def require(card: ModelCard) -> None:
    """ModelError: the licence of the model has to be accepted, and was not."""
    if not is_accepted(card):
        raise ModelError(
            f"{card.name}: not everything may be done with its weights ({card.licence})",
            hint=f"`alm models pull {card.name} --accept-license` accepts that once and for all,"
            f" or {_VARIABLE}=1 for now",
        )


def is_accepted(card: ModelCard) -> bool:
    """Whether nothing is restricted, or the user agreed: with this licence, not an earlier one."""
    if not card.restricted:
        return True
    said = os.environ.get(_VARIABLE, "").strip()
    if said.lower() in {"1", "true", "yes", "on"} or card.name in said.split(","):
        return True
    try:
        return _line(card) in _place().read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return False


def accept(card: ModelCard) -> None:
    """Remember that the user accepts the licence. ModelError: it cannot be written down."""
    if is_accepted(card):
        return
    place = _place()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        # One short write at the end of the file: the lines of several processes do not mix.
        with place.open("a", encoding="utf-8") as file:
            file.write(f"{_line(card)}\n")
    except OSError as error:
        raise ModelError(
            f"{place}: cannot be written ({error.strerror})", hint=f"{_VARIABLE}=1 serves as well"
        ) from error


def _place() -> Path:
    """In the user's folder for settings, as the XDG specification has it."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path("~/.config").expanduser()) / "alm" / _FILE


def _line(card: ModelCard) -> str:
    return f"{card.name}\t{card.licence}"
