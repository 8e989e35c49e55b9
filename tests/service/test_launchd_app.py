"""The app that holds the consents, and the agent that runs it, with stand-ins for launchd and tccd that keep their state."""

from __future__ import annotations

import dataclasses
import os
import plistlib
import signal
import sys
from pathlib import Path

import pytest

from command_process import PATIENCE_S, wait_until
from daemon_process import SHORT, TINY
from mertd.cli.app import run
from mertd.config import load
from mertd.service import choose, launchd_app
from mertd.service.execute import execute_plan
from mertd.service.launchd import LaunchdManager
from mertd.service.launchd_app import app_problem, ask_for_consent, make_app
from mertd.service.launchd_files import LABEL
from mertd.service.manager import Inspection, ServiceSpec
from mertd.service.plan import Plan, RemovePath, RunCommand, WriteFile
from mertd.service.program import Installation, current_installation
from service.stand_ins import StandIns

SPEC = ServiceSpec(("--source", "device:"), "tcp://127.0.0.1:5591", "1", needs_microphone=True)


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIns:
    mac = StandIns(tmp_path)
    monkeypatch.setenv("PATH", f"{mac.bin}:/usr/bin:/bin")
    monkeypatch.setattr(launchd_app, "REGISTER", "lsregister")
    return mac


def manager(home: Path, installation: Installation | None = None) -> LaunchdManager:
    return LaunchdManager(home, 501, installation or current_installation())


def install(files: LaunchdManager, spec: ServiceSpec = SPEC) -> list[str]:
    said: list[str] = []
    files.log.parent.mkdir(parents=True, exist_ok=True)
    execute_plan([*make_app(files), *ask_for_consent(files, spec)], said.append)
    return said


def other_python(home: Path) -> Installation:
    """Another program that is a Python, as after an upgrade."""
    program = home / "python"
    program.write_bytes(Path(sys.executable).resolve().read_bytes() + b"upgraded")
    program.chmod(0o755)
    return dataclasses.replace(current_installation(), binary=program)


@pytest.mark.slow
def test_an_app_that_is_signed_again_asks_again(mac: StandIns, tmp_path: Path) -> None:
    """The old entry would stay: Settings would show the switch on, and the app would hear zeros."""
    files = manager(tmp_path)
    assert "microphone: sound received" in install(files)
    assert mac.hears(files.app)
    upgraded = manager(tmp_path, other_python(tmp_path))
    execute_plan([step for step in make_app(upgraded) if "tccutil" not in getattr(step, "command", ())], lambda _: None)
    assert not mac.hears(files.app), "the table remembers the code that was allowed"
    assert "microphone: sound received" in install(upgraded)
    assert mac.hears(files.app)


@pytest.mark.slow
def test_consents_are_forgotten_while_the_app_is_known_and_before_it_is_removed(mac: StandIns, tmp_path: Path) -> None:
    """tccutil finds an app through LaunchServices only (trycua/cua, 2376)."""
    files = manager(tmp_path)
    install(files)
    mac.forget()
    execute_plan(
        [step for step in files.uninstall(Inspection(files.state())) if not isinstance(step, WriteFile)], lambda _: None
    )
    programs = [call[0] for call in mac.calls if call[0] in ("lsregister", "tccutil")]
    assert programs == ["lsregister", "tccutil", "tccutil"]
    assert [call[2] for call in mac.calls if call[0] == "tccutil"] == ["Microphone", "AudioCapture"]
    assert not mac.hears(files.app)
    plan = list(files.uninstall(Inspection(files.state())))
    assert not [step for step in plan if isinstance(step, RunCommand) and step.command[0] == "tccutil"], "there is no app"


def test_a_user_who_says_no_is_told_so(mac: StandIns, tmp_path: Path) -> None:
    mac.answer(allow=False)
    assert "microphone: only zeros received" in install(manager(tmp_path))


@pytest.mark.usefixtures("mac")
def test_an_app_that_does_not_answer_is_no_failure(tmp_path: Path) -> None:
    """Whether LaunchServices passes DYLD_ variables on is not known; the agent asks by itself."""
    (tmp_path / "state" / "open does nothing").touch()
    files = manager(tmp_path)
    assert "the app has not answered; the agent will ask by itself" in install(files)
    assert not list(files.log.parent.iterdir())


def opened(plan: Plan) -> tuple[str, ...]:
    (command,) = (step.command for step in plan if isinstance(step, RunCommand) and step.command[0] == "open")
    return command


def test_what_open_writes_to_exists_and_the_answer_is_an_argument(tmp_path: Path) -> None:
    files = manager(tmp_path)
    plan = list(ask_for_consent(files, SPEC))
    words = opened(plan)
    written = {step.path for step in plan if isinstance(step, WriteFile)}
    assert {Path(words[words.index(option) + 1]) for option in ("--stdout", "--stderr", "--answer")} <= written
    assert words.index("--answer") > words.index("--args")
    assert written == {step.path for step in plan if isinstance(step, RemovePath)}


