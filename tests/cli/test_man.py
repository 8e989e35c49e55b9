"""The manual page: nothing of any command is missing, and roff has nothing to complain of."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
import typer
import typer.main

from mertd.cli.app import app, run
from mertd.cli.man_command import _text


@pytest.fixture
def page(capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["man"]) == 0
    return capsys.readouterr().out


def plain(page: str) -> str:
    """What a reader would see of a line."""
    return page.replace("\\-", "-").replace("\\(dq", '"').replace("\\&", "").replace("\\e", "\\")


def test_every_command_and_option_is_there(page: str) -> None:
    shown = plain(page)

    def look(command: object, words: str) -> int:
        if hasattr(command, "list_commands"):
            context = typer.Context(command)
            names = command.list_commands(context)
            return sum(look(command.get_command(context, name), f"{words} {name}") for name in names)
        _, _, rest = shown.partition(f'.SS "{words}')
        part = rest.partition(".SS ")[0].partition(".SH ")[0]
        for parameter in command.params:  # type: ignore[attr-defined]
            if parameter.param_type_name == "option" and parameter.name != "help":
                assert parameter.opts[0] in part, f"{words}: {parameter.opts[0]}"
                assert " ".join(parameter.help.split()) in part, f"{words}: {parameter.opts[0]}"
        return 1

    assert look(typer.main.get_command(app), "mertd") > 15
    assert shown.count("\n.SS ") == look(typer.main.get_command(app), "mertd")


def test_it_tells_exit_codes(page: str) -> None:
    _, _, status = page.partition(".SH EXIT STATUS")
    assert [line.split()[1] for line in status.splitlines() if line.startswith(".B ")] == ["0", "1", "2", "3", "130"]


def test_no_line_is_taken_for_a_request(page: str) -> None:
    known = (".TH ", ".SH ", ".SS ", ".TP", ".B ")
    assert [line for line in page.splitlines() if line[:1] in (".", "'") and not line.startswith(known)] == []
    assert _text(".B \\n 'x' --y") == "\\&.B \\en 'x' \\-\\-y"


@pytest.mark.skipif(shutil.which("groff") is None and not os.environ.get("CI"), reason="groff is not installed")
def test_roff_has_nothing_to_complain_of(page: str) -> None:
    done = subprocess.run(["groff", "-man", "-Tascii", "-ww", "-z"], input=page, capture_output=True, text=True, check=True)
    assert done.stderr == ""
