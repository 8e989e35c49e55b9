"""The times of what comes through a FIFO whose writer drops sound: each is within its bound of when the sound was made."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capture.from_url import settings_for
from capture.scripted_fifo import MS, SECOND, ScriptedFifo, Stretch
from capture.simulated_clocks import RATE
from example_counts import examples
from mertd.capture import recorder
from mertd.capture.clock import Clock
from mertd.capture.clock_fit import OUTLIER_S
from mertd.capture.recorder import CaptureControl, Recorder
from mertd.capture.reports import Committed
from mertd.capture.sources.pipe import PipeSource
from mertd.ring import Ring

STEP = RATE // 100
"""Samples between two whose time is checked."""

SLACK_NS = round(OUTLIER_S * 1e9)
"""Nanoseconds by which readings may be late before a pause is assumed."""

AGES_S = (0.0, 0.5, 2.5)
"""Seconds that samples are old when their time is asked for, as windows are embedded sooner or later."""


INTO_BLOCK_MS = [5, pytest.param(15, marks=pytest.mark.slow), 25, pytest.param(35, marks=pytest.mark.slow), 45]


class Listener:
    """Asks for the times of samples as soon as they are reported, and again later, and holds them against the truth."""

    def __init__(self, fifo: ScriptedFifo) -> None:
        self.bounds_ns: dict[int, int] = {}  # of samples, as soon as they were reported
        self.wrong: list[str] = []
        self._fifo = fifo
        self._clock = Clock(RATE)
        self._end = 0

    def hear(self, message: object) -> None:
        if not isinstance(message, Committed):
            return
        for reading in message.readings:
            self._clock.add(reading)
        for age_s in AGES_S:
            past = round(age_s * RATE)
            for index in range(max(0, self._end - past), message.end - past + 1):
                if index and index % STEP == 0:
                    self._check(index, age_s)
        self._end = message.end

    def _check(self, index: int, age_s: float) -> None:
        """As the end of a window, and as the start of one if there is a sample after it."""
        time, made = self._clock.at(index), self._fifo.made_ns
        if not age_s:
            self.bounds_ns[index] = time.error_ns
        truths = [made[index - 1] + SECOND // RATE, *made[index : min(index + 1, self._end)]]
        for truth in truths:
            if abs(time.unix_ns - truth) > time.error_ns + SLACK_NS:
                off = f"off by {(time.unix_ns - truth) / MS:+.1f} ms, bound {time.error_ns / MS:.1f} ms"
                self.wrong.append(f"sample {index}, {age_s} s later: {off}")


def listen(patch: pytest.MonkeyPatch, fifo: ScriptedFifo) -> Listener:
    fifo.install(patch)
    patch.setattr(recorder, "read_clocks", fifo.read_clocks)
    settings_ = settings_for(f"pipe:-?rate={RATE}&channels=1&format=f32le", realtime=True)
    listener = Listener(fifo)
    Recorder(settings_, PipeSource(settings_, 0), Ring(10 * RATE), listener.hear, CaptureControl()).run()
    return listener


@pytest.mark.parametrize("into_block_ms", INTO_BLOCK_MS)
@pytest.mark.parametrize("begin_s", [1.5, 6.0])
def test_a_writer_that_drops_a_second_after_a_part_of_a_block(
    into_block_ms: int, begin_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reading of the block after the gap is the only one to tell of it, however close it is to the one before."""
    begin = round(begin_s * SECOND) + into_block_ms * MS
    listener = listen(monkeypatch, ScriptedFifo(10 * SECOND, muted=(Stretch(begin, begin + SECOND),)))
    assert not listener.wrong
    ordinary = [bound for index, bound in listener.bounds_ns.items() if 5 < index / RATE < begin_s]
    assert all(bound < 20 * MS for bound in ordinary)


@pytest.mark.parametrize("into_block_ms", INTO_BLOCK_MS)
@pytest.mark.parametrize("starved_s", [0.3, 1.5])
def test_a_reader_that_is_not_scheduled_while_the_writer_drops(
    into_block_ms: int, starved_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sound from before and after the gap comes in one block, or the FIFO was full and has none from between."""
    begin = 6 * SECOND + into_block_ms * MS
    muted = (Stretch(begin, begin + round(0.29 * SECOND)),) if starved_s < 1 else ()
    fifo = ScriptedFifo(11 * SECOND, muted=muted, starved=(Stretch(begin, begin + round(starved_s * SECOND)),))
    listener = listen(monkeypatch, fifo)
    assert len(fifo.made_ns) < 10.9 * RATE, "nothing was dropped"
    assert not listener.wrong


@pytest.mark.parametrize("every_ms", [60, 93, 125, 250])
def test_a_writer_that_writes_seldom_is_dated_by_its_writes(every_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of a write after the last whole block is dated by when it was read, not by when no more came after it."""
    assert not listen(monkeypatch, ScriptedFifo(8 * SECOND, every_ms * MS)).wrong


STRETCH = st.tuples(st.integers(300, 4_000), st.integers(1, 2_000)).map(lambda at: Stretch(at[0] * MS, (at[0] + at[1]) * MS))
"""After the first reading: how late that one is, no other tells."""

STRETCHES = st.lists(STRETCH, max_size=3).map(tuple)


@given(every_ms=st.integers(1, 250), muted=STRETCHES, starved=STRETCHES)
@example(every_ms=1, muted=(Stretch(14 * MS, 540 * MS),), starved=())
@example(every_ms=46, muted=(), starved=(Stretch(300 * MS, 1012 * MS),))
@settings(max_examples=examples(20), deadline=None)
def test_whatever_the_writer_drops_and_the_reader_misses(
    every_ms: int, muted: tuple[Stretch, ...], starved: tuple[Stretch, ...]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        assert not listen(patch, ScriptedFifo(7 * SECOND, every_ms * MS, muted, starved)).wrong
