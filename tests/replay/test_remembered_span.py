from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.stored import BOOTS, small
from mertd.errors import StoreError, UsageError
from mertd.memory.queries import FOREVER_NS, Selection
from mertd.memory.store import Store
from mertd.replay.remembered_span import RememberedSpan, replayed_boot
from mertd.wire import Embedding, Event, Time, encode
from messages import event

S = 1_000_000_000
ALL = Selection()


def heard(seq: int, stream: str = "room", at_s: float | None = None, **changes: object) -> Embedding:
    """A window of 30 s that begins at `at_s`, by default 5 s after the one before."""
    start_ns = round((5 * seq if at_s is None else at_s) * S)
    return small(seq, stream, time=Time(start_ns, start_ns + 30 * S, 1, 0.0), **changes)


def replayed(folder: Path, selection: Selection = ALL, daemon: str | None = None) -> list[Embedding | Event]:
    return [played.message for played in RememberedSpan(folder, selection, daemon).messages()]


def test_messages_come_as_they_were_published_and_are_marked(tmp_path: Path) -> None:
    sent = [event(0, event="started", time_ns=0), heard(0), heard(1), event(1, time_ns=37 * S), heard(2)]
    with Store(tmp_path) as store:
        store.append(sent)
    found = replayed(tmp_path)
    assert [(m.kind, m.seq) for m in found] == [(m.kind, m.seq) for m in sent]
    for message, original in zip(found, sent, strict=True):
        assert (message.boot, message.daemon) == (replayed_boot(original.boot), f"replay:{original.daemon}")
        assert message.replay
        assert message.boot != original.boot


@given(
    st.lists(
        st.tuples(st.sampled_from(BOOTS), st.sampled_from("ab"), st.booleans(), st.integers(0, 9), st.integers(-99, 99)),
        max_size=60,
    ),
    st.sampled_from([1, 1 << 30]),
    st.tuples(st.integers(-50, 50), st.integers(-50, 99)),
)
@settings(max_examples=15)
def test_every_message_once_in_the_order_of_its_numbers_whatever_was_stored(
    drawn: list[tuple[bytes, str, bool, int, int]], max_file: int, span: tuple[int, int]
) -> None:
    """With holes, clocks that step, several runs, and files that are full after one batch."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = heard(0, at_s=0)
        expected = {(first.boot, first.kind, first.stream, 0): 0} if span[0] <= 0 < span[1] else {}
        highest: dict[tuple[bytes, str, str], int] = {(first.boot, first.kind, first.stream): 0}
        with Store(folder, max_file=max_file) as store:
            store.append([first])
            for boot, stream, is_event, seq, at_s in drawn:
                made = event(seq, stream, boot=boot, time_ns=at_s * S) if is_event else heard(seq, stream, at_s, boot=boot)
                source = (boot, made.kind, stream)
                if seq > highest.get(source, -1):
                    highest[source] = seq
                    store.append([made])
                    if span[0] <= at_s < span[1]:
                        expected[*source, seq] = at_s
        selection = Selection(span[0] * S, span[1] * S)
        if not expected:
            with pytest.raises(StoreError, match="nothing to replay"):
                replayed(folder, selection)
            return
        found = replayed(folder, selection)
        assert [encode(m) for m in found] == [encode(m) for m in replayed(folder, selection)]
        assert {(m.boot, m.kind, m.stream, m.seq) for m in found} == {(replayed_boot(boot), *rest) for boot, *rest in expected}
        assert len(found) == len(expected)
        by_source = sorted(found, key=lambda m: (m.boot, m.kind, m.stream))
        for _, group in groupby(by_source, key=lambda m: (m.boot, m.kind, m.stream)):
            numbers = [m.seq for m in group]
            assert numbers == sorted(numbers)
        times = [played.when_ns for played in RememberedSpan(folder, selection).messages()]
        assert times == sorted(times)


def test_a_clock_that_was_set_back_costs_no_pause_and_no_burst(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append([heard(0, at_s=1_000), heard(1, at_s=1_005), heard(2, at_s=10), heard(3, at_s=15)])
    times = [played.when_ns // S for played in RememberedSpan(tmp_path, ALL).messages()]
    assert times == [1_030, 1_035, 1_035, 1_040]


def test_runs_come_one_after_the_other(tmp_path: Path) -> None:
    with Store(tmp_path, max_file=1) as store:
        for boot in BOOTS[:3]:
            for stream in ("a", "b"):
                store.append([heard(seq, stream, boot=boot) for seq in range(3)])
    boots = [boot for boot, _ in groupby(message.boot for message in replayed(tmp_path))]
    assert boots == [replayed_boot(boot) for boot in BOOTS[:3]]


def test_what_is_stored_meanwhile_is_not_in_it(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append([heard(seq) for seq in range(100)])
        found = RememberedSpan(tmp_path, ALL).messages()
        first = next(found)
        store.append([heard(100)])
        assert [first.message.seq, *(played.message.seq for played in found)] == list(range(100))


def test_a_replay_is_of_one_daemon(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append([heard(0, daemon="attic"), heard(0, daemon="studio", boot=BOOTS[0]), heard(0, "hall", daemon="attic")])
    with pytest.raises(UsageError, match=r"2 daemons .*--daemon: attic, studio"):
        replayed(tmp_path)
    assert {m.stream for m in replayed(tmp_path, daemon="attic")} == {"room", "hall"}
    assert len(replayed(tmp_path, Selection(streams=("hall",)))) == 1
    for daemon, said in (("cellar", "it knows attic, studio, not cellar"), ("studio", "nothing of the daemon studio")):
        with pytest.raises(StoreError, match=said):
            replayed(tmp_path, Selection(since_ns=FOREVER_NS - 1), daemon)


def test_the_history_gives_what_the_replay_gives(tmp_path: Path) -> None:
    with Store(tmp_path, max_file=100_000) as store:
        for first in range(0, 300, 50):
            store.append([heard(seq) for seq in range(first, first + 50)])
    span = RememberedSpan(tmp_path, Selection(since_ns=50 * S))
    boot = replayed_boot(heard(0).boot)
    found = span.between(boot, "embedding", "room", 10, 1 << 40, 1_000)
    assert [encode(m) for m in found] == [encode(played.message) for played in span.messages()]
    assert span.firsts == {(boot, "embedding", "room"): 10}
    assert span.between(heard(0).boot, "embedding", "room", 0, 9, 9) == [], "a run has another number in a replay"
