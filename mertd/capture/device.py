"""`device:` sources: a microphone, line input or loopback through PortAudio.

Facts this rests on: the device list is frozen when PortAudio starts, so a lost device is found again only by a new process;
some systems never say that a device has died, or that another one is the default now.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mertd.capture.address import Address
from mertd.capture.instant import now
from mertd.capture.limits import BLOCK_S
from mertd.capture.outlook import cause, watch
from mertd.capture.portions import Assembler, Portion
from mertd.capture.source import Block, Cause
from mertd.errors import SourceError, did_you_mean

FIRST_BLOCK_S, STALL_S = 15.0, 2.0
"""Silence of the driver, not of the room, after which a device counts as dead: at the start, and later."""

LATENCY_S = 0.2
"""Asked of PortAudio: a window of 30 s does not mind, and 20 callbacks a second cost a fifth of what 115 do."""

ALIASES = ("pulse", "default", "pipewire")
"""Names under which ALSA offers whatever is the sound server's default source."""


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
    """The sounddevice module. Raises `SourceError` where PortAudio is missing or cannot start."""
    try:
        import sounddevice
    except OSError as error:
        raise SourceError(
            f"PortAudio is not installed ({error}); on Debian: apt install libportaudio2 libasound2-plugins"
        ) from error
    return sounddevice


def devices() -> list[Device]:
    """Every input device, the default one first."""
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
    """The input device called `name`, or whose name alone contains it; the default one for an empty name.

    Raises `SourceError`, which lists the near matches. It may be retried: a USB device may come.
    """
    if not found:
        raise SourceError("no input device; `mertd devices` lists them, and file:, pipe: and synth: need none", retry=True)
    if not name:
        return found[0]
    exact = [d for d in found if d.name == name] or [d for d in found if d.name.lower() == name.lower()]
    partial = [d for d in found if name.lower() in d.name.lower()]
    if exact or len(partial) == 1:
        return (exact or partial)[0]
    names = [d.name for d in found]
    if partial:
        raise SourceError(f"{name!r} is the name of several input devices: {', '.join(repr(d.name) for d in partial)}")
    hint = did_you_mean(name, names) or f"; there are {', '.join(map(repr, names[:8]))}"
    raise SourceError(f"no input device {name!r}{hint} (`mertd devices` lists all)", retry=True)


class DeviceSource:
    """An open input device at its native rate."""

    reopens = False

    def __init__(self, address: Address) -> None:
        """Raises `SourceError` if the device is not there or refuses."""
        sounddevice = portaudio()
        self._error = sounddevice.PortAudioError
        try:
            device = resolve(address.target, devices())
            self.rate = address.rate or device.rate
            wanted = max(2, int(address.mix)) if address.mix.isdecimal() else 2
            self.channels = min(address.channels or wanted, device.channels)
            self._where = f"device {device.name!r}"
            self._queue: deque[Portion] = deque()
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
        except self._error as error:
            raise SourceError(f"device {address.target or 'default'!r}: {_text(error)}", retry=True) from error
        version = sounddevice.get_portaudio_version()[1].split(",")[0]
        self.description = f"{device.name} ({device.host}), {self.rate} Hz, {self.channels} channels, {version}"
        self._assembler = Assembler(self.rate, self.channels, self._where)
        follows = (not address.target or device.name in ALIASES) and not os.environ.get("PULSE_SOURCE")
        self._watch = watch(device.name, follows)

    def _callback(self, data: Any, frames: int, times: Any, status: Any) -> None:
        """Runs in PortAudio's thread: copy and return."""
        since_heard = times.currentTime - times.inputBufferAdcTime
        self._queue.append(Portion(bytes(data), frames, now(), since_heard, bool(status.input_overflow)))

    def _on_finished(self) -> None:
        self._finished = True

    def blocks(self) -> Iterator[Block | None]:
        last, patience = time.monotonic(), FIRST_BLOCK_S
        while True:
            time.sleep(BLOCK_S)
            if self._watch.problem:
                raise SourceError(f"{self._where}: {self._watch.problem}", retry=True)
            if not self._queue:
                if self._finished or not self._stream.active:
                    raise SourceError(f"{self._where} was lost", retry=True)
                if time.monotonic() - last > patience:
                    raise SourceError(f"{self._where} has given nothing for {patience:.0f} s", retry=True)
                yield None
                continue
            last, patience = time.monotonic(), STALL_S
            yield from self._assembler.blocks([self._queue.popleft() for _ in range(len(self._queue))])

    def why_zeros(self) -> Cause:
        """The likeliest reason for nothing but zeros."""
        return cause(self._watch.latest)

    def close(self) -> None:
        """Let go of the device. May hang on macOS: the supervisor then kills the process."""
        self._watch.close()
        self._stream.abort(ignore_errors=True)
        self._stream.close(ignore_errors=True)


def _text(error: Exception) -> str:
    arguments: Mapping[int, object] = dict(enumerate(error.args))
    return str(arguments.get(0, error)).splitlines()[0]
