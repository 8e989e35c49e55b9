"""The table of source kinds, and that everything which lists them takes them from it."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import mertd
from mertd.capture.address import Address, parse
from mertd.capture.reports import CaptureSettings
from mertd.capture.source_kinds import KINDS, SYNTHS, Consent, SourceKind, forms, without_device
from mertd.capture.sources.synth import VOICES
from mertd.config import Settings
from mertd.errors import UsageError
from mertd.service.choose import service_spec

ROOT = Path(mertd.__file__).parent
EVERY = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))


def example(kind: SourceKind) -> str:
    """Return an address of this kind."""
    return f"{kind.name}:{kind.targets[0] if kind.targets else 'x'}"


@EVERY
def test_each_kind_has_a_file_that_opens_it(kind: SourceKind) -> None:
    module = import_module(f"mertd.capture.sources.{kind.module}")
    (parameter,) = inspect.signature(module.open_source, eval_str=True).parameters.values()
    assert parameter.annotation is CaptureSettings


def test_each_file_belongs_to_a_kind() -> None:
    files = {path.stem for path in (ROOT / "capture" / "sources").glob("*.py")} - {"__init__"}
    assert files == {kind.module for kind in KINDS.values()}


@EVERY
def test_addresses_help_and_errors_know_each_kind(kind: SourceKind) -> None:
    address = parse(example(kind))
    assert address.kind == kind.name
    assert address.resumable == kind.resumable
    assert kind.form in forms()
    assert kind.form.startswith(f"{kind.name}:")
    assert kind.form in str(Settings.model_fields["source"].description)
    with pytest.raises(UsageError) as refusal:
        parse("unknown:x")
    assert kind.form in str(refusal.value)
    with pytest.raises(
        UsageError, match=f"{kind.name}: has no option 'volume'; its options are {', '.join(sorted(kind.options))}"
    ):
        parse(f"{example(kind)}?volume=1")
    assert kind.options <= set(inspect.signature(Address).parameters), "each option has a field"


@EVERY
def test_the_command_line_and_the_service_know_each_kind(kind: SourceKind) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mertd", "run", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin", "COLUMNS": "400"},
    )
    assert kind.form in done.stdout
    spec = service_spec(Settings(source=(example(kind),), weights="random:0"), [])
    assert spec.needs_microphone == (kind.consent is Consent.MICROPHONE)


def test_what_needs_no_device_is_named_in_one_place() -> None:
    assert without_device() == "file:, pipe: and synth:"
    assert not [path for path in ROOT.rglob("*.py") if "pipe: and synth:" in path.read_text(encoding="utf-8")]


def test_only_a_pipe_reads_standard_input() -> None:
    assert [
        kind.name for kind in KINDS.values() if parse(f"{kind.name}:-" if not kind.targets else example(kind)).is_stdin
    ] == ["pipe"]
    assert not parse("pipe:-").resumable


def test_every_synthesised_piece_has_a_voice() -> None:
    assert [*VOICES] == [*SYNTHS]


def test_the_table_imports_nothing_heavy() -> None:
    """It loads neither numpy nor an audio library, and nothing else of mertd."""
    program = "import sys; before = set(sys.modules); import mertd.capture.source_kinds; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"numpy", "soxr", "soundfile", "sounddevice", "cffi", "_cffi_backend", "pulsectl", "catap"}
    assert {name for name in done.stdout.split() if name.startswith("mertd")} == {
        "mertd",
        "mertd.capture",
        "mertd.capture.source_kinds",
    }


def files_of_capture() -> list[Path]:
    return sorted((ROOT / "capture").rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """Return the modules of capture that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mertd.capture"):
            found.add(str(node.module))
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("mertd.capture")}
    return found


def test_no_file_of_capture_imports_itself_by_way_of_others() -> None:
    names = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path for path in files_of_capture()}
    needs = {name: imports_of(path) & set(names) for name, path in names.items()}
    while free := [name for name, needed in needs.items() if not needed]:
        for name in free:
            del needs[name]
        needs = {name: needed - set(free) for name, needed in needs.items()}
    assert not needs, f"a cycle among {sorted(needs)}"


@pytest.mark.parametrize("path", files_of_capture(), ids=lambda path: path.stem)
def test_files_are_short_and_classes_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            attributes = {
                target.attr
                for inner in ast.walk(node)
                for target in ast.walk(inner)
                if isinstance(target, ast.Attribute)
                and isinstance(target.ctx, ast.Store)
                and isinstance(target.value, ast.Name)
                and target.value.id == "self"
            }
            assert len(attributes) <= 12, f"{node.name}: {sorted(attributes)}"
