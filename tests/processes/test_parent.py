"""Real child processes: what they say, how they end, and that both are heard."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Any

import psutil
import pytest

from mertd.processes.parent import Child, in_words

PATIENCE_S = 30.0


class Listener:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.how = ""
        self.over = asyncio.Event()

    def heard(self, message: Any) -> None:
        self.messages.append(message)

    def gone(self, how: str) -> None:
        self.how = how
        self.over.set()


async def life(what: str, order: int | None = None) -> Listener:
    """Run one to its end; `order`: what to send it first."""
    listener = Listener()
    child = Child("test", "processes.child_programs", (what,), listener)
    if order is not None:
        child.send(order)
    await asyncio.wait_for(listener.over.wait(), PATIENCE_S)
    assert order is not None or listener.messages == [child.pid], "all that it said was heard before its end"
    assert not psutil.pid_exists(child.pid or 0)
    return listener


@pytest.mark.parametrize(
    ("what", "order", "how"),
    [
        (
            "abort",
            None,
            "was ended by SIGABRT (a native library has given up); its last words: ALSA says something | libc++abi: ",
        ),
        ("killed", None, "was ended by SIGKILL (for want of memory, or by someone's hand)"),
        ("speak", None, "ended unasked with status 0"),
        ("obey", 7, "ended unasked with status 7"),
    ],
)
def test_ends(what: str, order: int | None, how: str) -> None:
    listener = asyncio.run(life(what, order))
    assert listener.how.startswith(how)
    assert "unrelated" not in listener.how, "who is killed had no time for last words"


def test_an_exception_that_nobody_caught_is_among_the_last_words(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mertd"):
        listener = asyncio.run(life("raise"))
    assert listener.how.startswith("ended unasked with status 1; its last words: ")
    assert listener.how.endswith("RuntimeError: a bug")
    assert "test says: RuntimeError: a bug" in caplog.messages, "and in the log"


def test_who_beats_is_heard_even_while_the_event_loop_is_busy() -> None:
    async def busy() -> float:
        listener = Listener()
        child = Child("test", "processes.child_programs", ("beat",), listener)
        while len(listener.messages) < 3:
            await asyncio.sleep(0.01)
        began = time.monotonic()
        while time.monotonic() < began + 1.0:  # what a slow loop does: it hears nothing itself
            time.sleep(0.01)
        silent = time.monotonic() - child.last_heard
        child.kill()
        await child.ended(PATIENCE_S)
        return silent

    assert asyncio.run(busy()) < 0.9


@contextlib.contextmanager
def few_descriptors(free: int) -> Iterator[None]:
    """Within, this process can open only so many more descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = [os.open(os.devnull, os.O_RDONLY) for _ in range(free)]
    kept: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max([2, *spare]) + 1, hard))
    try:
        with contextlib.suppress(OSError):  # what lies free below them
            while True:
                kept.append(os.open(os.devnull, os.O_RDONLY))
        while spare:
            os.close(spare.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in spare + kept:
            os.close(descriptor)


@pytest.mark.parametrize("free", range(8))
def test_a_start_that_fails_leaves_nothing_behind(free: int) -> None:
    """Whichever descriptor is the one too many."""
    resource_tracker.ensure_running()
    process = psutil.Process()

    async def attempt() -> int:
        before, children = process.num_fds(), len(process.children())
        with few_descriptors(free):
            for _ in range(3):
                with pytest.raises(OSError, match="Too many open files"):
                    Child("test", "processes.child_programs", ("speak",), Listener())
        while any(thread.name == "words-test" for thread in threading.enumerate()):
            await asyncio.sleep(0.01)
        assert len(process.children()) == children
        return process.num_fds() - before

    assert asyncio.run(attempt()) == 0


def test_a_process_that_nothing_can_listen_to_is_not_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "hear-test":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)

    async def attempt() -> None:
        with pytest.raises(OSError, match="can't start new thread"):
            Child("test", "processes.child_programs", ("obey",), Listener())

    before = {child.pid for child in psutil.Process().children()}
    asyncio.run(attempt())
    assert {child.pid for child in psutil.Process().children()} - before <= {resource_tracker._resource_tracker._pid}


def test_every_signal_has_words() -> None:
    assert in_words(-signal.SIGUSR1) == "was ended by SIGUSR1"
    assert in_words(-signal.SIGSEGV).startswith("was ended by SIGSEGV (")
    assert in_words(-500) == "was ended by signal 500"
    assert in_words(None) == "ended unasked with status None"
