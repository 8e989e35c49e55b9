"""The embed process in one process: in what order it begins, waits for and answers batches."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from mertd.embed import process
from mertd.embed.audio import Levels, PreparedWindow
from mertd.embed.embedder import Embedder
from mertd.embed.messages import Answers, Copied, Request, Token
from mertd.processes.child import Outbox
from mertd.ring import Ring

LENGTH = 1_000
GATE = -70.0


class Model:
    """Begins batches as a GPU does. Its vectors are what it was given; `log` says in which order things happen."""

    def __init__(self, log: list[Any]) -> None:
        self._log = log
        self._begun = 0

    def begin_prepared(self, windows: Sequence[NDArray[np.float32] | None]) -> Callable[[], list[NDArray[np.float32] | None]]:
        number = self._begun
        self._begun += 1
        self._log.append(f"begin {number}")

        def wait() -> list[NDArray[np.float32] | None]:
            self._log.append(f"wait {number}")
            return list(windows)

        return wait


class Log(list[Any]):
    """What is sent to the supervisor, among all else that happens."""

    def send(self, message: object) -> None:
        self.append(message)


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = Ring(4 * LENGTH)
    made.write(0, np.sin(np.arange(2 * LENGTH, dtype=np.float32)))
    made.write(2 * LENGTH, np.full(LENGTH, np.nan, np.float32))
    made.write(3 * LENGTH, np.zeros(LENGTH, np.float32))
    yield made
    made.close()


def batch(ring: Ring, log: Log, *starts: int) -> process._Batch:
    requests = tuple(Request(Token("room", start), start, start + LENGTH, GATE) for start in starts)
    return process._Reader({"room": ring}, cast(Outbox, log), 2).read(requests)


def embed_all(log: Log, batches: list[process._Batch]) -> None:
    """All are ready from the beginning; a fault ends it."""
    ready: queue.SimpleQueue[process._Batch | Exception] = queue.SimpleQueue()
    for each in [*batches, EOFError("no more")]:
        ready.put(each)
    with pytest.raises(EOFError, match="no more"):
        process._embed_all(cast(Embedder, Model(log)), ready, cast(Outbox, log))


def test_the_next_batch_is_begun_before_one_is_waited_for(ring: Ring) -> None:
    log = Log()
    batches = [batch(ring, Log(), start) for start in (0, 1, 2)]
    embed_all(log, batches)
    assert [each if isinstance(each, str) else [answer.token.number for answer in each.answers] for each in log] == (
        ["begin 0", "begin 1", "wait 0", [0], "begin 2", "wait 1", [1]]
    )


def test_each_answer_is_that_of_its_window_whatever_the_others_are(ring: Ring) -> None:
    log = Log()
    first, second = batch(ring, log, 3 * LENGTH, 0, 2 * LENGTH, 500), batch(ring, log, 1, 3 * LENGTH)
    assert [type(message) for message in log] == [Copied, Copied]
    embed_all(log, [first, second, batch(ring, Log(), 0)])
    found = {a.token.number: a for message in log if isinstance(message, Answers) for a in message.answers}
    silent, bad = found[3 * LENGTH], found[2 * LENGTH]
    assert (silent.vector, silent.failed) == (None, False)
    assert (bad.vector, bad.failed) == (None, True)
    for start in (0, 500, 1):
        samples = ring.read(start, start + LENGTH)
        np.testing.assert_allclose(found[start].vector, (samples - samples.mean()) / samples.std(), atol=1e-5)
        assert not found[start].failed


def test_time_that_a_batch_waits_for_the_one_before_is_not_its_own() -> None:
    window = PreparedWindow(Levels(-20.0, -3.0, 0, 0), False, None)
    requests = (Request(Token("room", 0), 0, LENGTH, GATE),)
    began_ns = time.monotonic_ns()
    begun = process._Begun(process._Batch(requests, [window]), began_ns - 10**12, lambda: [None])
    log = Log()
    at_ns = process._answer(begun, began_ns, cast(Outbox, log))
    ((answer,),) = (message.answers for message in log)
    assert answer.embed_ns == at_ns - began_ns


def test_what_goes_wrong_while_a_batch_is_read_is_raised_where_batches_are_embedded() -> None:
    requests: queue.SimpleQueue[tuple[Request, ...]] = queue.SimpleQueue()
    requests.put((Request(Token("nowhere", 0), 0, LENGTH, GATE),))
    ready: queue.SimpleQueue[process._Batch | Exception] = queue.SimpleQueue()
    process._Reader({}, cast(Outbox, Log()), 1).run(requests, ready)
    with pytest.raises(KeyError, match="nowhere"):
        process._embed_all(cast(Embedder, Model([])), ready, cast(Outbox, Log()))
