"""What may import what: one way only, part by part and file by file, and nothing heavy before it is needed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

import mertd

ROOT = Path(mertd.__file__).parent
CORE = {
    *("errors", "defaults", "descriptors", "files", "mounts", "text", "toml_file", "user_folders", "vocabulary", "logs"),
    *("wire", "windows", "ring", "processes"),
}
SIDES = {"capture", "embed", "stream"}
MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "mounts": set(),
    "text": set(),
    "toml_file": {"errors", "files"},
    "user_folders": {"errors"},
    "defaults": set(),
    "descriptors": {"errors"},
    "safe_path": set(),
    "vocabulary": set(),
    "logs": {"text"},
    "wire": {"errors", "text", "vocabulary"},
    "windows": {"errors", "vocabulary"},
    "ring": {"errors"},
    "processes": {"errors", "text", "vocabulary", "logs"},
    "capture": {"errors", "defaults", "files", "text", "user_folders", "vocabulary", "windows", "ring", "processes"},
    "embed": {"errors", "defaults", "files", "mounts", "text", "user_folders"}
    | {"vocabulary", "wire", "windows", "ring", "processes"},
    "stream": {"errors", "defaults", "descriptors", "files", "text", "toml_file", "user_folders", "vocabulary", "wire"},
    "memory": {"errors", "defaults", "files", "mounts", "text", "user_folders", "vocabulary", "wire", "processes", "stream"}
    | {"bus"},
    "bus": {"errors", "defaults", "files", "text", "toml_file", "user_folders", "vocabulary", "wire", "processes", "stream"},
    "view": {"", "metrics", "errors", "defaults", "files", "text", "vocabulary", "wire", "processes", "stream", "memory"},
    "config": {"bus", "memory", "view"} | CORE | SIDES,
    "daemon": {"", "config"} | CORE | SIDES,
    "offline": {"config"} | CORE | SIDES,
    "plots": {"defaults", "errors", "text", "memory", "view", "wire", "offline"},
    "replay": {"", "memory", "daemon"} | CORE | SIDES,
    "evaluate": {"memory", "config", "offline"} | CORE | SIDES,
    "metrics": {"defaults", "memory", "text", "vocabulary", "wire"},
    "service": {"", "config", "daemon", "memory", "offline"} | CORE | SIDES,
    "doctor": {"", "config", "daemon", "offline", "service"} | CORE | SIDES,
    "bench": {"", "config", "daemon", "offline", "service", "memory", "evaluate"} | CORE | SIDES,
    "cli": {
        "",
        "config",
        "daemon",
        "offline",
        "replay",
        "service",
        "doctor",
        "bench",
        "memory",
        "evaluate",
        "bus",
        "view",
        "plots",
        "safe_path",
    }
    | CORE
    | SIDES,
    "__main__": {"cli", "safe_path"},
    "": {"errors", "memory", "wire", "stream", "bus"},
}
"""For each part of the package the others that it may import; `` is `mertd` itself, for its version; it loads the
client library when that is asked for."""

HEAVY = {
    "mlx",
    "coremltools",
    "onnxruntime",
    "onnx",
    "sounddevice",
    "soundfile",
    "av",
    "soxr",
    "torch",
    "transformers",
    "safetensors",
    "sqlite3",
    "usearch",
    "pyarrow",
    "prometheus_client",
    "starlette",
    "uvicorn",
    "plotly",
    "nats",
}
LIGHT_MODULES = [
    "mertd",
    "mertd.stream.client.subscriber",
    "mertd.cli",
    "mertd.cli.app",
    "mertd.config",
    "mertd.daemon.supervisor",
    "mertd.service.choose",
]
FILES = sorted(ROOT.rglob("*.py"))


def part(name: str) -> str:
    """`mertd.capture.clock` is of part `capture`."""
    return name.split(".")[1] if "." in name else ""


def module(path: Path) -> str:
    names = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def imports(source: str) -> Iterator[str]:
    """Every module of mertd that a file imports, wherever in it, under whatever name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "mertd")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "mertd":
                known = {path.stem for path in ROOT.iterdir()}
                yield from (f"mertd.{a.name}" if a.name in known else "mertd" for a in node.names)
            elif (node.module or "").startswith("mertd."):
                yield str(node.module)


