"""The import law: which package of alm_cli may know which, and where it may say so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "alm_cli"
LEVELS = (
    {"values", "errors", "planning", "deferred"},
    {"files", "catalog", "music", "units"},
    {"nn", "checkpoints", "text", "runtime"},
    {"decoding"},
    {"codecs", "encoders", "lm"},
    {"jobs"},
    {"systems"},
    {"bench"},  # which measures systems
    {"app", "commands", "__init__", "__main__"},
)
LEVEL = {package: level for level, packages in enumerate(LEVELS) for package in packages}
# Levels that a level may import anywhere in a file, and those only inside functions.
ALWAYS = (
    {}, {0}, {0}, {0}, {0, 1, 2, 3}, {0, 1}, {0, 1, 2, 3, 4, 5}, {0, 1, 2, 3, 4, 5, 6}, {0, 1, 5, 8}
)  # fmt: skip
INSIDE = {8: {2, 4, 6, 7}}
# A family is one file: it may not even import its neighbours. A system may.
LONERS = {"codecs", "encoders", "lm"}
# Decoding knows one part of the kit; loading starts from a card of the catalogue.
ALSO = {"decoding": {"nn.state"}, "checkpoints": {"catalog"}}
# Packages that light levels must never import, and those that only tests and recipes may.
HEAVY = {"torch", "torchaudio", "transformers", "tokenizers", "huggingface_hub", "safetensors"}
NEVER = {"transformers", "recipes", "tests", "scipy", "pesq", "pystoi"}

FILES = sorted(ROOT.rglob("*.py"))


def dotted(path: Path) -> str:
    """`alm_cli/nn/conv.py` -> `nn.conv`; a package is called by its own name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def imports(tree: ast.AST, *, top: bool = True) -> Iterator[tuple[str, bool, int]]:
    """Every imported module, whether importing the file runs it, and its line."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, top, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ((name, top, node.lineno) for name in names)
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        yield from imports(node, top=top and not function and not typing_only)


def broken(path: Path) -> Iterator[str]:
    """What a file imports against the law."""
    name = dotted(path)
    package = name.split(".")[0]
    level = LEVEL[package]
    for module, top, line in imports(ast.parse(path.read_text(encoding="utf-8"))):
        first, _, rest = module.partition(".")
        if first != "alm_cli":
            if first in NEVER or (level in (0, 1, 5, 8) and first in HEAVY):
                yield f"{path}:{line}: {first}"
            continue
        target = rest.split(".")[0]
        known = package if target not in LEVEL else target  # a name that __init__ offers
        allowed = known == package and package not in LONERS
        allowed |= LEVEL[known] in ALWAYS[level] and known != package
        allowed |= not top and LEVEL[known] in INSIDE.get(level, ())
        allowed |= any(
            rest == part or rest.startswith(f"{part}.") for part in ALSO.get(package, ())
        )
        if not allowed:
            yield f"{path}:{line}: {module}"


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_imports_point_down(path: Path) -> None:
    assert list(broken(path)) == []


def test_no_module_waits_for_itself() -> None:
    names = {dotted(path) for path in FILES}
    graph: dict[str, set[str]] = {}
    for path in FILES:
        wanted = {
            module.removeprefix("alm_cli.")
            for module, top, _ in imports(ast.parse(path.read_text(encoding="utf-8")))
            if top and module.startswith("alm_cli.")
        }
        known = {name if name in names else name.rpartition(".")[0] for name in wanted}
        graph[dotted(path)] = known & names
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("codecs/one.py", "from alm_cli.codecs.two import Two"),
        ("codecs/one.py", "from alm_cli.systems import codec"),
        ("commands/one.py", "from alm_cli.systems.codec import load_codec"),
        ("commands/one.py", "def f():\n    import torch"),
        ("decoding/one.py", "from alm_cli.nn.conv import Conv"),
        ("files/one.py", "import torch"),
        ("jobs/one.py", "def f():\n    from alm_cli.nn import conv"),
        ("nn/one.py", "from alm_cli.files.audio import read_audio"),
        ("systems/one.py", "import recipes.losses"),
    ],
)
def test_the_law_sees_what_breaks_it(
    name: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / name
    path.parent.mkdir()
    path.write_text(f"{line}\n", encoding="utf-8")
    assert len(list(broken(path))) == 1
