"""Real child processes: what they say, how they end, and that both are heard."""

from __future__ import annotations

import asyncio
import contextlib
import gc
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

from mertd.processes.parent import ChildProcess, describe_exit

PATIENCE_S = 30.0


async def life(what: str, order: int | None = None) -> str:
    """Run one to its end, and return how it ended. `order`: what to send it first."""
    messages: list[Any] = []
    child = ChildProcess("test", "processes.child_programs", (what,), messages.append)
    if order is not None:
        child.send(order)
    how = await asyncio.wait_for(child.exited(), PATIENCE_S)
    assert order is not None or what == "babble" or messages == [child.pid], "all that it said was heard before its end"
    assert not psutil.pid_exists(child.pid or 0)
    return how


@pytest.mark.parametrize(
    ("what", "order", "how"),
    [
        (
            "abort",
            None,
            "was ended by SIGABRT (a native library aborted); its last output: ALSA says something | libc++abi: ",
        ),
        ("killed", None, "was ended by SIGKILL (killed by the system because memory ran out, or by another program)"),
        ("speak", None, "ended unexpectedly with status 0"),
        ("obey", 7, "ended unexpectedly with status 7"),
    ],
)
def test_ends(what: str, order: int | None, how: str) -> None:
    end = asyncio.run(life(what, order))
    assert end.startswith(how)
    assert "unrelated" not in end, "a killed process had no time for last words"


def test_an_exception_that_nothing_caught_is_in_the_last_output(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mertd"):
        end = asyncio.run(life("raise"))
    assert end.startswith("ended unexpectedly with status 1; its last output: ")
    assert end.endswith("RuntimeError: a bug")
    assert "test says: RuntimeError: a bug" in caplog.messages, "and in the log"


def test_a_process_that_reports_is_heard_even_while_the_event_loop_is_busy() -> None:
    async def busy() -> float:
        messages: list[Any] = []
        child = ChildProcess("test", "processes.child_programs", ("beat",), messages.append)
        while len(messages) < 3:
            await asyncio.sleep(0.01)
        began = time.monotonic()
        while time.monotonic() < began + 1.0:  # what a slow loop does: it hears nothing itself
            time.sleep(0.01)
        silent = time.monotonic() - child.last_heard
        child.kill()
        await child.exited(PATIENCE_S)
        return silent

    assert asyncio.run(busy()) < 0.9


def test_a_process_that_does_not_end_when_asked_is_killed() -> None:
    async def ask() -> str:
        child = ChildProcess("test", "processes.child_programs", ("beat",), lambda _: None)
        return await asyncio.wait_for(child.exited(0.01), PATIENCE_S)

    assert asyncio.run(ask()).startswith("was ended by SIGKILL")


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


def open_descriptors() -> int:
    """Number of them, once no thread or garbage of a child that is gone holds any."""
    for thread in threading.enumerate():
        if thread.name.startswith("stderr-"):
            thread.join(PATIENCE_S)
    gc.collect()
    return psutil.Process().num_fds()


def children() -> set[int]:
    """Process ids of this process's children. Those of earlier tests may end at any time, so only new ones mean anything."""
    return {child.pid for child in psutil.Process().children()}


@pytest.mark.parametrize("free", range(8))
def test_a_start_that_fails_leaves_nothing_behind(free: int) -> None:
    """Whichever descriptor is the one too many."""
    resource_tracker.ensure_running()
    there = children()

    async def attempt() -> int:
        before = open_descriptors()
        with few_descriptors(free):
            for _ in range(3):
                with pytest.raises(OSError, match="Too many open files"):
                    ChildProcess("test", "processes.child_programs", ("speak",), lambda _: None)
        assert not children() - there
        return open_descriptors() - before

    assert asyncio.run(attempt()) == 0


def test_a_process_whose_stderr_nothing_can_read_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def attempt() -> None:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="can't start new thread"):
            ChildProcess("test", "processes.child_programs", ("obey",), lambda _: None)

    before = children()
    asyncio.run(attempt())
    assert not children() - before


def test_half_a_message_blocks_nothing_and_does_not_count_as_one() -> None:
    """A child that hangs, or is stopped, while it writes."""

    async def attempt() -> tuple[list[Any], str]:
        messages: list[Any] = []
        child = ChildProcess("test", "processes.child_programs", ("half",), messages.append)
        async with asyncio.timeout(PATIENCE_S):
            while not messages:
                await asyncio.sleep(0.01)
            child.receive()
            child.kill()
            return messages, await child.exited()

    messages, how = asyncio.run(attempt())
    assert len(messages) == 1
    assert how.startswith("was ended by SIGKILL")


def test_what_was_received_early_is_not_waited_for() -> None:
    """The event loop finds messages of two children at once, and that of one is received while the other's is handled."""

    async def attempt() -> tuple[list[Any], float]:
        heard: list[Any] = []

        def on_message(message: Any) -> None:
            heard.append(message)
            for child in children:
                child.receive()

        children = [ChildProcess(f"test-{n}", "processes.child_programs", ("obey",), on_message) for n in range(2)]
        while not all(child._has_unread() for child in children):  # the loop must not look meanwhile
            time.sleep(0.01)
        rescue = threading.Timer(PATIENCE_S, lambda: [child.kill() for child in children])
        rescue.start()
        began = time.monotonic()
        await asyncio.sleep(0.01)
        waited_s = time.monotonic() - began
        rescue.cancel()
        for child in children:
            child.kill()
            await child.exited()
        assert set(heard) == {child.pid for child in children}
        return heard, waited_s

    heard, waited_s = asyncio.run(attempt())
    assert len(heard) == 2
    assert waited_s < PATIENCE_S / 2, "a read blocked until the children were killed"


@pytest.mark.slow
def test_bytes_that_are_no_message_end_the_process(caplog: pytest.LogCaptureFixture) -> None:
    assert asyncio.run(life("babble")).startswith("was ended by SIGKILL")
    assert "test sent bytes that are no message; killing it" in caplog.text


@pytest.mark.slow
def test_a_message_that_is_not_handled_does_not_cost_the_next_one() -> None:
    async def attempt() -> tuple[int, int]:
        heard, bugs = 0, 0

        def on_message(_: Any) -> None:
            nonlocal heard
            heard += 1
            raise RuntimeError("a bug")

        def on_bug(*_: Any) -> None:
            nonlocal bugs
            bugs += 1

        asyncio.get_running_loop().set_exception_handler(on_bug)
        child = ChildProcess("test", "processes.child_programs", ("beat",), on_message)
        async with asyncio.timeout(PATIENCE_S):
            while heard < 3:
                await asyncio.sleep(0.01)
        child.kill()
        await child.exited()
        return heard, bugs

    heard, bugs = asyncio.run(attempt())
    assert heard == bugs >= 3


def test_a_process_that_nothing_can_listen_to_is_not_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")  # what epoll says beyond `max_user_watches`

    async def attempt() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", refuse)
        with pytest.raises(OSError, match="No space left"):
            ChildProcess("test", "processes.child_programs", ("obey",), lambda _: None)

    before = children()
    asyncio.run(attempt())
    assert children() - before <= {resource_tracker._resource_tracker._pid}


def test_every_signal_has_words() -> None:
    assert describe_exit(-signal.SIGUSR1) == "was ended by SIGUSR1"
    assert describe_exit(-signal.SIGSEGV).startswith("was ended by SIGSEGV (")
    assert describe_exit(-500) == "was ended by signal 500"
    assert describe_exit(None) == "ended unexpectedly with status None"
