"""Sizes that keep the package readable: no long file, no class that remembers too much, no line that assigns three things."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mertd

ROOT = Path(mertd.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MAX_LINES = 300
MAX_ATTRIBUTES = 12


def classes(tree: ast.AST) -> Iterator[tuple[str, set[str]]]:
    """Every class, and the attributes that its own methods assign to `self`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            methods = [item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
            parts = [part for method in methods for part in ast.walk(method)]
            yield (
                node.name,
                {
                    part.attr
                    for part in parts
                    if isinstance(part, ast.Attribute)
                    and isinstance(part.ctx, ast.Store)
                    and isinstance(part.value, ast.Name)
                    and part.value.id == "self"
                },
            )


def crowded(tree: ast.AST) -> list[int]:
    """Lines that assign more than two names at once, each a value of its own."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple) and len(target.elts) > 2
    ]


def test_what_is_counted() -> None:
    tree = ast.parse(
        "class A:\n    z: int\n    def f(self):\n        self.x, self.y = 1, 2\n        self.x += self.w\na, b, c = 1, 2, 3"
    )
    assert list(classes(tree)) == [("A", {"x", "y"})]
    assert crowded(tree) == [6]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_can_be_read_in_one_go(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert source.count("\n") <= MAX_LINES
    assert not {name: sorted(found) for name, found in classes(tree) if len(found) > MAX_ATTRIBUTES}
    assert not crowded(tree)
