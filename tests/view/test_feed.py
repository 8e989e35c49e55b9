"""What browsers are told: nothing is missing, nothing comes twice, and nobody holds anything up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from mertd.view import feed as feed_module
from mertd.view.feed import Feed


async def until(parts: AsyncIterator[bytes], enough: int) -> list[tuple[str, str, object]]:
    """Events (id, kind, content) until there are enough."""
    found: list[tuple[str, str, object]] = []
    text = ""
    while len(found) < enough:
        text += (await anext(parts)).decode()
        *whole, text = text.split("\n\n")
        for event in whole:
            fields = dict(line.split(": ", 1) for line in event.split("\n"))
            if "event" in fields:
                found.append((fields.get("id", ""), fields["event"], json.loads(fields["data"])))
    return found


def test_a_browser_begins_with_everything_and_goes_on() -> None:
    async def run() -> None:
        feed = Feed(lambda: {"all": 1})
        feed.add("window", 0)
        parts = feed.follow(None)
        assert [event[1:] for event in await until(parts, 1)] == [("snapshot", {"all": 1})]
        feed.add("window", "é\n<b>")
        feed.flush()
        (event,) = await until(parts, 1)
        assert event[1:] == ("window", "é\n<b>")
        assert feed.viewers == 1
        feed.add("window", 3)
        feed.flush()
        again = await until(feed.follow(event[0]), 1)
        assert again[0][1:] == ("window", 3)
        feed.close()
        assert not [part async for part in parts if part]
        assert feed.viewers == 1, "the second one has not left yet"

    asyncio.run(run())


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 12))
def test_a_sleeper_gets_each_once_or_a_snapshot(naps: list[int], kept: int) -> None:
    async def run() -> None:
        feed = Feed(lambda: "all")
        told = 0
        (begun,) = await until(feed.follow(None), 1)
        last = begun[0]
        for nap in naps:
            for _ in range(nap):
                told += 1
                feed.add("window", told)
            if not nap:
                continue
            event, *_ = found = await until(feed.follow(last), 1)
            if event[1] == "snapshot":
                assert nap > kept
            else:
                assert [content for _, _, content in found] == list(range(told - nap + 1, told + 1))
            last = found[-1][0]

    before, feed_module.MAX_ENTRIES = feed_module.MAX_ENTRIES, kept
    try:
        asyncio.run(run())
    finally:
        feed_module.MAX_ENTRIES = before


def test_what_a_browser_says_it_has_may_be_anything() -> None:
    feed = Feed(dict)
    for odd in (None, "", "-", "x-1", f"{feed._run}-", f"{feed._run}--1", f"{feed._run}-1", f"{feed._run}-{'9' * 40}", "é-²"):
        assert feed.place_of(odd) is None
    assert feed.place_of(f"{feed._run}-0") == 0


def test_the_log_is_bounded() -> None:
    feed = Feed(dict)
    for _ in range(3 * feed_module.MAX_ENTRIES):
        feed.add("window", 1)
    assert len(feed._entries) == feed_module.MAX_ENTRIES
    for _ in range(20):
        feed.add("window", "x" * 1_000_000)
    assert feed._bytes <= feed_module.MAX_BYTES


def test_a_beat_says_that_the_connection_works_and_a_close_ends_it() -> None:
    async def run() -> None:
        feed = Feed(dict, beat_s=0.001)
        parts = feed.follow(None)
        assert [kind for _, kind, _ in await until(parts, 2)] == ["snapshot", "beat"]
        feed.close()
        async for _ in parts:
            pass
        assert feed.viewers == 0

    asyncio.run(run())
