"""What is printed, by terminal: colours and lines that are replaced only where they are understood."""

from __future__ import annotations

import pytest

from mertd.cli.output import say_labelled, show_progress


def be_at_a_terminal(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True)


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": ""}, False),
    ],
)
def test_labels(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], coloured: bool
) -> None:
    be_at_a_terminal(monkeypatch, environment)
    say_labelled("problem", "red", " no model \x1b[2J")
    shown = capsys.readouterr().out
    assert shown == ("\x1b[31mproblem\x1b[0m no model \\x1b[2J\n" if coloured else "problem no model \\x1b[2J\n")


@pytest.mark.parametrize(("term", "shown"), [("xterm", "\r\x1b[Khalf\r"), ("dumb", ""), ("unknown", "")])
def test_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, term: str, shown: str) -> None:
    be_at_a_terminal(monkeypatch, {"TERM": term})
    show_progress("half")
    assert capsys.readouterr().err == shown
