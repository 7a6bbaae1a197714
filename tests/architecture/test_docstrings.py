"""Every public name says what it is; every public function on tensors says its shapes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "alm_cli"
FILES = sorted(ROOT.rglob("*.py"))
SHAPED = {"nn", "codecs", "encoders", "lm", "decoding"}

TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
CLASSES = {
    node.name: node
    for tree in TREES.values()
    for node in ast.walk(tree)
    if isinstance(node, ast.ClassDef)
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def words(node: ast.Module | ast.ClassDef | Function) -> str:
    """The docstring, or nothing."""
    return ast.get_docstring(node) or ""


def inherited(node: ast.ClassDef) -> set[str]:
    """The methods that a base class of ours describes already."""
    # What a generic base is filled with is no part of its name.
    names = [ast.unparse(base).partition("[")[0] for base in node.bases]
    bases = [CLASSES[name] for name in names if name in CLASSES]
    found = {member.name for base in bases for member in public(base)}
    return found.union(*map(inherited, bases))


def public(tree: ast.Module | ast.ClassDef) -> Iterator[ast.ClassDef | Function]:
    """Public classes, functions and methods that must be described.

    A property is named by what it is; the members of a protocol are described by the protocol.
    """
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | Function) or node.name.startswith("_"):
            continue
        if isinstance(node, ast.ClassDef):
            yield node
            yield from (member for member in public(node) if member.name not in inherited(node))
        elif ast.unparse(node.body[-1]) != "..." and not is_property(node):
            yield node


def is_property(node: Function) -> bool:
    """Whether it is read like a value."""
    return any("property" in ast.unparse(mark) for mark in node.decorator_list)


def maps_tensors(node: ast.AST) -> bool:
    """Whether a function takes a Tensor and returns one."""
    if not isinstance(node, Function) or node.returns is None:
        return False
    taken = [ast.unparse(a.annotation) for a in node.args.args if a.annotation is not None]
    return "Tensor" in taken and ast.unparse(node.returns) == "Tensor"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_public_name_has_a_sentence(path: Path) -> None:
    tree = TREES[path]
    wordless = [f"{node.name}, line {node.lineno}" for node in public(tree) if not words(node)]
    assert words(tree) or not tree.body, "the module says what it is"
    assert wordless == []


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.relative_to(ROOT).parts[0] in SHAPED],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_function_on_tensors_names_its_shapes(path: Path) -> None:
    tree = TREES[path]
    silent = [
        f"{node.name}, line {node.lineno}"
        for node in public(tree)
        if maps_tensors(node) and "->" not in words(node)
    ]
    assert silent == []
