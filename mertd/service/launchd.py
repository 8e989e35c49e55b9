"""launchd: an agent of the user's session on macOS, and the small app that holds its consent to hear microphones.

Consent belongs to a program inside an app with a usage description, under one signature. So the app holds a copy of the Python
interpreter, signed once: signing again voids consent, which is why an upgrade of mertd leaves the app alone, and only another
interpreter replaces it. The agent runs that copy itself, no shell: consent would belong to the shell.

What exit codes of launchctl mean was learned by others: 3 and 113, the service is not known; 5, 36 and 37, also that the old
one is not gone yet, as `bootout` returns before it is; 125, there is no session at the screen.
"""

from __future__ import annotations

import hashlib
import plistlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mertd.errors import UsageError
from mertd.service.execute import query, same
from mertd.service.manager import TEMPLATES, Found, State, Wanted
from mertd.service.plan import Answer, Copy, Folder, Plan, Remove, Run, Show, Step, Until, Write
from mertd.service.program import Program
from mertd.service.property_list import dump

LABEL = "local.mertd"
"""Of the agent and, as CFBundleIdentifier, of the app. It also stands in the templates."""

PATH = "/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
"""No shell start-up file is read."""

NOT_THERE = frozenset({3, 113})
NOT_YET = frozenset({5, 36, 37})
NO_SESSION = "there is no session at the screen (ssh alone starts none); log in at the Mac itself, then try again"
DISABLED = "`launchctl enable` was of no use: see System Settings, General, Login Items"


