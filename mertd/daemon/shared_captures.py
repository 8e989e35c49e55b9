"""Streams whose sources are captured in one process: what starts a run of a source there looks like a process of its own.

A process for each source costs 23 MB and half a second of CPU, which a thousand streams cannot afford. Only sources that need
no device and can be opened again share one (`Address.may_share`): a neighbour may take the process down, and then each of
its streams begins a new epoch. So that this does not happen again and again, a stream leaves the process for one of its own

    - as soon as its source hangs, while the rest of the process responds
    - when the process has died with it MAX_DEATHS times, which may have been its doing

The life of each stream's capture is that of any managed process; only what it calls a run is a thread in a shared process.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mertd.capture.reports import AbandonSource, BeginSource, SourceOver, Stop
from mertd.processes.parent import UNREAD_S, ChildProcess
from mertd.processes.runs import Run, Spawn
from mertd.ring import Ring

log = logging.getLogger(__name__)

MAX_STREAMS = 16
"""Streams that share a process: at 20 blocks a second each, a fifth of a core, and one fault interrupts no more."""

MAX_DEATHS = 2
"""Deaths of a shared process after which each stream that was in it gets a process of its own."""

ABANDON_S = 1.0
"""Seconds that a shared process may take to abandon a source that hangs, before it is killed itself."""

IDLE_S = 10.0
"""Seconds for which a shared process in which nothing is captured waits for a source to be opened again."""


class CaptureGroup:
    """Some streams, and the process that they share while any of them is captured in it."""

    def __init__(self, name: str, rings: Mapping[str, Ring], start: Callable[..., Run] = ChildProcess) -> None:
        """`name`: what logs call the process. `rings`: by stream, those of all streams of the group. `start`: a process."""
        self.name = name
        self._rings = rings
        self._start = start
        self._process: Run | None = None
        self._responds = False  # whether the process has said anything yet
        self._runs: dict[int, SharedRun] = {}  # that are not over, by number
        self._started = 0
        self._deaths: Counter[str] = Counter()  # of the process, by stream that was in it
        self._watching: set[asyncio.Task[None]] = set()

    def spawner(self, stream: str) -> Spawn:
        """Return what starts a run of the source of `stream`."""
        return partial(self._spawn, stream)

    def _spawn(self, stream: str, args: tuple[Any, ...], on_message: Callable[[Any], None]) -> Run:
        if self._deaths[stream] >= MAX_DEATHS:
            return self._start(f"capture-{stream}", "mertd.capture.entry", args, on_message)
        if self._process is None:
            process = self._process = self._start(self.name, "mertd.capture.shared_entry", (self._rings,), self._on_message)
            self._responds = False
            task = asyncio.get_running_loop().create_task(self._wait(process))
            self._watching.add(task)
            task.add_done_callback(self._watching.discard)
        self._started += 1
        run = self._runs[self._started] = SharedRun(self._started, stream, self._process, on_message, self.is_starting)
        settings, _ = args
        self._process.send(BeginSource(run.number, stream, settings))
        return run

    def is_starting(self, process: Run) -> bool:
        """Return whether a process of the group is still starting: dozens that start together may take long."""
        return process is self._process and not self._responds

    def _on_message(self, message: Any) -> None:
        self._responds = True
        match message:
            case SourceOver(number):
                if run := self._runs.get(number):
                    self._finish(run, "ended unexpectedly with status 0")
            case (number, report):
                if run := self._runs.get(number):
                    run.report(report)

    async def _wait(self, process: Run) -> None:
        """Wait for the end of the process, and tell the runs that were in it."""
        how = await process.exited()
        if self._process is process:
            self._process = None
        for run in [run for run in self._runs.values() if run.process is process]:
            self._deaths[run.stream] += 1
            if self._deaths[run.stream] == MAX_DEATHS:
                log.warning("%s was in %s, which died %d times; it gets one of its own", run.stream, self.name, MAX_DEATHS)
            self._finish(run, how)

    def _finish(self, run: SharedRun, how: str) -> None:
        if run.abandoned and not run.stopped and self._process is run.process:
            log.warning("%s hangs; %s goes on without it, and it gets a process of its own", run.stream, self.name)
            self._deaths[run.stream] = MAX_DEATHS
        del self._runs[run.number]
        run.finish(how)
        if not self._runs and run.stopped:
            self._end_idle(run.process)
        elif not self._runs:  # its sources may be opened again at once, as when the writers of all FIFOs leave together
            asyncio.get_running_loop().call_later(IDLE_S, self._end_idle, run.process)

    def _end_idle(self, process: Run) -> None:
        """End the process if there is nothing left to do in it."""
        if self._process is process and not self._runs:
            self._process = None
            process.kill()


class SharedRun:
    """One run of a source in a shared process.

    Attributes:
        process: the one it is in.
        abandoned: whether the process was asked to go on without it.
        stopped: whether it was asked to end.
    """

    def __init__(
        self,
        number: int,
        stream: str,
        process: Run,
        on_message: Callable[[Any], None],
        is_starting: Callable[[Run], bool],
    ) -> None:
        self.number = number
        self.stream = stream
        self.process = process
        self.abandoned = False
        self.stopped = False
        self._on_message = on_message
        self._is_starting = is_starting
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._exit: asyncio.Future[str] = self._loop.create_future()

    def report(self, message: Any) -> None:
        """Pass on a message of the source."""
        self._heard_at = self._loop.time()
        self._on_message(message)

    def finish(self, how: str) -> None:
        """Nothing of the run is left."""
        self._exit.set_result(how)

    @property
    def last_heard(self) -> float:
        """Monotonic seconds of its last message, those of it included that a busy event loop has left unread.

        While the process is starting it is not silent; how long that may take is bounded as for any source.
        """
        if self._is_starting(self.process):
            self._heard_at = self._loop.time()
        if self._loop.time() - self._heard_at > UNREAD_S:
            self.process.receive()
        return self._heard_at

    @property
    def pid(self) -> int | None:
        """That of the process."""
        return self.process.pid

    def send(self, message: Any) -> None:
        """Send a message to the source. Does nothing if it is over."""
        self.stopped = self.stopped or isinstance(message, Stop)
        if not self._exit.done():
            self.process.send((self.number, message))

    def receive(self) -> bool:
        """Pass on all that has arrived by now, of its neighbours, too."""
        return self.process.receive()

    def kill(self) -> None:
        """Abandon the source, or kill the process if it does not respond to that."""
        if self.abandoned or self._exit.done():
            return
        self.abandoned = True
        self.process.send(AbandonSource(self.number))
        self._loop.call_later(ABANDON_S, self._insist)

    def _insist(self) -> None:
        if not self._exit.done():
            self.process.kill()

    async def exited(self, patience_s: float | None = None) -> str:
        """Wait until nothing of the run is left. Return how it ended, in words. `patience_s`: seconds before it is killed."""
        if patience_s is not None:
            await asyncio.wait([self._exit], timeout=patience_s)
            self.kill()
        return await asyncio.shield(self._exit)


def number_of_groups(streams: int) -> int:
    """Return among how many processes so many streams are divided."""
    return -(-streams // MAX_STREAMS)


def group_streams(rings: Mapping[str, Ring]) -> dict[str, Spawn]:
    """Return what starts the captures of these streams, divided evenly among as few shared processes as are enough."""
    names = list(rings)
    groups = number_of_groups(len(names))
    spawns: dict[str, Spawn] = {}
    for number in range(groups):
        members = names[number::groups]
        group = CaptureGroup(f"captures-{number + 1}", {name: rings[name] for name in members})
        spawns |= {name: group.spawner(name) for name in members}
    return spawns
