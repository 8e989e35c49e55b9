"""The law of the timeline: windows due = embedded + silent + skipped + waiting, whatever happens to either process."""

from __future__ import annotations

import contextlib

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from daemon.simulation import Simulation
from example_counts import examples
from mertd.capture.reports import MAX_UNREPORTED_SAMPLES
from mertd.windows import Late
from mertd.wire import Embedding, Event


class TimelineMachine(RuleBasedStateMachine):
    """Reports of both processes in any order, and both may die at any moment."""

    @initialize(
        window=st.integers(500, 3_000),
        hop=st.integers(200, 4_000),
        spare=st.integers(0, 3_000),
        late=st.sampled_from(Late),
        batches=st.integers(1, 3),
    )
    def start(self, window: int, hop: int, spare: int, late: Late, batches: int) -> None:
        self.sim = Simulation(window, hop, late, window + hop + spare, batches=batches)
        self.seen = 0
        self.epochs = [0]
        self.seq = {"embedding": 0, "event": 0}
        self.missing = self.gaps = 0
        self.done: list[tuple[int, int]] = []  # (epoch, start) of every window that was accounted for
        self.skipped_since = 0

    @rule(samples=st.integers(0, 3_000), lost=st.just(0) | st.integers(1, 1_000))
    def write(self, samples: int, lost: int) -> None:
        self.sim.write(samples, lost)

    @rule()
    def report(self) -> None:
        self.sim.report()

    @rule()
    def step_clock(self) -> None:
        self.sim.step_clock()

    @rule(reports=st.integers(1, 9))
    def hear_capture(self, reports: int) -> None:
        self.sim.hear_capture(reports)

    @rule(in_order=st.booleans(), meanwhile=st.booleans())
    def lose_capture(self, in_order: bool, meanwhile: bool) -> None:
        self.sim.lose_capture(in_order)
        if meanwhile:
            self.sim.copy()
            self.sim.hear_embed()
        self.sim.restart_capture()

    @rule(most=st.integers(1, 4))
    def take(self, most: int) -> None:
        self.sim.take(most)

    @rule()
    def copy(self) -> None:
        self.sim.copy()

    @rule(silent=st.booleans())
    def answer(self, silent: bool) -> None:
        self.sim.answer(silent)

    @rule(reports=st.integers(1, 9))
    def hear_embed(self, reports: int) -> None:
        self.sim.hear_embed(reports)

    @rule()
    def lose_embed(self) -> None:
        self.sim.lose_embed()

    @invariant()
    def nothing_is_lost_in_silence(self) -> None:
        self.follow()
        counters = self.sim.timeline.counters
        assert counters["due"] == counters["embedded"] + counters["silent"] + counters["skipped"] + counters["waiting"]
        assert counters["due"] - counters["waiting"] == len(self.done) == len(set(self.done))
        assert counters["skipped"] == sum(self.sim.timeline.skips.values())

    def follow(self) -> None:
        """Check every message since the last look."""
        for message in self.sim.published[self.seen :]:
            assert message.seq == self.seq[message.kind], "no holes"
            self.seq[message.kind] += 1
            if isinstance(message, Embedding):
                self.embedding(message)
            else:
                self.event(message)
        self.seen = len(self.sim.published)

    def embedding(self, message: Embedding) -> None:
        start, end = message.window.start, message.window.end
        token = int(message.vector[0, 0])
        assert (start, end) == self.sim.windows[token]
        assert np.array_equal(self.sim.samples_of(message), self.sim.truth[start:end]), "made of samples overwritten meanwhile"
        gaps = self.sim.reported_gaps
        assert message.audio.missing == sum(max(0, min(gap.end, end) - max(gap.start, start)) for gap in gaps)
        assert message.skipped == self.skipped_since
        self.skipped_since = 0
        self.in_order(message.epoch, start)

    def event(self, message: Event) -> None:
        detail, sim = message.detail, self.sim
        match message.event:
            case "epoch":
                self.epochs.append(message.index)
            case "overflow":
                told = sim.reported_gaps[self.gaps : self.gaps + detail["gaps"]]
                assert (message.index, detail["end"]) == (told[0].start, told[-1].end), "one event for consecutive gaps"
                assert detail["missing"] == sum(gap.end - gap.start for gap in told)
                self.gaps += len(told)
                self.missing += detail["missing"]
            case "silent":
                self.in_order(message.epoch, message.index)
            case "skipped":
                self.skipped_since += detail["windows"]
                starts = [message.index + k * sim.hop for k in range(detail["windows"])]
                assert detail["end"] == starts[-1] + sim.window
                self.done += [(message.epoch, start) for start in starts]
                if detail["reason"] == "overwritten":
                    assert sim.most_written + MAX_UNREPORTED_SAMPLES - starts[0] > sim.capacity, "given up too early"

    def in_order(self, epoch: int, start: int) -> None:
        assert (start - self.epochs[epoch]) % self.sim.hop == 0
        assert not self.done or all((epoch, start) > other for other in self.done[-1:] if other in self.answered)
        self.answered.append((epoch, start))
        self.done.append((epoch, start))

    @property
    def answered(self) -> list[tuple[int, int]]:
        return self.__dict__.setdefault("_answered", [])

    def teardown(self) -> None:
        if hasattr(self, "sim"):
            self.sim.finish()
            self.follow()
            assert not self.sim.timeline.waiting
            assert (
                self.sim.timeline.counters["missing"]
                == self.missing
                == sum(gap.end - gap.start for gap in self.sim.reported_gaps)
            )
            assert sorted(self.done) == sorted(self.expected()), "every window of every epoch, once"
            self.sim.ring.close()

    def expected(self) -> list[tuple[int, int]]:
        ends = [*self.epochs[1:], self.sim.timeline.end]
        return [
            (epoch, start)
            for epoch, (first, end) in enumerate(zip(self.epochs, ends, strict=True))
            for start in range(first, end - self.sim.window + 1, self.sim.hop)
        ]


