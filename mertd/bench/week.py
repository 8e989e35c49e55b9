"""A week of a busy memory in minutes: whether a process grows, the disk fills as predicted, and publishing suffers.

At 50 vectors a second, a week is 30,240,000 vectors in 235 files. The measured week has fewer vectors in as many files, each
smaller by as much: as many files are begun, made compact and indexed.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from mertd.bench import daemon
from mertd.bench.fanout import subscribed
from mertd.bench.made_memory import message
from mertd.bench.measure import percentiles, resident_mb
from mertd.bench.music_vectors import MusicVectors
from mertd.errors import BackendError
from mertd.memory.follower import Follower
from mertd.memory.following import Following
from mertd.memory.memory_folder import segments
from mertd.memory.segment import Segment
from mertd.memory.segment_files import size_of
from mertd.memory.store import MAX_FILE
from mertd.stream.endpoint import socket_folder
from mertd.stream.server.publisher import Publisher

VECTORS_PER_S = 50
"""Vectors a second of a busy memory."""

WEEK_S = 7 * 86_400
"""Seconds of a week."""

FULL_ROW = 1_680
"""Predicted bytes of a vector of 768 numbers in a full file."""

OPEN_ROW = 2_090
"""Predicted bytes of one in the file that is being written."""

EMPTY_FILE = 15 * 65_536
"""Predicted bytes of a full file without a row: its tables and their indexes, a page of 64 kB for each."""

AHEAD = 400
"""Most messages that are on their way."""

SAMPLES = 20
"""Looks at the memory of the processes."""

PATIENCE_S = 60.0
"""Seconds without progress after which the week has failed."""

WEEK_FILES = WEEK_S * VECTORS_PER_S * OPEN_ROW // MAX_FILE
"""Files of a week."""


def measure_week(vectors: int, files: int, progress: Callable[[str], object]) -> dict[str, Any]:
    """Publish vectors to a process that remembers, as fast as it stores them. `files`: about so many are filled."""
    max_file = max(256 << 10, vectors * OPEN_ROW // files)
    spawn = get_context("spawn")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mertd-", dir=socket_folder())))
        memory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mertd-")))
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        stack.callback(context.destroy, 0)
        publisher = Publisher(context, f"ipc://{folder / 'publish'}")
        stack.callback(publisher.close)
        pipe, theirs = spawn.Pipe()
        child = spawn.Process(target=_remember, args=(memory, publisher.endpoint, max_file, theirs), daemon=True)
        child.start()
        stack.callback(child.kill)
        theirs.close()
        subscribed(publisher._bound.socket, 1, b"embedding/")
        began = time.monotonic()
        sizes = _publish(publisher, pipe, child.pid or 0, vectors, progress)
        elapsed = time.monotonic() - began
        pipe.send("over")
        child.join(PATIENCE_S)
        kept, predicted, count = _disk(memory)
    half, end = sizes[len(sizes) // 2], sizes[-1]
    return {
        "vectors": vectors,
        "share_of_week": vectors / (WEEK_S * VECTORS_PER_S),
        "files": count,
        "per_s": vectors / elapsed,
        "bytes": kept,
        "predicted_bytes": predicted,
        "remembering_mb": {"half": half[0], "end": end[0]},
        "publishing_mb": {"half": half[1], "end": end[1]},
    }


def _publish(
    publisher: Publisher, pipe: Connection, child: int, vectors: int, progress: Callable[[str], object]
) -> list[tuple[float, float]]:
    """Publish vectors, and return the megabytes of the process that remembers and of this one, again and again."""
    own = os.getpid()
    made = np.concatenate(list(MusicVectors(64).blocks())).astype(np.float32)
    sizes: list[tuple[float, float]] = []
    stored = 0
    for number in range(vectors):
        publisher.send(message(number, made[number % len(made)]))
        while number - stored >= AHEAD or pipe.poll() or (number == vectors - 1 and stored < vectors):
            if not pipe.poll(PATIENCE_S):
                raise BackendError(f"only {stored:,} of {number:,} published messages were stored: the machine is too slow")
            stored = pipe.recv()
        if number % max(1, vectors // SAMPLES) == 0:
            sizes.append((resident_mb(child), resident_mb(own)))
            progress(f"{number:,} of {vectors:,} vectors of the week")
    sizes.append((resident_mb(child), resident_mb(own)))
    return sizes


def _remember(memory: Path, endpoint: str, max_file: int, pipe: Connection) -> None:
    """Remember what is published, and report how much is stored, until told to stop."""
    stopping = threading.Event()
    threading.Thread(target=_stop_when_told, args=(pipe, stopping), daemon=True).start()
    reported = 0
    follower: Follower

    def alive() -> None:
        nonlocal reported
        if follower.stored != reported:
            reported = follower.stored
            pipe.send(reported)

    follower = Follower(Following(memory, (endpoint,), None, max_file=max_file), stopping, alive)
    follower.run()


def _stop_when_told(pipe: Connection, stopping: threading.Event) -> None:
    with suppress(EOFError):
        pipe.recv()
    stopping.set()


def _disk(memory: Path) -> tuple[int, int, int]:
    """Return the bytes of the files, those that were predicted for their rows, and how many files there are."""
    predicted = kept = 0
    paths = segments(memory)
    for path in paths:
        with Segment(path) as segment:
            rows = segment.count("embedding")
        predicted += rows * FULL_ROW + EMPTY_FILE if segment.closed else rows * OPEN_ROW
        kept += size_of(path)
    return kept, predicted, len(paths)


def measure_publishing(rounds: int, windows: int, progress: Callable[[str], object]) -> dict[str, Any]:
    """Return the milliseconds from a vector to a subscriber with and without a memory beside the daemon, which take turns."""
    times: dict[str, list[float]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory(prefix="mertd-") as name:
        for turn in range(rounds):
            for kind in ("without", "with") if turn % 2 else ("with", "without"):
                progress(f"publishing {kind} memory: {turn + 1} of {rounds}")
                settings = {**daemon.TINY, "window": 1.0, "hop": 0.25, "pace": "realtime"}
                settings["source"] = tuple(f"synth:chords?name=s{i}" for i in range(4))
                if kind == "with":
                    settings |= {"remember": True, "memory": name}
                notes = daemon.watch(settings, windows, 1)
                times[kind] += [(at - notes.sent[key]) / 1e6 for key, ats in notes.received.items() for at in ats]
    found: dict[str, Any] = {kind: percentiles(values) for kind, values in times.items()}
    return {**found, "p99_ratio": found["with"]["p99"] / found["without"]["p99"]}
