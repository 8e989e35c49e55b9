"""The status of an input according to CoreAudio, through ctypes.

Selectors and constants are those of <CoreAudio/AudioHardware.h>.
"""

from __future__ import annotations

import contextlib
import ctypes
import struct
from collections.abc import Callable
from typing import Any

from mertd.capture.avfoundation import FRAMEWORK_PATH, MicrophoneConsent
from mertd.capture.input_status import InputStatus, InputStatusUnavailable

SYSTEM_OBJECT = 1
"""kAudioObjectSystemObject."""

UTF8_ENCODING = 0x08000100
"""kCFStringEncodingUTF8."""

MAX_NAME_BYTES = 512
"""Bytes of a device's name that are read."""

CHANNELS = (0, 1, 2)
"""Elements that may have a volume: all channels together, or each one."""


class _PropertyAddress(ctypes.Structure):
    """AudioObjectPropertyAddress."""

    _fields_ = [("selector", ctypes.c_uint32), ("scope", ctypes.c_uint32), ("element", ctypes.c_uint32)]


def four_char_code(name: str) -> int:
    """Return a four-character code as a number: the first character is the highest byte."""
    return int(struct.unpack(">I", name.encode("ascii"))[0])


class CoreAudio:
    """Properties of audio objects. Methods raise `InputStatusUnavailable` if CoreAudio refuses."""

    def __init__(self, load: Callable[[str], Any] = ctypes.CDLL) -> None:
        """`load`: opens a library."""
        try:
            self._audio = load(FRAMEWORK_PATH.format("CoreAudio"))
            self._foundation = load(FRAMEWORK_PATH.format("CoreFoundation"))
        except OSError as error:
            raise InputStatusUnavailable(str(error)) from error
        self._foundation.CFStringGetCString.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_long, ctypes.c_uint32]
        self._foundation.CFRelease.argtypes = [ctypes.c_void_p]

    def read(self, device: int, selector: str, scope: str, into: Any, element: int = 0) -> Any:
        """Fill `into`, a ctypes value or array, with a property, and return it."""
        address = _PropertyAddress(four_char_code(selector), four_char_code(scope), element)
        size = ctypes.c_uint32(ctypes.sizeof(into))
        status = self._audio.AudioObjectGetPropertyData(
            ctypes.c_uint32(device), ctypes.byref(address), ctypes.c_uint32(0), None, ctypes.byref(size), ctypes.byref(into)
        )
        if status:
            raise InputStatusUnavailable(f"CoreAudio does not tell {selector!r} of {device}: status {status}")
        return into

    def size(self, device: int, selector: str, scope: str) -> int:
        """Return the size of a property in bytes."""
        address = _PropertyAddress(four_char_code(selector), four_char_code(scope), 0)
        size = ctypes.c_uint32(0)
        status = self._audio.AudioObjectGetPropertyDataSize(
            ctypes.c_uint32(device), ctypes.byref(address), ctypes.c_uint32(0), None, ctypes.byref(size)
        )
        if status:
            raise InputStatusUnavailable(f"CoreAudio does not tell the size of {selector!r} of {device}: status {status}")
        return size.value

    def devices(self) -> list[int]:
        """Return the numbers of all devices."""
        count = self.size(SYSTEM_OBJECT, "dev#", "glob") // 4
        return list(self.read(SYSTEM_OBJECT, "dev#", "glob", (ctypes.c_uint32 * count)()))

    def inputs_called(self, name: str) -> list[int]:
        """Return the devices of this name that have input streams: headsets are often two devices of one name.

        A device that does not tell its name or its streams is none of them.
        """
        found = []
        for device in self.devices():
            with contextlib.suppress(InputStatusUnavailable):
                if self.name(device) == name and self.size(device, "stm#", "inpt"):
                    found.append(device)
        return found

    def default_input(self) -> int:
        """Return the number of the default input."""
        return int(self.read(SYSTEM_OBJECT, "dIn ", "glob", ctypes.c_uint32()).value)

    def name(self, device: int) -> str:
        """Return a device's name."""
        text = self.read(device, "lnam", "glob", ctypes.c_void_p())
        if not text:
            raise InputStatusUnavailable(f"CoreAudio has no name for {device}")
        buffer = ctypes.create_string_buffer(MAX_NAME_BYTES)
        try:
            read = self._foundation.CFStringGetCString(text, buffer, len(buffer), UTF8_ENCODING)
        finally:
            self._foundation.CFRelease(text)
        return buffer.value.decode() if read else ""

    def rate(self, device: int) -> int:
        """Return a device's nominal sample rate in Hz."""
        return round(float(self.read(device, "nsrt", "glob", ctypes.c_double()).value))

    def muted(self, device: int) -> bool | None:
        """Return whether a device's input is muted, or its volume is 0; None for one with neither switch nor volume."""
        found = [value == 0.0 for value in self.volumes(device)]
        with contextlib.suppress(InputStatusUnavailable):
            if self.read(device, "mute", "inpt", ctypes.c_uint32()).value:
                return True
            found = found or [False]
        return all(found) if found else None

    def volumes(self, device: int) -> list[float]:
        """Return the volumes of a device's input, from 0 to 1: of all channels together, or of each; empty without any."""
        found = []
        for channel in CHANNELS:
            with contextlib.suppress(InputStatusUnavailable):
                found.append(float(self.read(device, "volm", "inpt", ctypes.c_float(), channel).value))
        return found


def open_reader(
    name: str, follows_default: bool, load: Callable[[str], Any] = ctypes.CDLL, consent: MicrophoneConsent | None = None
) -> Callable[[], InputStatus]:
    """Return a function that reads the status of the input called `name`, or of the default one if there is none.

    Both raise `InputStatusUnavailable`. `follows_default`: whether to read the name of the default input, too. `load`: opens a
    library. Of several inputs of one name nothing is known, as it is not known which of them is captured.
    """
    audio = CoreAudio(load)
    named = audio.inputs_called(name)
    device = named[0] if len(named) == 1 else None
    if not named:
        device = audio.default_input()
    microphone = consent or MicrophoneConsent()

    def read() -> InputStatus:
        default, rate = "", 0
        if follows_default:
            with contextlib.suppress(InputStatusUnavailable):
                default = audio.name(audio.default_input())
        if device is not None:
            with contextlib.suppress(InputStatusUnavailable):
                rate = audio.rate(device)
        muted = audio.muted(device) if device is not None else None
        return InputStatus(default, name, rate, muted, consent=microphone.read())

    return read
