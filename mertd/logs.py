"""The log: one line an event, as text or JSON, that can neither stop nor slow whoever writes it.

Lines are put on a bounded queue and written by a thread of their own. A full disk, a closed pipe or one that nobody reads costs
lines, not the daemon: they are counted, and once writing works again a line says how many were lost. Of lines that say the same
thing (same logger, same words before the facts are filled in) only so many are written in a while; another line says how many
were left out.
"""

from __future__ import annotations

import logging
import math
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from mertd.text import json_text, printable, shorten

MOST, PERIOD_S = 20, 10.0
"""So many lines of a kind are written in such a period."""

MAX_RECORD = 20_000
"""Characters of one event, with its traceback."""

QUEUE = 1_000
"""Lines that may wait to be written."""

FLUSH_S = 0.5
"""How long the last lines may take at the end."""

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
Format = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]


def facts(**values: Any) -> dict[str, Any]:
    """For a log call's `extra`: values that the JSON form shows as keys of their own."""
    return {"facts": values}


class TextFormatter(logging.Formatter):
    """`2026-11-22 20:11:02 WARNING what happened`, in local time; further lines of one event are indented."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        lines = _message(self, record).rstrip("\n").split("\n")
        return f"{when} {record.levelname:7} " + "\n    ".join(printable(line) for line in lines)


class JsonFormatter(logging.Formatter):
    """One map a line: time (UTC), level, logger, message, and what else `facts` has named."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(self, record),
        }
        return json_text({**getattr(record, "facts", {}), **line})


def _message(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = record.getMessage()
    whole = f"{text}\n{formatter.formatException(record.exc_info)}" if record.exc_info else text
    return shorten(whole, MAX_RECORD)


@dataclass
class _Kind:
    """Lines of one kind within a period."""

    until: float
    level: int
    count: int = 0
    left_out: int = 0


class Lines(logging.Handler):
    """Writes to a file descriptor. `lost`: lines that could not be written; `left_out`: lines beyond what a period allows."""

    def __init__(self, descriptor: int, form: Format = "text", clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
        self.lost = self.left_out = 0
        self._descriptor, self._clock = descriptor, clock
        self._kinds: dict[tuple[str, str], _Kind] = {}
        self._queue: deque[str] = deque()
        self._changed = threading.Condition()
        self._told = 0  # lost lines that have been told of
        self._cut = False  # a line was begun and not finished
        self._closing = self._busy = False
        self._writer = threading.Thread(target=self._write, name="log", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Called under the handler's lock. Never waits for the writing."""
        try:
            if self._may_pass(record):
                self._put(self.format(record))
        except Exception as error:  # noqa: BLE001 - a log call must not harm its caller, whatever it was given
            text = f"a line of {record.pathname}:{record.lineno} could not be made: {type(error).__name__}"
            self._put(self.format(logging.makeLogRecord({"name": record.name, "msg": text} | _level(logging.ERROR))))

    def _may_pass(self, record: logging.LogRecord) -> bool:
        self._sum_up()
        kind = self._kinds.setdefault((record.name, str(record.msg)), _Kind(self._clock() + PERIOD_S, record.levelno))
        kind.count += 1
        if kind.count <= MOST:
            return True
        kind.left_out += 1
        self.left_out += 1
        return False

    def _sum_up(self) -> None:
        """Close periods that are over, and say what was left out of them."""
        now = self._clock()
        for (name, words), kind in [item for item in self._kinds.items() if now >= item[1].until]:
            del self._kinds[name, words]
            if kind.left_out:
                text = f"{kind.left_out} more lines like {words!r} were left out in {PERIOD_S:.0f} s"
                self._put(self.format(logging.makeLogRecord({"name": name, "msg": text} | _level(kind.level))))

    def _put(self, line: str) -> None:
        with self._changed:
            if len(self._queue) >= QUEUE:
                self.lost += 1
            else:
                self._queue.append(line + "\n")
                self._changed.notify_all()

    def _write(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                if not self._changed.wait_for(lambda: self._queue or self._closing, 1.0):
                    lines = []
                elif self._queue:
                    lines, self._busy = list(self._queue), True
                    self._queue.clear()
                else:
                    return
            if not lines:
                self.acquire()
                self._sum_up()
                self.release()
            for line in lines:
                self._write_line(line)

    def _write_line(self, line: str) -> None:
        if self.lost > self._told:
            missing = self.lost - self._told
            text = f"{missing} lines of this log could not be written and are lost"
            notice = self.format(logging.makeLogRecord({"name": __name__, "msg": text} | _level(logging.WARNING))) + "\n"
            if not self._write_out(notice):
                self._lose()
                return
            self._told += missing
        if not self._write_out(line):
            self._lose()

    def _lose(self) -> None:
        with self._changed:
            self.lost += 1

    def _write_out(self, line: str) -> bool:
        data = memoryview((("\n" if self._cut else "") + line).encode(errors="replace"))
        try:
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:  # whoever gave us the descriptor had it so; waiting costs only this thread
                    select.select([], [self._descriptor], [], 1.0)
                    continue
                self._cut = bool(data)
        except (OSError, ValueError):
            return False
        return True

    def close(self) -> None:
        """Sum up, and give the last lines a moment to leave."""
        with self._changed:
            if self._closing:
                return
        self.acquire()
        for kind in self._kinds.values():
            kind.until = -math.inf
        self._sum_up()
        self.release()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._queue and not self._busy, FLUSH_S)
        self._writer.join(FLUSH_S)
        super().close()


def _level(number: int) -> dict[str, Any]:
    return {"levelno": number, "levelname": logging.getLevelName(number), "created": time.time()}


def install(lines: Lines, level: Level) -> None:
    """Send the log of mertd there, from `level` up, and what other libraries find worth a warning."""
    root = logging.getLogger()
    root.addHandler(lines)
    root.setLevel(logging.WARNING)
    set_level(level)
    logging.captureWarnings(True)


def set_level(level: Level) -> None:
    """Write from this level up, from now on."""
    logging.getLogger("mertd").setLevel(LEVELS[level])


def uninstall(lines: Lines) -> None:
    """The reverse, and the end of `lines`."""
    logging.getLogger().removeHandler(lines)
    logging.captureWarnings(False)
    lines.close()
