"""Questions to the process that remembers: answered, in time or not at all. The process is scripted, the time virtual."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from mertd.daemon.older_history import OlderHistory
from mertd.errors import WireError
from mertd.stream.server.history import Page
from virtual_time import run

BOOT = bytes(16)


@dataclass
class ScriptedProcess:
    """What a question is sent to. `pid`: None while it does not run."""

    pid: int | None = 1
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def send(self, message: tuple[Any, ...]) -> None:
        self.asked.append(message)


@dataclass
class ScriptedCompanion:
    process: ScriptedProcess = field(default_factory=ScriptedProcess)


def older() -> tuple[OlderHistory, ScriptedProcess]:
    companion, found = ScriptedCompanion(), OlderHistory()
    found.attach(companion)  # type: ignore[arg-type]
    return found, companion.process


def test_requests_that_are_the_same_share_an_answer() -> None:
    """One that came later gets it, too, when the first one has given up."""

    async def story() -> None:
        history, process = older()
        first = asyncio.create_task(history.between(BOOT, "embedding", "room", 0, None))
        await asyncio.sleep(1.5)
        second = asyncio.create_task(history.between(BOOT, "embedding", "room", 0, None))
        other = asyncio.create_task(history.since("studio", None, "event", "room", 7))
        await asyncio.sleep(1.0)
        with pytest.raises(WireError, match="has not answered within 2 s; try again later"):
            await first
        (name, number, *question), (since, another, *_) = process.asked
        assert (name, question, since) == ("history", [BOOT, "embedding", "room", 0, None], "since")
        history.answered(("page", number, [[b"topic", b"message"]], True))
        history.answered(("no page", another))
        assert await second == Page([[b"topic", b"message"]], True)
        with pytest.raises(WireError, match="cannot be read at this moment; try again later"):
            await other
        history.answered(("page", number, [], False))  # nobody waits for it any more
        again = asyncio.create_task(history.between(BOOT, "embedding", "room", 0, None))
        await asyncio.sleep(0)
        assert len(process.asked) == 3
        again.cancel()

    run(story())


def test_a_process_that_does_not_run_is_said_and_not_taken_for_an_empty_memory() -> None:
    async def story() -> None:
        history, process = older()
        process.pid = None
        assert history.exists
        assert not history.available
        with pytest.raises(WireError, match="does not run at this moment; try again later"):
            await history.since("studio", BOOT, "embedding", "room", 0)

    run(story())
    assert not OlderHistory().exists
