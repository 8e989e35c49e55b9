"""Real child processes: what they say, how they end, and that both are heard."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from typing import Any

import psutil
import pytest

from mertd.daemon.child import Child, in_words

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
    child = Child("test", "daemon.child_programs", (what,), listener)
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
        child = Child("test", "daemon.child_programs", ("beat",), listener)
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


def test_every_signal_has_words() -> None:
    assert in_words(-signal.SIGUSR1) == "was ended by SIGUSR1"
    assert in_words(-signal.SIGSEGV).startswith("was ended by SIGSEGV (")
    assert in_words(-500) == "was ended by signal 500"
    assert in_words(None) == "ended unasked with status None"
