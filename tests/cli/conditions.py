"""Conditions under which every command must do its work, or say in one line why it cannot: used by test_conditions.py."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from command_process import PATIENCE_S, STOP_S, Traces, wait_until
from mertd.cli.standard_streams import STANDARD_ERROR, STANDARD_INPUT, STANDARD_OUTPUT

HIDE_USERS = "for file in passwd nsswitch.conf; do mount --bind /dev/null /etc/$file || exit 1; done"
"""Without the second file, systemd would still tell of root."""

NO_USERS = ["unshare", "--mount", "sh", "-c", f'{HIDE_USERS}; exec "$@"', "sh"]
"""What runs a command on a machine that knows no users."""

MARK = b"\xef\xbb\xbf"
"""The byte order mark with which some editors begin UTF-8."""


LISTENING = "listening"
"""Stands for a pattern of files where a program works once it takes connections."""


@dataclass(frozen=True)
class Place:
    """Where a command runs. `folder`: its own, which is removed afterwards; `environment`: what it would have there."""

    folder: Path
    environment: dict[str, str]


@dataclass(frozen=True)
class Condition:
    """What is odd about the place.

    Attributes:
        change: makes the place odd; returns words to put before the command.
        closed: standard streams that are closed.
        output: what standard output is: `captured`, `full` or `left` (a pipe whose reader has gone); the same of `errors`.
        first: is called in the new process.
        may_refuse: the command may also end with 3.
    """

    change: Callable[[Place], list[str] | None] = lambda _: None
    closed: tuple[int, ...] = ()
    output: str = "captured"
    errors: str = "captured"
    first: Callable[[Path], object] = lambda _: None
    may_refuse: bool = False

    @property
    def output_is_lost(self) -> bool:
        return self.output == "full" or STANDARD_OUTPUT in self.closed

    @property
    def errors_are_seen(self) -> bool:
        return self.errors == "captured" and STANDARD_ERROR not in self.closed


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    code: int
    output: str
    errors: str
    left: list[str] = field(default_factory=list)


def ascii_only(place: Place) -> None:
    for name in [name for name in place.environment if name.startswith("LC_") or name == "LANG"]:
        del place.environment[name]
    place.environment.update({"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"})


def latin_1(place: Place) -> None:
    place.environment["PYTHONIOENCODING"] = "latin-1:strict"


def socks_proxy(place: Place) -> None:
    """One that does not answer."""
    place.environment.update(dict.fromkeys(("ALL_PROXY", "all_proxy", "HTTPS_PROXY"), "socks5://127.0.0.1:1"))


def byte_order_mark(place: Place) -> None:
    """In the configuration that `mertd run` reads by default."""
    path = place.folder / "odd-config" / "mertd" / "mertd.toml"
    path.parent.mkdir(parents=True)
    path.write_bytes(MARK + b"hop = 0.5\r\nlog_level = 'info'\r\n")
    place.environment["XDG_CONFIG_HOME"] = str(place.folder / "odd-config")


def long_temporary_folder(place: Place) -> None:
    """Too long for the path of a socket, which has 107 bytes at most (103 on macOS)."""
    path = place.folder / ("t" * 100) / ("t" * 100)
    path.mkdir(parents=True)
    place.environment["TMPDIR"] = str(path)


def odd_terminal(place: Place) -> None:
    place.environment.update({"TERM": "nonsense", "COLUMNS": "0", "LINES": "x"})


def no_home(place: Place) -> list[str]:
    """Neither in the environment nor in the list of users; to one who may not hide that list, a home that does not exist."""
    for name in [name for name in place.environment if name == "HOME" or name.startswith("XDG_")]:
        del place.environment[name]
    if can_hide_users():
        return NO_USERS
    place.environment["HOME"] = str(place.folder / "nowhere")
    return []


def home_that_cannot_be_written(place: Place) -> None:
    """Not even by root: it would lie below a file."""
    for name in [name for name in place.environment if name.startswith("XDG_")]:
        del place.environment[name]
    (place.folder / "a-file").write_bytes(b"")
    place.environment["HOME"] = str(place.folder / "a-file" / "home")


def disk_is_full(_: Path) -> None:
    """No file can be written, not even a temporary one; pipes and devices can."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def delete(folder: Path) -> None:
    shutil.rmtree(folder / "here")


@functools.cache
def can_hide_users() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run([*NO_USERS, "true"], capture_output=True, check=False).returncode == 0


