"""What was published lately: whole, marked, in pages, and never more than its bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mertd.stream.server.history import PAGE_BYTES, PAGE_MESSAGES, History, Page
from mertd.wire import Embedding, Event, Time, decode, encode
from messages import embedding, event


def history(*messages: Embedding | Event, limit_bytes: int = 64 << 20) -> History:
    kept = History(limit_bytes)
    for message in messages:
        kept.add(message, encode(message))
    return kept


def names(page: Page) -> list[tuple[str, int]]:
    found = [decode(frames) for frames in page.messages]
    assert all(isinstance(m, Embedding | Event) and m.replay for m in found)
    return [(m.stream, m.seq) for m in found if isinstance(m, Embedding | Event)]


def test_the_last_messages_of_one_stream_or_of_all() -> None:
    kept = history(*(m for seq in range(4) for m in (embedding(seq, "a"), embedding(seq, "b"), event(seq, "a"))))
    assert names(kept.last("embedding", "a", 2)) == [("a", 2), ("a", 3)]
    assert names(kept.last("embedding", "", 3)) == [("b", 2), ("a", 3), ("b", 3)]
    assert names(kept.last("embedding", "b", 99)) == [("b", seq) for seq in range(4)]
    assert names(kept.last("event", "", 1)) == [("a", 3)]
    for kind, stream, count in (("event", "b", 5), ("embedding", "a", 0), ("embedding", "a", -1), ("status", "", 5)):
        assert kept.last(kind, stream, count) == Page([], False)


@pytest.mark.parametrize("message", [embedding(5), event(5), event(6, detail={}), embedding(7, skipped=3)])
def test_a_kept_message_is_the_same_but_for_its_mark(message: Embedding | Event) -> None:
    (frames,) = history(message).last(message.kind, "room", 1).messages
    assert frames == encode(replace(message, replay=True))


@given(st.integers(0, 700), st.integers(-5, 720), st.none() | st.integers(-5, 720))
def test_pages_hold_all_that_was_asked_for(count: int, first: int, end: int | None) -> None:
    kept = history(*(event(seq) for seq in range(count)))
    found: list[int] = []
    at, more = first, True
    while more:
        page = kept.between("event", "room", at, end)
        assert len(page.messages) <= PAGE_MESSAGES
        assert page.messages or not page.more, "a page that goes on holds something"
        found += [seq for _, seq in names(page)]
        at, more = (found[-1] + 1 if found else first), page.more
    assert found == [seq for seq in range(count) if first <= seq < (count if end is None else end)]


def test_a_page_has_an_end_in_bytes() -> None:
    large = np.zeros((13, 768), np.float32)
    kept = history(*(embedding(seq, vector=large) for seq in range(200)))
    page = kept.between("embedding", "room", 0, None)
    assert page.more
    assert PAGE_BYTES * 0.9 < sum(len(payload) for _, payload in page.messages) <= PAGE_BYTES
    newest = kept.last("embedding", "room", 200)
    assert newest.more
    assert names(newest)[-1] == ("room", 199)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3_000)), max_size=60), st.integers(4_000, 60_000))
def test_it_never_holds_more_than_its_bytes(sizes: list[tuple[str, int]], limit: int) -> None:
    kept, seq = History(limit), {"a": 0, "b": 0}
    for stream, size in sizes:
        message = event(seq[stream], stream, detail={"x": "y" * size})
        kept.add(message, encode(message))
        seq[stream] += 1
        assert kept.bytes <= limit
        total = sum(len(t) + len(p) for s in "ab" for t, p in kept.last("event", s, 1_000).messages)
        assert total <= kept.bytes
    for stream in "ab":
        found = [number for _, number in names(kept.last("event", stream, 1_000))]
        assert found == list(range(seq[stream]))[-len(found) :] if found else True, "the newest ones, without a hole"


def test_a_stream_that_says_much_does_not_push_out_one_that_says_little() -> None:
    kept = history(event(0, "quiet"), *(event(seq, "loud") for seq in range(500)), limit_bytes=50_000)
    assert names(kept.last("event", "quiet", 5)) == [("quiet", 0)]
    assert len(kept.last("event", "loud", 500).messages) < 100


def test_since_a_time() -> None:
    """Windows count by their start; behind the first one all follow, whatever the clock did."""
    second = 1_000_000_000
    kept = history(*(embedding(seq, "a") for seq in range(3)), embedding(3, "a", time=Time(0, 0, 0, 0.0)), event(0, "a"))
    assert names(kept.since("embedding", "a", 5 * second)) == [("a", 1), ("a", 2), ("a", 3)]
    assert names(kept.since("embedding", "a", -1)) == [("a", seq) for seq in range(4)]
    assert names(kept.since("event", "a", 1)) == [("a", 0)]
    for kind, stream, since_ns in (("event", "a", 2), ("embedding", "b", 0), ("embedding", "a", 11 * second)):
        assert kept.since(kind, stream, since_ns) == Page([], False)


def test_very_many_streams_have_room_of_their_own() -> None:
    """Of a thousand streams, 8 MB would hold the last seconds."""
    kept = History()
    kept.make_room(1)
    for number in range(200 * 12):
        kept.add(message := embedding(number // 200, f"s{number % 200}"), encode(message))
    assert kept.oldest("embedding", "s0") is not None
    assert len(kept) < 200 * 12
    kept = History()
    kept.make_room(200)
    for number in range(200 * 12):
        kept.add(message := embedding(number // 200, f"s{number % 200}"), encode(message))
    assert len(kept) == 200 * 12
