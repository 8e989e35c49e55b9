"""`mertd replay`: publish what is remembered, for the development of clients."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from mertd.cli.lazy_group import single_command
from mertd.cli.options import MemoryFolder
from mertd.cli.output import say, say_aside
from mertd.defaults import REPLAY_CONTROL_ENDPOINT, REPLAY_PUBLISH_ENDPOINT
from mertd.errors import UsageError

commands = single_command()


@commands.command()
def replay(
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Begin with what was heard then, as 2h or 21:00 (the first).")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="End before what was heard then (the last).")] = None,
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; repeatable.")] = None,
    daemon: Annotated[str | None, typer.Option(metavar="NAME", help="The daemon, if the memory has several.")] = None,
    speed: Annotated[
        str, typer.Option(metavar="FACTOR", help="How much faster than it was; max: as fast as clients read (1).")
    ] = "1",
    longest_pause: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0, help="Shorten longer pauses between messages to this (never).")
    ] = None,
    wait_for_subscriber: Annotated[
        bool, typer.Option("--wait-for-subscriber", help="Publish nothing before somebody listens.")
    ] = False,
    stay: Annotated[
        bool, typer.Option("--stay", help="Do not exit at the end: answer requests for history until stopped.")
    ] = False,
    bind: Annotated[str, typer.Option(metavar="ENDPOINT", help="Where to publish.")] = REPLAY_PUBLISH_ENDPOINT,
    control: Annotated[str, typer.Option(metavar="ENDPOINT", help="Where to answer requests.")] = REPLAY_CONTROL_ENDPOINT,
    curve: Annotated[bool, typer.Option("--curve", help="Encrypt, and let in only clients that `mertd keys` allows.")] = False,
    keys: Annotated[
        str | None, typer.Option(metavar="DIR", help="Directory of the keys (in the user's configuration).")
    ] = None,
    memory: MemoryFolder = None,
) -> None:
    """Publish what is remembered once more, marked as replay, to develop clients with."""
    import asyncio

    from mertd.cli.memory_commands import moment
    from mertd.daemon.binding import Endpoints
    from mertd.memory.queries import Selection
    from mertd.replay.pacing import Pace
    from mertd.replay.player import Manner, Player
    from mertd.replay.remembered_span import RememberedSpan
    from mertd.stream.endpoint import check_endpoint

    factor = parse_speed(speed)
    wanted = Selection.between(begin, end, time.time_ns(), stream)
    if begin is not None and end is not None and wanted.until_ns <= wanted.since_ns:
        raise UsageError(f"--to {end} is not after --from {begin}; write the date too, as '2026-11-25 21:00'")
    endpoints = Endpoints(check_endpoint(bind, curve), check_endpoint(control, curve), curve, keys)
    span = RememberedSpan(memory, wanted, daemon)
    manner = Manner(Pace(factor, float("inf") if longest_pause is None else longest_pause), wait_for_subscriber, stay)

    def announce(publish: str, answers: str) -> None:
        what = f"{moment(span.first_ns)} to {moment(span.last_ns)} of {', '.join(span.streams)}"
        say(f"replaying {what} ({span.daemon}); publishing on {publish}, control on {answers}")

    player = Player(span, endpoints, manner, announce)
    asyncio.run(player.run())
    if player.ended and not player.was_heard and not stay:
        say_aside("nobody had subscribed; --wait-for-subscriber waits for a client")
    counts = player.progress.published
    say(
        f"{'ended' if player.ended else 'stopped'}; {counts['embedding']:,} embeddings and {counts['event']:,} events published"
    )


def parse_speed(text: str) -> float:
    """Return a factor; infinity for `max` or 0. Raises `UsageError`."""
    try:
        found = float("inf") if text == "max" else float(text)
    except ValueError:
        found = -1.0
    if not found >= 0:
        raise UsageError(f"--speed {text}: expected how much faster than the original, as 10 or 0.5, or max")
    return found or float("inf")
