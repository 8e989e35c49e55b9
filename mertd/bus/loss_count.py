"""Which messages of a daemon are gone for good, as far as the messages behind them and the daemon's status tell.

Rules of this file: no socket, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mertd.bus.bus_batch import Relayed
from mertd.bus.bus_holes import BusHole, missed
from mertd.stream.client.inbox import Received
from mertd.stream.client.sequence import COUNTERS
from mertd.vocabulary import HoleCause
from mertd.wire import Embedding, Event, Status

Key = tuple[bytes, str, str]
"""Run, kind and stream."""


class LossCount:
    """Follows the numbering of what a relay receives.

    Attributes:
        lost: messages that are gone so far.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._next: dict[Key, int] = {}

    def with_holes(self, batch: Iterable[Received]) -> list[Relayed]:
        """Return what is to be written: messages, each behind the hole before it, and holes that a status shows."""
        found: list[Relayed] = []
        for received in batch:
            message = received.message
            if isinstance(message, Status):
                found += self._by(message)
            else:
                found.append(Relayed(message, tuple(self._before(message, received.lost))))
        return found

    def _before(self, message: Embedding | Event, lost: int) -> Iterator[BusHole]:
        """Yield the hole before a message: the client library counts it, or it has stood in a status before."""
        key = (message.boot, message.kind, message.stream)
        expected = self._next.get(key)
        count = lost if expected is None else message.seq - expected
        self._next[key] = max(message.seq + 1, expected or 0)
        if count > 0:
            self.lost += count
            yield missed(message, count)

    def _by(self, status: Status) -> Iterator[Relayed]:
        """Yield what a daemon had sent before its status, which comes after it, and the client library could not get."""
        for stream, counters in status.streams.items():
            for kind, counter in COUNTERS.items():
                end = counters.get(counter) if isinstance(counters, dict) else None
                key = (status.boot, kind, stream)
                expected = self._next.get(key)
                if expected is None or not isinstance(end, int) or expected >= end:
                    continue
                self._next[key] = end
                self.lost += end - expected
                hole = BusHole(status.boot, status.daemon, stream, kind, expected, end, HoleCause.MISSED)
                epoch, index = (value if isinstance(value := counters.get(name), int) else 0 for name in ("epoch", "samples"))
                behind = Event(status.boot, status.daemon, stream, epoch, 0, "", index, status.time_ns)
                yield Relayed(None, (hole,), behind)
