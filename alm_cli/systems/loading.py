"""Models that make sound, by what their networks are; light until one is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alm_cli.errors import ModelError, UsageError


def load_maker(
    source: str | Path,
    modules: Mapping[str, str],
    kind: str,
    lacks: str,
    *,
    device: str,
    dtype: str,
    threads: int | None,
    mapped: bool = False,
    own: Mapping[str, str] | None = None,
) -> Any:
    """Load a model and make it what `kind` names: a speaker, a composer.

    `modules` have for each class of network the module whose `kind(loaded, source, *, device,
    dtype)` makes it one; ModelError of another says what it `lacks`. `mapped`: weights may stay in
    their file. `own` are settings of the model's own: a module names those that it takes, and
    their values, in `SETTINGS`; UsageError: not this one.
    """
    from importlib import import_module

    from alm_cli.checkpoints.load import load
    from alm_cli.runtime import device_of, set_threads

    place = device_of(device)
    set_threads(threads)
    loaded = load(source, mapped=mapped)
    module = modules.get(type(loaded.model).__name__)
    if module is None:
        raise ModelError(f"{loaded.name} does not {lacks}", hint="`alm models` names those that do")
    making = import_module(module)
    known: Mapping[str, tuple[str, ...]] = getattr(making, "SETTINGS", {})
    for name, value in (own or {}).items():
        if value not in known.get(name, ()):
            all_of_them = ", ".join(f"{n}={v}" for n, values in known.items() for v in values)
            raise UsageError(
                f"{loaded.name} has no setting {name}={value}",
                hint=f"it has {all_of_them or 'none of its own'}",
            )
    return getattr(making, kind)(loaded, source, device=place, dtype=dtype, **(own or {}))
