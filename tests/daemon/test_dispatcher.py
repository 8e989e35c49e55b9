"""Whose turn it is, and who gets the answer: no process, no socket, no clock."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.simulation import LEVELS, MODEL
from mertd.daemon.dispatcher import Dispatcher
from mertd.embed.messages import Answer, Answers, Copied, ModelInfo, Request, Token


class ScriptedStream:
    """Has as many windows due as a test says, and keeps what it is told."""

    def __init__(self, name: str, windows: int = 0) -> None:
        self.name, self.windows, self.taken = name, windows, 0
        self.told: list[tuple[str, int]] = []

    @property
    def due(self) -> bool:
        return self.windows > 0

    def take(self, most: int, now_ns: int) -> list[Request]:  # noqa: ARG002
        assert self.windows, "it is asked only if it has windows due"
        number = min(most, self.windows)
        self.windows -= number
        self.taken += number
        return [Request(Token(self.name, self.taken - i), 0, 1, -70.0) for i in range(number)]

    def copied(self, token: Token, at_ns: int) -> None:  # noqa: ARG002
        self.told.append(("copied", token.number))

    def answered(self, answer: Answer, model: ModelInfo, now_ns: int) -> None:  # noqa: ARG002
        self.told.append(("answered", answer.token.number))

    def embed_lost(self) -> None:
        self.told.append(("lost", -1))


class ScriptedWorker:
    """Takes `batches` of at most `size` windows at a time."""

    def __init__(self, size: int, batches: int) -> None:
        self._size = size
        self._most = batches
        self.batches: list[list[Request]] = []  # not yet answered
        self.ready = True

    @property
    def room(self) -> int:
        return self._size if self.ready and len(self.batches) < self._most else 0

    def submit(self, requests: list[Request]) -> None:
        assert self.room >= len(requests) > 0
        self.batches.append(requests)

    def finish(self) -> list[Request]:
        """Return the batch that is answered next."""
        return self.batches.pop(0) if self.batches else []


class Stage:
    """Streams, a worker, and the dispatcher between them."""

    def __init__(self, windows: dict[str, int], size: int = 1, batches: int = 1) -> None:
        self.streams = {name: ScriptedStream(name, number) for name, number in windows.items()}
        self.worker = ScriptedWorker(size, batches)
        self.dispatcher = Dispatcher(self.streams, lambda: 7)
        self.dispatcher.attach(self.worker)

    def batch(self) -> list[str]:
        """Let one batch be embedded. Return whose windows were in it."""
        self.dispatcher.dispatch()
        batch = self.worker.finish()
        self.dispatcher.copied(Copied(tuple(request.token for request in batch), 7))
        answers = Answers(tuple(Answer(request.token, LEVELS, None, 5) for request in batch))
        self.worker.ready = False
        self.dispatcher.answered(answers, MODEL)
        self.worker.ready = True
        return [request.token.stream for request in batch]


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
    stage = Stage({"a": 1, "b": 2, "c": 0}, size=4)
    stage.batch()
    assert [stream.told for stream in stage.streams.values()] == [
        [("copied", 1), ("answered", 1)],
        [("copied", 1), ("copied", 2), ("answered", 1), ("answered", 2)],
        [],
    ]


def test_the_next_batch_follows_the_answers() -> None:
    stage = Stage({"a": 2})
    stage.dispatcher.dispatch()
    (request,) = stage.worker.finish()
    stage.dispatcher.answered(Answers((Answer(request.token, LEVELS, None, 5),)), MODEL)
    assert [[request.token.number for request in batch] for batch in stage.worker.batches] == [[2]]


def test_a_worker_that_takes_several_batches_gets_them_at_once() -> None:
    stage = Stage({"a": 5, "b": 100}, size=4, batches=3)
    stage.dispatcher.due("a")
    stage.dispatcher.due("b")
    assert [[request.token.stream for request in batch] for batch in stage.worker.batches] == [["a"] * 4, ["a"], ["b"] * 4]
    assert stage.batch() == ["a"] * 4
    stage.dispatcher.due("b")
    assert [len(batch) for batch in stage.worker.batches] == [1, 4, 4]


def test_every_stream_is_told_that_the_worker_is_lost() -> None:
    stage = Stage({"a": 1, "b": 0})
    stage.dispatcher.dispatch()
    stage.dispatcher.worker_lost()
    assert [stream.told for stream in stage.streams.values()] == [[("lost", -1)]] * 2


def test_without_a_worker_nothing_is_taken() -> None:
    stream = ScriptedStream("a", 1)
    Dispatcher({"a": stream}, lambda: 7).dispatch()
    assert not stream.taken


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 3)) | st.none(), max_size=40),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_looking_only_at_streams_that_said_so_gives_the_same_turns(
    steps: list[tuple[str, int] | None], size: int, most: int
) -> None:
    """Each step lets windows of a stream become due, or the batch at hand be answered."""
    stages = [Stage(dict.fromkeys("abcde", 0), size, most) for _ in range(2)]
    batches: list[list[list[str]]] = [[], []]
    for step in steps:
        for stage, seen in zip(stages, batches, strict=True):
            if step is not None:
                name, windows = step
                stage.streams[name].windows += windows
                stage.dispatcher.due(name) if stage is stages[0] else stage.dispatcher.dispatch()
                continue
            batch = stage.worker.finish()
            answers = Answers(tuple(Answer(request.token, LEVELS, None, 5) for request in batch))
            seen.append([request.token.stream for request in batch])
            stage.dispatcher.answered(answers, MODEL)
    assert batches[0] == batches[1]
    assert stages[0].worker.batches == stages[1].worker.batches


def test_few_of_many_streams_are_looked_at() -> None:
    stage = Stage({f"s{number}": 0 for number in range(1_000)})
    stage.dispatcher.dispatch()
    looked = Counter[str]()

    class Watched(ScriptedStream):
        @property
        def due(self) -> bool:
            looked[self.name] += 1
            return super().due

    for name in list(stage.streams):
        stage.streams[name] = Watched(name)
    stage.dispatcher._requesters = stage.streams
    stage.streams["s7"].windows = 1
    stage.dispatcher.due("s7")
    assert looked == {"s7": 1}
    assert [[request.token.stream for request in batch] for batch in stage.worker.batches] == [["s7"]]


ALWAYS = "always"
SOMETIMES = "sometimes"
PAUSED = "paused"


@given(
    st.lists(st.sampled_from([ALWAYS, SOMETIMES, PAUSED]), min_size=1, max_size=12),
    st.integers(1, 8),
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(1, 20), st.integers(0, 2**12 - 1)), max_size=12),
)
def test_streams_that_always_have_windows_due_get_equally_many(
    kinds: list[str], size: int, most: int, stretches: list[tuple[int, int]]
) -> None:
    """Whatever the others do, and over any stretch of time: the difference is never more than one window."""
    stage = Stage({f"{kind}{i}": 0 for i, kind in enumerate(kinds)}, size, most)
    always = [stream for name, stream in stage.streams.items() if name.startswith(ALWAYS)]
    sometimes = [stream for name, stream in stage.streams.items() if name.startswith(SOMETIMES)]
    log: list[str] = []
    for batches, which in stretches:
        for i, stream in enumerate(sometimes):
            stream.windows += which >> i & 1
        for _ in range(batches):
            for stream in always:
                stream.windows = size * most
            log += stage.batch()
    for begin in range(0, len(log), max(1, len(log) // 20)):
        for end in range(begin, len(log) + 1, max(1, len(log) // 20)):
            served = Counter(log[begin:end])
            counts = [served[stream.name] for stream in always]
            assert not counts or max(counts) - min(counts) <= 1


@pytest.mark.parametrize(("size", "most"), [(1, 1), (4, 1), (1, 3), (4, 3)])
def test_a_window_never_waits_for_more_than_one_round(size: int, most: int) -> None:
    """Behind what the worker has been given."""
    stage = Stage({f"busy{i}": 1_000 for i in range(20)} | {"rare": 0}, size, most)
    for _ in range(50):
        stage.batch()
        stage.streams["rare"].windows = 1
        log: list[str] = []
        while "rare" not in log:
            log += stage.batch()
        assert log.index("rare") <= 20 + size * (most - 1)
