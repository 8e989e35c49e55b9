"""The client that relays: follows a daemon, and writes what it publishes to the bus, in order, for as long as it takes.

It is a subscriber like any other, with a cursor: a message counts as done when the bus has acknowledged it. While the bus takes
nothing, no more than two batches are held here; the daemon's history and memory keep what comes meanwhile. What they no longer
have either is announced on the bus as a hole.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYetError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mertd.bus.bus_access import BusAccess
from mertd.bus.bus_stream import StreamWish
from mertd.bus.bus_writer import BusWriter
from mertd.bus.default_cursor import default_cursor
from mertd.bus.loss_count import LossCount
from mertd.bus.relayed_message import decode_relayed
from mertd.errors import EndpointError, MertdError, StoreError
from mertd.processes.stopping import Stopping
from mertd.stream.client.cursor_file import CursorFile
from mertd.stream.client.inbox import Received
from mertd.stream.client.subscriber import Subscriber
from mertd.stream.complaint import Complaint
from mertd.stream.curve_keys import ClientKeys
from mertd.stream.request import RefusalError, ask
from mertd.wire import REPLAY_MARK, Status

BATCH = 512
"""Messages that are written in one go, at most: as many as wait already."""

BATCH_BYTES = 4 << 20
"""Bytes of payload after which a batch ends."""

POLL_S = 0.5
"""Seconds to wait for a message before looking whether to stop."""

DRAIN_S = 0.4
"""Seconds in which a relay that was told to stop still takes what comes: a daemon that stops says so at the end."""

QUIET_S = 0.1
"""Seconds without a message after which nothing more is expected then."""

LAST_WRITE_S = 2.0
"""Seconds in which a relay that was told to stop still writes. What is left is written by the next one."""

CLOSE_S = 2.0
"""Seconds in which the connection to the bus is closed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Relaying:
    """Whom to follow, and where to write.

    `cursor`: the file that keeps the place; None: one of this daemon, in the user's data. `since_ns`: where to begin without
    one, with what the bus does not have; None: with windows that begin from now on.
    """

    endpoint: str
    control: str
    cursor: Path | None
    access: BusAccess
    wish: StreamWish
    keys: ClientKeys | None = None
    since_ns: int | None = None


@dataclass(frozen=True)
class _Writing:
    """A batch that is being written."""

    batch: Sequence[Received]
    future: Future[None]


