"""The memory as a process that a daemon starts: `main` runs in it. The daemon knows nothing of it but its arguments."""

from __future__ import annotations

import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

from mertd.memory.amounts import parse_keep
from mertd.memory.default_folder import default_memory
from mertd.memory.follower import Follower, Following
from mertd.processes.child import Outbox, begin
from mertd.stream.curve_keys import LOCAL, ClientKeys
from mertd.stream.families import reachable

REPORT_S = 1.0
"""Seconds between two reports to the daemon, at least."""


def main(publish: str, control: str, keys: str, memory: str | None, keep: str | None, pipe: Connection) -> None:
    """Follow a daemon until it says that this shall end.

    `publish`, `control`: as its sockets are bound. `keys`: folder of the keys, empty without encryption. `memory`: directory,
    None for the default. `keep`: how much to keep, None for everything.
    """
    stopping = threading.Event()
    begin(pipe, lambda _: stopping.set())
    outbox = Outbox(pipe)
    reported = float("-inf")

    def alive() -> None:
        nonlocal reported
        if time.monotonic() >= reported + REPORT_S:
            reported = time.monotonic()
            outbox.send("ready")

    following = Following(
        folder=Path(memory) if memory is not None else default_memory(),
        endpoints=(reachable(publish),),
        controls=(reachable(control),),
        keys=(ClientKeys.load(LOCAL, keys),) if keys else None,
        keep=parse_keep(keep),
    )
    Follower(following, stopping, alive).run()
