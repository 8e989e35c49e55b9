"""Times of windows over days and through every trick of a clock: the published time is within its published error.

The whole path: readings, step detector, timeline and clock. Nothing sleeps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from capture.scripted_source import ScriptedSource
from capture.simulated_clocks import RATE, SimulatedClocks, delays
from daemon.simulation import LEVELS, MODEL, make_timeline
from example_counts import examples
from mertd.capture.address import parse
from mertd.capture.recorder import CaptureControl, Recorder
from mertd.capture.reports import CaptureSettings, Committed, Discontinuity, FilledGap
from mertd.capture.source import Block
from mertd.embed.messages import Answer
from mertd.ring import Ring
from mertd.vocabulary import EpochReason, GapReason
from mertd.windows import Late, Schedule
from mertd.wire import Embedding, Event

MS = 1_000_000
DAY_S = 86_400
World = SimulatedClocks  # by this name, programs outside the suite take it from here
VECTOR = np.zeros((1, 2), np.float32)


class Listener:
    """A timeline whose windows are embedded as soon as they are due."""

    def __init__(self, window_s: float, hop_s: float, prompt: bool = True, whole: bool = True) -> None:
        self.published: list[Embedding | Event] = []
        self.shifts: dict[int, int] = {}  # by start of window: which sample of the world it is, less its index
        window, hop = round(window_s * RATE), round(hop_s * RATE)
        self._ring = Ring(window + hop + 30 * RATE)
        schedule = Schedule(window, hop, Late.QUEUE, self._ring.capacity)
        self.timeline = make_timeline(RATE, schedule, self._ring, self.published.append)
        self.timeline.capture_began()
        self._prompt, self._whole, self._now = prompt, whole, 0

    def hear(self, message: object) -> None:
        """A message of the capture process."""
        self._now += 50 * MS
        match message:
            case Committed():
                self.timeline.committed(message, self._now)
            case Discontinuity(_, jump, dropped):
                self.timeline.begin_epoch(EpochReason.CLOCK, jump_ns=jump, dropped=dropped)
        if self._prompt:
            self.embed()

    def embed(self) -> None:
        """All that is due."""
        while requests := self.timeline.take(4, self._now):
            for request in requests:
                samples = self._ring.read(request.start, request.end if self._whole else request.start + 1)
                (known,) = np.nonzero(samples)
                if not self._whole:
                    self.shifts[request.start] = 0
                elif len(known):
                    self.shifts[request.start] = round(float(samples[known[0]])) - request.start - int(known[0])
                self.timeline.copied(request.token, self._now)
                self.timeline.answered(Answer(request.token, LEVELS, VECTOR, 5), MODEL, self._now)

    @property
    def embeddings(self) -> list[Embedding]:
        return [message for message in self.published if isinstance(message, Embedding)]


def check(listener: Listener, world: SimulatedClocks) -> list[int]:
    """Each window's error in ns; its times are within it, of the truth."""
    by_epoch = {m.epoch: listener.shifts[m.window.start] for m in listener.embeddings if m.window.start in listener.shifts}
    for message in listener.embeddings:
        shift = listener.shifts.get(message.window.start, by_epoch.get(message.epoch))
        if shift is None:  # an epoch of nothing but lost samples
            continue
        for index, unix_ns in ((message.window.start, message.time.start_ns), (message.window.end, message.time.end_ns)):
            assert abs(unix_ns - world.unix_ns(index + shift)) <= message.time.error_ns, message.window
    return [message.time.error_ns for message in listener.embeddings]


