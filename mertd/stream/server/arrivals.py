"""Which connections have received something, told at once: the kernel's edge-triggered events for descriptors of libzmq.

Rules of this file: nothing is read, and no descriptor of libzmq is closed. A descriptor that its owner closes leaves by itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys


class Arrivals:
    """Descriptors of connections, and of signals that end the wait without being reported."""

    def __init__(self) -> None:
        if sys.platform == "linux":
            self._epoll = select.epoll()
        else:
            self._kqueue = select.kqueue()
        self._wake_reader, self._wake_writer = os.pipe()
        self._signals: set[int] = set()
        self.wake_on(self._wake_reader)

    def follow(self, descriptor: int) -> None:
        """Report a connection whenever more has arrived on it."""
        with contextlib.suppress(OSError):  # it is gone, or followed already
            if sys.platform == "linux":
                # Arrivals are reported while anything that is asked for is true. libzmq may have read them before we look, so
                # it is asked for writability, too, which is almost always true.
                self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
            else:
                flags = select.KQ_EV_ADD | select.KQ_EV_CLEAR
                self._kqueue.control([select.kevent(descriptor, select.KQ_FILTER_READ, flags)], 0)

    def wake_on(self, descriptor: int) -> None:
        """Return from `wait` while this descriptor is readable."""
        self._signals.add(descriptor)
        if sys.platform == "linux":
            self._epoll.register(descriptor, select.EPOLLIN)
        else:
            self._kqueue.control([select.kevent(descriptor, select.KQ_FILTER_READ, select.KQ_EV_ADD)], 0)

    def wait(self, timeout_s: float) -> set[int]:
        """Return the descriptors of connections on which something has arrived, after at most `timeout_s`."""
        if sys.platform == "linux":
            found = {descriptor for descriptor, _ in self._epoll.poll(timeout_s)}
        else:
            found = {event.ident for event in self._kqueue.control(None, 64, timeout_s)}
        return found - self._signals

    def wake(self) -> None:
        """End the wait of another thread, and every later one."""
        os.write(self._wake_writer, b"\0")

    def close(self) -> None:
        """Stop following."""
        if sys.platform == "linux":
            self._epoll.close()
        else:
            self._kqueue.close()
        os.close(self._wake_reader)
        os.close(self._wake_writer)
