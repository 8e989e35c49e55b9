"""Endpoints: where the daemon may bind, and how it does so safely."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import stat
import tempfile
from pathlib import Path

import zmq

from mertd.errors import EndpointError, UsageError
from mertd.stream.families import bind

IPC_PATH_LIMIT = 103
"""Bytes of a socket's path on macOS; Linux allows four more."""

SOCKET_NAME_BYTES = 30
"""Bytes of what comes after the temporary directory in the path of a socket of our own: /mertd-12345678/publish."""

SHORT_FOLDER = "/tmp"
"""Where temporary sockets go if the temporary directory has too long a path."""

HANDSHAKE_MS = 10_000
"""Milliseconds after which a peer that has not finished its handshake is disconnected."""

KEEPALIVE_IDLE_S = 10
"""Seconds without traffic after which TCP asks the peer's machine whether it is still there."""

KEEPALIVE_INTERVAL_S = 5
"""Seconds between such questions."""

KEEPALIVE_PROBES = 3
"""Questions without an answer after which the connection is closed."""


def socket_folder() -> str | None:
    """Return where to make a temporary directory for sockets; None for the usual place, if its path is short enough."""
    usual = len(os.fsencode(tempfile.gettempdir()))
    return SHORT_FOLDER if usual + SOCKET_NAME_BYTES > IPC_PATH_LIMIT else None


def check_endpoint(endpoint: str, exposed: bool = False) -> str:
    """Return `endpoint` if it may be bound.

    Raises `UsageError` if it is malformed, or can be reached from other machines and is not `exposed`.
    """
    scheme, mark, rest = endpoint.partition("://")
    if scheme == "ipc" and mark and rest.startswith("/"):
        if len(os.fsencode(rest)) > IPC_PATH_LIMIT:
            raise UsageError(f"{endpoint}: the path of a socket has at most {IPC_PATH_LIMIT} bytes")
        return endpoint
    host, colon, port = rest.rpartition(":")
    if scheme != "tcp" or not host or not colon or not (port == "*" or (port.isdecimal() and 0 < int(port) < 65536)):
        raise UsageError(f"{endpoint!r} is not an endpoint; write tcp://HOST:PORT or ipc:///ABSOLUTE/PATH")
    if not (exposed or _is_loopback(host)):
        raise UsageError(
            f"{endpoint} can be reached from other machines, and without encryption anyone there could listen; bind to "
            "127.0.0.1, use --curve (`mertd keys` makes the keys), or set expose_without_encryption = true in the "
            "configuration file"
        )
    return endpoint


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class InUseError(EndpointError):
    """Another program is bound to `endpoint`: the mertd with this `pid`, if that is known."""

    def __init__(self, endpoint: str, pid: int | None = None) -> None:
        super().__init__(f"{endpoint} is in use{f' by process {pid}' if pid else ''}; choose another one, or stop what uses it")
        self.endpoint = endpoint
        self.pid = pid


class BoundSocket:
    """A bound socket. For `ipc:` a lock is held beside it, because a second bind to the same path would succeed."""

    def __init__(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        """Bind. Raises `InUseError` if the endpoint is in use, `EndpointError` if it cannot be bound, and closes the socket."""
        self.socket = socket
        self._lock: int | None = None
        self._path = Path(endpoint.removeprefix("ipc://")) if endpoint.startswith("ipc://") else None
        harden(socket)
        umask = os.umask(0o077)
        try:
            if self._path is not None:
                self._lock = _lock(self._path)
            bind(socket, endpoint)
        except (zmq.ZMQError, OSError) as error:
            self.close()
            if error.errno == zmq.EADDRINUSE:
                raise InUseError(endpoint, _pid_beside(self._path) if self._path else None) from error
            raise EndpointError(f"{endpoint} {error}") from error
        finally:
            os.umask(umask)
        port = socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2]
        self.endpoint = endpoint.removesuffix("*") + port if endpoint.endswith(":*") else endpoint

    def close(self, linger_s: float = 0.0) -> None:
        """Unbind; leaves no socket file and no lock file. Messages not yet sent have `linger_s` more."""
        self.socket.close(linger=round(linger_s * 1000))
        if self._lock is not None and self._path is not None:
            self._path.unlink(missing_ok=True)
            _lock_path(self._path).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None


def harden(socket: zmq.Socket[bytes]) -> None:
    """Set the options that every socket of mertd has, on either side.

    Peers that vanish are noticed by TCP's own keepalive, and by the status that a daemon publishes every second. ZMTP
    heartbeats stay off: with them libzmq 4.3.5 aborts the process when a peer leaves while the receive queue is full.
    """
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.HEARTBEAT_IVL, 0)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_PROBES)


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _lock(path: Path) -> int:
    """Take an exclusive lock for a socket's path, in a folder that only its owner may enter: libzmq checks neither."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = path.parent.stat()
    if folder.st_uid != os.getuid():
        raise OSError(f"cannot be bound: {path.parent} belongs to another user; choose a folder of your own")
    if stat.S_IMODE(folder.st_mode) & 0o077:
        raise OSError(f"cannot be bound: {path.parent} can be entered by other users; chmod 700 it, or choose another folder")
    descriptor = os.open(_lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise OSError(zmq.EADDRINUSE, "in use") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _pid_beside(path: Path) -> int | None:
    """Return the process that holds the lock of a socket's path; None if it is not known."""
    try:
        return int(_lock_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it is just being written, or the file is not mertd's
        return None
