"""Plans for systemd: a unit of the user's own manager on Linux. systemd/README.md explains every setting of the unit."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mertd.service.execute import has_content, query
from mertd.service.manager import Inspection, ServiceSpec, ServiceState
from mertd.service.plan import MakeDirectory, Plan, RemovePath, RunCommand, Step, WaitForDaemon, WriteFile
from mertd.service.program import Installation
from mertd.service.templates import read_template
from mertd.service.unit_syntax import argument, assignment, directory, executable, split

UNIT = "mertd.service"
INSTALL = "mertd service install"
NO_MANAGER = (
    "if it cannot connect to the bus: this session has no systemd manager, as after su or sudo; log in directly, or run "
    "`loginctl enable-linger` and set XDG_RUNTIME_DIR=/run/user/$(id -u)"
)
NAMESPACE_FAILED = frozenset({217, 226})
"""Exit codes of systemd for a service whose user namespace or mount namespace could not be set up (systemd.exec(5))."""

NAMESPACES = ("Private", "Protect", "ReadWritePaths")
"""Prefixes of the settings that need namespaces.

Some distributions allow ordinary users none, and in containers some fail. A service does not start if one of them fails.
"""

PROPERTIES = ("LoadState", "ActiveState", "SubState", "MainPID", "Result", "NRestarts", "StatusText")
"""What `systemctl show` is asked for."""

DETAILS: Mapping[str, str] = {"Result": "result", "NRestarts": "restarts", "StatusText": "says"}
"""Properties that are added to the state if they say anything unusual, and the words for them."""


@dataclass(frozen=True)
class SystemdManager:
    """The unit in `folder`, the directory of the user's units. `environment`: variables to set in the service."""

    folder: Path
    installation: Installation
    environment: Mapping[str, str] = field(default_factory=dict)
    name: str = "systemd"
    private_directories: tuple[Path, ...] = (Path("/tmp"), Path("/var/tmp"))

    @property
    def definition(self) -> Path:
        return self.folder / UNIT

    def unit(self, spec: ServiceSpec, refused: tuple[str, ...] = ()) -> str:
        """Return the unit: the template without settings that begin like one of `refused`, and what depends on this machine."""
        words = ["-P", "-m", "mertd", "run", *spec.options]
        variables = [f"Environment={assignment(name, value)}\n" for name, value in sorted(self.environment.items())]
        values = {
            "@EXEC@": " ".join([executable(str(self.installation.python)), *map(argument, words)]),
            "@ENVIRONMENT@": "".join(variables),
            "@WRITABLE@": "".join(f" -{directory(str(path))}" for path in spec.writable),
        }
        text = "".join(f"{line}\n" for line in template() if not line.startswith(refused))
        # In one pass, because a path may contain the text of a placeholder.
        return re.sub("|".join(values), lambda found: values[found[0]], text)

    # Queries

    def state(self) -> ServiceState:
        """Query systemd."""
        code, output = query(("systemctl", "--user", "show", UNIT, "--property", ",".join(PROPERTIES)))
        facts = dict(line.split("=", 1) for line in output.splitlines() if "=" in line) if code == 0 else {}
        pid = int(facts["MainPID"]) if facts.get("MainPID", "").isdecimal() else 0
        detail = [f"{facts['ActiveState']} ({facts.get('SubState', '')})"] if "ActiveState" in facts else [output.strip()]
        detail += [f"{word} {facts[name]}" for name, word in DETAILS.items() if facts.get(name, "") not in ("", "0", "success")]
        return ServiceState(
            manager=self.name,
            definition=self.definition,
            installed=self.definition.is_file(),
            loaded=facts.get("LoadState") == "loaded",
            running=pid > 0,
            pid=pid,
            detail=", ".join(detail),
        )

    def inspect(self, spec: ServiceSpec, probe: bool) -> Inspection:
        refused = refused_settings() if probe else ()
        return Inspection(
            state=self.state(),
            definition_current=has_content(self.definition, self.unit(spec, refused).encode()),
            refused_settings=refused,
        )

    def options(self) -> tuple[str, ...] | None:
        try:
            found = re.search(r"^ExecStart=(.*)$", self.definition.read_text(encoding="utf-8"), re.MULTILINE)
            words = split(found[1]) if found else []
            return tuple(words[words.index("run") + 1 :])
        except (OSError, ValueError):
            return None

    def problem(self) -> str:
        try:
            found = re.search(r"^ExecStart=(.*)$", self.definition.read_text(encoding="utf-8"), re.MULTILINE)
            program = split(found[1])[0] if found else ""
        except (OSError, ValueError, IndexError):
            return ""
        if program and not Path(program).exists():
            return f"{program} does not exist any more; `mertd service install` describes the service anew"
        return ""

    # Plans

    def install(self, spec: ServiceSpec, found: Inspection) -> Plan:
        if found.is_up_to_date(spec):
            return [self._wait_for_daemon(spec)]
        refused = ", ".join(found.refused_settings)
        return [
            *([Step(what=f"This system refuses a part of the protection: {refused}.")] if refused else []),
            *(MakeDirectory(what="Make the directory of an endpoint.", path=path) for path in spec.writable),
            WriteFile(
                what="Describe the service to systemd.",
                undo=shlex.join(["rm", str(self.definition)]),
                path=self.definition,
                content=self.unit(spec, found.refused_settings).encode(),
            ),
            self._reload_units(),
            self._systemctl("Start it at every login.", "enable", undo=f"systemctl --user disable {UNIT}"),
            self._systemctl("Start it now.", "restart", "--no-block", undo="mertd service stop"),
            self._wait_for_daemon(spec),
            Step(what="It runs while you are logged in. To run it from the start of the machine: loginctl enable-linger"),
        ]

    def uninstall(self, found: Inspection) -> Plan:
        exists = found.state.installed or found.state.loaded
        stop = [self._systemctl("Stop it, and do not start it at login.", "disable", "--now", undo=INSTALL)] if exists else []
        overrides = self.folder / f"{UNIT}.d"
        return [
            *stop,
            RemovePath(what="Remove the unit.", undo=INSTALL, path=self.definition),
            RemovePath(what="Remove the directory for your own settings, unless there are any.", path=overrides, if_empty=True),
            self._reload_units(),
            RunCommand(
                what="Forget earlier failures.",
                command=("systemctl", "--user", "reset-failed", UNIT),
                accepted_codes=frozenset({1}),  # the unit is not loaded any more
            ),
        ]

    def start(self, spec: ServiceSpec, found: Inspection) -> Plan:
        if found.state.running:
            return [WaitForDaemon(what="It is running; check whether it answers.", control=spec.control, version="")]
        return [self._systemctl("Start it.", "start", "--no-block", undo="mertd service stop"), self._wait_for_daemon(spec)]

    def stop(self, found: Inspection) -> Plan:
        if not found.state.running:
            return [Step(what="It is not running.")]
        return [self._systemctl("Stop it; it starts again at the next login.", "stop", undo="mertd service start")]

    def restart(self, spec: ServiceSpec, found: Inspection) -> Plan:
        stop = self.stop(found) if found.state.running else []
        return [*stop, *self.start(spec, Inspection(replace(found.state, running=False)))]

    def reload(self) -> Plan:
        return [self._systemctl("Tell it to read its configuration again.", "reload")]

    def logs(self, count: int, follow: bool) -> Plan:
        command = ("journalctl", "--user", "--unit", UNIT, "--lines", str(count), *(["--follow"] if follow else ["--no-pager"]))
        return [RunCommand(what="Show the log.", command=command, interactive=True)]

    # Parts of plans

    def _systemctl(self, what: str, verb: str, *options: str, undo: str = "") -> RunCommand:
        return RunCommand(what=what, undo=undo, command=("systemctl", "--user", verb, *options, UNIT), hints={1: NO_MANAGER})

    def _reload_units(self) -> RunCommand:
        command = ("systemctl", "--user", "daemon-reload")
        return RunCommand(what="Tell systemd to read its units again.", command=command, hints={1: NO_MANAGER})

    def _wait_for_daemon(self, spec: ServiceSpec) -> WaitForDaemon:
        return WaitForDaemon(what="Wait until it answers.", control=spec.control, version=spec.version)


def template() -> list[str]:
    """Return the lines of the unit's template."""
    return read_template("systemd", UNIT).decode().splitlines()


def refused_settings() -> tuple[str, ...]:
    """Return the settings of the unit that this system refuses to services of this user, found by trying them. Mostly none."""
    settings = [line for line in template() if line.startswith(NAMESPACES[:2])]
    if _can_start(settings):
        return ()
    if not _can_start(["PrivateUsers=yes"]):
        return NAMESPACES
    return tuple(setting for setting in settings if not _can_start(["PrivateUsers=yes", setting]))


def _can_start(settings: list[str]) -> bool:
    """Return whether a service with these settings can be set up. True, too, if there is no manager that could tell."""
    words = [word for setting in settings for word in ("-p", setting)]
    return query(("systemd-run", "--user", "--wait", "--collect", "--quiet", *words, "true"))[0] not in NAMESPACE_FAILED
