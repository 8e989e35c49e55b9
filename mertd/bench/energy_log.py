"""The meters of this machine, asked often enough that none misses anything, and the energy of one piece of work."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from mertd.bench.energy_meters import FoundMeters, Meter, NoReadingError, find_meters

ASK_S = 0.2
"""Seconds between two looks at the meters."""


class EnergyLog:
    """Asks all meters in a thread of its own, as a context manager.

    Attributes:
        absent: why there are no other meters; also of meters that no longer told.
    """

    def __init__(self, found: FoundMeters | None = None) -> None:
        """`found`: other meters than those of this machine."""
        found = find_meters() if found is None else found
        self.absent = list(found.absent)
        self._meters: list[Meter] = list(found.meters)
        self._joules: dict[str, float] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask_often, name="energy")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        for meter in self._meters:
            meter.close()

    def read(self) -> Reading:
        """Ask all meters now."""
        with self._lock:
            self._ask()
            return Reading(time.perf_counter(), dict(self._joules))

    def _ask_often(self) -> None:
        while not self._over.wait(ASK_S):
            with self._lock:
                self._ask()

    def _ask(self) -> None:
        for meter in list(self._meters):
            try:
                self._joules[meter.name] = meter.joules()
            except NoReadingError as error:
                self.absent.append(str(error))
                self._meters.remove(meter)
                self._joules.pop(meter.name, None)
                meter.close()


class Reading:
    """What the meters said at one moment."""

    def __init__(self, at_s: float, joules: dict[str, float]) -> None:
        self.at_s = at_s
        self.joules = joules

    def watts_until(self, later: Reading) -> dict[str, float]:
        """Return the mean power of each meter that told at both moments."""
        seconds = later.at_s - self.at_s
        return {name: (later.joules[name] - joules) / seconds for name, joules in self.joules.items() if name in later.joules}
