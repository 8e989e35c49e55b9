"""What the streams of a daemon need of the machine: file descriptors, and memory for their rings."""

from __future__ import annotations

from mertd.config import Settings
from mertd.daemon.shared_captures import number_of_groups
from mertd.ring import SAMPLE_BYTES

MANY_STREAMS = 16
"""Streams above which captures share processes, and report rarely while no window is nearly due: fewer cost next to nothing."""

RING_DESCRIPTORS = 2
"""Descriptors of one ring: that of its memory, and a copy that the mapping holds."""

PROCESS_DESCRIPTORS = 4
"""Descriptors for one child process: its pipe, its standard error, and two that tell its end."""

OTHER_DESCRIPTORS = 64
"""Descriptors for everything else: sockets, the event loop, the log, a few clients."""


def has_many(settings: Settings) -> bool:
    """Return whether there are so many streams that what each of them costs counts."""
    return settings.pace == "realtime" and len(settings.addresses) > MANY_STREAMS


def descriptors(settings: Settings) -> int:
    """Return about how many file descriptors the supervisor needs."""
    streams = len(settings.addresses)
    sharing = sum(address.may_share for address in settings.addresses) if has_many(settings) else 0
    processes = streams - sharing + number_of_groups(sharing)
    return streams * RING_DESCRIPTORS + processes * PROCESS_DESCRIPTORS + OTHER_DESCRIPTORS


def ring_bytes(settings: Settings) -> int:
    """Return the bytes of memory that all rings together take."""
    return len(settings.addresses) * settings.ring_samples * SAMPLE_BYTES
