"""`mertd tail`: embeddings as they come, for people or as JSON."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from mertd.cli.bus_options import (
    BusCa,
    BusCertificate,
    BusConfig,
    BusCredentials,
    BusNkey,
    BusPrivateKey,
    BusStream,
    bus_access,
    of_bus,
    refuse_of_bus,
)
from mertd.cli.client_keys import client_keys
from mertd.cli.lazy_group import single_command
from mertd.cli.options import Control, Json, Key, KeyFolder, MemoryFolder, ServerKey, TextTimes
from mertd.cli.output import complain, reader_may_leave
from mertd.defaults import CONTROL_ENDPOINT, PUBLISH_ENDPOINT
from mertd.errors import EndpointError, UsageError

if TYPE_CHECKING:
    from mertd.bus.bus_access import BusAccess
    from mertd.stream.client.message_source import MessageSource
    from mertd.stream.client.sequence import Cursor
    from mertd.stream.curve_keys import ClientKeys
    from mertd.wire import Embedding, Event, Status

LOOK_S = 0.5
"""Seconds between two looks at whether to stop."""

commands = single_command()


@commands.command()
def tail(
    connect: Annotated[
        str, typer.Option(metavar="ENDPOINT", help="Where the daemon publishes, or a bus, nats://HOST:4222.")
    ] = PUBLISH_ENDPOINT,
    control: Control = CONTROL_ENDPOINT,
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; repeatable.")] = None,
    json: Json = False,
    text_times: TextTimes = False,
    lines: Annotated[bool, typer.Option("--lines", help="Print a line for each embedding at a terminal, too.")] = False,
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
    config: BusConfig = None,
    bus_stream: BusStream = None,
    credentials: BusCredentials = None,
    nkey: BusNkey = None,
    ca: BusCa = None,
    certificate: BusCertificate = None,
    private_key: BusPrivateKey = None,
    key: Key = None,
    server_key: ServerKey = None,
    key_folder: KeyFolder = None,
) -> None:
    """Show embeddings as they come."""
    options = of_bus(locals())
    from mertd.bus.bus_access import is_bus
    from mertd.cli.message_printer import MessagePrinter

    if (since is not None) + (begin is not None or end is not None) + bool(last) > 1:
        raise UsageError("--since, --last, and --from with --to exclude each other; give one of them")
    if begin is not None or end is not None:
        with reader_may_leave():
            _show_past(begin, end, tuple(stream or ()), memory, events, count, MessagePrinter(json, text_times))
        return
    streams = tuple(stream or ())
    kinds = ("embedding", "event") if events else ("embedding",)
    if is_bus(connect):
        access, name = bus_access("--connect", connect, config, options)
        where = _Where(str(access), control, streams, kinds, since, last, memory, None, (access, name))
        _follow(where, count, timeout, MessagePrinter(json, text_times), complain)
        return
    refuse_of_bus(config, options, "give --connect nats://HOST:4222")
    keys = client_keys(connect, key, server_key, key_folder)
    if json or text_times or lines or not _can_redraw():
        where = _Where(connect, control, streams, kinds, since, last, memory, keys)
        _follow(where, count, timeout, MessagePrinter(json, text_times), complain)
        return
    from mertd.cli.live_screen import LiveScreen
    from mertd.cli.stop_signals import StopSignals
    from mertd.cli.tail_screen import KINDS, TailScreen

    where = _Where(connect, control, streams, KINDS, since, last, memory, keys)
    with StopSignals() as stopping, LiveScreen() as screen:
        shown = TailScreen(connect, streams, screen)
        _follow(where, count, timeout, shown, shown.complain, stopping, shown.draw)
    if stopping():
        raise typer.Exit(128 + stopping.received)


def _can_redraw() -> bool:
    """Return whether standard output is a terminal on which lines can be drawn again."""
    if not sys.stdout.isatty():  # then nothing of what draws is loaded
        return False
    from mertd.cli.live_screen import can_redraw

    return can_redraw()


@dataclass(frozen=True)
class _Where:
    """What is followed, and from where on."""

    connect: str
    control: str
    streams: tuple[str, ...]
    kinds: tuple[str, ...]
    since: str | None
    last: int
    memory: Path | None
    keys: ClientKeys | None
    bus: tuple[BusAccess, str] | None = None

    def subscribe(self, resume: Cursor | None, since_ns: int | None) -> MessageSource:
        """Connect to the daemon, or to the bus."""
        if self.bus is not None:
            from mertd.bus.bus_subscriber import BusSubscriber

            access, name = self.bus
            return BusSubscriber(
                access,
                self.streams,
                self.kinds,
                last=self.last,
                resume=resume,
                since=since_ns,
                mix_spaces=True,
                bus_stream=name,
            )
        from mertd.stream.client.subscriber import Subscriber

        return Subscriber(
            self.connect,
            self.streams,
            self.kinds,
            control=self.control,
            last=self.last,
            resume=resume,
            since=since_ns,
            mix_spaces=True,
            keys=self.keys,
        )


class _Shows(Protocol):
    """What messages are given to."""

    def show(self, message: Embedding | Event | Status) -> None: ...


def _follow(
    where: _Where,
    count: int | None,
    timeout: float | None,
    printer: _Shows,
    complain: Callable[[str], object],
    stopping: Callable[[], bool] = lambda: False,
    idle: Callable[[], object] = lambda: None,
) -> None:
    """Show messages until there were `count` embeddings, or for ever. `idle` is called at least twice a second."""
    from mertd.wire import Embedding

    shown = 0
    resume, since_ns = None, None
    stored = tuple(kind for kind in where.kinds if kind != "status")
    if where.since is not None and where.bus is None and _is_memory_here(where.memory):
        with reader_may_leave():
            resume, shown = _show_since(where.since, where.streams, where.memory, stored, count, printer, stopping)
    elif where.since is not None:  # the daemon may have one
        from mertd.memory.time_words import parse_time

        since_ns = parse_time(where.since, time.time_ns())
    deadline = _deadline(timeout)
    with where.subscribe(resume, since_ns) as subscriber, reader_may_leave():
        while (count is None or shown < count) and not stopping():
            idle()
            received = subscriber.receive(max(0.0, min(LOOK_S, deadline - time.monotonic())))
            if received is None:
                if time.monotonic() >= deadline:
                    hint = "`mertd status` may say why" if where.bus is None else "does `mertd relay` run beside the daemons?"
                    raise EndpointError(f"no embedding in {timeout:g} s from {where.connect}; {hint}")
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
    printer: _Shows,
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
    printer: _Shows,
    stopping: Callable[[], bool],
) -> tuple[Cursor, int]:
    """Show what the memory has since a time. Return where it ends, to continue there, and the number of embeddings shown."""
    from mertd.memory.memory import Memory
    from mertd.memory.queries import Selection

    memory = Memory(folder)
    cursor = memory.cursor()  # first: what is stored while the rest is shown comes from the daemon
    found = memory.messages(kinds, Selection.between(since, None, time.time_ns(), streams))
    before = (message for message in found if message.seq < cursor.get(message.boot, {}).get((message.kind, message.stream), 0))
    return cursor, _show(before, count, printer, stopping)


def _show(
    messages: Iterable[Embedding | Event], count: int | None, printer: _Shows, stopping: Callable[[], bool] = lambda: False
) -> int:
    """Show messages, up to `count` embeddings. Return how many embeddings that were."""
    from mertd.wire import Embedding

    shown = 0
    for message in messages:
        printer.show(message)
        shown += isinstance(message, Embedding)
        if (count is not None and shown >= count) or stopping():
            break
    return shown


def _deadline(timeout: float | None) -> float:
    return float("inf") if timeout is None else time.monotonic() + timeout
