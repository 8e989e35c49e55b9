"""A client's connection to one daemon: a SUB socket, the numbering of its messages, and the history behind it."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, replace
from typing import Any

import zmq

from mertd.errors import EndpointError, KeysError, WireError
from mertd.stream.client.past import Asked, NextRun, Past
from mertd.stream.client.sequence import Cursor, Found, MissingRange, Sequence
from mertd.stream.complaint import Complaint
from mertd.stream.curve_keys import ClientKeys
from mertd.stream.endpoint import harden
from mertd.stream.families import connect
from mertd.stream.refusals import Refusals
from mertd.stream.request import PATIENCE_S, Decoder, RefusalError, Reply, ask, ask_page
from mertd.text import printable
from mertd.wire import MAX_BYTES, Embedding, Event, Message, Status, decode

REFUSED_S = 0.2
"""Seconds until a request is repeated that a daemon could not answer at this moment."""

UNANSWERED_S = 2.0
"""Seconds until a daemon that did not answer is asked again for what was missed."""

REFUSED_LIMIT = 3
"""Requests for one page that are made in all, if each is answered so."""

BACK_OFF_S = 10.0
"""Seconds without requests after one to which there was no reply."""

SILENCE_S = 5.0
"""Seconds without any message after which the log says so; a daemon publishes its status every second."""

RECONNECT_S = 1.0
"""Seconds until the next attempt after a daemon refused the connection."""

MAX_FRAME = MAX_BYTES + 4_096
"""Bytes of one frame, with what encryption adds; libzmq disconnects from a daemon that sends more, and tries again later."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Daemon:
    """Where a daemon publishes, where it answers (None: nothing is asked), and the keys for both (None: no encryption)."""

    endpoint: str
    control: str | None
    keys: ClientKeys | None


@dataclass(frozen=True)
class Reading:
    """How messages are read. `decoder`: makes one of its frames. `fetches_past`: what is missing is asked for until there is an
    answer, also of a run that ended while the client did not listen; otherwise it counts as lost after some attempts.
    """

    decoder: Decoder = decode
    fetches_past: bool = False


