"""What the system says of the input that is being heard: which it is, whether it is muted, whether mertd may hear it at all.

PortAudio tells none of this. A thread of its own looks once a second: a sound server that hangs must not stop the audio.
Where nothing can be learned, nothing is claimed.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from mertd.capture.source import Cause

LOOK_S, AGAIN_S = 1.0, 5.0
"""Between looks, and before the next try where nothing could be learned."""


@dataclass(frozen=True)
class Outlook:
    """Empty, 0 or None: not known."""

    default: str = ""  # the system's default input
    source: str = ""  # the one that is heard
    rate: int = 0  # Hz, of that device
    muted: bool | None = None
    idle: bool | None = None  # it is the monitor of an output into which nothing plays
    consent: bool | None = None  # whether this program may hear microphones


def change(before: Outlook, now: Outlook, follows: bool) -> str:
    """What has become of the input, in words; empty if it is the same. `follows`: it should be the default one."""
    if before.source and now.source and before.source != now.source:
        return f"the system has moved the stream from {before.source!r} to {now.source!r}"
    if follows and before.default and now.default and before.default != now.default:
        return f"the default input has changed from {before.default!r} to {now.default!r}"
    if before.rate and now.rate and before.rate != now.rate:
        return f"the rate of {now.source!r} has changed from {before.rate} to {now.rate} Hz"
    return ""


def cause(outlook: Outlook) -> Cause:
    """The likeliest reason for nothing but zeros."""
    name = repr(outlook.source) if outlook.source else "the device"
    if outlook.consent is False:
        return Cause(
            "no_consent",
            "the system does not let this program hear microphones; System Settings, Privacy & Security, Microphone allows it",
        )
    if outlook.muted:
        return Cause("muted", f"{name} is muted, or its volume is 0; see the system's sound settings (pactl set-source-mute)")
    if outlook.idle:
        return Cause("idle_monitor", f"{name} hears what an output plays, and nothing is playing")
    return Cause("unknown", f"{name} gives nothing but zeros: it is dead, switched off, silent by itself, or may not be heard")


class Watch:
    """Looks again and again, in a thread that ends with the process or when the input has changed."""

    def __init__(self, follows: bool, open_look: Callable[[], Callable[[], Outlook]], every_s: float = LOOK_S) -> None:
        """`open_look`: called in the thread, gives what is called there every `every_s`. Either may raise `LookError`."""
        self.latest, self.problem = Outlook(), ""
        self._follows, self._open, self._every = follows, open_look, every_s
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="outlook", daemon=True).start()

    def close(self) -> None:
        """Look no more; does not wait for a look that hangs."""
        self._closed.set()

    def _run(self) -> None:
        first, again = Outlook(), 0.0
        while not self.problem and not self._closed.wait(again):
            with contextlib.suppress(LookError):
                look = self._open()
                while not self.problem:
                    self.latest = look()
                    first = _known(first, self.latest)
                    self.problem = change(first, self.latest, self._follows)
                    if self._closed.wait(self._every):
                        return
            again = AGAIN_S


class LookError(Exception):
    """Nothing can be learned from the system, now or ever."""


def _known(first: Outlook, now: Outlook) -> Outlook:
    """The first that was known of each fact: a stream may appear at the server after a look or two."""
    return Outlook(first.default or now.default, first.source or now.source, first.rate or now.rate)


def watch(name: str, follows: bool) -> Watch:
    """Of the device called `name`, which this process has opened."""
    if sys.platform == "darwin":
        from mertd.capture.outlook_macos import opener

        return Watch(follows, opener(name, follows))
    from mertd.capture.outlook_pulse import open_look

    return Watch(follows, open_look)