TestTimeline = TimelineMachine.TestCase
TestTimeline.settings = settings(max_examples=examples(240), stateful_step_count=50)


class AttentiveMachine(TimelineMachine):
    """The same when the supervisor takes in all reports before it hears of a copy, and the ring holds more than is in doubt."""

    @initialize(
        window=st.integers(500, 3_000),
        hop=st.integers(200, 4_000),
        spare=st.integers(-500, 3_000),
        late=st.sampled_from(Late),
        batches=st.integers(1, 3),
    )
    def start(self, window: int, hop: int, spare: int, late: Late, batches: int) -> None:
        super().start(window, hop, max(0, MAX_UNREPORTED_SAMPLES - hop + spare), late, batches)
        self.sim.attentive = True

    @rule(samples=st.integers(0, 2 * MAX_UNREPORTED_SAMPLES))
    def embed_what_is_written_meanwhile(self, samples: int) -> None:
        self.sim.take(4)
        self.sim.write(samples)
        self.sim.copy()
        self.sim.answer()
        self.sim.hear_embed(9)


TestAttentive = AttentiveMachine.TestCase
TestAttentive.settings = settings(max_examples=examples(40), stateful_step_count=50)


class WishesMachine(TimelineMachine):
    """The same when people ask for windows in between and change the hop, so that nobody can say beforehand which are due."""

    @rule()
    def ask(self) -> None:
        with contextlib.suppress(ValueError):
            window = self.sim.timeline.ask(self.sim.tick())
            assert (window.epoch, window.end) == (self.sim.timeline.epoch, self.sim.timeline.end)

    @rule(hop=st.integers(1, 8_000))
    def change_hop(self, hop: int) -> None:
        with contextlib.suppress(ValueError):
            self.sim.timeline.change(hop)

    @invariant()
    def nothing_is_lost_in_silence(self) -> None:
        self.follow()
        counters = self.sim.timeline.counters
        assert counters["due"] == counters["embedded"] + counters["silent"] + counters["skipped"] + counters["waiting"]
        assert counters["due"] - counters["waiting"] == len(self.done)

    def event(self, message: Event) -> None:
        if message.event == "skipped":
            self.skipped_since += message.detail["windows"]
            self.done += [(message.epoch, -1)] * message.detail["windows"]
        else:
            super().event(message)

    def in_order(self, epoch: int, start: int) -> None:
        self.done.append((epoch, start))

    def expected(self) -> list[tuple[int, int]]:
        assert len(self.done) == self.sim.timeline.counters["due"]
        return self.done


TestWishes = WishesMachine.TestCase
TestWishes.settings = settings(max_examples=examples(160), stateful_step_count=50)
