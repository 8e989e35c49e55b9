"""`mertd tail`: embeddings as they come, for people or as JSON."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from mertd.cli.client_keys import client_keys
from mertd.cli.lazy_group import single_command
from mertd.cli.options import Control, Json, Key, KeyFolder, ServerKey, TextTimes
from mertd.cli.output import complain, reader_may_leave
from mertd.defaults import CONTROL_ENDPOINT, PUBLISH_ENDPOINT
from mertd.errors import EndpointError

commands = single_command()


@commands.command()
def tail(
    connect: Annotated[str, typer.Option(metavar="ENDPOINT", help="Where the daemon publishes.")] = PUBLISH_ENDPOINT,
    control: Control = CONTROL_ENDPOINT,
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; repeatable.")] = None,
    json: Json = False,
    text_times: TextTimes = False,
    events: Annotated[bool, typer.Option("--events", help="Show events too.")] = False,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after this many embeddings.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0, help="Give up after this many seconds without an embedding.")] = None,
    last: Annotated[int, typer.Option(min=0, help="Begin with this many that were already published.")] = 0,
    key: Key = None,
    server_key: ServerKey = None,
    key_folder: KeyFolder = None,
) -> None:
    """Show embeddings as they come."""
    from mertd.cli.message_printer import MessagePrinter
    from mertd.stream.client.subscriber import Subscriber
    from mertd.wire import Embedding

    keys = client_keys(connect, key, server_key, key_folder)
    kinds = ("embedding", "event") if events else ("embedding",)
    printer = MessagePrinter(json, text_times)
    shown = 0
    deadline = _deadline(timeout)
    with (
        Subscriber(connect, stream or [], kinds, control=control, last=last, mix_spaces=True, keys=keys) as subscriber,
        reader_may_leave(),
    ):
        while count is None or shown < count:
            received = subscriber.receive(max(0.0, min(1.0, deadline - time.monotonic())))
            if received is None:
                if time.monotonic() >= deadline:
                    raise EndpointError(f"no embedding in {timeout:g} s from {connect}; `mertd status` may say why")
                continue
            message = received.message
            if received.lost:
                complain(f"{received.lost} messages of {message.topic.decode()} were lost")
            printer.show(message)
            if isinstance(message, Embedding):
                shown, deadline = shown + 1, _deadline(timeout)


def _deadline(timeout: float | None) -> float:
    return float("inf") if timeout is None else time.monotonic() + timeout
