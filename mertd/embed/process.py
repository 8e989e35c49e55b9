"""The embed process: loads the model, then answers requests for windows until the supervisor ends it.

All native code runs in the main thread, because MLX requires it; a second thread receives, a third one sends heartbeats.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection

from mertd.embed.audio import measure_levels
from mertd.embed.embedder import Embedder
from mertd.embed.messages import Alive, Answer, Answers, Copied, Failed, Ready, Request, Trying
from mertd.embed.model_settings import ModelSettings
from mertd.errors import MertdError
from mertd.processes.child import Outbox, begin
from mertd.ring import Ring
from mertd.text import shorten

HEARTBEAT_S = 0.5
"""Seconds between heartbeats."""

NICE = 5
"""Priority below that of capture, whose sleep of 50 ms on two busy cores then overran by 2.0 ms instead of 3.8 (medians)."""


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
        outbox.send(Ready(embedder.info, embedder.backend.max_batch))
        while True:
            _answer(embedder, rings, requests.get(), outbox)
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


def _answer(embedder: Embedder, rings: Mapping[str, Ring], batch: tuple[Request, ...], outbox: Outbox) -> None:
    windows = [rings[request.token.stream].read(request.start, request.end) for request in batch]
    outbox.send(Copied(tuple(request.token for request in batch), time.monotonic_ns()))
    levels = [measure_levels(samples) for samples in windows]
    # Levels that are not finite come from samples that are not. No gate applies to those: the embedder refuses them.
    loud = [not level.rms_dbfs < request.gate_dbfs for request, level in zip(batch, levels, strict=True)]
    started = time.monotonic_ns()
    vectors = iter(embedder.embed([samples for samples, is_loud in zip(windows, loud, strict=True) if is_loud]))
    took = time.monotonic_ns() - started
    answers = []
    for request, level, is_loud in zip(batch, levels, loud, strict=True):
        vector = next(vectors) if is_loud else None
        answers.append(Answer(request.token, level, vector, took, failed=is_loud and vector is None))
    outbox.send(Answers(tuple(answers), started + took))
