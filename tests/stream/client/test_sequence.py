"""Nothing comes twice, nothing is missing unnamed: whatever is lost, late, repeated or started again."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from example_counts import examples
from mertd.stream.client.sequence import MissingRange, Sequence
from mertd.wire import Embedding
from messages import BOOT, embedding, event, status

AGAIN = bytes(16)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 12)), max_size=30))
def test_each_message_once_and_every_hole_counted(arrivals: list[tuple[str, int]]) -> None:
    """Whatever the order: `accept` counts those that had not come by the time a later one did, and `missing` names them."""
    sequence = Sequence()
    had: dict[str, list[int]] = {}
    for stream, seq in arrivals:
        gap = sequence.missing(embedding(seq, stream))
        lost = sequence.accept(embedding(seq, stream))
        before = had.setdefault(stream, [])
        if before and seq <= max(before):
            assert (gap, lost) == (None, None)
            continue
        assert lost == (seq - max(before) - 1 if before else 0)
        assert gap == (MissingRange(BOOT, "embedding", stream, max(before) + 1, seq) if lost else None)
        before.append(seq)


@given(st.lists(st.sampled_from(["sent", "lost", "status", "restart"]), max_size=40), st.integers(0, 5))
@settings(max_examples=examples(400))
def test_with_a_history_everything_since_the_first_word_comes_once(script: list[str], before: int) -> None:
    """A daemon that says things, some unheard, and is started again; a client that fetches what it finds missing."""
    sequence, boot, said = Sequence(), 1, before
    heard: list[tuple[int, int]] = []
    wanted: list[tuple[int, int]] = []
    first: int | None = None

    def name(number: int) -> bytes:
        return bytes([number] * 16)

    def fetch(gap: MissingRange) -> None:
        for seq in range(gap.first, gap.end):
            if sequence.accept(embedding(seq, boot=gap.boot)) is not None:
                heard.append((gap.boot[0], seq))

    for step in [*script, "status"]:
        if step == "restart":
            boot, said = boot + 1, 0
        elif step == "status":
            for gap in sequence.missing_by(
                status(boot=name(boot), streams={"room": {"embedded": said, "events": 3}}), ("embedding",), ()
            ):
                fetch(gap)
        elif step == "sent":
            message = embedding(said, boot=name(boot))
            if gap := sequence.missing(message):
                fetch(gap)
            if sequence.accept(message) is not None:
                heard.append((boot, said))
        if step in ("sent", "lost"):
            wanted.append((boot, said))
            said += 1
        if first is None and step in ("sent", "status"):
            first = len(wanted) - (step == "sent")
    assert len(heard) == len(set(heard))
    last = [entry for entry in wanted[first:] if entry[0] == boot]
    assert [entry for entry in heard if entry[0] == boot] == last, "of this run, nothing is missing"
    assert set(heard) <= set(wanted)


def test_a_status_counts_only_what_was_subscribed_to() -> None:
    sequence = Sequence()
    streams = {"a": {"embedded": 2, "events": 3}, "b": {"embedded": 1, "events": 1}, "odd": 3, "old": {"due": 1}}
    assert sequence.missing_by(status(streams=streams), ("embedding", "event"), ()) == [], "before the first word, nothing is"
    later = status(streams={**streams, "a": {"embedded": 4, "events": 5}, "b": {"embedded": 2, "events": 1}})
    assert sequence.missing_by(later, ("embedding",), ("a",)) == [MissingRange(BOOT, "embedding", "a", 2, 4)]
    assert sequence.missing_by(later, ("event", "status"), ()) == [MissingRange(BOOT, "event", "a", 3, 5)]


def test_what_is_given_up_is_counted_once() -> None:
    sequence = Sequence()
    gap = MissingRange(BOOT, "embedding", "room", 3, 8)
    sequence.begin(gap)
    assert sequence.accept(embedding(3)) == 0
    assert sequence.give_up(gap) == 4
    assert sequence.give_up(gap) == 0
    assert sequence.accept(embedding(7)) is None
    assert sequence.accept(embedding(8)) == 0
    assert sequence.give_up(MissingRange(AGAIN, "embedding", "room", 0, 9)) == 0, "of another run"


def test_a_gap_knows_its_own() -> None:
    gap = MissingRange(BOOT, "embedding", "room", 3, 8)
    assert gap.count == 5
    assert [gap.has(embedding(seq)) for seq in (2, 3, 7, 8)] == [False, True, True, False]
    others: list[Embedding] = [embedding(4, boot=AGAIN), embedding(4, "attic")]
    assert not any(gap.has(message) for message in [*others, event(4), status()])


def test_a_replay_that_is_started_again_comes_again() -> None:
    """It has the same number as before, and less uptime; it may begin in the middle of a run."""
    sequence = Sequence()

    def at(uptime_ns: int, embedded: int) -> list[MissingRange]:
        counters = {"embedded": embedded, "events": 0}
        return sequence.missing_by(status(uptime_ns=uptime_ns, streams={"room": counters}), ("embedding",), ())

    assert at(1, 10) == []
    for seq in range(10, 13):
        assert sequence.accept(embedding(seq)) == 0
    assert at(5, 13) == []
    assert sequence.accept(embedding(10)) is None
    assert at(2, 12) == [MissingRange(BOOT, "embedding", "room", 10, 12)]
    assert [sequence.accept(embedding(seq)) for seq in (10, 11, 12)] == [0, 0, 0]
