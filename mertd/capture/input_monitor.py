"""Polls the status of the captured input in a thread of its own, so that a sound server that hangs cannot stop the audio."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from mertd.capture.input_status import InputStatus, InputStatusUnavailable, describe_change, fill_in

POLL_S = 1.0
"""Seconds between two readings of the status."""

RATE_SETTLE_S = 5.0
"""Seconds after the opening before rates are compared: to be opened makes some headsets change theirs, as AirPods do."""

RETRY_S = 5.0
"""Seconds before the next attempt after the status was not available."""

ReadStatus = Callable[[], InputStatus]


class InputMonitor:
    """Reads the status of an input repeatedly until the input has changed or the monitor is closed."""

    def __init__(
        self,
        follows_default: bool,
        open_reader: Callable[[], ReadStatus],
        poll_s: float = POLL_S,
        settle_s: float = RATE_SETTLE_S,
    ) -> None:
        """`open_reader`: called in the thread, returns a function that reads the status. `settle_s`: as RATE_SETTLE_S.

        Both may raise `InputStatusUnavailable`. `follows_default`: the input should be the system's default one.
        """
        self.latest = InputStatus()
        self.problem = ""  # what has become of the input, once it has changed
        self._follows_default = follows_default
        self._open_reader = open_reader
        self._poll_s = poll_s
        self._settled_at = time.monotonic() + settle_s
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="input-monitor", daemon=True).start()

    def close(self) -> None:
        """Stop; does not wait for a reading that hangs."""
        self._closed.set()

    def _run(self) -> None:
        first: InputStatus | None = None
        delay_s = 0.0
        while not self.problem and not self._closed.wait(delay_s):
            with contextlib.suppress(InputStatusUnavailable):
                read = self._open_reader()
                while not self.problem:
                    self.latest = read()
                    now = self.latest if time.monotonic() >= self._settled_at else replace(self.latest, rate=0)
                    first = now if first is None else fill_in(first, now)
                    self.problem = describe_change(first, now, self._follows_default)
                    if self._closed.wait(self._poll_s):
                        return
            delay_s = RETRY_S


def monitor_input(device: str, follows_default: bool) -> InputMonitor:
    """Monitor the input called `device`, which this process has opened."""
    if sys.platform == "darwin":
        from mertd.capture import coreaudio

        open_reader = partial(coreaudio.open_reader, device, follows_default)
    else:
        from mertd.capture.pulseaudio import open_reader
    return InputMonitor(follows_default, open_reader)
