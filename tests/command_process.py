"""Real mertd commands for tests: run as a user runs them, and held to leaving nothing on the machine."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

STOP_S = 5.0
"""Within so long, mertd promises, a signal stops it."""

PATIENCE_S = 60.0
"""After so long a test gives up: far more than a loaded machine needs."""

_SHARED_MEMORY = Path("/dev/shm")
_LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (INFO|WARNING|ERROR) ")


@contextlib.contextmanager
def running(words: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Run a command that the test ends. If the test fails first, kill it: `Popen` alone would wait for it."""
    with subprocess.Popen(words, **options) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


class Traces:
    """What a command has on the machine: an environment of its own, and so a way to find all that it has left there."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mertd-test-"))  # mode 0700, and short enough for a socket's path
        self._mark = uuid4().hex
        self._temporary, self._home = self.folder / "tmp", self.folder / "home"
        self._cache = self.folder / "cache"  # what can be made again may stay
        for folder in (self._temporary, self._home):
            folder.mkdir(mode=0o700)
        self._shared_before = _shared_memory()

    @property
    def environment(self) -> dict[str, str]:
        """No weights at home, temporary files where they are seen, and a mark that every descendant inherits.

        Without `CI`, and what it tells ONNX Runtime: there it refrains from telemetry by itself, elsewhere we must see to it.
        """
        home = str(self._home)
        outer = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
        return {
            "XDG_RUNTIME_DIR": str(self._temporary),  # unless the test has one of its own, as for a sound server
            **outer,
            "HOME": home,
            "XDG_DATA_HOME": home,
            "XDG_CACHE_HOME": str(self._cache),
            "TMPDIR": str(self._temporary),
            "_MERTD_TEST": self._mark,
            "COLUMNS": "120",
        }

    def processes(self) -> list[psutil.Process]:
        """Every running process of the command, however it was started and whoever its parent is now."""
        found = []
        for process in psutil.process_iter():
            try:
                marked = process.environ().get("_MERTD_TEST") == self._mark
                if marked and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.AccessDenied, psutil.NoSuchProcess):
                continue
        return found

    def left(self) -> list[str]:
        """What is there that should not be, once the command has ended."""
        files = [path for path in self.folder.rglob("*") if path not in (self._temporary, self._home)]
        files = [path for path in files if not path.is_relative_to(self._cache)]
        ours = [str(path.relative_to(self.folder)) for path in files if not _of_pulseaudio(path)]
        shared = sorted(self._shared_memory_left())
        return [f"process {process.pid}" for process in self.processes()] + ours + shared

    def _shared_memory_left(self) -> set[str]:
        """New shared memory, except what a process of another test has mapped: tests run side by side.

        Files are told by their inodes, because a semaphore is mapped under a temporary name.
        """
        new = _shared_memory() - self._shared_before
        used: set[int] = set()
        for process in psutil.process_iter() if new else ():
            with contextlib.suppress(psutil.AccessDenied, psutil.NoSuchProcess, OSError):
                if process.environ().get("_MERTD_TEST") != self._mark:
                    maps = Path(f"/proc/{process.pid}/maps").read_text(errors="replace")
                    used |= {int(line.split()[4]) for line in maps.splitlines() if str(_SHARED_MEMORY) in line}
        return {path for path in new if (inode := _inode(path)) and inode not in used}

    def forget_lock(self) -> None:
        """Remove what says which daemon runs: one that was killed leaves it to the next one of the same user."""
        shutil.rmtree(self._temporary / "mertd")

    def assert_gone(self) -> None:
        """Fail if anything is there; the last processes may take a moment to go."""
        wait_until(lambda: not self.left(), STOP_S, lambda: f"left behind: {self.left()}")

    def remove(self) -> None:
        """End whatever a failed test has left."""
        for process in self.processes():
            process.kill()
        shutil.rmtree(self.folder)


def _of_pulseaudio(path: Path) -> bool:
    """Its client library keeps a cookie and a runtime folder for each user."""
    return path.name == ".config" or "pulse" in str(path)


def _inode(path: str) -> int:
    """Return the inode of a file; 0 if it is gone."""
    try:
        return Path(path).stat().st_ino
    except FileNotFoundError:
        return 0


def _shared_memory() -> set[str]:
    """Names that Python's or our own shared memory could have (PortAudio's JACK leaves some of its own)."""
    if not _SHARED_MEMORY.is_dir():
        return set()
    return {str(path) for path in _SHARED_MEMORY.iterdir() if path.name.startswith(("psm_", "sem.mp-", "mertd"))}


def mertd(
    *words: object, stdin: bytes = b"", folder: Path | None = None, first: Callable[[], object] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; fails if it shows a traceback or leaves anything behind.

    `folder`: where to run it. `first`: is called in the new process before that becomes mertd.
    """
    traces = Traces()
    command = [sys.executable, "-m", "mertd", *map(str, words)]
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            timeout=PATIENCE_S,
            env=traces.environment,
            cwd=folder,
            preexec_fn=first,
            check=False,
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        traces.assert_gone()
        return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())
    finally:
        traces.remove()


def complaints(text: str) -> list[str]:
    """The lines of standard error that say what is wrong. Fails if there is a line that is neither that nor of the log."""
    lines = text.splitlines()
    strange = [line for line in lines if not line.startswith("mertd: ") and not _LOG_LINE.match(line)]
    assert not strange, text
    return [line for line in lines if line.startswith("mertd: ")]


def wait_until(condition: Callable[[], bool], seconds: float, complaint: Callable[[], str]) -> None:
    """Poll `condition`; fails with `complaint` if it is not met in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, complaint()
        time.sleep(0.05)