@pytest.mark.slow
@pytest.mark.parametrize("drift", [-200.0, 200.0])
def test_a_day_of_drift(drift: float) -> None:
    """24 h at 200 ppm, which temperature bends by 10 ppm an hour; NTP slews by 500 ppm for ten minutes every three hours."""
    wall, offset = [(0.0, 0.0)], 0.0
    for hour in range(1, 24, 3):
        wall.append((hour * 3_600.0, offset))
        offset += 0.3 if hour % 2 else -0.3
        wall.append((hour * 3_600.0 + 600, offset))
    world, listener = SimulatedClocks(drift, 10, tuple(wall)), Listener(30, 60, whole=False)
    late = delays(np.random.Generator(np.random.PCG64(3)), DAY_S * 4, 0.004, stalls=0.005)
    for five in range(0, DAY_S, 5):
        readings = tuple(world.reading(tick / 4, float(late[tick])) for tick in range(4 * five, 4 * five + 20))
        end = round(world.index(five + 5))
        listener.hear(Committed(end, five * 10**9, readings))
        listener.timeline.committed(Committed(end, 2**62), 0)  # a report made after the copy: it was whole
    errors = check(listener, world)
    assert len(errors) == pytest.approx(DAY_S / 60, abs=2)
    assert max(errors) < 20 * MS
    assert listener.embeddings[-1].time.drift_ppm == pytest.approx(drift, abs=25)
    shift = listener.embeddings[-1].time.end_ns - listener.embeddings[0].time.end_ns
    assert shift == pytest.approx(
        (listener.embeddings[-1].window.end - listener.embeddings[0].window.end) / RATE * 1e9, abs=20e9
    )


def lateness(seconds: float, seed: int) -> np.ndarray:
    """By how many seconds each block comes late, of which two come a second."""
    return delays(np.random.Generator(np.random.PCG64(seed)), round(seconds * 2) + 1, 0.003)


def blocks(world: SimulatedClocks, seconds: float, silent: tuple[tuple[float, float], ...], seed: int) -> Iterator[Block]:
    """What a device gives: a block every half second, none in `silent` stretches, whose frames are lost."""
    late = lateness(seconds, seed)
    done = lost = 0
    for tick in range(round(seconds * 2)):
        begin, end = (round(world.index(t / 2)) for t in (tick, tick + 1))
        if any(a <= tick / 2 < b for a, b in silent):
            lost += end - begin
            continue
        reading = world.reading(tick / 2, float(late[tick]), age=0.5)
        yield Block(np.arange(begin, end, dtype=np.float32)[:, None], reading.captured_at, reading.age_ns, lost if done else 0)
        done, lost = end, 0


def capture(
    world: SimulatedClocks, seconds: float, listener: Listener, silent: tuple[tuple[float, float], ...] = (), seed: int = 1
) -> None:
    source = ScriptedSource(RATE, 1, blocks(world, seconds, silent, seed))
    settings_ = CaptureSettings(parse("synth:silence"), True, 0)
    Recorder(settings_, source, listener._ring, listener.hear, CaptureControl(), world.instant(-1)).run()
    listener.timeline.capture_over(True, 0)
    listener.embed()


@pytest.mark.parametrize("jump", [3_600.0, -3_600.0, 0.3, -0.3])
@pytest.mark.parametrize("prompt", [True, False])
def test_a_step_of_the_clock_begins_an_epoch_with_right_times_on_both_sides(jump: float, prompt: bool) -> None:
    """A sleep is the same: wall time goes on, the steady clock stops. Windows that were due already keep the old time."""
    world, listener = SimulatedClocks(100, 0, ((0, 0), (20.25, 0), (20.25, jump))), Listener(5, 5, prompt)
    capture(world, 40, listener)
    assert [m.epoch for m in listener.embeddings] == [0, 0, 0, 0, 1, 1, 1][: len(listener.embeddings)]
    (epoch,) = [m for m in listener.published if isinstance(m, Event) and m.event == "epoch"]
    assert epoch.detail["jump_ns"] == round(jump * 1e9)
    assert abs(epoch.index - world.index(20.25)) < RATE, "within the block of the step"
    assert len(check(listener, world)) == 7
    last = listener.embeddings[-1]
    dropped = epoch.detail["dropped"]
    assert 0 < dropped == listener.shifts[last.window.start] <= 1.1 * RATE, "two blocks: a late one may have been heard before"
    assert abs(last.time.end_ns - world.unix_ns(last.window.end + dropped)) < 5 * MS


