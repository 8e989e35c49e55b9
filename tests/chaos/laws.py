"""What must be true of everything that a daemon publishes, whatever happens to it: messages in, violations out.

Rules of this file: no socket, no clock, no process. Feed it every message of one subscriber from the daemon's start on, in
order, with the time at which it came, and say `over` behind the last one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from mertd.wire import Embedding, Event, Message, Status

DRIFT = 2e-3
"""Largest relative deviation of a source's rate from the nominal one: twice the limit of the clock."""

HELD_UP_NS = 6_000_000_000
"""Nanoseconds that audio may wait in a sound server, a pipe or a stopped process before it is reported; older is too old."""

EDGE_NS = 500_000_000
"""Nanoseconds that a sound server may take to mute."""

NEAR_NS = 2_000_000_000
"""Nanoseconds around the order to mute in which zeros in a window count as its effect."""

Truth = Callable[[Embedding], tuple[int, int] | None]
"""Returns when the first sample of a window was made, and the one after its last (Unix ns), given what is published about its
sound; None if no such sound was made.
"""


@dataclass
class _Edge:
    """At `at_ns` a source was told to be `silent`, or to be heard again. `seen`: how much later windows show it, and bounds.

    One of them must be right; others may show zeros of another origin, as when the player of a sound server is held up.
    """

    at_ns: int
    silent: bool
    seen: list[tuple[int, int]] = field(default_factory=list)

    @property
    def nearest(self) -> tuple[int, int]:
        return min(self.seen, key=lambda seen: abs(seen[0]))


@dataclass
class _Stream:
    """What is known of one stream so far."""

    seq: dict[str, int] = field(default_factory=lambda: {"embedding": 0, "event": 0})
    epoch: int = 0
    begins: dict[int, int] = field(default_factory=lambda: {0: 0})  # of epochs: index of the first sample
    handled: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))  # of epochs: starts of windows
    last: Embedding | None = None
    embedded: int = 0
    silent: int = 0
    skipped: int = 0
    skipped_since: int = 0
    lost: bool = False  # told of as `device_lost`
    not_before_ns: dict[int, int] = field(default_factory=dict)  # of epochs: when the fault before them happened
    edges: list[_Edge] = field(default_factory=list)
    status: dict[str, int] | None = None


