"""`device:` sources: a microphone, line input or virtual device, through PortAudio or through the sound server itself.

It rests on these facts: PortAudio's device list is frozen when it starts, so that only a new process finds a lost device again;
some systems never report that a device has died, or that another one has become the default; what ALSA offers as the sound
server has 32 channels that mean nothing, and remixes those of the device, so that the server is asked directly.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from mertd.capture.address import Address
from mertd.capture.assembler import Assembler, CallbackBuffer
from mertd.capture.clock_pair import read_clocks
from mertd.capture.device_list import (
    SERVER_ALIASES,
    Device,
    default_is_of_server,
    devices,
    is_alias,
    matching,
    portaudio,
    resolve,
    with_server,
)
from mertd.capture.input_monitor import monitor_input
from mertd.capture.input_status import explain_zeros
from mertd.capture.live_blocks import live_blocks
from mertd.capture.reports import CaptureSettings
from mertd.capture.server_source import ServerSource
from mertd.capture.sound_server import ServerInputs, find_server
from mertd.capture.source import COMPLETE, Block, ZerosExplanation
from mertd.errors import SourceError

LATENCY_S = 0.2
"""Latency asked of PortAudio: a window of 30 s tolerates it, and 20 callbacks a second cost a fifth of what 115 cost."""

DEFAULT_ALIASES = (*SERVER_ALIASES, "default")
"""Names of devices that follow the system's default input."""

VIRTUAL_CHANNELS = 2
"""Channels opened of ALSA's plugins, unless more are asked for: they claim 32 or 128, and mix to any number."""


class DeviceSource:
    """An open input device of PortAudio at its native rate, with all of its channels."""

    reopens = False
    end_report = COMPLETE

    def __init__(self, address: Address, device: Device | None = None) -> None:
        """`device`: by default the one that the address names. Raises `SourceError` if it does not exist or refuses."""
        sounddevice = portaudio()
        try:
            device = device or resolve(address.target, devices())
            self.rate = address.rate or device.rate
            self._name = f"device {device.name!r}"
            self._finished = False
            self._open(sounddevice, device, channels_to_open(address, device))
        except sounddevice.PortAudioError as error:
            raise SourceError(f"device {address.target or 'default'!r}: {_first_line(error)}", retry=True) from error
        version = sounddevice.get_portaudio_version()[1].split(",")[0]
        of_all = "" if device.is_virtual or self.channels == device.channels else f" of {device.channels}"
        self.description = f"{device.name} ({device.host}), {self.rate} Hz, {self.channels}{of_all} channels, {version}"
        follows = (not address.target or device.name in DEFAULT_ALIASES) and not os.environ.get("PULSE_SOURCE")
        self._monitor = monitor_input(device.name, follows)

    def _open(self, sounddevice: Any, device: Device, channels: list[int]) -> None:
        """Open and start the device with the first of these numbers of channels that it accepts."""
        for last, self.channels in zip([False] * (len(channels) - 1) + [True], channels, strict=True):
            self._assembler = Assembler(self.rate, self.channels, self._name)
            try:
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
                break
            except sounddevice.PortAudioError:
                if last:
                    raise
        self._stream.start()

    def _callback(self, data: Any, frames: int, times: Any, status: Any) -> None:
        """Queue a copy of the frames; called in PortAudio's thread."""
        latency_s = times.currentTime - times.inputBufferAdcTime
        self._assembler.add(CallbackBuffer(bytes(data), frames, read_clocks(), latency_s, bool(status.input_overflow)))

    def _on_finished(self) -> None:
        self._finished = True

    def blocks(self) -> Iterator[Block | None]:
        """Yield blocks as the driver delivers them. Raises `SourceError` when the device is lost."""
        return live_blocks(self._name, self._assembler, self._monitor, lambda: not self._finished and self._stream.active)

    def explain_zeros(self) -> ZerosExplanation:
        """Return the likeliest reason why only zeros come."""
        return explain_zeros(self._monitor.latest)

    def close(self) -> None:
        """Release the device. May hang on macOS: the supervisor then kills the process."""
        self._monitor.close()
        self._stream.abort(ignore_errors=True)
        self._stream.close(ignore_errors=True)


def channels_to_open(address: Address, device: Device) -> list[int]:
    """Return the numbers of channels to try: all of the device, and fewer if it has no mode with all of them."""
    chosen = int(address.mix) if address.mix.isdecimal() else 1
    few = min(max(VIRTUAL_CHANNELS, chosen), device.channels)
    if address.channels:
        return [min(address.channels, device.channels)]
    return [few] if device.is_virtual else list(dict.fromkeys((device.channels, few)))


def open_source(settings: CaptureSettings) -> DeviceSource | ServerSource:
    """Open a `device:` source. Raises `SourceError`."""
    return open_device(settings.address)


def open_device(address: Address) -> DeviceSource | ServerSource:
    """Open the input that the address names. Raises `SourceError`.

    One of the sound server by its name, such as `NAME.monitor`, comes before one of PortAudio whose name contains it.
    """
    name, server = address.target, find_server()
    if server is None:
        return DeviceSource(address)
    if source := server.called(name):
        return ServerSource(address, server, source, follows_default=False)
    if name in SERVER_ALIASES:
        return _open_default(address, server)
    try:
        listed = devices()
    except SourceError:  # without PortAudio there are the inputs of the server
        listed = []
    if not name and default_is_of_server(listed):
        return _open_default(address, server)
    if not name or matching(name, listed):
        device = resolve(name, listed)
        return _open_default(address, server) if is_alias(device, listed) else DeviceSource(address, device)
    chosen = resolve(name, with_server(listed, server))
    return ServerSource(address, server, server.called(chosen.name), follows_default=False)


def _open_default(address: Address, server: ServerInputs) -> ServerSource:
    return ServerSource(address, server, None, follows_default=not os.environ.get("PULSE_SOURCE"))


def _first_line(error: Exception) -> str:
    arguments: Mapping[int, object] = dict(enumerate(error.args))
    return str(arguments.get(0, error)).splitlines()[0]
