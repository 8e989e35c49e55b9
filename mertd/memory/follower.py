"""The client that fills a memory: follows daemons, stores what they publish, and catches up after each interruption.

It is a subscriber like any other. Its place in the stream is what the memory holds, so it may die at any moment: the next one
continues there, with what the daemon's history still has. While nothing can be written, nothing is read either; the history of
the daemon, not this process, keeps what comes meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from mertd.errors import EndpointError, MertdError, StoreError
from mertd.memory.following import Followed, Source
from mertd.memory.holes import Hole, HoleReason
from mertd.memory.index_builder import IndexBuilder
from mertd.memory.queries import holes
from mertd.memory.retention import Retention
from mertd.memory.store import Store, must_reopen
from mertd.processes.stopping import Stopping
from mertd.stream.complaint import Complaint
from mertd.stream.request import RefusalError, ask_page
from mertd.wire import REPLAY_MARK, Embedding, Event, Status

BATCH = 512
"""Messages of one transaction, at most: as many as wait already."""

DRAIN_S = 0.4
"""Seconds in which a process that was told to stop still stores what comes: a daemon that stops says so at the end."""

QUIET_S = 0.1
"""Seconds without a message after which nothing more is expected then."""

POLL_S = 0.5
"""Seconds to wait for a message before looking whether to stop."""

RETRY_S = 2.0
"""Seconds between two attempts to write."""

UPKEEP_S = 60.0
"""Seconds between two looks for files that need not be kept, and for missing messages that a history still has."""

FILLABLE = (HoleReason.MISSED, HoleReason.DISK, HoleReason.DAMAGED)
"""Reasons of holes of which a history may still have something."""

log = logging.getLogger(__name__)


class Follower:
    """Stores what daemons publish until told to stop.

    Attributes:
        stored: messages so far.
    """

    def __init__(
        self,
        following: Followed,
        stopping: Stopping,
        alive: Callable[[], None] = lambda: None,
        on_stored: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the memory. `stopping`: set to stop it. `alive`: called at least every few seconds. `on_stored`: called whenever
        messages were stored.

        Raises `StoreError` if another process writes to it, or it cannot be opened.
        """
        self.stored = 0
        self._following = following
        self._stopping = stopping
        self._alive = alive
        self._on_stored = on_stored
        self._store = Store(following.folder, following.max_file)
        self._reason = HoleReason.MISSED
        self._complaint = Complaint(log)
        self._upkeep_at = 0.0  # monotonic seconds
        self._builder = IndexBuilder(following.folder)
        self._retention = Retention(following.folder, following.keep)
        self._asked: set[Hole] = set()  # of which no history has anything

    def run(self) -> None:
        """Follow until told to stop. Raises `EndpointError` if a daemon refuses this client from the beginning."""
        try:
            while not self._stopping.is_set():
                with self._following.subscribe(self._store) as subscriber:
                    self._follow(subscriber)
        finally:
            self._builder.stop()
            self._store.close()

    def _follow(self, subscriber: Source) -> None:
        """Store what comes until told to stop, or until it has to be subscribed anew."""
        while not self._stopping.is_set():
            self._alive()
            batch, status = self._receive(subscriber)
            if batch and not self._append(batch, subscriber):
                return
            if status is not None:
                self._note_status(status)
            if time.monotonic() >= self._upkeep_at:
                self._upkeep_at = time.monotonic() + UPKEEP_S
                self._keep_up()
        self._drain(subscriber)

    # Receiving

    def _receive(self, subscriber: Source) -> tuple[list[Embedding | Event], Status | None]:
        """Return the messages that wait, or the next one if none does; and a status, with which a batch ends."""
        batch: list[Embedding | Event] = []
        while len(batch) < BATCH:
            try:
                received = subscriber.receive(0.0 if batch else POLL_S)
            except EndpointError as error:
                if not self.stored and not subscriber.recovered:
                    raise
                self._complaint.say(str(error))
                break
            except MertdError as error:  # one bad message; the next call goes on behind it
                self._complaint.say(str(error))
                continue
            if received is None:
                self._reason = HoleReason.MISSED
                break
            if received.message.daemon.startswith(REPLAY_MARK):
                self._refuse_replay(received.endpoint)
                continue
            if isinstance(received.message, Status):
                return batch, received.message
            batch.append(received.message)
        return batch, None

    def _refuse_replay(self, endpoint: str) -> None:
        """Say that a replay is not remembered. Raises `EndpointError` if nothing else is followed."""
        text = f"{endpoint} is a replay of a memory, which is not remembered again; give --connect and --control of a daemon"
        if len(self._following.endpoints) == 1 and not self._following.is_shared and not self.stored:
            raise EndpointError(text)
        self._complaint.say(text)

    def _drain(self, subscriber: Source) -> None:
        """Store what still comes at the end, in one attempt."""
        deadline, batch = time.monotonic() + DRAIN_S, list[Embedding | Event]()
        try:
            while time.monotonic() < deadline and (received := subscriber.receive(QUIET_S)) is not None:
                if not isinstance(received.message, Status) and not received.message.daemon.startswith(REPLAY_MARK):
                    batch.append(received.message)
            self.stored += self._store.append(batch, self._reason, subscriber.places()).stored
        except MertdError as error:
            self._complaint.say(str(error))

    # Storing

    def _append(self, batch: list[Embedding | Event], subscriber: Source) -> bool:
        """Store a batch, however long it takes: with a full disk, until there is room. Gives up only to stop.

        Returns False if nothing was stored because it all comes again to who subscribes anew.
        """
        while not self._stopping.is_set():
            try:
                appended = self._store.append(batch, self._reason, subscriber.places())
            except StoreError as error:
                self._complaint.say(f"{error}; trying again every {RETRY_S:g} s, and the daemon's history is kept meanwhile")
                self._reason = HoleReason.DISK
                if self._wait_and_reopen(error) and subscriber.refetches:
                    return False
                continue
            if self._complaint:
                log.warning("stored again; %d messages are missing", appended.missing)
                self._complaint.over()
            elif appended.missing:
                log.warning("%d messages are missing; `mertd memory info` lists them", appended.missing)
            self.stored += appended.stored
            self._on_stored()
            return True
        return True

    def _wait_and_reopen(self, error: StoreError) -> bool:
        """Wait, and open the memory anew if that is necessary. Returns whether it was."""
        self._alive()
        self._stopping.wait(RETRY_S)
        if not must_reopen(error):
            return False
        self._store.close()
        while not self._stopping.is_set():
            try:
                self._store = Store(self._following.folder, self._following.max_file)
                self._upkeep_at = 0.0  # what was in the damaged file may be in a history
                return True
            except StoreError as again:
                self._complaint.say(str(again))
                self._alive()
                self._stopping.wait(RETRY_S)
        return False

    def _note_status(self, status: Status) -> None:
        """Store what a daemon has sent before its status and neither came nor was in its history."""
        try:
            self._store.note_sent(status, self._reason)
        except StoreError as error:
            self._complaint.say(str(error))

    # Upkeep

    def _keep_up(self) -> None:
        try:
            self._retention.apply()
            self._fill_holes()
            self._builder.start()
        except MertdError as error:
            self._complaint.say(str(error))

    def _fill_holes(self) -> None:
        """Ask the histories for what is missing: they may not have answered when it was first noticed."""
        for hole in holes(self._store.current):
            if hole.end is None or hole in self._asked or hole.reason not in FILLABLE:
                continue
            if not self._fill(hole, hole.end):
                self._asked.add(hole)

    def _fill(self, hole: Hole, end: int) -> bool:
        """Store what a history has of a hole. Returns whether there may be more at another time."""
        controls = self._following.controls or ()
        refused = 0
        for control, keys in zip(controls, self._following.keys or [None] * len(controls), strict=True):
            request = {"request": "history", "kind": hole.kind, "stream": hole.source.stream, "boot": hole.source.boot}
            try:
                page = ask_page(control, {**request, "first": hole.first, "end": end}, keys=keys)
            except MertdError as error:
                refused += isinstance(error, RefusalError) and not error.is_temporary
                continue
            refused += 1
            found = [m for m in page.messages if isinstance(m, Embedding | Event) and m.boot == hole.source.boot]
            if found:
                self.stored += self._store.append(found).stored
                log.info("%d messages that were missing came from %s", len(found), control)
                return True
        return refused < len(controls)
