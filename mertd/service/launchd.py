"""Plans for launchd: an agent of the user's session on macOS, and the app that holds its microphone consent.

Apple documents no exit codes of launchctl. Those used here were collected by other projects: 3 and 113, the service is unknown;
5, 36 and 37, among other things, the previous instance still exists, because `bootout` returns before it is gone; 125, there is
no session at the screen.
"""

from __future__ import annotations

import plistlib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from mertd.service.execute import has_content, query
from mertd.service.launchd_app import app_problem, ask_for_consent, make_app, revoke_consent
from mertd.service.launchd_files import LaunchdFiles
from mertd.service.manager import Inspection, ServiceSpec, ServiceState
from mertd.service.plan import (
    MakeDirectory,
    Plan,
    RemovePath,
    RunCommand,
    Step,
    WaitForCommand,
    WaitForDaemon,
    WriteFile,
)
from mertd.service.property_list import dump

UNKNOWN_SERVICE = frozenset({3, 113})
"""Exit codes of launchctl for a service that is not loaded."""

STILL_EXISTS = frozenset({5, 36, 37})
"""Exit codes of launchctl while the previous instance is being removed."""

INSTALL = "mertd service install"
NO_SESSION = "there is no session at the screen (ssh alone starts none); log in at the Mac itself, then try again"
DISABLED = "`launchctl enable` did not help; see System Settings, General, Login Items"


