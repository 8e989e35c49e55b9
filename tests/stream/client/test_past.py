"""A client that is away, and started again, over runs of a daemon that is started again: without sockets."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from example_counts import examples
from mertd.stream.client.backlog import Backlog
from mertd.stream.client.cursor_file import CursorFile
from mertd.stream.client.inbox import Inbox, Selection
from mertd.stream.client.link import Daemon
from mertd.stream.client.past import END, Asked, Key, NextRun, Past, Place
from mertd.stream.client.sequence import Found, MissingRange, Sequence
from mertd.wire import Embedding, Event, Status, Time
from messages import embedding, event, status

ENDPOINT = "tcp://daemon"
PAGE = 3
KEYS: list[Key] = [(kind, stream) for kind in ("embedding", "event") for stream in ("a", "b")]


class Daemons:
    """All runs of a daemon, and a memory that has everything."""

    def __init__(self) -> None:
        self.runs: list[dict[Key, list[Embedding | Event]]] = []
        self._now_ns = 0
        self.restart()

    def restart(self) -> None:
        self.runs.append({key: [] for key in KEYS})

    @property
    def boot(self) -> bytes:
        return bytes([len(self.runs)] * 16)

    def send(self, key: Key) -> Embedding | Event:
        kind, stream = key
        sent = self.runs[-1][key]
        self._now_ns += 1_000
        if kind == "event":
            message: Embedding | Event = event(len(sent), stream, boot=self.boot, time_ns=self._now_ns)
        else:
            message = embedding(len(sent), stream, boot=self.boot, time=Time(self._now_ns, self._now_ns, 0, 0.0))
        sent.append(message)
        return message

    def status(self) -> Status:
        counters = {
            stream: {"embedded": len(self.runs[-1]["embedding", stream]), "events": len(self.runs[-1]["event", stream])}
            for stream in ("a", "b")
        }
        return status(boot=self.boot, uptime_ns=self._now_ns, streams=counters)

    def find(self, asked: Asked) -> Found:
        if isinstance(asked, MissingRange):
            found = self.runs[asked.boot[0] - 1][asked.kind, asked.stream][asked.first : asked.end]
            return Found(found[:PAGE], len(found) > PAGE)
        for run in self.runs[0 if asked.after is None else asked.after[0] :]:
            found = [m for m in run[asked.kind, asked.stream] if asked.after is not None or when_ns(m) >= asked.since_ns]
            if found:
                return Found(found[:PAGE], len(found) > PAGE)
        return Found([], False)

    def all_since(self, since_ns: int) -> dict[Key, list[Embedding | Event]]:
        return {key: [m for run in self.runs for m in run[key] if when_ns(m) >= since_ns] for key in KEYS}


def when_ns(message: Embedding | Event) -> int:
    return message.time.start_ns if isinstance(message, Embedding) else message.time_ns


@dataclass
class ScriptedLink:
    """A link without sockets."""

    past: Past | None
    sequence: Sequence
    daemon: Daemon
    fetches_past: bool = True
    asks_past_at: float = float("-inf")


class Client:
    """A client that writes its cursor after each message. `done`: what it is done with."""

    def __init__(self, daemons: Daemons, path: Path, since_ns: int | None, done: dict[Key, list[Embedding | Event]]) -> None:
        self._daemons = daemons
        self.cursor = CursorFile(path, since_ns)
        self.inbox = Inbox(Selection((), ("embedding", "event"), False, True))
        self._link = ScriptedLink(self.cursor.past(ENDPOINT), Sequence(), Daemon(ENDPOINT, None, None))
        self._backlog = Backlog(self.inbox, Selection((), ("embedding", "event"), False, True), self.cursor)
        self.done = done

    def hear(self, message: Embedding | Event | Status, pages: int = 1 << 30) -> None:
        """Take a message, and fetch up to so many pages of what is missing before it."""
        self._backlog.add(message, self._link)  # type: ignore[arg-type]
        while self._backlog and pages > 0:
            if (asked := self._backlog.next_asked()) is not None:
                self._backlog.give(self._daemons.find(asked[1]))
                pages -= 1

    def take(self) -> None:
        message = self.inbox.take().message
        assert not isinstance(message, Status)
        self.done[message.kind, message.stream].append(message)
        self.cursor.done(ENDPOINT, message)

    def take_all(self) -> None:
        while self.inbox:
            self.take()


STEPS = st.lists(
    st.one_of(
        st.sampled_from(KEYS),  # the daemon sends, and the client hears it
        st.tuples(st.just("unheard"), st.sampled_from(KEYS)),
        st.sampled_from(["status", "restart", "take", "take", "kill"]),
        st.tuples(st.just("killed while it catches up"), st.integers(0, 6)),
    ),
    max_size=60,
)


@given(STEPS, STEPS, st.booleans())
@settings(max_examples=examples(150), deadline=None)
def test_everything_once_in_order_however_often_client_and_daemon_are_started_again(
    before: list[object], script: list[object], begins_with_past: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cursor"
        daemons = Daemons()
        for step in before:
            if step == "restart":
                daemons.restart()
            elif isinstance(step, tuple) and step in KEYS:
                daemons.send(step)
        since_ns = 5_000
        expected_before = daemons.all_since(since_ns) if begins_with_past else {key: [] for key in KEYS}
        start_ns = daemons._now_ns + 1
        done: dict[Key, list[Embedding | Event]] = defaultdict(list)

        def start() -> Client:
            return Client(daemons, path, since_ns if begins_with_past else None, done)

        def kill(client: Client) -> Client:
            client.cursor.close()
            return start()

        client = start()
        client.hear(daemons.status())
        for step in [*script, "status"]:
            match step:
                case "status":
                    client.hear(daemons.status())
                case "restart":
                    daemons.restart()
                case "take":
                    if client.inbox:
                        client.take()
                case "kill":
                    client = kill(client)
                case ("unheard", (kind, stream)):
                    daemons.send((str(kind), str(stream)))
                case ("killed while it catches up", int() as pages):
                    client = kill(client)
                    client.hear(daemons.status(), pages)
                    if client.inbox:
                        client.take()
                    client = kill(client)
                case (str() as kind, str() as stream):
                    client.hear(daemons.send((kind, stream)))
        client = kill(client)
        client.hear(daemons.status())
        client.take_all()
        client.cursor.close()
        sent = daemons.all_since(start_ns)
        for key in KEYS:
            assert [(m.boot, m.seq) for m in done[key]] == [(m.boot, m.seq) for m in (*expected_before[key], *sent[key])], key


def test_what_the_memory_does_not_have_is_counted() -> None:
    """Within a run, at the beginning of a later one, and when only later messages of the present run are there."""
    boots = [bytes([number] * 16) for number in (1, 2)]
    kept = {boots[0]: [4, 7], boots[1]: [2, 3]}

    def find(asked: Asked) -> Found:
        if isinstance(asked, MissingRange):
            return Found([embedding(seq, boot=asked.boot) for seq in kept[asked.boot] if asked.first <= seq < asked.end], False)
        assert isinstance(asked, NextRun)
        after = [boot for boot in boots if asked.after is None or boot > asked.after]
        return Found([embedding(seq, boot=after[0]) for seq in kept[after[0]]] if after else [], False)

    past = Past({("embedding", "room"): Place(boots[0], 3)}, None)
    delivered: list[tuple[bytes, int, int]] = []
    steps = past.requests(
        status(boot=boots[1], streams={"room": {"embedded": 4}}),
        ("embedding",),
        (),
        lambda message, lost: delivered.append((message.boot, message.seq, lost)),
    )
    asked = next(steps)
    try:
        while True:
            asked = steps.send(find(asked))
    except StopIteration as ended:
        expected = ended.value
    assert delivered == [(boots[0], 4, 1), (boots[0], 7, 2), (boots[1], 2, 2), (boots[1], 3, 0)]
    assert expected == {boots[1]: {("embedding", "room"): 4}}
    assert END > 1 << 62


def test_the_end_of_a_run_that_was_not_heard_comes_before_the_next_run(tmp_path: Path) -> None:
    """The client slept while the daemon was started again."""
    daemons = Daemons()
    done: dict[Key, list[Embedding | Event]] = defaultdict(list)
    client = Client(daemons, tmp_path / "cursor", None, done)
    client.hear(daemons.status())
    key = KEYS[0]
    client.hear(daemons.send(key))
    client.take_all()
    daemons.send(key)
    daemons.restart()
    client.hear(daemons.send(key))
    client.take_all()
    client.hear(daemons.status())
    client.hear(daemons.send(key))
    client.take_all()
    client.cursor.close()
    assert [(m.boot[0], m.seq) for m in done[key]] == [(1, 0), (1, 1), (2, 0), (2, 1)]


def test_a_daemon_that_does_not_answer_holds_up_no_other() -> None:
    selection = Selection((), ("embedding",), False, True)
    inbox = Inbox(selection)
    backlog = Backlog(inbox, selection, None)
    silent, other = (
        ScriptedLink(Past({}, 0), Sequence(), Daemon(name, None, None)) for name in ("tcp://silent", "tcp://other")
    )
    daemons = Daemons()
    sent = [daemons.send(("embedding", "a")) for _ in range(5)]

    def work() -> None:
        while backlog:
            if (asked := backlog.next_asked()) is None:
                continue
            if asked[0].daemon.endpoint == "tcp://silent":
                silent.asks_past_at = float("inf")
                assert not backlog.give(None)
            else:
                backlog.give(daemons.find(asked[1]))

    for _ in range(2):
        for link in (silent, other):
            backlog.add(daemons.status(), link)  # type: ignore[arg-type]
        work()
    assert [inbox.take().message for _ in sent] == sent
    assert not inbox
    silent.asks_past_at = float("-inf")
    while backlog:
        if (asked := backlog.next_asked()) is not None:
            backlog.give(daemons.find(asked[1]))
    assert [inbox.take().message for _ in sent] == sent, "once, however often its status came meanwhile"
    assert not inbox
