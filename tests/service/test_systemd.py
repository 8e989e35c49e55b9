"""The unit, checked by systemd's own tools; and a life from install to uninstall with a systemctl that starts the unit."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon_process import SHORT, TINY
from mertd.cli.app import run
from mertd.config import Settings
from mertd.service import choose
from mertd.service.execute import daemon_status
from mertd.service.launchd import LaunchdManager
from mertd.service.manager import Inspection, ServiceSpec, ServiceState
from mertd.service.plan import WaitForDaemon, WriteFile
from mertd.service.program import current_installation
from mertd.service.systemd import UNIT, SystemdManager
from service.stand_ins import StandIns
from service.unit_reader import UNREPRESENTABLE, read_command, read_words, setting

EXPOSURE = 50
"""Largest exposure that `systemd-analyze security` may report, in tenths of a point. A unit without protection has 96."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and not os.environ.get("CI"), reason="systemd-analyze is not installed"
)
ODD = ("--source", 'device:Line "In" $1 & 50%', "--config", "/home/a b/ü.toml", "--weights", "C:\\x")


def unit(folder: Path, options: tuple[str, ...] = ODD) -> str:
    wanted = ServiceSpec(
        options, "tcp://127.0.0.1:5591", "1", needs_microphone=True, writable=(Path("/srv/a b"), Path("/srv/c"))
    )
    return SystemdManager(folder, current_installation(), {"XDG_DATA_HOME": "/data/50% of $HOME"}).unit(wanted)


def analyze(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "SYSTEMD_COLORS": "0"}
    command = ["systemd-analyze", "--user", *words, f"./{UNIT}"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@needs_systemd
def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    (tmp_path / UNIT).write_text(unit(tmp_path))
    done = analyze(tmp_path, "verify")
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if UNIT in line] == []


@needs_systemd
@pytest.mark.parametrize(
    ("right", "wrong"), [("WatchdogSec=10", "WatchdogSec=ten"), ("PrivateTmp=", "PrivatTmp="), ("ExecStart=/", "ExecStart=no/")]
)
def test_systemd_would_find_a_fault(tmp_path: Path, right: str, wrong: str) -> None:
    text = unit(tmp_path)
    assert text.count(right) == 1
    (tmp_path / UNIT).write_text(text.replace(right, wrong))
    assert UNIT in analyze(tmp_path, "verify").stderr


@needs_systemd
def test_exposure_is_low(tmp_path: Path) -> None:
    (tmp_path / UNIT).write_text(unit(tmp_path))
    done = analyze(tmp_path, "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager")
    assert done.returncode == 0, done.stdout


def test_the_service_can_use_sound(tmp_path: Path) -> None:
    """PrivateDevices and ProtectClock hide /dev/snd; the sound server needs these address families."""
    settings = dict(line.split("=", 1) for line in unit(tmp_path).splitlines() if line[:1].isupper())
    assert (
        not {"PrivateDevices", "ProtectClock", "DevicePolicy", "DeviceAllow", "PrivateNetwork", "PrivateIPC"} & settings.keys()
    )
    assert {"AF_UNIX", "AF_INET"} <= set(settings["RestrictAddressFamilies"].split())
    assert settings["ReadWritePaths"] == '-%t -"/srv/a b" -/srv/c'


def test_options_come_back_from_the_unit(tmp_path: Path) -> None:
    service = SystemdManager(tmp_path, current_installation())
    assert service.options() is None
    service.definition.write_text(unit(tmp_path))
    assert service.options() == ODD


def test_a_path_may_contain_the_text_of_a_placeholder(tmp_path: Path) -> None:
    """Values are inserted in one pass, so nothing is inserted into a value."""
    options = ("--config", "/home/@WRITABLE@/@ENVIRONMENT@.toml", "--source", "file:/@EXEC@.wav")
    wanted = ServiceSpec(options, "tcp://127.0.0.1:5591", "1", needs_microphone=True, writable=(Path("/srv/@EXEC@"),))
    service = SystemdManager(tmp_path, current_installation(), {"XDG_DATA_HOME": "/data/@WRITABLE@"})
    text = service.unit(wanted)
    assert read_command(setting(text, "ExecStart"))[-4:] == list(options)
    assert read_words(setting(text, "ReadWritePaths"), c_escapes=False) == ["-%t", "-/srv/@EXEC@"]
    assert "\nEnvironment=XDG_DATA_HOME=/data/@WRITABLE@\n" in text
    service.definition.write_text(text)
    assert service.options() == options


def test_python_imports_nothing_from_the_working_directory(tmp_path: Path) -> None:
    text = unit(tmp_path)
    assert read_command(setting(text, "ExecStart"))[1:5] == ["-P", "-m", "mertd", "run"]
    assert "\nEnvironment=PYTHONSAFEPATH=1\n" in text


@given(st.lists(st.text(st.characters(codec="utf-8")).filter(lambda word: not UNREPRESENTABLE.search(word)), max_size=4))
def test_any_options_come_back_from_the_unit(words: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        service = SystemdManager(Path(folder), current_installation())
        text = service.unit(ServiceSpec(tuple(words), "tcp://127.0.0.1:5591", "1", needs_microphone=False))
        service.definition.write_text(text, encoding="utf-8")
        assert read_command(setting(text, "ExecStart"))[5:] == words
        assert service.options() == tuple(words)


@needs_systemd
def test_systemd_finds_no_fault_with_control_characters(tmp_path: Path) -> None:
    (tmp_path / UNIT).write_text(unit(tmp_path, ("--source", "file:/a\nExecStart=/bin/false\r\x1b[31m\u202e\x85\t;", ";")))
    done = analyze(tmp_path, "verify")
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if UNIT in line] == []


