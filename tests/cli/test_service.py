"""`mertd service` as a command: what a dry run shows on any machine, and what is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from command_process import mertd
from mertd.cli.app import run
from mertd.service import choose
from service.stand_ins import StandIns

OTHER = "launchd" if sys.platform == "linux" else "systemd"


@pytest.mark.parametrize("platform", choose.PLATFORMS)
def test_a_dry_run_on_any_machine(platform: str) -> None:
    """On a machine without weights, and so without anything that could be installed yet."""
    done = mertd("service", "install", "--dry-run", "--platform", platform)  # which also sees that no file is left
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("it could not be installed yet: ")
    for words in {
        "launchd": ("launchctl bootstrap gui/", "codesign ", "<key>ProcessType</key>", "open -W", "undo   launchctl bootout"),
        "systemd": ("systemctl --user restart", "WatchdogSec=10", "ExecStart=/", "undo   systemctl --user disable"),
    }[platform]:
        assert words in done.stdout


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the commands that run in this very process."""
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))


@pytest.mark.parametrize("verb", ["uninstall", "start", "stop", "restart", "reload", "logs"])
def test_a_dry_run_of(verb: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for platform in choose.PLATFORMS:
        assert run(["service", verb, "--dry-run", "--platform", platform]) == 0
        assert capsys.readouterr().out.startswith("1. ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_dry_run_starts_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_ins = StandIns(tmp_path)
    monkeypatch.setenv("PATH", f"{stand_ins.bin}:{os.environ['PATH']}")
    for platform in choose.PLATFORMS:
        for verb in ("install", "uninstall", "start", "stop", "restart", "reload", "logs"):
            assert run(["service", verb, "--dry-run", "--platform", platform]) == 0
    assert {tuple(word for word in call[:3] if word != "--user")[1] for call in stand_ins.calls} == {"print", "show"}


@pytest.mark.linux  # its native service manager is systemd
@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["install", "--platform", OTHER], 2, "--dry-run shows what would be done"),
        (["install", "--platform", "launchdd", "--dry-run"], 2, "did you mean 'launchd'"),
        (["install", "--dry-run", "--", "--config", "x.toml"], 2, "before the --"),
        (["install", "--dry-run", "--", "--hop", "0"], 2, "hop"),
        (["install", "--dry-run", "--", "--hopp", "1"], 2, "--hop"),
        (["install", "--config", "no/such.toml"], 2, "No such file"),
        (["install"], 2, "no weights"),
        (["start"], 3, "not installed"),
        (["logs"], 3, "not installed"),
    ],
)
def test_what_is_refused(words: list[str], code: int, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["service", *words]) == code
    assert complaint in capsys.readouterr().err


def test_status_where_nothing_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["service", "status"]) == 3
    assert "not installed" in capsys.readouterr().out
    assert run(["service", "status", "--json"]) == 3
    assert '"installed": false' in capsys.readouterr().out


def test_version() -> None:
    assert mertd("--version").stdout == "mertd 0.1.0\n"
