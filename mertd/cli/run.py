"""`mertd run`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mertd.cli.settings import daemon_settings
from mertd.daemon.assembly import Outside, make_supervisor
from mertd.logs import Lines, install, uninstall

FILES = 10_240
"""The most that macOS gives to a process, whatever its limit says."""


def run_daemon(config: Path | None, flags: Mapping[str, Any]) -> None:
    """Run until stopped. The log goes to standard error, one line an event."""
    chosen = daemon_settings(config, flags)
    # The embed process starts faster if numpy, which only judges there, leaves a core to the judged.
    if chosen.backend != "numpy":
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Without a standard error its number is free, and would be given to the next file or socket.
    lines = Lines(sys.stderr.fileno() if sys.stderr else os.open(os.devnull, os.O_WRONLY), chosen.log_format)
    install(lines, chosen.log_level)
    _allow_many_files()
    try:
        asyncio.run(make_supervisor(chosen, Outside(lines, lambda: daemon_settings(config, flags))).run())
    finally:
        uninstall(lines)


def _allow_many_files() -> None:
    """Every subscriber takes a file descriptor, and every stream some; systems begin with 256 (macOS) or 1,024, and allow more
    to whoever asks.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
