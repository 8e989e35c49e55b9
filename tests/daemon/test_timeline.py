"""The law of the timeline: windows due = embedded + silent + skipped + waiting, whatever happens to either process."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from daemon.simulation import RATE, Simulation
from mertd.capture.messages import WRITE
from mertd.windows import Late
from mertd.wire import Embedding, Event


class TimelineMachine(RuleBasedStateMachine):
    """Reports of both processes in any order, and both may die at any moment."""

    @initialize(
        window=st.integers(500, 3_000), hop=st.integers(200, 4_000), spare=st.integers(0, 3_000), late=st.sampled_from(Late)
    )
    def start(self, window: int, hop: int, spare: int, late: Late) -> None:
        self.sim = Simulation(window, hop, late, window + hop + spare)
        self.seen = 0
        self.epochs = [0]
        self.seq = {"embedding": 0, "event": 0}
        self.missing: list[tuple[int, int]] = []
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
        assert message.audio.missing == sum(max(0, min(b, end) - max(a, start)) for a, b in self.missing)
        assert message.skipped == self.skipped_since
        self.skipped_since = 0
        self.in_order(message.epoch, start)

    def event(self, message: Event) -> None:
        detail, sim = message.detail, self.sim
        match message.event:
            case "epoch":
                self.epochs.append(message.index)
            case "overflow":
                self.missing.append((message.index, detail["end"]))
            case "silent":
                self.in_order(message.epoch, message.index)
            case "skipped":
                self.skipped_since += detail["windows"]
                starts = [message.index + k * sim.hop for k in range(detail["windows"])]
                assert detail["end"] == starts[-1] + sim.window
                self.done += [(message.epoch, start) for start in starts]
                if detail["reason"] == "overwritten":
                    assert sim.most_written + WRITE - starts[0] > sim.capacity, "given up too early"

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
            assert self.sim.timeline.missing == sum(b - a for a, b in self.missing)
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
TestTimeline.settings = settings(max_examples=70, stateful_step_count=40)


@pytest.fixture
def sim() -> Simulation:
    return Simulation(window=1_000, hop=500, late=Late.QUEUE, capacity=4_000)


def embed(sim: Simulation, most: int = 4) -> None:
    sim.take(most)
    sim.copy()
    sim.answer()
    sim.hear_embed(10)


def capture(sim: Simulation, samples: int, lost: int = 0) -> None:
    sim.write(samples, lost)
    sim.report()
    sim.hear_capture(100)


def embeddings(sim: Simulation) -> list[Embedding]:
    return [message for message in sim.published if isinstance(message, Embedding)]


def skips(sim: Simulation) -> list[tuple[int, str]]:
    return [(m.index, m.detail["reason"]) for m in sim.published if isinstance(m, Event) and m.event == "skipped"]


def test_a_vector_waits_until_its_samples_are_known_to_have_been_whole(sim: Simulation) -> None:
    capture(sim, 1_000)
    embed(sim)
    assert not embeddings(sim), "capture may have written while they were copied"
    capture(sim, 1)
    assert [m.window.start for m in embeddings(sim)] == [0]


def test_samples_overwritten_while_they_were_read_are_noticed(sim: Simulation) -> None:
    capture(sim, 1_000)
    sim.take(1)
    sim.write(3_001)  # over the first sample of the window, and not yet reported
    sim.copy()
    sim.answer()
    sim.hear_embed(10)
    assert not embeddings(sim)
    sim.report()
    sim.hear_capture()
    assert not embeddings(sim)
    assert skips(sim)[0] == (0, "overwritten")


def test_a_report_from_before_the_copy_proves_nothing(sim: Simulation) -> None:
    """Both processes write to pipes of their own: an old report may be heard after a newer copy."""
    capture(sim, 1_000)
    sim.take(1)
    sim.report()
    sim.write(3_001)
    sim.copy()
    sim.answer()
    sim.hear_embed(10)
    sim.hear_capture(1)
    assert not embeddings(sim), "what was written between the report and the copy is not known yet"
    sim.report()
    sim.hear_capture(1)
    assert not embeddings(sim)
    assert skips(sim)[0] == (0, "overwritten")


def test_samples_overwritten_after_they_were_read_do_not_matter(sim: Simulation) -> None:
    capture(sim, 1_000)
    sim.take(1)
    sim.copy()
    sim.report()  # says nothing new, but was made after the copy
    sim.write(3_500)
    sim.report()
    sim.answer()
    sim.hear_embed(10)
    sim.hear_capture(10)
    assert [m.window.start for m in embeddings(sim)] == [0]


def test_a_dead_capture_process_may_have_written_more_than_it_said(sim: Simulation) -> None:
    capture(sim, 1_000)
    sim.take(1)
    sim.copy()
    sim.hear_embed()
    sim.lose_capture(in_order=False)
    sim.answer()
    sim.hear_embed()
    assert skips(sim) == [(0, "overwritten")], f"up to {WRITE} samples were in doubt"


def test_what_a_dead_capture_process_may_have_written_is_not_forgotten_when_the_next_one_begins(sim: Simulation) -> None:
    capture(sim, 1_000)
    sim.write(3_500)  # over half of the window; then it dies, and nobody ever hears of it
    sim.lose_capture(in_order=False)
    sim.restart_capture()
    embed(sim)
    capture(sim, 100)
    assert not embeddings(sim)
    assert skips(sim) == [(0, "overwritten")]


def test_what_the_next_capture_process_writes_counts_too(sim: Simulation) -> None:
    capture(sim, 1_000)
    sim.lose_capture(in_order=True)
    sim.restart_capture()
    sim.take(1)
    sim.write(3_500)
    sim.copy()
    sim.answer()
    sim.hear_embed(10)
    assert not embeddings(sim), "the end of the process before says nothing of this one"
    capture(sim, 1)
    assert skips(sim)[0] == (0, "overwritten")


def test_a_second_copy_is_judged_anew(sim: Simulation) -> None:
    """The first model process died after its copy was found whole."""
    capture(sim, 1_000)
    sim.take(1)
    sim.copy()
    sim.hear_embed()
    capture(sim, 1)
    sim.lose_embed()
    sim.take(1)
    sim.write(3_500)
    sim.copy()
    sim.answer()
    sim.hear_embed(10)
    assert not embeddings(sim)
    capture(sim, 1)
    assert skips(sim)[0] == (0, "overwritten")


def test_a_window_that_kills_the_model_twice_is_given_up(sim: Simulation) -> None:
    capture(sim, 1_000)
    for attempt in range(2):
        sim.take(1)
        assert sim.asked[0][0].start == 0, attempt
        sim.lose_embed()
    assert skips(sim) == [(0, "failed")]
    capture(sim, 500)
    embed(sim)
    capture(sim, 1)
    assert [(m.window.start, m.skipped) for m in embeddings(sim)] == [(500, 1)]


def test_missing_samples_are_counted_in_each_window_that_has_them(sim: Simulation) -> None:
    capture(sim, 900, lost=0)
    capture(sim, 600, lost=200)  # [900, 1100) is missing
    embed(sim)
    capture(sim, 1)
    assert [(m.window.start, m.audio.missing) for m in embeddings(sim)] == [(0, 100), (500, 200)]
    assert sim.timeline.counters["missing"] == 200


def test_times_come_from_the_clock_of_the_windows_own_epoch(sim: Simulation) -> None:
    capture(sim, 1_000)
    sim.step_clock()
    sim.hear_capture(10)
    capture(sim, 1_000)
    embed(sim)
    capture(sim, 1)
    assert [m.epoch for m in embeddings(sim)] == [0, 1]
    for message in embeddings(sim):
        assert message.time.start_ns == pytest.approx(message.window.start * 10**9 // RATE, abs=1_000)
        assert message.time.end_ns - message.time.start_ns == 10**9
