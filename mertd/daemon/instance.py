"""One daemon per control endpoint: a lock that says who holds it, so that a second one can name the first.

The sockets themselves keep two daemons apart; this file makes the refusal say by whom. Locks are advisory ones of the system
(flock), so a killed daemon holds none: what is left of its file is no obstacle, and is cleared away by the next one.
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
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from mertd.errors import EndpointError
from mertd.stream.endpoint import InUseError
from mertd.stream.keyring import Keyring
from mertd.stream.keys import LOCAL, ClientKeys

log = logging.getLogger(__name__)

LOOKS, LOOK_S = 5, 0.05
"""A daemon that starts looks into the locks of others, and so holds one for a moment that nobody else does."""


@dataclass(frozen=True)
class Holder:
    """The daemon that holds a lock."""

    pid: int
    publish: str
    control: str
    keys: str = ""  # its key folder, if it is started with --curve


def folder() -> Path:
    """Where locks are kept: the user's folder for what lasts as long as the session. Raises `OSError` if it is not safe."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no XDG_RUNTIME_DIR; a temporary folder does
        return Path(platformdirs.user_runtime_dir("mertd"))


class Instance:
    """The lock of a running daemon."""

    def __init__(self, publish: str, control: str, keys: str = "") -> None:
        """`publish`, `control`: as they are bound; `keys`: the key folder, if clients need a key.

        Raises `EndpointError` if another daemon has the control endpoint.
        """
        self._descriptor: int | None = None
        try:
            self._path = folder() / (hashlib.sha256(control.encode()).hexdigest()[:16] + ".lock")
            _own_folder(self._path.parent)
            clean()
            for _ in range(LOOKS):
                if (descriptor := _acquire(self._path)) is not None:
                    break
                time.sleep(LOOK_S)
            self._descriptor = descriptor
        except OSError as error:
            log.warning("no lock file (%s): a second daemon will not be told of this one", error)
            return
        if self._descriptor is None:
            raise EndpointError(taken(control, "--control", _read(self._path)))
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(asdict(Holder(os.getpid(), publish, control, keys))).encode(), 0)

    def close(self) -> None:
        """Let go, and leave nothing behind."""
        if self._descriptor is None:
            return
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None
        with contextlib.suppress(OSError):  # another daemon's lock is there
            self._path.parent.rmdir()


def holder(endpoint: str) -> Holder | None:
    """The running daemon of this user that has an endpoint, or its port."""
    for path in _locks():
        if _is_held(path) and (found := _read(path)) and any(_same(endpoint, e) for e in (found.publish, found.control)):
            return found
    return None


def local_keys(endpoint: str) -> ClientKeys | None:
    """What this user needs to talk to his own daemon at an endpoint; None if that asks for no keys. Raises `KeysError`."""
    by = holder(endpoint)
    return Keyring(by.keys).client(LOCAL) if by and by.keys else None


def clean() -> None:
    """Remove what killed daemons have left."""
    for path in _locks():
        with contextlib.suppress(OSError):
            if (descriptor := _acquire(path, os.O_RDWR)) is not None:
                path.unlink(missing_ok=True)
                os.close(descriptor)


def stale() -> list[Path]:
    """Lock files that nobody holds: what killed daemons have left."""
    return [path for path in _locks() if not _is_held(path)]


def explain(error: InUseError, option: str) -> EndpointError:
    """What to do about an endpoint in use, depending on by whom. `option`: with which it was named."""
    by = holder(error.endpoint)
    if by is None and error.pid is not None:
        return EndpointError(
            f"{error.endpoint} is in use by another mertd, process {error.pid}; stop it, or choose another {option}"
        )
    return EndpointError(taken(error.endpoint, option, by))


def taken(endpoint: str, option: str, by: Holder | None) -> str:
    """Why an endpoint cannot be had, in words."""
    if by is not None:
        return (
            f"{endpoint} is in use by another mertd, process {by.pid} (it publishes on {by.publish}, control on {by.control}): "
            f"`mertd status --control {by.control}` asks it, `kill {by.pid}` stops it; or choose another {option}"
        )
    port = endpoint.rpartition(":")[2]
    look = f"`ss -ltnp 'sport = :{port}'` or `lsof -nP -iTCP:{port}`" if endpoint.startswith("tcp:") else "`lsof -U`"
    return f"{endpoint} is in use by another program (or another user's mertd); {look} shows which; or choose another {option}"


def _same(a: str, b: str) -> bool:
    """Whether two endpoints cannot both be bound: TCP ones by their port, as 127.0.0.1 and localhost are the same place."""
    if a.startswith("tcp:") and b.startswith("tcp:"):
        return a.rpartition(":")[2] == b.rpartition(":")[2]
    return a == b


def _own_folder(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise PermissionError("it belongs to another user")


def _locks() -> list[Path]:
    with contextlib.suppress(OSError):
        if folder().stat().st_uid == os.getuid():  # what another user has put there would mislead
            return sorted(folder().glob("*.lock"))
    return []


def _acquire(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int | None:
    """A descriptor that holds the lock, or None if somebody else does. It is not inherited by children."""
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
        os.close(descriptor)  # the last holder removed the file just then


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
    except (OSError, ValueError, TypeError):  # it is being written, or is none of ours
        return None
