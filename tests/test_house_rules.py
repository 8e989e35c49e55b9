"""What keeps the package readable: no long file, no class that remembers too much, no line that assigns three things.

No phrase that only its author understands either, and no two files of one name. A class that must have more attributes says
why, in a comment behind its name: `class A:  # attributes: because …`.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import mertd

ROOT = Path(mertd.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MAX_LINES = 300
MAX_ATTRIBUTES = 12
FORBIDDEN = ("whoever", "by someone's hand", "is neither of", ", wanted")


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


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Comments and strings, each with its line, in small letters and on one line."""
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds:
            yield token.start[0], " ".join(token.string.lower().split())


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
    excused = set(re.findall(r"^class (\w+).*:  # attributes: .{20,}$", source, re.MULTILINE))
    assert not {name: sorted(found) for name, found in classes(tree) if len(found) > MAX_ATTRIBUTES and name not in excused}
    assert not crowded(tree)


def test_what_is_read() -> None:
    source = '"""Whoever\nreads."""\nx = "a"  # Why'
    assert list(prose(source)) == [(1, '"""whoever reads."""'), (3, '"a"'), (3, "# why")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_is_plain(path: Path) -> None:
    found = prose(path.read_text(encoding="utf-8"))
    assert not [(line, phrase) for line, text in found for phrase in FORBIDDEN if phrase in text]


def test_no_two_files_share_a_name() -> None:
    names = Counter(path.name for path in FILES if path.name != "__init__.py")
    assert not [name for name, count in names.items() if count > 1]
