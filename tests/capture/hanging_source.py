"""A capture process whose source breaks, and then hangs while it is closed, as PortAudio can on macOS."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection

from mertd.capture import entry
from mertd.capture.reports import CaptureSettings
from mertd.capture.source import COMPLETE, Block
from mertd.errors import SourceError
from mertd.ring import Ring


class HangingSource:
    """A source that breaks and then hangs."""

    rate = 48_000
    channels = 2
    description = "hanging"
    reopens = False
    end_report = COMPLETE
    explain_zeros = None

    def blocks(self) -> Iterator[Block | None]:
        yield None
        raise SourceError("the device was lost", retry=True)

    def close(self) -> None:
        threading.Event().wait()


def main(settings: CaptureSettings, ring: Ring, pipe: Connection) -> None:
    """Run `mertd.capture.entry.main` with that source."""
    entry.open_source = lambda _: HangingSource()
    atexit.register(HangingSource().close)
    entry.main(settings, ring, pipe)
