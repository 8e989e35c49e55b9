"""What CoreAudio and AVFoundation say of an input, through ctypes. Constants are those of <CoreAudio/AudioHardware.h>."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any

from mertd.capture.outlook import LookError, Outlook

SYSTEM = 1  # kAudioObjectSystemObject
UTF8 = 0x08000100  # kCFStringEncodingUTF8
FRAMEWORKS = "/System/Library/Frameworks/{0}.framework/{0}"
AUTHORIZED = 3
"""AVAuthorizationStatus: 0 not determined, 1 restricted, 2 denied, 3 authorized."""


class _Address(ctypes.Structure):
    """AudioObjectPropertyAddress."""

    _fields_ = [("selector", ctypes.c_uint32), ("scope", ctypes.c_uint32), ("element", ctypes.c_uint32)]


def code(name: str) -> int:
    """A four-character code as the number that it is: the first character is the highest byte."""
    return int(struct.unpack(">I", name.encode("ascii"))[0])


class CoreAudio:
    """Properties of audio objects. Raises `LookError` where one is not to be had."""

    def __init__(self, load: Callable[[str], Any] = ctypes.CDLL) -> None:
        """`load`: opens a library."""
        try:
            self._audio = load(FRAMEWORKS.format("CoreAudio"))
            self._strings = load(FRAMEWORKS.format("CoreFoundation"))
        except OSError as error:
            raise LookError(str(error)) from error
        self._strings.CFStringGetCString.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_long, ctypes.c_uint32]
        self._strings.CFRelease.argtypes = [ctypes.c_void_p]

    def read(self, device: int, selector: str, scope: str, into: Any) -> Any:
        """Fill `into`, a ctypes value or array, with a property; returns it."""
        address, size = _Address(code(selector), code(scope), 0), ctypes.c_uint32(ctypes.sizeof(into))
        status = self._audio.AudioObjectGetPropertyData(
            ctypes.c_uint32(device), ctypes.byref(address), ctypes.c_uint32(0), None, ctypes.byref(size), ctypes.byref(into)
        )
        if status:
            raise LookError(f"CoreAudio does not tell {selector!r} of {device}: {status}")
        return into

    def devices(self) -> list[int]:
        """Numbers of all devices."""
        address, size = _Address(code("dev#"), code("glob"), 0), ctypes.c_uint32(0)
        status = self._audio.AudioObjectGetPropertyDataSize(
            ctypes.c_uint32(SYSTEM), ctypes.byref(address), ctypes.c_uint32(0), None, ctypes.byref(size)
        )
        if status:
            raise LookError(f"CoreAudio does not list its devices: {status}")
        return list(self.read(SYSTEM, "dev#", "glob", (ctypes.c_uint32 * (size.value // 4))()))

    def default_input(self) -> int:
        return int(self.read(SYSTEM, "dIn ", "glob", ctypes.c_uint32()).value)

    def name(self, device: int) -> str:
        text, buffer = self.read(device, "lnam", "glob", ctypes.c_void_p()), ctypes.create_string_buffer(512)
        try:
            read = self._strings.CFStringGetCString(text, buffer, len(buffer), UTF8)
        finally:
            self._strings.CFRelease(text)
        return buffer.value.decode() if read else ""

    def rate(self, device: int) -> int:
        return round(float(self.read(device, "nsrt", "glob", ctypes.c_double()).value))

    def muted(self, device: int) -> bool | None:
        """None for a device without a switch."""
        try:
            return bool(self.read(device, "mute", "inpt", ctypes.c_uint32()).value)
        except LookError:
            return None


def consent(load: Callable[[str], Any] = ctypes.CDLL) -> bool | None:
    """Whether this program may hear microphones: `AVCaptureDevice.authorizationStatus(for: .audio)`; None: not known."""
    try:
        load(FRAMEWORKS.format("AVFoundation"))
        objc = load("/usr/lib/libobjc.A.dylib")
    except OSError:
        return None
    objc.objc_getClass.restype = objc.sel_registerName.restype = ctypes.c_void_p
    objc.objc_getClass.argtypes = objc.sel_registerName.argtypes = [ctypes.c_char_p]
    string, device = objc.objc_getClass(b"NSString"), objc.objc_getClass(b"AVCaptureDevice")
    if not string or not device:
        return None
    # objc_msgSend must be called as the method it reaches: a prototype each.
    to_string = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("objc_msgSend", objc))
    to_status = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(("objc_msgSend", objc))
    audio = to_string(string, objc.sel_registerName(b"stringWithUTF8String:"), b"soun")  # AVMediaTypeAudio
    status = to_status(device, objc.sel_registerName(b"authorizationStatusForMediaType:"), audio)
    return None if status == 0 else bool(status == AUTHORIZED)


def opener(name: str, follows: bool) -> Callable[[], Callable[[], Outlook]]:
    """For `Watch`: looks at the device called `name`, or at the default one if the stream `follows` that."""

    def open_look() -> Callable[[], Outlook]:
        audio = CoreAudio()
        found = [device for device in audio.devices() if audio.name(device) == name]
        device = found[0] if found else audio.default_input()

        def look() -> Outlook:
            default = audio.name(audio.default_input()) if follows else ""
            return Outlook(default, name, audio.rate(device), audio.muted(device), consent=consent())

        return look

    return open_look
