"""The agent's property list against launchd.plist(5); and a life from install to uninstall with a launchd that has faults."""

from __future__ import annotations

import os
import plistlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_process import PATIENCE_S, wait_until
from daemon_process import SHORT, TINY, Daemon
from mertd.cli.app import run
from mertd.errors import UsageError
from mertd.service import choose, launchd_app
from mertd.service.execute import ServiceError, daemon_status, execute_plan
from mertd.service.launchd import LaunchdManager
from mertd.service.launchd_files import LABEL
from mertd.service.manager import Inspection, ServiceSpec, ServiceState
from mertd.service.plan import Plan, RunCommand, WriteFile
from mertd.service.program import current_installation
from service.stand_ins import StandIns

NOT_XML = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]")
STRINGS = "array of strings"
INTEGERS = "dictionary of integers"
DOCUMENTED = {
    "Label": "string",
    "Disabled": "boolean",
    "LimitLoadToSessionType": "string",
    "Program": "string",
    "ProgramArguments": STRINGS,
    "EnableGlobbing": "boolean",
    "EnvironmentVariables": "dictionary of strings",
    "KeepAlive": "dictionary of booleans",
    "RunAtLoad": "boolean",
    "WorkingDirectory": "string",
    "Umask": "integer",
    "ExitTimeOut": "integer",
    "ThrottleInterval": "integer",
    "StartInterval": "integer",
    "StandardInPath": "string",
    "StandardOutPath": "string",
    "StandardErrorPath": "string",
    "SoftResourceLimits": INTEGERS,
    "HardResourceLimits": INTEGERS,
    "Nice": "integer",
    "ProcessType": "string",
    "AbandonProcessGroup": "boolean",
    "LowPriorityIO": "boolean",
    "LowPriorityBackgroundIO": "boolean",
    "LaunchOnlyOnce": "boolean",
    "SessionCreate": "boolean",
    "LegacyTimers": "boolean",
    "AssociatedBundleIdentifiers": STRINGS,
}
"""Keys and types that launchd.plist(5) documents. Where it allows several types, the one that mertd uses."""

BELOW = {
    "KeepAlive": {"SuccessfulExit", "NetworkState", "PathState", "OtherJobEnabled", "AfterInitialDemand", "Crashed"},
    "SoftResourceLimits": {"Core", "CPU", "Data", "FileSize", "MemoryLock", "NumberOfFiles", "NumberOfProcesses", "Stack"},
    "HardResourceLimits": {"Core", "CPU", "Data", "FileSize", "MemoryLock", "NumberOfFiles", "NumberOfProcesses", "Stack"},
}
VALUES = {
    "ProcessType": {"Background", "Standard", "Adaptive", "Interactive"},
    "LimitLoadToSessionType": {"Aqua", "Background", "LoginWindow", "StandardIO", "System"},
}


def is_of(value: object, kind: str) -> bool:
    plain = {"string": str, "boolean": bool, "integer": int}
    match kind.removesuffix("s").partition(" of "):
        case "array", _, inner:
            return type(value) is list and all(is_of(each, inner) for each in value)
        case "dictionary", _, inner:
            inner = "dictionary of booleans" if inner == "boolean" and not isinstance(value, dict) else inner
            return type(value) is dict and all(type(each) is plain[inner] for each in value.values())
        case name, _, _:
            return type(value) is plain[name]
    raise AssertionError(kind)


OPTIONS = ("--source", "device:Line & <In>", "--config", "/Users/änne/my config.toml")


def agent(options: tuple[str, ...] = OPTIONS) -> dict[str, object]:
    return LaunchdManager(Path("/Users/änne"), 501, current_installation()).agent(options)


def test_the_agent_round_trips() -> None:
    assert plistlib.loads(plistlib.dumps(agent(), sort_keys=False)) == agent()


