"""What this machine tells about the energy that it takes: counters of the processor (RAPL), of NVIDIA's GPUs, and of a Mac.

A meter counts joules since it was made. It is asked at least once a second (`mertd.bench.energy_log`), because counters begin
again and power is an instant. What does not tell is never taken for nothing: a meter that cannot know raises `NoReadingError`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from mertd.errors import MertdError

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the counters of the processor."""

MOST_WATTS = 5_000.0
"""More than any zone takes. A counter that would mean more has not begun again in its course: it was set back."""

POWERMETRICS = "/usr/bin/powermetrics"
"""The program of macOS that tells how much power the processors take. It needs root."""

POWERMETRICS_MS = 500
"""Milliseconds between its samples."""

POWERMETRICS_PARTS = ("CPU", "GPU", "ANE")
"""Processors of a Mac whose power it tells. It also gives the sum of them, but not in every version of macOS."""

SAMPLE_LINE = re.compile(r"^\*\*\* Sampled system activity .*\((?P<ms>[0-9.]+)ms elapsed\) \*\*\*$")
"""The head of a sample of `powermetrics`."""

POWER_LINE = re.compile(rf"^(?P<part>{'|'.join(POWERMETRICS_PARTS)}) Power: (?P<mw>[0-9.]+) mW$")
"""The power of one processor in a sample."""


class NoReadingError(MertdError):
    """A meter does not know how much energy was taken."""


class Meter(Protocol):
    """Counts the joules that a part of this machine takes."""

    name: str

    def joules(self) -> float:
        """Return the joules since the meter was made. Raises `NoReadingError`."""

    def close(self) -> None:
        """End what the meter has started."""


@dataclass
class FoundMeters:
    """The meters of this machine, and why there are no others."""

    meters: list[Meter] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)

    def add(self, make: Callable[[], Meter]) -> None:
        try:
            self.meters.append(make())
        except NoReadingError as error:
            self.absent.append(str(error))


class RaplMeter:
    """A zone of the processor's counters, in microjoules. The counter begins again after some minutes at full load."""

    def __init__(self, name: str, zone: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises `NoReadingError` if the counter cannot be read."""
        self.name = name
        self._zone = zone
        self._clock = clock
        self._range: int | None = None
        with contextlib.suppress(NoReadingError):
            self._range = int(self._text("max_energy_range_uj"))
        self._last = int(self._text("energy_uj"))
        self._last_s = clock()
        self._total = 0

    def joules(self) -> float:
        now, at = int(self._text("energy_uj")), self._clock()
        taken = now - self._last
        if taken < 0:
            if not self._range:
                raise NoReadingError(f"{self._zone} has begun again, and does not tell where")
            taken += self._range
        if not 0 <= taken * 1e-6 <= MOST_WATTS * max(at - self._last_s, 0.1):
            raise NoReadingError(f"{self._zone} was set back: it went from {self._last} to {now} microjoules")
        self._last, self._last_s = now, at
        self._total += taken
        return self._total * 1e-6

    def close(self) -> None:
        pass

    def _text(self, name: str) -> str:
        try:
            return (self._zone / name).read_text(encoding="utf-8").strip()
        except PermissionError as error:
            raise NoReadingError(f"only root may read {self._zone / name}; run it as root to include the processor") from error
        except OSError as error:
            raise NoReadingError(f"{self._zone / name} cannot be read: {error.strerror}") from error


def rapl_zones(root: Path | None = None) -> dict[str, Path]:
    """Return zones that have nothing in common, by name: each processor package, and memory, which no package includes.

    `psys` is the whole of both and more, `core` and `uncore` are parts of a package, and `intel-rapl-mmio` counts a package
    once more: with any of them energy would count twice. `root`: POWERCAP, if none is given.
    """
    found: dict[str, Path] = {}
    for zone in sorted((root or POWERCAP).glob("*-rapl:*")):
        try:
            name = (zone / "name").read_text(encoding="utf-8").strip()
        except OSError:
            continue
        if name.startswith("package"):
            found[name] = zone
        elif name == "dram":  # of a package, whose number is in the name of the zone
            found[f"dram of package {zone.name.split(':')[1]}"] = zone
    return found


class NvidiaMeter:
    """A GPU: its counter in millijoules, or the sum of its power over time where it has none (before Volta)."""

    def __init__(self, nvml: Any, handle: Any, index: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises `NoReadingError` if the GPU has neither."""
        self._nvml = nvml
        self._handle = handle
        self._clock = clock
        name = nvml.nvmlDeviceGetName(handle)
        self.name = f"gpu {index}, {name.decode() if isinstance(name, bytes) else name}"
        try:
            self._first: int | None = int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        except nvml.NVMLError:
            self._first = None
            self._watts = self._power()
            self._at = clock()
        self._total = 0.0

    def joules(self) -> float:
        if self._first is not None:
            try:
                return (int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) - self._first) * 1e-3
            except self._nvml.NVMLError as error:
                raise NoReadingError(f"{self.name} does not tell its energy any longer: {error}") from error
        watts, at = self._power(), self._clock()
        self._total += (watts + self._watts) / 2 * (at - self._at)
        self._watts, self._at = watts, at
        return self._total

    def close(self) -> None:
        pass

    def _power(self) -> float:
        try:
            return float(self._nvml.nvmlDeviceGetPowerUsage(self._handle)) * 1e-3
        except self._nvml.NVMLError as error:
            raise NoReadingError(f"{self.name} tells neither its energy nor its power: {error}") from error


