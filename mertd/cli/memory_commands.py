"""`mertd memory`: what is remembered, whether it is whole, and how to forget it."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from mertd.cli.lazy_group import command_group
from mertd.cli.options import Json, MemoryFolder
from mertd.cli.output import say, say_json
from mertd.errors import StoreError, UsageError
from mertd.memory.time_words import FORMS, parse_time

SHOWN_HOLES = 20
"""Holes that `info` shows; with --json it shows all."""

commands = command_group("memory")


@commands.command()
def info(memory: MemoryFolder = None, json: Json = False) -> None:
    """Show what is remembered: size, times, streams, spaces, and what is missing, with the reason."""
    from mertd.memory.summary import summary

    found = summary(memory)
    if json:
        say_json(found, indent=2)
        return
    embeddings = sum(stream["embeddings"] for stream in found["streams"])
    events = sum(stream["events"] for stream in found["streams"])
    say(f"{found['folder']}: {embeddings:,} embeddings and {events:,} events in {_size(found['bytes'])}")
    for stream in found["streams"]:
        span = f", {moment(stream['first_ns'])} to {moment(stream['last_ns'])}" if "first_ns" in stream else ""
        say(f"  {stream['stream']} of {stream['daemon']}: {stream['embeddings']:,} embeddings{span}, {stream['runs']} runs")
    for space, entry in found["spaces"].items():
        untrained = "" if entry["trained"] else ", UNTRAINED"
        shape = f"{entry['rows']} x {entry['size']}"
        say(f"  space {space}: {entry['embeddings']:,} of {entry['model']}, layers {entry['layers']}, {shape}{untrained}")
    _show_holes(found["holes"])


@commands.command()
def verify(memory: MemoryFolder = None, json: Json = False) -> None:
    """Read everything, and check that it is whole. Exits with 3 if it is not."""
    from mertd.memory.checking import verify as check
    from mertd.memory.default_folder import chosen_folder

    report = check(chosen_folder(memory))
    if json:
        say_json(vars(report), indent=2)
    else:
        counts = " and ".join(f"{count:,} {kind}s" for kind, count in report.counts.items())
        say(f"{report.files} files, {counts}; {report.missing:,} messages are in holes")
    if report.faults:
        raise StoreError(*report.faults)
    if not json:
        say("whole: every row is as it was written, and every number is there once or in a hole")


@commands.command()
def forget(
    memory: MemoryFolder = None,
    before: Annotated[str | None, typer.Option(metavar="TIME", help=f"Only what is from before: {FORMS}.")] = None,
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; repeatable.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete for good, after showing what would go. The memory may be written to meanwhile."""
    from mertd.memory.default_folder import chosen_folder
    from mertd.memory.forgetting import Scope, preview
    from mertd.memory.forgetting import forget as delete
    from mertd.memory.queries import FOREVER_NS

    if before is None and not stream:
        raise UsageError("`mertd memory forget` needs --before or --stream; to forget everything, give --before now")
    scope = Scope(parse_time(before, time.time_ns()) if before is not None else FOREVER_NS, tuple(stream or ()))
    folder = chosen_folder(memory)
    found = preview(folder, scope)
    count = sum(found.counts.values())
    if not count:
        say("nothing to forget")
        return
    counts = " and ".join(f"{number:,} {kind}s" for kind, number in found.counts.items())
    say(f"{counts} of {found.total:,} messages, {moment(found.first_ns)} to {moment(found.last_ns)}, would be deleted for good")
    if not yes and not _confirmed():
        say("nothing was deleted")
        return
    say(f"{delete(folder, scope):,} messages were deleted")
    for damaged in sorted(folder.glob("*.damaged")):
        say(f"{damaged} could not be read, and may hold some of them still: delete it yourself")


@commands.command()
def export(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Where to: a name that ends with .npz, .ndjson or .parquet.")],
    memory: MemoryFolder = None,
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help=f"Only from then on: {FORMS}.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Only what began before.")] = None,
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; repeatable.")] = None,
    space: Annotated[str | None, typer.Option(help="Only vectors of this space; needed if there are several.")] = None,
    events: Annotated[bool, typer.Option("--events", help="Events too, in NDJSON.")] = False,
) -> None:
    """Write what is remembered to a file: npz, NDJSON, or Parquet (which needs `mertd[parquet]`)."""
    from mertd.memory.exporting import export as write
    from mertd.memory.memory import Memory
    from mertd.memory.queries import Selection

    selection = Selection.between(since, until, time.time_ns(), stream)
    count = write(Memory(memory), out, selection, space, events)
    say(f"{out}: {count:,} messages")


def _confirmed() -> bool:
    try:
        return typer.confirm("Delete them?")
    except typer.Abort:
        raise UsageError("nobody answered, and nothing was deleted; --yes deletes without asking") from None


def moment(unix_ns: int | None) -> str:
    """Return a local date and time, to the second."""
    if unix_ns is None:
        return "unknown"
    try:
        return datetime.fromtimestamp(unix_ns / 1e9).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):  # what a daemon sent need not be a time of this era
        return f"{unix_ns} ns"


def _show_holes(found: list[dict[str, Any]]) -> None:
    for hole in found[-SHOWN_HOLES:]:
        kind = f"{hole['kind']}s" if hole["kind"] else "messages"
        numbers = f"{hole['first']} to {hole['end'] - 1}" if hole["end"] is not None else f"{hole['first']} and later, if any"
        where = f"{hole['stream']} of {hole['daemon']}"
        say(f"  missing: {kind} {numbers} of {where} ({hole['reason']}, noted {moment(hole['noted_ns'])})")
    if len(found) > SHOWN_HOLES:
        say(f"  and {len(found) - SHOWN_HOLES} older holes; --json lists all")


def _size(count: float) -> str:
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1000:.1f} kB"
