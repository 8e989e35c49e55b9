"""Who may import whom: one way only, and nothing heavy before it is needed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mertd

ROOT = Path(mertd.__file__).parent
CORE = {"errors", "defaults", "descriptors", "files", "text", "vocabulary", "logs", "wire", "windows", "ring", "processes"}
SIDES = {"capture", "embed", "stream"}
MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "text": set(),
    "defaults": set(),
    "descriptors": {"errors"},
    "safe_path": set(),
    "vocabulary": set(),
    "logs": {"text"},
    "wire": {"errors", "text", "vocabulary"},
    "windows": {"errors", "vocabulary"},
    "ring": {"errors"},
    "processes": {"errors", "text", "vocabulary", "logs"},
    "capture": {"errors", "defaults", "files", "text", "vocabulary", "windows", "ring", "processes"},
    "embed": {"errors", "defaults", "files", "text", "vocabulary", "wire", "windows", "ring", "processes"},
    "stream": {"errors", "defaults", "descriptors", "files", "text", "vocabulary", "wire"},
    "config": CORE | SIDES,
    "daemon": {"", "config"} | CORE | SIDES,
    "offline": {"config"} | CORE | SIDES,
    "service": {"", "config", "daemon", "offline"} | CORE | SIDES,
    "doctor": {"", "config", "daemon", "offline", "service"} | CORE | SIDES,
    "bench": {"", "config", "daemon", "offline", "service"} | CORE | SIDES,
    "cli": {"", "config", "daemon", "offline", "service", "doctor", "bench", "safe_path"} | CORE | SIDES,
    "__main__": {"cli", "safe_path"},
    "": {"errors", "wire", "stream"},
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
    "soxr",
    "torch",
    "transformers",
    "safetensors",
}
LIGHT_MODULES = [
    "mertd",
    "mertd.stream.client",
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
