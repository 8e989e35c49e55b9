"""`mertd run`."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mertd.cli.settings import settings
from mertd.daemon.supervisor import Supervisor


def run_daemon(config: Path | None, flags: Mapping[str, Any]) -> None:
    """Run until stopped. The log goes to standard error, one line a message; a service manager adds its own times."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logging.getLogger("mertd").addHandler(handler)
    logging.getLogger("mertd").setLevel(logging.INFO)
    asyncio.run(Supervisor(settings(config, flags)).run())
