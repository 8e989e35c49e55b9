"""`mertd run`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mertd.cli.settings import settings
from mertd.daemon.supervisor import Supervisor
from mertd.logs import Lines, install, uninstall


def run_daemon(config: Path | None, flags: Mapping[str, Any]) -> None:
    """Run until stopped. The log goes to standard error, one line an event."""
    chosen = settings(config, flags)
    # The embed process starts faster if numpy, which only judges there, leaves a core to the judged.
    if chosen.backend != "numpy":
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Without a standard error its number is free, and would be given to the next file or socket.
    lines = Lines(sys.stderr.fileno() if sys.stderr else os.open(os.devnull, os.O_WRONLY), chosen.log_format)
    install(lines, chosen.log_level)
    try:
        asyncio.run(Supervisor(chosen, lines).run())
    finally:
        uninstall(lines)
