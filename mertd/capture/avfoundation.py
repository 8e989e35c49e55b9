"""Consent to use microphones on macOS, through AVFoundation and ctypes: what it is, and how it is asked for.

Three things are known from other programs. Opening an input asks for consent on some systems only. AVFoundation keeps its first
answer for the life of a process. And if the app that a process belongs to, such as a terminal, does not declare that it uses
microphones, the process that asks is aborted. So a short-lived process asks: `python -m mertd.capture.avfoundation`, whose exit
code is the answer.
"""

from __future__ import annotations

import ctypes
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

FRAMEWORK_PATH = "/System/Library/Frameworks/{0}.framework/{0}"
OBJC_PATH = "/usr/lib/libobjc.A.dylib"
SYSTEM_PATH = "/usr/lib/libSystem.B.dylib"

NOT_DETERMINED = 0
"""AVAuthorizationStatus: the user has not been asked yet. 1 is restricted, 2 denied."""

AUTHORIZED = 3
"""AVAuthorizationStatus: the user has agreed."""

BLOCK_FLAGS = 1 << 28 | 1 << 30
"""BLOCK_IS_GLOBAL, so that nobody copies or releases it, and BLOCK_HAS_SIGNATURE."""

HANDLER_SIGNATURE = b"v12@?0B8"
"""Type encoding of `void (^)(BOOL)`."""

ANSWER_S = 120.0
"""Seconds that the user has to answer the dialogue before the process that asks ends."""

RECHECK_S = 10.0
"""Seconds after which a new process asks again, unless the answer was yes."""

ALLOWED = 0
"""Exit code of the process that asks: the user has agreed."""

DENIED = 10
"""Exit code: the user, or an administrator, does not allow it."""

UNKNOWN = 11
"""Exit code: there is no answer."""

Load = Callable[[str], Any]
"""Opens a library."""


class _BlockDescriptor(ctypes.Structure):
    """Block_descriptor of a block without captured variables."""

    _fields_ = [("reserved", ctypes.c_ulong), ("size", ctypes.c_ulong), ("signature", ctypes.c_char_p)]


_Invoke = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_bool)
"""The function of a `void (^)(BOOL)`: the block itself comes first."""


