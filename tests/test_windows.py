"""Every window that becomes due leaves exactly once, in order, and at the right samples."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from example_counts import examples
from mertd.vocabulary import SkipReason
from mertd.windows import MAX_ASKED, Late, Schedule, Skip, Window


class ScheduleMachine(RuleBasedStateMachine):
    """A writer, a reader and a restless operator, against the definition of a window written down naively."""

    @initialize(
        window=st.integers(1, 30),
        hop=st.integers(1, 40),
        spare=st.integers(0, 60),
        late=st.sampled_from(Late),
        careful=st.booleans(),
    )
    def start(self, window: int, hop: int, spare: int, late: Late, careful: bool) -> None:
        self.window, self.hop, self.late, self.careful = window, hop, late, careful
        self.capacity = window + hop + spare
        self.schedule = Schedule(window, hop, late, self.capacity)
        self.epoch, self.base, self.end = 0, 0, 0
        self.due: list[Window] = []
        self.left: list[Window] = []
        self.reading: list[Window] = []

    def expected(self) -> list[Window]:
        """All whole windows of this epoch so far, by the definition: start = base + k * hop."""
        starts = range(self.base, self.end - self.window + 1, self.hop)
        return [Window(self.epoch, start, start + self.window) for start in starts]

    @rule(samples=st.integers(0, 200))
    def write(self, samples: int) -> None:
        if self.careful:
            samples = min(samples, self.schedule.limit - self.end)
        self.end += samples
        fresh, skips = self.schedule.committed(self.end)
        known = [w for w in self.due if w.epoch == self.epoch]
        assert known + fresh == self.expected()
        self.due += fresh
        lost = self.leave(skips, "overwritten")
        assert all(self.end - w.start > self.capacity for w in lost)
        assert all(self.end - w.start <= self.capacity for w in self.waiting)
        if self.careful:
            assert not lost, "the writer kept to the limit"

    @rule(most=st.integers(1, 5))
    def take(self, most: int) -> None:
        waiting = self.waiting
        taken, skips = self.schedule.take(most)
        lost = self.leave(skips, "late")
        if self.late is Late.LATEST:
            assert taken == waiting[-1:]
            assert lost == waiting[:-1]
        else:
            assert taken == waiting[:most]
            assert not lost
        self.left += taken
        self.reading += taken

    @precondition(lambda self: self.reading)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        window = data.draw(st.sampled_from(self.reading))
        self.reading.remove(window)
        self.schedule.finished(window)

    @rule()
    def new_epoch(self) -> None:
        self.epoch, self.base = self.epoch + 1, self.end
        self.schedule.begin(self.epoch, self.end)

    @rule()
    def the_writer_is_never_stuck(self) -> None:
        """Once all that is due has been read, the next window can be completed."""
        while self.waiting:
            self.take(1)
        while self.reading:
            self.schedule.finished(self.reading.pop())
        starts_next = next(s for s in range(self.base, self.end + self.hop + 1, self.hop) if s + self.window > self.end)
        assert self.schedule.limit >= starts_next + self.window

    def leave(self, skips: list[Skip], reason: str) -> list[Window]:
        """The windows that skips stand for, which leave now."""
        lost = []
        for skip in skips:
            starts = [skip.start + k * self.hop for k in range(skip.windows)]
            assert skip.windows > 0
            assert skip.reason == reason
            assert skip.end == starts[-1] + self.window
            lost += [Window(skip.epoch, start, start + self.window) for start in starts]
        assert lost == self.waiting[: len(lost)], "the oldest ones, in order"
        self.left += lost
        return lost

    @property
    def waiting(self) -> list[Window]:
        return self.due[len(self.left) :]

    @invariant()
    def each_leaves_once_and_in_order(self) -> None:
        assert self.left == self.due[: len(self.left)]
        assert len(set(self.due)) == len(self.due)
        assert self.schedule.due_total == len(self.due)
        assert self.schedule.waiting == len(self.waiting)

    @invariant()
    def nothing_that_is_needed_may_be_written_over(self) -> None:
        for window in self.reading + self.waiting:
            assert self.schedule.limit <= window.start + self.capacity


TestSchedule = ScheduleMachine.TestCase
TestSchedule.settings = settings(max_examples=examples(300), stateful_step_count=40)


class WishesMachine(RuleBasedStateMachine):
    """The same schedule while clients ask for windows and change the hop, against a model that remembers every window.

    The hop's windows start at `first`, `first + hop`, … and those of them that a client has asked for do not become due again.
    """

    @initialize(
        window=st.integers(1, 30),
        hop=st.integers(1, 40),
        spare=st.integers(0, 60),
        late=st.sampled_from(Late),
        careful=st.booleans(),
    )
    def start(self, window: int, hop: int, spare: int, late: Late, careful: bool) -> None:
        self.window, self.hop, self.late, self.careful = window, hop, late, careful
        self.capacity = window + hop + spare
        self.schedule = Schedule(window, hop, late, self.capacity)
        self.epoch, self.base, self.end = 0, 0, 0
        self.first = 0  # start of the first window by the present hop
        self.last: int | None = None  # start of the hop's latest window in this epoch
        self.due: list[Window] = []  # all that ever became due, in order
        self.known: set[Window] = set()  # the same
        self.waiting: list[Window] = []  # those that were neither taken nor skipped
        self.asked: set[Window] = set()
        self.reading: list[Window] = []

    @property
    def grid(self) -> list[int]:
        """Starts of all whole windows by the present hop, since it was set."""
        return list(range(self.first, self.end - self.window + 1, self.hop))

    def become_due(self, windows: list[Window]) -> None:
        for window in windows:
            assert window not in self.known, "a window becomes due once"
            assert not self.due or window.start > self.due[-1].start, "in order"
            self.known.add(window)
            self.due.append(window)
            self.waiting.append(window)

    @rule(samples=st.integers(0, 60))
    def write(self, samples: int) -> None:
        if self.careful:
            samples = min(samples, self.schedule.limit - self.end)
        self.end += samples
        fresh, skips = self.schedule.committed(self.end)
        windows = [Window(self.epoch, start, start + self.window) for start in self.grid]
        assert fresh == [window for window in windows if window not in self.known]
        self.become_due(fresh)
        self.last = self.grid[-1] if self.grid else self.last
        lost = self.leave(skips, "overwritten")
        assert all(self.end - window.start > self.capacity for window in lost)
        assert all(self.end - window.start <= self.capacity for window in self.waiting)
        assert not (self.careful and lost), "the writer kept to the limit"

    @rule()
    def ask(self) -> None:
        newest = Window(self.epoch, self.end - self.window, self.end)
        waiting = self.asked.intersection(self.waiting)
        try:
            window, fresh = self.schedule.ask()
        except ValueError:
            assert newest.start < self.base or len(waiting) == MAX_ASKED
            return
        assert window == newest
        assert fresh == (window not in self.known)
        if fresh:
            self.become_due([window])
        self.asked.add(window)

    @rule(hop=st.integers(-1, 120))
    def change_hop(self, hop: int) -> None:
        if not 0 < hop <= self.capacity - self.window:
            with pytest.raises(ValueError, match="does not fit"):
                self.schedule.change_hop(hop)
            return
        self.schedule.change_hop(hop)
        if self.last is not None:
            self.first = max(self.last + hop, self.end - self.window)
        self.hop = hop

    @rule(apart=st.integers(0, 3), skipped=st.integers(1, 3))
    def new_epoch(self, apart: int, skipped: int) -> None:
        self.epoch, self.last = self.epoch + skipped, None
        self.base = self.first = self.end = self.end + (0 if self.careful else apart)
        self.schedule.begin(self.epoch, self.base)

    @rule(back=st.integers(0, 2), before=st.integers(1, 50))
    def an_epoch_that_would_go_back_is_refused(self, back: int, before: int) -> None:
        with pytest.raises(ValueError, match="cannot begin"):
            self.schedule.begin(self.epoch - back, self.end)
        with pytest.raises(ValueError, match="cannot begin"):
            self.schedule.begin(self.epoch + 1, self.end - before)

    @rule(most=st.integers(1, 5))
    def take(self, most: int) -> None:
        waiting = list(self.waiting)
        taken, skips = self.schedule.take(most)
        late = self.leave(skips, "late")
        if self.late is Late.LATEST:
            assert late == [window for window in waiting if window not in self.asked][:-1]
        else:
            assert not late
        assert taken == self.waiting[:most]
        del self.waiting[:most]
        self.reading += taken

    @precondition(lambda self: self.reading)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        window = data.draw(st.sampled_from(self.reading))
        self.reading.remove(window)
        self.schedule.finished(window)

    def leave(self, skips: list[Skip], reason: str) -> list[Window]:
        """The windows that skips stand for, which leave now."""
        all_lost = []
        for skip in skips:
            assert skip.reason == reason
            at = bisect_left(self.due, skip.start, key=lambda window: window.start)
            lost = self.due[at : at + skip.windows]
            assert (len(lost), lost[0].start, lost[-1].end) == (skip.windows, skip.start, skip.end), "consecutive ones"
            assert {window.epoch for window in lost} == {skip.epoch}
            all_lost += lost
        gone = set(all_lost)
        assert len(gone) == len(all_lost)
        assert gone <= set(self.waiting), "each leaves once"
        self.waiting = [window for window in self.waiting if window not in gone]
        return all_lost

    @invariant()
    def each_is_counted_once(self) -> None:
        assert self.schedule.due_total == len(self.due)
        assert self.schedule.waiting == len(self.waiting)

    @invariant()
    def nothing_that_is_needed_may_be_written_over(self) -> None:
        assert all(self.schedule.limit <= window.start + self.capacity for window in self.reading + self.waiting)
        assert not self.careful or self.schedule.limit >= self.end


TestWishes = WishesMachine.TestCase
TestWishes.settings = settings(max_examples=examples(300), stateful_step_count=40)


@pytest.mark.parametrize("asked_first", [True, False])
def test_a_window_that_was_asked_for_does_not_become_due_again_by_a_new_hop(asked_first: bool) -> None:
    schedule = Schedule(1, 2, Late.QUEUE, 100)
    schedule.committed(2)
    if asked_first:
        schedule.ask()
    schedule.change_hop(1)
    assert schedule.ask() == (Window(0, 1, 2), not asked_first)
    assert schedule.committed(2) == ([], [])
    assert schedule.committed(3) == ([Window(0, 2, 3)], [])
    assert schedule.take(9) == ([Window(0, start, start + 1) for start in range(3)], [])


def test_the_hop_and_a_client_never_make_the_same_window_due() -> None:
    """Neither after one change of the hop nor after several, with samples in between or without."""
    schedule = Schedule(48, 24, Late.QUEUE, 1_440)
    schedule.committed(60)
    asked, _ = schedule.ask()
    for hop in (6, 3, 24, 6):
        schedule.change_hop(hop)
        assert schedule.ask() == (asked, False)
    assert schedule.committed(60) == ([], [])
    assert schedule.committed(66) == ([Window(0, 18, 66)], [])
    assert schedule.take(9)[0] == [Window(0, 0, 48), Window(0, 12, 60), Window(0, 18, 66)]


def test_a_hop_that_is_set_back_leaves_the_windows_where_they_were() -> None:
    schedule = Schedule(48, 24, Late.QUEUE, 1_440)
    schedule.committed(60)
    schedule.change_hop(6)
    schedule.change_hop(24)
    assert schedule.committed(96)[0] == [Window(0, start, start + 48) for start in (24, 48)]


def test_a_window_that_a_client_asks_for_is_kept_even_if_the_hop_made_it_due() -> None:
    schedule = Schedule(10, 5, Late.LATEST, 100)
    schedule.committed(20)
    assert schedule.ask() == (Window(0, 10, 20), False)
    schedule.committed(30)
    assert schedule.take(9) == (
        [Window(0, 10, 20), Window(0, 20, 30)],
        [Skip(0, 2, 0, 15, SkipReason.LATE), Skip(0, 1, 15, 25, SkipReason.LATE)],
    )


def test_a_skip_does_not_cover_a_window_that_stays() -> None:
    schedule = Schedule(10, 5, Late.LATEST, 100)
    schedule.committed(12)
    asked, _ = schedule.ask()
    schedule.committed(25)
    taken, skips = schedule.take(1)
    assert taken == [asked] == [Window(0, 2, 12)]
    assert skips == [Skip(0, 1, 0, 10, SkipReason.LATE), Skip(0, 2, 5, 20, SkipReason.LATE)]


def test_a_skip_does_not_cover_a_window_that_was_skipped_before() -> None:
    """Two windows that clients asked for are overwritten; the one between them had been skipped as late (seed 1564922600)."""
    schedule = Schedule(1, 1, Late.LATEST, 5)
    for end in (2, 3):
        schedule.committed(end)
        schedule.ask()
    schedule.committed(5)
    assert schedule.take(1) == ([Window(0, 1, 2)], [Skip(0, 1, 0, 1, SkipReason.LATE), Skip(0, 1, 3, 4, SkipReason.LATE)])
    _, skips = schedule.committed(10)
    assert skips == [Skip(0, 1, 2, 3, SkipReason.OVERWRITTEN), Skip(0, 1, 4, 5, SkipReason.OVERWRITTEN)]


@given(parts=st.lists(st.integers(0, 50), max_size=30), window=st.integers(1, 20), hop=st.integers(1, 20))
def test_how_samples_arrive_does_not_matter(parts: list[int], window: int, hop: int) -> None:
    piecewise, at_once = (Schedule(window, hop, Late.QUEUE, 10_000) for _ in range(2))
    end, found = 0, []
    for part in parts:
        end += part
        found += piecewise.committed(end)[0]
    assert found == at_once.committed(end)[0]


def test_default_windows_at_24_khz() -> None:
    schedule = Schedule(720_000, 120_000, Late.LATEST, 1_560_000)
    assert schedule.committed(719_999) == ([], [])
    assert schedule.committed(720_000) == ([Window(0, 0, 720_000)], [])
    assert schedule.committed(1_080_000)[0] == [Window(0, s, s + 720_000) for s in (120_000, 240_000, 360_000)]
    assert schedule.take() == ([Window(0, 360_000, 1_080_000)], [Skip(0, 3, 0, 960_000, "late")])


def test_an_epoch_goes_on_counting_and_leaves_no_window_across_the_seam() -> None:
    schedule = Schedule(10, 5, Late.QUEUE, 100)
    schedule.committed(18)
    schedule.begin(1, 18)
    assert schedule.committed(27) == ([], [])
    assert schedule.committed(28) == ([Window(1, 18, 28)], [])
    assert schedule.take(3)[0] == [Window(0, 0, 10), Window(0, 5, 15), Window(1, 18, 28)]


def test_skips_of_two_epochs_are_told_apart() -> None:
    schedule = Schedule(10, 5, Late.LATEST, 100)
    schedule.committed(20)
    schedule.begin(1, 20)
    schedule.committed(40)
    taken, skips = schedule.take()
    assert taken == [Window(1, 30, 40)]
    assert skips == [Skip(0, 3, 0, 20, "late"), Skip(1, 2, 20, 35, "late")]


def test_a_report_that_repeats_itself_changes_nothing() -> None:
    schedule = Schedule(10, 5, Late.QUEUE, 100)
    schedule.committed(20)
    assert schedule.committed(20) == ([], [])
    assert schedule.due_total == 3


@pytest.mark.parametrize(("window", "hop", "capacity"), [(0, 5, 100), (10, 0, 100), (-1, 5, 100), (10, 5, 14)])
def test_what_cannot_work_is_refused(window: int, hop: int, capacity: int) -> None:
    with pytest.raises(ValueError, match="window"):
        Schedule(window, hop, Late.QUEUE, capacity)
