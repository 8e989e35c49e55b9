"""The macOS wheels of the libraries that mertd uses there, unpacked and read as text: nothing in them is ever imported.

They lie in the user's cache, outside the repository. A `Library` answers what a dotted name is and which keywords it takes.
"""

from __future__ import annotations

import ast
import contextlib
import os
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import platformdirs

CACHE = Path(platformdirs.user_cache_dir("mertd-tests")) / "macos-wheels"
PYTHON = "3.12"
TARGET = {"MACOSX_DEPLOYMENT_TARGET": "15.0"}


class NoIndexError(Exception):
    """The wheels cannot be fetched here."""


def unpacked(*requirements: str) -> Path:
    """Return a directory with these wheels for Apple silicon. Raises `NoIndexError`."""
    folder = CACHE / "-".join(sorted(requirements)).replace("==", "-")
    if folder.exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as new:
        command = ["uv", "pip", "install", "--quiet", "--target", new, "--no-deps", "--only-binary", ":all:"]
        command += ["--python-platform", "aarch64-apple-darwin", "--python-version", PYTHON, *requirements]
        # In another folder than this project's, for which uv allows one version only.
        try:
            done = subprocess.run(
                command, cwd=CACHE, env={**os.environ, **TARGET}, capture_output=True, text=True, timeout=300, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NoIndexError(str(error)) from error
        if done.returncode:
            raise NoIndexError(done.stderr)
        with contextlib.suppress(OSError):  # another worker was faster
            Path(new).rename(folder)
        Path(new).mkdir(exist_ok=True)
    return folder


@dataclass(frozen=True)
class Keywords:
    """What a function or class takes by name. `any`: it takes every keyword."""

    names: frozenset[str]
    any: bool = False

    def __or__(self, other: Keywords) -> Keywords:
        return Keywords(self.names | other.names, self.any or other.any)


class Library:
    """Modules below a directory, as source or stubs."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, module: str) -> Path | None:
        """Return the file of a module: stubs win, because they describe native code. None if there is none."""
        base = self.root.joinpath(*module.split("."))
        names = (base / "__init__.pyi", base.with_suffix(".pyi"), base / "__init__.py", base.with_suffix(".py"))
        return next((path for path in names if path.is_file()), None)

    def is_native(self, module: str) -> bool:
        """Whether a module is a library for macOS without a stub."""
        base = self.root.joinpath(*module.split("."))
        found = [*base.parent.glob(f"{base.name}.*so"), *base.parent.glob(f"{base.name}.so")]
        return any(path.read_bytes()[:4] in (b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe") for path in found)

    def find(self, module: str, name: str) -> list[ast.AST] | None:
        """Return what a dotted name means, seen from a module: definitions, or nothing more than that it exists.

        None: it does not exist.
        """
        first, _, rest = name.partition(".")
        found = self._members(module).get(first)
        if found is None:
            submodule = f"{module}.{first}"
            if self.path(submodule):
                return self.find(submodule, rest) if rest else []
            return [] if self.is_native(submodule) and not rest else None
        for node in found:
            if isinstance(node, ast.ImportFrom | ast.Import):
                return self._follow(module, node, first, rest)
        if not rest:
            return found
        inner = [node for node in found if isinstance(node, ast.ClassDef)]
        if not inner:
            return []  # a value: what it has is not known here
        return self._attribute(module, inner[0], rest)

    def _follow(self, module: str, node: ast.ImportFrom | ast.Import, name: str, rest: str) -> list[ast.AST] | None:
        if isinstance(node, ast.Import):
            target = next(alias.name for alias in node.names if (alias.asname or alias.name.split(".")[0]) == name)
            return ([] if not rest else self.find(target, rest)) if self.path(target) else []
        original = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
        path = self.path(module)
        assert path is not None
        package = module.split(".") if path.name.startswith("__init__") else module.split(".")[:-1]
        base = package[: len(package) - (node.level - 1)] if node.level else []
        source = ".".join([*base, *(node.module or "").split(".")]).rstrip(".")
        if self.path(source) is None:
            return []  # of another wheel, or native: what it has is not known here
        if self.path(f"{source}.{original}") and (source == module or original not in self._members(source)):
            return self.find(f"{source}.{original}", rest) if rest else []
        if source == module:
            return []
        return self.find(source, f"{original}.{rest}" if rest else original)

    def _attribute(self, module: str, node: ast.ClassDef, name: str) -> list[ast.AST] | None:
        """Return an attribute of a class, or of the classes that it inherits from."""
        found = list(_named(node.body).get(name, []))
        if found or name in _assigned(node):
            return found
        for base in node.bases:
            parents = self.find(module, ast.unparse(base)) or []
            for parent in parents:
                if isinstance(parent, ast.ClassDef) and (inherited := self._attribute(module, parent, name)) is not None:
                    return inherited
        return None

    def keywords(self, module: str, found: list[ast.AST]) -> Keywords | None:
        """Return the keywords of what `find` has found; None if that is not known."""
        functions = [node for node in found if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        for node in found:
            if isinstance(node, ast.ClassDef):
                if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
                    return Keywords(frozenset(_named(node.body)))
                functions += [
                    part
                    for part in self._attribute(module, node, "__init__") or []
                    if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
                ]
        total: Keywords | None = None
        for function in functions:
            arguments = function.args
            names = frozenset(argument.arg for argument in [*arguments.args, *arguments.kwonlyargs])
            taken = Keywords(names, arguments.kwarg is not None)
            total = taken if total is None else total | taken
        return total

    @cache  # noqa: B019 - one library a run
    def _members(self, module: str) -> dict[str, list[ast.AST]]:
        path = self.path(module)
        if path is None:
            return {}
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = _named(tree.body)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                package = module.split(".") if path.name.startswith("__init__") else module.split(".")[:-1]
                base = package[: len(package) - (node.level - 1)] if node.level else []
                source = ".".join([*base, *(node.module or "").split(".")]).rstrip(".")
                for name, nodes in self._members(source).items():
                    found.setdefault(name, nodes)
        return found


def _named(body: list[ast.stmt]) -> dict[str, list[ast.AST]]:
    """Everything that statements define or import, by name; also below `if` and `try`."""
    found: dict[str, list[ast.AST]] = {}
    for node in body:
        names: list[str] = []
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names = [name]
            case ast.Assign(targets=targets):
                names = [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                names = [name]
            case ast.Import(names=aliases):
                names = [alias.asname or alias.name.split(".")[0] for alias in aliases]
            case ast.ImportFrom(names=aliases):
                names = [alias.asname or alias.name for alias in aliases if alias.name != "*"]
            case ast.If() | ast.Try() | ast.With() | ast.For():
                parts = [*node.body, *getattr(node, "orelse", []), *getattr(node, "finalbody", [])]
                parts += [part for handler in getattr(node, "handlers", []) for part in handler.body]
                for name, nodes in _named(parts).items():
                    found.setdefault(name, []).extend(nodes)
        for name in names:
            found.setdefault(name, []).append(node)
    return found


def _assigned(node: ast.ClassDef) -> set[str]:
    """Attributes that methods assign to `self`."""
    return {
        part.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store) and ast.unparse(part.value) == "self"
    }


class Operations:
    """The operations of Core ML's builder: classes registered for a version, whose keywords are an InputSpec."""

    def __init__(self, library: Library) -> None:
        folder = library.root / "coremltools" / "converters" / "mil" / "mil" / "ops" / "defs"
        bases: dict[str, set[str]] = {}
        own: dict[str, set[str]] = {}
        for path in sorted(folder.glob("iOS1*/*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    bases.setdefault(node.name, set()).update(ast.unparse(base).rpartition(".")[2] for base in node.bases)
                    own.setdefault(node.name, {"name"}).update(_inputs(node))
        own["const"].add("val")  # a constant is built by itself, and its value checked by the builder
        self.keywords = {name: _inherited(name, own, bases, set()) for name in own}


def _inherited(name: str, own: dict[str, set[str]], bases: dict[str, set[str]], seen: set[str]) -> set[str]:
    if name in seen or name not in own:
        return set()
    return own[name].union(*(_inherited(base, own, bases, seen | {name}) for base in bases[name]))


def _inputs(node: ast.ClassDef) -> set[str]:
    return {
        keyword.arg
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and "InputSpec" in ast.unparse(call.func)
        for keyword in call.keywords
        if keyword.arg
    }
