"""File descriptors, of which a process has a limited number."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Callable
from typing import TypeVar

from mertd.errors import MertdError

T = TypeVar("T")

OPEN_MAX = 10_240
"""Descriptors that macOS gives to a process at most, even if its hard limit says that there is none."""

OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


def raise_limit() -> int:
    """Allow this process as many descriptors as the system lets it have. Return how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # macOS refuses more than OPEN_MAX
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, OPEN_MAX), hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class SpareDescriptor:
    """A descriptor held back for one thing that has to be opened even when there is none left."""

    def __init__(self) -> None:
        self._held: int | None = None
        self._take()

    def use_for(self, action: Callable[[], T]) -> T:
        """Do something that opens one file at a time; where there is no descriptor left, with the spare one.

        Raises what it raises.
        """
        try:
            return action()
        except (OSError, MertdError) as error:
            if self._held is None or not _is_shortage(error):
                raise
        self.close()
        try:
            return action()
        finally:
            self._take()

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            self._held = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Give it back."""
        if self._held is not None:
            os.close(self._held)
            self._held = None


def _is_shortage(error: BaseException) -> bool:
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in OUT_OF_DESCRIPTORS
