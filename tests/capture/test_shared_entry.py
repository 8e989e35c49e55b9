"""A real process in which sources are captured: one that hangs is left behind, and never writes again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mertd.capture.address import parse
from mertd.capture.reports import CaptureFailed, CaptureSettings, Committed, Opened, Stop
from mertd.daemon.shared_captures import CaptureGroup
from mertd.processes.parent import ChildProcess
from mertd.ring import Ring

PATIENCE_S = 30.0


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_source_that_hangs_is_left_behind_and_writes_no_more(tmp_path: Path) -> None:
    alarm = tmp_path / "alarm"
    good = parse("synth:tone?rate=24000&channels=1&name=good")
    bad = replace(parse("synth:silence?rate=24000&channels=1"), name=str(alarm))
    missing = parse(f"pipe:{tmp_path}/missing?name=missing")
    addresses = {address.name: address for address in (good, bad, missing)}
    rings = {name: Ring(48_000) for name in addresses}
    heard: dict[str, list[Any]] = {name: [] for name in addresses}

    started: list[ChildProcess] = []

    def start(name: str, _: str, *rest: Any) -> ChildProcess:
        started.append(ChildProcess(name, "capture.waking_source", *rest))
        return started[-1]

    def end(name: str) -> int:
        return max((report.end for report in heard[name] if isinstance(report, Committed)), default=0)

    async def story() -> None:
        group = CaptureGroup("captures-1", rings, start)
        runs = {
            name: group.spawner(name)((CaptureSettings(address, True, 0), rings[name]), heard[name].append)
            for name, address in addresses.items()
        }
        assert await asyncio.wait_for(runs["missing"].exited(), PATIENCE_S), "it cannot be opened, which ends it alone"
        assert [type(report) for report in heard["missing"]] == [CaptureFailed]
        await until(lambda: end(bad.name) == 100 and end("good") > 0)
        runs[bad.name].kill()
        await asyncio.wait_for(runs[bad.name].exited(), PATIENCE_S)
        rings[bad.name].write(100, np.ones(100, np.float32))  # as the next run does
        alarm.touch()
        await until(alarm.with_suffix(".closed").exists)
        assert np.array_equal(rings[bad.name].read(100, 200), np.ones(100, np.float32))
        assert end(bad.name) == 100
        before = end("good")
        await until(lambda: end("good") > before)
        runs["good"].send(Stop())
        await asyncio.wait_for(runs["good"].exited(), PATIENCE_S)
        assert isinstance(heard["good"][0], Opened)
        (process,) = started
        assert await asyncio.wait_for(process.exited(), PATIENCE_S), "nothing is left to do in it, so it is ended"

    asyncio.run(story())
    for ring in rings.values():
        ring.close()


@pytest.mark.slow
def test_the_end_of_the_process_ends_all_its_runs() -> None:
    address = parse("synth:tone?rate=24000&channels=1")
    rings = {name: Ring(48_000) for name in "ab"}
    heard: list[Any] = []

    async def story() -> list[str]:
        group = CaptureGroup("captures-1", rings, partial(ChildProcess))
        runs = [group.spawner(name)((CaptureSettings(address, True, 0), rings[name]), heard.append) for name in "ab"]
        await until(lambda: sum(isinstance(report, Opened) for report in heard) == 2)
        runs[0].process.kill()  # type: ignore[attr-defined]
        return [await asyncio.wait_for(each.exited(), PATIENCE_S) for each in runs]

    first, second = asyncio.run(story())
    assert first == second
    assert first.startswith("was ended by SIGKILL")
    for ring in rings.values():
        ring.close()
