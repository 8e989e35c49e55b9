"""Threads beside the daemon: one measures the machine's own stalls, one writes to a FIFO as a live source does."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from chaos.timecode import SAMPLE_BYTES, Timecode
from daemon_process import RATE

WRITE_S = 0.005


class Pacemaker:
    """By how much a thread that wants to sleep for 20 ms is held up: the machine's own stalls, which no daemon can help."""

    STEP_S, WORTH_S = 0.02, 0.05

    def __init__(self) -> None:
        self._stalls: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pacemaker")
        self._thread.start()

    def _beat(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(self.STEP_S):
            now = time.monotonic()
            if (stall := now - last - self.STEP_S) > self.WORTH_S:
                self._stalls.append((now, stall))
            last = now

    def stalled(self, since: float, until: float) -> float:
        """Seconds lost between two monotonic times."""
        return sum(stall for at, stall in list(self._stalls) if since <= at <= until)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


class Writer:
    """A live source behind a FIFO: makes samples by the wall clock, and drops what the pipe does not take at once."""

    def __init__(self, path: Path, code: Timecode) -> None:
        self._path, self._code = path, code
        self._stop, self._gate = threading.Event(), threading.Lock()
        self._descriptor: int | None = None
        self._made, self._started_ns = 0, time.time_ns()
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="writer")
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(WRITE_S):
            with self._gate, self._code.writing():
                self._write(self._due())
        self._close()

    def _due(self) -> int:
        """Samples that should have been made by now, and were not."""
        return (time.time_ns() - self._started_ns) * RATE // 1_000_000_000 - self._made

    def _write(self, count: int) -> None:
        taken = 0
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
            size = os.write(self._descriptor, self._code.samples(count)) if count else 0
            taken, broken = divmod(size, SAMPLE_BYTES)
            assert not broken, "a pipe took a part of a sample"
        except (BlockingIOError, BrokenPipeError):
            pass
        except OSError:  # nobody has opened it for reading yet
            assert self._descriptor is None
        self._code.taken(taken, self._started_ns + self._made * 1_000_000_000 // RATE)
        self._made += count
        self.dropped += count - taken

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def stall(self, seconds: float, catch_up: bool) -> None:
        """Give nothing for a while; then all at once, as a network does, or only what is made from then on."""
        with self._gate:
            time.sleep(seconds)  # not to wait for something, but what is provoked
            if not catch_up:
                due = self._due()
                self._made += due
                self.dropped += due

    def reopen(self, after_s: float) -> None:
        """Close the FIFO, as a program that ends does; its successor opens it `after_s` later."""
        with self._gate:
            self._close()
            time.sleep(after_s)
            self._made += self._due()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
