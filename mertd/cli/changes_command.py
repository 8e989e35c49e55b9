"""`mertd changes`: where did the sound change, and where did it come back?"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mertd.cli.lazy_group import single_command
from mertd.cli.memory_commands import moment
from mertd.cli.options import Json, MemoryFolder
from mertd.cli.output import complain, reader_may_leave, say, say_json
from mertd.cli.plot_file import check_plot
from mertd.errors import UsageError
from mertd.memory.time_words import FORMS

if TYPE_CHECKING:
    from mertd.memory.changes.detector import NoveltyPoint
    from mertd.memory.changes.programme import ProgrammeSection
    from mertd.memory.changes.stream_reading import StreamKey
    from mertd.memory.queries import Selection
    from mertd.plots.pictured_span import PicturedSpan

DEFAULT_SINCE = "12h"
"""Since when, if nothing else is asked for: the evening is in it in the morning, too."""

MAX_PICTURED = 8
"""Streams that one picture shows."""

CHANGE_MARK = "|"
"""Where the sound changed."""

RETURN_MARK = "<"
"""Where it came back."""

commands = single_command()


@commands.command()
def changes(
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help=f"From then until now ({DEFAULT_SINCE}): {FORMS}.")
    ] = None,
    begin: Annotated[str | None, typer.Option("--from", metavar="TIME", help="What is heard from then on.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="What is heard before then.")] = None,
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; repeatable.")] = None,
    memory: MemoryFolder = None,
    json: Json = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw novelty, self-similarity and path; needs matplotlib.")
    ] = None,
) -> None:
    """Show the sections of what was heard: where the sound changed, and where it came back."""
    from mertd.memory.changes.programme import programme
    from mertd.memory.changes.stream_reading import stream_keys
    from mertd.memory.changes.wording import section_map
    from mertd.memory.memory import Memory
    from mertd.memory.queries import Selection

    if since is not None and begin is not None:
        raise UsageError("--since and --from exclude each other; give one of them")
    from_words = since if since is not None else begin
    if from_words is None and end is None:
        from_words = DEFAULT_SINCE
    wanted = Selection.between(from_words, end, time.time_ns())
    if wanted.until_ns < wanted.since_ns:
        raise UsageError(f"--to {end} is before {from_words}; write the date too, as '2026-11-25 21:00'")
    if plot is not None:
        check_plot(plot)
    folder = Memory(memory).folder
    keys = stream_keys(folder)
    if unknown := set(stream or ()) - {key.stream for key in keys}:
        known = ", ".join(sorted({key.stream for key in keys})) or "none"
        raise UsageError(f"--stream {unknown.pop()}: nothing of this stream is remembered; choose one of {known}")
    keys = [key for key in keys if not stream or key.stream in stream]
    shown = 0
    spans: list[PicturedSpan] = []
    with reader_may_leave():
        for key in keys:
            points: list[NoveltyPoint] = []
            marks: list[tuple[int, str]] = []
            sections: list[ProgrammeSection] = []
            for section in programme(folder, key, wanted.since_ns, wanted.until_ns, trace=points.append):
                shown += 1
                if plot is not None:
                    sections.append(section)
                if section.change is not None:
                    marks.append((section.start_ns, RETURN_MARK if section.returned is not None else CHANGE_MARK))
                if json:
                    say_json(section_map(section, key))
                else:
                    say(f"{_times(section)}  {key.stream}  {_beginning(section)}")
            if plot is not None and sections:
                spans += _pictured(folder, key, wanted, sections, len(spans))
            if not json and sys.stdout.isatty():
                _draw(points, marks, key.stream)
    if plot is not None and spans:
        from mertd.plots.evening_picture import draw

        draw(spans, plot)
    if not shown:
        complain("nothing is remembered from this time; `mertd memory info` shows what is")


def _pictured(
    folder: Path, key: StreamKey, wanted: Selection, sections: list[ProgrammeSection], drawn: int
) -> Iterator[PicturedSpan]:
    """Yield what a picture shows of a stream. Raises `UsageError` for one more than fits."""
    from mertd.plots.pictured_span import remembered_span

    if drawn == MAX_PICTURED:
        raise UsageError(f"--plot draws {MAX_PICTURED} streams at most, and there are more; choose with --stream")
    span = remembered_span(folder, key, wanted.since_ns, wanted.until_ns, sections)
    if span is not None:
        yield span


def _draw(points: list[NoveltyPoint], marks: list[tuple[int, str]], stream: str) -> None:
    """Draw the novelty of a stream as a strip, with its changes below."""
    from mertd.cli.evening_strip import FULL_NOVELTY, Evening, span_of
    from mertd.cli.live_screen import terminal_size

    full = FULL_NOVELTY * points[-1].variance if points else 0.0
    evening = Evening(full, [(point.time_ns, point.novelty) for point in points], marks)
    since_ns, until_ns = span_of(time_ns for time_ns, _ in evening.points)
    if lines := evening.lines(since_ns, until_ns, terminal_size()[0], sys.stdout.encoding):
        say()
        say(f"{stream}: novelty; {CHANGE_MARK} change, {RETURN_MARK} return")
        for line in lines:
            say(line)
        say()


def _times(section: ProgrammeSection) -> str:
    goes_on = "…" if section.goes_on else " "
    seconds = round((section.end_ns - section.start_ns) / 1e9)
    return f"{moment(section.start_ns)} – {moment(section.end_ns)[11:]}{goes_on} {_duration(seconds):>9}"


def _duration(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def _beginning(section: ProgrammeSection) -> str:
    """Return in words how a section begins."""
    change, returned = section.change, section.returned
    if change is None:
        return {"start": "the first that is remembered", "earlier": "began earlier", "gap": "after a gap"}[section.begins]
    words = f"change {change.strength:.2f} ± {change.bound_ns / 1e9:g} s"
    if returned is not None and returned.like is not None:
        like = returned.like
        words += f", like {moment(like.start_ns)} – {moment(like.end_ns)[11:]} (similarity {returned.strength:+.2f})"
    return words
