"""A source and clocks that follow a script, to produce every fault of real audio on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mertd.capture.clock_pair import ClockPair
from mertd.capture.reports import MAX_UNREPORTED_SAMPLES, Committed, Discontinuity, FilledGap, Notice
from mertd.capture.source import COMPLETE, Block, ZerosExplanation
from mertd.ring import Ring

Step = Block | None | Callable[[], object]


class ScriptedSource:
    """Yields the steps of a script; a step that is a function is called and yields nothing."""

    reopens = False
    end_report = COMPLETE

    def __init__(
        self, rate: int, channels: int, script: Iterable[Step], explain_zeros: Callable[[], ZerosExplanation] | None = None
    ) -> None:
        self.explain_zeros = explain_zeros
        self.rate = rate
        self.channels = channels
        self.description = "scripted"
        self._script = list(script)

    def blocks(self) -> Iterator[Block | None]:
        for step in self._script:
            if callable(step):
                step()
                yield None
            else:
                yield step

    def close(self) -> None:
        """Do nothing: nothing is held."""


@dataclass
class ScriptedTime:
    """Replaces the module `time` and `read_clocks`; every reading advances the clock by a millisecond."""

    unix: int = 1_790_000_000_000_000_000
    monotonic: int = 1_000

    def time_ns(self) -> int:
        self.unix += 1_000_000
        return self.unix

    def monotonic_ns(self) -> int:
        self.monotonic += 1_000_000
        return self.monotonic

    def now(self) -> ClockPair:
        return ClockPair(self.time_ns(), self.monotonic_ns())

    def jump(self, seconds: float) -> None:
        """Let wall time jump, as after a sleep."""
        self.unix += round(seconds * 1e9)


class CheckedRing(Ring):
    """A ring that keeps everything written and checks that there are no holes."""

    def __init__(self, start: int, capacity: int = 200_000) -> None:
        super().__init__(capacity)
        self.start = self.end = start
        self.parts: list[NDArray[np.float32]] = []
        self.reported = start

    def write(self, start: int, samples: NDArray[np.float32]) -> None:
        assert start == self.end, "a hole, or samples written twice"
        super().write(start, samples)
        self.end += len(samples)
        self.parts.append(samples.copy())
        assert self.end - self.reported <= MAX_UNREPORTED_SAMPLES, (
            "more in doubt than a reader allows for if the process died now"
        )

    @property
    def samples(self) -> NDArray[np.float32]:
        return np.concatenate(self.parts) if self.parts else np.zeros(0, np.float32)


class Reports:
    """Receives the reports of the recorder and checks each."""

    def __init__(self, ring: CheckedRing) -> None:
        self.all: list[object] = []
        self.gaps: list[FilledGap] = []
        self.epochs: list[Discontinuity] = []
        self._ring = ring

    def send(self, message: object) -> None:
        self.all.append(message)
        match message:
            case Committed(end, _, _, gaps):
                assert end == self._ring.end, "what is written is reported, and nothing else"
                late = [gap for gap in gaps if gap.start < self._ring.reported]
                assert not late, "samples were reported before the gap that they are in"
                self.gaps += gaps
                self._ring.reported = end
            case Discontinuity(start, _):
                assert start == self._ring.end == self._ring.reported, "everything before it is reported"
                self.epochs.append(message)

    @property
    def notices(self) -> list[Notice]:
        return [message for message in self.all if isinstance(message, Notice)]

    @property
    def commits(self) -> list[Committed]:
        return [message for message in self.all if isinstance(message, Committed)]