HARMLESS: Mapping[str, Condition] = {
    "nothing odd": Condition(),
    "standard input closed": Condition(closed=(STANDARD_INPUT,)),
    "an encoding without our characters": Condition(ascii_only),
    "a SOCKS proxy": Condition(socks_proxy),
    "a byte order mark in the configuration": Condition(byte_order_mark),
    "a long temporary folder": Condition(long_temporary_folder),
    "an odd terminal": Condition(odd_terminal),
}
"""Conditions that no command may notice: they are tried together, and one by one if something is noticed."""


def _all_harmless(place: Place) -> None:
    for condition in HARMLESS.values():
        condition.change(place)


TOGETHER: Mapping[str, Condition] = {
    "all that is harmless": Condition(_all_harmless, closed=(STANDARD_INPUT,)),
    "standard output full": Condition(output="full"),
    "the reader of standard output gone, standard error full": Condition(latin_1, output="left", errors="full"),
    "all standard streams closed": Condition(closed=(STANDARD_INPUT, STANDARD_OUTPUT, STANDARD_ERROR)),
    "no home": Condition(no_home, may_refuse=True),
    "a home that cannot be written": Condition(home_that_cannot_be_written, may_refuse=True),
    "the working directory deleted": Condition(first=delete, may_refuse=True),
    "a full disk": Condition(first=disk_is_full, may_refuse=True),
}
"""Conditions under which every command is tried."""

ALONE: Mapping[str, Condition] = {
    "standard output closed": Condition(closed=(STANDARD_OUTPUT,)),
    "standard error closed": Condition(closed=(STANDARD_ERROR,)),
}
"""What the condition in which all streams are closed covers, but for the words of the complaint."""


def run_under(
    condition: Condition, program: list[str], words: list[str], prepare: Callable[[Path], object], works_when: str = ""
) -> Done:
    """Run `program` with `words`, in which `{here}` is its folder, as `prepare` has filled it.

    `works_when`: a pattern of files in that folder, or LISTENING. Once there is something in one, or a process takes
    connections, the program, which does not end by itself, is sent SIGTERM.
    """
    traces = Traces()
    try:
        here = traces.folder / "here"
        here.mkdir()
        prepare(here)
        place = Place(traces.folder, traces.environment | {"HF_ENDPOINT": "http://127.0.0.1:1"})
        before = condition.change(place) or []
        with ExitStack() as opened:
            process = subprocess.Popen(
                [*before, *program, *(word.replace("{here}", str(here)) for word in words)],
                stdin=subprocess.DEVNULL,
                stdout=_stream(condition.output, opened),
                stderr=_stream(condition.errors, opened),
                env=place.environment,
                cwd=here,
                preexec_fn=lambda: _enter(condition, traces.folder),
            )
            if works_when:
                wait_until(
                    lambda: process.poll() is not None or _works(works_when, here, traces),
                    PATIENCE_S,
                    lambda: f"nothing in {works_when}",
                )
                process.terminate()
            output, errors = ((text or b"").decode(errors="replace") for text in process.communicate(timeout=2 * PATIENCE_S))
        return Done(process.returncode, output, errors, _left(traces, here, Path(place.environment["TMPDIR"])))
    finally:
        traces.remove()


def _works(works_when: str, here: Path, traces: Traces) -> bool:
    if works_when != LISTENING:
        return any(path.stat().st_size for path in here.glob(works_when))
    for process in traces.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(one.status == psutil.CONN_LISTEN for one in process.net_connections("tcp")):
                return True
    return False


def _left(traces: Traces, here: Path, temporary: Path) -> list[str]:
    """Processes, temporary files, and a folder that is literally called `~`. The last processes may take a moment to go."""
    deadline = time.monotonic() + STOP_S
    while traces.processes() and time.monotonic() < deadline:
        time.sleep(0.05)
    files = [path for path in temporary.rglob("*") if path.is_file() or path.is_socket()]
    return [*(f"process {process.pid}" for process in traces.processes()), *map(str, files), *map(str, here.glob("~*"))]


def _enter(condition: Condition, folder: Path) -> None:
    condition.first(folder)
    for descriptor in condition.closed:
        os.close(descriptor)


def open_full() -> int:
    """Open what cannot be written: a full device, or where there is none (macOS) a descriptor for reading."""
    try:
        return os.open("/dev/full", os.O_WRONLY)
    except FileNotFoundError:
        return os.open(os.devnull, os.O_RDONLY)


def _stream(kind: str, opened: ExitStack) -> int:
    if kind == "captured":
        return subprocess.PIPE
    if kind == "full":
        descriptor = open_full()
    else:
        reader, descriptor = os.pipe()
        os.close(reader)
    opened.callback(os.close, descriptor)
    return descriptor
