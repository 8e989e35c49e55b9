"""A daemon that remembers, whose own history is short: what it no longer has comes from the memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from command_process import PATIENCE_S, wait_until
from daemon_process import TINY, Daemon
from mertd.memory.checking import verify
from mertd.memory.memory import Memory
from mertd.stream.client.subscriber import Subscriber
from mertd.stream.request import ask_page
from mertd.wire import Embedding

HISTORY_BYTES = 250_000
"""Bytes that the daemon keeps of all messages: those of a second or two."""

START = f"""
import sys
from mertd.stream.server import history
history.History.__init__.__defaults__ = ({HISTORY_BYTES},)
from mertd.cli import main
main()
"""
"""`mertd`, but for the length of the history, which users cannot choose."""

OPTIONS = [*TINY, "--source", "synth:chords", "--window", "1", "--hop", "0.25", "--pace", "fast", "--remember"]


class Forgetful(Daemon):
    """A daemon with a short history."""

    def __init__(self, *options: object, **named: Any) -> None:
        super().__init__(*options, **named)
        self._command[1:3] = ["-c", START]


def embedded(daemon: Daemon) -> int:
    return int(daemon.status().streams["chords"]["embedded"])


def pages(daemon: Daemon, first: int, end: int | None, boot: bytes | None = None) -> list[int]:
    """Ask for page after page, as a client does, and return the numbers of the messages."""
    found: list[int] = []
    while True:
        request = {"request": "history", "kind": "embedding", "stream": "chords", "first": first}
        request |= {} if end is None else {"end": end}
        request |= {} if boot is None else {"boot": boot}
        page = ask_page(daemon.control, request)
        numbers = [message.seq for message in page.messages if isinstance(message, Embedding)]
        found += numbers
        if not page.more or not numbers:
            return found
        first = numbers[-1] + 1


@pytest.mark.slow
def test_every_message_comes_once_and_in_order_however_old(tmp_path: Path) -> None:
    folder = tmp_path / "memory"
    with Forgetful(*OPTIONS, "--memory", folder) as daemon:
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 500)
        history = ask_page(daemon.control, {"request": "history", "kind": "embedding", "stream": "chords", "last": 256})
        kept = [message.seq for message in history.messages if isinstance(message, Embedding)]
        assert kept[0] > 100, "the history is short"
        # While new ones come: at least all that there were when the first page was asked for.
        before = embedded(daemon)
        found = pages(daemon, 0, None)
        assert found == list(range(len(found)))
        assert len(found) >= before
        assert pages(daemon, 7, 11) == [7, 8, 9, 10]
        # Where the memory ends and the history begins.
        middle = kept[0]
        assert pages(daemon, middle - 5, middle + 5) == list(range(middle - 5, middle + 5))
        # A client that comes late, and stays: the old ones, then what is published meanwhile.
        status = daemon.status()
        cursor = {status.boot: {("embedding", "chords"): 0}}
        heard: list[int] = []
        with Subscriber(daemon.publish, kinds=("embedding",), control=daemon.control, resume=cursor) as subscriber:
            end = embedded(daemon) + 40
            while len(heard) < end:
                received = subscriber.receive(PATIENCE_S)
                assert received is not None
                assert received.lost == 0
                assert isinstance(received.message, Embedding)
                heard.append(received.message.seq)
        assert heard == list(range(end))
    assert verify(folder).faults == []


@pytest.mark.slow
def test_runs_that_are_over_are_answered_too(tmp_path: Path) -> None:
    folder = tmp_path / "memory"
    with Forgetful(*OPTIONS, "--memory", folder) as daemon:
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 60)
        boot = daemon.status().boot
    count = sum(1 for message in Memory(folder).embeddings() if message.boot == boot)
    with Forgetful(*OPTIONS, "--memory", folder, endpoints=(daemon.publish, daemon.control)) as again:
        again.until(lambda s: s.processes["memory"]["state"] == "healthy")
        wait_until(lambda: pages(again, 0, None, boot) == list(range(count)), PATIENCE_S, lambda: "not all of them came")
        assert pages(again, 5, 9, boot) == [5, 6, 7, 8]
