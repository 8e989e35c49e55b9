"""What systemd is told of the daemon, by the protocol of sd_notify(3): datagrams of `NAME=value` lines to a socket it names.

The watchdog is fed only when both of the supervisor's loops have come round since it was last fed: the one that publishes the
status, and the one that looks for children that hang. A daemon that hangs, is stopped, or watches no longer, is thus replaced.
Without such a socket, everything here does nothing.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Literal

from mertd.text import printable

log = logging.getLogger(__name__)

SEND_S = 0.2
"""How long systemd may take to make room for a datagram: it must not hold up the daemon."""

STARTING_US = 30_000_000
"""While the model loads, every round asks for so much more time: systemd gives up only on a start that hangs."""

LEAST_S = 3.0
"""The status loop comes round once a second; a watchdog that wants more than that would bite a daemon that is well."""

LOOPS = frozenset({"status", "watch"})
Loop = Literal["status", "watch"]


class Notifier:
    """Speaks to the service manager that started this process, if one did."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of `environment`: they are not meant for child processes."""
        path = environment.pop("NOTIFY_SOCKET", "")
        microseconds, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        self._address = ""
        self._started = self._told_ready = self._complained = False
        self._turned: set[str] = set()
        self._watched = microseconds.isdecimal() and pid in ("", str(os.getpid()))
        if path.startswith(("/", "@")):
            self._address = "\0" + path[1:] if path.startswith("@") else path  # @: Linux's namespace without files
        elif path:
            log.warning("NOTIFY_SOCKET is %r, which is no socket's path; the service manager is told nothing", path)
        if self._address and self._watched and int(microseconds) < LEAST_S * 1e6:
            log.warning("WatchdogSec= is %.1f s, and the watchdog is fed once a second; make it 10", int(microseconds) / 1e6)

    def ready(self) -> None:
        """The model can embed. Only the first time counts: later ones are told in the status."""
        if not self._started:
            self._started = True
            self._told_ready = self._send("READY=1")

    def turned(self, loop: Loop, status: str = "") -> None:
        """One of the supervisor's loops has come round; with what `systemctl status` is to show, if that has changed."""
        lines = [f"STATUS={status}"] if status else []
        self._turned.add(loop)
        if self._turned == LOOPS:
            self._turned.clear()
            if not self._told_ready:  # if that was lost, it would be given up however well it is
                lines.append("READY=1" if self._started else f"EXTEND_TIMEOUT_USEC={STARTING_US}")
            if self._watched:
                lines.append("WATCHDOG=1")
        if lines and self._send(*lines):
            self._told_ready = self._told_ready or "READY=1" in lines

    def reloading(self) -> None:
        """The configuration is being read again; `reloaded` follows."""
        if self._started:
            self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def reloaded(self) -> None:
        """What could change has changed."""
        if self._started:
            self._send("READY=1")

    def stopping(self, reason: str) -> None:
        """The daemon stops, in order, and why; the last word."""
        self._send("STOPPING=1", f"STATUS=stopping: {reason}")

    def _send(self, *lines: str) -> bool:
        """Whether it has arrived."""
        if not self._address:
            return False
        text = "\n".join(printable(line.replace("\n", " ")) for line in lines)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
                speaker.settimeout(SEND_S)
                speaker.sendto(text.encode(errors="replace"), self._address)
        except OSError as error:
            if not self._complained:
                log.warning("the service manager cannot be told how the daemon is: %s", error)
            self._complained = True
            return False
        return True
