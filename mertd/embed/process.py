"""The embed process: loads the model, then answers requests for windows until the supervisor ends it.

All native code of the model runs in the main thread, because MLX requires it. Beside it, one thread receives requests, one
reads their windows from the rings, others make those ready for the network, and one sends heartbeats. A GPU computes while the
next batch is made ready and copied to it; a backend that computes where the main thread does is given one batch at a time.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection

from mertd.embed.audio import PreparedWindow, prepare
from mertd.embed.embedder import Embedder, Waiting
from mertd.embed.messages import Alive, Answer, Answers, Copied, Failed, Ready, Request, Trying
from mertd.embed.model_settings import ModelSettings
from mertd.errors import MertdError
from mertd.processes.child import Outbox, begin
from mertd.ring import Ring
from mertd.text import shorten

GPU_BATCHES = 3
"""Batches that a GPU's process is given at a time: one is computed, the next is made ready meanwhile, and one more is there as
soon as that is done."""

GPU_PREPARERS = 4
"""Threads that make the windows of a batch ready for a GPU: one of them takes 3 ms for a window, an H100 half of that."""

HEARTBEAT_S = 0.5
"""Seconds between heartbeats."""

NICE = 5
"""Priority below that of capture, whose sleep of 50 ms on two busy cores then overran by 2.0 ms instead of 3.8 (medians)."""


@dataclass(frozen=True, eq=False)
class _Batch:
    """Windows that were read and made ready for the network."""

    requests: tuple[Request, ...]
    windows: list[PreparedWindow]


@dataclass(frozen=True, eq=False)
class _Begun:
    """A batch that the model has been given."""

    batch: _Batch
    began_ns: int
    wait: Waiting


def main(settings: ModelSettings, rings: Mapping[str, Ring], pipe: Connection) -> None:
    """Run the process. `rings`: stream -> its samples."""
    requests: queue.SimpleQueue[tuple[Request, ...]] = queue.SimpleQueue()
    begin(pipe, requests.put)
    outbox = Outbox(pipe)
    with contextlib.suppress(OSError):
        os.nice(NICE)
    threading.Thread(target=_beat, args=(outbox,), name="heartbeat", daemon=True).start()
    try:
        embedder = Embedder(settings, lambda backend, others: outbox.send(Trying(backend, others)))
        most = embedder.backend.max_batch
        reader = _Reader(rings, outbox, min(GPU_PREPARERS, embedder.threads.count) if most > 1 else 1)
        batches: queue.SimpleQueue[_Batch | Exception] = queue.SimpleQueue()
        threading.Thread(target=reader.run, args=(requests, batches), name="reader", daemon=True).start()
        outbox.send(Ready(embedder.info, most, GPU_BATCHES if most > 1 else 1))
        _embed_all(embedder, batches, outbox)
    except MemoryError as error:
        outbox.send(Failed(f"embed process is out of memory: {error or 'an allocation failed'}", MertdError.exit_code))
    except MertdError as error:
        outbox.send(Failed(shorten(str(error)), error.exit_code))
    except Exception:  # noqa: BLE001 - a bug: its traceback belongs in the daemon's log
        outbox.send(Failed(shorten(traceback.format_exc()), 1))


def _beat(outbox: Outbox) -> None:
    while True:
        outbox.send(Alive())
        time.sleep(HEARTBEAT_S)


class _Reader:
    """Reads windows from the rings and makes them ready."""

    def __init__(self, rings: Mapping[str, Ring], outbox: Outbox, threads: int) -> None:
        self._rings = rings
        self._outbox = outbox
        self._pool = ThreadPoolExecutor(threads, "prepare")

    def run(self, requests: queue.SimpleQueue[tuple[Request, ...]], batches: queue.SimpleQueue[_Batch | Exception]) -> None:
        """Make batches ready, in the order of their requests. What goes wrong is raised by the main thread."""
        try:
            while True:
                batches.put(self.read(requests.get()))
        except Exception as error:  # noqa: BLE001
            batches.put(error)

    def read(self, requests: tuple[Request, ...]) -> _Batch:
        """Make one batch ready."""
        windows = [self._rings[request.token.stream].read(request.start, request.end) for request in requests]
        self._outbox.send(Copied(tuple(request.token for request in requests), time.monotonic_ns()))
        gates = [request.gate_dbfs for request in requests]
        return _Batch(requests, list(self._pool.map(prepare, windows, gates)))


def _embed_all(embedder: Embedder, batches: queue.SimpleQueue[_Batch | Exception], outbox: Outbox) -> None:
    """Embed batch after batch. One is begun, if it is ready, before the one before is waited for."""
    begun: _Begun | None = None
    answered_ns = 0
    while True:
        following = _begin(embedder, batches.get()) if begun is None or not batches.empty() else None
        if begun is not None:
            answered_ns = _answer(begun, answered_ns, outbox)
        begun = following


def _begin(embedder: Embedder, batch: _Batch | Exception) -> _Begun:
    if isinstance(batch, Exception):
        raise batch
    began_ns = time.monotonic_ns()
    wait = embedder.begin_prepared([window.samples for window in batch.windows if not window.is_silent])
    return _Begun(batch, began_ns, wait)


def _answer(begun: _Begun, free_ns: int, outbox: Outbox) -> int:
    """Wait for the hidden states of a batch and send them. Return when it was computed. `free_ns`: when the one before was."""
    vectors = iter(begun.wait())
    at_ns = time.monotonic_ns()
    took_ns = at_ns - max(begun.began_ns, free_ns)
    answers = []
    for request, window in zip(begun.batch.requests, begun.batch.windows, strict=True):
        vector = None if window.is_silent else next(vectors)
        failed = vector is None and not window.is_silent
        answers.append(Answer(request.token, window.levels, vector, took_ns, failed))
    outbox.send(Answers(tuple(answers), at_ns))
    return at_ns