@given(st.lists(st.text(st.characters(codec="utf-8"))))
def test_any_options_come_back_or_are_refused(words: list[str]) -> None:
    service = LaunchdManager(Path("/Users/änne"), 501, current_installation())
    wanted = ServiceSpec(tuple(words), "tcp://127.0.0.1:5591", "1", needs_microphone=False)
    if any(NOT_XML.search(word) for word in words):
        with pytest.raises(UsageError, match="cannot represent"):
            service.install(wanted, found())
    else:
        (written,) = (step for step in service.install(wanted, found()) if isinstance(step, WriteFile) and "agent" in step.what)
        assert plistlib.loads(written.content)["ProgramArguments"][6:] == words


@pytest.mark.parametrize("word", ["a\rb", "a\x1bb", "a\0b", "\udcff", "\ufffe", "\x0b"])
def test_what_xml_cannot_carry_is_refused(word: str) -> None:
    service = LaunchdManager(Path("/Users/x"), 501, current_installation())
    with pytest.raises(UsageError, match=r"rename the file or directory"):
        service.install(ServiceSpec((word,), "tcp://127.0.0.1:5591", "1", needs_microphone=False), found())
    with pytest.raises(UsageError, match=r"rename the file or directory"):
        replace(service, home=Path(f"/Users/{word.replace(chr(0), chr(1))}")).install(WANTED, found())


def test_a_python_in_a_path_with_a_colon_is_refused() -> None:
    """PYTHONPATH and PYTHONHOME separate paths by colons."""
    program = replace(current_installation(), packages=(Path("/a:b"),))
    with pytest.raises(UsageError, match="colon"):
        LaunchdManager(Path("/Users/x"), 501, program).install(WANTED, found())


@pytest.mark.parametrize("key", agent())
def test_launchd_documents(key: str) -> None:
    value = agent()[key]
    assert is_of(value, DOCUMENTED[key]), f"{key} should be of type {DOCUMENTED[key]}"
    if key in VALUES:
        assert value in VALUES[key]
    if key in BELOW:
        assert isinstance(value, dict)
        assert value.keys() <= BELOW[key]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, "boolean"),
        (True, "integer"),
        ("x", STRINGS),
        ([1], STRINGS),
        ({"a": True}, INTEGERS),
        ({"a": 1}, "dictionary of booleans"),
        ({"a": 1}, "dictionary of strings"),
    ],
)
def test_the_table_can_tell(value: object, kind: str) -> None:
    assert not is_of(value, kind)


def test_the_agents_essential_keys() -> None:
    """launchd/README.md gives the reason for each."""
    facts = agent()
    assert facts["ProcessType"] == "Interactive"
    assert facts["KeepAlive"] == {"SuccessfulExit": False}
    assert facts["LimitLoadToSessionType"] == "Aqua"
    assert facts["Label"] == LABEL
    assert facts["AssociatedBundleIdentifiers"] == [LABEL]
    assert isinstance(facts["ProgramArguments"], list)
    program, *words = facts["ProgramArguments"]
    assert words == ["-P", "-m", "mertd.cli.launchd_agent", "/Users/änne/Library/Logs/mertd/mertd.log", "run", *OPTIONS]
    assert program == "/Users/änne/Library/Application Support/mertd/mertd.app/Contents/MacOS/mertd"
    assert isinstance(facts["EnvironmentVariables"], dict)
    assert facts["EnvironmentVariables"]["PYTHONSAFEPATH"] == "1", "nothing is imported from the working directory"
    assert Path(facts["EnvironmentVariables"]["PYTHONHOME"], "lib").is_dir(), (
        "a copy in another directory finds its library there"
    )
    assert "/usr/bin" in facts["EnvironmentVariables"]["PATH"].split(":")


def test_the_app_says_why_it_listens() -> None:
    info = LaunchdManager(Path("/Users/x"), 501, current_installation()).app_info()
    assert info["CFBundleIdentifier"] == LABEL
    assert info["CFBundleExecutable"] == LaunchdManager(Path("/"), 0, current_installation()).executable.name
    assert info["LSUIElement"] is True
    assert "listens" in info["NSMicrophoneUsageDescription"]
    assert "plays" in info["NSAudioCaptureUsageDescription"], "without it a tap delivers zeros, and nobody is asked"


# Plans


