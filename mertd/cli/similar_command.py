"""`mertd similar`: when did it sound like this?"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mertd.cli.lazy_group import single_command
from mertd.cli.memory_commands import moment
from mertd.cli.options import Backend, Json, Layers, MemoryFolder, Weights, Window
from mertd.cli.output import complain, say, say_json, show_progress
from mertd.defaults import WITHIN_S
from mertd.errors import UsageError
from mertd.memory.time_words import FORMS, parse_time

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mertd.memory.asked import Asked
    from mertd.memory.memory import Memory
    from mertd.memory.similarity.moments import Moment
    from mertd.wire import Embedding

MAX_TEXT = 10_000_000
"""Characters of standard input that are read."""

MAX_WITHIN_S = 86_400.0
"""Largest lag that --across can be asked for, in seconds: a day."""

ASKED_MARK = "^"
"""Where the moment is that was asked for."""

OF_ACROSS = {"recent": "--since", "daemons": "--daemon", "within": "--within"}
"""Options that only --across has."""

OF_FILES = {"window": "--window", "layers": "--layers", "backend": "--backend", "weights": "--weights"}
"""Options of the model, which only a sound file needs."""

OF_MOMENTS = OF_FILES | {"sound": "FILE", "now": "--now", "when": "--at", "count": "--count"}
"""What --across does not have."""

commands = single_command()


@commands.command()
def similar(
    context: typer.Context,
    sound: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A sound file, or - for a vector on standard input.")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Like what was stored last.")] = False,
    when: Annotated[str | None, typer.Option("--at", metavar="TIME", help=f"Like the moment at {FORMS}.")] = None,
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; repeatable.")] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="Only moments from then on.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Only moments before.")] = None,
    count: Annotated[int, typer.Option(min=1, max=1_000, help="Number of moments.")] = 10,
    across: Annotated[
        bool, typer.Option("--across", help="What two streams heard, one after the other: which first, and how much later.")
    ] = False,
    within: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, max=MAX_WITHIN_S, help="With --across: the largest lag.")
    ] = WITHIN_S,
    recent: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="With --across: from then until now (12h).")
    ] = None,
    daemons: Annotated[
        list[str] | None, typer.Option("--daemon", help="With --across: only streams of this daemon; repeatable.")
    ] = None,
    memory: MemoryFolder = None,
    window: Window = None,
    layers: Layers = None,
    backend: Backend = None,
    weights: Weights = None,
    json: Json = False,
) -> None:
    """Find moments in the memory that sound like this, or what two streams heard in turn."""
    if across:
        if unused := _given(context, OF_MOMENTS):
            raise UsageError(f"--across compares streams with each other, without {unused}; leave it out")
        from mertd.cli.rooms_report import AcrossOptions, report_across

        report_across(AcrossOptions(memory, recent, since, until, stream or (), daemons or (), within, json))
        return
    if unused := _given(context, OF_ACROSS):
        raise UsageError(f"{unused} needs --across; without it, `mertd similar` has --from, --to and --stream")
    from mertd.memory.asked import at, from_text, newest
    from mertd.memory.memory import Memory
    from mertd.memory.similar_search import SimilarSearch, has_index_library
    from mertd.memory.similarity.vector_segment import SpanFilter

    if (sound is not None) + now + (when is not None) != 1:
        raise UsageError(
            "`mertd similar` needs one of --now, --at TIME, a sound file, or - for a vector on standard input; or --across"
        )
    if (sound is None or str(sound) == "-") and (unused := _given(context, OF_FILES)):
        raise UsageError(f"{unused} is for a sound file: other vectors are as they were made; leave it out")
    remembered = Memory(memory)
    streams = tuple(stream or ())
    now_ns = time.time_ns()
    if now:
        asked = newest(remembered, streams)
    elif when is not None:
        asked = at(remembered, parse_time(when, now_ns), streams)
    elif str(sound) == "-":
        asked = from_text(sys.stdin.read(MAX_TEXT))
    else:
        assert sound is not None
        asked = _of_file(sound, {"window": window, "layers": layers, "backend": backend, "weights": weights})
    space = _space(asked, remembered)
    names = remembered.streams()
    if unknown := set(streams) - {name for _, name in names.values()}:
        known = ", ".join(sorted({name for _, name in names.values()}))
        raise UsageError(f"--stream {unknown.pop()}: nothing of this stream is remembered; choose one of {known}")
    own = asked.embedding
    allowed = SpanFilter(
        streams=frozenset(number for number, (_, name) in names.items() if name in streams) if streams else None,
        since_ns=parse_time(since, now_ns) if since is not None else None,
        until_ns=parse_time(until, now_ns) if until is not None else None,
        without=((own.time.start_ns, own.time.end_ns),) if own is not None else (),
    )
    if not has_index_library():
        complain("no index, so everything is compared: `pip install 'mertd[memory]'` makes this fast")
    search = SimilarSearch(remembered.folder, space, show_progress)
    found = search.find(asked.vector, count, allowed)
    show_progress("")
    if json:
        for one in found:
            daemon, name = names[one.stream]
            say_json({**vars(one), "daemon": daemon, "stream": name, "space": space})
        return
    if own is not None:
        say(f"like {moment(own.time.start_ns)} – {moment(own.time.end_ns)[11:]}  {own.stream}")
    for one in found:
        say(_line(one, names[one.stream][1]))
    say(search.describe() if found else "nothing else is remembered there")
    if sys.stdout.isatty():
        _draw(found, own)


def _given(context: typer.Context, options: dict[str, str]) -> str:
    """Return the first of these options that was given; empty if none was. `options`: their parameters and names."""
    sources = ((name, context.get_parameter_source(parameter)) for parameter, name in options.items())
    return next((name for name, source in sources if source is not None and source.name != "DEFAULT"), "")


def _draw(found: list[Moment], own: Embedding | None) -> None:
    """Draw when the moments were, as high as they are similar, and the one that was asked for."""
    from mertd.cli.evening_strip import FULL_SIMILARITY, Evening, span_of
    from mertd.cli.live_screen import terminal_size

    evening = Evening(FULL_SIMILARITY, [(one.best_start_ns, one.similarity) for one in found])
    if own is not None:
        evening.marks.append((own.time.start_ns, ASKED_MARK))
    times = [one.start_ns for one in found] + [one.end_ns for one in found]
    since_ns, until_ns = span_of([*times, own.time.start_ns, own.time.end_ns] if own is not None else times)
    if lines := evening.lines(since_ns, until_ns, terminal_size()[0], sys.stdout.encoding):
        say()
        for line in lines:
            say(line)


def _line(one: Moment, stream: str) -> str:
    unusual = (
        "" if one.percentile is None else f"  more alike than {math.floor(one.percentile * 100) / 100:.2f} % of random pairs"
    )
    return f"{moment(one.start_ns)} – {moment(one.end_ns)[11:]}  {stream}  similarity {one.similarity:+.3f}{unusual}"


def _space(asked: Asked, memory: Memory) -> str:
    """Return the space to search; that of the vector, or the only one whose vectors are of the same size."""
    known = memory.spaces()
    if asked.space:
        if asked.space not in known:
            raise UsageError(
                f"this is a vector of space {asked.space}, and the memory has {', '.join(known)}: they may not be compared. "
                "Use the same --weights, --layers and --window as the daemon"
            )
        return asked.space
    fitting = [space for space in known if _size(memory, space) == len(asked.vector)]
    if len(fitting) != 1:
        raise UsageError(
            f"{len(fitting)} spaces of the memory have vectors of {len(asked.vector)} numbers; give a line of "
            "`mertd tail --json`, which names its space"
        )
    return fitting[0]


def _size(memory: Memory, space: str) -> int:
    sizes = [form[10] * form[11] for segment in memory.segments() for form in segment.forms().values() if form[0] == space]
    return int(sizes[-1]) if sizes else 0


def _of_file(sound: Path, options: dict[str, Any]) -> Asked:
    """Return the mean vector of the windows of a sound file."""
    import numpy as np

    from mertd.capture.address import parse
    from mertd.cli.read_settings import existing_default_config, settings_from_options
    from mertd.config import weights_spec
    from mertd.embed.embedder import Embedder
    from mertd.embed.model_settings import ModelSettings
    from mertd.memory.asked import Asked
    from mertd.offline.source_windows import embed_source
    from mertd.wire import Embedding

    if not sound.is_file():
        raise UsageError(f"{sound}: no such file")
    settings = settings_from_options(existing_default_config(), {n: v for n, v in options.items() if v is not None})
    model = ModelSettings(
        weights_spec(settings), settings.layers, settings.backend, settings.window_samples, settings.precision
    )
    embedder = Embedder(model)
    address = parse(f"file:{sound}")
    messages = embed_source(address, embedder, settings.window_samples, settings.hop_samples, settings.gate, lambda _: None)
    found = [message for message in messages if isinstance(message, Embedding)]
    if not found:
        raise UsageError(
            f"{sound}: no window of {settings.window:g} s above {settings.gate:g} dBFS; give more sound, or a smaller --window"
        )
    vector: NDArray[np.float32] = np.mean([message.vector.ravel() for message in found], axis=0, dtype=np.float32)
    return Asked(vector, found[0].model.space)
