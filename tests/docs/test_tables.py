"""Tables say what the code does."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import tomllib
from pathlib import Path
from types import ModuleType

import platformdirs.macos
import platformdirs.unix
import pytest

import mertd
from attacks.catalogue import trials
from docs.pages import PAGES, ROOT, read, section, table, words
from mertd.capture.address import PCM_FORMATS
from mertd.capture.source_kinds import KINDS
from mertd.config import Settings, default_config, default_weights
from mertd.daemon.requests import KEYS
from mertd.defaults import CONTROL_ENDPOINT, GATE_DBFS, HOP_S, MAX_HOP_S, MIN_HOP_S, PUBLISH_ENDPOINT, SAMPLE_RATE, WINDOW_S
from mertd.embed.backends.choice import FACTORIES
from mertd.errors import MertdError, UsageError
from mertd.memory.default_folder import default_memory
from mertd.stream.client.subscriber import Subscriber
from mertd.stream.server.authenticator import READING
from test_imports import MAY_IMPORT


def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["settings", "commands", "sources", "limits", "metrics"])
def test_generated_tables_are_up_to_date(name: str) -> None:
    module = tables()
    page, make = module.TABLES[name]
    text = read(f"docs/{page}")
    assert module.updated(text, name, make()) == text, "run `python docs/tables.py`"


def test_options_of_sources() -> None:
    described: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for row in table(section(read("docs/sources.md"), "Options"), "option"):
        (option,) = words(row[0])
        for kind in KINDS if row[1] == "all" else words(row[1]):
            described[kind].add(option)
        if option == "format":
            assert words(row[2]) == [*PCM_FORMATS]
    assert described == {name: {*kind.options} for name, kind in KINDS.items()}


def test_requests() -> None:
    rows = table(section(read("docs/protocol.md"), "Control"), "request")
    assert {words(row[0])[0]: {*words(row[1])} for row in rows} == KEYS
    assert {words(row[0])[0] for row in rows if row[4] == "listen"} == {*READING}


def test_backends() -> None:
    assert {words(row[0])[0] for row in table(read("docs/models.md"), "backend")} == {*FACTORIES}


def test_arguments_of_subscribe() -> None:
    named = [words(row[0])[0] for row in table(section(read("docs/receiving.md"), "Python"), "argument")]
    assert named == [name for name in inspect.signature(Subscriber.__init__).parameters if name != "self"]


def test_exit_codes() -> None:
    codes = {int(row[0]) for row in table(section(read("docs/operations.md"), "Exit codes"), "code")}
    assert codes == {0, 1, MertdError.exit_code, UsageError.exit_code, 130}


def test_events_of_the_table_of_faults_are_described() -> None:
    events = {words(row[0])[0] for row in table(section(read("docs/protocol.md"), "event"), "event")}
    named = {word for row in table(section(read("docs/operations.md"), "Faults"), "fault") for word in words(row[1])}
    assert named - {"jump_ns", "late", "failed", "auto"} <= events
    assert "device_lost" in named


def test_commands_of_the_table_of_operations_exist() -> None:
    known = {*re.findall(r"^## (mertd .+)$", read("docs/commands.md"), re.MULTILINE)}
    for page in ("README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))):
        for command in re.findall(r"`(mertd (?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)", read(page)):
            first = " ".join(command.split()[:2])
            assert command in known or first in known or any(name.startswith(f"{first} ") for name in known), (
                f"{page}: {command}"
            )


def test_default_endpoints() -> None:
    page = section(read("docs/protocol.md"), "Messages") + section(read("docs/protocol.md"), "Control")
    assert PUBLISH_ENDPOINT in page
    assert CONTROL_ENDPOINT in page
    assert f"changes hop ({MIN_HOP_S:g} to {MAX_HOP_S:g} s)" in page


def test_default_numbers() -> None:
    assert f"the last {WINDOW_S:g} seconds" in " ".join(read("README.md").split())
    assert f"as soon as one window of {WINDOW_S:g} s is full, then one every {HOP_S:g} s" in read("docs/getting-started.md")
    assert f"`--gate` ({GATE_DBFS:g} dBFS)" in read("docs/sources.md")
    assert f"samples per second: {SAMPLE_RATE}" in read("docs/protocol.md")


def test_requests_shown_have_known_keys() -> None:
    shown = re.findall(r"^    \{schema: 1, request: \"(\w+)\"(.*)\}$", read("docs/protocol.md"), re.MULTILINE)
    assert {name for name, _ in shown} == {*KEYS}
    for name, rest in shown:
        assert {*re.findall(r"(\w+): ", rest)} <= KEYS[name]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_python_shown_uses_what_is_there(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "mertd":
                assert hasattr(mertd, node.attr)
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "mertd.subscribe":
                given = {keyword.arg: None for keyword in node.keywords if keyword.arg}
                inspect.signature(mertd.subscribe).bind(*node.args, **given)


def test_configuration_shown_is_valid() -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```$", read("docs/configuration.md"), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        Settings.model_validate(tomllib.loads(block))


def test_places_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    rows = table(section(read("docs/configuration.md"), "Where files lie"), "file")
    described = {row[0]: [Path(words(cell)[0]).expanduser() for cell in row[1:]] for row in rows}
    systems = [platformdirs.unix.Unix("mertd"), platformdirs.macos.MacOS("mertd")]
    assert described == {
        "configuration": [Path(system.user_config_dir) / default_config().name for system in systems],
        "keys": [Path(system.user_config_dir) / "keys" for system in systems],
        "weights": [Path(system.user_data_dir) / default_weights().name for system in systems],
        "memory": [Path(system.user_data_dir) / default_memory().name for system in systems],
    }


def test_packages_that_tests_need() -> None:
    """CI installs them all, so what it installs is what a contributor is told."""
    installed = {*" ".join(re.findall(r"packages\+?=\(([^)]*)\)", read(".ci/run"))).split()} - {"debootstrap"}
    told = {word for row in table(read("CONTRIBUTING.md"), "tests of") for cell in words(row[1]) for word in cell.split()}
    assert told == installed


def test_layers_of_the_architecture_are_those_of_the_imports() -> None:
    block = read("docs/architecture.md").split("<!-- layers -->\n\n")[1].split("\n\n")[0]
    layers = [re.sub(r"\(.*?\)", "", line).replace("|", ",").split(",") for line in block.splitlines()]
    seen = {"", "safe_path"}  # the package's own name, and the first line of every program
    for layer in layers:
        parts = {part.strip() for part in layer}
        for part in parts:
            assert MAY_IMPORT[part] <= seen, f"{part} may import {MAY_IMPORT[part] - seen}, which stand beside or below it"
        seen |= parts
    assert seen | {"__main__"} == {*MAY_IMPORT}


def test_parts_of_the_architecture_are_all_of_the_package() -> None:
    named = {word for row in table(section(read("docs/architecture.md"), "Folders"), "part") for word in words(row[0])}
    assert all((ROOT / name).exists() for name in named)
    package = {path for path in (ROOT / "mertd").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert {path.stem for path in package} - {"__init__", "__main__"} == {
        Path(name).stem for name in named if name.startswith("mertd/")
    }


def test_the_table_of_attacks_has_all_of_them_or_waits_for_its_first_run() -> None:
    filled = read("docs/security.md").split("<!-- table: attacks -->")[1].split("<!-- end -->")[0]
    names = [row[0] for row in table(filled, "attack")] if filled.strip() else []
    assert names in ([], [*trials([], everything=False)])