WANTED = ServiceSpec(OPTIONS, "tcp://127.0.0.1:5591", "1", needs_microphone=True)


def found(
    loaded: bool = False, running: bool = False, same: bool = False, version: str = "", app_current: bool = False
) -> Inspection:
    state = ServiceState("launchd", Path("/x"), installed=loaded, loaded=loaded, running=running, pid=7 if running else 0)
    return Inspection(state, same, version, app_current)


def commands(plan: Plan) -> list[str]:
    return [" ".join(step.command[:2]) for step in plan if isinstance(step, RunCommand)]


def test_a_current_installation_is_left_alone() -> None:
    service = LaunchdManager(Path("/Users/x"), 501, current_installation())
    assert commands(service.install(WANTED, found(True, True, True, "1", True))) == []
    assert not any("codesign" in c for c in commands(service.install(WANTED, found(True, True, True, "0.9", True))))
    assert "launchctl bootout" in commands(service.install(WANTED, found(True, True, True, "0.9", True)))
    assert any("codesign" in c for c in commands(service.install(WANTED, found(True, True, True, "1", False))))


def test_a_restart_stops_in_order_first() -> None:
    service = LaunchdManager(Path("/Users/x"), 501, current_installation())
    assert commands(service.restart(WANTED, found(True, True))) == ["launchctl kill", "launchctl kickstart"]
    assert commands(service.restart(WANTED, found(True))) == ["launchctl kickstart"]
    assert commands(service.restart(WANTED, found())) == ["launchctl enable", "launchctl bootstrap"]


def test_only_a_service_that_captures_opens_the_microphone() -> None:
    service = LaunchdManager(Path("/Users/x"), 501, current_installation())
    assert "open -W" in commands(service.install(WANTED, found()))
    without_device = ServiceSpec(("--source", "synth:chords"), WANTED.control, "1", needs_microphone=False)
    assert "open -W" not in commands(service.install(without_device, found()))


def test_every_change_says_how_to_undo_it() -> None:
    service = LaunchdManager(Path("/Users/x"), 501, current_installation())
    for step in service.install(WANTED, found()):
        if isinstance(step, RunCommand) and step.command[0] in ("launchctl", "codesign", "open"):
            assert step.undo, step


