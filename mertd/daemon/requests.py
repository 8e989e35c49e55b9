"""What clients may ask of a daemon: each request checked to its last key, and carried out."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mertd.daemon.audio_stream import Listening
from mertd.defaults import MAX_HOP_S, MIN_HOP_S, SAMPLE_RATE
from mertd.errors import WireError, did_you_mean
from mertd.stream.history import History, Page
from mertd.windows import Window
from mertd.wire import Embedding, Event, Status, decode, encode

KEYS = {
    "status": set[str](),
    "history": {"kind", "stream", "last", "first", "end", "boot"},
    "now": {"stream"},
    "pause": {"stream"},
    "resume": {"stream"},
    "set": {"stream", "hop", "gate"},
    "shutdown": set[str](),
}
"""What may stand in each request."""


class Daemon(Protocol):
    """The supervisor, as requests see it."""

    boot: bytes
    streams: dict[str, Listening]

    def status(self) -> Status: ...

    def stop(self, reason: str) -> None:
        """Stop, after what is at hand."""

    def progress(self) -> None:
        """Windows may have become due."""


@dataclass(frozen=True)
class _Wanted:
    """Somebody waits for what becomes of a window."""

    stream: str
    window: Window
    answer: asyncio.Future[Embedding | Event]


class Requests:
    """Carries requests out. `published` is to be told all messages, in which it finds the answers to some."""

    def __init__(self, daemon: Daemon, history: History) -> None:
        self._daemon, self._history = daemon, history
        self._wanted: list[_Wanted] = []
        self._told: list[Event] | None = None

    def answer(self, request: dict[str, Any]) -> Page | Awaitable[Page]:
        """What to reply, now or later. Raises `WireError` or `ValueError` for what cannot be done."""
        name = request.pop("request", None)
        if not isinstance(name, str) or name not in KEYS:
            near = did_you_mean(name, KEYS) if isinstance(name, str) else ""
            raise WireError(f"request {name!r} is not known{near}; known are {', '.join(KEYS)}")
        for key in request:
            if key not in KEYS[name]:
                raise WireError(f"{name} has no {key!r}{did_you_mean(key, KEYS[name])}")
        match name:
            case "history":
                return self._past(request)
            case "now":
                return self._now(self._one(request))
            case "pause":
                return self._pause(self._one(request))
            case "resume":
                self._one(request).resume()
            case "set":
                return self._set(request)
            case "shutdown":
                self._daemon.stop("asked to over the control socket")
        return Page([encode(self._daemon.status())], False)

    def published(self, message: Embedding | Event) -> None:
        """Look whether somebody waits for this."""
        if self._told is not None and isinstance(message, Event):
            self._told.append(message)
        for wanted in self._wanted:
            if message.stream == wanted.stream and not wanted.answer.done() and _tells_of(message, wanted.window):
                wanted.answer.set_result(message)

    # Streams

    def _one(self, request: Mapping[str, Any]) -> Listening:
        found = self._some(request)
        if len(found) > 1:
            raise WireError(f"stream: which one, of {', '.join(self._daemon.streams)}?")
        return found[0]

    def _some(self, request: Mapping[str, Any]) -> list[Listening]:
        name = _typed(request, "stream", str, "")
        streams = self._daemon.streams
        if name and name not in streams:
            raise WireError(f"no stream {name!r}, only {', '.join(streams)}")
        return [streams[name]] if name else list(streams.values())

    # One request each

    def _past(self, request: Mapping[str, Any]) -> Page:
        kind = _typed(request, "kind", str, "embedding")
        if kind not in ("embedding", "event"):
            raise WireError(f"kind {kind!r}, wanted embedding or event")
        if "last" in request:
            if extra := {"first", "end"} & request.keys():
                raise WireError(f"last and {extra.pop()} do not go together")
            self._some(request)
            return self._history.last(kind, _typed(request, "stream", str, ""), _typed(request, "last", int))
        name, boot = self._one(request).address.name, _typed(request, "boot", bytes, self._daemon.boot)
        if boot != self._daemon.boot:
            raise WireError("that run of the daemon is over, and its messages are gone")
        end = _typed(request, "end", int) if "end" in request else None
        return self._history.between(kind, name, _typed(request, "first", int), end)

    async def _now(self, stream: Listening) -> Page:
        if stream.state != "listening":
            raise WireError(f"{stream.address.name} is {stream.state}")
        try:
            window = stream.timeline.ask(time.monotonic_ns())
        except ValueError as error:
            raise WireError(f"no window of {stream.address.name} can be embedded now: {error}") from error
        name = stream.address.name
        for kind in ("embedding", "event"):  # it may have been due already, and be done
            for frames in self._history.last(kind, name, 8).messages:
                message = decode(frames)
                if isinstance(message, Embedding | Event) and _tells_of(message, window):
                    return Page([frames], False)
        wanted = _Wanted(name, window, asyncio.get_running_loop().create_future())
        self._wanted.append(wanted)
        self._daemon.progress()
        try:
            return Page([encode(await wanted.answer)], False)
        finally:
            self._wanted.remove(wanted)

    async def _pause(self, stream: Listening) -> Page:
        await stream.pause()
        return Page(self._history.last("event", stream.address.name, 1).messages, False)

    def _set(self, request: Mapping[str, Any]) -> Page:
        hop, gate = (_typed(request, key, float) if key in request else None for key in ("hop", "gate"))
        if hop is None and gate is None:
            raise WireError("set what? hop, in seconds, or gate, in dBFS")
        if hop is not None and not MIN_HOP_S <= hop <= MAX_HOP_S:
            raise WireError(f"hop: {MIN_HOP_S:g} to {MAX_HOP_S:g} seconds, not {hop:g}")
        if gate is not None and not gate <= 0:
            raise WireError(f"gate: at most 0 dBFS, not {gate:g}")
        samples = None if hop is None else round(hop * SAMPLE_RATE)
        some = self._some(request)

        def act() -> None:
            for stream in some:
                stream.timeline.change(samples, gate)

        return self._events(act)

    def _events(self, act: Callable[[], object]) -> Page:
        """Do something, and answer with the events that it caused."""
        told: list[Event] = []
        self._told = told
        try:
            act()
        finally:
            self._told = None
        return Page([encode(event) for event in told], False)


def _tells_of(message: Embedding | Event, window: Window) -> bool:
    """Whether this is what became of a window."""
    if isinstance(message, Embedding):
        span = message.window
        return (message.epoch, span.start, span.end) == (window.epoch, window.start, window.end)
    end = message.detail.get("end")
    if message.event == "skipped":
        return message.epoch == window.epoch and message.index <= window.start and isinstance(end, int) and window.end <= end
    return message.event == "silent" and (message.epoch, message.index, end) == (window.epoch, window.start, window.end)


def _typed(request: Mapping[str, Any], key: str, wanted: type, *default: Any) -> Any:
    """A value of the request, or `default` if it is not there. Raises `WireError` if it is of another type."""
    if key not in request and default:
        return default[0]
    value = request.get(key)
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted or (type(value) is float and not math.isfinite(value)):
        name = {str: "text", int: "a whole number", float: "a number", bytes: "bytes"}[wanted]
        raise WireError(f"{key} is {value!r:.50}, wanted {name}")
    return value
