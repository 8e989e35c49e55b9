"""The requests of clients: each one is checked to its last key, and carried out."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mertd.daemon.audio_stream import Stream
from mertd.daemon.older_history import OlderHistory
from mertd.daemon.run_state import RunState
from mertd.daemon.streams import Streams
from mertd.defaults import MAX_HOP_S, MIN_HOP_S, SAMPLE_RATE
from mertd.errors import WireError, did_you_mean
from mertd.stream.server.history import History, Page
from mertd.vocabulary import EventName, RequestName, StreamState
from mertd.windows import Window
from mertd.wire import Embedding, Event, Status, decode, encode

SEARCHED_MESSAGES = 8
"""Newest messages of the history in which the answer to `now` may already be."""

KEYS = {
    RequestName.STATUS: set[str](),
    RequestName.HISTORY: {"kind", "stream", "last", "first", "end", "boot", "since"},
    RequestName.NOW: {"stream"},
    RequestName.PAUSE: {"stream"},
    RequestName.RESUME: {"stream"},
    RequestName.SET: {"stream", "hop", "gate"},
    RequestName.SHUTDOWN: set[str](),
}
"""The keys that each request may have."""


@dataclass(frozen=True)
class _Waiting:
    """A client waits for what becomes of a window."""

    stream: str
    window: Window
    answer: asyncio.Future[Embedding | Event]


class Requests:
    """Carries requests out."""

    def __init__(
        self,
        boot: bytes,
        streams: Streams,
        state: RunState,
        history: History,
        status: Callable[[], Status],
        older: OlderHistory | None = None,
    ) -> None:
        self._boot = boot
        self._streams = streams
        self._state = state
        self._history = history
        self._status = status
        self._older = older or OlderHistory()
        self._waiting: list[_Waiting] = []
        self._recorded: list[Event] | None = None  # events published while a request is carried out

    def answer(self, request: dict[str, Any]) -> Page | Awaitable[Page]:
        """Return the reply, now or later. Raises `WireError` or `ValueError` for what cannot be done."""
        name = request.pop("request", None)
        if not isinstance(name, str) or name not in KEYS:
            near = did_you_mean(name, [*map(str, KEYS)]) if isinstance(name, str) else ""
            raise WireError(f"unknown request {name!r}; choose one of {', '.join(KEYS)}{near}")
        known = KEYS[RequestName(name)]
        for key in request:
            if key not in known:
                raise WireError(f"{name} has no {key!r}{did_you_mean(key, known)}")
        match RequestName(name):
            case RequestName.HISTORY:
                return self._find_past(request)
            case RequestName.NOW:
                return self._embed_now(self._one_stream(request))
            case RequestName.PAUSE:
                return self._pause(self._one_stream(request))
            case RequestName.RESUME:
                self._one_stream(request).resume()
            case RequestName.SET:
                return self._set(request)
            case RequestName.SHUTDOWN:
                self._state.stop("asked to over the control socket")
            case RequestName.STATUS:
                pass  # the answer to the others, too
        return Page([encode(self._status())], False)

    def published(self, message: Embedding | Event) -> None:
        """Look whether a client waits for this message. Call it with every message that is published."""
        if self._recorded is not None and isinstance(message, Event):
            self._recorded.append(message)
        for waiting in self._waiting:
            if message.stream == waiting.stream and not waiting.answer.done() and _concerns(message, waiting.window):
                waiting.answer.set_result(message)

    # Streams

    def _one_stream(self, request: Mapping[str, Any]) -> Stream:
        found = self._chosen_streams(request)
        if len(found) > 1:
            raise WireError(f"stream: not given; choose one of {', '.join(self._streams)}")
        return found[0]

    def _chosen_streams(self, request: Mapping[str, Any]) -> list[Stream]:
        """Return the stream that the request names, or all of them."""
        name = checked(request, "stream", str, "")
        if name and name not in self._streams:
            raise WireError(f"no stream {name!r}; choose one of {', '.join(self._streams)}")
        return [self._streams[name]] if name else list(self._streams.values())

    # One request each

    def _find_past(self, request: Mapping[str, Any]) -> Page | Awaitable[Page]:
        kind = checked(request, "kind", str, "embedding")
        if kind not in ("embedding", "event"):
            raise WireError(f"kind {kind!r} has no history; choose embedding or event")
        if "since" in request:
            return self._find_since(kind, request)
        if "last" in request:
            if extra := {"first", "end"} & request.keys():
                raise WireError(f"last and {extra.pop()} cannot be combined")
            self._chosen_streams(request)
            return self._history.last(kind, checked(request, "stream", str, ""), checked(request, "last", int))
        boot = checked(request, "boot", bytes, self._boot)
        first = checked(request, "first", int)
        end = checked(request, "end", int) if "end" in request else None
        if boot != self._boot:
            if not self._older.exists:
                raise WireError("that run of the daemon is over, and its messages are gone")
            return self._older.between(boot, kind, checked(request, "stream", str), first, end)
        name = self._one_stream(request).address.name
        oldest = self._history.oldest(kind, name)
        if self._older.available and (oldest is None or first < oldest):
            return self._find_older(kind, name, first, end)
        return self._history.between(kind, name, first, end)

    async def _find_older(self, kind: str, stream: str, first: int, end: int | None) -> Page:
        """Return a page from the memory; if that has nothing of it, from the history after all."""
        page = await self._older.between(self._boot, kind, stream, first, end)
        return self._with_newer(page, end) if page.messages else self._history.between(kind, stream, first, end)

    def _with_newer(self, page: Page, end: int | None = None) -> Page:
        """Return a page from the memory that knows whether the history has more behind it, which is not stored yet."""
        last = decode(page.messages[-1])
        assert isinstance(last, Embedding | Event)
        if last.boot != self._boot:
            return page
        newer = self._history.between(last.kind, last.stream, last.seq + 1, end)
        return Page(page.messages, page.more or bool(newer.messages))

    def _find_since(self, kind: str, request: Mapping[str, Any]) -> Page | Awaitable[Page]:
        """Return what the first run has since a time; with `boot`, all of the first run after that one, if it is known."""
        if extra := {"first", "end", "last"} & request.keys():
            raise WireError(f"since and {extra.pop()} cannot be combined")
        since_ns = checked(request, "since", int)
        after = checked(request, "boot", bytes) if "boot" in request else None
        if after == self._boot:
            return Page([], False)
        if not self._older.exists:
            name = self._one_stream(request).address.name
            return self._history.since(kind, name, since_ns) if after is None else self._history.between(kind, name, 0, None)
        name = checked(request, "stream", str) if "stream" in request else self._one_stream(request).address.name
        return self._find_older_since(kind, name, since_ns, after)

    async def _find_older_since(self, kind: str, stream: str, since_ns: int, after: bytes | None) -> Page:
        page = await self._older.since(self._status().daemon, after, kind, stream, since_ns)
        if page.messages:
            return self._with_newer(page)
        if after is None:  # it may not be stored yet
            return self._history.since(kind, stream, since_ns)
        return self._history.between(kind, stream, 0, None)

    async def _embed_now(self, stream: Stream) -> Page:
        name = stream.address.name
        if stream.state is not StreamState.LISTENING:
            raise WireError(f"{name} is {stream.state}")
        try:
            window = stream.timeline.ask(time.monotonic_ns())
        except ValueError as error:
            raise WireError(f"no window of {name} can be embedded now: {error}") from error
        for kind in ("embedding", "event"):  # it may have been due already, and be done
            for frames in self._history.last(kind, name, SEARCHED_MESSAGES).messages:
                message = decode(frames)
                if isinstance(message, Embedding | Event) and _concerns(message, window):
                    return Page([frames], False)
        waiting = _Waiting(name, window, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._streams.dispatcher.dispatch()
        try:
            return Page([encode(await waiting.answer)], False)
        finally:
            self._waiting.remove(waiting)

    async def _pause(self, stream: Stream) -> Page:
        await stream.pause()
        return Page(self._history.last("event", stream.address.name, 1).messages, False)

    def _set(self, request: Mapping[str, Any]) -> Page:
        hop = checked(request, "hop", float) if "hop" in request else None
        gate = checked(request, "gate", float) if "gate" in request else None
        if hop is None and gate is None:
            raise WireError("set needs hop, in seconds, or gate, in dBFS")
        if hop is not None and not MIN_HOP_S <= hop <= MAX_HOP_S:
            raise WireError(f"hop {hop:g} is out of range; choose {MIN_HOP_S:g} to {MAX_HOP_S:g} seconds")
        if gate is not None and not gate <= 0:
            raise WireError(f"gate {gate:g} is out of range; choose at most 0 dBFS")
        samples = None if hop is None else round(hop * SAMPLE_RATE)
        streams = self._chosen_streams(request)

        def change() -> None:
            for stream in streams:
                stream.timeline.change(samples, gate)

        return self._events_of(change)

    def _events_of(self, action: Callable[[], object]) -> Page:
        """Do something, and return the events that it caused."""
        recorded: list[Event] = []
        self._recorded = recorded
        try:
            action()
        finally:
            self._recorded = None
        return Page([encode(event) for event in recorded], False)


def _concerns(message: Embedding | Event, window: Window) -> bool:
    """Return whether this message says what became of a window."""
    if isinstance(message, Embedding):
        span = message.window
        return (message.epoch, span.start, span.end) == (window.epoch, window.start, window.end)
    end = message.detail.get("end")
    if message.event == EventName.SKIPPED:
        return message.epoch == window.epoch and message.index <= window.start and isinstance(end, int) and window.end <= end
    return message.event == EventName.SILENT and (message.epoch, message.index, end) == (
        window.epoch,
        window.start,
        window.end,
    )


def checked(request: Mapping[str, Any], key: str, kind: type, *default: Any) -> Any:
    """Return a value of the request, or `default` if it is not there. Raises `WireError` if it is of another type."""
    if key not in request and default:
        return default[0]
    value = request.get(key)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (type(value) is float and not math.isfinite(value)):
        name = {str: "text", int: "a whole number", float: "a number", bytes: "bytes"}[kind]
        raise WireError(f"{key} is {value!r:.50}; expected {name}")
    return value
