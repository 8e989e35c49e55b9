"""Every command explains itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

import mertd.cli
from command_process import mertd as run_mertd
from mertd.cli.app import app, run
from mertd.cli.lazy_group import COMMANDS
from mertd.config import RelaySettings, Settings


def commands(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every command below, groups too, with the words that call it."""
    yield path, command
    if hasattr(command, "list_commands"):
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*path, name))


ALL = dict(commands(typer.main.get_command(app)))


def test_all_of_them_are_found() -> None:
    """All files of commands are in the table, and say of themselves what the list of commands says."""
    files = {path.stem for path in Path(mertd.cli.__file__).parent.glob("*_command*.py")}
    assert {module for module, _ in COMMANDS.values()} == files
    for name, (_, summary) in COMMANDS.items():
        assert ALL[name,].help == summary
    assert {("run",), ("tail",), ("embed",), ("demo",), ("status",), ("model", "random")} <= ALL.keys()


@pytest.mark.parametrize("path", ALL, ids=lambda path: "-".join(path) or "mertd")
def test_help_of(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path, "--help"]) == 0
    shown = capsys.readouterr()
    assert "Usage:" in shown.out
    assert shown.err == ""
    for parameter in ALL[path].params:
        if parameter.name != "help" and parameter.param_type_name == "option":
            assert parameter.help, f"{' '.join(path)}: {parameter.opts[0]} says nothing"
            assert parameter.opts[0] in shown.out


@pytest.mark.parametrize("path", ALL, ids=lambda path: "-".join(path) or "mertd")
def test_an_option_has_the_name_of_the_setting_that_it_gives(path: tuple[str, ...]) -> None:
    """So that a mistake is told with it: see `RawSettings.place`."""
    names = {*Settings.model_fields, *RelaySettings.model_fields}
    for parameter in ALL[path].params:
        if parameter.param_type_name == "option" and parameter.name in names:
            assert f"--{parameter.name.replace('_', '-')}" in parameter.opts


def test_help_of_the_real_program() -> None:
    asked, nothing, unknown = run_mertd("--help"), run_mertd(), run_mertd("frobnicate")
    assert asked.returncode == 0
    assert "embeddings" in asked.stdout
    assert nothing.returncode == unknown.returncode == 2
    assert "Usage:" in nothing.stdout + nothing.stderr
    assert "frobnicate" in unknown.stderr


def test_help_imports_no_command() -> None:
    """Every command would make it slower, and some load native libraries."""
    program = "import sys; from mertd.cli.app import run; run(['--help']); print(*sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert "embeddings" in done.stdout
    assert {name for name in loaded if name.startswith("mertd.cli.")} == {
        f"mertd.cli.{name}" for name in ("app", "lazy_group", "output", "standard_streams")
    }
    assert not loaded & {"numpy", "zmq", "pydantic", "rich", "asyncio", "mertd.wire", "mertd.config"}


HEAVY = {"numpy", "zmq", "msgpack", "pydantic", "rich", "asyncio", "multiprocessing", "av", "soundfile", "sounddevice", "soxr"}
HEAVY |= {"huggingface_hub", "safetensors", "onnx", "onnxruntime", "mlx", "coremltools", "matplotlib", "ssl"}


def test_help_of_a_command_imports_only_what_its_options_need() -> None:
    """What takes time or loads native libraries is imported when the command is called."""
    asked = [[*path, "--help"] for path in ALL]
    program = (
        "import sys; from mertd.cli.app import run\n"
        f"for words in {asked!r}:\n"
        "    assert run(words) == 0\n"
        f"    if found := {HEAVY!r} & set(sys.modules): sys.exit(f'{{words}} loads {{found}}')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_completion_lists_commands_without_importing_them() -> None:
    program = (
        "import os, sys; os.environ |= {'_MERTD_COMPLETE': 'complete_bash', 'COMP_WORDS': 'mertd m', 'COMP_CWORD': '1'}\n"
        "from mertd.cli.app import app\n"
        "try: app([], prog_name='mertd')\n"
        "finally: print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["memory", "man", "model"], done
    assert "mertd.cli.model_commands" not in done.stderr.split()
    below = program.replace("mertd m'", "mertd model p'").replace("'1'", "'2'")
    done = subprocess.run([sys.executable, "-c", below], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["pull"], done
