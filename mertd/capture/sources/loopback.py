"""`loopback:` sources: what this machine plays, captured through the means that the system has for it.

PulseAudio and PipeWire give each output a monitor. macOS needs a virtual device (BlackHole and others), which is an input like
any other. The description says which one was chosen. Unlike a default input, it stays the same while the source is open.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from mertd.capture.address import Address
from mertd.capture.device_list import devices
from mertd.capture.name_match import best_matches
from mertd.capture.reports import CaptureSettings
from mertd.capture.server_source import ServerSource
from mertd.capture.sound_server import ServerInput, ServerInputs, server_inputs
from mertd.capture.sources.device import DeviceSource, open_device
from mertd.errors import SourceError

VIRTUAL_DEVICES = ("blackhole", "loopback", "soundflower", "aggregate", "vb-cable", "existential")
"""Words in the names of devices that capture what a Mac plays, best first."""

INSTALL_HINT = (
    "brew install blackhole-2ch, then make a Multi-Output Device with it in Audio MIDI Setup and play into that; or use tap:"
)


def open_source(settings: CaptureSettings) -> DeviceSource | ServerSource:
    """Open the device that captures the output named by the address, or the default output. Raises `SourceError`."""
    return _open_virtual_device(settings.address) if sys.platform == "darwin" else _open_monitor(settings.address)


def _open_virtual_device(address: Address) -> DeviceSource | ServerSource:
    name = pick_virtual_device([device.name for device in devices()], address.target)
    return open_device(replace(address, kind="device", target=name))


def _open_monitor(address: Address) -> ServerSource:
    try:
        server = server_inputs()
    except SourceError as error:
        raise SourceError(f"loopback: {error}", error.retry) from error
    monitor = pick_monitor(server, address.target)
    source = ServerSource(address, server, monitor, follows_default=False)
    source.description = f"loopback of {source.description}"
    return source


def virtual_devices(names: list[str]) -> list[str]:
    """Return those of the device names that capture what a Mac plays, best first."""
    return [name for word in VIRTUAL_DEVICES for name in names if word in name.lower()]


def pick_virtual_device(names: list[str], words: str) -> str:
    """Return the virtual device called `words`, or the only one whose name contains them; without words the best one.

    Raises `SourceError`: to be retried if there is none, and not if there are equals to choose from.
    """
    of_kind = list(dict.fromkeys(virtual_devices(names)))
    found = best_matches(words, of_kind, lambda name: (name,))
    if not words:
        found = [name for name in found if _rank(name) == _rank(found[0])]
    like = f" like {words!r}" if words else ""
    if not found:
        there = f"; there are {', '.join(map(repr, of_kind))}" if of_kind else f"; {INSTALL_HINT}"
        raise SourceError(f"no loopback device{like}{there}", retry=True)
    if len(found) > 1:
        raise SourceError(f"there are several loopback devices{like}: {_addresses(found)}; name one of them")
    return found[0]


def pick_monitor(server: ServerInputs, words: str) -> ServerInput:
    """Return the monitor of the output called `words`, or of the only one in whose name or description they occur.

    Without words it is that of the default output. Raises `SourceError`: to be retried if there is none, and not if there are
    equals to choose from.
    """
    monitors = [source for source in server.inputs if source.monitored]
    if words:
        found = best_matches(words, monitors, lambda source: (source.monitored, *source.names))
    else:
        found = [source for source in monitors if source.monitored == server.default_output]
    outputs = [source.monitored for source in monitors]
    if not found:
        names = ", ".join(map(repr, outputs)) or "none: pactl load-module module-null-sink makes one"
        raise SourceError(f"no output{f' like {words!r}' if words else ' is the default'}; there are {names}", retry=True)
    if len(found) > 1:
        names = _addresses([source.monitored for source in found])
        raise SourceError(f"{words!r} matches several outputs: {names}; name one of them")
    return found[0]


def _rank(name: str) -> int:
    """Return how early the first word of VIRTUAL_DEVICES comes that is in a name."""
    return next(rank for rank, word in enumerate(VIRTUAL_DEVICES) if word in name.lower())


def _addresses(names: Sequence[str]) -> str:
    return ", ".join(f"loopback:{name}" for name in names)