class _Block(ctypes.Structure):
    """Block_layout, as the ABI of blocks defines it."""

    _fields_ = [
        ("isa", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("reserved", ctypes.c_int),
        ("invoke", _Invoke),
        ("descriptor", ctypes.POINTER(_BlockDescriptor)),
    ]


class _CaptureDevice:
    """The class AVCaptureDevice. Raises `OSError` where it does not exist."""

    def __init__(self, load: Load) -> None:
        load(FRAMEWORK_PATH.format("AVFoundation"))
        objc = load(OBJC_PATH)
        objc.objc_getClass.restype = objc.sel_registerName.restype = ctypes.c_void_p
        objc.objc_getClass.argtypes = objc.sel_registerName.argtypes = [ctypes.c_char_p]
        string = objc.objc_getClass(b"NSString")
        self._class = objc.objc_getClass(b"AVCaptureDevice")
        if not string or not self._class:
            raise OSError("AVFoundation has no class AVCaptureDevice")
        self._objc = objc
        to_string = self._method(ctypes.c_void_p, ctypes.c_char_p)
        self._audio = to_string(string, objc.sel_registerName(b"stringWithUTF8String:"), b"soun")  # AVMediaTypeAudio

    def _method(self, result: Any, *arguments: Any) -> Any:
        """Return objc_msgSend with the prototype of the method that it is to reach, which it must be called with."""
        return ctypes.CFUNCTYPE(result, ctypes.c_void_p, ctypes.c_void_p, *arguments)(("objc_msgSend", self._objc))

    def status(self) -> int:
        """Return `[AVCaptureDevice authorizationStatusForMediaType:AVMediaTypeAudio]`."""
        send = self._method(ctypes.c_long, ctypes.c_void_p)
        return int(send(self._class, self._objc.sel_registerName(b"authorizationStatusForMediaType:"), self._audio))

    def request(self, handler: _Block) -> None:
        """Call `[AVCaptureDevice requestAccessForMediaType:AVMediaTypeAudio completionHandler:handler]`."""
        send = self._method(None, ctypes.c_void_p, ctypes.c_void_p)
        name = self._objc.sel_registerName(b"requestAccessForMediaType:completionHandler:")
        send(self._class, name, self._audio, ctypes.addressof(handler))


_asked: list[object] = []
"""What a request refers to. It is never freed, because the answer may come at any time, in any thread."""


def microphone_consent(load: Load = ctypes.CDLL) -> bool | None:
    """Return whether this program may use microphones; None if that is not known. The first answer is kept by the system."""
    try:
        status = _CaptureDevice(load).status()
    except OSError:
        return None
    return None if status == NOT_DETERMINED else status == AUTHORIZED


def request_microphone(timeout_s: float, load: Load = ctypes.CDLL) -> bool | None:
    """Ask the user, unless that was done before, and wait for the answer. None: there is none within `timeout_s`.

    The process is aborted if the app that it belongs to does not declare that it uses microphones.
    """
    if (known := microphone_consent(load)) is not None:
        return known
    answers: list[bool] = []
    answered = threading.Event()

    def answer(_block: int, granted: bool) -> None:
        answers.append(granted)
        answered.set()

    try:
        device = _CaptureDevice(load)
        isa = ctypes.addressof(ctypes.c_void_p.in_dll(load(SYSTEM_PATH), "_NSConcreteGlobalBlock"))
    except (OSError, ValueError):
        return None
    descriptor = _BlockDescriptor(0, ctypes.sizeof(_Block), HANDLER_SIGNATURE)
    invoke = _Invoke(answer)
    block = _Block(isa, BLOCK_FLAGS, 0, invoke, ctypes.pointer(descriptor))
    _asked.extend((block, descriptor, invoke))
    device.request(block)
    answered.wait(timeout_s)
    return answers[0] if answers else None


class MicrophoneConsent:
    """Consent as it changes: asked for by processes of their own for as long as it is not given."""

    def __init__(self, known: Callable[[], bool | None] = microphone_consent, command: tuple[str, ...] = ()) -> None:
        """`known`: what this process is told. `command`: asks; its exit code is the answer."""
        self._known = known
        self._command = command or (sys.executable, "-P", "-m", "mertd.capture.avfoundation")
        self._asking: subprocess.Popen[bytes] | None = None
        self._answer: bool | None = None
        self._ask_at = 0.0  # monotonic seconds
        self._told = False

    def read(self) -> bool | None:
        """Return whether this program may use microphones; None if that is not known.

        Starts a process that asks, if need be.
        """
        known = self._known()
        if self._answer or known:
            return True
        if self._asking is None and time.monotonic() >= self._ask_at:
            self._start()
        elif self._asking is not None and (code := self._asking.poll()) is not None:
            self._asking = None
            self._ask_at = time.monotonic() + RECHECK_S
            self._answer = {ALLOWED: True, DENIED: False}.get(code)
            if code not in (ALLOWED, DENIED, UNKNOWN):
                self._complain(code)
        return known if self._answer is None else self._answer

    def _start(self) -> None:
        quiet = subprocess.DEVNULL
        try:
            self._asking = subprocess.Popen(self._command, stdin=quiet, stdout=quiet, stderr=quiet)
        except OSError as error:
            self._ask_at = time.monotonic() + RECHECK_S
            log.warning("macOS could not be asked for the microphone: %s", error)

    def _complain(self, code: int) -> None:
        if not self._told:
            self._told = True
            log.warning(
                "macOS does not let the app that mertd was started from ask for the microphone (exit code %d); start it from "
                "Terminal, or as a service: mertd service install",
                code,
            )


def main() -> int:
    """Ask, and return the exit code."""
    answer = request_microphone(ANSWER_S)
    return UNKNOWN if answer is None else ALLOWED if answer else DENIED


if __name__ == "__main__":
    sys.exit(main())
