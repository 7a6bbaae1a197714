"""From a name or a folder to a model that is ready to use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from alm_cli.catalog import ModelCard, families, family_of, find_card
from alm_cli.checkpoints.family import Family, SettingsError
from alm_cli.checkpoints.fetch import fetch
from alm_cli.checkpoints.keymap import Step
from alm_cli.checkpoints.licences import require
from alm_cli.checkpoints.reader import Checkpoint, open_checkpoint, read_json
from alm_cli.errors import ModelError

# What fills a weight with chance; by these names torch.nn.init and tensors have them.
_DRAWN = frozenset({
    "kaiming_normal_", "kaiming_uniform_", "normal_", "trunc_normal_", "uniform_",
    "xavier_normal_", "xavier_uniform_",
})  # fmt: skip


@dataclass(frozen=True)
class Loaded:
    """A model for inference, float32 on the CPU, and what it was made from."""

    model: nn.Module
    config: Any
    weights_sha256: str
    card: ModelCard | None
    name: str


def load(
    source: ModelCard | str | Path, *, offline: bool | None = None, mapped: bool = False
) -> Loaded:
    """A catalogued model by card or name, or one in a local folder or file.

    `config.json` lies in the folder or beside the file; its `model_type` names the family. Where
    it does not, or is missing, the names and shapes of the tensors tell. The network is used for
    catalogued models only, and never when `offline`. A catalogued formula has no files to read.
    The weights of a `mapped` model stay in its files, of the number types that they have there:
    see `open_checkpoint`. Whoever packs them one by one calls `eval` in the end.
    """
    card = _card(source)
    if card is not None and not card.source:
        return _formula(card)
    if card is not None:
        require(card)
    path = _path(source) if card is None else fetch(card, offline=offline)
    checkpoint = open_checkpoint(path, mapped=mapped)
    family, raw = _described(card, path, checkpoint)
    config = _config(family, raw, checkpoint)
    model = build(family, config, checkpoint, as_stored=mapped)
    name = card.name if card else (path if path.is_dir() else path.parent).name
    return Loaded(model, config, checkpoint.sha256(), card, name)


def build(
    family: Family, config: Any, checkpoint: Checkpoint, *, as_stored: bool = False
) -> nn.Module:
    """The model with the weights of a checkpoint; at no time are there two copies of them.

    They are float32, or parameters `as_stored`: then the model is not made ready by `eval` either,
    which lays matrices that are used together side by side in memory.
    """
    model, plan = _planned(family, config, checkpoint)
    kept = {name for name, _ in model.named_parameters()} if as_stored else set()
    weights: dict[str, Tensor] = {}
    for step in plan:
        made = step.combine(*map(checkpoint.read, step.sources))
        weights[step.target] = made if step.target in kept else _float(made)
    model.load_state_dict(weights, assign=True)
    weights.clear()  # whoever lays them elsewhere lets go of them one by one
    model.requires_grad_(False)
    return model if as_stored else model.eval()


def _planned(family: Family, config: Any, checkpoint: Checkpoint) -> tuple[nn.Module, list[Step]]:
    """The model without weights, and how to fill it. ModelError: the tensors do not fit it."""
    with _AsTheyAre():
        model = family.model(config)
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return model, family.keys.plan(checkpoint.shapes, ours)


def _config(family: Family, raw: Mapping[str, object], checkpoint: Checkpoint) -> Any:
    """The settings as the family reads them. ModelError: all that is wrong, tensors included."""
    try:
        return family.read_config(raw)
    except SettingsError as error:
        usable = {key: value for key, value in raw.items() if key not in error.keys}
        try:
            _planned(family, family.read_config(usable), checkpoint)
        except ModelError as misfit:
            raise ModelError(f"{error.message}\n{misfit.message}", error.hint) from misfit
        except (RuntimeError, ValueError):  # defaults need not go with the other settings
            pass
        raise


def _float(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


class _AsTheyAre(TorchFunctionMode):
    """Weights are not drawn at random where a checkpoint brings them.

    Their memory is asked for and never touched, so it costs nothing. The meta device would do as
    well, but torch imports its compiler, three seconds of work, for the first window or table of
    positions that is made there.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        named = dict(kwargs or {})
        if getattr(func, "__name__", "") in _DRAWN:
            return args[0] if args else named["tensor"]
        return func(*args, **named)


def _card(source: ModelCard | str | Path) -> ModelCard | None:
    """The card, or None for what is a folder or a file."""
    if isinstance(source, ModelCard):
        return source
    named = isinstance(source, str) and os.sep not in source
    return find_card(str(source)) if named and not Path(source).expanduser().exists() else None


def _path(source: ModelCard | str | Path) -> Path:
    """The folder or file with the weights."""
    path = Path(str(source)).expanduser()
    if not path.exists():
        raise ModelError(f"{path}: no such file or folder", hint="`alm models` lists the names")
    return path.absolute()


def _formula(card: ModelCard) -> Loaded:
    """A model without weights: its name is all that there is to read."""
    family = _family(card.family)
    config = family.read_config({"model_type": card.name})
    model = family.model(config).requires_grad_(False).eval()
    return Loaded(model, config, "", card, card.name)


def _described(
    card: ModelCard | None, path: Path, checkpoint: Checkpoint
) -> tuple[Family, Mapping[str, object]]:
    """The family of a checkpoint and its settings, from config.json or from the tensors."""
    file = (path if path.is_dir() else path.parent) / "config.json"
    raw = read_json(file) if file.exists() else {}
    model_type = raw.get("model_type")
    if isinstance(model_type, str):
        # One checkpoint may serve two families: the card says which is meant.
        known = card.family if card else family_of(model_type)
        if known is not None:
            family = _family(known)
            told = (file.with_name(name) for name in family.beside)
            return family, {
                **raw,
                **{path.name: read_json(path) for path in told if path.is_file()},
            }
        # A file that was named may be one part of a system, whose config.json lies beside it.
        raw = raw if path.is_dir() else {}
    said = raw or checkpoint.said
    for name in [card.family] if card else families():
        family = _family(name)
        settings = family.sniff(checkpoint.shapes, said) if family.sniff else None
        if settings is not None:
            return family, settings
    lack = "names no model_type" if raw else "missing"
    if model_type is not None:
        lack = f"model_type is {model_type!r}, which alm does not know"
    raise ModelError(
        f"{file}: {lack}, and the weights are of no known kind",
        hint="`alm models` lists what it can run",
    )


def _family(name: str) -> Family:
    family = import_module(name).FAMILY
    assert isinstance(family, Family)
    return family
