"""`loopback:` sources: what this machine plays, captured through the means that the system has for it.

PulseAudio and PipeWire give each output a monitor. macOS needs a virtual device (BlackHole and others), which is an input like
any other. The description says which one was chosen. Unlike a default input, it stays the same while the source is open.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace

from mertd.capture.address import Address
from mertd.capture.reports import CaptureSettings
from mertd.capture.sources.device import DEFAULT_ALIASES, DeviceSource, devices
from mertd.errors import SourceError

VIRTUAL_DEVICES = ("blackhole", "loopback", "soundflower", "aggregate", "vb-cable", "existential")
"""Words in the names of devices that capture what a Mac plays, best first."""

INSTALL_HINT = (
    "brew install blackhole-2ch, then make a Multi-Output Device with it in Audio MIDI Setup and play into that; or use tap:"
)

CONNECT_TIMEOUT_S = 5
"""Seconds to wait for the sound server."""


def open_source(settings: CaptureSettings) -> DeviceSource:
    """Open the device that captures the output named by the address, or the default output. Raises `SourceError`."""
    return _open_virtual_device(settings.address) if sys.platform == "darwin" else _open_monitor(settings.address)


def _open_virtual_device(address: Address) -> DeviceSource:
    name = pick_virtual_device([device.name for device in devices()], address.target)
    return DeviceSource(replace(address, kind="device", target=name))


def _open_monitor(address: Address) -> DeviceSource:
    output = _find_output(address.target)
    os.environ["PULSE_SOURCE"] = output.monitor  # before PortAudio starts, in a process that captures nothing else
    names = [device.name for device in devices()]
    through = next((alias for alias in DEFAULT_ALIASES if alias in names), None)
    if through is None:
        raise SourceError("ALSA does not offer the sound server; on Debian: apt install libasound2-plugins", retry=True)
    source = DeviceSource(replace(address, kind="device", target=through))
    source.description = f"loopback of {output.description} ({output.monitor}), {source.description}"
    return source


def virtual_devices(names: list[str]) -> list[str]:
    """Return those of the device names that capture what a Mac plays, best first."""
    return [name for word in VIRTUAL_DEVICES for name in names if word in name.lower()]


def pick_virtual_device(names: list[str], words: str) -> str:
    """Return the first virtual device whose name contains `words`. Raises `SourceError`, to be retried, if there is none."""
    of_kind = virtual_devices(names)
    found = [name for name in of_kind if words.lower() in name.lower()]
    if not found:
        there = f"; there are {', '.join(map(repr, of_kind))}" if of_kind else f"; {INSTALL_HINT}"
        raise SourceError(f"no loopback device{f' like {words!r}' if words else ''}{there}", retry=True)
    return found[0]


@dataclass(frozen=True)
class _Output:
    """An output of the sound server, and the source that records it."""

    monitor: str
    name: str
    description: str


def _find_output(words: str) -> _Output:
    """Return the default output, or the first one with `words` in its name or description. Raises `SourceError`."""
    try:
        import pulsectl
    except (ImportError, OSError) as error:  # it loads libpulse
        raise SourceError(f"loopback: needs PulseAudio or PipeWire ({error}); device: does not") from error
    try:
        with pulsectl.Pulse("mertd-loopback", connect=False) as server:
            server.connect(autospawn=False, timeout=CONNECT_TIMEOUT_S)
            default = server.server_info().default_sink_name
            outputs = [_Output(sink.monitor_source_name, sink.name, sink.description) for sink in server.sink_list()]
    except (pulsectl.PulseError, OSError) as error:
        raise SourceError(
            f"loopback: no sound server answers ({error}); is PulseAudio or PipeWire running?", retry=True
        ) from error
    if words:
        found = [output for output in outputs if words.lower() in f"{output.name} {output.description}".lower()]
    else:
        found = [output for output in outputs if output.name == default]
    if not found:
        names = ", ".join(repr(output.name) for output in outputs) or "none: pactl load-module module-null-sink makes one"
        raise SourceError(f"no output{f' like {words!r}' if words else ' is the default'}; there are {names}", retry=True)
    return found[0]