class Link:
    """The connection to one daemon."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        daemon: Daemon,
        topics: list[str],
        resume: Cursor | None = None,
        past: Past | None = None,
        reading: Reading = Reading(),
    ) -> None:
        """Connect. `resume`: what came before. `past`: what is to be fetched first.

        Raises `EndpointError` for an invalid endpoint, `KeysError` for keys that cannot be used.
        """
        self.daemon = daemon
        self._reading = replace(reading, fetches_past=past is not None)
        self.sequence = Sequence(resume)
        self.past = past  # None when it was fetched
        self._complaint = Complaint(log, logging.WARNING)  # why nothing could be fetched
        self.asks_past_at = float("-inf")  # monotonic seconds from which on the past may be asked for again
        self.reconnects_at = float("inf")  # monotonic seconds
        self._asks_again_at = 0.0  # monotonic seconds
        self.complains_at = time.monotonic() + SILENCE_S  # monotonic seconds
        self._hears_status = "status/" in topics
        self.socket = context.socket(zmq.SUB)
        harden(self.socket)
        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME)
        with_keys = daemon.keys is not None
        self.refusals = Refusals(context, self.socket, daemon.endpoint, with_keys, report_broken_off=with_keys)
        for topic in topics:
            self.socket.subscribe(topic)
        try:
            if daemon.keys:
                daemon.keys.secure(self.socket)
            connect(self.socket, daemon.endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise EndpointError(f"{daemon.endpoint!r} is not an endpoint: {error}") from error
        except KeysError:
            self.close()
            raise

    @property
    def fetches_past(self) -> bool:
        """Whether what was published before, and what is missing, is asked for until it comes."""
        return self._reading.fetches_past

    def check(self) -> None:
        """Raise `EndpointError` if the daemon refuses this client. libzmq then gives up, so reconnect `RECONNECT_S` later."""
        now = time.monotonic()
        if now >= self.complains_at and not int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._complain()
        if now >= self.reconnects_at:
            self.reconnects_at = float("inf")
            with contextlib.suppress(zmq.ZMQError):  # libzmq has given it up itself
                self.socket.disconnect(self.daemon.endpoint)
            connect(self.socket, self.daemon.endpoint)
        try:
            self.refusals.check()
        except EndpointError:
            self.reconnects_at = now + RECONNECT_S
            raise

    def note_message(self) -> None:
        """A message has come: the daemon is there."""
        self.complains_at = time.monotonic() + SILENCE_S if self._hears_status else float("inf")

    def _complain(self) -> None:
        """Say once that nothing comes, unless that may be as it should: only status messages come without pause."""
        self.complains_at = float("inf")
        if not self.refusals.connected:
            log.warning(
                "no daemon answers at %s yet; waiting for it (is `mertd run` running, with this --bind?)", self.daemon.endpoint
            )
        elif self._hears_status:
            log.warning("the daemon at %s has been silent for %.0f s; waiting for it", self.daemon.endpoint, SILENCE_S)

    def find(self, asked: Asked) -> Found | None:
        """Return a page of what is asked for; None if there is none at this moment. Blocks until the daemon has replied.

        Raises `EndpointError` if the daemon is too old to be asked.
        """
        if self.past is not None or isinstance(asked, NextRun) or (self.fetches_past and self.daemon.control):
            return self._fetch_past(asked)
        return self.fetch(asked)

    def _fetch_past(self, asked: Asked) -> Found | None:
        assert self.daemon.control is not None
        request: dict[str, Any] = {"request": "history", "kind": asked.kind, "stream": asked.stream}
        if isinstance(asked, NextRun):
            request |= {"since": asked.since_ns} if asked.after is None else {"since": asked.since_ns, "boot": asked.after}
        else:
            request |= {"boot": asked.boot, "first": asked.first, "end": asked.end}
        try:
            page = ask_page(self.daemon.control, request, PATIENCE_S, self.daemon.keys, self._reading.decoder)
        except (EndpointError, WireError) as error:
            if not isinstance(error, RefusalError):
                self._complaint.say(f"{error}; waiting for it, to fetch what was missed")
                self.asks_past_at = time.monotonic() + UNANSWERED_S
                return None
            if error.is_temporary:
                self._complaint.say(str(error))
                self.asks_past_at = time.monotonic() + REFUSED_S
                return None
            if isinstance(asked, NextRun):
                raise
            log.warning("what %s published last is gone: %s", printable(f"{asked.kind}/{asked.stream}"), printable(error))
            return Found([], False)
        self._complaint.over()
        fresh: list[Embedding | Event] = []
        for message in page.messages:  # what was asked for, by `seq`, whatever a daemon sends
            if not isinstance(message, Embedding | Event) or not asked.has(message):
                continue
            if not fresh or (message.boot == fresh[0].boot and message.seq > fresh[-1].seq):
                fresh.append(message)
        return Found(fresh, page.more)

    def fetch(self, missing: MissingRange) -> Found:
        """Return the first page of what the daemon still has of a range, oldest first. Blocks until the daemon has replied."""
        if self.daemon.control is None or time.monotonic() < self._asks_again_at:
            return Found([], False)
        request = {"request": "history", "kind": missing.kind, "stream": missing.stream, "boot": missing.boot}
        try:
            page = self._ask_patiently({**request, "first": missing.first, "end": missing.end})
        except (EndpointError, WireError) as error:
            what = printable(f"{missing.kind}/{missing.stream}")
            log.warning("%d messages of %s could not be fetched: %s", missing.count, what, printable(error))
            self._asks_again_at = time.monotonic() + BACK_OFF_S
            return Found([], False)
        fresh = [m for m in page.messages if isinstance(m, Embedding | Event) and missing.has(m)]
        return Found(fresh, page.more and bool(fresh))

    def _ask_patiently(self, request: dict[str, Any]) -> Reply:
        """Ask again what could not be answered at that moment, a few times. Raises `EndpointError` and `WireError`."""
        assert self.daemon.control is not None
        for _ in range(REFUSED_LIMIT - 1):
            try:
                return ask_page(self.daemon.control, request, PATIENCE_S, self.daemon.keys, self._reading.decoder)
            except RefusalError as error:
                if not error.is_temporary:
                    raise
                time.sleep(REFUSED_S)
        return ask_page(self.daemon.control, request, PATIENCE_S, self.daemon.keys, self._reading.decoder)

    def _fetch_all(self, missing: MissingRange) -> list[Embedding | Event]:
        found = list[Embedding | Event]()
        rest: MissingRange | None = missing
        while rest is not None:
            page = self.fetch(rest)
            found += page.messages
            rest = page.rest(rest)
        return found

    def fetch_last(self, count: int, kinds: tuple[str, ...], streams: tuple[str, ...]) -> list[Message]:
        """Return the last `count` messages of each kind and stream (no streams: all), oldest first, and expect what follows.

        Raises `EndpointError` if there is no reply, or no such stream.
        """
        assert self.daemon.control is not None
        (status,) = ask(self.daemon.control, {"request": "status"}, PATIENCE_S, self.daemon.keys)
        if not isinstance(status, Status):
            raise WireError(f"{self.daemon.control} replied to a request for its status with {status.kind}; is it a mertd?")
        if unknown := set(streams) - set(status.streams):
            names = ", ".join(status.streams)
            raise EndpointError(f"{self.daemon.control} has no stream {unknown.pop()!r}, only {names}")
        past: list[Message] = []
        for stream, counters in status.streams.items():
            for kind, counter in (("embedding", "embedded"), ("event", "events")):
                if kind in kinds and (not streams or stream in streams):
                    end = int(counters[counter])
                    found = self._fetch_all(MissingRange(status.boot, kind, stream, max(0, end - count), end))
                    first = found[0].seq if found else end
                    self.sequence.begin(MissingRange(status.boot, kind, stream, first, end))
                    past += found
        return sorted(past, key=_when_ns)

    def close(self) -> None:
        self.socket.close(linger=0)
        self.refusals.close()


def _when_ns(message: Message) -> int:
    return message.time.end_ns if isinstance(message, Embedding) else message.time_ns
