"""What a client of a bus has received and what it is done with, and so where it continues after its own restart.

Rules of this file: no socket, no clock, no file.
"""

from __future__ import annotations

from mertd.bus.bus_cursor import BusPlaces
from mertd.bus.bus_holes import BusHole
from mertd.bus.bus_numbering import BusNumbering, StreamRun, run_of
from mertd.bus.stream_consumer import StreamPlace
from mertd.stream.client.sequence import Cursor, start_ns
from mertd.wire import Embedding, Event


class BusProgress:
    """The place in the stream, and the numbers of the runs: of what was received, and of what is done."""

    def __init__(self, begun: BusPlaces, resume: Cursor | None = None) -> None:
        """`begun`: where the client continues. `resume`: what came before, as `mertd.Subscriber` has it."""
        self._received = BusNumbering(resume, begun.runs)
        self._done = BusNumbering(resume, begun.runs)
        self._passed = begun.place  # behind all that was received
        self._since_ns = begun.since_ns
        self._underway: dict[tuple[StreamRun, int], StreamPlace] = {}  # what is not done, with its own place, in order

    @property
    def places(self) -> BusPlaces:
        """What to keep: the place of the first message that is not done, and the numbers behind those that are."""
        place = next(iter(self._underway.values()), self._passed)
        return BusPlaces(place, self._done.places, self._since_ns)

    def begin(self, place: StreamPlace | None) -> bool:
        """Begin at a place, if it is known and none was known before. Return whether it is so."""
        if place is None or self._passed is not None:
            return False
        self._passed = place
        return True

    def accept(self, message: Embedding | Event, behind: StreamPlace) -> int | None:
        """Note that a message is delivered; return how many are lost before it. None if it is not to be delivered."""
        lost = self._received.lost_before(message)
        is_old = self._since_ns is not None and start_ns(message) < self._since_ns and not self._received.has_run(message)
        self._passed = behind
        if lost is None or is_old:
            return None
        self._received.note(message)
        self._underway[run_of(message), message.seq] = StreamPlace(behind.created, behind.seq - 1)
        return lost

    def pass_by(self, behind: StreamPlace) -> None:
        """Go on behind something that is not delivered."""
        self._passed = behind

    def note_hole(self, hole: BusHole) -> None:
        """Take in the announcement that messages are gone."""
        self._received.note_hole(hole)
        self._done.note_hole(hole)

    def finish(self, message: Embedding | Event) -> bool:
        """Note that the client is done with a message. Return False if it was before."""
        if self._underway.pop((run_of(message), message.seq), None) is None:
            return False
        self._done.note(message)
        return True
