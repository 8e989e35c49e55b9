"""Whatever is on the bus, in whatever order runs are mixed, and whenever a client dies: each message once, every hole known."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mertd.bus.bus_cursor import BusPlaces
from mertd.bus.bus_numbering import MAX_RUNS, BusNumbering
from mertd.bus.bus_progress import BusProgress
from mertd.bus.stream_consumer import StreamPlace
from mertd.wire import Event
from messages import event

BOOTS = [bytes([number]) * 16 for number in range(3)]

RUNS = st.tuples(st.sampled_from(["hall", "attic"]), st.sampled_from(["room", "bar"]), st.sampled_from(BOOTS))


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    """What a bus holds: runs of daemons, mixed, each in order, with holes; and parts of them again, behind the original."""
    held: list[Event] = []
    following: dict[Any, int] = {}
    for run in draw(st.lists(RUNS, max_size=40)):
        daemon, stream, boot = run
        if held and draw(st.integers(0, 4)) == 0:
            held.append(draw(st.sampled_from(held)))
        seq = following.get(run, 0) + draw(st.sampled_from([0, 0, 0, 1, 3]))
        following[run] = seq + 1
        held.append(event(seq, stream, daemon=daemon, boot=boot))
    return held


@given(streams(), st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.integers(0, 3))), st.booleans())
def test_each_message_once_and_every_hole_known(held: list[Event], lives: list[tuple[int, bool, int]], by_hand: bool) -> None:
    """`lives`: how many messages each takes, whether it saves at its end, and how many it is not done with by then."""
    saved = BusPlaces(StreamPlace("x", 1), {}, None)
    finished: list[Event] = []
    lost: dict[tuple[Any, ...], set[int]] = {}
    for takes, saves, undone in [*lives, (len(held), True, 0)]:
        progress = BusProgress(saved, resume={})
        taken: list[tuple[Event, int]] = []
        assert saved.place is not None
        for number in range(saved.place.seq, len(held) + 1):
            if len(taken) >= takes:
                break
            message = held[number - 1]
            if (missing := progress.accept(message, StreamPlace("x", number + 1))) is not None:
                taken.append((message, missing))
                if not by_hand and len(taken) > 1:
                    progress.finish(taken[-2][0])
        done = taken[: len(taken) - undone] if by_hand else taken[: max(0, len(taken) - min(undone, 1))]
        for message, _ in done:
            progress.finish(message)
        if not saves:
            continue  # killed: nothing that it did counts
        saved = progress.places
        for message, missing in done:
            finished.append(message)
            key = (message.daemon, message.stream, message.boot)
            lost.setdefault(key, set()).update(range(message.seq - missing, message.seq))
    assert len({(m.daemon, m.stream, m.boot, m.seq) for m in finished}) == len(finished)
    for daemon, stream, boot in {(m.daemon, m.stream, m.boot) for m in held}:
        there = {m.seq for m in held if (m.daemon, m.stream, m.boot) == (daemon, stream, boot)}
        came = [m.seq for m in finished if (m.daemon, m.stream, m.boot) == (daemon, stream, boot)]
        assert came == sorted(there)
        assert lost[daemon, stream, boot] == set(range(max(there))) - there


def test_what_is_remembered_of_runs_has_a_limit() -> None:
    numbering = BusNumbering()
    for number in range(MAX_RUNS + 10):
        numbering.note(event(0, boot=number.to_bytes(16, "big")))
    assert len(numbering.places) == MAX_RUNS
    assert numbering.lost_before(event(2, boot=b"new" + bytes(13))) == 2, "the stream is known"
    assert numbering.lost_before(event(2, "other", boot=b"new" + bytes(13))) == 0, "nothing is known of this one"
