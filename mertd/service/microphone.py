"""Listen once, so that macOS asks the user whether this app may do that.

`python -m mertd.service.microphone --answer FILE {microphone | system-audio}…` runs inside the app, through its copy of the
interpreter, and writes a sentence about each to FILE. Without consent, macOS delivers zeros.
"""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mertd.errors import SourceError

ANSWER_TIMEOUT_S = 120.0
"""Seconds that the user has to answer the dialogue."""

SETTLE_S = 2.0
"""Seconds of silence to read once consent is given, before the input counts as silent."""

BLOCK_S = 0.1
"""Seconds of audio in one read."""

PLAY = ("afplay", "-v", "0.3", "/System/Library/Sounds/Tink.aiff")
"""Plays a short sound, so that a tap has something to hear."""

PLAY_S = 3.0
"""Seconds between two of these sounds."""

Consent = Callable[[], bool | None]
"""Returns whether the app may use microphones; None if that is not known."""


def wait_for_sound(consent: Consent, stream: Any, frames: int) -> tuple[bool | None, bool]:
    """Read blocks of `frames` until sound arrives, consent is denied, or time is up.

    Returns the answer of `consent()` and whether there was any sound.
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


def try_microphone() -> str:
    """Ask for the microphone, then open the default input. Return a sentence about the outcome.

    Opening it asks on some systems only, so AVFoundation asks first. The input is opened after the answer: one that is opened
    before may stay silent.
    """
    from mertd.capture.device_list import portaudio

    if _request() is False:
        return "microphone: access denied; allow mertd in System Settings, Privacy & Security, Microphone"
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


def try_system_audio() -> str:
    """Open a tap of all programs, and play a short sound until it is heard. Return a sentence about the outcome.

    macOS does not tell whether a tap is allowed: a tap that is not allowed delivers zeros.
    """
    from mertd.capture.sources.tap import TapSource

    try:
        source = TapSource("")
    except SourceError as error:
        return str(error)
    began = time.monotonic()
    played = -math.inf
    try:
        for block in source.blocks():
            now = time.monotonic()
            if block is not None and block.frames.any():
                return "what this Mac plays: sound received"
            if now - began > ANSWER_TIMEOUT_S:
                break
            if now - played > PLAY_S:
                played = now
                with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                    subprocess.run(PLAY, check=False, capture_output=True, timeout=PLAY_S)
    except SourceError as error:
        return str(error)
    finally:
        source.close()
    return (
        f"what this Mac plays: only zeros in {ANSWER_TIMEOUT_S:.0f} s; allow mertd in System Settings, Privacy & Security, "
        "Screen & System Audio Recording"
    )


TRIALS = {"microphone": try_microphone, "system-audio": try_system_audio}


def main(words: list[str]) -> None:
    """Try what the words name, and write the answers to the file that follows `--answer`, or to standard output."""
    path = Path(words[1]) if words[:1] == ["--answer"] else None
    kinds = words[2:] if path else words
    text = "\n".join(TRIALS[kind]() for kind in kinds or ["microphone"]) + "\n"
    if path:
        path.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


def _request() -> bool | None:
    if sys.platform == "darwin":
        from mertd.capture.avfoundation import request_microphone

        return request_microphone(ANSWER_TIMEOUT_S)
    else:  # noqa: RET505 - so that a type checker for one platform sees no unreachable code
        return True


def _consent() -> Consent:
    if sys.platform == "darwin":
        from mertd.capture.avfoundation import microphone_consent

        return microphone_consent
    else:  # noqa: RET505 - so that a type checker for one platform sees no unreachable code
        return lambda: True


if __name__ == "__main__":
    main(sys.argv[1:])
