"""The input devices of this machine, and how their names become one of them.

Rules of this file: a name that is ambiguous is an error with the addresses to choose from; nothing is chosen in silence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mertd.capture.name_match import best_matches, exact_matches
from mertd.capture.sound_server import ServerInputs, check_home, find_server
from mertd.capture.source_kinds import without_device
from mertd.errors import SourceError, did_you_mean

SERVER_ALIASES = ("pulse", "pipewire")
"""Names under which ALSA offers the default source of the sound server, as `default` does if it has as many channels."""

NUMBERED = re.compile(r"(.*)#(\d{1,9})", re.DOTALL)
"""`NAME#2` is the second device of that name, `#7` the one with the index 7."""


CARD_NUMBER = re.compile(r" ?\(hw:\d+,\d+\)$")
"""The number of an ALSA card, as PortAudio writes it at the end of a name."""


@dataclass(frozen=True)
class Device:
    """One input device as PortAudio lists it."""

    name: str
    host: str
    channels: int
    rate: int  # Hz; 0 if it is known only once the device is open
    default: bool
    index: int
    description: str = ""  # of an input of the sound server

    @property
    def names(self) -> tuple[str, ...]:
        """What it may be called, the full name first; the number of an ALSA card in it may be another after each boot."""
        return tuple(dict.fromkeys((self.name, self.description or self.plain_name)))

    @property
    def plain_name(self) -> str:
        """The name without the number of an ALSA card."""
        return without_card_number(self.name) if self.host == "ALSA" else self.name

    @property
    def is_virtual(self) -> bool:
        """Whether it is a plugin of ALSA, which has no channels of its own: hardware has its number in its name."""
        return self.host == "ALSA" and "(hw:" not in self.name


def portaudio() -> Any:
    """Return the module sounddevice. Raises `SourceError` where PortAudio is missing or cannot start."""
    check_home()
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


def all_inputs() -> list[Device]:
    """Return every input device, those of the sound server last; `default` is what `device:` hears. Raises `SourceError`."""
    server = find_server()
    try:
        found = devices()
    except SourceError:
        if server is None:
            raise
        found = []
    return found if server is None else with_server(found, server)


def with_server(listed: Sequence[Device], server: ServerInputs) -> list[Device]:
    """Return the devices of PortAudio and, with indexes after theirs, the inputs of the sound server."""
    follows = default_is_of_server(listed)
    first = max((device.index for device in listed), default=-1) + 1
    offered = [
        Device(s.name, server.server, s.channels, 0, follows and s.name == server.default, index, s.description)
        for index, s in enumerate(server.inputs, first)
    ]
    return [*(replace(device, default=device.default and not follows) for device in listed), *offered]


def default_is_of_server(listed: Sequence[Device]) -> bool:
    """Return whether `device:` is the default source of the sound server that runs. `listed`: PortAudio's, default first.

    It is, unless the user's own configuration of ALSA defines another one; a card is only what PortAudio takes without any.
    """
    if not listed or not listed[0].default or is_alias(listed[0], listed):
        return True
    return listed[0].host == "ALSA" and CARD_NUMBER.search(listed[0].name) is not None


def is_alias(device: Device, listed: Sequence[Device]) -> bool:
    """Return whether an ALSA device is the sound server: `default` may be a card by the user's own configuration."""
    if device.host != "ALSA":
        return False
    aliases = [d for d in listed if d.host == "ALSA" and d.name in SERVER_ALIASES]
    return device in aliases or (device.name == "default" and any(device.channels == d.channels for d in aliases))


def without_card_number(name: str) -> str:
    """Return `name` without a number of an ALSA card at its end."""
    return CARD_NUMBER.sub("", name) or name


def target_of(device: Device, found: Sequence[Device]) -> str:
    """Return what follows `device:` in the address of a device.

    It is as short as leaves no doubt. Namesakes are numbered in the order of their indexes; a name with a question mark has
    another one at its end.
    """
    namesakes = sorted(d.index for d in found if d.name == device.name)
    numbered = f"{device.name}#{namesakes.index(device.index) + 1}"
    candidates = [device.plain_name, device.name, numbered]
    target = next((target for target in candidates if target and matching(target, found) == [device]), f"#{device.index}")
    return f"{target}?" if "?" in target else target


def matching(name: str, found: Sequence[Device]) -> list[Device]:
    """Return the devices that are called `name`, or are the one meant by `NAME#2`, or else those in whose names it occurs."""
    exact = exact_matches(name, found, lambda device: device.names)
    if not exact and (numbered := NUMBERED.fullmatch(name)):
        exact = _numbered(numbered[1], int(numbered[2]), found)
    if not exact and CARD_NUMBER.search(name):
        exact = [device for device in found if device.host == "ALSA" and device.plain_name == without_card_number(name)]
    return exact or best_matches(name, found, lambda device: device.names)


def resolve(name: str, found: Sequence[Device]) -> Device:
    """Return the device called `name`, or the only one whose name contains it; the default one for an empty name.

    Raises `SourceError`, which lists the near matches. If there is no match it may be retried: a USB device may be plugged in.
    """
    if not found:
        raise SourceError(f"no input device; `mertd devices` lists them, and {without_device()} need none", retry=True)
    if not name:
        return found[0]
    matches = matching(name, found)
    if len(matches) == 1:
        return matches[0]
    if not matches:
        names = [d.name for d in found]
        hint = did_you_mean(name, names) or f"; there are {', '.join(map(repr, names[:8]))}"
        raise SourceError(f"no input device {name!r}{hint} (`mertd devices` lists all)", retry=True)
    if len({device.name for device in matches}) == len(matches):
        listed = ", ".join(repr(device.name) for device in matches)
        raise SourceError(f"{name!r} matches several input devices: {listed}; name one of them in full")
    listed = ", ".join(f"device:{target_of(d, found)} ({d.host}, {d.channels} channels)" for d in matches)
    raise SourceError(f"{name!r} matches several input devices of one name: {listed}; choose one of these addresses")


def _numbered(name: str, number: int, found: Sequence[Device]) -> list[Device]:
    """Return the device that is meant by `NAME#NUMBER`, in a list, if there is one."""
    if not name:
        return [device for device in found if device.index == number][:1]
    namesakes = sorted(exact_matches(name, found, lambda device: (device.name,)), key=lambda device: device.index)
    return namesakes[number - 1 : number] if number else []
