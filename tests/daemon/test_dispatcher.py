"""Whose turn it is, and who gets the answer: no process, no socket, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.simulation import LEVELS, MODEL
from mertd.daemon.dispatcher import Dispatcher
from mertd.embed.messages import Answer, Answers, Copied, Ready, Request


class ScriptedStream:
    """Has as many windows due as a test says, and keeps what it is told."""

    def __init__(self, name: str, tokens: Iterator[int], windows: int = 0) -> None:
        self.name, self.windows, self.taken = name, windows, 0
        self._tokens = tokens
        self.told: list[tuple[str, int]] = []

    @property
    def due(self) -> bool:
        return self.windows > 0

    def take(self, most: int, now_ns: int) -> list[Request]:  # noqa: ARG002
        assert self.windows, "it is asked only if it has windows due"
        number = min(most, self.windows)
        self.windows -= number
        self.taken += number
        return [Request(next(self._tokens), self.name, 0, 1, -70.0) for _ in range(number)]

    def copied(self, token: int, at_ns: int) -> None:  # noqa: ARG002
        self.told.append(("copied", token))

    def answered(self, answer: Answer, model: Ready, now_ns: int) -> None:  # noqa: ARG002
        self.told.append(("answered", answer.token))

    def embed_lost(self) -> None:
        self.told.append(("lost", -1))


class ScriptedWorker:
    """Takes a batch of at most `size` windows at a time."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.batch: list[Request] = []
        self.ready = True

    @property
    def room(self) -> int:
        return self._size if self.ready and not self.batch else 0

    def submit(self, requests: list[Request]) -> None:
        assert self.room >= len(requests) > 0
        self.batch = requests


class Stage:
    """Streams, a worker, and the dispatcher between them."""

    def __init__(self, windows: dict[str, int], size: int = 1) -> None:
        tokens = count()
        self.streams = {name: ScriptedStream(name, tokens, number) for name, number in windows.items()}
        self.worker = ScriptedWorker(size)
        self.dispatcher = Dispatcher(self.streams, self.worker, lambda: 7)

    def batch(self) -> list[str]:
        """Let one batch be embedded. Return whose windows were in it."""
        self.dispatcher.dispatch()
        batch, self.worker.batch = self.worker.batch, []
        self.dispatcher.copied(Copied(tuple(request.token for request in batch), 7))
        self.dispatcher.answered(Answers(tuple(Answer(request.token, LEVELS, None, 5) for request in batch)), MODEL)
        return [request.stream for request in batch]


def test_streams_take_turns_whatever_stands_between_them() -> None:
    """The turn of a stream that has nothing due does not go to the one behind it in the list."""
    stage = Stage({"a": 100} | {f"paused{i}": 0 for i in range(50)} | {"b": 100, "c": 100})
    assert [stage.batch() for _ in range(6)] == [["a"], ["b"], ["c"], ["a"], ["b"], ["c"]]


def test_a_batch_is_shared_and_filled() -> None:
    stage = Stage({"a": 100, "b": 1, "c": 100}, size=4)
    assert [stage.batch() for _ in range(3)] == [["a", "b", "c", "a"], ["c", "a", "c", "a"], ["c", "a", "c", "a"]]


def test_nothing_is_taken_without_room() -> None:
    stage = Stage({"a": 5})
    stage.worker.ready = False
    stage.dispatcher.dispatch()
    stage.worker.ready = True
    stage.dispatcher.dispatch()
    stage.dispatcher.dispatch()
    assert stage.streams["a"].taken == 1, "the worker is busy"


def test_nothing_is_submitted_if_nothing_is_due() -> None:
    stage = Stage({"a": 0, "b": 0})
    assert stage.batch() == []
    assert Stage({}).batch() == []


def test_an_answer_is_told_to_the_stream_that_asked_and_to_no_other() -> None:
    stage = Stage({"a": 1, "b": 1, "c": 0}, size=4)
    stage.batch()
    assert [stream.told for stream in stage.streams.values()] == [
        [("copied", 0), ("answered", 0)],
        [("copied", 1), ("answered", 1)],
        [],
    ]


def test_what_a_lost_worker_was_asked_is_told_to_nobody() -> None:
    stage = Stage({"a": 1})
    stage.dispatcher.dispatch()
    stage.dispatcher.worker_lost()
    stage.dispatcher.copied(Copied((0,), 7))
    stage.dispatcher.answered(Answers((Answer(0, LEVELS, None, 5),)), MODEL)
    assert stage.streams["a"].told == [("lost", -1)]


ALWAYS, SOMETIMES, PAUSED = "always", "sometimes", "paused"


@given(
    st.lists(st.sampled_from([ALWAYS, SOMETIMES, PAUSED]), min_size=1, max_size=12),
    st.integers(1, 8),
    st.lists(st.tuples(st.integers(1, 20), st.integers(0, 2**12 - 1)), max_size=12),
)
def test_streams_that_always_have_windows_due_get_equally_many(
    kinds: list[str], size: int, stretches: list[tuple[int, int]]
) -> None:
    """Whatever the others do, and over any stretch of time: the difference is never more than one window."""
    stage = Stage({f"{kind}{i}": 0 for i, kind in enumerate(kinds)}, size)
    always = [stream for name, stream in stage.streams.items() if name.startswith(ALWAYS)]
    sometimes = [stream for name, stream in stage.streams.items() if name.startswith(SOMETIMES)]
    log: list[str] = []
    for batches, which in stretches:
        for i, stream in enumerate(sometimes):
            stream.windows += which >> i & 1
        for _ in range(batches):
            for stream in always:
                stream.windows = size
            log += stage.batch()
    for begin in range(0, len(log), max(1, len(log) // 20)):
        for end in range(begin, len(log) + 1, max(1, len(log) // 20)):
            served = Counter(log[begin:end])
            counts = [served[stream.name] for stream in always]
            assert not counts or max(counts) - min(counts) <= 1


@pytest.mark.parametrize("size", [1, 4])
def test_a_window_never_waits_for_more_than_one_round(size: int) -> None:
    stage = Stage({f"busy{i}": 1_000 for i in range(20)} | {"rare": 0}, size)
    for _ in range(50):
        stage.batch()
        stage.streams["rare"].windows = 1
        log: list[str] = []
        while "rare" not in log:
            log += stage.batch()
        assert log.index("rare") <= 20
