"""What the configured streams need, beside what the system allows."""

from __future__ import annotations

import os
from pathlib import Path

from mertd.config import Settings
from mertd.daemon import stream_needs
from mertd.descriptors import raise_limit
from mertd.doctor.facts import StreamLimits


def stream_limits(settings: Settings) -> StreamLimits:
    """Return the needs of the streams, and the limits."""
    needed = stream_needs.descriptors(settings)
    return StreamLimits(len(settings.addresses), needed, raise_limit(), stream_needs.ring_bytes(settings), available_bytes())


def available_bytes() -> int:
    """Return the bytes of memory that programs can still be given; where the system does not tell, all that it has."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
