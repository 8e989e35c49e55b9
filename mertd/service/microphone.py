"""Open the default input once, so that macOS asks the user whether this app may use the microphone.

`python -m mertd.service.microphone` runs inside the app, through its copy of the interpreter, and prints one sentence about the
outcome. Without consent, macOS delivers zeros.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from mertd.errors import SourceError

ANSWER_TIMEOUT_S = 120.0
"""Seconds that the user has to answer the dialogue."""

SETTLE_S = 2.0
"""Seconds of silence to read once consent is given, before the input counts as silent."""

BLOCK_S = 0.1
"""Seconds of audio in one read."""


def wait_for_sound(consent: Any, stream: Any, frames: int) -> tuple[bool | None, bool]:
    """Read blocks of `frames` until sound arrives, consent is denied, or time is up.

    Returns the answer of `consent()` (None: not known) and whether there was any sound.
    """
    began = time.monotonic()
    allowed_since: float | None = None
    while True:
        allowed, now = consent(), time.monotonic()
        sound = bytes(stream.read(frames)[0]).strip(b"\0") != b""
        if sound or allowed is False or now - began > ANSWER_TIMEOUT_S:
            return allowed, sound
        if allowed:
            allowed_since = allowed_since or now
            if now - allowed_since > SETTLE_S:
                return allowed, sound


def main() -> str:
    """Open the default input and return a sentence about the outcome."""
    from mertd.capture.sources.device import portaudio

    try:
        sounddevice = portaudio()
    except SourceError as error:
        return str(error)
    try:
        name = sounddevice.query_devices(kind="input")["name"]
        rate = int(sounddevice.query_devices(kind="input")["default_samplerate"])
        with sounddevice.RawInputStream(samplerate=rate, channels=1, dtype="int16") as stream:
            allowed, sound = wait_for_sound(_consent(), stream, round(rate * BLOCK_S))
    except (sounddevice.PortAudioError, ValueError) as error:
        return f"no input could be opened: {error}"
    if allowed is False:
        return f"{name!r}: access denied; allow mertd in System Settings, Privacy & Security, Microphone"
    if sound:
        return f"{name!r}: sound received"
    if allowed is None:
        return f"{name!r}: only zeros received, consent unknown; see System Settings, Privacy & Security, Microphone"
    return f"{name!r}: access allowed, silent so far"


def _consent() -> Any:
    if sys.platform == "darwin":
        from mertd.capture.coreaudio import microphone_consent

        return microphone_consent
    else:  # noqa: RET505 - so that a type checker for one platform sees no unreachable code
        return lambda: True


if __name__ == "__main__":
    print(main())  # noqa: T201 - a program of its own, whose standard output `mertd service install` shows
