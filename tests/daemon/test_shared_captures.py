"""Streams that share a capture process: what one of them does, and what the process does, to each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from daemon.scripted_daemon import WINDOW, ScriptedDaemon
from mertd.capture.reports import AbandonSource, BeginSource, CaptureFailed, Committed, Ended, Opened, SourceOver, Stop
from mertd.daemon.audio_stream import BOUNDS, CLOSING_S
from mertd.daemon.shared_captures import ABANDON_S, IDLE_S, MAX_DEATHS, MAX_STREAMS, CaptureGroup, group_streams
from mertd.ring import Ring
from processes.scripted_run import ScriptedRun
from virtual_time import run


class Process(ScriptedRun):
    """A shared process. `deaf`: it does not respond to what it is sent."""

    deaf = False

    def send(self, message: Any) -> None:
        super().send(message)
        match message:
            case AbandonSource(number) | (int() as number, Stop()) if not self.deaf:
                self.report(SourceOver(number))

    @property
    def numbers(self) -> dict[str, int]:
        """The newest run of each stream that was begun in it."""
        return {message.stream: message.run for message in self.sent if isinstance(message, BeginSource)}


class House:
    """A daemon with three streams in one group, and the processes that were started for it."""

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.names: list[str] = []
        self.daemon = ScriptedDaemon(*(f"synth:tone?name={name}" for name in "abc"), start=False)
        self.group = CaptureGroup("captures-1", self.daemon.rings, self._start)
        for name, stream in self.daemon.streams.items():
            stream.process._spawn = self.group.spawner(name)
            stream.start()

    def _start(self, name: str, module: str, args: tuple[Any, ...], on_message: Callable[[Any], None]) -> Process:
        self.names.append(name)
        obeys = Stop if module == "mertd.capture.entry" else None
        self.processes.append(Process(2_000 + len(self.processes), args, on_message, obeys))
        return self.processes[-1]

    @property
    def shared(self) -> Process:
        """The newest process of the group."""
        return [process for process, name in zip(self.processes, self.names, strict=True) if name == "captures-1"][-1]

    def report(self, stream: str, message: object) -> None:
        """The source of a stream says something."""
        self.shared.report((self.shared.numbers[stream], message))

    async def opened(self, *streams: str) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        for stream in streams or self.shared.numbers:
            self.report(stream, Opened("a source", 48_000, 2))

    async def dies(self, process: Process) -> None:
        process.end("was ended by SIGSEGV")
        await asyncio.sleep(0.1 if len(self.processes) == 1 else 1.0)  # the second restart in a row is not immediate

    async def beats(self, *streams: str, seconds: float = 1.0) -> None:
        """So much time passes, in which these report and the supervisor looks for processes that hang."""
        for _ in range(round(seconds / 0.25)):
            for stream in streams:
                end = self.daemon.streams[stream].timeline.end
                self.report(stream, Committed(end, 1))
            for stream in self.daemon.streams.values():
                stream.process.watch()
            await asyncio.sleep(0.25)

    def state(self, stream: str) -> str:
        return self.daemon.streams[stream].state.value

    def restarts(self) -> list[int]:
        return [stream.process.restarts for stream in self.daemon.streams.values()]


def play(story: Callable[[House], Coroutine[Any, Any, None]]) -> House:
    async def all_of_it() -> House:
        house = House()
        try:
            await story(house)
        finally:
            await house.daemon.close()
        return house

    return run(all_of_it())


def test_streams_share_one_process_and_each_is_heard_on_its_own() -> None:
    async def story(house: House) -> None:
        await house.opened()
        assert [process.pid for process in house.processes] == [2_000]
        assert {stream.process.pid for stream in house.daemon.streams.values()} == {2_000}
        house.report("b", Committed(WINDOW, 1))
        assert [house.daemon.streams[name].timeline.end for name in "abc"] == [0, WINDOW, 0]

    house = play(story)
    assert house.processes[0].killed, "nothing is left to do in it"


def test_a_source_that_fails_is_opened_again_in_the_same_process_and_no_other_is_touched() -> None:
    async def story(house: House) -> None:
        await house.opened()
        first = house.shared.numbers["b"]
        house.report("b", CaptureFailed("no writer", 3, retry=True))
        house.shared.report(SourceOver(first))
        await house.opened("b")
        assert house.shared.numbers["b"] > first
        assert len(house.processes) == 1
        assert house.restarts() == [0, 1, 0]

    house = play(story)
    assert "epoch" in house.daemon.events("b")
    assert "epoch" not in house.daemon.events("a")


def test_sources_that_fail_together_do_not_cost_their_process_and_one_that_is_idle_ends() -> None:
    async def story(house: House) -> None:
        await house.opened()
        numbers = house.shared.numbers
        for name in "abc":
            house.report(name, CaptureFailed("no writer", 3, retry=True))
            house.shared.report(SourceOver(numbers[name]))
        await house.opened()
        assert len(house.processes) == 1
        for name in "abc":
            house.report(name, Ended(reopens=False))
            house.shared.report(SourceOver(house.shared.numbers[name]))
        assert not house.shared.killed
        await asyncio.sleep(IDLE_S + 1)
        assert house.shared.killed

    play(story)


def test_a_source_that_is_stopped_in_vain_is_not_blamed() -> None:
    """Its process may just be starting."""

    async def story(house: House) -> None:
        await house.opened()
        house.shared.deaf = True
        pausing = asyncio.create_task(house.daemon.streams["a"].pause())
        await asyncio.sleep(CLOSING_S + 0.1)
        house.shared.report(SourceOver(house.shared.numbers["a"]))
        await pausing
        house.daemon.streams["a"].resume()
        await house.opened("a")
        assert house.names == ["captures-1"]

    play(story)


def test_a_process_that_starts_slowly_is_not_taken_for_hanging_but_one_that_never_starts_is() -> None:
    async def story(house: House) -> None:
        await asyncio.sleep(0)
        house.shared.deaf = True
        await house.beats(seconds=BOUNDS.opening_s + 5)
        assert not house.shared.killed
        await house.beats(seconds=BOUNDS.ready_s - BOUNDS.opening_s + ABANDON_S)
        assert house.shared.killed

    play(story)


def test_a_source_that_ends_leaves_the_others_alone() -> None:
    async def story(house: House) -> None:
        await house.opened()
        house.report("c", Ended(reopens=False))
        house.shared.report(SourceOver(house.shared.numbers["c"]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [house.state(name) for name in "abc"] == ["listening", "listening", "ended"]
        assert not house.shared.killed

    play(story)


def test_if_the_process_dies_all_its_streams_go_on_in_another_one() -> None:
    async def story(house: House) -> None:
        await house.opened()
        house.report("a", Committed(WINDOW, 1))
        await house.dies(house.shared)
        assert [house.state(name) for name in "abc"] == ["lost"] * 3
        await house.opened()
        assert house.names == ["captures-1"] * 2
        assert [house.state(name) for name in "abc"] == ["listening"] * 3
        begun = [message for message in house.shared.sent if isinstance(message, BeginSource)]
        assert [message.settings.start for message in begun] == [WINDOW, 0, 0], "the numbering goes on"

    house = play(story)
    for name in "abc":
        assert house.daemon.events(name)[1:] == ["health", "device_lost", "health", "epoch", "device_back", "health"]


def test_a_process_that_dies_twice_is_divided() -> None:
    async def story(house: House) -> None:
        for _ in range(MAX_DEATHS):
            await house.opened()
            await house.dies(house.shared)
        assert sorted(house.names[MAX_DEATHS:]) == ["capture-a", "capture-b", "capture-c"]
        for process in house.processes[MAX_DEATHS:]:
            process.report(Opened("a source", 48_000, 2))
        assert [house.state(name) for name in "abc"] == ["listening"] * 3
        await house.dies(house.processes[house.names.index("capture-c")])
        assert [house.state(name) for name in "abc"] == ["listening", "listening", "lost"]

    play(story)


def test_a_stream_that_was_not_in_it_does_not_share_the_blame() -> None:
    async def story(house: House) -> None:
        await house.opened()
        await house.daemon.streams["c"].pause()
        await house.dies(house.shared)
        await house.opened()
        house.daemon.streams["c"].resume()
        await house.opened("c")
        await house.dies(house.shared)
        assert sorted(house.names[2:]) == ["capture-a", "capture-b", "captures-1"]

    play(story)


def test_a_source_that_hangs_gets_a_process_of_its_own_and_no_other_notices() -> None:
    async def story(house: House) -> None:
        await house.opened()
        house.daemon.published.clear()
        await house.beats("a", "c", seconds=BOUNDS.silent_s + 1)
        assert house.names == ["captures-1", "capture-b"]
        assert not house.shared.killed
        house.processes[-1].report(Opened("a source", 48_000, 2))
        assert house.restarts() == [0, 1, 0]

    house = play(story)
    assert house.daemon.events("a") == house.daemon.events("c") == []
    assert house.daemon.events("b")[-3:] == ["epoch", "device_back", "health"]


def test_a_process_that_hangs_is_killed_and_each_stream_shares_the_blame() -> None:
    async def story(house: House) -> None:
        for _ in range(MAX_DEATHS):
            await house.opened()
            house.shared.deaf = True
            await house.beats(seconds=BOUNDS.silent_s + ABANDON_S + 1)
        assert [process.killed for process in house.processes[:MAX_DEATHS]] == [True] * MAX_DEATHS
        await asyncio.sleep(1.0)
        assert sorted(house.names[MAX_DEATHS:]) == ["capture-a", "capture-b", "capture-c"]

    play(story)


def test_a_source_that_hangs_can_be_paused() -> None:
    async def story(house: House) -> None:
        await house.opened()
        house.shared.deaf = True
        pausing = asyncio.create_task(house.daemon.streams["a"].pause())
        await asyncio.sleep(0.1)
        house.shared.deaf = False
        await pausing
        assert house.state("a") == "paused"
        assert not house.shared.killed

    play(story)


def test_what_an_abandoned_source_says_is_not_heard() -> None:
    async def story(house: House) -> None:
        await house.opened()
        number = house.shared.numbers["b"]
        await house.beats("a", "c", seconds=BOUNDS.silent_s + 1)
        house.shared.report((number, Committed(WINDOW, 1)))
        house.shared.report(SourceOver(number))
        assert house.daemon.streams["b"].timeline.end == 0

    play(story)


@pytest.mark.parametrize(("streams", "processes"), [(0, 0), (1, 1), (MAX_STREAMS, 1), (MAX_STREAMS + 1, 2), (100, 7)])
def test_streams_are_divided_evenly(streams: int, processes: int) -> None:
    rings = {f"s{number}": Ring(1) for number in range(streams)}
    spawns = group_streams(rings)
    assert sorted(spawns) == sorted(rings)
    groups = [spawn.func.__self__ for spawn in spawns.values()]  # type: ignore[attr-defined]
    sizes = [groups.count(group) for group in set(groups)]
    assert len(sizes) == processes
    assert not sizes or max(sizes) <= MAX_STREAMS
    assert not sizes or max(sizes) - min(sizes) <= 1
    for ring in rings.values():
        ring.close()
