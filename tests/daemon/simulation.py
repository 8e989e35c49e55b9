"""A capture process, an embed process and two pipes, without processes: every step is taken when a test says so.

The ring is real and written and read as the real ones do; the samples are noise, so that one overwritten sample shows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.capture.clock import ClockReading
from mertd.capture.clock_pair import ClockPair
from mertd.capture.reports import MAX_UNREPORTED_SAMPLES, Committed, FilledGap
from mertd.daemon.clocks import EpochClocks
from mertd.daemon.composer import Composer, Origin
from mertd.daemon.timeline import Timeline
from mertd.embed.audio import Levels
from mertd.embed.messages import Answer, ModelInfo, Request
from mertd.ring import Ring
from mertd.vocabulary import EpochReason
from mertd.windows import Late, Schedule
from mertd.wire import Embedding, Event, Model

RATE = 1_000
MODEL = ModelInfo(Model("MERT-tiny", "f" * 16, "ab" * 32, False, (6,), "mean", "numpy", "float32"), 2, "cpu", 1.0, {})
LEVELS = Levels(-20.0, -3.0, 1, 2)
BOOT = bytes(16)
JUMP_NS = 3_600_000_000_000
"""By how much wall time jumps at a step of the clock: an hour."""


def make_timeline(rate: int, schedule: Schedule, ring: Ring, publish: Callable[[Embedding | Event], None]) -> Timeline:
    """Of stream `room` of daemon `studio`, with a gate at -70 dBFS."""
    clocks = EpochClocks(rate, ring.capacity / rate + 60, lambda: 1)
    composer = Composer(Origin(BOOT, "studio", "room"), clocks, publish)
    return Timeline("room", schedule, ring, -70.0, clocks, composer)


class Simulation:
    """One stream's timeline, with what it says in `published`."""

    def __init__(
        self,
        window: int,
        hop: int,
        late: Late,
        capacity: int,
        rate: int = RATE,
        attentive: bool = False,
        batches: int = 1,
    ) -> None:
        """`attentive`: the supervisor takes in all reports of capture before it hears that a window was copied. `batches`: that
        the embed process is given at a time.
        """
        self.attentive = attentive
        self.batches = batches
        self.window, self.hop, self.capacity = window, hop, capacity
        self.rate = rate
        self.ring = Ring(capacity)
        self.schedule = Schedule(window, hop, late, capacity)
        self.published: list[Embedding | Event] = []
        self.timeline = make_timeline(rate, self.schedule, self.ring, self.published.append)
        self.timeline.capture_began()
        self.now = 1
        self.noise = np.random.Generator(np.random.PCG64(0))
        # The capture process: what it has written, and not yet reported, and reported.
        self.written = 0
        self.most_written = 0
        self.from_capture: deque[Any] = deque()
        self.gaps: list[FilledGap] = []
        self.reported_gaps: list[FilledGap] = []
        self.first_of_epoch = True
        self.jumps = 0
        # What was in the ring at the time of each report, by absolute index.
        self.truth: NDArray[np.float32] = np.zeros(0, np.float32)
        self.tentative: NDArray[np.float32] = np.zeros(0, np.float32)
        # The embed process: batches asked for, those at hand, copies of samples by token.
        self.asked: deque[list[Request]] = deque()
        self.at_hand: deque[list[Request]] = deque()
        self.from_embed: deque[Any] = deque()
        self.copies: dict[int, NDArray[np.float32]] = {}
        self.windows: dict[int, tuple[int, int]] = {}

    def tick(self) -> int:
        """Monotonic time: no two things happen at once."""
        self.now += 1
        return self.now

    # Capture

    def write(self, samples: int, lost: int = 0) -> None:
        """Into the ring, not yet reported: at most `MAX_UNREPORTED_SAMPLES` samples may be, so more are reported in between."""
        if lost:
            self.gaps.append(FilledGap(self.written, self.written + lost))
        for left in range(samples + lost, 0, -MAX_UNREPORTED_SAMPLES):
            part = self.noise.standard_normal(min(left, MAX_UNREPORTED_SAMPLES)).astype(np.float32)
            if len(self.tentative) + len(part) > MAX_UNREPORTED_SAMPLES:
                self.report()
            for at in range(0, len(part), self.capacity):
                piece = part[at : at + self.capacity]
                self.ring.write(self.written, piece)
                self.written += len(piece)
            self.tentative = np.concatenate([self.tentative, part])
            self.most_written = max(self.most_written, self.written)

    def report(self) -> None:
        heard_ns = self.written * 1_000_000_000 // self.rate + self.jumps * JUMP_NS
        heard = ClockPair(heard_ns, heard_ns - self.jumps * JUMP_NS)
        readings = (ClockReading(self.written, heard, exact=True),) if self.first_of_epoch else ()
        self.first_of_epoch = False
        self.from_capture.append(Committed(self.written, self.tick(), readings, tuple(self.gaps)))
        self.truth, self.tentative = np.concatenate([self.truth, self.tentative]), np.zeros(0, np.float32)
        self.gaps = []

    def step_clock(self) -> None:
        """Wall time jumps: everything is reported, then a new epoch begins."""
        self.report()
        self.from_capture.append("epoch")
        self.first_of_epoch, self.jumps = True, self.jumps + 1

    def hear_capture(self, reports: int = 1) -> None:
        """The supervisor hears the next reports of the capture process."""
        for _ in range(min(reports, len(self.from_capture))):
            match self.from_capture.popleft():
                case Committed() as report:
                    self.reported_gaps += report.gaps
                    self.timeline.committed(report, self.tick())
                case _:
                    self.timeline.begin_epoch(EpochReason.CLOCK, jump_ns=JUMP_NS)

    def lose_capture(self, in_order: bool) -> None:
        """The process ends, and another one begins where the timeline has come to."""
        if in_order:
            self.report()
        self.hear_capture(len(self.from_capture))
        self.timeline.capture_over(in_order, self.tick())
        self.written = self.timeline.end
        self.truth, self.tentative = self.truth[: self.written], np.zeros(0, np.float32)
        self.gaps, self.first_of_epoch = [], True

    def restart_capture(self) -> None:
        self.timeline.capture_began()
        self.timeline.begin_epoch(EpochReason.RESTART)

    # Embed

    def take(self, most: int) -> None:
        """The supervisor gives a batch, if the embed process has not enough."""
        if len(self.asked) + len(self.at_hand) + bool(self.from_embed) >= self.batches:
            return
        batch = self.timeline.take(most, self.tick())
        for request in batch:
            self.windows[request.token.number] = (request.start, request.end)
        if batch:
            self.asked.append(batch)

    def copy(self) -> None:
        """The embed process reads a batch out of the ring."""
        if self.asked:
            batch = self.asked.popleft()
            self.at_hand.append(batch)
            for request in batch:
                self.copies[request.token.number] = self.ring.read(request.start, request.end)
            self.from_embed.append(("copied", [request.token for request in batch], self.tick()))

    def answer(self, silent: bool = False) -> None:
        """Vectors that say which request they answer; none if the batch was silent."""
        for request in self.at_hand.popleft() if self.at_hand else ():
            vector = None if silent else np.array([[request.token.number, 1]], np.float32)
            self.from_embed.append(("answered", Answer(request.token, LEVELS, vector, 5)))

    def hear_embed(self, reports: int = 1) -> None:
        for _ in range(min(reports, len(self.from_embed))):
            match self.from_embed.popleft():
                case ("copied", tokens, at_ns):
                    if self.attentive:
                        self.hear_capture(len(self.from_capture))
                    for token in tokens:
                        self.timeline.copied(token, at_ns, self.attentive)
                case ("answered", answer):
                    self.timeline.answered(answer, MODEL, self.tick())

    def lose_embed(self) -> None:
        """The process dies; what it had said is still heard, then that it is gone."""
        self.hear_embed(len(self.from_embed))
        self.asked.clear()
        self.at_hand.clear()
        self.timeline.embed_lost()

    def finish(self) -> None:
        """Everything is heard and answered."""
        self.report()
        self.hear_capture(len(self.from_capture))
        self.timeline.capture_over(True, self.tick())
        while self.timeline.waiting:
            self.take(4)
            self.copy()
            self.answer()
            self.hear_embed(len(self.from_embed))

    def samples_of(self, message: Embedding) -> NDArray[np.float32]:
        """What the embed process heard when it made this vector."""
        return self.copies[int(message.vector[0, 0])]
