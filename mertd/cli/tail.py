"""`mertd tail`."""

from __future__ import annotations

import time

from mertd.cli.output import complain, reader_may_leave, say, say_json
from mertd.cli.show import Lines
from mertd.errors import EndpointError
from mertd.stream.client.subscriber import Subscriber
from mertd.stream.curve_keys import ClientKeys
from mertd.wire import Embedding, Event, as_json


def tail(
    connect: str,
    control: str,
    streams: list[str],
    json: bool,
    events: bool,
    count: int | None,
    timeout: float | None,
    last: int,
    keys: ClientKeys | None,
) -> None:
    """Print messages until `count` embeddings have come. Raises `EndpointError` when `timeout` seconds brought none."""
    kinds = ("embedding", "event") if events else ("embedding",)
    lines, seen, deadline = Lines(), 0, _deadline(timeout)
    with (
        Subscriber(connect, streams, kinds, control=control, last=last, mix_spaces=True, keys=keys) as subscriber,
        reader_may_leave(),
    ):
        while count is None or seen < count:
            received = subscriber.receive(max(0.0, min(1.0, deadline - time.monotonic())))
            if received is None:
                if time.monotonic() >= deadline:
                    raise EndpointError(f"no embedding in {timeout:g} s from {connect}; `mertd status` may say why")
                continue
            message = received.message
            if received.lost:
                complain(f"{received.lost} messages of {message.topic.decode()} were lost")
            if json:
                say_json(as_json(message))
            elif isinstance(message, Event):
                say(lines.event(message))
            elif isinstance(message, Embedding):
                say(lines.embedding(message))
            if isinstance(message, Embedding):
                seen, deadline = seen + 1, _deadline(timeout)


def _deadline(timeout: float | None) -> float:
    return float("inf") if timeout is None else time.monotonic() + timeout