@pytest.mark.parametrize("step", [0.01, 0.125, -0.125, 0.24])
@pytest.mark.parametrize("after_ms", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_small_step_just_after_the_end_of_a_window_is_covered(step: float, after_ms: float, seed: int) -> None:
    """The clocks are read within a millisecond of both, so that the sample may have been captured before or after the step."""
    at = 26 + after_ms / 1e3
    world, listener = SimulatedClocks(-1, 0, ((0.0, 0.0), (at, 0.0), (at, step))), Listener(2.0, 3)
    capture(world, 40, listener, (), seed)
    errors = check(listener, world)
    assert errors[8] <= abs(step) * 1e9 + 20 * MS, "the window from 24 to 26 s"
    assert max(errors[9:]) < 20 * MS, "those behind it"


def test_the_start_of_a_long_window_is_remembered() -> None:
    """Wall time is slewed from its tenth second to its end."""
    world, listener = SimulatedClocks(100, 0, ((0, 0), (10, 0), (210, 0.1))), Listener(120, 60)
    capture(world, 200, listener)
    assert max(check(listener, world)) < 20 * MS


def read_at(seconds: float, silent: tuple[tuple[float, float], ...], seed: int) -> list[float]:
    """When the clocks are read: at the end of each block that is not in a silent stretch, and late."""
    late = lateness(seconds, seed)
    ticks = [tick for tick in range(round(seconds * 2)) if not any(a <= tick / 2 < b for a, b in silent)]
    return [-1.0, *((tick + 1) / 2 + float(late[tick]) for tick in ticks)]


@given(
    drift=st.floats(-200, 200),
    moves=st.lists(st.tuples(st.floats(1, 25), st.floats(-0.24, 0.24) | st.sampled_from([-3_600.0, 3_600.0])), max_size=3),
    silent=st.lists(st.tuples(st.floats(1, 40), st.floats(0.5, 10)), max_size=2),
    window=st.sampled_from([2.0, 10.0]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=examples(50))
def test_any_mixture_of_steps_and_losses_stays_within_the_bound(
    drift: float, moves: list[tuple[float, float]], silent: list[tuple[float, float]], window: float, seed: int
) -> None:
    wall, offset, at = [(0.0, 0.0)], 0.0, 0.0
    for wait, by in moves:
        at += wait
        wall.append((at, offset))
        offset += by
        wall.append((at, offset))
    unheard = tuple((a, a + length) for a, length in silent)
    steps = [at for at, _ in wall[1::2]]
    # A step that is taken back before the clocks are read again leaves no trace.
    read = read_at(60, unheard, seed)
    assume(all(any(a <= at < b for at in read) for a, b in itertools.pairwise(sorted(steps))))
    world, listener = SimulatedClocks(drift, 0, tuple(wall)), Listener(window, 3)
    capture(world, 60, listener, unheard, seed)
    assert listener.embeddings
    check(listener, world)


def test_a_burst_of_losses_is_one_event_a_second_and_counted_exactly() -> None:
    listener = Listener(2, 1)
    for tick in range(200):  # ten seconds
        gap = FilledGap(tick * 1_200 + 100, tick * 1_200 + 103 + tick % 3, GapReason.LOST if tick % 2 else GapReason.NOT_FINITE)
        listener.hear(Committed((tick + 1) * 1_200, tick, (SimulatedClocks().reading(tick / 20, 0),), (gap,)))
    listener.timeline.begin_epoch(EpochReason.RESTART)
    told = [m for m in listener.published if isinstance(m, Event) and m.event == "overflow"]
    assert 10 <= len(told) <= 12
    assert sum(event.detail["gaps"] for event in told) == 200
    assert (
        sum(event.detail["missing"] for event in told)
        == listener.timeline.counters["missing"]
        == sum(3 + k % 3 for k in range(200))
    )
    assert told[0].detail == {"missing": 3, "end": 103, "gaps": 1, "reason": "not finite"}, "the first at once"
    assert told[1].detail["reason"] == "lost, not finite"
    position = [m.event for m in listener.published if isinstance(m, Event)]
    assert position[-2:] == ["overflow", "epoch"], "before what it does not belong to"
