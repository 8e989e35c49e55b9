"""`mertd tail` at a terminal: a line for each stream, which moves, and the last events below."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from rich.cells import cell_len

from mertd.cli.live_screen import LiveScreen, terminal_size
from mertd.cli.message_format import MessageFormatter
from mertd.cli.stream_line import StreamLine
from mertd.cli.terminal_text import blocks_for
from mertd.vocabulary import EventName
from mertd.wire import Embedding, Event, Message, Status

REDRAW_S = 0.2
"""Seconds between two drawings, at least."""

AWAY_S = 5.0
"""Seconds without a status, of which there is one a second, after which the daemon counts as away."""

MAX_EVENTS = 50
"""Events that are kept."""

MAX_STREAMS = 500
"""Streams that are kept."""

EVENT_LINES = 3
"""Lines that events have at least, if there are many streams."""

KINDS = ("embedding", "event", "status")
"""What it subscribes to."""

TROUBLE = "bold red"
"""Style of what is wrong."""

HEAD = "bold"
"""Style of the first line."""


class TailScreen:
    """What is on the screen."""

    def __init__(
        self, endpoint: str, streams: Sequence[str], screen: LiveScreen, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`streams`: those that are shown; none for all."""
        self._endpoint, self._only = endpoint, frozenset(streams)
        self._screen, self._clock = screen, clock
        self._lines: dict[tuple[str, str], StreamLine] = {}
        self._events: deque[str] = deque(maxlen=MAX_EVENTS)
        self._formatter = MessageFormatter()
        self._phase = ""
        self._began_s = clock()
        self._heard_s: dict[str, float] = {}  # the last status of each daemon, monotonic
        self._drawn_s = float("-inf")

    def show(self, message: Message) -> None:
        """Take in a message, and draw if it is time to."""
        self._note(message)
        self.draw()

    def _note(self, message: Message) -> None:
        if isinstance(message, Status):
            self._heard_s[message.daemon] = self._clock()
            self._phase = message.phase
            self._note_streams(message)
            return
        line = self._line(message.daemon, message.stream)
        if isinstance(message, Embedding):
            if line is not None:
                line.note_embedding(message)
        elif isinstance(message, Event):
            if line is not None:
                line.note_event(message)
            if message.event != EventName.SILENT:  # the stream's line says so
                self._events.append(self._formatter.event(message))

    def complain(self, text: str) -> None:
        """Show what is wrong among the events."""
        self._screen.complain(text)

    def draw(self, at_once: bool = False) -> None:
        """Draw, unless that was just done."""
        now = self._clock()
        if not at_once and now - self._drawn_s < REDRAW_S:
            return
        self._drawn_s = now
        width, height = terminal_size()
        lines, styles = self.content(width, height)
        self._screen.draw(lines, styles)

    def content(self, width: int, height: int) -> tuple[list[str], list[str]]:
        """Return the lines, and their styles."""
        shown = [self._lines[key] for key in sorted(self._lines)]
        away_s = self._clock() - max(self._heard_s.values(), default=self._began_s)
        away = f"no status for {away_s:.0f} s; is the daemon running?" if away_s > AWAY_S else ""
        lines, styles = [f"{away or self._phase or 'connecting'}  {self._endpoint}"], [TROUBLE if away else HEAD]
        for mark, text in self._marks(shown):
            lines.append(f"{mark}: {text}")
            styles.append(TROUBLE)
        events = [*self._events, *self._screen.complaints]
        room = max(1, height - len(lines) - min(len(events), EVENT_LINES) - bool(events))
        left_out = max(0, len(shown) - room + 1) if len(shown) > room else 0
        names = max([cell_len(line.name) for line in shown], default=0)
        blocks = blocks_for(self._screen.encoding)
        for line in shown[: len(shown) - left_out]:
            lines.append(line.text(width, blocks, names))
            styles.append(TROUBLE if line.trouble else "")
        if left_out:
            lines.append(f"{left_out} more streams; --stream NAME shows one")
        room = height - len(lines) - 1
        if events and room > 0:
            lines += ["", *events[-room:]]
        return lines[:height], styles

    @staticmethod
    def _marks(shown: Iterable[StreamLine]) -> Iterable[tuple[str, str]]:
        shown = [*shown]
        if any(line.is_untrained for line in shown):
            yield "UNTRAINED", "the weights are random, these vectors mean nothing"
        if any(line.is_replay for line in shown):
            yield "REPLAY", "this was heard earlier"

    def _note_streams(self, status: Status) -> None:
        for name, told in status.streams.items():
            line = self._line(status.daemon, str(name))
            if line is not None and isinstance(told, dict):
                line.note_status(told)
        present = {daemon for daemon, heard_s in self._heard_s.items() if self._clock() - heard_s <= AWAY_S}
        self._heard_s = {daemon: self._heard_s[daemon] for daemon in present}
        for key in [*self._lines]:
            if key[0] not in present or (key[0] == status.daemon and key[1] not in status.streams):
                del self._lines[key]

    def _line(self, daemon: str, stream: str) -> StreamLine | None:
        """Return the line of a stream, a new one if need be; None for one that is not shown."""
        if self._only and stream not in self._only:
            return None
        line = self._lines.get((daemon, stream))
        if line is None and len(self._lines) < MAX_STREAMS:
            line = self._lines[daemon, stream] = StreamLine(daemon, stream)
        return line
