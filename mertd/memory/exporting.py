"""What is remembered, as files for other programs: npz, NDJSON, Parquet.

An export is written beside its place and takes it when it is whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from mertd.errors import StoreError, UsageError
from mertd.files import replacing
from mertd.memory.memory import Memory
from mertd.memory.queries import Selection
from mertd.wire import Embedding, as_json

GROUP = 4_096
"""Rows of a group in a Parquet file, which are in memory together."""

FORMATS = (".npz", ".ndjson", ".parquet")
"""Kinds of file, by the end of their names."""


def export(memory: Memory, out: Path, selection: Selection, space: str | None = None, events: bool = False) -> int:
    """Write a selection to a file, whose name says the format. Return how many messages it has.

    `space`: only vectors of this one; npz and Parquet hold one space. `events`: also events, in NDJSON.

    Raises `UsageError` for another format or what it cannot hold, `StoreError` if there is nothing, or it cannot be written.
    """
    write = WRITERS.get(out.suffix)
    if write is None:
        raise UsageError(f"{out}: unknown kind of file; name it with {', '.join(FORMATS)}")
    if events and out.suffix != ".ndjson":
        raise UsageError(f"{out}: events have no vectors; write them to a file that ends with .ndjson")
    if out.suffix != ".ndjson":
        space = _one_space(memory, selection, space)
    try:
        return write(out, _messages(memory, selection, space, events))
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error.strerror or error}") from error


def _messages(memory: Memory, selection: Selection, space: str | None, events: bool) -> Iterator[Any]:
    kinds = ("embedding", "event") if events else ("embedding",)
    for message in memory.messages(kinds, selection):
        if not isinstance(message, Embedding) or space in (None, message.model.space):
            yield message


def _one_space(memory: Memory, selection: Selection, space: str | None) -> str:
    """Return the space to export, which must be named if there are several."""
    known = memory.spaces()
    if space is not None:
        if space not in known:
            raise UsageError(f"--space {space}: no such space; choose one of {', '.join(known)}")
        return space
    found = {message.model.space for message in memory.embeddings(selection.since_ns, selection.until_ns, selection.streams)}
    if not found:
        raise StoreError(f"no embeddings in {memory.folder} from this time and these streams")
    if len(found) > 1:
        raise UsageError(f"vectors of {len(found)} spaces may not be compared; choose one with --space: {', '.join(found)}")
    return found.pop()


def _to_ndjson(out: Path, messages: Iterator[Any]) -> int:
    count = 0
    with replacing(out) as file:
        for message in messages:
            file.write(json.dumps(as_json(message), default=_plain).encode() + b"\n")
            count += 1
    return count


def _to_npz(out: Path, messages: Iterator[Embedding]) -> int:
    """Write arrays with one row an embedding: `vector` is (n, layers, hidden); times are Unix nanoseconds."""
    rows = [row(message) for message in messages]
    if not rows:
        raise StoreError("no embeddings of this space from this time and these streams")
    arrays: dict[str, Any] = {name: np.array([one[name] for one in rows]) for name in rows[0]}
    with replacing(out) as file:
        np.savez(file, **arrays)
    return len(rows)


def _to_parquet(out: Path, messages: Iterator[Embedding]) -> int:
    """Write a table with one row an embedding; `vector` is a list of layers * hidden numbers."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(f"{out}: Parquet needs pyarrow; install it with `pip install 'mertd[parquet]'`") from error
    first = next(messages, None)
    if first is None:
        raise StoreError("no embeddings of this space from this time and these streams")
    messages = chain([first], messages)
    size = first.vector.size
    plain = {name: value for name, value in row(first).items() if name != "vector"}
    fields = [pa.field(name, _arrow_type(pa, value)) for name, value in plain.items()]
    schema = pa.schema([*fields, pa.field("vector", pa.list_(pa.float32(), size))])
    count = 0
    with replacing(out) as file, pq.ParquetWriter(file, schema) as writer:
        while group := [row(message) for message in islice(messages, GROUP)]:
            columns = [pa.array([one[name] for one in group], schema.field(name).type) for name in plain]
            values = pa.array(np.concatenate([one["vector"].ravel() for one in group]), pa.float32())
            columns.append(pa.FixedSizeListArray.from_arrays(values, size))
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            count += len(group)
    return count


def row(message: Embedding) -> dict[str, Any]:
    """Return all that is known of an embedding, as one flat row."""
    return {
        "daemon": message.daemon,
        "stream": message.stream,
        "boot": message.boot.hex(),
        "epoch": message.epoch,
        "seq": message.seq,
        "start": message.window.start,
        "end": message.window.end,
        "rate": message.window.rate,
        "start_ns": message.time.start_ns,
        "end_ns": message.time.end_ns,
        "error_ns": message.time.error_ns,
        "drift_ppm": message.time.drift_ppm,
        "rms_dbfs": message.audio.rms_dbfs,
        "peak_dbfs": message.audio.peak_dbfs,
        "clipped": message.audio.clipped,
        "missing": message.audio.missing,
        "zeros": message.audio.zeros,
        "skipped": message.skipped,
        "model": message.model.name,
        "space": message.model.space,
        "trained": message.model.trained,
        "layers": ",".join(map(str, message.model.layers)),
        "vector": message.vector,
    }


def _arrow_type(pa: Any, value: object) -> Any:
    for kind, name in ((bool, "bool_"), (int, "int64"), (float, "float64")):
        if isinstance(value, kind):
            return getattr(pa, name)()
    return pa.string()


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


WRITERS: dict[str, Callable[[Path, Iterator[Any]], int]] = {
    ".npz": _to_npz,
    ".ndjson": _to_ndjson,
    ".parquet": _to_parquet,
}
"""What writes each kind of file."""
