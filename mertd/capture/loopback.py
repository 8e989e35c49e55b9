"""`loopback:` sources: what this machine plays, heard through whatever the system has for that.

PulseAudio and PipeWire give each output a monitor; macOS needs a virtual device (BlackHole and its like), which is an input
like others. Which one was picked is said in the description. It is not changed while it lives, unlike a default input.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from mertd.capture.address import Address
from mertd.capture.device import ALIASES, DeviceSource, devices
from mertd.errors import SourceError

VIRTUAL = ("blackhole", "loopback", "soundflower", "aggregate", "vb-cable", "existential")
"""Words in the names of devices that hear what a Mac plays, best first."""

INSTALL = "brew install blackhole-2ch, then make a Multi-Output Device with it in Audio MIDI Setup and play into that; or tap:"


def open_loopback(address: Address) -> DeviceSource:
    """The device that hears the output called `address.target`, or the default one. Raises `SourceError`; it may be retried."""
    if sys.platform == "darwin":
        name = pick_virtual([device.name for device in devices()], address.target)
        return DeviceSource(replace(address, kind="device", target=name))
    monitor, output = _monitor(address.target)
    os.environ["PULSE_SOURCE"] = monitor  # before PortAudio starts, in a process that hears nothing else
    names = [device.name for device in devices()]
    through = next((alias for alias in ALIASES if alias in names), None)
    if through is None:
        raise SourceError("ALSA does not offer the sound server; on Debian: apt install libasound2-plugins", retry=True)
    source = DeviceSource(replace(address, kind="device", target=through))
    source.description = f"loopback of {output} ({monitor}), {source.description}"
    return source


def pick_virtual(names: list[str], wanted: str) -> str:
    """The first virtual device whose name has `wanted` in it. Raises `SourceError` if there is none."""
    of_kind = [name for word in VIRTUAL for name in names if word in name.lower()]
    found = [name for name in of_kind if wanted.lower() in name.lower()]
    if not found:
        there = f"; there are {', '.join(map(repr, of_kind))}" if of_kind else f"; {INSTALL}"
        raise SourceError(f"no loopback device{f' like {wanted!r}' if wanted else ''}{there}", retry=True)
    return found[0]


def _monitor(wanted: str) -> tuple[str, str]:
    """Names of the monitor and of what it hears: the default output, or the one with `wanted` in its name or description.

    Raises `SourceError`.
    """
    try:
        import pulsectl
    except (ImportError, OSError) as error:  # it loads libpulse
        raise SourceError(f"loopback: needs PulseAudio or PipeWire ({error}); device: does not") from error
    try:
        with pulsectl.Pulse("mertd-loopback", connect=False) as server:
            server.connect(autospawn=False, timeout=5)
            default = server.server_info().default_sink_name
            outputs = [(sink.monitor_source_name, sink.name, sink.description) for sink in server.sink_list()]
    except (pulsectl.PulseError, OSError) as error:
        raise SourceError(
            f"loopback: no sound server answers ({error}); is PulseAudio or PipeWire running?", retry=True
        ) from error
    found = (
        [o for o in outputs if wanted.lower() in f"{o[1]} {o[2]}".lower()]
        if wanted
        else [o for o in outputs if o[1] == default]
    )
    if not found:
        names = ", ".join(repr(name) for _, name, _ in outputs) or "none: pactl load-module module-null-sink makes one"
        raise SourceError(f"no output{f' like {wanted!r}' if wanted else ' is the default'}; there are {names}", retry=True)
    monitor, _, description = found[0]
    return str(monitor), str(description)
