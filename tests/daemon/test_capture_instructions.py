"""What capture is told about the next window, and that no window waits for a report because of it."""

from __future__ import annotations

import asyncio

import pytest

from daemon.simulation import make_timeline
from mertd.capture.reports import MAX_UNREPORTED_SAMPLES, Committed, NextDue
from mertd.daemon.capture_instructions import FAR_SAMPLES, CaptureInstructions
from mertd.daemon.timeline import Timeline
from mertd.processes.health import Bounds
from mertd.processes.managed import ManagedProcess
from mertd.ring import Ring
from mertd.windows import Late, Schedule
from processes.scripted_run import ScriptedSpawn
from virtual_time import run

RATE = 24_000
WINDOW = 5 * RATE
HOP = 2 * RATE
ROOMY = WINDOW + HOP + 10 * RATE


class Role:
    def arguments(self) -> tuple[()]:
        return ()

    def on_message(self, message: object) -> None: ...

    def on_change(self, process: str, change: object) -> None: ...


def told(ends: list[int], capacity: int = ROOMY, rare: bool = True, hops: dict[int, int] | None = None) -> list[int]:
    """Return which ends capture was told when its reports came to `ends`. `hops`: changes of the hop, after which report."""

    async def story() -> list[int]:
        spawn = ScriptedSpawn()
        process = ManagedProcess("capture", Bounds(1, 1, 1, 1, 1), Role(), spawn)  # type: ignore[arg-type]
        process.start()
        await asyncio.sleep(0)
        ring = Ring(capacity)
        timeline: Timeline = make_timeline(RATE, Schedule(WINDOW, HOP, Late.LATEST, capacity), ring, lambda _: None)
        instructions = CaptureInstructions(process, timeline, True, rare)
        for number, end in enumerate(ends):
            timeline.committed(Committed(end, 1), 1)
            instructions.tell_next_due()
            if hops and number in hops:
                timeline.change(hop=hops[number])
        process.kill()
        ring.close()
        return [message.end for message in spawn.run.sent if isinstance(message, NextDue)]

    return run(story())


def test_each_window_is_told_once() -> None:
    ends = [1, 10, WINDOW - 1, WINDOW, WINDOW + 10, WINDOW + HOP + 5]
    assert told(ends) == [WINDOW, WINDOW + HOP, WINDOW + 2 * HOP]


def test_of_a_window_that_is_nearly_due_nothing_is_told() -> None:
    """It reports every block then, as it does behind the window before."""
    assert told([WINDOW - FAR_SAMPLES + 1]) == []
    assert told([WINDOW - FAR_SAMPLES]) == [WINDOW]


def test_a_shorter_hop_revokes_what_was_told() -> None:
    assert told([WINDOW, WINDOW + 10, WINDOW + 20], hops={1: RATE // 10}) == [WINDOW + HOP, 0]


@pytest.mark.parametrize(("capacity", "rare"), [(ROOMY - 1, True), (ROOMY, False)])
def test_a_ring_in_which_windows_are_soon_overwritten_and_few_streams_get_every_report(capacity: int, rare: bool) -> None:
    assert told([1, WINDOW], capacity, rare) == []


def test_reports_are_never_rarer_than_what_may_be_in_doubt() -> None:
    assert FAR_SAMPLES > MAX_UNREPORTED_SAMPLES
