"""systemd: a unit of the user's own manager on Linux. The unit's text, with reasons, is in templates/mertd.service."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mertd.service.execute import query, same
from mertd.service.manager import TEMPLATES, Found, State, Wanted
from mertd.service.plan import Answer, Folder, Plan, Remove, Run, Step, Write
from mertd.service.program import Program
from mertd.service.unit_syntax import argument, assignment, directory, executable, split

UNIT = "mertd.service"
NO_MANAGER = (
    "if it cannot connect to the bus: this session has no systemd of its own, as after su or sudo; log in properly, or run "
    "`loginctl enable-linger` and set XDG_RUNTIME_DIR=/run/user/$(id -u)"
)
NO_NAMESPACE = frozenset({217, 226})
"""What systemd ends a service with whose user namespace, or file system of its own, could not be made (systemd.exec(5))."""

NAMESPACES = ("Private", "Protect", "ReadWritePaths")
"""How settings begin that need namespaces. Some distributions let no ordinary process have any, and in containers some fail; a
service with one that fails does not start.
"""

PASSED_ON = ("XDG_CONFIG_HOME", "XDG_DATA_HOME")
"""Variables that say where configuration and weights are, and that a shell may set where systemd does not see it."""


@dataclass(frozen=True)
class Systemd:
    """`folder`: of the user's units. `environment`: what to pass on to the service."""

    folder: Path
    program: Program
    environment: Mapping[str, str] = field(default_factory=dict)
    name: str = "systemd"
    hidden: tuple[Path, ...] = (Path("/tmp"), Path("/var/tmp"))

    @property
    def definition(self) -> Path:
        return self.folder / UNIT

    def unit(self, wanted: Wanted, refused: tuple[str, ...] = ()) -> str:
        """The unit's text: the template without settings that begin like one of `refused`, and what depends on the machine."""
        words = ["-P", "-m", "mertd", "run", *wanted.options]
        passed = [f"Environment={assignment(name, value)}\n" for name, value in sorted(self.environment.items())]
        values = {
            "@EXEC@": " ".join([executable(str(self.program.python)), *map(argument, words)]),
            "@ENVIRONMENT@": "".join(passed),
            "@WRITABLE@": "".join(f" -{directory(str(folder))}" for folder in wanted.folders),
        }
        text = "".join(f"{line}\n" for line in template() if not line.startswith(refused))
        # In one pass: a path may contain the text of a placeholder.
        return re.sub("|".join(values), lambda found: values[found[0]], text)

    # What is there

    def state(self) -> State:
        """Ask systemd."""
        names = ("LoadState", "ActiveState", "SubState", "MainPID", "Result", "NRestarts", "StatusText")
        code, said = query(("systemctl", "--user", "show", UNIT, "--property", ",".join(names)))
        facts = dict(line.split("=", 1) for line in said.splitlines() if "=" in line) if code == 0 else {}
        pid = int(facts["MainPID"]) if facts.get("MainPID", "").isdecimal() else 0
        detail = [f"{facts['ActiveState']} ({facts.get('SubState', '')})"] if "ActiveState" in facts else [said.strip()]
        detail += [f"{word} {facts[name]}" for name, word in _MORE.items() if facts.get(name, "") not in ("", "0", "success")]
        return State(
            manager=self.name,
            definition=self.definition,
            installed=self.definition.is_file(),
            loaded=facts.get("LoadState") == "loaded",
            running=pid > 0,
            pid=pid,
            detail=", ".join(detail),
        )

    def find(self, wanted: Wanted, try_out: bool) -> Found:
        refused = refusals() if try_out else ()
        return Found(state=self.state(), same=same(self.definition, self.unit(wanted, refused).encode()), refused=refused)

    def options(self) -> tuple[str, ...] | None:
        try:
            found = re.search(r"^ExecStart=(.*)$", self.definition.read_text(encoding="utf-8"), re.MULTILINE)
            words = split(found[1]) if found else []
            return tuple(words[words.index("run") + 1 :])
        except (OSError, ValueError):
            return None

    # Plans

    def install(self, wanted: Wanted, found: Found) -> Plan:
        if found.is_all_of(wanted):
            return [self._answer(wanted)]
        return [
            *(
                [Step(what=f"This system refuses a part of the protection: {', '.join(found.refused)}.")]
                if found.refused
                else []
            ),
            *(Folder(what="Make the folder of an endpoint.", path=folder) for folder in wanted.folders),
            Write(
                what="Describe the service to systemd.",
                undo=f"rm {self.definition}",
                path=self.definition,
                content=self.unit(wanted, found.refused).encode(),
            ),
            self._reload_units(),
            self._control("Start it at every login.", "enable", undo=f"systemctl --user disable {UNIT}"),
            self._control("Start it now.", "restart", "--no-block", undo="mertd service stop"),
            self._answer(wanted),
            Step(what="It runs while you are logged in. To have it run from when the machine starts: loginctl enable-linger"),
        ]

    def uninstall(self, found: Found) -> Plan:
        again = "mertd service install"
        gone = found.state.installed or found.state.loaded
        stop = [self._control("Stop it, and start it no more.", "disable", "--now", undo=again)] if gone else []
        return [
            *stop,
            Remove(what="Remove its description.", undo=again, path=self.definition),
            Remove(what="Remove settings of your own, if there are none in it.", path=self.folder / f"{UNIT}.d", if_empty=True),
            self._reload_units(),
            Run(
                what="Forget how it failed, if it did.",
                command=("systemctl", "--user", "reset-failed", UNIT),
                fine=frozenset({1}),  # it is not known any more
            ),
        ]

    def start(self, wanted: Wanted, found: Found) -> Plan:
        if found.state.running:
            return [Answer(what="It runs already; see whether it answers.", control=wanted.control, version="")]
        return [self._control("Start it.", "start", "--no-block", undo="mertd service stop"), self._answer(wanted)]

    def stop(self, found: Found) -> Plan:
        if not found.state.running:
            return [Step(what="It does not run.")]
        return [self._control("Stop it, in order; it starts again at the next login.", "stop", undo="mertd service start")]

    def restart(self, wanted: Wanted, found: Found) -> Plan:
        stop = self.stop(found) if found.state.running else []
        return [*stop, *self.start(wanted, Found(replace(found.state, running=False)))]

    def reload(self) -> Plan:
        return [self._control("Tell it to read its configuration again.", "reload")]

    def logs(self, count: int, follow: bool) -> Plan:
        command = ("journalctl", "--user", "--unit", UNIT, "--lines", str(count), *(["--follow"] if follow else ["--no-pager"]))
        return [Run(what="Show the log.", command=command, visible=True)]

    # Parts of plans

    def _control(self, what: str, verb: str, *options: str, undo: str = "") -> Run:
        return Run(what=what, undo=undo, command=("systemctl", "--user", verb, *options, UNIT), hints={1: NO_MANAGER})

    def _reload_units(self) -> Run:
        return Run(
            what="Have systemd read its descriptions again.",
            command=("systemctl", "--user", "daemon-reload"),
            hints={1: NO_MANAGER},
        )

    def _answer(self, wanted: Wanted) -> Answer:
        return Answer(what="Wait until it answers.", control=wanted.control, version=wanted.version)


_MORE: Mapping[str, str] = {"Result": "result", "NRestarts": "restarts", "StatusText": "says"}


def template() -> list[str]:
    """The lines of the unit as it lies here."""
    return (TEMPLATES / UNIT).read_text(encoding="utf-8").splitlines()


def refusals() -> tuple[str, ...]:
    """The settings of the unit that this system does not let a service of this user have, found out by trying; mostly none."""
    settings = [line for line in template() if line.startswith(NAMESPACES[:2])]
    if _starts(settings):
        return ()
    if not _starts(["PrivateUsers=yes"]):
        return NAMESPACES
    return tuple(setting for setting in settings if not _starts(["PrivateUsers=yes", setting]))


def _starts(settings: list[str]) -> bool:
    """Whether a service with these settings, which does nothing, gets so far as to do it; also if there is nobody to ask."""
    words = [word for setting in settings for word in ("-p", setting)]
    return query(("systemd-run", "--user", "--wait", "--collect", "--quiet", *words, "true"))[0] not in NO_NAMESPACE