@dataclass(frozen=True)
class LaunchdManager(LaunchdFiles):
    """The agent of the user with this home directory and user id."""

    name: str = "launchd"
    private_directories: tuple[Path, ...] = ()

    # Queries

    def state(self) -> ServiceState:
        """Query launchd. The output of `launchctl print` is no stable interface, so a missing line proves nothing."""
        code, output = query(("launchctl", "print", self.target))
        found = re.findall(r"^\s*(state|pid|last exit code) = (.*)$", output, re.MULTILINE) if code == 0 else []
        facts = dict(reversed(found))  # the first line of each kind is about the agent, later ones about its parts
        pid = int(facts["pid"]) if facts.get("pid", "").isdecimal() else 0
        return ServiceState(
            manager=self.name,
            definition=self.definition,
            installed=self.definition.is_file(),
            loaded=code == 0,
            running=pid > 0 or facts.get("state") == "running",
            pid=pid,
            detail=", ".join(f"{name} {value}" for name, value in facts.items() if name != "pid"),
        )

    def inspect(self, spec: ServiceSpec, probe: bool) -> Inspection:  # noqa: ARG002 - launchd has nothing to try
        return Inspection(
            state=self.state(),
            definition_current=has_content(self.definition, dump(self.agent(spec.options))),
            app_current=has_content(self.info, dump(self.app_info())) and self.executable.is_file(),
        )

    def options(self) -> tuple[str, ...] | None:
        try:
            words = plistlib.loads(self.definition.read_bytes())["ProgramArguments"]
            return tuple(map(str, words[words.index("run") + 1 :]))
        except (OSError, ValueError, KeyError, AttributeError, TypeError, plistlib.InvalidFileException):
            return None

    def problem(self) -> str:
        return app_problem(self)

    # Plans

    def install(self, spec: ServiceSpec, found: Inspection) -> Plan:
        if found.is_up_to_date(spec) and found.app_current:
            return [self._wait_for_daemon(spec)]
        replaced = found.state.loaded and not found.app_current
        return [
            *self._make_directories(spec),
            *(self._bootout() if replaced else []),  # or it would start children from the new app and ask in the old one's name
            *([] if found.app_current else make_app(self)),
            *ask_for_consent(self, spec),
            WriteFile(
                what="Describe the agent to launchd.",
                undo=shlex.join(["rm", str(self.definition)]),
                path=self.definition,
                content=dump(self.agent(spec.options)),
            ),
            *(self._bootout() if found.state.loaded and not replaced else []),
            *self._bootstrap(),
            self._wait_for_daemon(spec),
        ]

    def uninstall(self, found: Inspection) -> Plan:
        return [
            *(self._bootout() if found.state.loaded else []),
            RemovePath(what="Remove the agent.", undo=INSTALL, path=self.definition),
            *(revoke_consent(self) if found.state.installed or self.app.exists() else []),
            RemovePath(what="Remove the app.", undo=INSTALL, path=self.app),
            RemovePath(what="Remove its directory, unless weights lie there.", path=self.app.parent, if_empty=True),
            RemovePath(what="Remove the log.", path=self.log.parent),
        ]

    def start(self, spec: ServiceSpec, found: Inspection) -> Plan:
        if found.state.running:
            return [WaitForDaemon(what="It is running; check whether it answers.", control=spec.control, version="")]
        kickstart = RunCommand(
            what="Start the agent.",
            undo="mertd service stop",
            command=("launchctl", "kickstart", self.target),
            retry_codes=STILL_EXISTS,
        )
        return [*([kickstart] if found.state.loaded else self._bootstrap()), self._wait_for_daemon(spec)]

    def stop(self, found: Inspection) -> Plan:
        if not found.state.running:
            return [Step(what="It is not running.")]
        return [
            RunCommand(
                what="Tell the agent to stop; it stays stopped until the next start or login.",
                undo="mertd service start",
                command=("launchctl", "kill", "SIGTERM", self.target),
                accepted_codes=UNKNOWN_SERVICE,
            ),
            WaitForCommand(
                what="Wait until it has stopped.", command=("launchctl", "print", self.target), word="state = running"
            ),
        ]

    def restart(self, spec: ServiceSpec, found: Inspection) -> Plan:
        if not found.state.running:
            return self.start(spec, found)
        return [
            *self.stop(found),
            RunCommand(what="Start it again.", command=("launchctl", "kickstart", "-k", self.target), retry_codes=STILL_EXISTS),
            self._wait_for_daemon(spec),
        ]

    def reload(self) -> Plan:
        command = ("launchctl", "kill", "SIGHUP", self.target)
        return [RunCommand(what="Tell the agent to read its configuration again.", command=command)]

    def logs(self, count: int, follow: bool) -> Plan:
        command = ("tail", "-n", str(count), *(["-F"] if follow else []), str(self.log))
        return [RunCommand(what="Show the log.", command=command, interactive=True)]

    # Parts of plans

    def _make_directories(self, spec: ServiceSpec) -> Plan:
        undo = shlex.join(["rm", "-r", str(self.log.parent)])
        log = MakeDirectory(what="Make a directory for the log.", undo=undo, path=self.log.parent)
        return [log, *(MakeDirectory(what="Make the directory of an endpoint.", path=path) for path in spec.writable)]

    def _bootout(self) -> Plan:
        return [
            RunCommand(
                what="Stop the agent and unload it.",
                undo="mertd service start",
                command=("launchctl", "bootout", self.target),
                accepted_codes=UNKNOWN_SERVICE | {36},
                retry_codes=frozenset({5, 37}),
            ),
            WaitForCommand(what="Wait until it is gone.", command=("launchctl", "print", self.target)),
        ]

    def _bootstrap(self) -> Plan:
        return [
            RunCommand(
                what="Enable the agent, in case it was disabled.",
                undo=f"launchctl disable {self.target}",
                command=("launchctl", "enable", self.target),
                optional=True,
            ),
            RunCommand(
                what="Hand the agent to launchd, which starts it now and at every login.",
                undo=f"launchctl bootout {self.target}",
                command=("launchctl", "bootstrap", f"gui/{self.uid}", str(self.definition)),
                goal_check=("launchctl", "print", self.target),
                retry_codes=STILL_EXISTS,
                hints={125: NO_SESSION, 119: DISABLED, 5: f"launchd gives no reason; possibly: {NO_SESSION}"},
            ),
        ]

    def _wait_for_daemon(self, spec: ServiceSpec) -> WaitForDaemon:
        return WaitForDaemon(what="Wait until it answers.", control=spec.control, version=spec.version)