# A life, with stand-ins for the programs of macOS


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIns]:
    mac = StandIns(tmp_path)
    monkeypatch.setenv("PATH", f"{mac.bin}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir(mode=0o700)
    monkeypatch.setattr(choose, "native_platform", lambda: "launchd")
    monkeypatch.setattr(launchd_app, "REGISTER", "lsregister")
    for name in choose.PASSED_ON["launchd"]:
        monkeypatch.delenv(name, raising=False)
    yield mac
    mac.end()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def options(home: Path) -> list[str]:
    endpoints = ["--bind", f"ipc://{home}/run/publish", "--control", f"ipc://{home}/run/control"]
    return ["--", *TINY, *SHORT, "--source", "synth:chords", *endpoints]


def bootstrap(service: LaunchdManager) -> Plan:
    """The part of a plan that hands the agent to launchd, without delays."""
    return [replace(step, retry_delay_s=0.0) if isinstance(step, RunCommand) else step for step in service._bootstrap()]


@pytest.mark.slow
def test_a_life(mac: StandIns, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    control = f"ipc://{home}/run/control"
    install = ["service", "install", *options(home)]

    assert run([*install[:2], "--dry-run", *install[2:]]) == 0
    assert mac.verbs() == []
    assert list(home.iterdir()) == [], "a dry run touches nothing"

    mac.fail("bootstrap", 37, 0)
    assert run(install) == 0
    assert mac.verbs() == ["enable", "bootstrap", "bootstrap"], "it is retried"
    assert [call[0] for call in mac.calls].count("codesign") == 1
    said = capsys.readouterr().out
    assert said.index("Sign it") < said.index("Hand the agent to launchd") < said.index("Wait until it answers")
    first = mac.pid
    status = daemon_status(control)
    assert status is not None
    assert status.processes["supervisor"]["pid"] == first
    assert run(["service", "status"]) == 0
    said = capsys.readouterr().out
    assert f"runs, process {first}; state running" in said, "the state of the agent, not of its parts"

    mac.forget()
    assert run(install) == 0
    assert mac.pid == first, "nothing has changed, so nothing is interrupted"
    assert mac.verbs() == []
    service = choose.service_manager()
    assert isinstance(service, LaunchdManager)
    execute_plan(bootstrap(service), lambda _: None)  # it is loaded already, for example by a login
    assert mac.calls[-1][1] == "print", "it has checked that"
    assert mac.pid == first

    mac.forget()
    mac.linger(3)
    assert run([*install, "--hop", "1"]) == 0  # the old agent still exists for a while after bootout
    second = mac.pid
    assert second not in (0, first)
    assert mac.verbs() == ["bootout", "enable", "bootstrap"]
    assert not [call for call in mac.calls if call[0] == "codesign"], "a new signature would void consent"

    mac.forget()
    assert run(["service", "stop"]) == 0
    assert mac.verbs() == ["kill"]
    assert not mac.pid
    assert run(["service", "status"]) == 3
    assert run(["service", "stop"]) == 0
    assert run(["service", "start"]) == 0
    assert mac.verbs() == ["kill", "kickstart"]
    assert mac.pid not in (0, first, second)
    capsys.readouterr()
    assert run(["service", "logs", "--lines", "5"]) == 0

    assert run(["service", "uninstall"]) == 0
    assert not mac.pid
    left = [path for path in home.rglob("*") if path.is_file()]
    assert left == []
    assert not list(home.glob("Library/*/*")), "not even a folder"
    assert ["tccutil", "reset", "Microphone", LABEL] in mac.calls
    assert run(["service", "uninstall"]) == 0, "twice does no harm"
    assert run(["service", "start"]) == 3
    assert "not installed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "words", "times"),
    [(125, "log in at the Mac itself", 1), (119, "Login Items", 1), (64, "failed with exit code 64", 1), (5, "exit code 5", 5)],
)
def test_refusals_of_launchd_are_explained(mac: StandIns, code: int, words: str, times: int) -> None:
    service = choose.service_manager()
    assert isinstance(service, LaunchdManager)
    mac.fail("bootstrap", *[code] * 9)
    with pytest.raises(ServiceError, match=words):
        execute_plan(bootstrap(service), lambda _: None)
    assert mac.verbs().count("bootstrap") == times, "only retry codes are retried"


@pytest.mark.slow
def test_the_microphone_is_opened_as_the_app(mac: StandIns, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The source is a device that no machine has, so the agent does not start; consent is requested before that."""
    mac.fail("bootstrap", 64)
    words = [word if word != "synth:chords" else "device:no such thing" for word in options(home)]
    assert run(["service", "install", *words]) == 3
    (call,) = [call for call in mac.calls if call[0] == "open"]
    app = home / "Library/Application Support/mertd/mertd.app"
    answer = home / "Library/Logs/mertd/consent.txt"
    program = ["-P", "-m", "mertd.service.microphone", "--answer", str(answer), "microphone"]
    assert call[call.index(str(app)) :] == [str(app), "--args", *program]
    assert any(word.startswith("PYTHONPATH=") for word in call)
    assert "microphone: sound received" in capsys.readouterr().out
    assert not list(answer.parent.glob("consent*"))
    assert run(["service", "uninstall"]) == 0


@pytest.mark.slow
def test_an_endpoint_that_another_daemon_uses(mac: StandIns, capsys: pytest.CaptureFixture[str]) -> None:
    with Daemon(*TINY, *SHORT, "--source", "synth:chords") as daemon:
        wait_until(lambda: daemon_status(daemon.control) is not None, PATIENCE_S, lambda: daemon.stderr)
        words = ["--", *TINY, "--source", "synth:chords", "--control", daemon.control, "--bind", daemon.publish]
        assert run(["service", "install", *words]) == 3
        assert f"another mertd, process {daemon.process.pid}" in capsys.readouterr().err
        assert mac.verbs() == []
