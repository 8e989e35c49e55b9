"""Embedding of inputs side by side: decoded by several threads, and computed in batches that span inputs.

Rules of this file: the model and the output are used by one thread. While a GPU computes a batch, that thread copies the next
one to it and writes the one before. A batch always has the same number of windows, all of one length, so that a vector depends
neither on the windows that were computed with it nor on their number: what an interrupted batch lacks is computed to the same
bits. The last batch is filled up with copies, whose vectors are dropped. Nothing is padded in time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mertd.capture.source import EndReport
from mertd.defaults import SAMPLE_RATE
from mertd.embed.embedder import Embedder, Vector, Waiting
from mertd.errors import BackendError, MertdError, SourceError
from mertd.offline.decoders import Decoders, Ended, Found, Job, WindowSettings
from mertd.offline.inputs import Input
from mertd.offline.outputs import Output
from mertd.offline.source_windows import HeardWindow, SilentWindow, as_embedding
from mertd.offline.stored_batch import Outcome

POLL_S = 0.1
"""Seconds between two looks at whether to stop, while nothing is decoded."""

MAX_PENDING = 256
"""Windows and ends of inputs, silent windows included, that may wait for a batch to be full."""

T = TypeVar("T")


@dataclass
class _Begun:
    """An input that was begun, and what is written of it."""

    job: Job
    embedded: int  # windows
    silent: int  # windows below the gate


class SideBySide:
    """Embeds inputs that can be read again, of which several are in work at a time."""

    def __init__(
        self,
        embedder: Embedder,
        settings: WindowSettings,
        output: Output,
        stopping: Callable[[], bool],
        progress: Callable[[Input, float], object],
        ended: Callable[[Input, Outcome], object],
    ) -> None:
        """`progress` is called with the seconds embedded of an input; `ended` with how each of them ended, in any order."""
        self._embedder = embedder
        self._settings = settings
        self._output = output
        self._stopping = stopping
        self._progress = progress
        self._ended = ended
        self._begun: dict[Job, _Begun] = {}
        self._pending: list[Found] = []
        self._in_work: tuple[list[Found], Waiting | Exception | None] | None = None
        self._batch = embedder.backend.max_batch

    def run(self, items: Iterable[Input], begin: Callable[[Input], bool]) -> bool:
        """Embed `items`, except those of which `begin` says that there is nothing to do. Return False if it was stopped.

        Raises `ResultError`, `JournalError`, `BackendError` and `OSError`, which no input could survive.
        """
        waiting = deque(items)
        decoders = Decoders(self._settings, self._embedder.threads.count, self._batch)
        try:
            while not self._stopping():
                while waiting and decoders.waiting < decoders.count:
                    self._give(waiting.popleft(), decoders, begin)
                found = decoders.take(POLL_S)
                if found is not None:
                    self._pending.append(found)
                is_over = found is None and not waiting and decoders.is_idle
                if is_over or self._is_batch_full():
                    self._begin_batch()
                if found is None:  # nothing to do meanwhile
                    self._finish_batch()
                if is_over:
                    return True
            self._finish_batch()
            return False
        finally:
            decoders.close()

    def _give(self, item: Input, decoders: Decoders, begin: Callable[[Input], bool]) -> None:
        if not begin(item):
            return
        done = self._output.begin(item)
        job = Job(item, done)
        self._begun[job] = _Begun(job, done.embedded, done.silent)
        decoders.give(job)

    @staticmethod
    def _loud(batch: list[Found]) -> list[HeardWindow]:
        return [found for _, found in batch if isinstance(found, HeardWindow) and not found.prepared.is_silent]

    def _is_batch_full(self) -> bool:
        """Whether what is pending need not, or must not, wait longer."""
        loud = len(self._loud(self._pending))
        return bool(self._pending) and (not loud or loud >= self._batch or len(self._pending) >= MAX_PENDING)

    def _begin_batch(self) -> None:
        """Begin to compute what is pending, and write what was begun before while that is computed."""
        batch, self._pending = self._pending, []
        loud = self._loud(batch)
        wait = self._try(lambda: self._embedder.begin_prepared(self._filled_up(loud))) if loud else None
        self._finish_batch()
        self._in_work = batch, wait
        if self._batch == 1 or not loud:  # it is computed in this thread, and done
            self._finish_batch()

    def _finish_batch(self) -> None:
        """Write what was begun."""
        if self._in_work is None:
            return
        (batch, wait), self._in_work = self._in_work, None
        loud = self._loud(batch)
        vectors = self._try(wait) if callable(wait) else wait
        if isinstance(vectors, Exception):
            if len(loud) == 1:
                self._write(batch, {id(loud[0]): vectors})
            else:  # one of them is at fault, or none
                self._write(batch, {id(heard): self._embed_alone(heard) for heard in loud})
        else:
            self._write(batch, {id(heard): vector for heard, vector in zip(loud, vectors or (), strict=False)})

    def _filled_up(self, loud: list[HeardWindow]) -> list[NDArray[np.float32] | None]:
        windows = [heard.prepared.samples for heard in loud]
        return windows + windows[-1:] * (self._batch - len(windows))

    def _embed_alone(self, heard: HeardWindow) -> Vector | Exception:
        found = self._try(lambda: self._embedder.embed_prepared(self._filled_up([heard])))
        return found if isinstance(found, Exception) else found[0]

    @staticmethod
    def _try(compute: Callable[[], T]) -> T | Exception:
        """Return what `compute` returns, or what it raises, to be told as that of an input."""
        try:
            return compute()
        except (BackendError, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001
            return error

    def _write(self, batch: list[Found], vectors: dict[int, Vector | Exception]) -> None:
        """Write a batch, in the order in which it came. `vectors`: by the `id` of their windows."""
        for job, found in batch:
            begun = self._begun.get(job)
            if begun is None:  # it has failed
                continue
            if isinstance(found, Ended):
                self._end(begun, found.report if found.error is None else failure(job.item, found.error))
            elif found.prepared.is_silent:
                self._output.add(job.item, SilentWindow(found.window, found.prepared.levels))
                begun.silent += 1
            else:
                self._add(begun, found, vectors[id(found)])
            self._progress(job.item, found.window.end / SAMPLE_RATE if isinstance(found, HeardWindow) else 0.0)

    def _add(self, begun: _Begun, heard: HeardWindow, vector: Vector | Exception) -> None:
        item = begun.job.item
        try:
            if isinstance(vector, Exception):
                raise vector
            message = as_embedding(item.address, heard, begun.embedded, vector, self._embedder.info.model)
        except Exception as error:  # noqa: BLE001 - told as that of its input
            self._end(begun, failure(item, error))
            return
        self._output.add(item, message)
        begun.embedded += 1

    def _end(self, begun: _Begun, report: EndReport) -> None:
        begun.job.is_abandoned = True
        del self._begun[begun.job]
        outcome = Outcome(report, begun.silent, begun.embedded)
        self._output.end(begun.job.item, outcome)
        self._ended(begun.job.item, outcome)


def failure(item: Input, error: Exception) -> EndReport:
    """Return what to say of an input that raised an error."""
    match error:
        case SourceError() | MertdError():
            return EndReport(0.0, str(error))
        case OSError():
            return EndReport(0.0, f"{item.label}: {error.strerror or error}")
    return EndReport(0.0, f"{item.label}: cannot be embedded, {type(error).__name__}: {error}")