# A life


@pytest.fixture
def linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIns]:
    stand_ins, manager = StandIns(tmp_path), choose.service_manager
    monkeypatch.setenv("PATH", f"{stand_ins.bin}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(choose, "native_platform", lambda: "systemd")
    # The test's own directory lies in /tmp.
    monkeypatch.setattr(choose, "service_manager", lambda platform=None: replace(manager(platform), private_directories=()))  # type: ignore[type-var]
    yield stand_ins
    stand_ins.end()


@pytest.mark.slow
def test_a_life(linux: StandIns, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    control = f"ipc://{tmp_path}/run/control"
    endpoints = ["--bind", f"ipc://{tmp_path}/run/publish", "--control", control]
    install = ["service", "install", "--", *TINY, *SHORT, "--source", "synth:chords", *endpoints]
    assert run(install) == 0
    assert linux.verbs() == ["daemon-reload", "enable", "restart"]
    first, status = linux.pid, daemon_status(control)
    assert status is not None
    assert status.processes["supervisor"]["pid"] == first
    assert run(["service", "status"]) == 0
    assert f"process {first}" in capsys.readouterr().out
    linux.forget()
    assert run(install) == 0
    assert (linux.verbs(), linux.pid) == ([], first), "nothing has changed, so nothing is interrupted"
    assert run([*install, "--hop", "1"]) == 0
    assert linux.verbs() == ["daemon-reload", "enable", "restart"]
    assert linux.pid not in (0, first)
    assert run(["service", "stop"]) == 0
    assert run(["service", "status"]) == 3
    assert not linux.pid
    assert run(["service", "uninstall"]) == 0
    assert [path for path in (tmp_path / "config").rglob("*") if path.is_file()] == []
    assert run(["service", "uninstall"]) == 0, "twice does no harm"
    assert run(["service", "reload"]) == 3
    assert "not installed" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("refused", "missing"),
    [
        ((), ()),
        (("ProtectKernelLogs=yes", "ProtectHostname=yes"), ("ProtectKernelLogs=yes", "ProtectHostname=yes")),
        (("PrivateUsers=yes",), ("Private", "Protect", "ReadWritePaths")),
    ],
)
def test_settings_that_the_system_refuses_are_left_out(
    linux: StandIns, tmp_path: Path, refused: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    """A unit with them would not start: in containers, and where ordinary users may not create namespaces."""
    service = choose.service_manager()
    wanted = ServiceSpec(ODD, f"ipc://{tmp_path}/control", "1", needs_microphone=False)
    linux.refuse(*refused)
    plan = service.install(wanted, service.inspect(wanted, probe=True))
    (description,) = (step.content.decode() for step in plan if isinstance(step, WriteFile))
    assert isinstance(service, SystemdManager)
    everything = service.unit(wanted).splitlines()
    assert description.splitlines() == [line for line in everything if not (missing and line.startswith(missing))]
    assert len(everything) - len(description.splitlines()) == {0: 0, 2: 2, 1: 10}[len(refused)]
    assert any("refuses" in step.what for step in plan) == bool(refused)


def test_the_users_own_settings_survive(linux: StandIns, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    override = tmp_path / "config" / "systemd" / "user" / f"{UNIT}.d" / "override.conf"
    override.parent.mkdir(parents=True)
    override.write_text("[Service]\nMemoryMax=8G\n")
    assert run(["service", "uninstall"]) == 0
    assert override.exists()
    assert f"{override.parent} stays" in capsys.readouterr().out
    assert "disable" not in linux.verbs(), "there was nothing to disable"


# What a service cannot do


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"source": ("file:music.wav",)}, "give the full path"),
        ({"source": ("file:/tmp/music.wav",)}, "PrivateTmp"),
        ({"source": ("pipe:-",)}, "standard input"),
        ({"weights": "mine.safetensors"}, "give the full path"),
        ({"control": "ipc:///tmp/mertd/control"}, "PrivateTmp"),
    ],
)
def test_what_a_service_cannot_find_is_reported(settings: dict[str, object], words: str) -> None:
    service = replace(SystemdManager(Path("/x"), current_installation()), private_directories=(Path("/tmp"),))
    fine = {"weights": "random:0", "source": ("synth:chords",)}
    before = choose.unmet_requirements(service, Settings.model_validate(fine))
    after = choose.unmet_requirements(service, Settings.model_validate(fine | settings))
    (problem,) = set(after) - set(before)
    assert words in problem


def test_missing_weights_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    found = choose.unmet_requirements(
        SystemdManager(Path("/x"), current_installation(), private_directories=()), Settings.model_validate({})
    )
    assert ["no weights" in problem for problem in found] == [True]


def test_sudo_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", "1000")
    settings = Settings.model_validate({"weights": "random:0", "source": ("synth:chords",)})
    (problem,) = choose.unmet_requirements(SystemdManager(Path("/x"), current_installation(), private_directories=()), settings)
    assert "without sudo" in problem


def test_starting_a_running_service_accepts_an_older_version() -> None:
    """Only an install or a restart replaces it."""
    running = Inspection(ServiceState("systemd", Path("/x"), installed=True, loaded=True, running=True, pid=7))
    wanted = ServiceSpec((), "tcp://127.0.0.1:5591", "2", needs_microphone=False)
    for service in (
        SystemdManager(Path("/x"), current_installation()),
        LaunchdManager(Path("/x"), 501, current_installation()),
    ):
        (step,) = service.start(wanted, running)
        assert isinstance(step, WaitForDaemon)
        assert step.version == ""
        assert [each.version for each in service.restart(wanted, running) if isinstance(each, WaitForDaemon)] == ["2"]
