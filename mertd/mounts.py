"""What is mounted where, as Linux says it: /proc/self/mountinfo, see proc(5).

Rules of this file: text in, values out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Mount:
    """One mounted file system."""

    root: str  # what of the file system is mounted
    point: str  # where
    kind: str  # type of the file system
    options: list[str]  # of the file system, not of this mount


def mounts(text: str) -> Iterator[Mount]:
    """Yield what is mounted, in order. `text`: the contents of mountinfo; lines of another form are passed over."""
    for line in text.splitlines():
        before, _, behind = line.partition(" - ")
        fields, described = before.split(" "), behind.split(" ")
        if len(fields) >= 5 and described[0]:
            point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4])
            yield Mount(fields[3], point, described[0], described[2].split(",") if len(described) > 2 else [])
