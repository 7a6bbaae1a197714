"""Original packages as oracles, where they are installed, without what they import beside them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from typing import Any

import pytest


def originals(monkeypatch: pytest.MonkeyPatch, package: str, *modules: str) -> list[Any]:
    """Modules of a package whose own `__init__`, which may need much more, is not run.

    Skips where the package, or what those modules need, is missing.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip(f"needs the package {package}")
    hollow = types.ModuleType(package)
    hollow.__path__ = list(spec.submodule_search_locations)
    monkeypatch.setitem(sys.modules, package, hollow)
    if importlib.util.find_spec("scipy") is None:  # vocos, for a transform that is not tested
        monkeypatch.setitem(sys.modules, "scipy", types.ModuleType("scipy"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [importlib.import_module(f"{package}.{name}") for name in modules]
    except ModuleNotFoundError as error:
        pytest.skip(f"{package} needs {error.name}")
