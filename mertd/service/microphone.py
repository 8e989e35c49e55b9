"""Open the default input once, so that macOS asks whether this program may hear it. Run inside the app, as itself.

`python -m mertd.service.microphone` says in a line what came of it. Zeros alone are what a program hears that may not hear.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from mertd.errors import SourceError

PATIENCE_S, ENOUGH_S, BLOCK_S = 120.0, 2.0, 0.1
"""For the person to answer; of hearing after the answer, or without a question; of one reading."""


def listen(consent: Any, stream: Any, frames: int) -> tuple[bool | None, bool]:
    """Read until the question is answered and a while has been heard: what the answer was, and whether there was any sound."""
    began = time.monotonic()
    answered: float | None = None
    while True:
        allowed, now = consent(), time.monotonic()
        heard = bytes(stream.read(frames)[0]).strip(b"\0") != b""
        if heard or allowed is False or now - began > PATIENCE_S:
            return allowed, heard
        if allowed:
            answered = answered or now
            if now - answered > ENOUGH_S:
                return allowed, heard


def main() -> str:
    """What came of it, in a sentence."""
    from mertd.capture.sources.device import portaudio

    try:
        sounddevice = portaudio()
    except SourceError as error:
        return str(error)
    try:
        name = sounddevice.query_devices(kind="input")["name"]
        rate = int(sounddevice.query_devices(kind="input")["default_samplerate"])
        with sounddevice.RawInputStream(samplerate=rate, channels=1, dtype="int16") as stream:
            allowed, heard = listen(_consent(), stream, round(rate * BLOCK_S))
    except (sounddevice.PortAudioError, ValueError) as error:
        return f"no input could be opened: {error}"
    if allowed is False:
        return f"{name!r}: not allowed; System Settings, Privacy & Security, Microphone, mertd allows it"
    if heard:
        return f"{name!r} is heard"
    if allowed is None:
        return f"{name!r}: nothing but zeros, and no word of consent; see System Settings, Privacy & Security, Microphone"
    return f"{name!r}: allowed, and silent so far"


def _consent() -> Any:
    if sys.platform == "darwin":
        from mertd.capture.coreaudio import microphone_consent

        return microphone_consent
    return lambda: True


if __name__ == "__main__":
    print(main())  # noqa: T201 - a program of its own, whose standard output `mertd service install` shows