@pytest.mark.parametrize(
    ("source", "asked"),
    [("device:", ["microphone"]), ("loopback:", ["microphone"]), ("tap:", ["system-audio"]), ("synth:chords", [])],
)
def test_each_source_asks_for_what_it_needs(tmp_path: Path, source: str, asked: list[str]) -> None:
    spec = choose.service_spec(load(None, {"source": (source,)}), ("--source", source))
    plan = ask_for_consent(manager(tmp_path), spec)
    assert (list(opened(plan))[-len(asked) :] if asked else list(plan)) == asked


def test_the_agent_gets_the_folders_of_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS, too, platformdirs obeys XDG_*, and launchd starts the agent without them."""
    monkeypatch.setenv("HOME", str(tmp_path))
    names = [*choose.PASSED_ON["launchd"]]
    for name in names:
        monkeypatch.setenv(name, f"{tmp_path}/{name}")
    service = choose.service_manager("launchd")
    assert isinstance(service, LaunchdManager)
    variables = service.agent(())["EnvironmentVariables"]
    assert {name: variables[name] for name in names} == {name: f"{tmp_path}/{name}" for name in names}
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    service = choose.service_manager("launchd")
    assert isinstance(service, LaunchdManager)
    assert not {"XDG_DATA_HOME", "XDG_CACHE_HOME"} & service.agent(())["EnvironmentVariables"].keys()


def described(files: LaunchdManager) -> None:
    files.definition.parent.mkdir(parents=True, exist_ok=True)
    files.definition.write_bytes(plistlib.dumps(files.agent(())))


@pytest.mark.slow
@pytest.mark.usefixtures("mac")
def test_an_agent_that_cannot_start_is_noticed(tmp_path: Path) -> None:
    """Each of these showed as a healthy service in other programs (skynetcmd/m3-memory, 164)."""
    files = manager(tmp_path)
    assert app_problem(files) == "", "nothing is installed"
    described(files)
    assert f"{files.executable} does not exist" in app_problem(files)
    install(files)
    assert app_problem(files) == ""
    upgraded = manager(tmp_path, other_python(tmp_path))
    assert "another Python than" in app_problem(upgraded)
    files.executable.write_text(
        "#!/bin/sh\necho 'dyld[1]: Library not loaded: /opt/homebrew/Python'\necho '  tried:'\nkill -6 $$\n"
    )
    assert "does not start (exit code -6): dyld[1]: Library not loaded: /opt/homebrew/Python;" in app_problem(files)
    assert "`mertd service install` makes the app anew" in app_problem(files)
    files.definition.write_bytes(b"no property list")
    assert "cannot be read" in app_problem(files)


def test_an_upgrade_of_python_stops_the_agent_before_its_program_is_replaced(tmp_path: Path) -> None:
    files = manager(tmp_path)
    state = dataclasses.replace(files.state(), installed=True, loaded=True, running=True, pid=7)
    plan = list(files.install(SPEC, Inspection(state, app_current=False)))
    commands = [" ".join(step.command[:2]) for step in plan if isinstance(step, RunCommand)]
    assert commands.index("launchctl bootout") < commands.index("codesign --force") < commands.index("open -W")
    assert commands.count("launchctl bootout") == 1
    codes = [step.command[2:] for step in plan if isinstance(step, RunCommand) and step.command[0] == "tccutil"]
    assert codes == [("Microphone", LABEL), ("AudioCapture", LABEL)]


@pytest.mark.slow
def test_a_wrong_configuration_is_not_tried_again_and_a_crash_is(
    mac: StandIns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(choose, "native_platform", lambda: "launchd")
    for name in choose.PASSED_ON["launchd"]:
        monkeypatch.delenv(name, raising=False)
    config = home / "mertd.toml"
    config.write_text("")
    endpoints = ["--bind", f"ipc://{home}/run/publish", "--control", f"ipc://{home}/run/control"]
    words = ["service", "install", "--config", str(config), "--", *TINY, *SHORT, "--source", "synth:chords", *endpoints]
    try:
        assert run(words) == 0
        first = mac.pid
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: mac.pid not in (0, first), PATIENCE_S, lambda: "a crash is not followed by a start")
        assert run(["service", "stop"]) == 0
        config.write_text("ring_seconds = 0")
        assert mac.starts == 2
        execute_plan(
            [RunCommand(what="Start.", command=("launchctl", "kickstart", f"gui/{os.getuid()}/{LABEL}"))], lambda _: None
        )
        log = home / "Library/Logs/mertd/mertd.log"
        wait_until(lambda: "ring_seconds" in log.read_text(), PATIENCE_S, lambda: log.read_text())
        wait_until(lambda: mac.pid == 0, PATIENCE_S, lambda: "it goes on")
        assert "launchd does not start mertd again" in log.read_text()
        assert mac.starts == 1, "with exit code 2 it would be started every ten seconds"
    finally:
        config.write_text("")
        run(["service", "uninstall"])
        mac.end()
