"""Reports to systemd, by the protocol of sd_notify(3): datagrams of `NAME=value` lines to a socket that it names.

The watchdog is fed only when both loops of the supervisor have come round since the last time: the one that publishes the
status, and the one that looks for processes that hang. So systemd replaces a daemon that hangs, is stopped, or no longer
watches. Without such a socket, everything here does nothing.
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
"""Seconds that systemd may take to make room for a datagram: it must not hold up the daemon."""

STARTING_US = 30_000_000
"""Microseconds that each round asks for while the model loads, so that systemd gives up only on a start that hangs."""

MIN_WATCHDOG_S = 3.0
"""Seconds; the status loop comes round once a second, so a shorter watchdog would kill a healthy daemon."""

Loop = Literal["status", "watch"]

LOOPS: frozenset[Loop] = frozenset({"status", "watch"})
"""The loops that must both come round before the watchdog is fed."""


MAX_STATUS = 900
"""Characters of a line, of four bytes at most: systemd ignores a message of more than 4,096 bytes, WATCHDOG=1 included."""


class Notifier:
    """Reports to the service manager that started this process, if one did."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Remove NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID from `environment`: they are not meant for child processes."""
        path = environment.pop("NOTIFY_SOCKET", "")
        microseconds = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "")
        self._address = ""
        self._started = False
        self._told_ready = False
        self._complained = False
        self._turned: set[str] = set()
        self._watched = microseconds.isdecimal() and pid in ("", str(os.getpid()))
        if path.startswith(("/", "@")):
            self._address = "\0" + path[1:] if path.startswith("@") else path  # @: Linux's namespace without files
        elif path:
            log.warning("NOTIFY_SOCKET=%r is not the path of a socket; nothing is reported to the service manager", path)
        if self._address and self._watched and int(microseconds) < MIN_WATCHDOG_S * 1e6:
            log.warning(
                "WatchdogSec=%.1f is too short, as the watchdog is fed once a second; set it to 10", int(microseconds) / 1e6
            )

    def ready(self) -> None:
        """Report that the model can embed. Only the first call counts; later changes are part of the status."""
        if not self._started:
            self._started = True
            self._told_ready = self._send("READY=1")

    def turned(self, loop: Loop, status: str = "") -> None:
        """Record that a loop of the supervisor has come round. `status`: what `systemctl status` shows, if not empty."""
        lines = [f"STATUS={status}"] if status else []
        self._turned.add(loop)
        if self._turned == LOOPS:
            self._turned.clear()
            if not self._told_ready:  # a lost READY=1 would make systemd give up a healthy daemon
                lines.append("READY=1" if self._started else f"EXTEND_TIMEOUT_USEC={STARTING_US}")
            if self._watched:
                lines.append("WATCHDOG=1")
        if lines and self._send(*lines):
            self._told_ready = self._told_ready or "READY=1" in lines

    def reloading(self) -> None:
        """Report that the configuration is being read again; `reloaded` follows."""
        if self._started:
            self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def reloaded(self) -> None:
        """Report that the configuration was read again."""
        if self._started:
            self._send("READY=1")

    def stopping(self, reason: str) -> None:
        """Report that the daemon is stopping, and why."""
        self._send("STOPPING=1", f"STATUS=stopping: {reason}")

    def _send(self, *lines: str) -> bool:
        """Send lines in one datagram. Return whether it has arrived."""
        if not self._address:
            return False
        text = "\n".join(printable(line.replace("\n", " "), MAX_STATUS) for line in lines)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
                speaker.settimeout(SEND_S)
                speaker.sendto(text.encode(errors="replace"), self._address)
        except OSError as error:
            if not self._complained:
                log.warning("the status cannot be reported to the service manager: %s", error)
            self._complained = True
            return False
        return True