class Laws:
    """Holds one daemon's messages to them. `violations`: sentences, none in the best of worlds."""

    def __init__(self, window: int, hop: int, rate: int, truths: dict[str, Truth] | None = None, slack_ns: int = 0) -> None:
        """`window`, `hop`: samples at `rate`. `truths`: by stream. `slack_ns`: by how much the truth itself may be off."""
        self._window, self._hop, self._rate = window, hop, rate
        self._truths, self._slack_ns = truths or {}, slack_ns
        self._streams: dict[str, _Stream] = defaultdict(_Stream)
        self._boot = b""
        self._published = 0
        self.violations: list[str] = []
        self.bounds_ns: list[int] = []
        self.worst_of_bound = 0.0
        """Bounds of the windows that were held against the truth; the largest error, as a share of its bound."""

    def struck(self, stream: str, at_ns: int) -> None:
        """A source failed at `at_ns`, so that all of its next epoch must have been heard later."""
        known = self._streams[stream]
        known.not_before_ns[known.epoch + 1] = at_ns

    def muted(self, stream: str, at_ns: int, silent: bool) -> None:
        """A source was told to be `silent`, or to be heard again, at `at_ns`: a window with that in it tells when."""
        self._streams[stream].edges.append(_Edge(at_ns, silent))

    @property
    def edges_ns(self) -> list[int]:
        """How much later than ordered sources were silent or heard again, by the windows that show it best."""
        return [edge.nearest[0] for stream in self._streams.values() for edge in stream.edges if edge.seen]

    def epoch(self, stream: str) -> int:
        """The newest that was announced."""
        return self._streams[stream].epoch

    @property
    def numbers(self) -> dict[tuple[str, str], int]:
        """The last `seq`, by kind and stream."""
        return {(kind, name): seq - 1 for name, stream in self._streams.items() for kind, seq in stream.seq.items() if seq}

    def heard(self, message: Message, came_ns: int) -> None:
        """The next message, which came at `came_ns` (Unix)."""
        self._boot = self._boot or message.boot
        self._hold(message.boot == self._boot, f"{message.kind} of another boot")
        match message:
            case Status():
                self._status(message)
            case Event():
                self._event(message, self._numbered(message))
            case Embedding():
                self._embedding(message, self._numbered(message), came_ns)

    def over(self, waiting: int) -> None:
        """No more will come. Every window but the last `waiting` of all streams together must have been accounted for."""
        absent = 0
        for name, stream in self._streams.items():
            for epoch, starts in stream.handled.items():
                expected = range(stream.begins.get(epoch, 0), max(starts, default=-1) + 1, self._hop)
                holes = sorted(set(expected) - starts)
                absent += len(holes)
                if holes and len(holes) > waiting:
                    self._hold(False, f"{name}: {len(holes)} windows of epoch {epoch} vanished, the first at {holes[0]}")
            for edge in stream.edges:
                if edge.seen:
                    off, bound = edge.nearest
                    what = "muted" if edge.silent else "heard again"
                    self._hold(abs(off) <= bound, f"{name}: was {what} {_ms(off)} later than ordered, bound {_ms(bound)}")
            status = stream.status
            self._hold(status is not None, f"{name}: in no status")
        self._hold(absent <= waiting, f"{absent} windows vanished, and {waiting} were waiting at the end")

    # Within

    def _hold(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.violations.append(otherwise)

    def _numbered(self, message: Embedding | Event) -> _Stream:
        """Of the message's stream; `seq` has neither holes nor repeats, and an epoch begins with its event."""
        stream = self._streams[message.stream]
        where = f"{message.stream}: {message.kind} {message.seq}"
        expected = stream.seq[message.kind]
        self._hold(message.seq == expected, f"{where} came when {expected} was due")
        stream.seq[message.kind] = message.seq + 1
        self._hold(not message.replay, f"{where} is a replay that nobody asked for")
        begins = isinstance(message, Event) and message.event == "epoch"
        self._hold(message.epoch <= stream.epoch + begins, f"{where} is of epoch {message.epoch}, which has not begun")
        return stream

    def _event(self, event: Event, stream: _Stream) -> None:
        where = f"{event.stream}: {event.event}"
        match event.event:
            case "epoch":
                self._hold(event.epoch == stream.epoch + 1, f"{where} {event.epoch} after {stream.epoch}")
                jump = event.detail["reason"] == "clock"
                self._hold(stream.lost or jump, f"{where} {event.epoch} began though nothing was lost")
                stream.epoch, stream.lost = event.epoch, False
                for epoch, starts in stream.handled.items():
                    if starts and epoch < event.epoch:
                        end = max(starts) + self._window
                        self._hold(
                            end <= event.index, f"{where} {event.epoch} begins at {event.index}, within a window to {end}"
                        )
                stream.begins[event.epoch] = event.index
            case "device_lost":
                self._hold(not stream.lost, f"{where} twice without a return")
                stream.lost = True
            case "silent":
                stream.silent += 1
                self._handled(where, stream, event.epoch, event.index, event.detail["end"], 1)
            case "skipped":
                windows = event.detail["windows"]
                stream.skipped += windows
                stream.skipped_since += windows
                self._handled(where, stream, event.epoch, event.index, event.detail["end"], windows)
            case "failed" | "ended":
                self._hold(False, f"{where}: {dict(event.detail)}")

    def _handled(self, where: str, stream: _Stream, epoch: int, start: int, end: int, windows: int) -> None:
        """Windows from `start` on are embedded, silent or skipped: each once, at its place in its epoch."""
        self._hold(end == start + (windows - 1) * self._hop + self._window, f"{where}: {windows} windows in [{start}, {end})")
        begin, next_begin = stream.begins.get(epoch), stream.begins.get(epoch + 1)
        if begin is None:
            return  # its epoch has not begun, which is said already
        self._hold(
            start >= begin and (start - begin) % self._hop == 0, f"{where}: {start} is no start in an epoch from {begin}"
        )
        self._hold(
            next_begin is None or end <= next_begin, f"{where}: [{start}, {end}) reaches into the epoch from {next_begin}"
        )
        starts = range(start, start + windows * self._hop, self._hop)
        twice = stream.handled[epoch].intersection(starts)
        self._hold(not twice, f"{where}: window at {min(twice, default=0)} came twice")
        stream.handled[epoch].update(starts)

    def _embedding(self, message: Embedding, stream: _Stream, came_ns: int) -> None:
        where, window = f"{message.stream}: embedding {message.seq}", message.window
        self._hold(window.rate == self._rate, f"{where} at {window.rate} Hz")
        self._handled(where, stream, message.epoch, window.start, window.end, 1)
        stream.embedded += 1
        counted, stream.skipped_since = stream.skipped_since, 0
        self._hold(message.skipped == counted, f"{where} reports {message.skipped} skipped, and {counted} were announced")
        self._times(where, message, stream, came_ns)
        stream.last = message

    def _times(self, where: str, message: Embedding, stream: _Stream, came_ns: int) -> None:
        time, last = message.time, stream.last
        seconds = (message.window.end - message.window.start) / self._rate
        strange = abs(time.end_ns - time.start_ns - seconds * 1e9)
        self._hold(
            strange <= seconds * DRIFT * 1e9 + 2 * time.error_ns, f"{where} lasts {strange / 1e6:.1f} ms too long or short"
        )
        ahead = time.end_ns - time.error_ns - came_ns
        self._hold(ahead <= 0, f"{where} ends {ahead / 1e6:.1f} ms in the future, its bound of {_ms(time.error_ns)} included")
        late = came_ns - message.latency_ns.total - time.end_ns - time.error_ns
        self._hold(late <= HELD_UP_NS, f"{where} ends {late / 1e9:.1f} s before it was reported, its bound included")
        fault_ns = stream.not_before_ns.get(message.epoch, 0)
        older = fault_ns - time.start_ns - time.error_ns
        self._hold(
            older <= 0, f"{where} of epoch {message.epoch} begins {older / 1e6:.1f} ms before the fault that ended the last"
        )
        if last is not None:
            self._hold(
                message.window.start > last.window.start, f"{where} starts at {message.window.start}, not after the last"
            )
            bound = time.error_ns + last.time.error_ns
            if last.epoch == message.epoch:
                apart = (message.window.start - last.window.start) / self._rate * 1e9
                back = last.time.start_ns + apart * (1 - DRIFT) - time.start_ns
            else:
                back = last.time.end_ns - time.start_ns
            self._hold(back <= bound, f"{where} is {back / 1e6:.1f} ms too early after the last one, bounds {_ms(bound)}")
        if message.stream in self._truths:
            self._truth(where, message)
        self._edge(message, stream.edges)

    def _edge(self, message: Embedding, edges: list[_Edge]) -> None:
        """Zeros at one end of a window, around the time at which the source was muted, may come from that."""
        time, zeros = message.time, message.audio.zeros
        if message.audio.missing or zeros in (0, self._window):
            return
        silent_ns = zeros * 1_000_000_000 // self._rate
        for edge in edges:
            if time.start_ns - NEAR_NS < edge.at_ns < time.end_ns + NEAR_NS:
                seen_ns = time.end_ns - silent_ns if edge.silent else time.start_ns + silent_ns
                edge.seen.append((seen_ns - edge.at_ns, time.error_ns + EDGE_NS))

    def _truth(self, where: str, message: Embedding) -> None:
        truth = self._truths[message.stream](message)
        if truth is None:
            self._hold(False, f"{where} holds sound that was never made")
            return
        time = message.time
        self.bounds_ns.append(time.error_ns)
        for end, published, true in (("start", time.start_ns, truth[0]), ("end", time.end_ns, truth[1])):
            error = abs(published - true)
            self.worst_of_bound = max(self.worst_of_bound, error / (time.error_ns + self._slack_ns))
            off = f"its {end} is off by {(published - true) / 1e6:+.1f} ms, bound {_ms(time.error_ns)}"
            self._hold(error <= time.error_ns + self._slack_ns, f"{where} of epoch {message.epoch}: {off}")

    def _status(self, status: Status) -> None:
        self._hold(status.published >= self._published, "status: fewer messages published than before")
        self._published = status.published
        for name, told in status.streams.items():
            stream = self._streams[name]
            parts = {key: told[key] for key in ("due", "embedded", "silent", "skipped", "waiting")}
            sum_of = sum(parts[key] for key in ("embedded", "silent", "skipped", "waiting"))
            self._hold(parts["due"] == sum_of, f"{name}: status does not add up: {parts}")
            came = {"embedded": stream.embedded, "silent": stream.silent, "skipped": stream.skipped}
            self._hold(all(parts[key] == came[key] for key in came), f"{name}: status says {parts}, what came is {came}")
            fallen = [
                key for key in ("due", "samples", "epoch", "restarts") if stream.status and told[key] < stream.status[key]
            ]
            self._hold(not fallen, f"{name}: status counts {', '.join(fallen)} backwards")
            self._hold(
                told["epoch"] == stream.epoch, f"{name}: status is of epoch {told['epoch']}, announced was {stream.epoch}"
            )
            stream.status = dict(told)


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.1f} ms"
