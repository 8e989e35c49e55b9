"""A process that writes into a ring it was given when it was spawned, says so, and waits to be told, or killed."""

from __future__ import annotations

from multiprocessing.connection import Connection

import numpy as np

from mertd.ring import Ring


def main(ring: Ring, start: int, count: int, pipe: Connection) -> None:
    """Puts the numbers start, start + 1 … at their own indexes."""
    ring.write(start, np.arange(start, start + count, dtype=np.float32))
    pipe.send(ring.capacity)
    pipe.recv()
