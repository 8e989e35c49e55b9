"""Stand-ins for programs of macOS and systemd. Tests put them on PATH, and each records its calls.

launchctl and systemctl really start what the definition says, launchctl with exactly its environment. launchctl also reproduces
known failures of launchd: exit codes set beforehand, and an agent that still exists for a while after `bootout`. It keeps the
agent alive as KeepAlive says, with ThrottleInterval a thousand times shorter. open, codesign, lsregister and tccutil share a
table of consents as tccd keeps it: an answer belongs to a bundle identifier and the code that was signed when it was given.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from command_process import STOP_S, wait_until

LABEL = "local.mertd"

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
        for name in ("launchctl", "codesign", "open", "tccutil", "lsregister", "systemctl", "systemd-run"):
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

    def answer(self, allow: bool) -> None:
        """Answer every dialogue about consent like this from now on."""
        (self._state / "allow").write_text(json.dumps(allow))

    def hears(self, bundle: Path) -> bool:
        """Whether an app hears anything but zeros from the microphone."""
        row = _table(self._state).get(f"Microphone {LABEL}")
        return row == {"code": _code(bundle), "allowed": True}

    @property
    def starts(self) -> int:
        """How often the agent was started since the last `bootstrap` or `kickstart`."""
        path = self._state / "starts"
        return int(path.read_text()) if path.exists() else 0

    @property
    def pid(self) -> int:
        """Process id of the agent; 0 if none is running."""
        return _running(self._state)

    def end(self) -> None:
        """Kill the processes that a failed test left behind, and fail if there were any."""
        (self._state / "told to stop").touch()
        keeper = self._state / "keeper"
        if keeper.exists() and _alive(number := int(keeper.read_text())):
            wait_until(lambda: self.pid != 0 or not _alive(number), STOP_S, lambda: "launchd's stand-in goes on")
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
        _open(state, words)
    if name == "lsregister":
        (state / "registered").write_text(words[-1])
    if name == "tccutil":
        sys.exit(_tccutil(state, *words))


def _code(app: Path) -> str:
    """What codesign seals: the program and the description."""
    parts = [app / "Contents" / "MacOS" / "mertd", app / "Contents" / "Info.plist"]
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts if part.exists())).hexdigest()


def _table(state: Path) -> dict[str, dict[str, object]]:
    path = state / "TCC.db"
    return json.loads(path.read_text()) if path.exists() else {}  # type: ignore[no-any-return]


def _open(state: Path, words: list[str]) -> None:
    """Start the app: macOS asks if it has no answer yet. One that was given for other code counts as no, without a dialogue."""
    app = Path(next(word for word in words if word.endswith(".app")))
    (state / "registered").write_text(str(app))
    answer = Path(words[words.index("--answer") + 1])
    asked = words[words.index("--answer") + 2 :]
    lines = []
    for kind, service in (("microphone", "Microphone"), ("system-audio", "AudioCapture")):
        if kind not in asked:
            continue
        table, key = _table(state), f"{service} {LABEL}"
        if key not in table:
            allow = state / "allow"
            table[key] = {"code": _code(app), "allowed": json.loads(allow.read_text()) if allow.exists() else True}
            (state / "TCC.db").write_text(json.dumps(table))
        heard = table[key] == {"code": _code(app), "allowed": True}
        lines.append(f"{kind}: {'sound received' if heard else 'only zeros received'}\n")
    if not (state / "open does nothing").exists():
        answer.write_text("".join(lines))


def _tccutil(state: Path, verb: str, service: str, bundle: str) -> int:
    registered = state / "registered"
    if verb != "reset" or not registered.exists() or not Path(registered.read_text()).exists():
        return _complain(f'tccutil: No such bundle identifier "{bundle}": OSStatus error -10814', 70)
    table = _table(state)
    table.pop(f"{service} {bundle}", None)
    (state / "TCC.db").write_text(json.dumps(table))
    return 0


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
            _end(state, pid)
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
                _end(state, pid)
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
    """Start the agent, and a process that keeps it alive as launchd does."""
    import plistlib

    agent = plistlib.loads(Path((state / "loaded").read_text()).read_bytes())
    (state / "told to stop").unlink(missing_ok=True)
    (state / "starts").write_text("0")
    (state / "pid").unlink(missing_ok=True)
    keeper = os.fork()
    if keeper:
        (state / "keeper").write_text(str(keeper))
        wait_until((state / "pid").exists, STOP_S, lambda: "the agent does not start")
        return
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    while True:
        (state / "starts").write_text(str(int((state / "starts").read_text()) + 1))
        pid = os.fork()
        if pid == 0:
            _become(agent)
        _replace(state / "pid", str(pid))
        _, status = os.waitpid(pid, 0)
        orderly = os.waitstatus_to_exitcode(status) == 0
        if (state / "told to stop").exists() or (orderly and agent["KeepAlive"] == {"SuccessfulExit": False}):
            os._exit(0)
        time.sleep(agent["ThrottleInterval"] / 1000)


def _become(agent: dict[str, Any]) -> None:
    log = os.open(agent["StandardErrorPath"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.chdir(agent["WorkingDirectory"])
    os.umask(agent["Umask"])
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    try:
        os.execve(agent["ProgramArguments"][0], agent["ProgramArguments"], agent["EnvironmentVariables"])
    except OSError as error:
        os.write(2, str(error).encode())
        os._exit(78)  # EX_CONFIG, as launchd reports it


def _replace(path: Path, text: str) -> None:
    new = path.with_name("new")
    new.write_text(text)
    new.replace(path)


def _end(state: Path, pid: int) -> None:
    (state / "told to stop").touch()
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
