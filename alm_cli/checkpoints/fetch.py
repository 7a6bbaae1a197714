"""Getting the files of a catalogued model: the only place that touches the network."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path, PurePosixPath

from alm_cli.catalog import ModelCard
from alm_cli.checkpoints.reader import weight_files
from alm_cli.errors import ModelError

ASSETS = Path(str(resources.files("alm_cli"))) / "assets"

_OFFLINE = ("ALM_OFFLINE", "HF_HUB_OFFLINE")


def fetch(card: ModelCard, *, offline: bool | None = None) -> Path:
    """The folder with the model's files, downloaded unless they are on this machine."""
    folder = locate(card)
    if folder is not None:
        return folder
    if card.asset:
        raise ModelError(
            f"{card.name}: its files are missing from this installation",
            hint="install alm-cli again",
        )
    if is_offline() if offline is None else offline:
        raise ModelError(f"{card.name} is not on this machine, and alm is offline", _by_hand(card))
    return _download(card)


def locate(card: ModelCard) -> Path | None:
    """The folder with the model's files, or None when they are not on this machine."""
    if card.asset:
        folder = ASSETS / card.asset
    else:
        found = _cached(card)
        if found is None:
            return None
        folder = _home(card, found)
    return folder if _complete(card, folder) else None


def is_offline() -> bool:
    """Whether the environment forbids the network: ALM_OFFLINE=1 or HF_HUB_OFFLINE=1."""
    return any(os.environ.get(name, "").lower() in {"1", "true", "yes", "on"} for name in _OFFLINE)


def _home(card: ModelCard, snapshot: Path) -> Path:
    """Where the files are: they may have a folder of their own within the repository."""
    return snapshot / os.path.commonpath([PurePosixPath(name).parent for name in card.files])


def _complete(card: ModelCard, folder: Path) -> bool:
    described = "config.json" not in card.files or (folder / "config.json").is_file()
    try:
        return described and bool(weight_files(folder))
    except ModelError:
        return False


def _cached(card: ModelCard) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    repository, revision = card.repository
    try:
        return Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def _download(card: ModelCard) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    repository, revision = card.repository
    try:
        # Asked first because it fails at once, where the download tries again for half a minute.
        HfApi().model_info(repository, revision=revision, timeout=10)
        folder = snapshot_download(repository, revision=revision, allow_patterns=list(card.files))
    # Connections, proxies, certificates, gates and full disks fail in ways that depend on the
    # versions of three libraries; all of them mean that the files are not here.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{card.name} could not be fetched: {reason}", _by_hand(card)) from error
    return _home(card, Path(folder))


def _by_hand(card: ModelCard) -> str:
    """How to go on without the network."""
    repository, revision = card.repository
    return (
        f"with a network, run `alm models pull {card.name}`; or get {', '.join(card.files)} of "
        f"{repository} at revision {revision} on another machine, put them into one folder and "
        "give that folder as --model"
    )