def test_the_rule_covers_every_part() -> None:
    parts = {part(module(path)) for path in FILES}
    assert len(FILES) > 30, "the package has been found"
    assert parts <= set(MAY_IMPORT), f"say in this file what {parts - set(MAY_IMPORT)} may import"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    own = part(module(path))
    back = [name for name in imports(path.read_text(encoding="utf-8")) if part(name) not in {own, *MAY_IMPORT[own]}]
    assert not back, f"{path.relative_to(ROOT)} is in {own or 'mertd'!r} and must not import {', '.join(back)}"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import mertd.ring", ["mertd.ring"]),
        ("def f():\n    from mertd.embed import weights", ["mertd.embed"]),
        ("from mertd import wire, __version__", ["mertd.wire", "mertd"]),
        ("if x:\n    import mertd.processes.parent as c, numpy", ["mertd.processes.parent"]),
        ("import mertdx\nfrom numpy import random", []),
    ],
)
def test_no_import_hides(source: str, found: list[str]) -> None:
    assert list(imports(source)) == found


def test_a_rule_is_a_one_way_street() -> None:
    """What may import another may not be imported by it, however long the way round."""
    reach = {name: set(targets) for name, targets in MAY_IMPORT.items()}
    for _ in MAY_IMPORT:
        reach = {name: targets.union(*(reach[target] for target in targets)) for name, targets in reach.items()}
    assert not [name for name, targets in reach.items() if name in targets]


def imported_modules(source: str, known: Collection[str]) -> set[str]:
    """The modules among `known` that a file imports, at its top or in a function, but not for type checkers alone."""
    found: set[str] = set()

    def look(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                look(other)
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in known else str(node.module))
        for child in ast.iter_child_nodes(node):
            look(child)

    look(ast.parse(source))
    return found & set(known)


def circles(imports_of: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Every set of two or more that import each other, directly or by way of others."""
    reach: dict[str, set[str]] = {}
    for name in imports_of:
        waiting, reached = list(imports_of[name]), set[str]()
        while waiting:
            module_ = waiting.pop()
            if module_ not in reached:
                reached.add(module_)
                waiting += imports_of[module_]
        reach[name] = reached
    found = {tuple(sorted(m for m in reach[name] if name in reach[m])) for name in reach if name in reach[name]}
    return sorted(list(circle) for circle in found)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import a.b\nimport numpy", {"a.b"}),
        ("from a import b, c", {"a.b", "a"}),
        ("def f():\n    from a.b import x", {"a.b"}),
        ("if TYPE_CHECKING:\n    import a\nelse:\n    import a.b", {"a.b"}),
        ("if typing.TYPE_CHECKING:\n    import a", set()),
        ("if sys.platform == 'linux':\n    import a", {"a"}),
    ],
)
def test_every_import_of_a_file_is_found(source: str, found: set[str]) -> None:
    assert imported_modules(source, {"a", "a.b"}) == found


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ({"a": "b", "b": "c", "c": ""}, []),
        ({"a": "b", "b": "a"}, [["a", "b"]]),
        ({"a": "b", "b": "c", "c": "a", "d": "a"}, [["a", "b", "c"]]),
        ({"a": "a"}, [["a"]]),
        ({"a": "b", "b": "a", "c": "d", "d": "c"}, [["a", "b"], ["c", "d"]]),
    ],
)
def test_every_circle_is_found(graph: dict[str, str], found: list[list[str]]) -> None:
    assert circles(graph) == found


def test_no_file_imports_itself_however_long_the_way_round() -> None:
    sources = {module(path): path.read_text(encoding="utf-8") for path in FILES}
    graph = {name: imported_modules(source, sources) for name, source in sources.items()}
    assert sum(map(len, graph.values())) > 300, "imports have been found"
    assert not circles(graph)


def test_folders_inside_a_part_import_one_way() -> None:
    """Two folders that lie side by side in the same folder."""
    sources = {module(path): (path.parent, path.read_text(encoding="utf-8")) for path in FILES}
    graph: dict[str, set[str]] = {}
    for folder, source in sources.values():
        others = {sources[other][0] for other in imported_modules(source, sources)}
        beside = {str(other) for other in others if other != folder and other.parent == folder.parent != ROOT}
        graph.setdefault(str(folder), set()).update(beside)
        for other in beside:
            graph.setdefault(other, set())
    assert not circles(graph)


@pytest.mark.parametrize("name", LIGHT_MODULES)
def test_nothing_heavy_is_loaded_early(name: str) -> None:
    """Otherwise every command would wait for it, and the supervisor hold native code that it must not."""
    program = f"import json, sys; import {name}; print(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {loaded_module.split(".")[0] for loaded_module in json.loads(answer.stdout)}
    assert name.split(".")[0] in loaded
    assert not loaded & HEAVY


def test_the_package_itself_loads_nothing_of_others() -> None:
    program = "import __future__, sys; before = set(sys.modules); import mertd.cli; print(*sorted(set(sys.modules) - before))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["mertd", "mertd.cli"], "child processes import it too"
