"""A sound card that follows a script, to test what a driver can do wrong, with clocks that only the script advances.

It replaces the module `sounddevice`, since no real card misbehaves on demand; tests/device captures from a real one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.capture.clock_pair import ClockPair
from mertd.capture.input_status import InputStatus

RATE = 48_000


class PortAudioError(Exception):
    """The error that PortAudio raises."""


@dataclass
class ScriptedMonitor:
    """An input monitor that reports what a test sets."""

    name: str
    follows: bool
    latest: InputStatus = field(default_factory=InputStatus)
    problem: str = ""
    closed: bool = False

    def close(self) -> None:
        self.closed = True


@dataclass
class Card:
    """Devices and one stream. `script`: one step happens each time the reader sleeps."""

    script: list[Callable[[], object]] = field(default_factory=list)
    refuses: str = ""
    most_channels: int = 64  # with which it can be opened
    listed: list[dict[str, Any]] = field(default_factory=list)
    unix_s: float = 1_790_000_000.0
    running_s: float = 1_000.0
    active: bool = False
    closed: bool = False
    opened: dict[str, Any] = field(default_factory=dict)

    # The module `sounddevice`

    PortAudioError = PortAudioError
    default = SimpleNamespace(device=(1, 0))

    def query_hostapis(self) -> list[dict[str, Any]]:
        return [{"name": "Core Audio"}, {"name": "ALSA"}]

    def query_devices(self) -> list[dict[str, Any]]:
        return self.listed or [
            {"name": "speaker", "hostapi": 0, "max_input_channels": 0, "default_samplerate": 44_100.0},
            {"name": "microphone", "hostapi": 0, "max_input_channels": 2, "default_samplerate": float(RATE)},
            {"name": "interface", "hostapi": 0, "max_input_channels": 8, "default_samplerate": 96_000.0},
            {"name": "plugin", "hostapi": 1, "max_input_channels": 32, "default_samplerate": float(RATE)},
        ]

    def get_portaudio_version(self) -> tuple[int, str]:
        return 1, "PortAudio V19, revision 0"

    def RawInputStream(self, **options: Any) -> Card:  # noqa: N802 - its name
        if self.refuses:
            raise PortAudioError(self.refuses, -9_996)
        if options["channels"] > self.most_channels:
            raise PortAudioError("Invalid number of channels", -9_998)
        self.opened = options
        return self

    def start(self) -> None:
        self.active = True

    def abort(self, ignore_errors: bool) -> None:
        self.active = self.active and not ignore_errors

    def close(self, ignore_errors: bool) -> None:
        self.closed = ignore_errors

    def monitor_input(self, device: str, follows_default: bool) -> ScriptedMonitor:
        self.monitor = ScriptedMonitor(device, follows_default)
        return self.monitor

    # The module `time`

    def time_ns(self) -> int:
        return round(self.unix_s * 1e9)

    def now(self) -> ClockPair:
        return ClockPair(self.time_ns(), self.monotonic_ns())

    def monotonic_ns(self) -> int:
        return round(self.running_s * 1e9)

    def monotonic(self) -> float:
        return self.running_s

    def sleep(self, seconds: float) -> None:
        self.passes(seconds)
        if self.script:
            self.script.pop(0)()

    # What happens

    def passes(self, seconds: float) -> None:
        """Advance both clocks."""
        self.unix_s += seconds
        self.running_s += seconds

    def sleeps(self, seconds: float) -> None:
        """Advance the wall clock only, as when the machine sleeps."""
        self.unix_s += seconds

    def calls_back(self, samples: Iterable[float], overflow: bool = False, latency_s: float | None = None) -> None:
        """Call back with these samples on both channels, the first of them captured `latency_s` seconds ago."""
        frames: NDArray[np.float32] = np.repeat(np.array(list(samples), np.float32)[:, None], self.opened["channels"], axis=1)
        delay = len(frames) / self.opened["samplerate"] if latency_s is None else latency_s
        times = SimpleNamespace(currentTime=self.running_s, inputBufferAdcTime=self.running_s - delay)
        self.opened["callback"](frames.tobytes(), len(frames), times, SimpleNamespace(input_overflow=overflow))

    def dies(self) -> None:
        """End the stream, and report it."""
        self.active = False
        self.opened["finished_callback"]()