class Relay:
    """Relays one daemon until told to stop.

    Attributes:
        received: messages that came from the daemon.
        lost: messages that are announced as gone.
    """

    def __init__(self, relaying: Relaying, stopping: Stopping, alive: Callable[[], None] = lambda: None) -> None:
        """`stopping`: set to stop it. `alive`: called at least every few seconds."""
        self.received = 0
        self._relaying = relaying
        self._stopping = stopping
        self._alive = alive
        self._losses = LossCount()
        self._complaint = Complaint(log)
        self._since_ns = time.time_ns() if relaying.since_ns is None else relaying.since_ns
        self._loop = asyncio.new_event_loop()
        self._writer: BusWriter | None = None

    @property
    def lost(self) -> int:
        return self._losses.lost

    @property
    def stored(self) -> int:
        """Messages that this relay has stored on the bus, with holes."""
        return 0 if self._writer is None else self._writer.stored

    @property
    def complaint(self) -> str:
        """Why nothing can be written at present; empty if nothing is known against it."""
        return "" if self._writer is None else self._writer.complaint

    def run(self) -> None:
        """Relay until told to stop. Raises `EndpointError` if the daemon refuses this client, `StoreError` for the cursor."""
        thread = threading.Thread(target=self._loop.run_forever, name="bus", daemon=True)
        thread.start()
        try:
            self._relay()
        finally:
            if self._writer is not None:
                self._close(self._writer.disconnect(), CLOSE_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def _relay(self) -> None:
        status = self._meet()
        if status is None:
            return
        self._writer = writer = BusWriter(self._relaying.access, self._relaying.wish, status.daemon)
        place = self._relaying.cursor or default_cursor(self._relaying.endpoint, status.daemon, self._relaying.wish.name)
        if not place.exists() and not self._begin_where_the_bus_is(place, writer, status):
            return
        with self._subscribe(place) as subscriber:
            writing: _Writing | None = None
            while not self._stopping.is_set():
                self._alive()
                batch = self._collect(subscriber, POLL_S)  # while the one before is written
                if writing is not None and not self._finish(writing, subscriber):
                    return
                writing = self._begin(writer, batch) if batch else None
            if writing is None or self._finish(writing, subscriber):
                self._drain(writer, subscriber)

    def _subscribe(self, place: Path) -> Subscriber:
        to = self._relaying
        kinds = ("embedding", "event", "status")
        return Subscriber(
            to.endpoint,
            kinds=kinds,
            control=to.control,
            cursor=place,
            since=self._since_ns,
            by_hand=True,
            decoder=decode_relayed,
            mix_spaces=True,
            keys=to.keys,
        )

    def _meet(self) -> Status | None:
        """Return the status of the daemon when it answers; None if it is time to stop before."""
        while not self._stopping.is_set():
            self._alive()
            try:
                (status,) = ask(self._relaying.control, {"request": "status"}, keys=self._relaying.keys)
            except RefusalError:
                raise
            except MertdError as error:
                self._complaint.say(f"{error}; waiting for it")
                self._stopping.wait(POLL_S)
                continue
            if not isinstance(status, Status):
                raise EndpointError(f"{self._relaying.control} replied with {status.kind}; is it a mertd?")
            if status.daemon.startswith(REPLAY_MARK):
                raise EndpointError(f"{self._relaying.endpoint} is a replay of a memory, which is not relayed; name a daemon")
            self._complaint.over()
            return status
        return None

    def _begin_where_the_bus_is(self, place: Path, writer: BusWriter, status: Status) -> bool:
        """Make a cursor of what the bus holds: the file is lost, or this is the first relay. False if it is time to stop."""
        file = CursorFile(place, self._since_ns)  # nobody else uses it meanwhile
        try:
            asking = asyncio.run_coroutine_threadsafe(writer.places(status.streams), self._loop)
            while not self._stopping.is_set():
                self._alive()
                try:
                    places = asking.result(POLL_S)
                except NotYetError:
                    continue
                for key, there in places.items():
                    file.expect(self._relaying.endpoint, key, there)
                if places:
                    log.info("there is no place in %s yet: beginning behind what the bus has", place)
                return True
            asking.cancel()
            return False
        finally:
            file.close()

    # Receiving

    def _collect(self, subscriber: Subscriber, wait_s: float) -> list[Received]:
        """Return the messages that wait, or the next one if none does."""
        batch: list[Received] = []
        size = 0
        while len(batch) < BATCH and size < BATCH_BYTES:
            try:
                received = subscriber.receive(0.0 if batch else wait_s)
            except EndpointError as error:
                if not self.received:
                    raise
                self._complaint.say(str(error))
                break
            except StoreError:
                raise
            except MertdError as error:  # one bad message; the next call goes on behind it
                self._complaint.say(str(error))
                continue
            if received is None:
                break
            if received.message.daemon.startswith(REPLAY_MARK):
                self._complaint.say(f"{received.endpoint} is a replay now, which is not relayed; waiting for the daemon")
                continue
            batch.append(received)
            if isinstance(received.message, Status):
                break  # what came before it is to be written soon
            self.received += 1
            size += len(getattr(received.message, "payload", b""))
        return batch

    def _drain(self, writer: BusWriter, subscriber: Subscriber) -> None:
        """Write what still comes at the end."""
        deadline, batch = time.monotonic() + DRAIN_S, list[Received]()
        while time.monotonic() < deadline and (found := self._collect(subscriber, QUIET_S)):
            batch += found
        if batch:
            self._finish(self._begin(writer, batch), subscriber)

    # Writing

    def _begin(self, writer: BusWriter, batch: Sequence[Received]) -> _Writing:
        items = self._losses.with_holes(batch)
        return _Writing(batch, asyncio.run_coroutine_threadsafe(writer.write(items), self._loop))

    def _finish(self, writing: _Writing, subscriber: Subscriber) -> bool:
        """Return when all of a batch is on the bus and counted as done; False if it is time to stop before."""
        until = float("inf")
        while True:
            self._alive()
            if until == float("inf") and self._stopping.is_set():
                until = time.monotonic() + LAST_WRITE_S
            try:
                writing.future.result(max(0.0, min(POLL_S, until - time.monotonic())))
            except NotYetError:
                if time.monotonic() >= until:
                    writing.future.cancel()
                    return False
            else:
                subscriber.done(writing.batch)
                return True

    def _close(self, what: Coroutine[Any, Any, None], timeout_s: float) -> None:
        closing = asyncio.run_coroutine_threadsafe(what, self._loop)
        try:
            closing.result(timeout_s)
        except NotYetError:
            log.warning("the connection to the bus was not closed in %.0f s", timeout_s)
