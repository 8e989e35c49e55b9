"""What mertd uses of a library, read from its own source: dotted names, and the keywords of each call."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import mertd

ROOT = Path(mertd.__file__).parent
MENTIONS = ("mlx", "coremltools", "sounddevice", "catap")


@dataclass(frozen=True)
class Use:
    """A name of a library, where it is used, and with which keywords it is called, if it is."""

    name: str
    place: str
    keywords: tuple[str, ...] = ()


@cache
def sources() -> dict[str, ast.Module]:
    """The source of mertd that mentions a library of macOS, by path."""
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(ROOT.rglob("*.py"))}
    return {path: ast.parse(text) for path, text in texts.items() if any(word in text for word in MENTIONS)}


def uses(receivers: Mapping[str, str], files: Mapping[str, str] | None = None) -> Iterator[Use]:
    """Yield every use of what these expressions stand for.

    receivers  a dotted name for each expression, as `{"mx": "mlx.core", "self._mx": "mlx.core"}`
    files      source by path; by default that of mertd
    """
    trees = {path: ast.parse(text) for path, text in files.items()} if files else sources()
    for path, tree in trees.items():
        within: set[int] = set()
        calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or id(node) in within or not _is_plain(node):
                continue
            chain = ast.unparse(node)
            start = next((name for name in sorted(receivers, key=len, reverse=True) if chain.startswith(f"{name}.")), None)
            if start is None:
                continue
            within.update(id(part) for part in ast.walk(node))
            call = calls.get(id(node))
            keywords = tuple(keyword.arg for keyword in call.keywords if keyword.arg) if call else ()
            rest = chain.removeprefix(f"{start}.")
            yield Use(f"{receivers[start]}.{rest}", f"{path}:{node.lineno}", keywords)


def imported(library: str) -> Iterator[Use]:
    """Yield the modules and names of a library that mertd imports."""
    for path, tree in sources().items():
        for node in ast.walk(tree):
            place = f"{path}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                yield from (Use(alias.name, place) for alias in node.names if alias.name.split(".")[0] == library)
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == library:
                yield from (Use(f"{node.module}.{alias.name}", place) for alias in node.names)


def _is_plain(node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)
