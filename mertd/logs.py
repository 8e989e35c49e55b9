"""The log: one line an event, as text or JSON. Writing it can neither stop nor delay the code that logs.

A handler puts lines on a bounded queue, and a thread writes them. A full disk, a closed pipe or a pipe that nobody reads costs
lines, not the daemon: lost lines are counted, and once writing works again a line says how many there were. Of similar lines
(same logger, same format string) only MAX_SIMILAR are written in SIMILAR_PERIOD_S; another line says how many were left out.
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

MAX_SIMILAR = 20
"""Similar lines that are written in a period."""

SIMILAR_PERIOD_S = 10.0
"""Seconds in which similar lines are counted."""

MAX_RECORD = 20_000
"""Characters of one event, with its traceback."""

MAX_QUEUED = 1_000
"""Lines that may wait to be written."""

FLUSH_S = 0.5
"""Seconds that the last lines may take to be written when the log is closed."""

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
"""Levels by their names in the configuration."""

Format = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]


def log_fields(**values: Any) -> dict[str, Any]:
    """Return what a log call takes as `extra`, so that the JSON form shows these values as keys of their own."""
    return {"log_fields": values}


class TextFormatter(logging.Formatter):
    """`2026-11-22 20:11:02 WARNING what happened`, in local time; further lines of one event are indented."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        lines = _message(self, record).rstrip("\n").split("\n")
        return f"{when} {record.levelname:7} " + "\n    ".join(printable(line) for line in lines)


class JsonFormatter(logging.Formatter):
    """One map a line: time (UTC), level, logger, message, and the values of `log_fields`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(self, record),
        }
        return json_text({**getattr(record, "log_fields", {}), **line})


def _message(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = record.getMessage()
    whole = f"{text}\n{formatter.formatException(record.exc_info)}" if record.exc_info else text
    return shorten(whole, MAX_RECORD)


@dataclass
class _Similar:
    """Similar lines of one period. `until`: its end."""

    until: float
    level: int
    count: int = 0
    left_out: int = 0


class QueuedHandler(logging.Handler):
    """Writes to a file descriptor. `lost`: lines that could not be written; `left_out`: similar lines beyond the limit."""

    def __init__(self, descriptor: int, form: Format = "text", clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
        self.lost = self.left_out = 0
        self._descriptor, self._clock = descriptor, clock
        self._similar: dict[tuple[str, str], _Similar] = {}
        self._queue: deque[str] = deque()
        self._changed = threading.Condition()
        self._reported = 0  # lost lines that a line of the log has reported
        self._unfinished = False  # only part of the last line was written
        self._closing = self._busy = False
        self._writer = threading.Thread(target=self._write, name="log", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Put a record on the queue. `logging` calls it with the handler's lock held; it never waits for the writing."""
        try:
            if self._is_within_limit(record):
                self._put(self.format(record))
        except Exception as error:  # noqa: BLE001 - a log call must not harm its caller, whatever it was given
            text = f"a line of {record.pathname}:{record.lineno} could not be made: {type(error).__name__}"
            self._put(self.format(logging.makeLogRecord({"name": record.name, "msg": text} | _level(logging.ERROR))))

    def _is_within_limit(self, record: logging.LogRecord) -> bool:
        self._report_left_out()
        similar = self._similar.setdefault(
            (record.name, str(record.msg)), _Similar(self._clock() + SIMILAR_PERIOD_S, record.levelno)
        )
        similar.count += 1
        if similar.count <= MAX_SIMILAR:
            return True
        similar.left_out += 1
        self.left_out += 1
        return False

    def _report_left_out(self) -> None:
        """Log how many lines were left out of periods that are over."""
        now = self._clock()
        for (name, words), similar in [item for item in self._similar.items() if now >= item[1].until]:
            del self._similar[name, words]
            if similar.left_out:
                text = f"{similar.left_out} more lines like {words!r} were left out in {SIMILAR_PERIOD_S:.0f} s"
                self._put(self.format(logging.makeLogRecord({"name": name, "msg": text} | _level(similar.level))))

    def _put(self, line: str) -> None:
        with self._changed:
            if len(self._queue) >= MAX_QUEUED:
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
                self._report_left_out()
                self.release()
            for line in lines:
                self._write_line(line)

    def _write_line(self, line: str) -> None:
        if self.lost > self._reported:
            missing = self.lost - self._reported
            text = f"{missing} lines of this log could not be written and are lost"
            notice = self.format(logging.makeLogRecord({"name": __name__, "msg": text} | _level(logging.WARNING))) + "\n"
            if not self._write_out(notice):
                self._lose()
                return
            self._reported += missing
        if not self._write_out(line):
            self._lose()

    def _lose(self) -> None:
        with self._changed:
            self.lost += 1

    def _write_out(self, line: str) -> bool:
        data = memoryview((("\n" if self._unfinished else "") + line).encode(errors="replace"))
        try:
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:  # the descriptor was set not to block; waiting delays only this thread
                    select.select([], [self._descriptor], [], 1.0)
                    continue
                self._unfinished = bool(data)
        except (OSError, ValueError):
            return False
        return True

    def close(self) -> None:
        """Report what was left out, and wait up to FLUSH_S for the last lines to be written."""
        with self._changed:
            if self._closing:
                return
        self.acquire()
        for similar in self._similar.values():
            similar.until = -math.inf
        self._report_left_out()
        self.release()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._queue and not self._busy, FLUSH_S)
        self._writer.join(FLUSH_S)
        super().close()


def _level(number: int) -> dict[str, Any]:
    return {"levelno": number, "levelname": logging.getLevelName(number), "created": time.time()}


def install(handler: QueuedHandler, level: Level) -> None:
    """Send to `handler` what mertd logs at `level` or above, and the warnings of other libraries."""
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    set_level(level)
    logging.captureWarnings(True)


def set_level(level: Level) -> None:
    """Write what mertd logs at this level or above, from now on."""
    logging.getLogger("mertd").setLevel(LEVELS[level])


def uninstall(handler: QueuedHandler) -> None:
    """Undo `install`, and close the handler."""
    logging.getLogger().removeHandler(handler)
    logging.captureWarnings(False)
    handler.close()
