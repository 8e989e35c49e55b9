"""`mertd tail`: embeddings as they come, for people or as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mertd.cli.client_keys import client_keys
from mertd.cli.lazy_group import single_command
from mertd.cli.options import Control, Json, Key, KeyFolder, MemoryFolder, ServerKey, TextTimes
from mertd.cli.output import complain, reader_may_leave
from mertd.defaults import CONTROL_ENDPOINT, PUBLISH_ENDPOINT
from mertd.errors import EndpointError, UsageError

if TYPE_CHECKING:
    from mertd.cli.message_printer import MessagePrinter
    from mertd.stream.client.sequence import Cursor
    from mertd.wire import Embedding, Event

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
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Begin with what the memory has since then, as 2h or 21:00.")
    ] = None,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Show what the memory has from then on, and end.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Show what the memory has before then, and end.")
    ] = None,
    memory: MemoryFolder = None,
    key: Key = None,
    server_key: ServerKey = None,
    key_folder: KeyFolder = None,
) -> None:
    """Show embeddings as they come."""
    from mertd.cli.message_printer import MessagePrinter
    from mertd.stream.client.subscriber import Subscriber
    from mertd.wire import Embedding

    if (since is not None) + (begin is not None or end is not None) + bool(last) > 1:
        raise UsageError("--since, --last, and --from with --to exclude each other; give one of them")
    if begin is not None or end is not None:
        with reader_may_leave():
            _show_past(begin, end, tuple(stream or ()), memory, events, count, MessagePrinter(json, text_times))
        return
    keys = client_keys(connect, key, server_key, key_folder)
    kinds = ("embedding", "event") if events else ("embedding",)
    printer = MessagePrinter(json, text_times)
    shown = 0
    resume, since_ns = None, None
    if since is not None and _is_memory_here(memory):
        with reader_may_leave():
            resume, shown = _show_since(since, tuple(stream or ()), memory, kinds, count, printer)
    elif since is not None:  # the daemon may have one
        from mertd.memory.time_words import parse_time

        since_ns = parse_time(since, time.time_ns())
    deadline = _deadline(timeout)
    with (
        Subscriber(
            connect,
            stream or [],
            kinds,
            control=control,
            last=last,
            resume=resume,
            since=since_ns,
            mix_spaces=True,
            keys=keys,
        ) as subscriber,
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


def _is_memory_here(folder: Path | None) -> bool:
    """Return whether a memory is on this machine, or was named and must be."""
    from mertd.memory.default_folder import chosen_folder
    from mertd.memory.memory_folder import segments

    return folder is not None or bool(segments(chosen_folder(None)))


def _show_past(
    begin: str | None,
    end: str | None,
    streams: tuple[str, ...],
    folder: Path | None,
    events: bool,
    count: int | None,
    printer: MessagePrinter,
) -> None:
    """Show what the memory has of a time, up to `count` embeddings."""
    from mertd.memory.memory import Memory
    from mertd.memory.queries import Selection

    wanted = Selection.between(begin, end, time.time_ns(), streams)
    if begin is not None and end is not None and wanted.until_ns < wanted.since_ns:
        raise UsageError(f"--to {end} is before --from {begin}; write the date too, as '2026-11-25 21:00'")
    kinds = ("embedding", "event") if events else ("embedding",)
    _show(Memory(folder).messages(kinds, wanted), count, printer)


def _show_since(
    since: str,
    streams: tuple[str, ...],
    folder: Path | None,
    kinds: tuple[str, ...],
    count: int | None,
    printer: MessagePrinter,
) -> tuple[Cursor, int]:
    """Show what the memory has since a time. Return where it ends, to continue there, and the number of embeddings shown."""
    from mertd.memory.memory import Memory
    from mertd.memory.queries import Selection

    memory = Memory(folder)
    cursor = memory.cursor()  # first: what is stored while the rest is shown comes from the daemon
    found = memory.messages(kinds, Selection.between(since, None, time.time_ns(), streams))
    before = (message for message in found if message.seq < cursor.get(message.boot, {}).get((message.kind, message.stream), 0))
    return cursor, _show(before, count, printer)


def _show(messages: Iterable[Embedding | Event], count: int | None, printer: MessagePrinter) -> int:
    """Show messages, up to `count` embeddings. Return how many embeddings that were."""
    from mertd.wire import Embedding

    shown = 0
    for message in messages:
        printer.show(message)
        shown += isinstance(message, Embedding)
        if count is not None and shown >= count:
            break
    return shown


def _deadline(timeout: float | None) -> float:
    return float("inf") if timeout is None else time.monotonic() + timeout
