"""One daemon per control endpoint: a lock file that describes its holder, so that a second daemon can name the first.

The sockets themselves keep two daemons apart on Linux; macOS lets one bind 127.0.0.1:P beside another's 0.0.0.0:P, so here a
daemon whose port another one of this user has, on whatever address, is refused. The locks are advisory locks of the system
(flock), so a killed daemon holds none: the file that it leaves behind is no obstacle, and the next daemon removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from mertd.errors import EndpointError
from mertd.stream.curve_keys import LOCAL, ClientKeys
from mertd.stream.endpoint import InUseError
from mertd.stream.keyring import Keyring

log = logging.getLogger(__name__)

LOCK_ATTEMPTS = 5
"""Attempts to lock: another daemon that starts may hold the lock for a moment, to find out whether anyone else does."""

LOCK_WAIT_S = 0.05
"""Seconds between two attempts."""


@dataclass(frozen=True)
class Holder:
    """The daemon that holds a lock."""

    pid: int
    publish: str
    control: str
    keys: str = ""  # its key directory, if it was started with --curve


def folder() -> Path:
    """Return where locks are kept: the user's directory for files of the session. Raises `OSError` if it is not safe."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a missing XDG_RUNTIME_DIR; a temporary directory will do
        return Path(platformdirs.user_runtime_dir("mertd"))


class Instance:
    """The lock of a running daemon."""

    def __init__(self, publish: str, control: str, keys: str = "") -> None:
        """Lock the control endpoint. `publish`, `control`: as they are bound; `keys`: the key directory, if clients need a key.

        Raises `EndpointError` if another daemon has one of the endpoints.
        """
        self._descriptor: int | None = None
        try:
            self._path = folder() / (hashlib.sha256(control.encode()).hexdigest()[:16] + ".lock")
            _own_folder(self._path.parent)
            with _one_at_a_time(self._path.parent):
                clean()
                for option, endpoint in (("--control", control), ("--bind", publish)):
                    if (by := _find(endpoint, _clash)) is not None and by.pid != os.getpid():
                        raise EndpointError(taken(endpoint, option, by))
                for _ in range(LOCK_ATTEMPTS):
                    if (descriptor := _acquire(self._path)) is not None:
                        break
                    time.sleep(LOCK_WAIT_S)
                self._descriptor = descriptor
                if self._descriptor is None:
                    raise EndpointError(taken(control, "--control", _read(self._path)))
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, json.dumps(asdict(Holder(os.getpid(), publish, control, keys))).encode(), 0)
        except OSError as error:
            log.warning("no lock file (%s): a second daemon cannot be told about this one", error)

    def close(self) -> None:
        """Release the lock, and remove its file."""
        if self._descriptor is None:
            return
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None
        with contextlib.suppress(OSError):  # it holds the lock of another daemon
            self._path.parent.rmdir()


def holder(endpoint: str) -> Holder | None:
    """Return the running daemon of this user that has an endpoint, or its port; None if there is none."""
    return _find(endpoint, _same)


def _find(endpoint: str, matches: Callable[[str, str], bool]) -> Holder | None:
    for path in _locks():
        if _is_held(path) and (found := _read(path)) and any(matches(endpoint, e) for e in (found.publish, found.control)):
            return found
    return None


def local_keys(endpoint: str) -> ClientKeys | None:
    """Return the keys that this user needs for their own daemon at an endpoint; None if it needs none. Raises `KeysError`."""
    by = holder(endpoint)
    return Keyring(by.keys).client(LOCAL) if by and by.keys else None


def clean() -> None:
    """Remove the lock files of killed daemons."""
    for path in _locks():
        with contextlib.suppress(OSError):
            if (descriptor := _acquire(path, os.O_RDWR)) is not None:
                path.unlink(missing_ok=True)
                os.close(descriptor)


def stale() -> list[Path]:
    """Return the lock files that nobody holds: killed daemons have left them."""
    return [path for path in _locks() if not _is_held(path)]


def explain(error: InUseError, option: str) -> EndpointError:
    """Return an error that says what to do about an endpoint in use. `option`: the command line option that named it."""
    by = holder(error.endpoint)
    if by is None and error.pid is not None:
        return EndpointError(
            f"{error.endpoint} is in use by another mertd, process {error.pid}; stop it, or choose another {option}"
        )
    return EndpointError(taken(error.endpoint, option, by))


def taken(endpoint: str, option: str, by: Holder | None) -> str:
    """Return in words why an endpoint cannot be bound. `by`: the daemon that has it, if that is known."""
    if by is not None:
        return (
            f"{endpoint} is in use by another mertd, process {by.pid} (it publishes on {by.publish}, control on {by.control}): "
            f"`mertd status --control {by.control}` asks it, `kill {by.pid}` stops it; or choose another {option}"
        )
    port = endpoint.rpartition(":")[2]
    look = f"`ss -ltnp 'sport = :{port}'` or `lsof -nP -iTCP:{port}`" if endpoint.startswith("tcp:") else "`lsof -U`"
    return f"{endpoint} is in use by another program (or another user's mertd); {look} shows which; or choose another {option}"


def _same(a: str, b: str) -> bool:
    """Return whether two endpoints are of one daemon. TCP ones are compared by port: localhost is 127.0.0.1."""
    if a.startswith("tcp:") and b.startswith("tcp:"):
        return a.rpartition(":")[2] == b.rpartition(":")[2]
    return a == b


def _clash(a: str, b: str) -> bool:
    """Return whether two endpoints must not both be bound: TCP ones of one port, unless on two different addresses."""
    if not _same(a, b) or not a.startswith("tcp:"):
        return _same(a, b)
    one, other = (_addresses(endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")) for endpoint in (a, b))
    return one is None or other is None or bool(one & other)


def _addresses(host: str) -> set[str] | None:
    """Return the addresses of a host that are bound; None for all of this machine."""
    if host in ("*", "0.0.0.0", "::"):
        return None
    return {"127.0.0.1", "::1"} if host == "localhost" else {host}


@contextlib.contextmanager
def _one_at_a_time(directory: Path) -> Iterator[None]:
    """Hold a lock on the directory itself, so that two daemons that start together do not miss each other."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _own_folder(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise PermissionError("it belongs to another user")


def _locks() -> list[Path]:
    with contextlib.suppress(OSError):
        if folder().stat().st_uid == os.getuid():  # files that another user has put there would mislead
            return sorted(folder().glob("*.lock"))
    return []


def _acquire(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int | None:
    """Return a descriptor that holds the lock, or None if another process holds it. Children do not inherit the descriptor."""
    while True:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        os.close(descriptor)  # the last holder has just removed the file


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _read(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # it is being written, or is not one of ours
        return None
