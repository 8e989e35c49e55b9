"""Stand-ins for programs of macOS and systemd. Tests put them on PATH, and each records its calls.

launchctl and systemctl really start what the definition says, launchctl with exactly its environment. launchctl also reproduces
known failures of launchd: exit codes set beforehand, and an agent that still exists for a while after `bootout`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import psutil

from command_process import STOP_S, wait_until

SCRIPT = """#!{python} -SE
import sys
sys.path[:0] = {path!r}
from service.stand_ins import main
main({folder!r})
"""


class StandIns:
    """The programs, in a directory that has to come first on PATH."""

    def __init__(self, folder: Path) -> None:
        self.bin, self._state = folder / "bin", folder / "state"
        self.bin.mkdir()
        self._state.mkdir()
        for name in ("launchctl", "codesign", "open", "tccutil", "systemctl", "systemd-run"):
            path = [str(Path(__file__).parents[1]), *filter(None, sys.path)]
            (self.bin / name).write_text(SCRIPT.format(python=sys.executable, path=path, folder=str(self._state)))
            (self.bin / name).chmod(0o755)

    @property
    def calls(self) -> list[list[str]]:
        """All calls so far, each with the name of the program first."""
        path = self._state / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def verbs(self) -> list[str]:
        """The commands that the manager was given, without queries."""
        told = [[word for word in call if word != "--user"] for call in self.calls if call[0] in ("launchctl", "systemctl")]
        return [call[1] for call in told if call[1] not in ("print", "show")]

    def forget(self) -> None:
        (self._state / "calls").unlink(missing_ok=True)

    def fail(self, verb: str, *codes: int) -> None:
        """Set the exit codes of the next calls of launchctl with this verb."""
        (self._state / f"fail-{verb}").write_text(json.dumps(codes))

    def refuse(self, *settings: str) -> None:
        """Refuse to start services with one of these settings from now on."""
        (self._state / "refused").write_text(json.dumps(settings))

    def linger(self, questions: int) -> None:
        """Keep the agent known for this number of `launchctl print` calls after the next `bootout`."""
        (self._state / "linger").write_text(json.dumps(questions))

    @property
    def pid(self) -> int:
        """Process id of the agent; 0 if none is running."""
        return _running(self._state)

    def end(self) -> None:
        """Kill the processes that a failed test left behind, and fail if there were any."""
        pid = self.pid
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)] if pid else []
        for process in family:
            process.kill()
        assert not family, "an agent was left running"


def main(folder: str) -> None:
    """The program itself."""
    state, name, words = Path(folder), Path(sys.argv[0]).name, sys.argv[1:]
    with (state / "calls").open("a") as calls:
        calls.write(json.dumps([name, *words]) + "\n")
    if name == "launchctl":
        sys.exit(_launchctl(state, *words))
    if name == "systemctl":
        sys.exit(_systemctl(state, *[word for word in words if not word.startswith("--")]))
    if name == "systemd-run":
        refused = json.loads((state / "refused").read_text()) if (state / "refused").exists() else []
        sys.exit(226 if set(refused) & set(words) else 0)
    if name == "open":
        output = Path(words[words.index("--stdout") + 1])
        output.write_text("'Built-in Microphone': sound received\n")


def _launchctl(state: Path, verb: str, *words: str) -> int:
    failures = state / f"fail-{verb}"
    codes = json.loads(failures.read_text()) if failures.exists() else []
    if codes:
        failures.write_text(json.dumps(codes[1:]))
        if codes[0]:
            return _complain(f"{verb.capitalize()} failed: {codes[0]}: {os.strerror(codes[0])}", codes[0])
    loaded, pid = state / "loaded", _running(state)
    match verb:
        case "bootstrap":
            if loaded.exists():
                return _complain("Bootstrap failed: 5: Input/output error", 5)
            loaded.write_text(words[1])
            _spawn(state)
        case "bootout":
            if not loaded.exists():
                return _complain("Boot-out failed: 3: No such process", 3)
            _end(pid)
            if not (state / "linger").exists():
                loaded.unlink()
        case "print":
            return _print(state, pid)
        case "kickstart" | "kill" if not loaded.exists():
            return _complain("Could not find service", 113)
        case "kickstart":
            if not pid:
                _spawn(state)
        case "kill":
            if not pid:
                return _complain("No process to signal.", 3)
            os.kill(pid, signal.Signals[words[0]])
    return 0


def _systemctl(state: Path, verb: str, *_: str) -> int:
    unit, pid = Path(os.environ["XDG_CONFIG_HOME"]) / "systemd" / "user" / "mertd.service", _running(state)
    match verb:
        case "show":
            print(f"LoadState={'loaded' if unit.exists() else 'not-found'}\nMainPID={pid}\nResult=success\nNRestarts=0")
            print(f"ActiveState={'active' if pid else 'inactive'}\nSubState={'running' if pid else 'dead'}\nStatusText=")
        case "restart" | "start" | "stop" | "disable":
            if not unit.exists():
                return _complain("Unit mertd.service not found.", 5)
            if verb != "start":
                _end(pid)
            if verb in ("restart", "start") and not _running(state):
                _start_unit(state, unit.read_text())
        case "reload":
            os.kill(pid, signal.SIGHUP)
        case "reset-failed":
            return _complain("Unit mertd.service not loaded.", 1)
    return 0


def _start_unit(state: Path, unit: str) -> None:
    """Start ExecStart with Environment. systemd-analyze checks the other settings."""
    import shlex

    settings = [line.partition("=") for line in unit.splitlines() if line[:1].isupper()]
    environment = dict(
        word.split("=", 1) for name, _, value in settings if name == "Environment" for word in shlex.split(value)
    )
    (command,) = (
        shlex.split(value.replace("%%", "%").replace("$$", "$")) for name, _, value in settings if name == "ExecStart"
    )
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for number in range(3):
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        os.execve(command[0], command, {**os.environ, **environment})
    (state / "pid").write_text(str(pid))


def _complain(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code


def _print(state: Path, pid: int) -> int:
    loaded, lingers = state / "loaded", state / "linger"
    left = json.loads(lingers.read_text()) if lingers.exists() else 0
    if lingers.exists() and not pid:
        lingers.write_text(json.dumps(left - 1))
        if left == 0:
            lingers.unlink()
            loaded.unlink(missing_ok=True)
    if not loaded.exists():
        return _complain("Could not find service", 113)
    print("gui/501/local.mertd = {\n\tactive count = 1\n\tstate = " + ("running" if pid else "not running"))
    print(f"\tpid = {pid}" if pid else "\tlast exit code = 0")
    print("\tspawn type = interactive (4)\n\tendpoints = {\n\t\tstate = active\n\t}\n}")
    return 0


def _spawn(state: Path) -> None:
    import plistlib

    agent = plistlib.loads(Path((state / "loaded").read_text()).read_bytes())
    log = os.open(agent["StandardErrorPath"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.chdir(agent["WorkingDirectory"])
        os.umask(agent["Umask"])
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.execve(agent["ProgramArguments"][0], agent["ProgramArguments"], agent["EnvironmentVariables"])
    (state / "pid").write_text(str(pid))


def _end(pid: int) -> None:
    if pid:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not _alive(pid), STOP_S, lambda: "the agent does not stop")


def _running(state: Path) -> int:
    path = state / "pid"
    pid = int(path.read_text()) if path.exists() else 0
    return pid if pid and _alive(pid) else 0


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
