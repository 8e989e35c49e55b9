"""What `mertd similar` does: asks the memory, and prints moments."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.cli.memory_commands import moment
from mertd.cli.output import complain, say, say_json, show_progress
from mertd.errors import UsageError
from mertd.memory.asked import Asked, at, from_text, newest
from mertd.memory.memory import Memory
from mertd.memory.similar_search import SimilarSearch, has_index_library
from mertd.memory.similarity.moments import Moment
from mertd.memory.similarity.vector_segment import SpanFilter
from mertd.memory.time_words import parse_time

MAX_TEXT = 10_000_000
"""Characters of standard input that are read."""


@dataclass(frozen=True)
class Question:
    """What is asked for, as it was written. Without `sound` and `when`: what was stored last. `model`: options for a file."""

    sound: Path | None
    when: str | None
    streams: tuple[str, ...]
    since: str | None
    until: str | None
    count: int
    model: Mapping[str, Any]


def show_similar(question: Question, memory: Path | None, json: bool) -> None:
    """Find the moments and print them."""
    remembered = Memory(memory)
    streams = question.streams
    now_ns = time.time_ns()
    asked = _asked(question, remembered, now_ns)
    space = _space(asked, remembered)
    names = remembered.streams()
    if unknown := set(streams) - {name for _, name in names.values()}:
        known = ", ".join(sorted({name for _, name in names.values()}))
        raise UsageError(f"--stream {unknown.pop()}: nothing of this stream is remembered; choose one of {known}")
    own = asked.embedding
    allowed = SpanFilter(
        streams=frozenset(number for number, (_, name) in names.items() if name in streams) if streams else None,
        since_ns=parse_time(question.since, now_ns) if question.since is not None else None,
        until_ns=parse_time(question.until, now_ns) if question.until is not None else None,
        without=((own.time.start_ns, own.time.end_ns),) if own is not None else (),
    )
    if not has_index_library():
        complain("no index, so everything is compared: `pip install 'mertd[memory]'` makes this fast")
    search = SimilarSearch(remembered.folder, space, show_progress)
    found = search.find(asked.vector, question.count, allowed)
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


def _asked(question: Question, memory: Memory, now_ns: int) -> Asked:
    if question.sound is None:
        if question.when is None:
            return newest(memory, question.streams)
        return at(memory, parse_time(question.when, now_ns), question.streams)
    if str(question.sound) == "-":
        return from_text(sys.stdin.read(MAX_TEXT))
    return _of_file(question.sound, question.model)


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


def _of_file(sound: Path, options: Mapping[str, Any]) -> Asked:
    """Return the mean vector of the windows of a sound file."""
    from mertd.capture.address import parse
    from mertd.cli.read_settings import existing_default_config, settings_from_options
    from mertd.config import weights_spec
    from mertd.embed.embedder import Embedder
    from mertd.embed.model_settings import ModelSettings
    from mertd.offline.source_windows import embed_source
    from mertd.wire import Embedding

    if not sound.is_file():
        raise UsageError(f"{sound}: no such file")
    settings = settings_from_options(existing_default_config(), {n: v for n, v in options.items() if v is not None})
    model = ModelSettings(weights_spec(settings), settings.layers, settings.backend, settings.window_samples)
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