class PowermetricsMeter:
    """A Mac's processors: every sample of `powermetrics`, times how long it was."""

    name = "CPU, GPU and Neural Engine"

    def __init__(self) -> None:
        """Raises `NoReadingError` unless this process is root's."""
        if os.geteuid() != 0:
            raise NoReadingError("only root may run powermetrics; `sudo mertd bench --only energy` includes the processors")
        self.sum = PowermetricsSum()
        self._process = subprocess.Popen(
            [POWERMETRICS, "--samplers", "cpu_power,gpu_power,ane_power", "-i", str(POWERMETRICS_MS)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            self.sum.add(stream)

    def joules(self) -> float:
        if self._process.poll() is not None:
            raise NoReadingError(f"powermetrics ended with status {self._process.returncode}")
        return self.sum.joules

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()


class PowermetricsSum:
    """The joules in the output of `powermetrics`."""

    def __init__(self) -> None:
        self.joules = 0.0
        self._seconds = 0.0

    def add(self, lines: Iterable[str]) -> None:
        """Read lines as they come."""
        for line in lines:
            if head := SAMPLE_LINE.match(line.strip()):
                self._seconds = float(head["ms"]) * 1e-3
            elif power := POWER_LINE.match(line.strip()):
                self.joules += float(power["mw"]) * 1e-3 * self._seconds


def find_meters() -> FoundMeters:
    """Return what tells energy here."""
    found = FoundMeters()
    if sys.platform == "darwin":
        if shutil.which(POWERMETRICS):
            found.add(PowermetricsMeter)
        else:
            found.absent.append(f"{POWERMETRICS} does not exist")
    else:
        zones = rapl_zones()
        if not zones:
            found.absent.append(f"there are no counters of the processor under {POWERCAP} (a virtual machine has none)")
        for name, zone in zones.items():
            found.add(partial(RaplMeter, name, zone))
        _add_gpus(found)
    return found


def _add_gpus(found: FoundMeters) -> None:
    if importlib.util.find_spec("pynvml") is None:
        found.absent.append("GPUs are not asked: nvidia-ml-py is not installed; `pip install 'mertd[bench]'` installs it")
        return
    nvml: Any = importlib.import_module("pynvml")
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError as error:
        found.absent.append(f"there is no NVIDIA GPU ({error})")
        return
    for index, handle in enumerate(handles):
        found.add(partial(NvidiaMeter, nvml, handle, index))
