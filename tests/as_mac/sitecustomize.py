"""Makes Linux behave as macOS does where mertd can tell the difference.

Python imports this file when it starts, if its folder is on PYTHONPATH; tests/conftest.py puts it there when AS_ON_A_MAC is
set, so every process of a test is like this.

What differs, and how it is known:
- mertd takes its branches for darwin: `sys.platform` is "darwin" in its modules, except in those that speak to this kernel.
- There is no memfd_create, no posix_fallocate, no pidfd, no CPU affinity and no pipe2, and event loops use no epoll.
- A socket pair holds 8 kB (net.local.stream.sendspace of XNU).
- A named FIFO does not become ready for poll when its writer closes it (XNU's filt_vnode_common).
- platformdirs puts folders below ~/Library, unless XDG_* variables are set.
- `localhost` is ::1 before it is 127.0.0.1 (/etc/hosts of macOS).
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import os
import select
import selectors
import socket
import stat
import sys
import time
from pathlib import Path

ON_THIS_KERNEL = {
    "mertd.stream.server.tcp",
    "mertd.stream.server.arrivals",
    "mertd.capture.sources.loopback",
    "mertd.doctor.gather",
    "mertd.embed.backends.choice",
}
"""Modules that use this kernel's structures and queues, this machine's sound server, or the backends that run here."""

MISSING = {
    os: ("memfd_create", "posix_fallocate", "pidfd_open", "sched_getaffinity", "sched_setaffinity", "eventfd", "pipe2"),
    time: ("CLOCK_BOOTTIME",),
}

PAIR_BYTES = 8192
POLL_S = 0.02


class _Platform(ast.NodeTransformer):
    """Replaces `sys.platform` by "darwin", unless a test has set another."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        if ast.unparse(node) != "sys.platform" or not isinstance(node.ctx, ast.Load):
            return node
        new = ast.parse("('darwin' if sys.platform == 'linux' else sys.platform)", mode="eval").body
        return ast.fix_missing_locations(ast.copy_location(new, node))


class _Loader(importlib.machinery.SourceFileLoader):
    def source_to_code(self, data: bytes, path: str, *, _optimize: int = -1) -> object:  # type: ignore[override]
        return compile(_Platform().visit(ast.parse(data, path)), path, "exec", dont_inherit=True, optimize=_optimize)

    def set_data(self, path: str, data: bytes, *, _mode: int = 0o666) -> None:  # type: ignore[override]
        """Keep the byte code apart from that of other runs."""
        if sys.pycache_prefix:
            super().set_data(path, data, _mode=_mode)  # type: ignore[call-arg]

    def get_code(self, fullname: str) -> object:  # type: ignore[override]
        if sys.pycache_prefix:
            return super().get_code(fullname)
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: object, _target: object = None) -> importlib.machinery.ModuleSpec | None:  # type: ignore[override]
        if not name.startswith("mertd.") or name in ON_THIS_KERNEL:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)  # type: ignore[arg-type]
        if spec is not None and type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = _Loader(name, spec.loader.path)
        return spec


_pair = socket.socketpair


def _socketpair(*arguments: object, **options: object) -> tuple[socket.socket, socket.socket]:
    pair = _pair(*arguments, **options)  # type: ignore[arg-type]
    for end in pair:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, option, PAIR_BYTES // 2)  # Linux doubles it
    return pair


_Poll = select.poll


class _PollOfAMac:
    """poll() to which the end of a named FIFO is no event."""

    def __init__(self) -> None:
        self._poll = _Poll()
        self._fifos: set[int] = set()

    def register(self, file: object, events: int = select.POLLIN | select.POLLPRI | select.POLLOUT) -> None:
        number = file if isinstance(file, int) else file.fileno()  # type: ignore[attr-defined]
        if stat.S_ISFIFO(os.fstat(number).st_mode) and str(Path(f"/proc/self/fd/{number}").readlink()).startswith("/"):
            self._fifos.add(number)
        self._poll.register(number, events)

    def modify(self, file: object, events: int) -> None:
        self._poll.modify(file, events)  # type: ignore[arg-type]

    def unregister(self, file: object) -> None:
        number = file if isinstance(file, int) else file.fileno()  # type: ignore[attr-defined]
        self._fifos.discard(number)
        self._poll.unregister(number)

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        if not self._fifos:
            return self._poll.poll(timeout)
        deadline = None if timeout is None or timeout < 0 else time.monotonic() + timeout / 1000
        while True:
            found = [item for item in self._poll.poll(0) if item[0] not in self._fifos or item[1] & ~select.POLLHUP]
            left = POLL_S if deadline is None else deadline - time.monotonic()
            if found or left <= 0:
                return found
            time.sleep(min(POLL_S, left))


_resolve = socket.getaddrinfo


def _getaddrinfo(host: object, *arguments: object, **options: object) -> list[object]:
    found = _resolve(host, *arguments, **options)  # type: ignore[arg-type]
    return sorted(found, key=lambda info: info[0] != socket.AF_INET6) if host == "localhost" else found  # type: ignore[return-value]


def install() -> None:
    """Change this process. Once is enough."""
    if hasattr(sys, "as_on_a_mac"):
        return
    sys.as_on_a_mac = True  # type: ignore[attr-defined]
    for module, names in MISSING.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    time.CLOCK_UPTIME_RAW = time.CLOCK_MONOTONIC_RAW  # type: ignore[attr-defined]
    socket.socketpair = _socketpair  # type: ignore[assignment]
    socket.getaddrinfo = _getaddrinfo  # type: ignore[assignment]
    selectors.DefaultSelector = selectors.PollSelector  # type: ignore[misc, assignment]
    select.poll = _PollOfAMac  # type: ignore[misc, assignment]
    sys.meta_path.insert(0, _Finder())
    if importlib.util.find_spec("platformdirs"):
        import platformdirs
        import platformdirs.macos

        platformdirs.PlatformDirs = platformdirs.macos.MacOS  # type: ignore[misc]


if os.environ.get("AS_ON_A_MAC"):
    install()
