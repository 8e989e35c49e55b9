"""The last messages of each subject of a stream. JetStream cannot read backwards: some of its end is read, more if need be."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mertd.bus.stream_consumer import StreamConsumer, StreamPlace

if TYPE_CHECKING:
    from mertd.bus.nats_client import BusClient
    from mertd.bus.stream_consumer import Stored

FIRST_REACH = 2
"""How much more is read at first than would be enough if all subjects had messages at the same rate."""

GROWTH = 4
"""How much more is read if that was not enough."""


@dataclass(frozen=True)
class LastMessages:
    """Messages, oldest first, and the place behind all that was there."""

    messages: list[Stored]
    behind: StreamPlace


async def last_messages(client: BusClient, stream: str, filters: Sequence[str], count: int) -> LastMessages:
    """Return the last `count` messages of each subject. Raises what `StreamConsumer.read` raises."""
    there: dict[str, int] = {}
    info: dict[str, Any] = {}
    for one in filters:
        info = await StreamConsumer(client, stream).info({"subjects_filter": one})
        there |= info["state"].get("subjects") or {}
    first, last = int(info["state"]["first_seq"]), int(info["state"]["last_seq"])
    behind = StreamPlace(str(info["created"]), last + 1)
    reach = FIRST_REACH * count * len(there)
    while there:
        start = max(first, last + 1 - reach)
        kept: dict[str, deque[Stored]] = {subject: deque(maxlen=count) for subject in there}

        async def keep(message: Stored, kept: dict[str, deque[Stored]] = kept) -> None:
            if message.place.seq <= behind.seq and message.subject in kept:
                kept[message.subject].append(message)

        begin = {**filtered(filters), "deliver_policy": "by_start_sequence", "opt_start_seq": max(1, start)}
        await StreamConsumer(client, stream).read(lambda _, begin=begin: begin, keep, only_past=True)  # type: ignore[misc]
        if start <= first or all(len(kept[subject]) >= min(count, number) for subject, number in there.items()):
            return LastMessages(_in_order(kept.values()), behind)
        reach *= GROWTH
    return LastMessages([], behind)


def filtered(filters: Sequence[str]) -> dict[str, Any]:
    """Return the part of a consumer's configuration that says which subjects it reads."""
    one, *others = filters
    return {"filter_subjects": list(filters)} if others else {"filter_subject": one}


def _in_order(kept: Iterable[Iterable[Stored]]) -> list[Stored]:
    return sorted((message for messages in kept for message in messages), key=lambda message: message.place.seq)
