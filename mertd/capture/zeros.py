"""Detection of a device that delivers only zeros, on all channels or on the one that is heard.

Real converters are noisy: exact zeros for long mean that the device is muted, that consent is missing, or that nothing plays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mertd.capture.reports import Notice
from mertd.capture.source import Frames, ZerosExplanation
from mertd.vocabulary import EventName, ZerosCause

MIN_ZEROS_S = 10.0
"""Seconds of exact zeros on every channel that is heard after which they are reported."""


class ZerosDetector:
    """Examines every block of a device and reports a long run of zeros once, and its end."""

    def __init__(self, rate: int, explain: Callable[[], ZerosExplanation], mix: str = "mean") -> None:
        """`rate`: Hz. `explain`: called when every channel is silent. `mix`: which channels are heard, as in an address."""
        self._rate = rate
        self._explain = explain
        self._channel = int(mix) - 1 if mix.isdecimal() else None  # the only one that is heard
        self._power: NDArray[np.float64] | float = 0.0  # of each channel during the current run: sum of squares
        self._frames = 0  # length of the current run of zeros
        self._start = 0  # index of its first sample
        self._reported = False

    def check(self, frames: Frames, index: int) -> Notice | None:
        """Return what to report after `frames`, (n, channels), of which the first becomes sample `index`."""
        heard = frames if self._channel is None else frames[:, self._channel]
        if heard.any():
            return self._end_run(index)
        if not self._frames:
            self._start = index
            self._power = 0.0
        if self._channel is not None and not self._reported:
            self._power = self._power + np.einsum("nc,nc->c", frames, frames, dtype=np.float64)
        self._frames += len(frames)
        if self._reported or self._frames < MIN_ZEROS_S * self._rate:
            return None
        self._reported = True
        found = self._other_channel() or self._explain()
        detail = {"seconds": self._frames / self._rate, "cause": found.cause, "hint": found.hint}
        return Notice(EventName.ZEROS, self._start, detail)

    def _other_channel(self) -> ZerosExplanation | None:
        """Return which channel carries sound if the one that is heard does not; None if none does."""
        if self._channel is None or not np.any(self._power):
            return None
        loudest = int(np.argmax(self._power)) + 1
        hint = f"channel {self._channel + 1} is silent, but channel {loudest} is not; hear it with ?mix={loudest}"
        return ZerosExplanation(ZerosCause.OTHER_CHANNEL, f"{hint}, or all that carry signal with ?mix=active")

    def _end_run(self, index: int) -> Notice | None:
        reported, seconds = self._reported, self._frames / self._rate
        self._frames = 0
        self._reported = False
        return Notice(EventName.ZEROS_OVER, index, {"seconds": seconds}) if reported else None
