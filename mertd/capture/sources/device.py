"""`device:` sources: a microphone, line input or virtual device through PortAudio.

It rests on these facts: PortAudio's device list is frozen when it starts, so that only a new process finds a lost device again;
some systems never report that a device has died, or that another one has become the default.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mertd.capture.address import Address
from mertd.capture.assembler import Assembler, CallbackBuffer
from mertd.capture.clock_pair import read_clocks
from mertd.capture.input_monitor import monitor_input
from mertd.capture.input_status import explain_zeros
from mertd.capture.limits import BLOCK_S
from mertd.capture.reports import CaptureSettings
from mertd.capture.source import COMPLETE, Block, ZerosExplanation
from mertd.capture.source_kinds import without_device
from mertd.errors import SourceError, did_you_mean

FIRST_BLOCK_S = 15.0
"""Seconds without a callback after the start until the device counts as dead."""

STALL_S = 2.0
"""Seconds without a callback later on until the device counts as dead."""

LATENCY_S = 0.2
"""Latency asked of PortAudio: a window of 30 s tolerates it, and 20 callbacks a second cost a fifth of what 115 cost."""

DEFAULT_ALIASES = ("pulse", "default", "pipewire")
"""Names under which ALSA offers the default source of the sound server."""


@dataclass(frozen=True)
class Device:
    """One input device as PortAudio lists it."""

    name: str
    host: str
    channels: int
    rate: int
    default: bool
    index: int


def portaudio() -> Any:
    """Return the module sounddevice. Raises `SourceError` where PortAudio is missing or cannot start."""
    try:
        import sounddevice
    except OSError as error:
        raise SourceError(
            f"PortAudio is not installed ({error}); on Debian: apt install libportaudio2 libasound2-plugins"
        ) from error
    return sounddevice


def devices() -> list[Device]:
    """Return every input device, the default one first. Raises `SourceError`."""
    sounddevice = portaudio()
    hosts = sounddevice.query_hostapis()
    default = sounddevice.default.device[0]
    found = [
        Device(
            name=str(info["name"]),
            host=str(hosts[info["hostapi"]]["name"]),
            channels=int(info["max_input_channels"]),
            rate=int(info["default_samplerate"]),
            default=index == default,
            index=index,
        )
        for index, info in enumerate(sounddevice.query_devices())
        if info["max_input_channels"] > 0
    ]
    return sorted(found, key=lambda device: not device.default)


def resolve(name: str, found: list[Device]) -> Device:
    """Return the device called `name`, or the only one whose name contains it; the default one for an empty name.

    Raises `SourceError`, which lists the near matches. If there is no match it may be retried: a USB device may be plugged in.
    """
    if not found:
        raise SourceError(f"no input device; `mertd devices` lists them, and {without_device()} need none", retry=True)
    if not name:
        return found[0]
    exact = [d for d in found if d.name == name] or [d for d in found if d.name.lower() == name.lower()]
    containing = [d for d in found if name.lower() in d.name.lower()]
    if exact or len(containing) == 1:
        return (exact or containing)[0]
    names = [d.name for d in found]
    if containing:
        matches = ", ".join(repr(d.name) for d in containing)
        raise SourceError(f"{name!r} matches several input devices: {matches}; name one of them in full")
    hint = did_you_mean(name, names) or f"; there are {', '.join(map(repr, names[:8]))}"
    raise SourceError(f"no input device {name!r}{hint} (`mertd devices` lists all)", retry=True)


class DeviceSource:
    """An open input device at its native rate."""

    reopens = False
    end_report = COMPLETE

    def __init__(self, address: Address) -> None:
        """Raises `SourceError` if the device does not exist or refuses."""
        sounddevice = portaudio()
        try:
            device = resolve(address.target, devices())
            self.rate = address.rate or device.rate
            needed = max(2, int(address.mix)) if address.mix.isdecimal() else 2
            self.channels = min(address.channels or needed, device.channels)
            self._name = f"device {device.name!r}"
            self._assembler = Assembler(self.rate, self.channels, self._name)
            self._finished = False
            self._stream = sounddevice.RawInputStream(
                device=device.index,
                samplerate=self.rate,
                channels=self.channels,
                dtype="float32",
                blocksize=0,
                latency=LATENCY_S,
                callback=self._callback,
                finished_callback=self._on_finished,
            )
            self._stream.start()
        except sounddevice.PortAudioError as error:
            raise SourceError(f"device {address.target or 'default'!r}: {_first_line(error)}", retry=True) from error
        version = sounddevice.get_portaudio_version()[1].split(",")[0]
        self.description = f"{device.name} ({device.host}), {self.rate} Hz, {self.channels} channels, {version}"
        follows = (not address.target or device.name in DEFAULT_ALIASES) and not os.environ.get("PULSE_SOURCE")
        self._monitor = monitor_input(device.name, follows)

    def _callback(self, data: Any, frames: int, times: Any, status: Any) -> None:
        """Queue a copy of the frames; called in PortAudio's thread."""
        latency_s = times.currentTime - times.inputBufferAdcTime
        self._assembler.add(CallbackBuffer(bytes(data), frames, read_clocks(), latency_s, bool(status.input_overflow)))

    def _on_finished(self) -> None:
        self._finished = True

    def blocks(self) -> Iterator[Block | None]:
        """Yield blocks as the driver delivers them. Raises `SourceError` when the device is lost."""
        last, timeout_s = time.monotonic(), FIRST_BLOCK_S
        while True:
            time.sleep(BLOCK_S)
            if self._monitor.problem:
                raise SourceError(f"{self._name}: {self._monitor.problem}", retry=True)
            if self._assembler.has_buffers:
                last, timeout_s = time.monotonic(), STALL_S
                yield from self._assembler.blocks()
                continue
            if self._finished or not self._stream.active:
                raise SourceError(f"{self._name} was lost", retry=True)
            if time.monotonic() - last > timeout_s:
                raise SourceError(f"{self._name} has delivered nothing for {timeout_s:.0f} s", retry=True)
            yield None

    def explain_zeros(self) -> ZerosExplanation:
        """Return the likeliest reason why only zeros come."""
        return explain_zeros(self._monitor.latest)

    def close(self) -> None:
        """Release the device. May hang on macOS: the supervisor then kills the process."""
        self._monitor.close()
        self._stream.abort(ignore_errors=True)
        self._stream.close(ignore_errors=True)


def open_source(settings: CaptureSettings) -> DeviceSource:
    """Open a `device:` source. Raises `SourceError`."""
    return DeviceSource(settings.address)


def _first_line(error: Exception) -> str:
    arguments: Mapping[int, object] = dict(enumerate(error.args))
    return str(arguments.get(0, error)).splitlines()[0]
