"""Every command explains itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import typer.main

from command_process import mertd
from mertd.cli.app import app, run


def commands(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every command below, groups too, with the words that call it."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


ALL = dict(commands(typer.main.get_command(app)))


def test_all_of_them_are_found() -> None:
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


def test_help_of_the_real_program() -> None:
    asked, nothing, unknown = mertd("--help"), mertd(), mertd("frobnicate")
    assert asked.returncode == 0
    assert "embeddings" in asked.stdout
    assert nothing.returncode == unknown.returncode == 2
    assert "Usage:" in nothing.stdout + nothing.stderr
    assert "frobnicate" in unknown.stderr
