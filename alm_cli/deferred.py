"""A part of torch that no command uses is loaded when something asks for it, and not before.

It says what shapes results have without computing them, for compilers. `import torch` always loads
it, which takes a quarter of its time. Programs that import `alm_cli` are left as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import LazyLoader
from types import ModuleType

UNUSED = "torch._meta_registrations"


class _Deferring(MetaPathFinder):
    """Finds what the finders after it find, with a loader that waits for the first use."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of the unused module; None for every other one."""
        if name != UNUSED:
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = LazyLoader(spec.loader)
                return spec
        return None


def defer_unused() -> None:
    """Let the unused part of torch wait, from now on in this process."""
    if "torch" not in sys.modules:
        sys.meta_path.insert(0, _Deferring())
