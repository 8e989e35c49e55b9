"""How much an object holds: the number of values reachable from it, for tests in which nothing may grow."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from mertd.ring import Ring


def footprint(value: Any, leave_out: tuple[type, ...] = (Ring,)) -> int:
    """Values in containers, arrays and attributes, each counted once. `leave_out`: what is not looked into."""
    seen: dict[int, Any] = {}
    waiting = [value]
    total = 0
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen[id(item)] = item  # kept, so that its number is not given to another
        total += item.size if isinstance(item, np.ndarray) else 1
        if isinstance(item, leave_out) or callable(item):
            continue
        if isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset | deque):
            waiting += item
        elif hasattr(item, "__dict__"):
            waiting += vars(item).values()
    return total