@dataclass(frozen=True)
class Launchd:
    """`home` and `uid`: whose agent it is."""

    home: Path
    uid: int
    program: Program
    name: str = "launchd"
    hidden: tuple[Path, ...] = ()

    # Places

    @property
    def definition(self) -> Path:
        return self.home / "Library" / "LaunchAgents" / f"{LABEL}.plist"

    @property
    def app(self) -> Path:
        return self.home / "Library" / "Application Support" / "mertd" / "mertd.app"

    @property
    def executable(self) -> Path:
        return self.app / "Contents" / "MacOS" / "mertd"

    @property
    def log(self) -> Path:
        return self.home / "Library" / "Logs" / "mertd" / "mertd.log"

    @property
    def target(self) -> str:
        return f"gui/{self.uid}/{LABEL}"

    # Files

    @property
    def environment(self) -> dict[str, str]:
        """With which the copied interpreter finds its library and packages; child processes inherit it."""
        return {
            "PATH": PATH,
            "PYTHONSAFEPATH": "1",
            "PYTHONHOME": _joined(self.program.home),
            "PYTHONPATH": _joined(*self.program.packages),
            "DYLD_FALLBACK_LIBRARY_PATH": _joined(self.program.library, Path("/usr/local/lib"), Path("/usr/lib")),
        }

    def agent(self, options: tuple[str, ...]) -> dict[str, Any]:
        """The property list of the agent: the template, and what depends on the machine."""
        return {
            **plistlib.loads((TEMPLATES / "agent.plist").read_bytes()),
            "ProgramArguments": [str(self.executable), "-P", "-m", "mertd", "run", *options],
            "EnvironmentVariables": self.environment,
            "WorkingDirectory": str(self.home),
            "StandardOutPath": str(self.log),
            "StandardErrorPath": str(self.log),
        }

    def app_info(self) -> dict[str, Any]:
        """The app's Info.plist. It names the interpreter that was copied by its digest, so that another one is noticed."""
        digest = hashlib.sha256(self.program.binary.read_bytes()).hexdigest()
        return {**plistlib.loads((TEMPLATES / "app.plist").read_bytes()), "MertdInterpreter": digest}

    @property
    def _info(self) -> Path:
        return self.app / "Contents" / "Info.plist"

    # What is there

    def state(self) -> State:
        """Ask launchd. The output of `launchctl print` is no interface, so nothing is concluded from a line that is missing."""
        code, said = query(("launchctl", "print", self.target))
        found = re.findall(r"^\s*(state|pid|last exit code) = (.*)$", said, re.MULTILINE) if code == 0 else []
        facts = dict(reversed(found))  # the first of each is the agent's own, later ones are of what it holds
        pid = int(facts["pid"]) if facts.get("pid", "").isdecimal() else 0
        return State(
            manager=self.name,
            definition=self.definition,
            installed=self.definition.is_file(),
            loaded=code == 0,
            running=pid > 0 or facts.get("state") == "running",
            pid=pid,
            detail=", ".join(f"{name} {value}" for name, value in facts.items() if name != "pid"),
        )

    def find(self, wanted: Wanted, try_out: bool) -> Found:  # noqa: ARG002 - there is nothing to try here
        return Found(
            state=self.state(),
            same=same(self.definition, dump(self.agent(wanted.options))),
            same_app=same(self._info, dump(self.app_info())) and self.executable.is_file(),
        )

    def options(self) -> tuple[str, ...] | None:
        try:
            words = plistlib.loads(self.definition.read_bytes())["ProgramArguments"]
            return tuple(map(str, words[words.index("run") + 1 :]))
        except (OSError, ValueError, KeyError, AttributeError, TypeError, plistlib.InvalidFileException):
            return None

    # Plans

    def install(self, wanted: Wanted, found: Found) -> Plan:
        if found.is_all_of(wanted) and found.same_app:
            return [self._answer(wanted)]
        return [
            *self._folders(wanted),
            *([] if found.same_app else self._make_app()),
            *(self._ask_for_consent() if wanted.listens else []),
            Write(
                what="Describe the agent to launchd.",
                undo=f"rm {self.definition}",
                path=self.definition,
                content=dump(self.agent(wanted.options)),
            ),
            *(self._bootout() if found.state.loaded else []),
            *self._bootstrap(),
            self._answer(wanted),
        ]

    def uninstall(self, found: Found) -> Plan:
        again = "mertd service install"
        return [
            *(self._bootout() if found.state.loaded else []),
            Remove(what="Remove the agent.", undo=again, path=self.definition),
            Run(
                what="Forget the consent that the app had.",
                undo=f"{again} asks for it again",
                command=("tccutil", "reset", "Microphone", LABEL),
                may_fail=True,
            ),
            Remove(what="Remove the app that held it.", undo=again, path=self.app),
            Remove(what="Remove its folder; weights that lie there stay.", path=self.app.parent, if_empty=True),
            Remove(what="Remove the log.", path=self.log.parent),
        ]

    def start(self, wanted: Wanted, found: Found) -> Plan:
        if found.state.running:
            return [Answer(what="It runs already; see whether it answers.", control=wanted.control, version="")]
        kick = Run(
            what="Start the agent.", undo="mertd service stop", command=("launchctl", "kickstart", self.target), again=NOT_YET
        )
        return [*([kick] if found.state.loaded else self._bootstrap()), self._answer(wanted)]

    def stop(self, found: Found) -> Plan:
        if not found.state.running:
            return [Step(what="It does not run.")]
        return [
            Run(
                what="Tell the agent to stop in order; it stays stopped until the next start or login.",
                undo="mertd service start",
                command=("launchctl", "kill", "SIGTERM", self.target),
                fine=NOT_THERE,
            ),
            Until(what="Wait until it has.", command=("launchctl", "print", self.target), word="state = running"),
        ]

    def restart(self, wanted: Wanted, found: Found) -> Plan:
        if not found.state.running:
            return self.start(wanted, found)
        return [
            *self.stop(found),
            Run(what="Start it again.", command=("launchctl", "kickstart", "-k", self.target), again=NOT_YET),
            self._answer(wanted),
        ]

    def reload(self) -> Plan:
        return [
            Run(what="Tell the agent to read its configuration again.", command=("launchctl", "kill", "SIGHUP", self.target))
        ]

    def logs(self, count: int, follow: bool) -> Plan:
        command = ("tail", "-n", str(count), *(["-F"] if follow else []), str(self.log))
        return [Run(what="Show the log.", command=command, visible=True)]

    # Parts of plans

    def _folders(self, wanted: Wanted) -> Plan:
        log = Folder(what="Make a folder for the log.", undo=f"rm -r '{self.log.parent}'", path=self.log.parent)
        return [log, *(Folder(what="Make the folder of an endpoint.", path=folder) for folder in wanted.folders)]

    def _make_app(self) -> Plan:
        undo = f"rm -r '{self.app}'"
        return [
            Remove(what="Make way for the app that holds consent for the microphone.", path=self.app),
            Write(what="Describe the app.", undo=undo, path=self._info, content=dump(self.app_info())),
            Copy(what="Give it a copy of this Python.", undo=undo, source=self.program.binary, path=self.executable),
            Run(
                what="Sign it, for this machine alone: consent is tied to this signature.",
                undo=undo,
                command=("codesign", "--force", "--sign", "-", "--identifier", LABEL, "--timestamp=none", str(self.app)),
            ),
            Run(
                what="See whether the copy finds mertd.",
                command=(str(self.executable), "-P", "-m", "mertd", "--version"),
                environment=self.environment,
            ),
        ]

    def _ask_for_consent(self) -> Plan:
        """Through `open`: what a terminal starts hears by the terminal's consent, which the agent will not have."""
        answer = self.log.parent / "microphone.txt"
        passed = [word for name, value in self.environment.items() if name != "PATH" for word in ("--env", f"{name}={value}")]
        told = ["--stdout", str(answer), "--stderr", str(answer)]
        return [
            Run(
                what="Open the microphone once. If macOS asks whether mertd may: allow it.",
                undo=f"tccutil reset Microphone {LABEL}",
                command=("open", "-W", "-n", *told, *passed, str(self.app), "--args", "-P", "-m", "mertd.service.microphone"),
                may_fail=True,
                patience_s=180.0,
            ),
            Show(what="What came of it:", path=answer),
            Remove(what="Tidy up.", path=answer),
        ]

    def _bootout(self) -> Plan:
        return [
            Run(
                what="Stop the agent and take it out of launchd.",
                undo="mertd service start",
                command=("launchctl", "bootout", self.target),
                fine=NOT_THERE | {36},
                again=frozenset({5, 37}),
            ),
            Until(what="Wait until it is gone.", command=("launchctl", "print", self.target)),
        ]

    def _bootstrap(self) -> Plan:
        return [
            Run(
                what="Allow the agent to be started, in case it was disabled.",
                undo=f"launchctl disable {self.target}",
                command=("launchctl", "enable", self.target),
                may_fail=True,
            ),
            Run(
                what="Hand the agent to launchd, which starts it now and at every login.",
                undo=f"launchctl bootout {self.target}",
                command=("launchctl", "bootstrap", f"gui/{self.uid}", str(self.definition)),
                reached=("launchctl", "print", self.target),
                again=NOT_YET,
                hints={125: NO_SESSION, 119: DISABLED, 5: f"launchd gives no reason; if it is this: {NO_SESSION}"},
            ),
        ]

    def _answer(self, wanted: Wanted) -> Answer:
        return Answer(what="Wait until it answers.", control=wanted.control, version=wanted.version)


def _joined(*paths: Path) -> str:
    """Paths in one variable, which separates them by colons."""
    if found := [path for path in paths if ":" in str(path)]:
        raise UsageError(f"Python cannot be started from {str(found[0])!r}: the path contains a colon; install mertd elsewhere")
    return ":".join(map(str, paths))
